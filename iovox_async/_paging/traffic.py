"""Measures how many calls an account has at which hour of the week, to tell a quiet night from missing calls."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from .starts import first_from
from .types import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

HOUR: Final = timedelta(hours=1)
HOUR_SECONDS: Final = HOUR.total_seconds()
WEEK: Final = timedelta(days=7)
HOURS_OF_WEEK: Final = 7 * 24
#: Hours of a page to measure, at most.
MAX_HOURS: Final = 14 * 24
#: Calls by which an hour counts as average while nothing has been measured.
PRIOR_CALLS: Final = 0.5
#: Hours that show how much calls vary, and the seconds for which each must have been measured before.
COMPARED_HOURS: Final = 12
COMPARED_SECONDS: Final = 1_800


def _hours(start: datetime, stop: datetime) -> Iterator[tuple[int, float]]:
    """Splits a time at full hours, from `start` on, backwards if `stop` is before it: the hours of the week, and seconds in each."""
    left = abs((stop - start).total_seconds())
    number, step = start.weekday() * 24 + start.hour, 1
    seconds = start.minute * 60 + start.second + start.microsecond / 1e6
    if start < stop:
        seconds = HOUR_SECONDS - seconds
    else:
        step = -1
        if not seconds:
            number, seconds = (number - 1) % HOURS_OF_WEEK, HOUR_SECONDS
    for _ in range(MAX_HOURS):
        if left <= seconds:
            if left:
                yield number, left
            return
        yield number, seconds
        left -= seconds
        number, seconds = (number + step) % HOURS_OF_WEEK, HOUR_SECONDS


def _rate(measured: tuple[int, float], usual: float) -> float:
    """Calls per second by calls and the seconds in which they came; the usual rate counts as if a few calls had shown it."""
    calls, seconds = measured
    return (calls + PRIOR_CALLS) / (seconds + PRIOR_CALLS / usual) if usual else 0.0


class Traffic:
    """Calls per second: on average, by hour of the day, and by hour of the week."""

    def __init__(self) -> None:
        self._calls = 0
        self._seconds = self._average = 0.0
        self._by_hour = [(0, 0.0)] * 24
        self._by_weekly_hour = [(0, 0.0)] * HOURS_OF_WEEK
        #: Calls per second expected in each hour of the week; empty until they are computed.
        self._rates: list[float] = []
        #: Hours that had been measured on another day before: their number, the calls expected, and the squares of the differences.
        self._hours_compared = 0
        self._expected = self._squares = 0.0

    def add(self, start: datetime, stop: datetime, starts: Sequence[datetime]) -> None:
        """Adds the calls of `[start, stop)`, whose starts are in ascending order."""
        self._calls += len(starts)
        self._seconds += max(0.0, (stop - start) / SECOND)
        self._average = self._calls / max(1.0, self._seconds)
        self._rates = []
        index = first_from(starts, start)
        end = start.replace(minute=0, second=0, microsecond=0)
        for number, seconds in _hours(start, stop):
            end = stop if stop - end <= HOUR else end + HOUR
            after = first_from(starts, end, index)
            calls, hour = after - index, number % 24
            index = after
            daily, weekly = self._by_hour[hour], self._by_weekly_hour[number]
            if daily[1] >= COMPARED_SECONDS:
                expected = _rate(weekly, _rate(daily, self._average)) * seconds
                self._expected += expected
                self._squares += (calls - expected) ** 2
                self._hours_compared += 1
            self._by_hour[hour] = (daily[0] + calls, daily[1] + seconds)
            self._by_weekly_hour[number] = (weekly[0] + calls, weekly[1] + seconds)

    @property
    def dispersion(self) -> float | None:
        """The variance of the calls of an hour as a multiple of their number: 1 for independent calls. None: too few hours were compared."""
        is_measured = self._hours_compared >= COMPARED_HOURS and self._expected > 0
        return self._squares / self._expected if is_measured else None

    def _weekly_rates(self) -> list[float]:
        """Calls per second expected in each hour of the week."""
        if not self._rates:
            daily = [_rate(measured, self._average) for measured in self._by_hour]
            self._rates = [
                _rate(measured, daily[number % 24]) for number, measured in enumerate(self._by_weekly_hour)
            ]
        return self._rates

    def measured_share(self, start: datetime, stop: datetime) -> float:
        """The share of `[start, stop)` in hours of the week that have been measured."""
        measured = total = 0.0
        for number, seconds in _hours(start, stop):
            total += seconds
            if self._by_weekly_hour[number][1]:
                measured += seconds
        return measured / total if total else 0.0

    def expected(self, start: datetime, stop: datetime) -> float:
        """Calls expected in `[start, stop)`."""
        rates = self._weekly_rates()
        if stop - start > WEEK:
            return (stop - start) / WEEK * sum(rates) * HOUR_SECONDS
        return sum([rates[number] * seconds for number, seconds in _hours(start, max(start, stop))])

    def time_of(self, calls: float, start: datetime, stop: datetime) -> float:
        """The seconds from `start`, but not beyond `stop`, in which so many calls are expected; backwards if `stop` is before."""
        total = abs(stop - start) / SECOND
        rates = self._weekly_rates()
        passed = expected = 0.0
        for number, seconds in _hours(start, stop):
            rate = rates[number]
            if expected + rate * seconds >= calls:
                return passed + (calls - expected) / rate
            expected += rate * seconds
            passed += seconds
        return min(total, passed * calls / expected) if expected > 0 else passed
