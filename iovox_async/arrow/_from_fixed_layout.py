"""The uniform way: rows that are all written alike, to raw columns by where their values stand.

The law of this room: a page is read so only where that is proven to be right. It costs a small part of reading JSON, since the
keys, which are most of a page of flat records, are compared all at once and not looked up; and what it does not read, it
leaves to `fast`.

The first row is a template: values, and between them what is the same in every row. A mark, a comma or where texts hold some
a quote, is found in all bytes by one comparison; counted from the marks of the template, each value begins and ends at
a known distance from one. So all rows are cut at once into values and what is between, without a look at a byte. The
proof, for bytes that are known to be a JSON array of so many rows:

1. There is no backslash, so each quote begins or ends a text, and texts stand as they are.
2. There are as many marks as the template has, times the rows; and no cut lies before the one that it follows.
3. All that is between values is what it is in the template, byte for byte: keys, colons, braces, quotes and commas.
4. What is left stands where JSON wants a value. Behind an opening quote that is a text: it could end early only with a quote,
   after which JSON wants a comma or a brace and a comma, and all commas are accounted for. Elsewhere it must be a whole number,
   or its column is refused.

For a page that nobody has looked at, that it is JSON is proven as well: the template is read as JSON, quotes and control
characters are those of the template, times the rows, so that none is in a text, and numbers are written as JSON writes them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
from attrs import frozen

from ._document import MOST_BYTES, ReusableBuffer, UnsupportedByFastPath, check_text, misfits

if TYPE_CHECKING:
    import numpy.typing as npt

    from .schema import ColumnType

__all__ = ["FixedLayoutDecoder"]

T = TypeVar("T")

_MEMBER: Final = re.compile(rb'\s*"([^"]*)"\s*:\s*(?:"([^"]*)"|(-?\d+))\s*([,}])')
_BETWEEN: Final = re.compile(rb"\s*,\s*(?=\{)")
_BLANKS: Final = b" \t\r\n"
_OPENING: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\[[ \t\r\n]*(?=\{)")
_CLOSING: Final = re.compile(rb"\}[ \t\r\n]*\][ \t\r\n]*\Z")
_QUOTE, _BLANK = b'" '
#: Bytes before and after the rows: room for the first one, and more than blanks at the end of a page.
_MARGIN: Final = 8192
_TEXTS: Final = frozenset({"text", "moment", "span", "flag"})
#: A row has few commas and four times as many quotes; texts may have commas of their own, but no quotes.
_MARKS: Final = b',"'
#: Bytes of the shortest page with a row. An empty one says nothing about others.
_SHORTEST: Final = len(b'[{"id":1}]')
#: Pages that are not tried after one that was not uniform; twice as many after each more, up to the most.
_FEWEST, _MOST = 1, 63


@frozen
class Template:
    """Where values stand in a row, told by marks.

    Attributes:
        mark: the mark.
        marks: how many a row has, with what is between it and the next.
        texts: keys and whether they hold a text, or else a whole number; in the order of the row.
        cuts: where values begin and end, in turn, as the number of a mark in the row and the distance from it.
        between: what is between the values, the first of these being between the first two values.
    """

    mark: int
    marks: int
    texts: tuple[tuple[str, bool], ...]
    cuts: tuple[tuple[int, int], ...]
    between: tuple[bytes, ...]


class FixedLayoutDecoder:
    """Reads pages whose rows are all written alike.

    Args:
        known: the keys it may find, and what stands behind them.
    """

    def __init__(self, known: Mapping[str, ColumnType]) -> None:
        self._known = known
        self._memory = ReusableBuffer()
        self._marks = _MARKS
        self._grid: _Grid | None = None
        self._pause = 0
        self._penalty = 0

    def columns(self, segments: Sequence[bytes], rows: int) -> dict[str, pa.Array] | None:
        """The columns of these segments, texts and whole numbers as they stand there; None where they are not uniform.

        Args:
            segments: JSON arrays.
            rows: how many rows they hold.
        """
        found = self._tried(lambda: self._columns(_listed(segments), rows)) if segments else None
        return None if found is None else found[0]

    def page(self, parts: Sequence[bytes]) -> tuple[dict[str, pa.Array], int] | None:
        """The same of a page in the parts it came in, and how many rows it has; None too where it may be no JSON."""
        if sum(map(len, parts)) < _SHORTEST:
            return None
        return self._tried(lambda: self._columns(parts, None))

    def refuse(self) -> None:
        """Takes notice of a page that was tried in vain."""
        self._penalty = min(_MOST, 2 * self._penalty + _FEWEST)
        self._pause = self._penalty

    def _tried(self, read: Callable[[], T]) -> T | None:
        if self._pause:
            self._pause -= 1
            return None
        try:
            with misfits():
                found = read()
        except UnsupportedByFastPath:
            self.refuse()
            return None
        self._penalty = 0
        return found

    def _columns(
        self, parts: Sequence[bytes | memoryview], rows: int | None
    ) -> tuple[dict[str, pa.Array], int]:
        data, row, unit = self._joined(parts)
        array = np.frombuffer(data, np.uint8)
        if array.max() >= 128:
            check_text(bytes(data))
        for place, mark in enumerate(self._marks):
            template = self._template(row, unit, mark)
            if template is None:
                continue
            marks = np.flatnonzero(array == mark)
            found, rest = divmod(len(marks), template.marks)
            if rest or found < 3 or (rows is not None and rows != found - 2):
                continue
            if rows is None:
                _check_json(array, row, unit, found)
            # A page that has commas in its texts is followed by others.
            self._marks = self._marks[place:]
            if self._grid is None or self._grid.template != template:
                self._grid = _Grid(template)
            return self._grid.columns(data, marks, found - 2, strict=rows is None), found - 2
        raise UnsupportedByFastPath

    def _joined(self, parts: Sequence[bytes | memoryview]) -> tuple[memoryview, bytes, bytes]:
        """All rows in one piece, the first one alone, and the first one with what is between it and the second.

        It stands once more before and after them, so that all have the same neighbours.
        """
        size = sum(map(len, parts))
        if size > MOST_BYTES:
            raise UnsupportedByFastPath
        buffer = self._memory.room(size + 2 * _MARGIN)
        place = _MARGIN
        for part in parts:
            buffer[place : place + len(part)] = part
            place += len(part)
        opening = _OPENING.match(buffer, _MARGIN, place)
        if opening is None:
            raise UnsupportedByFastPath
        begin = opening.end()
        closing = _CLOSING.search(buffer, max(begin, place - _MARGIN), place)
        if closing is None:
            raise UnsupportedByFastPath
        end = closing.start() + 1
        row, between = _first(buffer, begin)
        unit = row + between
        if len(unit) + len(between) > _MARGIN:
            raise UnsupportedByFastPath
        buffer[begin - len(unit) : begin] = unit
        buffer[end : end + len(between) + len(unit)] = between + unit
        data = memoryview(buffer)[begin - len(unit) : end + len(between) + len(unit)]
        if buffer.find(b"\\", begin, end) >= 0:
            raise UnsupportedByFastPath
        return data, row, unit

    def _template(self, row: bytes, unit: bytes, mark: int) -> Template | None:
        """The template of a row, or None where its values hold marks."""
        texts: dict[str, bool] = {}
        spans: list[tuple[int, int]] = []
        for member in _MEMBER.finditer(row, 1):
            key, is_text = member[1].decode(), member[2] is not None
            shape = self._known.get(key)
            if (
                shape is None
                or key in texts
                or not (shape.tag in _TEXTS if is_text else shape.tag == "whole")
            ):
                raise UnsupportedByFastPath
            texts[key] = is_text
            spans.append(member.span(2 if is_text else 3))
        marks = [place for place, byte in enumerate(unit) if byte == mark]
        if any(mark in unit[begin:end] for begin, end in spans):
            return None
        cuts: list[tuple[int, int]] = []
        for begin, end in spans:
            before, after = bisect_left(marks, begin) - 1, bisect_left(marks, end)
            # The mark may be in the row before, or in the one after.
            cuts.append((before, begin - marks[before] + (len(unit) if before < 0 else 0)))
            beyond = after == len(marks)
            cuts.append((after, end - marks[0] - len(unit) if beyond else end - marks[after]))
        glue = [unit[end:begin] for (_, end), (begin, _) in pairwise(spans)]
        glue.append(unit[spans[-1][1] :] + unit[: spans[0][0]])
        return Template(mark, len(marks), tuple(texts.items()), tuple(cuts), tuple(glue))


def _listed(segments: Sequence[bytes]) -> list[bytes | memoryview]:
    """The segments as one array."""
    _, between = _first(segments[0], segments[0].find(b"{"))
    parts: list[bytes | memoryview] = []
    for segment in segments:
        inner: bytes | memoryview = memoryview(segment)[1:-1]
        if not (segment.startswith(b"[{") and segment.endswith(b"}]")):
            inner = bytes(inner).strip(_BLANKS)
        parts += (between if parts else b"[", inner)
    return [*parts, b"]"]


def _first(data: bytes | bytearray, begin: int) -> tuple[bytes, bytes]:
    """The first row, and what is between it and the second."""
    place = begin + 1
    while (member := _MEMBER.match(data, place)) is not None:
        place = member.end()
        if member[4] == b"}":
            between = _BETWEEN.match(data, place)
            return bytes(data[begin:place]), b"," if between is None else between[0]
    raise UnsupportedByFastPath


def _check_json(array: npt.NDArray[np.uint8], row: bytes, unit: bytes, rows: int) -> None:
    """Refuses what might be no JSON, for bytes of which only the cuts are still to be proven."""
    try:
        msgspec.json.decode(row)
    except (ValueError, RecursionError):
        raise UnsupportedByFastPath from None
    controls = sum(byte < _BLANK for byte in unit)
    if (
        unit[len(row) :].strip(_BLANKS) != b","
        or np.count_nonzero(array == _QUOTE) != unit.count(_QUOTE) * rows
        or np.count_nonzero(array < _BLANK) != controls * rows
    ):
        raise UnsupportedByFastPath


class _Grid:
    """What rows of one template have in common: where their pieces are found, and what is between their values."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self._rows = 0

    def columns(
        self, data: memoryview, marks: npt.NDArray[np.int64], rows: int, *, strict: bool
    ) -> dict[str, pa.Array]:
        """The values of all rows but the first and the last, by their keys; `strict` where numbers may be no JSON.

        Raises:
            UnsupportedByFastPath: something else than values differs from the template.
        """
        template = self.template
        values, step = rows * len(template.texts), template.marks
        # The last cut is where the first value of the last row begins, so that each value has something behind it.
        cuts = np.empty(2 * values + 1, np.int32)
        for place, (mark, distance) in enumerate(template.cuts):
            first = step + mark
            cuts[place : -1 : len(template.cuts)] = marks[first : first + rows * step : step] + distance
        mark, distance = template.cuts[0]
        cuts[-1] = marks[(rows + 1) * step + mark] + distance
        # From here on, memory is read where the cuts say.
        if cuts[0] < 0 or cuts[-1] > len(data) or (cuts[1:] < cuts[:-1]).any():
            raise UnsupportedByFastPath
        pieces = pa.Array.from_buffers(
            pa.string(), 2 * values, [None, pa.py_buffer(cuts), pa.py_buffer(data)]
        )
        if rows > self._rows:
            self._make(rows + rows // 4)
        if not pieces.take(self._between[:values]).equals(self._same[:values]):
            raise UnsupportedByFastPath
        found = {}
        for (key, is_text), places in zip(template.texts, self._places, strict=True):
            column = found[key] = pieces.take(places[:rows])
            if not is_text:
                found[key] = column.cast(pa.int64())
                if strict and not found[key].cast(pa.string()).equals(column):
                    raise UnsupportedByFastPath
        return found

    def _make(self, rows: int) -> None:
        """Makes what so many rows need."""
        template, self._rows = self.template, rows
        width = len(template.cuts)
        self._places = [_numbers(np.arange(place, rows * width, width)) for place in range(0, width, 2)]
        self._between = _numbers(np.arange(1, rows * width, 2))
        lengths = np.tile([len(text) for text in template.between], rows)
        begins = np.append(0, np.cumsum(lengths)).astype(np.int32)
        same = b"".join(template.between) * rows
        self._same = pa.Array.from_buffers(
            pa.string(), len(lengths), [None, pa.py_buffer(begins), pa.py_buffer(same)]
        )


def _numbers(values: npt.NDArray[np.int64]) -> pa.Int32Array:
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values.astype(np.int32))])
