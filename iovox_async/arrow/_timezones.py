"""From the account's wall time to instants, and from clocks to durations, many at a time.

The law of this room: a wall time means what Python reads it as with `fold=0` (PEP 495), so that a column and a record
never disagree. Where the clock is set back, that is the first of the two hours; a time that the clock skipped
counts by the offset before the gap. The time zone itself is asked, so any `tzinfo` will do, and Arrow's own
copy of the zone database, its age and its absence, do not matter.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import constant, word

__all__ = ["FIRST", "OffsetTable", "clocks", "microseconds"]

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the endpoint's dates have no zone
_MICROSECOND: Final = timedelta(microseconds=1)
#: The first moment that a record can hold, in microseconds from 1970. (Arrow's calendar has a year 0.)
FIRST: Final = (datetime(1, 1, 1) - _EPOCH) // _MICROSECOND  # noqa: DTZ001 - as above
_DAY: Final = timedelta(days=1) // _MICROSECOND
#: No clock on record was changed twice within it.
_STEP: Final = timedelta(minutes=30) // _MICROSECOND
#: Days whose offsets are remembered: eleven years.
_REMEMBERED: Final = 4096

_CLOCK: Final = len("00:02:05")

#: From when on an offset holds, and the offset; both in microseconds.
Offset = tuple[int, int]


def microseconds(moment: datetime) -> int:
    """A naive moment as Arrow has it."""
    return (moment - _EPOCH) // _MICROSECOND


class OffsetTable:
    """A time zone as a table of offsets, found out as days are asked for."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._days: dict[int, list[Offset]] = {}

    def instants(self, wall: pa.Int64Array) -> pa.Int64Array:
        """Wall times to instants, both in microseconds from 1970."""
        days = (
            pc.unique(pc.divide(pc.subtract(wall, constant(FIRST)), constant(_DAY))).drop_null().to_pylist()
        )
        offsets: list[Offset] = []
        for found in (found for day in sorted(days) for found in self._of(day)):
            if not offsets or found[1] != offsets[-1][1]:
                offsets.append(found)
        if not offsets:
            return wall
        (_, first), *later = offsets
        if not later:
            return pc.subtract(wall, constant(first))
        shift = constant(first)
        for since, offset in later:
            shift = pc.if_else(pc.greater_equal(wall, constant(since)), constant(offset), shift)
        return pc.subtract(wall, shift)

    def _of(self, day: int) -> list[Offset]:
        """The offsets of a day, counted from the first there is: almost always one."""
        found = self._days.get(day)
        if found is None:
            if len(self._days) >= _REMEMBERED:
                self._days.clear()
            found = self._days[day] = self._look(FIRST + day * _DAY)
        return found

    def _look(self, begin: int) -> list[Offset]:
        found = [(begin, self._offset(begin))]
        for low, high in pairwise([*range(begin, begin + _DAY, _STEP), begin + _DAY - 1]):
            before, after = found[-1][1], self._offset(high)
            if before == after:
                continue
            while high - low > 1:
                middle = (low + high) // 2
                if self._offset(middle) == before:
                    low = middle  # noqa: PLW2901 - the two close in on the change
                else:
                    high = middle  # noqa: PLW2901 - as above
            found.append((high, after))
        return found

    def _offset(self, wall: int) -> int:
        offset = (_EPOCH + timedelta(microseconds=wall)).replace(tzinfo=self._zone).utcoffset()
        return 0 if offset is None else offset // _MICROSECOND


def clocks(array: pa.StringArray) -> pa.Array | None:
    """Durations, all written `HH:MM:SS` and shorter than a day; None where they are not."""
    lengths = pc.binary_length(array)
    shortest, longest = pc.min(lengths).as_py(), pc.max(lengths).as_py()
    if shortest != _CLOCK or longest != _CLOCK:
        return None
    try:
        return (
            pc.binary_join_element_wise(word("1970-01-01"), array, word(" "))
            .cast(pa.timestamp("us"))
            .view(pa.duration("us"))
        )
    except pa.ArrowInvalid:
        return None
