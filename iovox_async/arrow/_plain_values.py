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

import numpy as np
import pyarrow as pa

from ._row_values import HIGHEST_BITS, WORD, WORD_BYTES
from ._timezones import MICROSECOND

if TYPE_CHECKING:
    import numpy.typing as npt

    from ._row_values import Integers, Values, Words
    from .schema import ColumnKind

#: Bytes of a time of day, and of a duration.
CLOCK_LENGTH: Final = len("00:00:00")
_ZEROS: Final = np.frombuffer(b"00000000", WORD)
#: What to add to the digits of a number, so that the highest bit of each byte shows whether it is more than 9.
_ABOVE_NINE: Final = np.array(0x7676767676767676, WORD)
_CLOCK: Final = np.frombuffer(b"00:00:00", WORD)
#: The same for a time: its digits are at most 29:59:59, and the colons are 0.
_ABOVE_CLOCK: Final = np.frombuffer(bytes([0x7F - limit for limit in (2, 9, 0, 5, 9, 0, 5, 9)]), WORD)
_LAST_HOUR: Final = 23
_MAX_DIGITS: Final = 18
#: The smallest number of so many digits that does not begin with a zero.
_SMALLEST: Final = np.array([0, 0, *(10**digits for digits in range(1, _MAX_DIGITS))], np.uint64)
_SECOND: Final = 1_000_000
_DATE_LENGTH: Final = len("2024-02-26 04:39:59")
_DAY_LENGTH: Final = len("2024-02-26 ")
_DAY: Final = re.compile(rb"\d{4}-\d\d-\d\d ")
#: Where the day changes more often than in this share of the rows, Arrow reads the dates.
_MAX_DAYS_SHARE: Final = 1 / 8
_FEW_DAYS: Final = 64
_TRUE, _FALS = (int.from_bytes(text, "little") for text in (b"TRUE", b"FALS"))
_LAST_OF_FALSE: Final = ord("E")


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
    # The minutes are three bytes further, and the seconds six: so both are added up in the highest two bytes.
    numbers &= 0x00FF0000FF000000
    numbers *= (60 << 24) + 1
    numbers >>= 48
    hours += numbers
    return hours.view(np.int64)


def int64_array(integers: Integers | None) -> pa.Int64Array | None:
    """These integers as an array, if there are any; it shares their memory."""
    if integers is None:
        return None
    return pa.Array.from_buffers(pa.int64(), len(integers), [None, pa.py_buffer(integers)])


def _is_any_above(digits: Words, above: Words) -> bool:
    marked = digits + above
    marked |= digits
    return bool(np.bitwise_or.reduce(marked) & HIGHEST_BITS)


def _read_integers(values: Values) -> Integers | None:
    narrowest, widest = values.extent()
    if narrowest < 1 or widest > _MAX_DIGITS:
        return None
    total: Any = 0
    for digits_after in range(0, widest, 8):
        digits = _eight_digits(values, digits_after)
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
    if (total < _SMALLEST[values.widths]).any():
        return None
    integers: Integers = total.view(np.int64)
    return integers


def _eight_digits(values: Values, digits_after: int) -> Words:
    """Eight digits of each number, of which so many others follow; where it has fewer, there are zeros before them."""
    end = WORD_BYTES + digits_after
    widths, (narrowest, widest) = values.widths, values.extent()
    if isinstance(widths, int) and end <= widths:
        return values.words_at(widths - end) ^ _ZEROS
    if isinstance(widths, int):
        return (values.words_at(0) ^ _ZEROS) << np.uint64(8 * (end - widths))
    if widest <= WORD_BYTES:
        return (values.words_at(0) ^ _ZEROS) << (8 * (end - widths)).view(np.uint64)
    digits = values.page.at(values.stops - end, WORD_BYTES).view(WORD) ^ _ZEROS
    if end > narrowest:
        # What precedes the value is no digit of it.
        bits = np.maximum(8 * (end - widths), 0).view(np.uint64)
        digits >>= bits
        digits <<= bits
    return digits


def _read_durations(values: Values) -> Integers | None:
    return clock_seconds(values.words_at(0)) if values.have_width(CLOCK_LENGTH) else None


def _read_local_times(values: Values) -> Integers | None:
    """Dates that are written `YYYY-MM-DD HH:MM:SS`. Most rows have the day of the row before, so few days are read."""
    if not values.have_width(_DATE_LENGTH):
        return None
    seconds = clock_seconds(values.words_at(11))
    if seconds is None:
        return None
    first_part, last_part = values.words_at(0), values.words_at(3)
    is_other_day = (first_part[1:] != first_part[:-1]) | (last_part[1:] != last_part[:-1])
    changes = np.flatnonzero(is_other_day) + 1
    if len(changes) > max(_FEW_DAYS, _MAX_DAYS_SHARE * len(seconds)):
        return None
    firsts = np.concatenate(([0], changes, [len(seconds)]))
    texts = values.at(0, _DAY_LENGTH)[firsts[:-1]].tobytes()
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
    widths = values.widths
    first_four = values.at(0, 4).view("<u4")
    is_true = (first_four == _TRUE) & (widths == len("TRUE"))
    is_false = (first_four == _FALS) & (widths == len("FALSE"))
    is_false &= values.at(4, 1).view(np.uint8) == _LAST_OF_FALSE
    return is_true if (is_true | is_false).all() else None
