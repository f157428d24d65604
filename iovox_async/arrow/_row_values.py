"""Finds the values of rows that are all written alike, in the bytes of a page.

The rows are read from left to right, all at once: after a value of the same length in all rows, the next one has the same distance
from it in all rows. The end of another value is searched for, eight bytes at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import pyarrow as pa

from .._parsing.compiled import UnsupportedByFastPath

if TYPE_CHECKING:
    import numpy.typing as npt

    Words = npt.NDArray[np.uint64]
    Integers = npt.NDArray[np.int64]
    Slices = npt.NDArray[np.void]

#: Eight bytes, the first of them lowest.
WORD: Final = np.dtype("<u8")
WORD_BYTES: Final = 8
#: Bytes that are copied of a value whose end is searched for, so that the ends of short ones are found there.
_COPIED_BYTES: Final = 2 * WORD_BYTES
#: Bytes that are searched at a time for the ends of rows.
FLAGS: Final = 1 << 18
#: Bytes before and after the rows that may be read with them, and the longest text.
MARGIN: Final = 8192
#: As arrays, since NumPy would convert a number of Python for each operation.
_LOWEST_BITS: Final = np.array(0x0101010101010101, WORD)
HIGHEST_BITS: Final = np.array(0x8080808080808080, WORD)
#: Bytes that are searched at a time for the end of a long text, at first.
_WINDOW: Final = 64


class PageBytes:
    """The bytes of a page, from which the same number of bytes is read at many offsets at once.

    Args:
        memory: the bytes, with at least `MARGIN` others before and after them.
        start: where the page starts in it.
        stop: where it ends.
    """

    def __init__(self, memory: memoryview, start: int, stop: int) -> None:
        self.memory = memory
        self.data: memoryview = memory[start:stop]
        self.start = start
        self.stop = stop

    def at(self, offsets: Integers, size: int) -> Slices:
        """A copy of so many bytes at each offset in the memory.

        Raises:
            UnsupportedByFastPath: they are not all in the memory.
        """
        # All slices of this size, which overlap.
        slices = np.ndarray(len(self.memory) - size + 1, slice_type(size), self.memory, strides=(1,))
        try:
            return slices[offsets]
        except IndexError:
            raise UnsupportedByFastPath from None


@lru_cache(maxsize=1024)
def slice_type(size: int) -> np.dtype[np.void]:
    """So many bytes as an item of an array."""
    return np.dtype((np.void, size))


class Values(msgspec.Struct, eq=False):
    """The values of a key in all rows.

    Attributes:
        page: the bytes that they are in.
        bases: an offset in the page for each row, from which all its values have the same distance.
        copies: the bytes from there on: at least the value, if it has a fixed width, and `WORD_BYTES` more at least.
        offset: that distance.
        widths: the length of all values, or of each.
    """

    page: PageBytes
    bases: Integers
    copies: Slices
    offset: int
    widths: Integers | int

    @property
    def fixed_width(self) -> int | None:
        """The length of all values; None if each has its own."""
        return self.widths if isinstance(self.widths, int) else None

    def extent(self) -> tuple[int, int]:
        """The length of the shortest and of the longest value."""
        if isinstance(self.widths, int):
            return self.widths, self.widths
        return int(self.widths.min()), int(self.widths.max())

    def have_width(self, width: int) -> bool:
        """Whether all values are so long."""
        return self.extent() == (width, width)

    @property
    def starts(self) -> Integers:
        """The offsets in the page at which they start."""
        return self.bases + self.offset

    @property
    def stops(self) -> Integers:
        """The offsets in the page at which they end."""
        return self.starts + self.widths

    def at(self, distance: int, size: int) -> Slices:
        """So many bytes of each row, at this distance from the start of its value."""
        start = self.offset + distance
        if start + size <= self.copies.itemsize:
            return _part_of(self.copies, start, size)
        return self.page.at(self.bases + start, size)

    def words_at(self, distance: int) -> Words:
        """Eight bytes of each row as a number, the first of them lowest."""
        return self.at(distance, WORD_BYTES).view(WORD)

    def texts(self, width: int) -> tuple[pa.StringArray, bytes]:
        """The values, which are all so long, as texts; and their characters, which are not checked."""
        joined = self.at(0, width).tobytes()
        offsets = np.arange(0, len(joined) + 1, width, dtype=np.int32)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(joined)]
        return pa.Array.from_buffers(pa.string(), len(self.bases), buffers), joined


def row_bounds(page: PageBytes, literal: bytes, flags: npt.NDArray[np.bool_]) -> Integers:
    """The offsets at which this literal may be, which is between the values of two rows: those of its closing brace.

    Args:
        page: the bytes.
        literal: it has a closing brace.
        flags: memory for `FLAGS` flags.
    """
    braces = _positions(np.frombuffer(page.data, np.uint8), ord("}"), flags)
    return braces + (page.start - literal.index(b"}"))


def without_braces_in_texts(page: PageBytes, literal: bytes, bounds: Integers) -> Integers:
    """Those of the bounds at which the literal is."""
    candidates = page.at(bounds, len(literal)).view(np.uint8).reshape(-1, len(literal))
    remaining: Integers = bounds[(candidates == np.frombuffer(literal, np.uint8)).all(axis=1)]
    return remaining


def _positions(data: npt.NDArray[np.uint8], byte: int, flags: npt.NDArray[np.bool_]) -> Integers:
    """Where a byte is. It is searched for in parts of the data, so that their flags stay in the processor's cache."""
    positions = [np.empty(0, np.int64)]
    for start in range(0, len(data), FLAGS):
        part = data[start : start + FLAGS]
        np.equal(part, byte, out=flags[: len(part)])
        flags[len(part) :] = False
        # Few of the words of eight flags are not zero.
        words = flags.view(WORD)
        indices = (words != 0).nonzero()[0]
        first = words[indices]
        if (first & (first - 1)).any():
            offsets = flags.nonzero()[0]
        else:
            offsets = WORD_BYTES * indices + _bytes_before(first)
        offsets += start
        positions.append(offsets)
    return np.concatenate(positions)


def _bytes_before(bits: Words) -> Integers:
    """How many bytes precede the first one of a word that is not zero, eight if there is none; a byte has one bit at most."""
    before = bits - 1
    before &= ~bits
    before &= HIGHEST_BITS
    before >>= 7
    before *= _LOWEST_BITS
    before >>= 56
    return before.view(np.int64)


def find_values(
    page: PageBytes, bounds: Integers, literals: Sequence[bytes], widths: list[int | None]
) -> list[Values]:
    """The values of all rows.

    Args:
        page: the bytes.
        bounds: where the last value ends, of the row before the first one and of each row.
        literals: the bytes before each value; those before the first value begin at the bounds.
        widths: the length of each value that may be equally long in all rows, and None for the others. Lengths that turn out
            to be wrong become None.

    Raises:
        UnsupportedByFastPath: the literals are not the same in all rows.
    """
    last = page.stop - len(literals[0])
    if (
        len(bounds) < 2
        or (bounds[0], bounds[-1]) != (page.start, last)
        or page.memory[last : page.stop] != literals[0]
    ):
        raise UnsupportedByFastPath
    values: list[Values] = []
    # Where the literal before the next value begins.
    bases = bounds[:-1]
    while (first := len(values)) < len(literals):
        offsets, size = _stretch(literals[first:], widths[first:])
        next_value = first + len(offsets)
        copies = page.at(bases, size + _COPIED_BYTES)
        equal = _count_equal(copies, literals[first:next_value], offsets)
        is_end = next_value == len(literals) and widths[-1] is not None
        next_bases = bases + size
        if equal < len(offsets) or (is_end and not np.array_equal(next_bases, bounds[1:])):
            # If the literal after a value differs, the value is not equally long in all rows.
            if equal == 0:
                raise UnsupportedByFastPath
            widths[first + equal - 1] = None
            continue
        for width, offset in zip(widths[first:next_value], offsets, strict=True):
            if width is not None:
                values.append(Values(page, bases, copies, offset, width))
                continue
            end = literals[next_value % len(literals)][0]
            lengths = _lengths(page, next_bases, copies, size, end)
            next_bases += lengths
            values.append(Values(page, bases, copies, offset, lengths))
        bases = next_bases
    if not np.array_equal(bases, bounds[1:]):
        raise UnsupportedByFastPath
    return values


def _stretch(literals: Sequence[bytes], widths: Sequence[int | None]) -> tuple[list[int], int]:
    """Where the values are in bytes that are equally long in all rows, up to a value that is not; and the number of these bytes."""
    offsets: list[int] = []
    size = 0
    for literal, width in zip(literals, widths, strict=True):
        size += len(literal)
        offsets.append(size)
        if width is None:
            break
        size += width
    return offsets, size


def _count_equal(copies: Slices, literals: Sequence[bytes], offsets: Sequence[int]) -> int:
    """How many of these literals, which end at the offsets, are the same in all copies; those after one that is not do not count."""
    for count, (literal, offset) in enumerate(zip(literals, offsets, strict=True)):
        size = len(literal)
        if _part_of(copies, offset - size, size).tobytes() != literal * len(copies):
            return count
    return len(literals)


def _lengths(page: PageBytes, starts: Integers, copies: Slices, offset: int, end: int) -> Integers:
    """How many bytes there are from each start to the next byte `end`; the first of them are in `copies` at the offset."""
    pattern = np.uint64(end) * _LOWEST_BITS
    lengths = np.zeros(len(starts), np.int64)
    for distance in range(0, _COPIED_BYTES, WORD_BYTES):
        words = _part_of(copies, offset + distance, WORD_BYTES).view(WORD) ^ pattern
        # The highest bit of the first byte that was `end`, and perhaps of others after it.
        more = _bytes_before((words - _LOWEST_BITS) & ~words & HIGHEST_BITS)
        more *= lengths == distance
        lengths += more
        if lengths.max() < distance + WORD_BYTES:
            return lengths
    rows = (lengths == _COPIED_BYTES).nonzero()[0]
    distance, window = _COPIED_BYTES, _WINDOW
    while len(rows):
        if distance + window > MARGIN:
            raise UnsupportedByFastPath
        is_end = page.at(starts[rows] + distance, window).view(np.uint8).reshape(-1, window) == end
        more = is_end.argmax(axis=1)
        is_longer = (more == 0) & ~is_end[:, 0]
        more[is_longer] = window
        lengths[rows] += more
        rows = rows[is_longer]
        distance += window
        window *= 2
    return lengths


def _part_of(copies: Slices, start: int, size: int) -> Slices:
    """So many bytes of each item, from this one on; not a copy."""
    return np.ndarray(len(copies), slice_type(size), copies, start, copies.strides)
