"""Starts of the rows of a page that are in ascending order, of which a plan looks at a few dozen."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, overload

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the endpoint's dates have no zone
_MICROSECOND: Final = timedelta(microseconds=1)


class AscendingStarts(Sequence[datetime]):
    """Starts in ascending order, each of which becomes a `datetime` only when it is asked for.

    Args:
        microseconds: a NumPy array of 64-bit integers, counted from 1970.
    """

    __slots__ = ("_microseconds", "_numbers", "_times")

    def __init__(self, microseconds: Any) -> None:
        self._microseconds = microseconds
        # Both share the memory of the array: one makes datetimes of it, the other integers, which takes NumPy longer.
        self._times = microseconds.view("M8[us]")
        self._numbers = memoryview(microseconds)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> datetime: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[datetime]: ...
    def __getitem__(self, index: int | slice) -> datetime | Sequence[datetime]:
        if isinstance(index, slice):
            chosen = self._microseconds[index]
            is_ascending = index.step is None or index.step > 0
            return AscendingStarts(chosen) if is_ascending else chosen.view("M8[us]").tolist()
        time: datetime = self._times[index].item()
        return time

    def __iter__(self) -> Iterator[datetime]:
        return iter(self._times.tolist())

    def first_from(self, time: datetime, low: int = 0) -> int:
        """The first row, from `low` on, that starts at this time or later."""
        return bisect_left(self._numbers, (time - _EPOCH) // _MICROSECOND, low)


def first_from(starts: Sequence[datetime], time: datetime, low: int = 0) -> int:
    """The first of these starts, which are in ascending order, from `low` on, that is at this time or later."""
    # The type is compared, since `isinstance` takes longer than the search where a class has an abstract base.
    return starts.first_from(time, low) if type(starts) is AscendingStarts else bisect_left(starts, time, low)
