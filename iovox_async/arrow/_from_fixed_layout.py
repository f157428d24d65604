"""Decodes rows that are all written alike, by the offsets of their values instead of parsing JSON.

This costs a small part of reading JSON: the keys, which are most of the bytes of flat records, are compared all at once and
not looked up. One row is the template: it shows the keys, and the literals between the values, which are the same in every row.
The ends of the rows are found in all bytes by one search, and then the values of all rows from left to right (`_row_values`).

Rows are decoded only if this proves that the result is right; otherwise the decoder returns None. The proof:

1. Values and literals, in turn, cover all bytes of the rows.
2. All literals (keys, colons, braces, quotes and commas) equal those of the template, byte for byte.
3. No text has a quote, a backslash or a control character, and all bytes are UTF-8, so texts stand as they are.
4. Each value that is not a text is a 64-bit integer, written as JSON writes it.
5. The template is valid JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import pyarrow as pa

from .._parsing.compiled import UnsupportedByFastPath
from ..models import Call
from ._arrays import MAX_BYTES, text_buffers
from ._columns import FAST_PATH_ERRORS, ColumnConverter, Columns
from ._from_json import check_utf8
from ._kernels import cast, take
from ._plain_values import read_column
from ._row_values import FLAGS, MARGIN, PageBytes, find_values, row_bounds, without_braces_in_texts
from .schema import ColumnType, column_types

if TYPE_CHECKING:
    from ._row_buffer import RowBuffer
    from ._row_values import Values

_MEMBER: Final = re.compile(rb'\s*"([^"]*)"\s*:\s*(?:"([^"]*)"|(-?\d+))\s*([,}])')
_SEPARATOR: Final = re.compile(rb"\s*,\s*(?=\{)")
_BLANKS: Final = b" \t\r\n"
_LIST_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\[[ \t\r\n]*(?=\{)")
_LIST_END: Final = re.compile(rb"\}[ \t\r\n]*\][ \t\r\n]*\Z")
_BLANK, _ZERO, _NINE = b" 09"
_TEXT_KINDS: Final = frozenset({"str", "datetime", "duration", "bool"})
#: The length of the shortest page with a row; an empty page says nothing about the next.
_MIN_BYTES: Final = len(b'[{"id":1}]')
#: Pages that are skipped after one without a fixed layout: one, then about twice as many after each further one.
_MAX_SKIPPED: Final = 63


class RowLayout(msgspec.Struct, frozen=True):
    """How rows are written.

    Attributes:
        values: the key of each value, and whether it is a text (otherwise an integer).
        literals: the bytes before each value, from the value before it on; those of the first begin in the row before.
        opening: the end of the first literal, with which a row begins.
        separator: the bytes between two rows.
        widths: the length of each value; None for those that are not equally long in all rows so far.
    """

    values: tuple[tuple[str, bool], ...]
    literals: tuple[bytes, ...]
    opening: bytes
    separator: bytes
    widths: tuple[int | None, ...]

    @property
    def closing(self) -> bytes:
        """The start of the first literal, with which a row ends."""
        return self.literals[0].removesuffix(self.separator + self.opening)


class FixedLayoutDecoder:
    """Decodes pages whose rows are all written alike, block by block; all pages of a stream share one."""

    def __init__(self, converter: ColumnConverter) -> None:
        types = column_types(Call)
        #: Whether the requested columns can be decoded: none of them is a list or an object, and rows have sort keys.
        self.supported: bool = converter.has_sort_keys and all(
            types[name].kind not in {"list", "struct", "json"} for name in converter.columns
        )
        self._types = types
        self._converter = converter
        self._flags = np.empty(FLAGS, np.bool_)
        #: The layout of the latest rows.
        self._layout: RowLayout | None = None
        self._pages_to_skip = 0
        self._last_skipped = 0

    def decode(self, rows: RowBuffer, *, first: bool = True, last: bool = True) -> Columns | None:
        """The columns of a block of a page; None if its rows are not written alike.

        Args:
            rows: the bytes of the block, which begin with a row; afterwards, those of its incomplete last row, or all.
            first: it is the first block of the page, so the start of the list precedes its rows.
            last: it is the last block of the page, so the end of the list follows its rows.
        """
        if len(rows) < _MIN_BYTES:
            return None
        if first and self._pages_to_skip:
            self._pages_to_skip -= 1
            return None
        for layout in self._layouts(rows, first):
            try:
                json_columns, count, next_start, layout = self._split(layout, rows, first, last)  # noqa: PLW2901
                columns = self._converter.convert(json_columns, count)
            except MemoryError:  # also one of Arrow's errors
                raise
            except FAST_PATH_ERRORS:
                continue
            finally:
                rows.restore()
            rows.drop_before(next_start)
            self._layout = layout
            self._last_skipped = 0
            return columns
        if first:
            self._pages_to_skip = self._last_skipped = min(_MAX_SKIPPED, 2 * self._last_skipped + 1)
        return None

    def _layouts(self, rows: RowBuffer, first: bool) -> Iterator[RowLayout]:
        """The layout of the latest rows, and then those of the first row of this block."""
        latest = self._layout
        if latest is not None:
            yield latest
        start = bytes(rows.data[: 2 * MARGIN])
        match = _LIST_START.match(start) if first else None
        template = _first_row(start[0 if match is None else match.end() :])
        layout = None if template is None else self._layout_of(*template)
        if layout is not None and (latest is None or layout.literals != latest.literals):
            yield layout

    def _layout_of(self, row: bytes, separator: bytes) -> RowLayout | None:
        """The layout of a row, or None if it has none."""
        values: dict[str, bool] = {}
        spans: list[tuple[int, int]] = []
        for member in _MEMBER.finditer(row, 1):
            key, is_text = member[1].decode(), member[2] is not None
            column = self._types.get(key)
            if column is None or key in values:
                return None
            if not (column.kind in _TEXT_KINDS if is_text else column.kind == "int"):
                return None
            values[key] = is_text
            spans.append(member.span(2 if is_text else 3))
        opening = row[: spans[0][0]]
        literals = [row[spans[-1][1] :] + separator + opening]
        literals += [row[stop:start] for (_, stop), (start, _) in pairwise(spans)]
        widths = [stop - start for start, stop in spans]
        return RowLayout(tuple(values.items()), tuple(literals), opening, separator, tuple(widths))

    def _split(
        self, layout: RowLayout, rows: RowBuffer, first: bool, last: bool
    ) -> tuple[dict[str, pa.Array], int, int, RowLayout]:
        """The values of all rows by their keys, the number of rows, where the incomplete last row starts, and the layout."""
        page, next_start = _surrounded(layout, rows, first, last)
        bounds = row_bounds(page, layout.literals[0], self._flags)
        widths = [*layout.widths]
        try:
            values = find_values(page, bounds, layout.literals, widths)
        except UnsupportedByFastPath:
            bounds = without_braces_in_texts(page, layout.literals[0], bounds)
            widths = [*layout.widths]
            values = find_values(page, bounds, layout.literals, widths)
        columns = _read_columns(layout, page, values, self._types)
        return columns, len(bounds) - 1, next_start, msgspec.structs.replace(layout, widths=tuple(widths))


def _surrounded(layout: RowLayout, rows: RowBuffer, first: bool, last: bool) -> tuple[PageBytes, int]:
    """All complete rows, and where the incomplete last row starts.

    The end of a row precedes them and the start of one follows them, so that all rows have the same neighbours.
    """
    if len(rows) > MAX_BYTES:
        raise UnsupportedByFastPath
    start, end = rows.start, rows.end
    if first:
        list_start = _LIST_START.match(rows.memory, start, end)
        if list_start is None:
            raise UnsupportedByFastPath
        start = list_start.end()
    if last:
        list_end = _LIST_END.search(rows.memory, max(start, end - MARGIN), end)
        if list_end is None:
            raise UnsupportedByFastPath
        stop, next_start = list_end.start() + 1, end
    else:
        stop, next_start = _last_boundary(layout, rows.memory, start, end)
    before, after = layout.closing + layout.separator, layout.separator + layout.opening
    return rows.surround(start, stop, before, after), next_start


def _first_row(data: bytes) -> tuple[bytes, bytes] | None:
    """The first row, and the separator between it and the second; None if it is not a flat object."""
    position = 1
    while (member := _MEMBER.match(data, position)) is not None:
        position = member.end()
        if member[4] == b"}":
            separator = _SEPARATOR.match(data, position)
            return _checked_row(data[:position], b"," if separator is None else separator[0])
    return None


def _checked_row(row: bytes, separator: bytes) -> tuple[bytes, bytes] | None:
    """The row and the separator, or None if they cannot be a template: step 5 of the proof."""
    try:
        msgspec.json.decode(row)
    except (ValueError, RecursionError):
        return None
    fits = len(row) + 2 * len(separator) <= MARGIN and separator.strip(_BLANKS) == b","
    return (row, separator) if fits else None


def _last_boundary(layout: RowLayout, buffer: bytearray, start: int, end: int) -> tuple[int, int]:
    """Where the last complete row stops, and where the row after it starts."""
    literal = layout.literals[0]
    position = buffer.rfind(literal, start, end)
    if position < 0:
        raise UnsupportedByFastPath
    stop = position + len(layout.closing)
    return stop, stop + len(layout.separator)


def _read_columns(
    layout: RowLayout, page: PageBytes, values: Sequence[Values], types: Mapping[str, ColumnType]
) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    others: dict[str, Values] = {}
    characters: list[bytes] = []
    for (key, _), column_values in zip(layout.values, values, strict=True):
        column = read_column(types[key].kind, column_values)
        if column is None and column_values.fixed_width:
            column, joined = column_values.texts(column_values.fixed_width)
            characters.append(joined)
        if column is None:
            others[key] = column_values
        else:
            columns[key] = column
    if others:
        texts = _copy_slices(page.memory, [*others.values()])
        characters.append(text_buffers(texts)[1].tobytes())
        rows = len(texts) // len(others)
        for number, key in enumerate(others):
            columns[key] = texts.slice(number * rows, rows)
    _check_characters(characters, page.data)
    for key, is_text in layout.values:
        if not is_text and columns[key].type == pa.string():
            columns[key] = _integers(columns[key])
    return columns


def _copy_slices(memory: memoryview, values: Sequence[Values]) -> pa.StringArray:
    """The values of several keys, one key after the other."""
    offsets = np.empty((len(values), len(values[0].bases), 2), np.int32)
    for column, column_values in zip(offsets, values, strict=True):
        column[:, 0], column[:, 1] = column_values.starts, column_values.stops
    # Every other item of this array is one of them; the others are never looked at.
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(memory)]
    items = pa.Array.from_buffers(pa.string(), offsets.size - 1, buffers)
    return take(items, np.arange(0, offsets.size, 2, dtype=np.int32))


def _check_characters(texts: Sequence[bytes], data: memoryview) -> None:
    """Step 3 of the proof, for the characters of all texts."""
    for characters in texts:
        if b'"' in characters or b"\\" in characters:
            raise UnsupportedByFastPath
        if characters and np.frombuffer(characters, np.uint8).min() < _BLANK:
            raise UnsupportedByFastPath
    if not all(characters.isascii() for characters in texts):
        check_utf8(bytes(data))


def _integers(texts: pa.StringArray) -> pa.Int64Array:
    """Step 4 of the proof."""
    integers = cast(texts, pa.int64())
    offsets, digits = text_buffers(texts)
    starts_with_zero = (digits[offsets[:-1]] == _ZERO) & (np.diff(offsets) > 1)
    # Arrow also reads 007 and 0x7.
    is_plain = digits.min() >= _ZERO and digits.max() <= _NINE and not starts_with_zero.any()
    if not is_plain and not cast(integers, pa.string()).equals(texts):
        raise UnsupportedByFastPath
    return integers
