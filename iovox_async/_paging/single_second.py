"""Reads all calls of one second when a single page does not prove that it contains them all.

The steps; each is taken only if the one before proved nothing:

1. Page 1 by `call_start` ascending. The window plan has requested it already, perhaps for a longer window whose calls all
   started in this second.
2. Page 2, with the number of rows in page 1 as the limit, so that it starts right after page 1 whatever the server's own
   limit is. If it is empty, request page 1 again: if all its calls are still there, they were there when page 2 was
   empty, so they were all calls of the second. (An empty page 2 alone proves nothing: a call of page 1 may have been
   deleted in between, and a call of page 2 moved up.)
3. Page 1 with the largest limit.
4. Passes over all pages by `id`, which has no ties, until a pass contains every call of the pass before. (A call moves
   out of a pass only if one before it is deleted, and the deleted call is missing from the next pass. Ids that appear
   twice show that a call was inserted; such a pass does not count.)

Invariants:
- The rows of the second are returned only once they are proven complete.
- Only here does the window plan use page numbers, which make the server skip rows.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from ..errors import PagingError
from .order import RowsOfPage, rows_of_page
from .types import MAX_PAGE_ROWS, PageRequest, PageResult, ServerPageLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

__all__ = ["SingleSecondReader"]

#: Rounds of step 2, and then passes of step 4, before giving up.
MAX_ROUNDS: Final = 8
#: Pages of one pass: more than any second holds, unless calls arrive as fast as they are read.
MAX_PASS_PAGES: Final = 1_000

Rows = list[RowsOfPage]


class SingleSecondReader:
    """Plans the requests for one second, one request at a time.

    Args:
        request: the request for page 1.
        result: its page, which proved nothing.
        server_limit: the server's page limit, as observed.
        owned: the first second whose rows are returned, and the one after the last. It is longer than a second only in an
            hour that occurs twice, which is read like a second.
        complete_at: a page with a row from this second on contains all rows before.
    """

    def __init__(
        self,
        request: PageRequest,
        result: PageResult,
        server_limit: ServerPageLimit,
        *,
        owned: tuple[datetime, datetime] | None = None,
        complete_at: datetime | None = None,
    ) -> None:
        self._owned = owned or (request.start, request.stop)
        self._complete_at = complete_at or request.stop
        self._start = request.start
        self._stop = request.stop
        self._server_limit = server_limit
        self._limit = request.limit
        self._keep_first_page(result)
        self._step: Callable[[], PageRequest] = self._second_page
        self._rounds = 0
        self._repeated_pages = 0
        #: Of the current pass: its rows of this second, the ids of all its rows, and those of its first page.
        self._rows: Rows = []
        self._ids: set[Any] = set()
        self._first_page_ids: list[Any] = []
        self._page = 1
        self._previous_pass_ids: set[Any] | None = None

    @property
    def pages(self) -> int:
        """Pages of the current pass, which are kept until they are proven complete."""
        return len(self._rows)

    def next_request(self) -> PageRequest:
        """The next request."""
        return self._step()

    def accept(self, request: PageRequest, result: PageResult, starts: list[datetime]) -> Rows | None:
        """Adds a page, and returns the rows of the second once they are proven complete.

        Raises:
            PagingError: the second cannot be read: its calls change too fast, or the server ignores page numbers.
        """
        if request.order == "id_ASC":
            return self._accept_pass_page(request, result, starts)
        if request.page == 1:
            return self._accept_first_page(request, result, starts)
        if starts:
            self._step = self._largest_page if self._limit < MAX_PAGE_ROWS else self._pass_page
        else:
            self._step = self._first_page_again
        return None

    def _request(self, order: str, limit: int, page: int) -> PageRequest:
        return PageRequest(
            self._start, self._stop, order, limit, page=page, largest_page=self._server_limit.largest_page
        )

    # Steps 1 to 3.

    def _keep_first_page(self, result: PageResult) -> None:
        self._first_page_rows = len(result.starts)
        self._first_page = Counter(result.ids())

    def _second_page(self) -> PageRequest:
        return self._request("call_start_ASC", self._first_page_rows, 2)

    def _first_page_again(self) -> PageRequest:
        return self._request("call_start_ASC", self._limit, 1)

    def _largest_page(self) -> PageRequest:
        self._limit = MAX_PAGE_ROWS
        return self._first_page_again()

    def _accept_first_page(
        self, request: PageRequest, result: PageResult, starts: list[datetime]
    ) -> Rows | None:
        ids = result.ids()
        has_later_rows = any(start >= self._complete_at for start in starts)
        confirmed = self._step == self._first_page_again and self._first_page <= Counter(ids)
        if has_later_rows or confirmed or request.is_last_page(len(starts)):
            return [rows_of_page(result, starts, ids, *self._owned)]
        self._keep_first_page(result)
        self._rounds += 1
        self._step = self._second_page if self._rounds < MAX_ROUNDS else self._pass_page
        return None

    # Step 4.

    def _pass_page(self) -> PageRequest:
        return self._request("id_ASC", self._first_page_rows, self._page)

    def _accept_pass_page(
        self, request: PageRequest, result: PageResult, starts: list[datetime]
    ) -> Rows | None:
        ids = list(result.ids())
        ids_before = len(self._ids)
        self._ids.update(ids)
        all_new = len(self._ids) == ids_before + len(ids)
        if self._page == 1:
            self._first_page_ids = ids
        elif not all_new:
            same_page = self._page == 2 and ids == self._first_page_ids
            self._repeated_pages = self._repeated_pages + 1 if same_page else 0
        self._rows.append(rows_of_page(result, starts, ids, *self._owned))
        if all_new and self._page < MAX_PASS_PAGES:
            if not request.is_last_page(len(starts)):
                self._page += 1
                return None
            if self._previous_pass_ids is not None and self._previous_pass_ids <= self._ids:
                return self._rows
        self._start_next_pass(counts=all_new)
        return None

    def _start_next_pass(self, *, counts: bool) -> None:
        self._rounds += 1
        if self._page >= MAX_PASS_PAGES or self._rounds >= 2 * MAX_ROUNDS:
            if self._repeated_pages >= MAX_ROUNDS:
                raise PagingError(
                    "the server ignores the page number, and one page is not certain to contain all calls "
                    f"of the second {self._start}",
                    hint="Narrow the query with filters.",
                )
            raise PagingError(
                f"the second {self._start} has more calls than one page, and they change faster than they can be "
                f"read: {MAX_ROUNDS} passes did not agree",
                hint="Narrow the query with filters, or try again later.",
            )
        self._previous_pass_ids = self._ids if counts else None
        self._rows, self._ids, self._page = [], set(), 1
