"""Reads a range of seconds as windows, so that each call is delivered exactly once however the data changes.

A window covers the seconds `[start, stop)` and requests `start .. stop` in one request; rows of second `stop` are dropped.
So each second belongs to one window, and it does not matter whether the server treats the end as inclusive.
If a page may be truncated, only its complete seconds are kept; the last, possibly partial, second is requested again. So
each second comes from one page, and calls that are inserted, deleted or reordered between two requests are neither lost
nor repeated.

Invariants:
- A plan does no I/O, reads no clock and keeps no ids. It accepts pages in any order.
- The windows, in the order of delivery, cover the undelivered range without gap or overlap. A window is pending (not
  requested), in flight, or done (its rows wait for delivery).
- No request starts or ends in an hour that occurs twice or never on the account's clock: its bounds are moved out of it, and
  rows outside the window are dropped. An hour that occurs twice is read as a whole, like a second (`UncutHours`).
- The rest of a window stays one pending window until a request may start. Only then is the next window split off its
  front, sized by the latest density. If windows were cut ahead of time, one burst of calls would cut months into millions.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from .._params.account_time import UncutHours
from ..errors import PagingError
from .order import DeliveryOrder, rows_of_page
from .single_second import SingleSecondReader
from .types import (
    MAX_PAGE_ROWS,
    PAGES_HINT,
    SECOND,
    PageRequest,
    PageResult,
    RowSlice,
    ServerPageLimit,
    Window,
    check_rows,
    fill_missing_starts,
)

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["WindowPlan"]

#: Rows of the very first request, which measures the density and is answered quickly.
FIRST_PAGE_ROWS: Final = 250
#: Pages that a window should contain: rows beyond a page are kept, while a half-empty page is a wasted request. Simulated
#: over smooth, daily and weekly patterns: 1.5 takes up to 1.7 times the ideal number of requests, 2.5 up to 1.55, and 3
#: needs no fewer round trips.
WINDOW_PAGES: Final = 2.5
#: Smallest density to assume, as a share of the average so far. After a quiet night, windows sized by the night's density
#: would reach far into the day, and their pages would only wait for delivery.
MIN_DENSITY_SHARE: Final = 0.3
#: How often a window that keeps failing is split, at most, without a success in between.
MAX_SPLITS: Final = 2


@frozen
class _Page:
    """A received page: the start of each row, and the same in order, see `UncutHours.in_order`."""

    request: PageRequest
    result: PageResult
    starts: list[datetime]
    keys: list[datetime]

    @property
    def is_short(self) -> bool:
        return len(self.starts) < self.request.limit


class WindowPlan:
    """Plans the requests for the seconds `[start, stop)`.

    Args:
        start: the first second.
        stop: the second after the last.
        descending: read the latest calls first.
        ordered: deliver windows in order; else as they finish.
        limit: rows per request; may be changed between requests.
        server_limit: the server's page limit, as observed by earlier streams.
        first_page_rows: rows of the very first request.
        resume: second and id of the last call that an earlier stream delivered.
        hours: the hours of the range that must not be cut.
    """

    def __init__(
        self,
        start: datetime,
        stop: datetime,
        *,
        descending: bool = False,
        ordered: bool = True,
        limit: int = MAX_PAGE_ROWS,
        server_limit: ServerPageLimit | None = None,
        first_page_rows: int = FIRST_PAGE_ROWS,
        resume: tuple[datetime, int] | None = None,
        hours: UncutHours = UncutHours(),  # noqa: B008 - frozen
    ) -> None:
        self.limit: int = limit
        self.server_limit: ServerPageLimit = server_limit or ServerPageLimit()
        self._descending = descending
        self._ordered = ordered
        self._order = "call_start_DESC" if descending else "call_start_ASC"
        self._delivery = DeliveryOrder(descending, resume)
        self._hours = hours
        self._windows = [Window(start, stop)] if start < stop else []
        self._first_page_rows: int | None = min(first_page_rows, limit)
        #: Calls per second after the latest page; None: unknown, so request the whole rest.
        self._density: float | None = None
        #: Rows and seconds of all pages, for the average density.
        self._total_rows = 0
        self._total_seconds = 0.0
        #: The limit after failures of larger pages.
        self._max_limit = MAX_PAGE_ROWS
        self._splits = 0

    @property
    def done(self) -> bool:
        """Whether all rows are delivered."""
        return not self._windows

    @property
    def exhausted(self) -> bool:
        """Whether no request is left to make or to wait for."""
        return all(window.state == "done" for window in self._windows)

    @property
    def in_flight(self) -> int:
        """Requests that have started and have no page yet."""
        return sum(window.state == "in flight" for window in self._windows)

    @property
    def buffered(self) -> int:
        """Pages received that wait for delivery, or for the proof that a second is complete."""
        return sum(window.pages for window in self._windows)

    @property
    def seconds_left(self) -> float:
        """Seconds of the range whose calls are not delivered yet."""
        return sum(window.seconds for window in self._windows)

    def next_rows(self) -> RowSlice | None:
        """Removes and returns the next rows to deliver; None if they have not been received yet."""
        for index, window in enumerate(self._windows):
            if window.state == "done":
                rows = window.rows.pop(0)
                if not window.rows:
                    del self._windows[index]
                return rows
            if self._ordered:
                return None
        return None

    def can_request(self, *, ahead: bool) -> bool:
        """Whether a request may start; without `ahead`, only the one for the rows to deliver next."""
        windows = self._windows if ahead else self._windows[:1]
        return any(window.state == "pending" for window in windows)

    def next_request(self) -> PageRequest:
        """Starts the request of the first pending window; call only after `can_request` returned True."""
        index = next(index for index, window in enumerate(self._windows) if window.state == "pending")
        window = self._windows[index]
        if window.second_reader is not None:
            window.request = window.second_reader.next_request()
        else:
            limit = min(self.limit, self._max_limit)
            if self._first_page_rows is not None:
                limit, self._first_page_rows = min(limit, self._first_page_rows), None
            else:
                window = self._split_off_window(index, limit)
            window.request = PageRequest(
                self._hours.bound_before(window.start),
                self._hours.bound_after(window.stop),
                "call_start_ASC" if window.stop <= self._hours.unit(window.start)[1] else self._order,
                limit,
                attempts=window.attempts,
                largest_page=self.server_limit.largest_page,
            )
        window.state = "in flight"
        return window.request

    def _split_off_window(self, index: int, limit: int) -> Window:
        """Splits the next window to request off the front of a pending one."""
        window = self._windows[index]
        seconds = window.seconds
        if self._density is not None:
            target = WINDOW_PAGES * self.server_limit.full_page(limit) / self._density
            # A small rest is included rather than requested on its own.
            seconds = min(seconds, target) if target * 1.2 < seconds else seconds
        seconds = max(1, int(seconds))
        if seconds < window.seconds:
            self._split_window(index, seconds)
        return self._windows[index]

    def _split_window(self, index: int, seconds: int) -> None:
        """Splits a window so that its first part, in the order of delivery, has `seconds` seconds."""
        window = self._windows[index]
        middle = window.stop - seconds * SECOND if self._descending else window.start + seconds * SECOND
        middle, after = self._hours.bound_before(middle), self._hours.bound_after(middle)
        middle = middle if middle > window.start else after
        if middle >= window.stop:
            return
        # The attempts of a failing window count for the part that replaces it, not for the other.
        if self._descending:
            parts = [Window(middle, window.stop, attempts=window.attempts), Window(window.start, middle)]
        else:
            parts = [Window(window.start, middle, attempts=window.attempts), Window(middle, window.stop)]
        self._windows[index : index + 1] = parts

    def accept(self, request: PageRequest, result: PageResult) -> None:
        """Adds the page that answers a request.

        Raises:
            PagingError: the server does not filter or order as requested, no start in a truncated page can be read, or a
                second has more calls than can be read.
        """
        index = self._index_of(request)
        window = self._windows[index]
        window.state, window.request, window.attempts = "pending", None, 0
        self._splits = 0
        starts = fill_missing_starts(result.starts, request)
        page = _Page(
            request, result, starts, self._hours.in_order(starts, request.start, request.stop + SECOND)
        )
        check_rows(page.keys, request)
        rows = len(starts)
        self.server_limit.record(rows, request.limit)
        if window.second_reader is not None:
            self._accept_second(index, request, result, starts)
            return
        complete = request.is_last_page(rows)
        if not complete and window.seconds > 1 and all(start is None for start in result.starts):
            raise PagingError(
                f"no call_start can be read in the page for {request.start} .. {request.stop}, so it is unknown "
                "where the page ends",
                hint=PAGES_HINT,
            )
        self._update_density(window, request, page.keys, complete=complete)
        if complete:
            self._finish(index, page)
        elif request.order == "call_start_DESC":
            self._accept_truncated_descending(index, page)
        else:
            self._accept_truncated_ascending(index, page)

    def _accept_truncated_ascending(self, index: int, page: _Page) -> None:
        window, last_second = self._windows[index], page.keys[-1].replace(microsecond=0)
        if last_second >= window.stop:
            # A row of the second after the window was received, so the window itself is complete.
            self._finish(index, page)
        elif page.keys[0].replace(microsecond=0) < last_second > window.start:
            done = self._done_window(window.start, last_second, page)
            self._replace(index, [done, Window(last_second, window.stop)])
        else:
            # All rows are in one second. It becomes a window of its own; the seconds before it are empty.
            second = self._single_second(window, max(last_second, window.start), page)
            self._replace(index, [second, Window(second.stop, window.stop)])

    def _accept_truncated_descending(self, index: int, page: _Page) -> None:
        window, last_second = self._windows[index], page.keys[-1].replace(microsecond=0)
        complete_from = max(window.start, self._hours.unit(last_second)[1])
        in_one_second = page.keys[0].replace(microsecond=0) == last_second < window.stop
        if page.is_short and in_one_second and complete_from > window.start:
            # All rows are in one second; the seconds after it are empty.
            second = self._single_second(window, last_second, page)
            self._replace(index, [second, Window(window.start, second.start)])
        elif complete_from >= window.stop:
            # Not even the last second is complete. It is read on its own, ascending, so that the rows of the second
            # after it, which come first in this direction, do not take up the page.
            last = max(window.start, self._hours.unit(window.stop - SECOND)[0])
            self._replace(index, [Window(last, window.stop), Window(window.start, last)])
        else:
            done = self._done_window(complete_from, window.stop, page)
            self._replace(index, [done, Window(window.start, complete_from)])

    def _single_second(self, window: Window, second: datetime, page: _Page) -> Window:
        """The window of the second that contains all rows of a truncated page which are not before it."""
        first, last = self._hours.unit(second)
        unit = Window(max(first, window.start), min(last, window.stop))
        start, stop = self._hours.bound_before(unit.start), self._hours.bound_after(unit.stop)
        own_request = evolve(page.request, start=start, stop=stop)
        # A page shorter than its limit is page 1 of the second too, because it contains no other rows. A full page means
        # that there are more, which a larger page may contain at once.
        if own_request == page.request or page.is_short:
            owned = unit.start, unit.stop
            unit.second_reader = SingleSecondReader(
                own_request, page.result, self.server_limit, owned=owned, complete_at=last
            )
        return unit

    def _accept_second(
        self, index: int, request: PageRequest, result: PageResult, starts: list[datetime]
    ) -> None:
        window = self._windows[index]
        assert window.second_reader is not None
        pages = window.second_reader.accept(request, result, starts)
        if pages is not None:
            rows = self._delivery.slices_of_second(window.start, pages)
            self._replace(index, [Window(window.start, window.stop, "done", rows=rows)])

    def splits_left(self, request: PageRequest) -> int:
        """How often the window of a request that keeps failing may still be split."""
        window = self._windows[self._index_of(request)]
        if window.second_reader is not None or (window.seconds <= 1 and request.limit <= 1):
            return 0
        # A failure of a request made before the limit was lowered shows nothing new: it is split like the others.
        return MAX_SPLITS - self._splits + (request.limit > self._max_limit)

    def split(self, request: PageRequest, attempts: int) -> None:
        """Replaces a request that failed after `attempts` attempts by smaller ones; call only if splits are left."""
        index = self._index_of(request)
        window = self._windows[index]
        window.state, window.request, window.attempts = "pending", None, attempts
        # Requests that were in flight together fail together; that counts as one failure.
        self._splits += request.limit <= self._max_limit
        # The smaller limit is kept for later requests. The smaller duration is not, because density varies.
        self._max_limit = max(1, min(self._max_limit, request.limit // 2))
        self._first_page_rows = None
        if window.seconds > 1:
            self._split_window(index, max(1, int(window.seconds // 2)))

    def _index_of(self, request: PageRequest) -> int:
        return next(index for index, window in enumerate(self._windows) if window.request is request)

    def _finish(self, index: int, page: _Page) -> None:
        window = self._windows[index]
        self._replace(index, [self._done_window(window.start, window.stop, page)])

    def _done_window(self, start: datetime, stop: datetime, page: _Page) -> Window:
        """A finished window with the rows of a page that start in `[start, stop)`."""
        starts, result = page.starts, page.result
        if page.keys is not starts:
            rows = [rows_of_page(result, starts, result.ids(), start, stop)]
            return Window(start, stop, "done", rows=self._delivery.slices_of_second(start, rows))
        if page.request.order == "call_start_DESC":
            count = range(len(starts))
            first = bisect_left(count, True, key=lambda row: starts[row] < stop)
            end = bisect_left(count, True, key=lambda row: starts[row] < start)
        else:
            first, end = bisect_left(starts, start), bisect_left(starts, stop)
        return Window(start, stop, "done", rows=[self._delivery.slice(result, starts, range(first, end))])

    def _replace(self, index: int, windows: list[Window]) -> None:
        """Replaces a window by others, in the order of delivery, without those that have no seconds or no rows."""
        kept = []
        for window in sorted(windows, key=lambda window: window.start, reverse=self._descending):
            window.rows = [rows for rows in window.rows if len(rows.rows)]
            if window.start < window.stop and (window.state != "done" or window.rows):
                kept.append(window)
        self._windows[index : index + 1] = kept

    def _update_density(
        self, window: Window, request: PageRequest, starts: list[datetime], *, complete: bool
    ) -> None:
        rows = len(starts)
        descending = request.order == "call_start_DESC"
        first, last = (window.stop, window.start) if descending else (window.start, window.stop)
        end = last if complete else starts[-1]
        self._total_rows += rows
        self._total_seconds += abs(end - first) / SECOND
        if not rows:
            # The window was empty, so the next one is the whole rest.
            self._density = None
        elif complete or rows == request.limit:
            # From the first row on: the empty time before it says nothing about the time after the page.
            density = rows / max(1.0, abs(end - starts[0]) / SECOND)
            average = self._total_rows / max(1.0, self._total_seconds)
            self._density = max(density, MIN_DENSITY_SHARE * average)
