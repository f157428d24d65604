"""Reads all calls of one second when a single page does not prove that it contains them all.

The steps; each is taken only if the one before proved nothing:

1. Page 1 by `call_start` ascending. The window plan has requested it already, perhaps for a longer window whose calls all
   started in this second.
2. Page 2, with one row less than page 1 as the limit, so that it starts with the last row of page 1 whatever the server's
   own limit is. If it has that row only, request page 1 again: if all its calls are still there, they were there when
   page 2 ended, so they were all calls in between. (Page 2 alone proves nothing: a call of page 1 may have been
   deleted in between, and a call of page 2 moved up. An empty page 2 proves nothing, because the server has more rows. A
   full page 2 that lists that call twice proves nothing either: a list that contains calls twice may go on after it.)
   After a page 1 of one or two rows, page 2 has none of them, so it is requested once more in the end: the rows of page 1
   may have been deleted for the moment of page 2, and have come back. So it is after a page 1 that is full or has so many
   rows that the server may have a lower limit: page 2 may have been cut after its first row.
3. Page 1 with the largest limit.
4. Passes over all pages by `id`, which has no ties, until a pass contains every call of the pass before, of which no id
   was on two pages. (A call moves out of a pass only if one before it is deleted, and the deleted call is missing from
   the next pass, unless it was inserted during the pass itself, which moves another id onto two pages. If it contains
   others as well, the pass before may have been cut, so one more pass must contain all its calls.) Or until three
   passes list the same ids in the same order, each perhaps twice: the server's list contains them twice.

All requests include the second before and the second after, so that it does not matter whether the bounds are inclusive.
Requests whose pages are compared differ, so that a cache cannot answer the second with the page of the first.

Invariants:
- The rows of the second are returned only once they are proven complete.
- Only here does the window plan use page numbers, which make the server skip rows.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from ..errors import PagingError
from .order import RowsOfPage, last_listed, rows_of_page
from .types import (
    LAST_SECOND,
    MAX_PAGE_ROWS,
    SECOND,
    SMALLEST_PAGE_LIMIT,
    PageRequest,
    PageResult,
    ServerPageLimit,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

#: Rounds of step 2, and then passes of step 4, before giving up.
MAX_ROUNDS: Final = 8
#: Pages of one pass: more than any second holds, unless calls arrive as fast as they are read.
MAX_PASS_PAGES: Final = 1_000
#: Rows of a page 1 that page 2 cannot overlap.
LONE_ROWS: Final = 2
#: Passes that list the same rows, if some are on two pages each time.
EQUAL_PASSES: Final = 3
#: How often a list may contain a call on pages of one row; more pages without a new id show that the page number has no effect.
MAX_COPIES: Final = 3

Rows = list[RowsOfPage]


class SingleSecondReader:
    """Plans the requests for one second, one request at a time.

    Args:
        request: the request for page 1.
        result: its page, which proved nothing; None: request it.
        server_limit: the server's page limit, as observed.
        owned: the first second whose rows are returned, and the one after the last. It is longer than a second only in an
            hour that occurs twice, which is read like a second.
        complete_at: a page with a row from this second on contains all rows before.
    """

    def __init__(
        self,
        request: PageRequest,
        result: PageResult | None,
        server_limit: ServerPageLimit,
        *,
        owned: tuple[datetime, datetime],
        complete_at: datetime | None = None,
    ) -> None:
        self._owned = owned
        self._second = owned[0]
        self._complete_at = complete_at or owned[1]
        self._start = request.start
        self._stop = request.stop
        #: With this end, a request is another one for a cache.
        self._other_stop = min(request.stop, LAST_SECOND) + SECOND
        self._server_limit = server_limit
        self._limit = request.limit
        self._first_page_rows = 0
        #: A pass with fewer rows does not count.
        self._fewest_rows = 0
        self._first_page: Counter[Any] = Counter()
        #: Makes the next request. Not a bound method: that would make a reference cycle, in which pages live on.
        self._step: Callable[[SingleSecondReader], PageRequest] = SingleSecondReader._first_page_of_limit
        if result is not None:
            self._keep_first_page(result)
            self._step = SingleSecondReader._second_page
        self._rounds = 0
        #: The latest page had no readable start, and is requested again.
        self._was_unreadable = False
        #: Passes in a row that were given up because the page number had no effect.
        self._stuck_passes = 0
        #: Of the current pass: its rows of this second, the ids of all its rows, also in their order, and whether one of them was on
        #: an earlier page too.
        self._rows: Rows = []
        self._ids: set[Any] = set()
        self._sequence: list[Any] = []
        self._has_repeats = False
        self._pages_without_new = 0
        self._page = 1
        #: The rows of its first page, and whether the pass before had too few rows to count.
        self._rows_of_first = 0
        self._was_short = False
        #: Of the pass before, if it counts; the ids only if no page repeated one.
        self._previous_sequence: list[Any] | None = None
        self._previous_ids: set[Any] | None = None
        #: It has all ids of the pass before that and others: they are new, or that pass was cut.
        self._has_grown = False
        #: Passes in a row with the same rows.
        self._equal_passes = 0

    @property
    def pages(self) -> int:
        """Pages of the current pass, which are kept until they are proven complete."""
        return len(self._rows)

    def next_request(self) -> PageRequest:
        """The next request."""
        return self._step(self)

    def accept(self, request: PageRequest, result: PageResult, starts: Sequence[datetime]) -> Rows | None:
        """Adds a page, and returns the rows of the second once they are proven complete.

        Raises:
            PagingError: the second cannot be read: its calls change too fast, or the server ignores page numbers.
        """
        if result.is_unreadable and not self._was_unreadable:
            # The same step again tells errors, which came instead of calls, from calls whose starts cannot be read.
            self._was_unreadable = True
            return None
        self._was_unreadable = False
        if request.order == "id_ASC":
            return self._accept_pass_page(request, result, starts)
        if request.page == 1:
            return self._accept_first_page(result, starts)
        rows_after = result.count_calls() - (request.limit < self._first_page_rows)
        proven, self._rows = self._rows, []
        if rows_after == 0 and proven:
            return proven
        # A full page may be followed by others, also if it only has one call, several times.
        if rows_after > 0 or (rows_after == 0 and len(starts) >= request.limit):
            can_grow = self._limit < MAX_PAGE_ROWS
            self._step = SingleSecondReader._largest_page if can_grow else SingleSecondReader._pass_page
        elif rows_after == 0:
            self._step = SingleSecondReader._first_page_again
        else:
            # Not even the last row of page 1: it was deleted, or the page is wrong.
            self._next_round()
        return None

    def _request(self, order: str, limit: int, page: int, *, stop: datetime | None = None) -> PageRequest:
        stop = self._stop if stop is None else stop
        largest_page = self._server_limit.largest_page
        return PageRequest(self._start, stop, order, limit, page=page, largest_page=largest_page)

    # Steps 1 to 3.

    def _keep_first_page(self, result: PageResult) -> None:
        ids = result.ids()
        # A call that is listed twice counts once: page 2 must not begin after more calls than page 1 contains.
        self._first_page_rows = self._fewest_rows = len(last_listed(ids))
        self._first_page = Counter(ids)

    def _second_page(self) -> PageRequest:
        # With a limit of one row, the last row of page 1 would hide those after it.
        rows = self._first_page_rows
        return self._request("call_start_ASC", rows - 1 if rows > LONE_ROWS else rows, 2)

    def _second_page_again(self) -> PageRequest:
        rows = self._first_page_rows
        return self._request("call_start_ASC", rows, 2, stop=self._other_stop)

    def _first_page_of_limit(self) -> PageRequest:
        return self._request("call_start_ASC", self._limit, 1)

    def _first_page_again(self) -> PageRequest:
        return self._request("call_start_ASC", self._limit, 1, stop=self._other_stop)

    def _largest_page(self) -> PageRequest:
        self._limit = MAX_PAGE_ROWS
        return self._first_page_of_limit()

    def _accept_first_page(self, result: PageResult, starts: Sequence[datetime]) -> Rows | None:
        ids = result.ids()
        has_later_rows = any(start >= self._complete_at for start in starts)
        confirmed = self._step is SingleSecondReader._first_page_again and self._first_page <= Counter(ids)
        if has_later_rows or confirmed:
            rows = [rows_of_page(result, starts, ids, *self._owned)]
            if has_later_rows or LONE_ROWS < self._first_page_rows < min(self._limit, SMALLEST_PAGE_LIMIT):
                return rows
            self._rows, self._step = rows, SingleSecondReader._second_page_again
            return None
        # A much shorter page may have been cut, unless the one before was a list of errors.
        if 2 * len(starts) > self._first_page_rows or (starts and None in self._first_page):
            self._keep_first_page(result)
        self._next_round()
        return None

    def _next_round(self) -> None:
        self._rounds += 1
        if self._rounds >= MAX_ROUNDS:
            self._step = SingleSecondReader._pass_page
        elif self._first_page_rows:
            self._step = SingleSecondReader._second_page
        else:
            self._step = SingleSecondReader._first_page_of_limit

    # Step 4.

    def _pass_page(self) -> PageRequest:
        return self._request("id_ASC", max(1, self._first_page_rows - self._rounds % 2), self._page)

    def _accept_pass_page(
        self, request: PageRequest, result: PageResult, starts: Sequence[datetime]
    ) -> Rows | None:
        ids = list(result.ids())
        if self._page == 1:
            self._rows_of_first = len(ids)
        self._has_repeats = self._has_repeats or not self._ids.isdisjoint(ids)
        self._pages_without_new = self._pages_without_new + 1 if self._ids.issuperset(ids) else 0
        is_first_again = self._page == 2 and ids == self._sequence and len(set(ids)) > 1
        self._ids.update(ids)
        self._sequence += ids
        self._rows.append(rows_of_page(result, starts, ids, *self._owned))
        is_last = request.is_last_page(len(starts))
        most = 1 if self._stuck_passes else MAX_COPIES
        is_stuck = not is_last and (is_first_again or self._pages_without_new >= most)
        if not (is_last or is_stuck) and self._page < MAX_PASS_PAGES:
            self._page += 1
            return None
        self._stuck_passes = self._stuck_passes + 1 if is_stuck else 0
        counts = is_last
        rows = len(last_listed(self._sequence))
        if is_short := counts and rows < self._fewest_rows:
            # Fewer rows than page 1 alone: calls were deleted, the server returns smaller pages now, or, if a pass has far fewer rows
            # and the next one has not, page 1 was cut. Pages of so few rows would take a thousand requests.
            counts = False
            if self._was_short or 2 * rows > self._fewest_rows:
                self._fewest_rows, self._first_page_rows = rows, self._rows_of_first or self._first_page_rows
        self._was_short = is_short
        if counts and self._agrees_with_earlier_passes():
            return self._rows
        self._start_next_pass(counts=counts)
        return None

    def _agrees_with_earlier_passes(self) -> bool:
        self._equal_passes = self._equal_passes + 1 if self._sequence == self._previous_sequence else 1
        if self._equal_passes >= EQUAL_PASSES:
            return True
        agrees = self._previous_ids is not None and self._previous_ids <= self._ids
        had_grown, self._has_grown = self._has_grown, agrees and self._previous_ids != self._ids
        return agrees and (had_grown or not self._has_grown)

    def _start_next_pass(self, *, counts: bool) -> None:
        self._rounds += 1
        if self._page >= MAX_PASS_PAGES or self._rounds >= 2 * MAX_ROUNDS:
            if self._stuck_passes >= MAX_ROUNDS:
                raise PagingError(
                    "the server ignores the page number, and one page is not certain to contain all calls "
                    f"of the second {self._second}",
                    hint="Narrow the query with filters.",
                )
            raise PagingError(
                f"the second {self._second} has more calls than one page, and they change faster than they can be "
                f"read: {MAX_ROUNDS} passes did not agree",
                hint="Narrow the query with filters, or try again later.",
            )
        self._previous_sequence = self._sequence if counts else None
        self._previous_ids = self._ids if counts and not self._has_repeats else None
        self._rows, self._ids, self._sequence, self._page = [], set(), [], 1
        self._has_repeats, self._pages_without_new = False, 0
