"""The uniform way: rows that are all written alike, to raw columns by Arrow's CSV reader.

The law of this room: a page is read so only where that is proven to be right. It costs a third of reading JSON, since the
keys, which are most of a page of flat records, are compared and not looked up; and what it does not read, it leaves to `fast`.

Cut at its quotes, a row is a line of pieces: `{`, a key, `: `, a text, `, `, a key, `: 99, ` and so on. A quote is
the delimiter and `}` the end of a line. The proof, for bytes that are known to be a JSON array:

1. There is no backslash, so each quote begins or ends a text, and texts stand as they are.
2. Every line has as many pieces as the first. A `}` within a text would leave a line with an odd number of quotes.
3. The pieces outside of texts are a brace, a colon, a comma, or a colon and a whole number. So there is no list or object
   within a row, and JSON's own grammar says which pieces are keys and which are values.
4. The keys are those of the first row, in their order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc
from attrs import frozen
from pyarrow import csv as pa_csv

from .build import word
from .document import MOST_BYTES, Memory, MisfitError, check_text

if TYPE_CHECKING:
    from .schema import Shape

__all__ = ["UniformWay"]

_BEGIN: Final = re.compile(rb"\s*,?\s*\{\s*")
_COLON: Final = re.compile(rb"\s*:\s*")
_COMMA: Final = re.compile(rb"\s*,\s*")
_NUMBER: Final = re.compile(rb"\s*:\s*-?\d+\s*(,?)\s*")
#: Pages that are not tried after one that was not uniform; twice as many after each more, up to the most.
_FEWEST, _MOST = 1, 63


@frozen
class Skeleton:
    """Which piece of a line is what: places of keys, of texts and numbers by their key, and the rest."""

    pieces: int
    keys: dict[int, str]
    texts: dict[str, int]
    numbers: dict[str, int]
    rest: tuple[int, ...]
    marks: frozenset[str]


class UniformWay:
    """Reads pages whose rows are all written alike.

    Args:
        known: the keys it may find, and what stands behind them.
    """

    def __init__(self, known: Mapping[str, Shape]) -> None:
        self._known = known
        self._memory = Memory()
        self._pause = 0
        self._penalty = 0

    def columns(self, segments: Sequence[bytes], rows: int) -> dict[str, pa.Array] | None:
        """The columns of these segments, texts and whole numbers as they stand there; None where they are not uniform."""
        if self._pause or not segments:
            self._pause = max(0, self._pause - 1)
            return None
        try:
            found = self._columns(segments, rows)
        except (MisfitError, pa.ArrowInvalid):
            self._penalty = min(_MOST, 2 * self._penalty + _FEWEST)
            self._pause = self._penalty
            return None
        self._penalty = 0
        return found

    def _columns(self, segments: Sequence[bytes], rows: int) -> dict[str, pa.Array]:
        lines = self._lines(segments)
        skeleton = self._skeleton(segments[0])
        table = _cut(lines, skeleton)
        if table.num_rows != rows:
            raise MisfitError
        pieces = [
            column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns
        ]
        columns = dict(zip(table.column_names, pieces, strict=True))
        for place, key in skeleton.keys.items():
            if not pc.all(pc.equal(columns[str(place)], word(key))).as_py():
                raise MisfitError
        found = {key: columns[str(place)] for key, place in skeleton.texts.items()}
        for key, place in skeleton.numbers.items():
            found[key] = pc.ascii_trim(columns[str(place)], " :,").cast(pa.int64())
        return found

    def _lines(self, segments: Sequence[bytes]) -> memoryview:
        """The rows, each in a line of its own without its last brace."""
        size = sum(map(len, segments))
        if size > MOST_BYTES:
            raise MisfitError
        buffer = self._memory.room(size)
        place = 0
        for segment in segments:
            if b"\\" in segment:
                raise MisfitError
            check_text(segment)
            lines = segment.replace(b"}", b"\n")
            end = lines.rfind(b"\n") + 1
            inner = memoryview(lines)[1:end]
            buffer[place : place + len(inner)] = inner
            place += len(inner)
        return memoryview(buffer)[:place]

    def _skeleton(self, segment: bytes) -> Skeleton:
        """What the first row looks like."""
        end = segment.find(b"}")
        pieces = segment[1:end].split(b'"')
        keys: dict[int, str] = {}
        strings: dict[str, int] = {}
        numbers: dict[str, int] = {}
        rest = [0]
        place = 1
        while place < len(pieces) - 1:
            key = pieces[place].decode()
            shape = self._known.get(key)
            if shape is None or key in strings or key in numbers:
                raise MisfitError
            keys[place] = key
            if _COLON.fullmatch(pieces[place + 1]):
                if shape.tag not in {"text", "moment", "span", "flag"} or place + 3 >= len(pieces):
                    raise MisfitError
                strings[key] = place + 2
                rest += [place + 1, place + 3]
                place += 4
            elif _NUMBER.fullmatch(pieces[place + 1]) and shape.tag == "whole":
                numbers[key] = place + 1
                place += 2
            else:
                raise MisfitError
        # Between two rows stands what follows the first; it begins every line but a segment's first.
        second = segment[end + 1 : segment.find(b'"', end)] if segment.find(b'"', end) >= 0 else b""
        marks = {b"{", pieces[0], second, *(pieces[mark] for mark in rest)}
        if not all(_is_mark(mark) for mark in marks):
            raise MisfitError
        return Skeleton(
            len(pieces), keys, strings, numbers, tuple(rest), frozenset(mark.decode() for mark in marks)
        )


def _is_mark(piece: bytes) -> bool:
    return not piece.strip() or any(form.fullmatch(piece) for form in (_BEGIN, _COLON, _COMMA))


def _cut(lines: memoryview, skeleton: Skeleton) -> pa.Table:
    """The pieces of each line: texts as texts, and marks as null, which the reader refuses to make of anything else."""
    kinds = dict.fromkeys((*skeleton.keys, *skeleton.texts.values(), *skeleton.numbers.values()), pa.string())
    kinds |= dict.fromkeys(skeleton.rest, pa.null())
    return pa_csv.read_csv(
        pa.BufferReader(lines),
        read_options=pa_csv.ReadOptions(
            use_threads=False,
            block_size=len(lines) + 64,
            column_names=[str(place) for place in range(skeleton.pieces)],
        ),
        parse_options=pa_csv.ParseOptions(
            delimiter='"', quote_char=False, double_quote=False, escape_char=False
        ),
        convert_options=pa_csv.ConvertOptions(
            include_columns=[str(place) for place in kinds],
            column_types={str(place): kind for place, kind in kinds.items()},
            null_values=sorted(skeleton.marks),
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
