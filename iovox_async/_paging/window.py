"""A window of seconds, and what a page says about it."""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from msgspec.structs import replace

from .starts import first_from
from .types import SECOND, SMALLEST_PAGE_LIMIT, PageRequest, PageResult, RowSlice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._params.account_time import UncutHours
    from .evidence import Claim
    from .single_second import SingleSecondReader

#: The first second that a date can name.
FIRST_SECOND: Final = datetime.min  # noqa: DTZ901 - the endpoint's dates have no zone


def second_before(second: datetime) -> datetime:
    """The second before, or the same one if there is none."""
    return second - SECOND if second - FIRST_SECOND >= SECOND else second


class Window(msgspec.Struct, eq=False):
    """The seconds `[start, stop)` and their state."""

    start: datetime
    stop: datetime
    state: Literal["pending", "in flight", "done"] = "pending"
    request: PageRequest | None = None
    rows: list[RowSlice] = msgspec.field(default_factory=list)
    #: Reads a one-second window that one page did not prove complete.
    second_reader: SingleSecondReader | None = None
    #: Attempts already made for a larger window that this one replaces part of.
    attempts: int = 0
    #: A page claimed that nothing follows in this window, which its next request checks.
    claim: Claim | None = None
    #: Rows that an earlier page had in its first second, in the order of that page.
    rows_seen_before: int = 0
    #: Pages in a row that have finished no second of it.
    pages_without_progress: int = 0
    #: A one-second window that is requested in descending order, because the second before it fills a page.
    reverses_order: bool = False

    @property
    def seconds(self) -> float:
        return (self.stop - self.start) / SECOND

    @property
    def pages(self) -> int:
        """Pages that are kept in memory."""
        if self.second_reader is not None:
            return self.second_reader.pages
        return len({id(rows.body) for rows in self.rows}) if len(self.rows) > 1 else len(self.rows)

    @property
    def is_check(self) -> bool:
        """Whether its next request does nothing but check a claim."""
        return self.claim is not None and self.claim.until in {self.start, self.stop}

    @property
    def is_claimed_empty(self) -> bool:
        """Whether its next request does nothing but check the claim that it has no rows."""
        return self.is_check and self.claim is not None and not self.claim.in_second

    @property
    def is_untouched(self) -> bool:
        """Whether nothing of it has been requested."""
        return self.state == "pending" and not (
            self.claim or self.second_reader or self.attempts or self.reverses_order
        )

    def can_join(self, previous: Window) -> bool:
        """Whether its seconds may be requested with those before it. Between windows that do not touch lies what was delivered."""
        return (
            self.is_untouched
            and not self.rows_seen_before
            and (self.stop == previous.start or self.start == previous.stop)
        )

    def split(self, middle: datetime, descending: bool) -> list[Window]:
        """The parts before and after a second, in the order of delivery; the window itself if that is its end."""
        if middle >= self.stop:
            return [self]
        parts = [Window(self.start, middle), Window(middle, self.stop)]
        parts = parts[::-1] if descending else parts
        # The attempts of a failing window count for the part that replaces it, not for the other.
        parts[0].attempts, parts[0].rows_seen_before = self.attempts, self.rows_seen_before
        parts[0].pages_without_progress = self.pages_without_progress
        if self.claim is not None:
            until = max if descending else min
            parts[0].claim = replace(self.claim, until=until(self.claim.until, middle))
        return parts


def request_bounds(start: datetime, stop: datetime, hours: UncutHours) -> tuple[datetime, datetime]:
    """The bounds of a request for the seconds `[start, stop)`: with the second before and the second after."""
    start = hours.bound_before(second_before(hours.bound_before(start)))
    return start, hours.bound_after(stop)


class Page:
    """A page that answers the request of a window, read in the direction of its rows.

    A unit is what is read as a whole: a second, or an hour that occurs twice.

    Attributes:
        keys: the starts in order, see `UncutHours.in_order`.
        reached_end: the last row is beyond the window, so the window is complete.
        only_before: all rows are before the window.
        first: the first unit of the window, as start and stop.
        last: the unit of the last row; None if there are no rows.
        complete: the seconds of the window that are complete if the page is truncated, as start and stop.
        rest: the seconds that are not.
    """

    def __init__(
        self,
        window: Window,
        request: PageRequest,
        result: PageResult,
        starts: Sequence[datetime],
        hours: UncutHours,
    ) -> None:
        self.window, self.request, self.result = window, request, result
        self.starts, self.hours = starts, hours
        self.keys: Sequence[datetime] = hours.in_order(starts, request.start, request.stop + SECOND)
        self.descending: bool = request.order == "call_start_DESC"
        self.first: tuple[datetime, datetime] = self._unit(
            window.stop - SECOND if self.descending else window.start
        )
        self.last: tuple[datetime, datetime] | None = hours.unit(self.keys[-1]) if starts else None
        self.reached_end = self.only_before = False
        self.complete = self.rest = (window.start, window.stop)
        if self.last is None:
            return
        before, after = self.last[1] <= window.start, self.last[0] >= window.stop
        if self.descending:
            self.reached_end, self.only_before = before, after
            limit = min(window.stop, max(window.start, self.last[1]))
            self.complete, self.rest = (limit, window.stop), (window.start, limit)
        else:
            self.reached_end, self.only_before = after, before
            limit = min(window.stop, max(window.start, self.last[0]))
            self.complete, self.rest = (window.start, limit), (limit, window.stop)

    def _unit(self, second: datetime) -> tuple[datetime, datetime]:
        """The unit of a second, as far as it is in the window."""
        start, stop = self.hours.unit(second)
        return max(start, self.window.start), min(stop, self.window.stop)

    @property
    def is_short(self) -> bool:
        """Whether the page has fewer rows than requested."""
        return len(self.starts) < self.request.limit

    @property
    def pages_without_progress(self) -> int:
        """Pages in a row, up to this one, that have finished no second of the window."""
        has_no_progress = self.last is None or self.complete[0] >= self.complete[1]
        return self.window.pages_without_progress + 1 if has_no_progress else 0

    @property
    def may_end_in_first_unit(self) -> bool:
        """Whether it has many rows and none after the first unit of its window, so that a lower page limit may have cut it there."""
        if self.last is None or len(self.starts) < SMALLEST_PAGE_LIMIT:
            return False
        return self.last[0] >= self.first[0] if self.descending else self.last[1] <= self.first[1]

    @property
    def is_unit(self) -> bool:
        """Whether the window is one unit."""
        return self.first == (self.window.start, self.window.stop)

    @property
    def in_one_unit(self) -> bool:
        """Whether all rows are in one unit, which is in the window."""
        return (
            self.last is not None
            and not (self.reached_end or self.only_before)
            and self.hours.unit(self.keys[0]) == self.last
        )

    @property
    def gap(self) -> tuple[datetime, datetime]:
        """The time from the last row to the end of the request, in which nothing came."""
        if self.last is None:
            return (
                (self.request.start, self.window.stop)
                if self.descending
                else (self.window.start, self.request.stop)
            )
        return (self.request.start, self.rest[1]) if self.descending else (self.rest[0], self.request.stop)

    @property
    def gap_in_window(self) -> tuple[datetime, datetime]:
        """The time between the window's first unit and the first row beyond the window, if that was reached."""
        for key in self.keys:
            start, stop = self.hours.unit(key)
            if self.descending and stop <= self.window.start:
                return stop, self.first[0]
            if not self.descending and start >= self.window.stop:
                return self.first[1], start
        return self.window.start, self.window.stop

    @property
    def bounds(self) -> tuple[datetime, datetime]:
        """The bounds of the window, in the order of the page."""
        window = self.window
        return (window.stop, window.start) if self.descending else (window.start, window.stop)

    def ends_range(self, start: datetime, stop: datetime, *, descending: bool) -> bool:
        """Whether the window is the last of a range; its first second, read from the other side, is not."""
        ends = (stop, start) if self.descending else (start, stop)
        return self.bounds == ends or (self.bounds[1] == ends[1] and self.descending == descending)

    def rows_in(self, start: datetime, stop: datetime) -> Sequence[int]:
        """The rows that start in `[start, stop)`."""
        starts = self.starts
        if self.keys is not starts:
            return [row for row, row_start in enumerate(starts) if start <= row_start < stop]
        if self.descending:
            count = range(len(starts))
            first = bisect_left(count, True, key=lambda row: starts[row] < stop)
            return range(first, bisect_left(count, True, key=lambda row: starts[row] < start))
        return range(first_from(starts, start), first_from(starts, stop))

    def shows_empty(self, window: Window) -> bool:
        """Whether a check shows that another window is empty, as the page that it checks did."""
        start, stop = self.gap_in_window if self.reached_end else self.gap
        is_claimed = window.state == "pending" and window.is_claimed_empty and window is not self.window
        return is_claimed and start <= window.start and window.stop <= stop

    def starts_in(self, start: datetime, stop: datetime) -> Sequence[datetime]:
        """The starts in `[start, stop)`, in the order of the page."""
        rows = self.rows_in(start, stop)
        if isinstance(rows, range):
            return self.starts[rows.start : rows.stop]
        return sorted((self.starts[row] for row in rows), reverse=self.descending)

    def rows_of_first_unit(self) -> int:
        """Rows of the page in the first unit of its window."""
        return len(self.rows_in(*self.first))

    def rows_of_rest(self) -> int:
        """Rows of the page in the first unit of what is not complete."""
        start, stop = self.rest
        if start >= stop:
            return 0
        unit = self._unit(stop - SECOND if self.descending else start)
        return len(self.rows_in(max(start, unit[0]), min(stop, unit[1])))
