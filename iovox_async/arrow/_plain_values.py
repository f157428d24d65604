"""Reads plain values of all rows at once from the bytes of a page: whole numbers, dates, durations, booleans and texts.

Eight characters are one 64-bit number. So a step of reading a column is one operation on an array, and a value that is no text
never becomes one.

Invariant: a column with a value in any other form gives None. It is then read from texts, as in the other decoders.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from ._timezones import MICROSECOND

if TYPE_CHECKING:
    import numpy.typing as npt

    from .schema import ColumnKind

    Words = npt.NDArray[np.uint64]
    Integers = npt.NDArray[np.int64]

#: Eight bytes, the first of them lowest.
WORD: Final = np.dtype("<u8")
#: Bytes of a time of day, and of a duration.
CLOCK_LENGTH: Final = len("00:00:00")
_HIGH_BITS: Final = 0x8080808080808080
_ZEROS: Final = np.uint64(int.from_bytes(b"00000000", "little"))
#: What to add to the digits of a number, so that the highest bit of each byte shows whether it is more than 9.
_ABOVE_NINE: Final = 0x7676767676767676
_CLOCK: Final = np.uint64(int.from_bytes(b"00:00:00", "little"))
#: The same for a time: its digits are at most 29:59:59, and the colons are 0.
_ABOVE_CLOCK: Final = int.from_bytes([0x7F - limit for limit in (2, 9, 0, 5, 9, 0, 5, 9)], "little")
_LAST_HOUR: Final = 23
_MAX_DIGITS: Final = 18
#: Bytes before a number that are read with it: three words have 24, and a number at least one digit.
_BYTES_BEFORE: Final = 24
_SECOND: Final = 1_000_000
_DATE_LENGTH: Final = len("2024-02-26 04:39:59")
_DAY_LENGTH: Final = len("2024-02-26 ")
_DAY: Final = re.compile(rb"\d{4}-\d\d-\d\d ")
#: Where the day changes more often than in this share of the rows, Arrow reads the dates.
_MAX_DAYS_SHARE: Final = 1 / 8
_FEW_DAYS: Final = 64
_TRUE, _FALS = (int.from_bytes(text, "little") for text in (b"TRUE", b"FALS"))
_LAST_OF_FALSE: Final = ord("E")


class PageBytes:
    """The bytes of a page, from which the same number of bytes is read at many offsets at once."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self._slices: dict[int, npt.NDArray[np.void]] = {}

    def at(self, offsets: Integers, size: int) -> npt.NDArray[np.void]:
        """A copy of so many bytes at each offset.

        Raises:
            IndexError: they are not all in the page.
        """
        slices = self._slices.get(size)
        if slices is None:
            # All slices of this size, which overlap.
            slices = np.ndarray(len(self.data) - size + 1, f"V{size}", self.data, strides=(1,))
            self._slices[size] = slices
        return slices[offsets]

    def words_at(self, offsets: Integers) -> Words:
        """Eight bytes at each offset as a number, the first of them lowest."""
        return self.at(offsets, 8).view(WORD)


class Values(msgspec.Struct, eq=False):
    """The values of a key in all rows.

    Attributes:
        page: the bytes that they are in.
        starts: the offsets at which they start, in ascending order.
        stops: the offsets after them.
        widths: the length of each.
        narrowest: the smallest of them.
        widest: the largest of them.
    """

    page: PageBytes
    starts: Integers
    stops: Integers
    widths: Integers
    narrowest: int
    widest: int

    @property
    def width(self) -> int | None:
        """The length of all values, or None if they differ."""
        return self.widest if self.narrowest == self.widest else None

    def equally_long_texts(self) -> tuple[pa.StringArray, bytes]:
        """The values, which are all `width` bytes long, as texts; and their characters, which are not checked."""
        joined = self.page.at(self.starts, self.widest).tobytes()
        offsets = np.arange(0, len(joined) + 1, self.widest, dtype=np.int32)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(joined)]
        return pa.Array.from_buffers(pa.string(), len(self.starts), buffers), joined


def read_column(kind: ColumnKind, values: Values) -> pa.Array | None:
    """The values as integers, local times in microseconds from 1970, seconds, or booleans; None if one has another form."""
    match kind:
        case "int":
            return int64_array(_read_integers(values))
        case "datetime":
            return int64_array(_read_local_times(values))
        case "duration":
            return int64_array(_read_durations(values))
        case "bool":
            is_true = _read_booleans(values)
            if is_true is None:
                return None
            bits = pa.py_buffer(np.packbits(is_true, bitorder="little"))
            return pa.Array.from_buffers(pa.bool_(), len(is_true), [None, bits])
    return None


def clock_seconds(words: Words) -> Integers | None:
    """The seconds of times and durations that are written `HH:MM:SS` and shorter than a day; None if one is not."""
    digits = words ^ _CLOCK
    if _is_any_above(digits, _ABOVE_CLOCK):
        return None
    numbers = digits * 10
    digits >>= 8
    numbers += digits
    hours = numbers & 0xFF
    if hours.max() > _LAST_HOUR:
        return None
    hours *= 3600
    hours += (numbers >> 24 & 0xFF) * 60
    hours += numbers >> 48 & 0xFF
    return hours.view(np.int64)


def int64_array(integers: Integers | None) -> pa.Int64Array | None:
    """These integers as an array, if there are any; it shares their memory."""
    if integers is None:
        return None
    return pa.Array.from_buffers(pa.int64(), len(integers), [None, pa.py_buffer(integers)])


def _is_any_above(digits: Words, above: int) -> bool:
    return bool((((digits + above) | digits) & _HIGH_BITS).any())


def _read_integers(values: Values) -> Integers | None:
    if values.narrowest < 1 or values.widest > _MAX_DIGITS or values.starts[0] < _BYTES_BEFORE:
        return None
    starts_with_zero = values.page.at(values.starts, 1).view(np.uint8) == ord("0")
    if (starts_with_zero & (values.widths > 1)).any():
        return None
    total: Any = 0
    for digits_after in range(0, values.widest, 8):
        digits = values.page.words_at(values.stops - (8 + digits_after)) ^ _ZEROS
        if digits_after + 8 > values.narrowest:
            # What precedes the value is no digit of it.
            bits = np.maximum(8 * (digits_after + 8 - values.widths), 0).view(np.uint64)
            digits >>= bits
            digits <<= bits
        if _is_any_above(digits, _ABOVE_NINE):
            return None
        # Neighbours are joined: to numbers of two digits, and these to one of eight.
        pairs = digits * 10
        digits >>= 8
        pairs += digits
        number = (pairs & 0x000000FF000000FF) * (100 + (1_000_000 << 32))
        pairs >>= 16
        pairs &= 0x000000FF000000FF
        pairs *= 1 + (10_000 << 32)
        number += pairs
        number >>= 32
        total = number if digits_after == 0 else total + number * 10**digits_after
    integers: Integers = total.view(np.int64)
    return integers


def _read_durations(values: Values) -> Integers | None:
    return clock_seconds(values.page.words_at(values.starts)) if values.width == CLOCK_LENGTH else None


def _read_local_times(values: Values) -> Integers | None:
    """Dates that are written `YYYY-MM-DD HH:MM:SS`. Most rows have the day of the row before, so few days are read."""
    if values.width != _DATE_LENGTH:
        return None
    words_at, starts = values.page.words_at, values.starts
    seconds = clock_seconds(words_at(starts + 11))
    if seconds is None:
        return None
    first_part, last_part = words_at(starts), words_at(starts + 3)
    is_other_day = (first_part[1:] != first_part[:-1]) | (last_part[1:] != last_part[:-1])
    changes = np.flatnonzero(is_other_day) + 1
    if len(changes) > max(_FEW_DAYS, _MAX_DAYS_SHARE * len(seconds)):
        return None
    firsts = np.concatenate(([0], changes, [len(seconds)]))
    texts = values.page.at(starts[firsts[:-1]], _DAY_LENGTH).tobytes()
    days = [_day_start(texts[index : index + _DAY_LENGTH]) for index in range(0, len(texts), _DAY_LENGTH)]
    if None in days:
        return None
    seconds *= _SECOND
    seconds += np.repeat(np.array(days, np.int64), np.diff(firsts))
    return seconds


@lru_cache(maxsize=1024)
def _day_start(text: bytes) -> int | None:
    """Microseconds from 1970 to the start of a day."""
    if _DAY.fullmatch(text) is None:
        return None
    try:
        return (date.fromisoformat(text[:10].decode()) - date(1970, 1, 1)) // MICROSECOND
    except ValueError:
        return None


def _read_booleans(values: Values) -> npt.NDArray[np.bool_] | None:
    first_four = values.page.at(values.starts, 4).view("<u4")
    is_true = (first_four == _TRUE) & (values.widths == len("TRUE"))
    is_false = (first_four == _FALS) & (values.widths == len("FALSE"))
    is_false &= values.page.at(values.starts + 4, 1).view(np.uint8) == _LAST_OF_FALSE
    return is_true if (is_true | is_false).all() else None
