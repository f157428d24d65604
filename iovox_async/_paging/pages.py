"""Reads a query by page numbers: `page=1, 2, 3, ...`.

Every page uses the same limit, because a page starts at its number times the limit. Page 1 is requested alone: if it is
shorter than the limit, the server may have a lower limit, and it is unknown which of the two its page numbers count in.
From there on the limit is the length of page 1, so that both are the same.
A page that claims to be the last is requested again, and accepted if it has as many rows as before and no later page has any.
Else the server has contradicted itself, and these pages are requested again.
The requests include the second before and the second after the range, whose rows are dropped, so that it does not matter
whether the server treats the bounds as inclusive.

Invariants:
- Pages are delivered in order.
- A call is delivered at most once, unless changing data moves it by more than `max_ahead` pages while they are read: the ids
  of more pages are not kept.
- The result is exact only while the data, the server's page limit and its order of calls with equal values do not change.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from .._params.account_time import UncutHours
from .._wording import Wording
from ..errors import PagingError
from .order import last_listed
from .types import SECOND, PageRequest, PageResult, RowSlice, ServerPageLimit
from .window import request_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

#: How often pages are requested again because a later page contradicts one that claimed to be the last.
MAX_CONTRADICTIONS: Final = 3
#: Pages in a row without ids and with the same starts, after which the server is taken to ignore the page number.
MAX_ALIKE: Final = 32


class PagePlan:
    """Plans the requests of one query by page numbers. See `WindowPlan` for what the shared methods mean.

    Args:
        start: the first second.
        end: the last second.
        order: a field with `_ASC` or `_DESC`.
        limit: rows per page.
        max_ahead: the number of pages that may be requested beyond the next one to deliver.
        server_limit: the server's page limit, as observed by earlier streams.
        hours: the hours that no request may start or end in.
    """

    def __init__(
        self,
        start: datetime,
        end: datetime,
        *,
        order: str,
        limit: int,
        max_ahead: int,
        server_limit: ServerPageLimit | None = None,
        hours: UncutHours = UncutHours(),  # noqa: B008 - frozen
    ) -> None:
        self.limit: int = limit
        self.server_limit: ServerPageLimit = server_limit or ServerPageLimit()
        self._start, self._end, self.order, self._max_ahead = start, end, order, max_ahead
        self._bounds = request_bounds(start, end + SECOND, hours)
        self._requested = 0
        self._delivered = 0
        self._last_page: int | None = None
        #: The first page that claims to be the last.
        self._claim: int | None = None
        self._contradictions = 0
        #: The pages that were requested again, because they had no readable start, or the calls of another page.
        self._doubted: set[int] = set()
        #: Those of them whose request is still to be made.
        self._again: list[int] = []
        self._requests: list[PageRequest] = []
        #: Requests in flight whose pages are requested again.
        self._stale: list[PageRequest] = []
        #: The body of each page that waits for delivery, its ids, and whether each row is in the range.
        self._results: dict[int, tuple[Any, Sequence[int | None], list[bool]]] = {}
        #: The ids of the last pages delivered, and those of each of them.
        self._delivered_ids: set[int | None] = set()
        self._recent_ids: deque[list[int | None]] = deque()
        self._page_of_ids: dict[int, int] = {}
        #: How many pages in a row without ids had the same starts, and these.
        self._alike = 0
        self._alike_starts: Sequence[datetime | None] = ()
        self._one_at_a_time = True
        #: A call was on two pages: calls move between pages, so others may be on none.
        self.has_moved_calls = False

    @property
    def done(self) -> bool:
        return self._last_page is not None and self._delivered >= self._last_page

    @property
    def in_flight(self) -> int:
        return len(self._requests) + len(self._stale)

    @property
    def buffered(self) -> int:
        return len(self._results)

    @property
    def seconds_left(self) -> float:
        return 0.0 if self.done else (self._end - self._start).total_seconds() + 1

    @property
    def exhausted(self) -> bool:
        return self._last_page is not None and all(
            page in self._results for page in range(self._delivered + 1, self._last_page + 1)
        )

    def discard(self) -> None:
        self._results.clear()

    def can_request(self, *, ahead: bool) -> bool:
        page = self._again[0] if self._again else self._requested + 1
        if (self._last_page is not None and page > self._last_page) or (
            self._one_at_a_time and self._requests
        ):
            return False
        if self._claim is not None and not self._again:
            # A page in flight may claim to be the last too: only the first that does is requested again.
            return not self._requests
        return page == self._delivered + 1 or (ahead and page <= self._delivered + self._max_ahead)

    def is_next(self, request: PageRequest) -> bool:
        """Whether its rows are the next to deliver."""
        return request not in self._requests[1:]

    def next_request(self) -> PageRequest:
        if self._again:
            page = self._again.pop(0)
        elif self._claim is not None:
            page = self._claim
        else:
            page = self._requested = self._requested + 1
        request = PageRequest(
            *self._bounds,
            self.order,
            self.limit,
            page=page,
            largest_page=self.server_limit.largest_page,
        )
        insort(self._requests, request, key=attrgetter("page"))
        return request

    def accept(self, request: PageRequest, result: PageResult) -> None:
        """Adds the page that answers a request; pages after the last are dropped.

        Raises:
            PagingError: two page numbers returned the same page, or the server contradicts itself.
        """
        if any(stale is request for stale in self._stale):
            self._stale = [stale for stale in self._stale if stale is not request]
            return
        self._requests = [other for other in self._requests if other is not request]
        rows = len(result.starts)
        if self._last_page is not None and request.page > self._last_page:
            return
        if result.is_unreadable and request.page not in self._doubted:
            # A second request tells errors, which came instead of calls, from calls whose starts cannot be read.
            self._request_again(request.page)
            return
        self.server_limit.record_page(result, request.limit)
        claims_end = self.server_limit.claims_end(request, rows)
        ids = result.ids()
        if rows and self._is_repeated(request.page, tuple(ids), result.starts):
            return
        # A call that is listed twice counts once: page 2 must not begin after more calls than page 1 contains.
        calls = len(last_listed(ids)) if request.page == 1 else rows
        if request.page == 1 and 0 < calls < self.limit:
            self.limit = self.limit if claims_end else calls
        elif rows or request.page > 1:
            # Either page 1 was full, or page 2 has shown whether page 1 was the last.
            self._one_at_a_time = False
        first, stop = self._start, self._end + SECOND
        in_range = [start is None or first <= start < stop for start in result.starts]
        claimed_rows = len(self._results[request.page][1]) if request.page == self._claim else None
        self._results[request.page] = result.body, ids, in_range
        if claims_end:
            self._claim = min(request.page, self._claim or request.page)
            self._again = [page for page in self._again if page < self._claim]
        if self._claim is None:
            return
        if any(ids for page, (_, ids, _) in self._results.items() if page > self._claim):
            self._read_again_from(self._claim)
        elif claimed_rows is not None and not claims_end:
            self._read_again_from(request.page + 1)
        elif claimed_rows == rows:
            self._last_page = request.page
            self._results = {page: value for page, value in self._results.items() if page <= request.page}

    def _read_again_from(self, page: int) -> None:
        """Requests a page and those after it again, because they contradict each other."""
        self._contradictions += 1
        if self._contradictions > MAX_CONTRADICTIONS:
            raise PagingError(
                f"the server contradicts itself: page {self._claim} was the last, and was not the last when it was requested again",
                hint=Wording("Try again later, or pass {paging=windows} (for an order by call_start)."),
            )
        self._stale += [request for request in self._requests if request.page >= page]
        self._requests = [request for request in self._requests if request.page < page]
        self._results = {other: value for other, value in self._results.items() if other < page}
        self._again = [other for other in self._again if other < page]
        self._page_of_ids = {ids: other for ids, other in self._page_of_ids.items() if other < page}
        self._requested, self._claim = page - 1, None
        self._one_at_a_time = page == 1

    def _request_again(self, page: int) -> None:
        self._doubted.add(page)
        if self._claim is None or page < self._claim:  # which is requested again anyway
            self._results.pop(page, None)
            insort(self._again, page)

    def _is_repeated(self, page: int, ids: tuple[int | None, ...], starts: Sequence[datetime | None]) -> bool:
        """Whether a page has the calls of another one; both are requested again, as a cache may have answered for either."""
        if self._claim is not None and page > self._claim:  # it is requested again anyway
            return False
        if all(call_id is None for call_id in ids):
            # Such pages cannot be told apart.
            self._alike = self._alike + 1 if starts == self._alike_starts else 0
            self._alike_starts, other = starts, page - 1
            if self._alike < MAX_ALIKE:
                return False
        elif (other := self._page_of_ids.setdefault(hash(ids), page)) == page:
            return False
        if page in self._doubted or self._alike >= MAX_ALIKE:
            raise PagingError(
                f"pages {min(other, page)} and {max(other, page)} are the same: the server ignores the page number",
                hint=Wording(
                    "Pass {paging=windows} (for an order by call_start) to read without page numbers."
                ),
            )
        self._request_again(page)
        # The limit of all requests comes from page 1.
        if other > max(1, self._delivered):
            del self._page_of_ids[hash(ids)]
            if other in self._results:
                self._request_again(other)
        return True

    def splits_left(self, request: PageRequest) -> int:  # noqa: ARG002 - a smaller limit would move every later page
        return 0

    def split(self, request: PageRequest, attempts: int) -> None:  # noqa: ARG002 - as above
        raise AssertionError("a page request is never split")

    def next_rows(self) -> RowSlice | None:
        if self._last_page is None and self._claim == self._delivered + 1:
            return None
        result = self._results.pop(self._delivered + 1, None)
        if result is None:
            return None
        body, ids, in_range = result
        self._delivered += 1
        rows = [row for row in last_listed(ids) if in_range[row] and ids[row] not in self._delivered_ids]
        duplicates = sum(in_range) - len(rows)
        self.has_moved_calls = self.has_moved_calls or not self._delivered_ids.isdisjoint(ids)
        new_ids = [ids[row] for row in rows if ids[row] is not None]
        self._delivered_ids.update(new_ids)
        self._recent_ids.append(new_ids)
        if len(self._recent_ids) > self._max_ahead + 1:
            self._delivered_ids.difference_update(self._recent_ids.popleft())
        return RowSlice(body, rows if len(rows) < len(ids) else range(len(ids)), duplicates)
