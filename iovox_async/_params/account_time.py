"""Computes the account's current local time, as bounds: `AccountTime`. All code that depends on the current time uses it.

The endpoint's dates are local time of the account. Without a time zone that time is unknown, and the clock of this machine
may be wrong. So there are two bounds: the latest time it may be, at which open ranges end, and the earliest, up to which
calls can be final. With a time zone they differ only by the difference between this machine's clock and that of the server
(its `Date` header), and by an hour while an hour occurs for the second time.

Invariant: both bounds are right as long as one of the two clocks is.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import msgspec

from .dates import clock_changes, local_range

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger: logging.Logger = logging.getLogger("iovox_async")

#: Local times are at most this far ahead of UTC, and behind it.
MAX_AHEAD_OF_UTC: Final = timedelta(hours=14)
MAX_BEHIND_UTC: Final = timedelta(hours=12)
#: A larger difference between the two clocks is logged. Smaller ones are common, and change no result.
MAX_CLOCK_DIFFERENCE: Final = timedelta(minutes=5)
#: A server whose clock shows another year than these has none.
_PLAUSIBLE_YEARS: Final = range(2000, 9000)
#: Kept clear around an hour that occurs twice or never, since servers differ in whether a bound is inclusive.
_MARGIN: Final = timedelta(seconds=2)
_EARLIEST: Final = datetime(1, 1, 1)  # noqa: DTZ001 - the endpoint's dates have no zone


def parse_http_date(text: str) -> datetime | None:
    """Parses the date of an HTTP header; None if it is invalid."""
    if not text.isascii() or "_" in text:
        # Python's own conversion also reads "1_0" and other scripts' digits.
        return None
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class ClockReading(msgspec.Struct, frozen=True):
    """What a clock shows, and when: UTC, and the monotonic seconds at that moment."""

    utc: datetime
    seconds: float


class AccountTime(msgspec.Struct, eq=False):
    """The current time of one account.

    Args:
        timezone: the account's time zone, or None if it is unknown.
        utcnow: this machine's clock.
        clock: returns monotonic seconds.
    """

    timezone: tzinfo | None
    utcnow: Callable[[], datetime]
    clock: Callable[[], float]
    _server: ClockReading | None = None
    _last_date: str | None = None
    _warned: bool = False

    def read(self) -> ClockReading:
        """Reads this machine's clock. The methods below accept the reading later, when the server's clock is known."""
        return ClockReading(self.utcnow(), self.clock())

    def now(self) -> datetime:
        """The account's local time by this machine's clock, naive, in whole seconds; without a time zone, the machine's."""
        return self.utcnow().astimezone(self.timezone).replace(microsecond=0, tzinfo=None)

    def latest_now(
        self, reading: ClockReading | None = None, *, by: Callable[[list[datetime]], datetime] = max
    ) -> datetime:
        """The latest local time at which a call may have started by now, naive, in whole seconds.

        Args:
            reading: the moment to use instead of now.
            by: `max` or `min`: the later or the earlier of the clocks of this machine and the server.
        """
        utc = by(self._clocks(reading))
        if self.timezone is None:
            return _naive(utc) + MAX_AHEAD_OF_UTC
        _, latest = local_range(None, utc, self.timezone)
        assert latest is not None
        return latest

    def earliest_now(self, reading: ClockReading | None = None) -> datetime:
        """The earliest local time at which a call may start from now (or from the reading) on, naive, in whole seconds."""
        return self.final_until(timedelta(0), reading)

    def final_until(self, delay: timedelta, reading: ClockReading | None = None) -> datetime:
        """The local time until which calls are final, if they arrive and change until `delay` after their start."""
        utc = min(self._clocks(reading))
        try:
            if self.timezone is None:
                return _naive(utc) - MAX_BEHIND_UTC - delay
            earliest, _ = local_range(utc - delay, None, self.timezone)
        except OverflowError:
            return _EARLIEST
        assert earliest is not None
        return earliest

    def ahead_of_server(self) -> timedelta | None:
        """How far this machine's clock is ahead of the server's; None if the server's is unknown."""
        machine, *server = self._clocks(None)
        return machine - server[0] if server else None

    def observe(self, date: str | None, age: str | None = None) -> None:
        """Notes the server's clock.

        Args:
            date: the `Date` header of a response that has just begun.
            age: its `Age` header: seconds that it was kept in a cache.
        """
        if date is None or date == self._last_date:
            return
        self._last_date = date
        utc = parse_http_date(date)
        if utc is None or utc.year not in _PLAUSIBLE_YEARS:
            return
        if age is not None and re.fullmatch(r"[0-9]{1,9}", age.strip()):
            utc += timedelta(seconds=int(age))
        machine = self.read()
        self._server = ClockReading(utc, machine.seconds)
        difference = utc - machine.utc
        if abs(difference) > MAX_CLOCK_DIFFERENCE and not self._warned:
            self._warned = True
            logger.warning(
                "this machine's clock is %s %s the server's; the earlier of the two decides what is final, "
                "and the latest calls may be missing from what was read before this message",
                abs(difference) - timedelta(microseconds=abs(difference).microseconds),
                "behind" if difference > timedelta(0) else "ahead of",
            )

    def _clocks(self, reading: ClockReading | None) -> list[datetime]:
        """What the clock of this machine shows, and that of the server, if it is known."""
        reading = reading or self.read()
        server = self._server  # read once: a backfill asks in threads, while responses arrive
        if server is None:
            return [reading.utc]
        return [reading.utc, server.utc + timedelta(seconds=reading.seconds - server.seconds)]


class UncutHours(msgspec.Struct, frozen=True):
    """The hours of a range that occur twice or never. A date within one may mean two instants, so no request ends there.

    A server that keeps instants orders the calls of an hour that occurs twice by instant, so that their starts are not in
    order. So such an hour, with the seconds next to it, is read as a whole, like a second.
    """

    #: The first second of each, and the first after it.
    _hours: Sequence[tuple[datetime, datetime]] = ()

    @classmethod
    def between(cls, start: datetime, stop: datetime, timezone: tzinfo | None) -> UncutHours:
        """The hours that a request for the seconds from `start` to `stop` may meet."""
        if timezone is None:
            return cls()
        changes = clock_changes(start, stop, timezone)
        return cls([(change.start - _MARGIN, change.stop + _MARGIN) for change in changes])

    def bound_before(self, second: datetime) -> datetime:
        """The second itself, or the last one before it that means one instant."""
        return next((start for start, stop in self._hours if start < second < stop), second)

    def bound_after(self, second: datetime) -> datetime:
        """The second itself, or the first one after it that means one instant."""
        return next((stop for start, stop in self._hours if start < second < stop), second)

    def unit(self, second: datetime) -> tuple[datetime, datetime]:
        """What is read as a whole: such an hour, or else a second; as its first second and the first after it."""
        for start, stop in self._hours:
            if start <= second < stop:
                return start, stop
        second = second.replace(microsecond=0)
        return second, second + timedelta(seconds=1)

    def in_order(
        self, starts: Sequence[datetime], earliest: datetime, latest: datetime
    ) -> Sequence[datetime]:
        """The starts with the first second of such an hour instead of those within it; the same sequence if there are none.

        Args:
            starts: the starts in a page.
            earliest: no start is before it, which saves comparisons.
            latest: no start is after it.
        """
        for first, stop in self._hours:
            if first <= latest and earliest < stop and any(first <= start < stop for start in starts):
                starts = [first if first <= start < stop else start for start in starts]
        return starts


def _naive(utc: datetime) -> datetime:
    return utc.astimezone(UTC).replace(microsecond=0, tzinfo=None)
