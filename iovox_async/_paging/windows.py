"""Reads a range of seconds as windows, so that each call is delivered exactly once however the data changes.

A window covers the seconds `[start, stop)`. Its request also covers the second before it and at least the second after it, whose
rows are dropped. So each second belongs to one window, and it does not matter whether the server treats the bounds as inclusive,
or shows starts rounded to the second. If a page may be truncated, only its complete seconds are kept; the last, possibly partial,
second is requested again. So each second comes from one page, and calls that are inserted, deleted or reordered between two
requests are neither lost nor repeated. `evidence` decides whether a page is accepted as the end of its window.

A *claim* is what a page says by being short: that no calls follow it in its window. A *check* is a second, different request that
confirms a claim or refutes it. A *unit* is what is read as a whole: a second, or an hour that occurs twice. The *tail* is the end
of the range, see `early_tail`.

Invariants:
- A plan does no I/O, reads no clock and keeps no ids. It accepts pages in any order.
- The windows, in the order of delivery, cover the undelivered range without gap or overlap. A window is pending (not
  requested), in flight, or done (its rows wait for delivery).
- No request starts or ends in an hour that occurs twice or never on the account's clock: its bounds are moved out of it, and
  rows outside the window are dropped. An hour that occurs twice is read as a whole, like a second (`UncutHours`).
- The rest of a window stays one pending window until a request may start. Only then is the next window split off its
  front, sized by the traffic seen so far. If windows were cut ahead of time, one burst of calls would cut months into millions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._params.account_time import UncutHours
from .._wording import Wording
from ..errors import PagingError
from .early_page import EarlyPage
from .early_tail import EarlyTail
from .evidence import CHECK_ROWS, Claim, Evidence
from .order import DeliveryOrder, rows_of_page
from .row_limit import RowLimit
from .truncated import rest_of_truncated
from .types import (
    MAX_PAGE_ROWS,
    SECOND,
    UNREADABLE_HINT,
    PageRequest,
    PageResult,
    RowSlice,
    ServerPageLimit,
    check_rows,
    fill_missing_starts,
)
from .window import Page, Window, request_bounds, second_before
from .window_queue import WindowQueue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

#: Rows of the very first request, which measures the traffic and is answered quickly.
FIRST_PAGE_ROWS: Final = 250
#: How often a window that keeps failing is split, at most, without a success in between.
MAX_SPLITS: Final = 2
#: Pages in a row that finish no second of a window, after which a PagingError is raised: they contradict each other.
MAX_PAGES_WITHOUT_PROGRESS: Final = 32


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
        expected_until: calls after it may not have arrived yet; None: all have.
        early_page: request a full page along with the first, small one.
        early_tail: request the end of a long range early, so that its check takes no time of its own.
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
        expected_until: datetime | None = None,
        early_page: bool = False,
        early_tail: bool = True,
    ) -> None:
        self.limit: int = limit
        self.server_limit: ServerPageLimit = server_limit or ServerPageLimit()
        self._start, self._stop = start, stop
        self._descending = descending
        self._ordered = ordered
        self._order = "call_start_DESC" if descending else "call_start_ASC"
        self._delivery = DeliveryOrder(descending, resume)
        self._hours = hours
        windows = [Window(start, stop)] if start < stop else []
        self._queue = WindowQueue(windows, descending, hours)
        self._first_page_rows: int | None = min(first_page_rows, limit)
        self._evidence = Evidence(self.server_limit, expected_until)
        self._early_page = EarlyPage(early_page)
        self._early_tail = EarlyTail(early_tail)
        self._row_limit = RowLimit()
        self._splits = 0

    @property
    def done(self) -> bool:
        """Whether all rows are delivered."""
        return not self._queue.windows

    @property
    def exhausted(self) -> bool:
        """Whether no request is left to make or to wait for."""
        return all(window.state == "done" for window in self._queue.windows)

    @property
    def in_flight(self) -> int:
        """Requests that have started and have no page yet."""
        return self._early_page.in_flight + self._queue.in_flight

    @property
    def buffered(self) -> int:
        """Pages received that wait for delivery, or for the proof that a second is complete."""
        return (self._early_page.result is not None) + self._queue.pages

    @property
    def seconds_left(self) -> float:
        """Seconds of the range whose calls are not delivered yet."""
        return self._queue.seconds

    def next_rows(self) -> RowSlice | None:
        """Removes and returns the next rows to deliver; None if they have not been received yet, or were discarded."""
        return self._queue.next_rows(ordered=self._ordered)

    def discard(self) -> None:
        """Drops the pages that wait for delivery, since the stream is closed."""
        self._early_page.drop()
        self._queue.discard_rows()

    def can_request(self, *, ahead: bool) -> bool:
        """Whether a request may start; without `ahead`, only the one for the rows to deliver next."""
        if ahead:
            return (
                self._early_page.may_start(self._queue.windows, self.limit)
                or self._next_pending() is not None
            )
        return any(window.state == "pending" for window in self._queue.windows[:1])

    def _next_pending(self) -> int | None:
        """The index of the next window to request."""
        if self._early_tail.has_check(self._queue.windows):
            return len(self._queue.windows) - 1
        return self._queue.next_pending()

    def is_next(self, request: PageRequest) -> bool:
        """Whether its rows are the next to deliver, or the last of all, which may have to be checked meanwhile."""
        ends = self._queue.windows[:1] + self._queue.windows[-1:]
        return request is self._early_page.request or any(request is end.request for end in ends)

    def next_request(self) -> PageRequest:
        """Starts the next request: of a pending window, or of the early page; call only after `can_request` returned True."""
        index = self._next_pending()
        if index is None:
            return self._early_page.start(self._queue.windows, self.limit)
        window = self._queue.windows[index]
        if window.second_reader is not None:
            window.request = window.second_reader.next_request()
        else:
            limit = min(self.limit, self._row_limit.rows)
            if self._first_page_rows is not None:
                limit, self._first_page_rows = min(limit, self._first_page_rows), None
            elif not window.is_check:
                window = self._split_off_window(index, limit)
            window.request = self._request_for(window, limit)
        window.state = "in flight"
        return window.request

    def _request_for(self, window: Window, limit: int) -> PageRequest:
        """The request for a window: with the second before and after it, and so far beyond its end as `evidence` needs."""
        order = self._order
        # The calls of one unit are put in order when they are delivered, so it can be read from either side.
        if window.stop <= self._hours.unit(window.start)[1]:
            order = "call_start_DESC" if window.reverses_order else "call_start_ASC"
        start, stop = request_bounds(window.start, window.stop, self._hours)
        earliest = second_before(self._start)
        beyond = (self._stop - earliest) / SECOND
        if window.claim is None:
            end, last = (start, earliest) if order == "call_start_DESC" else (stop, self._stop)
            beyond = self._evidence.overlap_seconds(limit, end, last, far=not self._row_limit.is_reduced)
        if window.is_check or self._early_tail.covers(window):
            # A check reaches up to the next call, however far it is: that proves that there is none before it.
            limit = min(limit, CHECK_ROWS)
        if order == "call_start_DESC":
            start -= min(beyond, max(0.0, (start - earliest) / SECOND)) * SECOND
        else:
            stop += min(beyond, max(0.0, (self._stop - stop) / SECOND)) * SECOND
        start, stop = self._hours.bound_before(start), self._hours.bound_after(stop)
        limit = self._evidence.unused_limit(window.claim, start, stop, limit)
        largest = self.server_limit.largest_page
        return PageRequest(start, stop, order, limit, attempts=window.attempts, largest_page=largest)

    def _split_off_window(self, index: int, limit: int) -> Window:
        """Splits the next window to request off the front of a pending one."""
        window = self._queue.windows[index]
        ends = (window.stop, window.start) if self._descending else (window.start, window.stop)
        page_rows = self.server_limit.full_page(limit)
        if not self._row_limit.is_reduced and self._early_tail.may_start(self._queue.windows, index):
            seconds = self._evidence.seconds_of_tail(page_rows, *ends)
            if 0 < seconds < window.seconds:
                self._queue.split(index, int(window.seconds) - seconds)
                return self._early_tail.start(self._queue.windows[-1])
        seconds = max(1, int(self._evidence.seconds_of_window(page_rows, *ends)))
        if seconds < window.seconds:
            self._queue.split(index, seconds)
        return self._queue.windows[index]

    def accept(self, request: PageRequest, result: PageResult) -> None:
        """Adds the page that answers a request.

        Raises:
            PagingError: the server does not filter or order as requested, contradicts itself, no start in a truncated page
                can be read, or a second has more calls than can be read.
        """
        if request is self._early_page.request:
            self._early_page.receive(result)
            return
        self._accept(request, result)
        is_full = len(result.starts) >= request.limit
        if taken := self._early_page.take_over(self._queue.windows, is_full=is_full):
            self._accept(*taken)

    def _accept(self, request: PageRequest, result: PageResult) -> None:
        window = self._queue.windows[index := self._queue.index_of(request)]
        window.state, window.request, window.attempts = "pending", None, 0
        self._splits = 0
        first = window.stop - SECOND if request.order == "call_start_DESC" else window.start
        starts = fill_missing_starts(result.starts, request, first)
        page = Page(window, request, result, starts, self._hours)
        check_rows(page.keys, request)
        self.server_limit.record_page(result, request.limit)
        if not any(failed.attempts for failed in self._queue.windows):
            self._row_limit.record_page(len(starts), request.limit, self.limit)
        if window.second_reader is not None:
            self._accept_second(index, request, result, starts)
            return
        own_starts = page.starts_in(window.start, window.stop)
        unreadable, claim = result.is_unreadable, window.claim
        if unreadable:
            # A second request tells errors, which came instead of calls, from calls whose starts cannot be read.
            accepted = claim is not None and claim.is_unreadable and len(starts) >= claim.rows
        elif claim is not None and not claim.is_unreadable:
            accepted = self._accept_check(page, own_starts)
            index = self._queue.windows.index(window)
        else:
            accepted = not self._is_doubtful(page, own_starts)
        claims_end = self.server_limit.claims_end(request, len(starts))
        if claim is not None and accepted and page.may_end_in_first_unit:
            # The check may have been cut in the same second as the page that it checks: both say nothing of what follows.
            claims_end = False
        if page.reached_end or (claims_end and accepted):
            self._record(page, own_starts, page.bounds[1])
            self._queue.replace(index, [self._done(page, window.start, window.stop)])
            return
        if unreadable and not page.is_unit and accepted:
            raise PagingError(
                f"no call_start can be read in the page for {request.start} .. {request.stop}, so it is unknown "
                "where the page ends",
                hint=UNREADABLE_HINT,
            )
        if unreadable and (claims_end or not page.is_unit):
            self._request_again(index, page)
            return
        if claims_end:
            self._record(page, own_starts, page.bounds[1], doubted=True)
            self._request_again(index, page)
        else:
            if own_starts:
                self._record(page, own_starts, own_starts[-1], measures=len(starts) == request.limit)
            self._early_tail.drop(window)
            rest = rest_of_truncated(page, self._descending, self.server_limit)
            if rest[-1].is_untouched:
                self._queue.join_following(index, rest[-1], page)
            self._keep_complete(index, page, rest)

    def _record(
        self,
        page: Page,
        starts: Sequence[datetime],
        until: datetime,
        *,
        doubted: bool = False,
        measures: bool = True,
    ) -> None:
        """Records the traffic that a page shows, unless it is that of the early end of the range."""
        if not self._early_tail.covers(page.window):
            self._evidence.record(starts, page.bounds[0], until, doubted=doubted, measures=measures)

    def _is_doubtful(self, page: Page, own_starts: Sequence[datetime]) -> bool:
        """Whether the claim of a page, whose rows in its window are `own_starts`, must be checked."""
        # The full page, if it is on its way, is the check.
        is_unsure = self._early_page.is_coming or (page.may_end_in_first_unit and self._evidence.is_new)
        if is_unsure or page.rows_of_first_unit() < page.window.rows_seen_before:
            return True
        is_last = page.ends_range(self._start, self._stop, descending=self._descending)
        is_read = is_last and not (self._early_tail.covers(page.window) or self._queue.has_claim(page.window))
        read = (self._start, self._stop, min(self.limit, self._row_limit.rows)) if is_read else None
        return self._evidence.is_doubtful(own_starts, page.gap, read)

    def _request_again(self, index: int, page: Page) -> None:
        """Keeps the seconds that a page is certain to contain completely; the rest of its window is requested again, as a check."""
        rest = Window(*page.rest, reverses_order=page.window.reverses_order)
        if not page.may_end_in_first_unit:
            self._queue.join_following(index, rest, page)
        rest.claim = Claim.of(page, rest)
        self._keep_complete(index, page, [rest])

    def _keep_complete(self, index: int, page: Page, rest: list[Window]) -> None:
        """Replaces the window of a page by the seconds that it finished, and the windows of those that it did not."""
        if page.pages_without_progress > MAX_PAGES_WITHOUT_PROGRESS:
            raise PagingError(
                f"the server contradicts itself: {page.pages_without_progress} responses for the calls of {page.first[0]} did not agree",
                hint=Wording("Try again later, or with a smaller {page_size}."),
            )
        rest[0].pages_without_progress = page.pages_without_progress
        self._queue.replace(index, [self._done(page, *page.complete), *rest])

    def _accept_check(self, page: Page, own_starts: Sequence[datetime]) -> bool:
        """Compares a page with the claim that it checks; returns whether they agree."""
        claim = page.window.claim
        assert claim is not None
        until, end = claim.until, page.bounds[1]
        gap = page.rows_in(min(page.first[0], until), max(page.first[1], until))
        in_second = page.rows_of_first_unit()
        if len(gap) > in_second or in_second != claim.in_second:
            self._evidence.reject(claim, len(gap) - claim.in_second)
            return False
        if not self._early_tail.covers(page.window):
            self._evidence.confirm()
        if until != end:
            return not self._is_doubtful(page, own_starts)
        claims_end = self.server_limit.claims_end(page.request, len(page.starts))
        if page.reached_end or (claims_end and not page.may_end_in_first_unit):
            self._queue.drop_empty(page)
        return True

    def _accept_second(
        self, index: int, request: PageRequest, result: PageResult, starts: Sequence[datetime]
    ) -> None:
        window = self._queue.windows[index]
        assert window.second_reader is not None
        pages = window.second_reader.accept(request, result, starts)
        if pages is not None:
            rows = self._delivery.slices_of_second(window.start, pages)
            self._queue.replace(index, [Window(window.start, window.stop, "done", rows=rows)])

    def splits_left(self, request: PageRequest) -> int:
        """How often the window of a request that keeps failing may still be split."""
        if request is self._early_page.request:
            return MAX_SPLITS
        window = self._queue.windows[self._queue.index_of(request)]
        if window.second_reader is not None or (window.seconds <= 1 and request.limit <= 1):
            return 0
        # A failure of a request made before the limit was lowered shows nothing new: it is split like the others.
        return MAX_SPLITS - self._splits + (request.limit > self._row_limit.rows)

    def split(self, request: PageRequest, attempts: int) -> None:
        """Replaces a request that failed after `attempts` attempts by smaller ones; call only if splits are left."""
        if request is self._early_page.request:
            self._early_page.request = None
            self._row_limit.record_failure(request.limit, self.limit)
            return
        self._early_page.drop()
        index = self._queue.index_of(request)
        window = self._queue.windows[index]
        is_tail = self._early_tail.drop(window)
        window.state, window.request, window.attempts = "pending", None, attempts
        # Requests that were in flight together fail together; that counts as one failure.
        self._splits += request.limit <= self._row_limit.rows
        # The smaller limit is kept for later requests. The smaller duration is not, because density varies.
        is_full = self._row_limit.record_failure(request.limit, self.limit)
        self._first_page_rows = None if is_full or is_tail or window.claim else max(1, request.limit // 2)
        if window.seconds > 1:
            self._queue.split(index, max(1, int(window.seconds // 2)))

    def _done(self, page: Page, start: datetime, stop: datetime) -> Window:
        """A finished window with the rows of a page that start in `[start, stop)`."""
        rows = page.rows_in(start, stop)
        if isinstance(rows, range):
            slices = [self._delivery.slice(page.result, page.starts, rows)]
        else:
            pages = [rows_of_page(page.result, page.starts, page.result.ids(), start, stop)]
            slices = self._delivery.slices_of_second(start, pages)
        return Window(start, stop, "done", rows=slices)
