"""Reads a query by page numbers: `page=1, 2, 3, ...`.

Every page uses the same limit, because a page starts at its number times the limit. Page 1 is requested alone: if it is
shorter than the limit, the server may have a lower limit, and it is unknown which of the two its page numbers count in.
From there on the limit is the length of page 1, so that both are the same.

Invariants:
- Pages are delivered in order.
- A call is delivered at most once, unless changing data moves it by more than `max_ahead` pages while they are read: the ids
  of more pages are not kept.
- The result is exact only while the data does not change.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .._params.account_time import UncutHours
from ..errors import PagingError
from .order import last_listed
from .types import PageRequest, PageResult, RowSlice, ServerPageLimit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["PagePlan"]


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
        self._start, self._end, self._order, self._max_ahead = start, end, order, max_ahead
        self._bounds = hours.bound_before(start), hours.bound_after(end)
        self._requested = 0
        self._delivered = 0
        self._last_page: int | None = None
        self._requests: list[PageRequest] = []
        #: The body and the ids of each page that waits for delivery.
        self._results: dict[int, tuple[Any, Sequence[int | None], set[int]]] = {}
        #: The ids of the last pages delivered, and those of each of them.
        self._delivered_ids: set[int | None] = set()
        self._recent_ids: deque[list[int | None]] = deque()
        self._page_of_ids: dict[int, int] = {}
        self._one_at_a_time = True

    @property
    def done(self) -> bool:
        return self._last_page is not None and self._delivered >= self._last_page

    @property
    def in_flight(self) -> int:
        return len(self._requests)

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

    def can_request(self, *, ahead: bool) -> bool:
        page = self._requested + 1
        if (self._last_page is not None and page > self._last_page) or (
            self._one_at_a_time and self._requests
        ):
            return False
        return page == self._delivered + 1 or (ahead and page <= self._delivered + self._max_ahead)

    def next_request(self) -> PageRequest:
        self._requested += 1
        request = PageRequest(
            *self._bounds,
            self._order,
            self.limit,
            page=self._requested,
            largest_page=self.server_limit.largest_page,
        )
        self._requests.append(request)
        return request

    def accept(self, request: PageRequest, result: PageResult) -> None:
        """Adds the page that answers a request; pages after the last are dropped.

        Raises:
            PagingError: two page numbers returned the same page.
        """
        self._requests = [other for other in self._requests if other is not request]
        rows = len(result.starts)
        self.server_limit.record(rows, request.limit)
        if self._last_page is not None and request.page > self._last_page:
            return
        if request.page == 1 and 0 < rows < self.limit:
            self.limit = rows
        else:
            # Either page 1 was full, or page 2 has shown whether page 1 was the last.
            self._one_at_a_time = False
        if request.is_last_page(rows):
            self._last_page = request.page
            for page in [page for page in self._results if page > request.page]:
                del self._results[page]
        ids = result.ids()
        if rows:
            self._check_not_repeated(request.page, tuple(ids))
        self._results[request.page] = result.body, ids, self._rows_outside(result)

    def _rows_outside(self, result: PageResult) -> set[int]:
        """The rows that were only requested because the range may not end where it should."""
        if self._bounds == (self._start, self._end):
            return set()
        return {
            row
            for row, start in enumerate(result.starts)
            if start is not None and not self._start <= start.replace(microsecond=0) <= self._end
        }

    def _check_not_repeated(self, page: int, ids: tuple[int | None, ...]) -> None:
        if None in ids:
            # Rows without ids cannot be told apart.
            return
        other = self._page_of_ids.setdefault(hash(ids), page)
        if other != page:
            raise PagingError(
                f"pages {min(other, page)} and {max(other, page)} are the same: the server ignores the page number",
                hint='Pass paging="windows" (for an order by call_start) to read without page numbers.',
            )

    def splits_left(self, request: PageRequest) -> int:  # noqa: ARG002 - a smaller limit would move every later page
        return 0

    def split(self, request: PageRequest, attempts: int) -> None:  # noqa: ARG002 - as above
        raise AssertionError("a page request is never split")

    def next_rows(self) -> RowSlice | None:
        result = self._results.pop(self._delivered + 1, None)
        if result is None:
            return None
        body, ids, outside = result
        self._delivered += 1
        rows = [row for row in last_listed(ids) if row not in outside and ids[row] not in self._delivered_ids]
        duplicates = len(ids) - len(outside) - len(rows)
        new_ids = [ids[row] for row in rows if ids[row] is not None]
        self._delivered_ids.update(new_ids)
        self._recent_ids.append(new_ids)
        if len(self._recent_ids) > self._max_ahead + 1:
            self._delivered_ids.difference_update(self._recent_ids.popleft())
        return RowSlice(body, rows if len(rows) < len(ids) else range(len(ids)), duplicates)
