"""Decodes a page whose rows are all written alike, by the offsets of their values instead of parsing JSON.

This costs a small part of reading JSON: the keys, which are most of a page of flat records, are compared all at once and not
looked up. The first row is the template: its values, and the literals between them, which are the same in every row. A
delimiter (a comma; or a quote, if texts contain commas) is found in all bytes by one comparison. Each value begins and ends at
a known distance from a delimiter of its row, so all rows are split into values and literals at once.

A page is decoded only if this proves that the result is right; otherwise the decoder returns None. The proof:

1. The bytes are UTF-8 without a backslash, so each quote begins or ends a text, and texts stand as they are.
2. The number of delimiters is that of the template times the rows, and the offsets ascend.
3. All literals (keys, colons, braces, quotes and commas) equal those of the template, byte for byte.
4. The numbers of quotes and of control characters are those of the template times the rows, so there is none in a text.
5. The template is valid JSON, and each value that is not a text is a 64-bit integer, written as JSON writes it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import pyarrow as pa
from attrs import frozen

from .._parsing.compiled import UnsupportedByFastPath
from ..models import Call
from ._arrays import MAX_BYTES, ReusableBuffer
from ._columns import FAST_PATH_ERRORS, ColumnConverter, Columns
from ._from_json import check_utf8
from .schema import column_types

if TYPE_CHECKING:
    import numpy.typing as npt

_MEMBER: Final = re.compile(rb'\s*"([^"]*)"\s*:\s*(?:"([^"]*)"|(-?\d+))\s*([,}])')
_SEPARATOR: Final = re.compile(rb"\s*,\s*(?=\{)")
_BLANKS: Final = b" \t\r\n"
_LIST_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\[[ \t\r\n]*(?=\{)")
_LIST_END: Final = re.compile(rb"\}[ \t\r\n]*\][ \t\r\n]*\Z")
_QUOTE, _BLANK = b'" '
#: Bytes before and after the rows: space for a copy of the first row, and for blanks at the end of a page.
_MARGIN: Final = 8192
_TEXT_KINDS: Final = frozenset({"str", "datetime", "duration", "bool"})
#: A row has few commas and four times as many quotes; but texts may contain commas.
_DELIMITERS: Final = b',"'
#: The length of the shortest page with a row; an empty page says nothing about the next.
_MIN_BYTES: Final = len(b'[{"id":1}]')
#: Pages that are skipped after one without a fixed layout: one, then about twice as many after each further one.
_MAX_SKIPPED: Final = 63


@frozen
class RowLayout:
    """Where the values of a row are, relative to its delimiters.

    Attributes:
        delimiter: the delimiter.
        delimiters: how many of them a row has, with the separator after it.
        values: the key of each value, and whether it is a text (otherwise an integer).
        offsets: where values start and stop, in turn, as the number of a delimiter and the distance from it.
        literals: the bytes after each value, up to the next one; those of the last reach into the next row.
    """

    delimiter: int
    delimiters: int
    values: tuple[tuple[str, bool], ...]
    offsets: tuple[tuple[int, int], ...]
    literals: tuple[bytes, ...]


class FixedLayoutDecoder:
    """Decodes pages whose rows are all written alike."""

    def __init__(self, converter: ColumnConverter) -> None:
        types = column_types(Call)
        #: Whether the requested columns can be decoded: none of them is a list or an object, and rows have sort keys.
        self.supported: bool = converter.has_sort_keys and all(
            types[name].kind not in {"list", "struct", "json"} for name in converter.columns
        )
        self._types = types
        self._converter = converter
        self._buffer = ReusableBuffer()
        self._delimiters = _DELIMITERS
        self._splitter: _RowSplitter | None = None
        self._pages_to_skip = 0
        self._last_skipped = 0

    def decode(self, body: Sequence[bytes]) -> Columns | None:
        """The columns of a page with these bytes, or None if its rows are not all written alike."""
        if sum(map(len, body)) < _MIN_BYTES:
            return None
        if self._pages_to_skip:
            self._pages_to_skip -= 1
            return None
        try:
            columns = self._converter.convert(*self._json_columns(body))
        except MemoryError:  # also one of Arrow's errors
            raise
        except FAST_PATH_ERRORS:
            self._pages_to_skip = self._last_skipped = min(_MAX_SKIPPED, 2 * self._last_skipped + 1)
            return None
        self._last_skipped = 0
        return columns

    def _json_columns(self, body: Sequence[bytes]) -> tuple[dict[str, pa.Array], int]:
        """The columns of all rows, and their number."""
        data, row, separator = self._join(body)
        unit = row + separator
        array = np.frombuffer(data, np.uint8)
        if array.max() >= 128:
            check_utf8(bytes(data))
        for index, delimiter in enumerate(self._delimiters):
            layout = self._layout_of(row, unit, delimiter)
            if layout is None:
                continue
            positions = np.flatnonzero(array == delimiter)
            copies, remainder = divmod(len(positions), layout.delimiters)
            if remainder or copies < 3:
                continue
            _check_json(array, row, separator, copies)
            # A page with commas in its texts is likely followed by others.
            self._delimiters = self._delimiters[index:]
            if self._splitter is None or self._splitter.layout != layout:
                self._splitter = _RowSplitter(layout)
            return self._splitter.split(data, positions, copies - 2), copies - 2
        raise UnsupportedByFastPath

    def _join(self, body: Sequence[bytes]) -> tuple[memoryview, bytes, bytes]:
        """All rows in one buffer, the first row, and the separator of rows.

        A copy of the first row precedes all rows and another one follows them, so that all rows have the same neighbours.
        """
        size = sum(map(len, body))
        if size > MAX_BYTES:
            raise UnsupportedByFastPath
        buffer = self._buffer.get(size + 2 * _MARGIN)
        end = _MARGIN
        for part in body:
            buffer[end : end + len(part)] = part
            end += len(part)
        list_start = _LIST_START.match(buffer, _MARGIN, end)
        list_end = _LIST_END.search(buffer, max(_MARGIN, end - _MARGIN), end)
        if list_start is None or list_end is None:
            raise UnsupportedByFastPath
        start, stop = list_start.end(), list_end.start() + 1
        row, separator = _first_row(buffer, start)
        before, after = row + separator, separator + row + separator
        if len(after) > _MARGIN or buffer.find(b"\\", start, stop) >= 0:
            raise UnsupportedByFastPath
        buffer[start - len(before) : start] = before
        buffer[stop : stop + len(after)] = after
        return memoryview(buffer)[start - len(before) : stop + len(after)], row, separator

    def _layout_of(self, row: bytes, unit: bytes, delimiter: int) -> RowLayout | None:
        """The layout of a row, or None if its values contain the delimiter; `unit` is the row and the separator after it."""
        values: dict[str, bool] = {}
        spans: list[tuple[int, int]] = []
        for member in _MEMBER.finditer(row, 1):
            key, is_text = member[1].decode(), member[2] is not None
            column = self._types.get(key)
            if column is None or key in values:
                raise UnsupportedByFastPath
            if not (column.kind in _TEXT_KINDS if is_text else column.kind == "int"):
                raise UnsupportedByFastPath
            values[key] = is_text
            spans.append(member.span(2 if is_text else 3))
        if any(delimiter in unit[start:stop] for start, stop in spans):
            return None
        positions = [position for position, byte in enumerate(unit) if byte == delimiter]
        offsets: list[tuple[int, int]] = []
        for start, stop in spans:
            # The delimiter before a value may be in the row before, and the one after it in the next row.
            before, after = bisect_left(positions, start) - 1, bisect_left(positions, stop)
            offsets.append((before, start - positions[before] + (len(unit) if before < 0 else 0)))
            is_in_next_row = after == len(positions)
            offsets.append((after, stop - (positions[0] + len(unit) if is_in_next_row else positions[after])))
        literals = [unit[stop:start] for (_, stop), (start, _) in pairwise(spans)]
        literals.append(unit[spans[-1][1] :] + unit[: spans[0][0]])
        return RowLayout(delimiter, len(positions), tuple(values.items()), tuple(offsets), tuple(literals))


def _first_row(data: bytearray, start: int) -> tuple[bytes, bytes]:
    """The first row, and the separator between it and the second."""
    position = start + 1
    while (member := _MEMBER.match(data, position)) is not None:
        position = member.end()
        if member[4] == b"}":
            separator = _SEPARATOR.match(data, position)
            return bytes(data[start:position]), b"," if separator is None else separator[0]
    raise UnsupportedByFastPath


def _check_json(array: npt.NDArray[np.uint8], row: bytes, separator: bytes, copies: int) -> None:
    """Steps 4 and 5 of the proof, except for the integers."""
    try:
        msgspec.json.decode(row)
    except (ValueError, RecursionError):
        raise UnsupportedByFastPath from None
    unit = row + separator
    control_characters = sum(byte < _BLANK for byte in unit)
    if (
        separator.strip(_BLANKS) != b","
        or np.count_nonzero(array == _QUOTE) != unit.count(_QUOTE) * copies
        or np.count_nonzero(array < _BLANK) != control_characters * copies
    ):
        raise UnsupportedByFastPath


class _RowSplitter:
    """Splits rows of one layout into values; keeps the index arrays for this from page to page."""

    def __init__(self, layout: RowLayout) -> None:
        self.layout = layout
        self._rows = 0

    def split(self, data: memoryview, positions: npt.NDArray[np.int64], rows: int) -> dict[str, pa.Array]:
        """The values by their keys; `positions` are those of all delimiters in `data`.

        There are two more rows in `data` than in `rows`: the copies before and after them.
        """
        layout = self.layout
        values, step = rows * len(layout.values), layout.delimiters
        # The last offset is the start of the first value of the last row, so that a literal follows each value.
        offsets = np.empty(2 * values + 1, np.int32)
        for index, (delimiter, distance) in enumerate(layout.offsets):
            first = step + delimiter
            offsets[index : -1 : len(layout.offsets)] = (
                positions[first : first + rows * step : step] + distance
            )
        delimiter, distance = layout.offsets[0]
        offsets[-1] = positions[(rows + 1) * step + delimiter] + distance
        # Arrow reads memory at these offsets without a check.
        if offsets[0] < 0 or offsets[-1] > len(data) or (offsets[1:] < offsets[:-1]).any():
            raise UnsupportedByFastPath
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        slices = pa.Array.from_buffers(pa.string(), 2 * values, buffers)
        if rows > self._rows:
            self._prepare(rows + rows // 4)
        if not slices.take(self._literal_indices[:values]).equals(self._literals[:values]):
            raise UnsupportedByFastPath
        columns = {}
        for (key, is_text), indices in zip(layout.values, self._value_indices, strict=True):
            column = columns[key] = slices.take(indices[:rows])
            if not is_text:
                columns[key] = column.cast(pa.int64())
                if not columns[key].cast(pa.string()).equals(column):
                    raise UnsupportedByFastPath
        return columns

    def _prepare(self, rows: int) -> None:
        """Makes the indices of values and literals, and the expected literals, of so many rows."""
        literals, self._rows = self.layout.literals, rows
        width = len(self.layout.offsets)
        self._value_indices = [_int32(np.arange(first, rows * width, width)) for first in range(0, width, 2)]
        self._literal_indices = _int32(np.arange(1, rows * width, 2))
        ends = np.cumsum(np.tile([len(literal) for literal in literals], rows))
        buffers = [None, _int32(np.append(0, ends)).buffers()[1], pa.py_buffer(b"".join(literals) * rows)]
        self._literals = pa.Array.from_buffers(pa.string(), len(ends), buffers)


def _int32(values: npt.NDArray[np.int64]) -> pa.Int32Array:
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values.astype(np.int32))])
