"""Converts the account's local time to instants, for whole arrays.

Invariants:

- A local time has the offset that Python gives it with `fold=0` (PEP 495), so a column and a record never differ. Where the
  clock is set back, that is the first of the two hours; a time that the clock skipped has the offset before the gap.
- The offsets come from the `tzinfo` itself, so any time zone works, with or without Arrow's own time zone database.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ._arrays import int_scalar, int_values
from ._kernels import call

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the endpoint's dates have no zone
MICROSECOND: Final = timedelta(microseconds=1)
#: The first datetime that Python supports, in microseconds from 1970. (Arrow's calendar has a year 0.)
MIN_MICROSECONDS: Final = (datetime(1, 1, 1) - _EPOCH) // MICROSECOND  # noqa: DTZ001 - as above
_DAY: Final = timedelta(days=1) // MICROSECOND
#: No time zone in the database changed its offset twice within this time.
_STEP: Final = timedelta(minutes=30) // MICROSECOND
#: Days that are looked up without finding out which of them occur: a page has the calls of a few days.
_FEW_DAYS: Final = 64
#: Days whose offsets are cached: eleven years.
_MAX_CACHED_DAYS: Final = 4096

#: The local time from which on an offset holds, and the offset; both in microseconds.
OffsetChange = tuple[int, int]


def to_microseconds(local: datetime) -> int:
    """Microseconds from 1970 to a naive datetime."""
    return (local - _EPOCH) // MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """The naive datetime so many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


class OffsetTable:
    """The UTC offsets of a time zone, looked up for one day at a time as they are needed."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._fixed = zone.utcoffset(None)
        self._days: dict[int, list[OffsetChange]] = {}

    def to_instants(self, local: pa.Int64Array) -> pa.Int64Array:
        """Local times to instants, both in microseconds from 1970."""
        if self._fixed is not None:
            offset = self._fixed // MICROSECOND
            return call("subtract", local, int_scalar(offset)) if offset else local
        changes: list[OffsetChange] = []
        for day in _days_of(local):
            for change in self._changes_on(day):
                if not changes or change[1] != changes[-1][1]:
                    changes.append(change)
        if not changes:
            return local
        offsets = int_scalar(changes[0][1])
        for start, offset in changes[1:]:
            is_later = call("greater_equal", local, int_scalar(start))
            offsets = call("if_else", is_later, int_scalar(offset), offsets)
        return call("subtract", local, offsets)

    def _changes_on(self, day: int) -> list[OffsetChange]:
        """The offsets of a day, counted from the first day Python supports: almost always one."""
        changes = self._days.get(day)
        if changes is None:
            if len(self._days) >= _MAX_CACHED_DAYS:
                self._days.clear()
            changes = self._days[day] = self._find_changes(MIN_MICROSECONDS + day * _DAY)
        return changes

    def _find_changes(self, start: int) -> list[OffsetChange]:
        changes = [(start, self._offset_at(start))]
        for low, high in pairwise([*range(start, start + _DAY, _STEP), start + _DAY - 1]):
            before, after = changes[-1][1], self._offset_at(high)
            if before == after:
                continue
            while high - low > 1:
                middle = (low + high) // 2
                if self._offset_at(middle) == before:
                    low = middle  # noqa: PLW2901 - binary search
                else:
                    high = middle  # noqa: PLW2901 - binary search
            changes.append((high, after))
        return changes

    def _offset_at(self, local: int) -> int:
        offset = from_microseconds(local).replace(tzinfo=self._zone).utcoffset()
        return 0 if offset is None else offset // MICROSECOND


def _days_of(local: pa.Int64Array) -> Sequence[int]:
    """The days of local times in ascending order, counted from the first day Python supports; perhaps some between them."""
    if len(local) and not local.null_count:
        values = int_values(local)
        first, last = ((int(value) - MIN_MICROSECONDS) // _DAY for value in (values.min(), values.max()))
        if last - first < _FEW_DAYS:
            return range(first, last + 1)
    numbers = call("divide", call("subtract", local, int_scalar(MIN_MICROSECONDS)), int_scalar(_DAY))
    return sorted(day for day in call("unique", numbers).to_pylist() if day is not None)
