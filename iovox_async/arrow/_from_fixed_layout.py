"""Decodes rows that are all written alike, by the offsets of their values instead of parsing JSON.

This costs a small part of reading JSON: the keys, which are most of the bytes of flat records, are compared all at once and
not looked up. One row is the template: its values, and the literals between them, which are the same in every row. A
delimiter (a comma; or a quote, if texts contain commas) is found in all bytes by one comparison. Each value ends at a known
distance from a delimiter of its row, and the next one begins after the literal, so all rows are split at once.

Rows are decoded only if this proves that the result is right; otherwise the decoder returns None. The proof:

1. Values and literals, in turn, cover all bytes of the rows: each value ends after it begins, within the rows.
2. All literals (keys, colons, braces, quotes and commas) equal those of the template, byte for byte.
3. No text has a quote, a backslash or a control character, and all bytes are UTF-8, so texts stand as they are.
4. Each value that is not a text is a 64-bit integer, written as JSON writes it.
5. The template is valid JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import pyarrow as pa

from .._parsing.compiled import UnsupportedByFastPath
from ..models import Call
from ._arrays import MAX_BYTES, ReusableBuffer, text_buffers
from ._columns import FAST_PATH_ERRORS, ColumnConverter, Columns
from ._from_json import check_utf8
from ._kernels import cast, take
from ._plain_values import PageBytes, Values, read_column
from .schema import ColumnType, column_types

if TYPE_CHECKING:
    import numpy.typing as npt

_MEMBER: Final = re.compile(rb'\s*"([^"]*)"\s*:\s*(?:"([^"]*)"|(-?\d+))\s*([,}])')
_SEPARATOR: Final = re.compile(rb"\s*,\s*(?=\{)")
_BLANKS: Final = b" \t\r\n"
_LIST_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\[[ \t\r\n]*(?=\{)")
_LIST_END: Final = re.compile(rb"\}[ \t\r\n]*\][ \t\r\n]*\Z")
_BLANK, _ZERO, _NINE = b" 09"
#: Bytes before and after the rows: space for a copy of the template, and for blanks at the ends of a page.
_MARGIN: Final = 8192
_TEXT_KINDS: Final = frozenset({"str", "datetime", "duration", "bool"})
#: A row has few commas and four times as many quotes; but texts may contain commas.
_DELIMITERS: Final = b',"'
#: The length of the shortest page with a row; an empty page says nothing about the next.
_MIN_BYTES: Final = len(b'[{"id":1}]')
#: Pages that are skipped after one without a fixed layout: one, then about twice as many after each further one.
_MAX_SKIPPED: Final = 63


class RowLayout(msgspec.Struct, frozen=True, dict=True):
    """Where the values of a row are, relative to its delimiters.

    Attributes:
        row: the template.
        separator: the bytes between two rows.
        delimiter: the delimiter.
        values: the key of each value, and whether it is a text (otherwise an integer).
        ends: where each value ends: the number of a delimiter, counted from the start of the row, and the distance from it.
        literals: the bytes after each value, up to the next one; those of the last reach into the next row.
    """

    row: bytes
    separator: bytes
    delimiter: int
    values: tuple[tuple[str, bool], ...]
    ends: tuple[tuple[int, int], ...]
    literals: tuple[bytes, ...]

    @cached_property
    def sizes_before(self) -> npt.NDArray[np.int64]:
        """The size of the literal before each value, one to a row."""
        return np.array([[len(literal)] for literal in (self.literals[-1], *self.literals[:-1])])

    @property
    def delimiters(self) -> int:
        """How many delimiters a row has, with the separator after it."""
        return self.row.count(self.delimiter) + self.separator.count(self.delimiter)


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
        self._buffer = ReusableBuffer()
        self._flags = ReusableBuffer()
        #: The layout of the latest rows.
        self._layout: RowLayout | None = None
        self._pages_to_skip = 0
        self._last_skipped = 0

    def decode(
        self, parts: Sequence[bytes], *, first: bool = True, last: bool = True
    ) -> tuple[Columns, bytes] | None:
        """The columns of a block of a page, and the bytes of its incomplete last row; None if its rows are not written alike.

        Args:
            parts: the bytes of the block, which begin with a row.
            first: it is the first block of the page, so the start of the list precedes its rows.
            last: it is the last block of the page, so the end of the list follows its rows.
        """
        if sum(map(len, parts)) < _MIN_BYTES:
            return None
        if first and self._pages_to_skip:
            self._pages_to_skip -= 1
            return None
        for layout in self._layouts(parts, first):
            try:
                json_columns, rows, rest = self._split(layout, parts, first, last)
                columns = self._converter.convert(json_columns, rows)
            except MemoryError:  # also one of Arrow's errors
                raise
            except FAST_PATH_ERRORS:
                continue
            self._layout = layout
            self._last_skipped = 0
            return columns, rest
        if first:
            self._pages_to_skip = self._last_skipped = min(_MAX_SKIPPED, 2 * self._last_skipped + 1)
        return None

    def _layouts(self, parts: Sequence[bytes], first: bool) -> Iterator[RowLayout]:
        """The layout of the latest rows, and then those of the first row of this block."""
        latest = self._layout
        if latest is not None:
            yield latest
        start = b"".join(parts)[: 2 * _MARGIN]
        match = _LIST_START.match(start) if first else None
        template = _first_row(start[0 if match is None else match.end() :])
        if template is not None:
            for delimiter in _DELIMITERS:
                layout = self._layout_of(*template, delimiter)
                if layout is not None and layout != latest:
                    yield layout

    def _layout_of(self, row: bytes, separator: bytes, delimiter: int) -> RowLayout | None:
        """The layout of a row, or None if it has none or its values contain the delimiter."""
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
        if any(delimiter in row[start:stop] for start, stop in spans):
            return None
        unit = row + separator
        # The delimiter after the last value may be in the next row.
        ends = [
            (unit.count(delimiter, 0, stop), stop - (unit + unit).find(delimiter, stop)) for _, stop in spans
        ]
        literals = [unit[stop:start] for (_, stop), (start, _) in pairwise(spans)]
        literals.append(unit[spans[-1][1] :] + unit[: spans[0][0]])
        return RowLayout(row, separator, delimiter, tuple(values.items()), tuple(ends), tuple(literals))

    def _split(
        self, layout: RowLayout, parts: Sequence[bytes], first: bool, last: bool
    ) -> tuple[dict[str, pa.Array], int, bytes]:
        """The values of all rows by their keys, the number of rows, and the bytes of the incomplete last row."""
        data, rest = self._join(layout, parts, first, last)
        array = np.frombuffer(data, np.uint8)
        flags = np.frombuffer(self._flags.get(len(array)), np.bool_)[: len(array)]
        positions = np.flatnonzero(np.equal(array, layout.delimiter, out=flags))
        rows, remainder = divmod(len(positions), layout.delimiters)
        # Two of them are copies of the template.
        rows -= 2
        if remainder or rows < 1:
            raise UnsupportedByFastPath
        return _split_rows(layout, data, positions, rows, self._types), rows, rest

    def _join(
        self, layout: RowLayout, parts: Sequence[bytes], first: bool, last: bool
    ) -> tuple[memoryview, bytes]:
        """All rows in one buffer, and the bytes of the incomplete last row.

        A copy of the template precedes the rows and another one follows them, so that all rows have the same neighbours.
        """
        size = sum(map(len, parts))
        if size > MAX_BYTES:
            raise UnsupportedByFastPath
        buffer = self._buffer.get(size + 2 * _MARGIN)
        start = end = _MARGIN
        # A slice of the bytearray itself would copy the part once more.
        view = memoryview(buffer)
        for part in parts:
            view[end : end + len(part)] = part
            end += len(part)
        if first:
            list_start = _LIST_START.match(buffer, start, end)
            if list_start is None:
                raise UnsupportedByFastPath
            start = list_start.end()
        rest = b""
        if last:
            list_end = _LIST_END.search(buffer, max(start, end - _MARGIN), end)
            if list_end is None:
                raise UnsupportedByFastPath
            stop = list_end.start() + 1
        else:
            stop, next_start = _last_boundary(layout, buffer, start, end)
            rest = bytes(memoryview(buffer)[next_start:end])
        before, after = layout.row + layout.separator, layout.separator + layout.row + layout.separator
        buffer[start - len(before) : start] = before
        buffer[stop : stop + len(after)] = after
        return memoryview(buffer)[start - len(before) : stop + len(after)], rest


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
    fits = len(row) + 2 * len(separator) <= _MARGIN and separator.strip(_BLANKS) == b","
    return (row, separator) if fits else None


def _last_boundary(layout: RowLayout, buffer: bytearray, start: int, end: int) -> tuple[int, int]:
    """Where the last complete row stops, and where the row after it starts."""
    literal = layout.literals[-1]
    position = buffer.rfind(literal, start, end)
    if position < 0:
        raise UnsupportedByFastPath
    stop = position + literal.index(b"}") + 1
    return stop, stop + len(layout.separator)


def _split_rows(
    layout: RowLayout,
    data: memoryview,
    positions: npt.NDArray[np.int64],
    rows: int,
    types: Mapping[str, ColumnType],
) -> dict[str, pa.Array]:
    """The values by their keys; `positions` are those of all delimiters in `data`.

    There are two more rows in `data` than in `rows`: the copies of the template before and after them.
    """
    step = layout.delimiters
    # Where the last value of the row before ends, and each value of the row.
    ends = np.empty((len(layout.ends) + 1, rows), np.int64)
    before_row = layout.ends[-1]
    in_row = [(step + number, distance) for number, distance in layout.ends]
    for index, (number, distance) in enumerate([before_row, *in_row]):
        np.add(positions[number::step][:rows], distance, out=ends[index])
    starts, stops = ends[:-1] + layout.sizes_before, ends[1:]
    widths = stops - starts
    narrowest, widest = widths.min(axis=1).tolist(), widths.max(axis=1).tolist()
    if min(narrowest) < 0:
        raise UnsupportedByFastPath
    page = PageBytes(data)
    values = [Values(page, *value) for value in zip(starts, stops, widths, narrowest, widest, strict=True)]
    for stop, literal in zip(stops, layout.literals, strict=True):
        _check_literal(page, stop, literal)
    return _read_columns(layout, page, values, types)


def _read_columns(
    layout: RowLayout, page: PageBytes, values: Sequence[Values], types: Mapping[str, ColumnType]
) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    others: dict[str, Values] = {}
    characters: list[bytes] = []
    for (key, _), column_values in zip(layout.values, values, strict=True):
        column = read_column(types[key].kind, column_values)
        if column is None and column_values.width:
            column, joined = column_values.equally_long_texts()
            characters.append(joined)
        if column is None:
            others[key] = column_values
        else:
            columns[key] = column
    if others:
        texts = _copy_slices(page.data, [*others.values()])
        characters.append(text_buffers(texts)[1].tobytes())
        rows = len(texts) // len(others)
        for number, key in enumerate(others):
            columns[key] = texts.slice(number * rows, rows)
    _check_characters(b"".join(characters), page.data)
    for key, is_text in layout.values:
        if not is_text and columns[key].type == pa.string():
            columns[key] = _integers(columns[key])
    return columns


def _check_literal(page: PageBytes, starts: npt.NDArray[np.int64], literal: bytes) -> None:
    """Step 2 of the proof, for one literal of all rows."""
    try:
        equal = page.at(starts, len(literal)).tobytes() == literal * len(starts)
    except IndexError:  # a slice ends after the data
        equal = False
    if not equal:
        raise UnsupportedByFastPath


def _copy_slices(data: memoryview, values: Sequence[Values]) -> pa.StringArray:
    """The values of several keys, one key after the other."""
    offsets = np.empty((len(values), len(values[0].starts), 2), np.int32)
    for column, column_values in zip(offsets, values, strict=True):
        column[:, 0], column[:, 1] = column_values.starts, column_values.stops
    # Every other item of this array is one of them; the others are never looked at.
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    items = pa.Array.from_buffers(pa.string(), offsets.size - 1, buffers)
    return take(items, np.arange(0, offsets.size, 2, dtype=np.int32))


def _check_characters(characters: bytes, data: memoryview) -> None:
    """Step 3 of the proof, for the characters of all texts."""
    if b'"' in characters or b"\\" in characters:
        raise UnsupportedByFastPath
    if characters and np.frombuffer(characters, np.uint8).min() < _BLANK:
        raise UnsupportedByFastPath
    if not characters.isascii():
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
