"""Decides whether a page is accepted as the end of its window.

A page claims the end if it is empty, or shorter than both its limit and the largest page so far. A server may be wrong once:
it returns no calls while it restarts, cuts a list, or lowers its page limit. So a claim is accepted only if

- the page contains a row beyond the window: then no row of the window can be missing at its end; or
- a second, different request from the last row's second on finds nothing new; or
- the window is the last of a short read in which no page was wrong or is in doubt, and by the traffic so far, hardly any calls are
  expected between the last row and the end of the range.

To have such rows beyond the window, the range of a request is longer than its window: by the time in which some calls are
expected, or up to the end of the range while nothing reliable is expected. That costs a few rows, but no request.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

import msgspec

from .._wording import Wording
from ..errors import PagingError
from .traffic import Traffic
from .types import MAX_PAGE_ROWS, SECOND, ServerPageLimit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from .window import Page, Window

#: Rows of a request that checks a claim: it is answered quickly, and differs from the request it checks.
CHECK_ROWS: Final = 250
#: A request reaches past its window by the time in which this many calls are expected. Simulated: with 20, smooth and daily
#: traffic needs no checks inside the range.
OVERLAP_ROWS: Final = 20
#: The most of them, as a share of a page, after checks that agreed: the traffic has longer gaps than expected.
MAX_OVERLAP_SHARE: Final = 0.5
#: Calls expected at the end of a range that is requested early: some of them prove the end of the window before it.
TAIL_ROWS: Final = 40
#: A claim of the range's end is checked if this many more calls are expected, or half a page of them. For reads of more pages
#: the number is smaller, down to 0: one more request costs little beside many.
DOUBTFUL_ROWS: Final = 5.0
SHORT_READ_PAGES: Final = 25
#: A check that finds this many new rows proves the claim wrong; fewer rows may have been inserted meanwhile.
CLEAR_ROWS: Final = 10
#: Wrong claims in one read, after which a PagingError is raised.
MAX_REJECTED: Final = 16
#: Calls by which a page counts as usual, so that a few calls do not change what is expected.
USUAL_CALLS: Final = 10
#: The weight of the latest page, if it is full, in the error of what is expected.
ERROR_SHARE: Final = 0.3
#: Full pages after which that error is known.
TRIED_PAGES: Final = 4
#: The relative error above which windows have several pages: they are read one after the other and are all full but the last,
#: while windows of one page would often be half full, or overflow. Simulated, as the shares of a page that a window of one page may
#: have, over smooth, daily, weekly and bursty patterns (`tests/support/evidence_costs.py`).
MAX_ERROR: Final = 0.2
UNCERTAIN_PAGES: Final = 3.0
PAGE_SHARES: Final = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1)


class Claim(msgspec.Struct, frozen=True):
    """A page that claimed that no calls follow the second where the window now begins.

    Attributes:
        in_second: rows of that second in the page.
        rows: all rows of the page.
        limit: the limit it was requested with.
        bounds: the start and stop of its request, and the limit.
        until: where the time ends that the page claims to be empty, in the order of the page; at most the end of the window.
        is_unreadable: no row of the page has a start that can be read. Perhaps they are errors instead of calls.
    """

    in_second: int
    rows: int
    limit: int
    bounds: tuple[datetime, datetime, int]
    until: datetime
    is_unreadable: bool = False

    @classmethod
    def of(cls, page: Page, rest: Window) -> Claim:
        """What a page claims of `rest`: what remains of its window, perhaps with some of the time after that."""
        request = page.request
        until = max(rest.start, request.start + SECOND) if page.descending else min(rest.stop, request.stop)
        bounds = request.start, request.stop, request.limit
        return cls(
            page.rows_of_rest(), len(page.starts), request.limit, bounds, until, page.result.is_unreadable
        )


class Evidence:
    """What the pages of one read say about its traffic.

    Args:
        server_limit: the server's page limit, as observed.
        expected_until: calls after it may not have arrived yet, so none are expected; None: no such time.
    """

    def __init__(self, server_limit: ServerPageLimit, expected_until: datetime | None) -> None:
        self._server_limit = server_limit
        self._expected_until = expected_until
        #: The calls of the latest page as a multiple of those usual at its hours; None: it had none, so nothing is expected.
        self._level: float | None = None
        #: The square of the relative error of what was expected lately, and the pages that showed it, as multiples of a full one.
        self._page_error, self._tried = 0.0, 0.0
        self._pages = 0
        self._rows = 0
        self._traffic = Traffic()
        self._overlap_rows: float = OVERLAP_ROWS
        self._rejected = 0
        #: The bounds and limits of the requests whose pages were wrong.
        self._wrong_requests: set[tuple[datetime, datetime, int]] = set()

    @property
    def is_new(self) -> bool:
        """Whether no row has been recorded, so that nothing is known of the traffic."""
        return not self._rows

    def record(
        self,
        starts: Sequence[datetime],
        first: datetime,
        end: datetime,
        *,
        measures: bool = True,
        doubted: bool = False,
    ) -> None:
        """Adds the rows of a page.

        Args:
            starts: the starts of its rows.
            first: the first second requested.
            end: the second up to which the page is complete, or claims to be.
            measures: the page shows how many calls to expect after it.
            doubted: the page claims to be complete up to `end`, and this has not been accepted yet.
        """
        rows = len(starts)
        if rows and not self._rows:
            # The empty time before the first call of all says nothing about the time after it.
            first = starts[0]
        self._pages += 1
        self._rows += rows
        level = self._level
        certain = end if not doubted else starts[-1] if starts else first
        start, stop = (certain, first) if end < first else (first, certain)
        if level is not None:
            # What was expected without having measured such hours says nothing about what is expected once they are measured.
            share = self._traffic.measured_share(start, stop)
            self._compare(rows, level * self._traffic.expected(start, stop), share)
        self._traffic.add(start, stop, starts[::-1] if end < first else starts)
        if not rows:
            # The window was empty, so the next one is the whole rest.
            self._level = None
        elif measures:
            usual = self._traffic.expected(start, stop)
            # Part of the difference is chance and part of it lasts: the square root is between the two.
            self._level = math.sqrt((rows + USUAL_CALLS) / (usual + USUAL_CALLS))

    def _compare(self, rows: int, expected: float, share: float) -> None:
        """Compares the rows of a page with those expected; only a share of it counts."""
        weight = share * min(1.0, max(rows, expected) / max(1, self._server_limit.largest_page))
        if weight > 0:
            self._tried += weight
            error = min(1.0, math.log((rows + USUAL_CALLS) / (expected + USUAL_CALLS)) ** 2)
            self._page_error += (
                max(ERROR_SHARE, 1 / max(1.0, self._tried)) * weight * (error - self._page_error)
            )

    def _error(self, page_rows: int) -> float | None:
        """The relative error to expect of the calls of a page; None: it is unknown yet."""
        dispersion = self._traffic.dispersion
        if self._tried < TRIED_PAGES:
            return None if dispersion is None else math.sqrt(max(1.0, dispersion) / page_rows)
        return math.sqrt(max(self._page_error, max(1.0, dispersion or 0.0) / page_rows))

    def _windows_of(self, pages: float, error: float | None) -> int:
        """The number of windows into which calls that fill so many pages are divided, so that few requests are needed."""
        if error is None or error > MAX_ERROR:
            return math.ceil(pages / UNCERTAIN_PAGES)

        def requests(windows: int) -> float:
            # One more for each window that has more calls than a page; the error is taken as normally distributed.
            return windows * (1 + math.erfc((windows / pages - 1) / (error * math.sqrt(2))) / 2)

        return min((math.ceil(pages / share) for share in PAGE_SHARES), key=requests)

    def seconds_of_window(self, page_rows: int, start: datetime, stop: datetime) -> float:
        """The seconds from `start` to the end of the first window, if the time to `stop` is divided into equal ones.

        Args:
            page_rows: the rows of a full page.
            start: where the window starts.
            stop: the end of the time to divide; it is before `start` if the latest calls are read first.
        """
        total = abs(stop - start) / SECOND
        if self._level is None:
            return total
        expected = self._level * self._traffic.expected(min(start, stop), max(start, stop))
        windows = self._windows_of(expected / page_rows, self._error(page_rows)) if expected else 1
        return total if windows <= 1 else self._traffic.time_of(expected / windows / self._level, start, stop)

    def seconds_of_tail(self, page_rows: int, start: datetime, stop: datetime) -> int:
        """The seconds at the end of a range that are to be requested early; 0: it is too short, or too little is known of it.

        Args:
            page_rows: the rows of a full page.
            start: where the rest of the range starts.
            stop: the end of the range; it is before `start` if the latest calls are read first.
        """
        error = self._error(page_rows)
        is_final = self._expected_until is None or stop <= self._expected_until
        if self._level is None or error is None or error > MAX_ERROR or not is_final:
            return 0
        expected = self._level * self._traffic.expected(min(start, stop), max(start, stop))
        if expected < SHORT_READ_PAGES * page_rows:
            return 0
        rows = min(TAIL_ROWS, max(1.0, MAX_OVERLAP_SHARE * page_rows))
        return math.ceil(self._traffic.time_of(rows / self._level, stop, start))

    def overlap_seconds(self, limit: int, end: datetime, last: datetime, *, far: bool) -> int:
        """The seconds by which a request for `limit` rows reaches past the end of its window, but not past `last`.

        Args:
            limit: the rows requested.
            end: the end of the window.
            last: the end of the range; it is before `end` if the latest calls are read first.
            far: it may reach up to `last`; False after failures, since shorter requests may succeed.
        """
        page_rows = self._server_limit.full_page(limit)
        error = self._error(page_rows)
        if far and (self._level is None or error is None or error > MAX_ERROR):
            return int(abs(last - end) / SECOND)
        if self._level is None or end == last:
            return 0
        rows = min(self._overlap_rows, max(1.0, MAX_OVERLAP_SHARE * page_rows))
        return math.ceil(self._traffic.time_of(rows, end, last))

    def is_doubtful(
        self,
        rows: Sequence[datetime],
        gap: tuple[datetime, datetime],
        read: tuple[datetime, datetime, int] | None,
    ) -> bool:
        """Whether a page that claims the end of its window must be checked.

        Args:
            rows: the starts of its rows in the window.
            gap: the time from its last row to the end of its request.
            read: the window is the last of this range, which is read with this limit; None: others follow it, or another page is
                in doubt.
        """
        if not rows and not self._rows:
            return True
        start, stop = gap
        # After a wrong page, others may be wrong as well.
        if read is None or self._wrong_requests:
            return start < stop
        if self._expected_until is not None:
            stop = min(stop, self._expected_until)
        first, end, limit = read
        page_rows = self._server_limit.full_page(limit)
        if self._pages:
            # A few calls say little about a long time.
            expected = min(self._rows + len(rows), self._traffic.expected(start, stop))
            pages = max(self._pages, self._traffic.expected(first, end) / page_rows)
        else:
            seconds = (stop - start) / SECOND
            expected = len(rows) * seconds / max(1.0, abs(rows[-1] - rows[0]) / SECOND, seconds)
            pages = 0
        doubtful = min(DOUBTFUL_ROWS, page_rows / 2)
        return expected > doubtful * max(0.0, 1 - pages / SHORT_READ_PAGES)

    def confirm(self) -> None:
        """Records a check that found nothing new: gaps are longer than assumed, so requests must reach further."""
        self._overlap_rows = min(2 * self._overlap_rows, MAX_PAGE_ROWS)

    def unused_limit(self, claim: Claim | None, start: datetime, stop: datetime, limit: int) -> int:
        """The limit of a request, or another one if a cache might answer it with a page that is doubted or was wrong."""
        used = self._wrong_requests if claim is None else {*self._wrong_requests, claim.bounds}
        # A check that is full would prove nothing.
        lower = range(limit, limit - 1 if claim is None else claim.rows, -1)
        limits = itertools.chain(lower, range(limit, MAX_PAGE_ROWS + 1), range(limit - 1, 0, -1))
        return next((number for number in limits if (start, stop, number) not in used), limit)

    def reject(self, claim: Claim, new_rows: int) -> None:
        """Records a check that found `new_rows` rows which the page of `claim` left out.

        Raises:
            PagingError: this has happened too often.
        """
        self._wrong_requests.add(claim.bounds)
        if new_rows < CLEAR_ROWS:
            return
        if claim.rows:
            self._server_limit.record_truncated(claim.rows, claim.limit)
        self._rejected += 1
        if self._rejected > MAX_REJECTED:
            raise PagingError(
                f"the server contradicts itself: {self._rejected} pages left out calls that a second request returned",
                hint=Wording("Try again later, or with a smaller {page_size}."),
            )
