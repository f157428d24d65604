"""How one second is read that one answer does not prove to be whole.

The law of this room: a second is handed out from a snapshot that was proven, or not at all. This is the only
place that uses page numbers in the window plan, and so the only one that makes the server skip rows.

The steps, each only when the one before proved nothing:

1. page 1, by `call_start` ascending (the window plan has done that, perhaps for a longer window in which no other
   second had a call);
2. page 2, with a limit of what page 1 held, so that it begins right behind it however the server caps its pages.
   If it is empty, page 1 is read again: if all its calls are still there, they were there when page 2 was empty, and
   so they were all there was. (An empty page 2 alone is not enough: a call of page 1 may have gone meanwhile, and one
   of page 2 moved up.)
3. page 1 with the largest page;
4. page by page, by `id`, which has no ties, until a pass finds again all that the one before found. (A call moves out
   of a pass only when one before it vanishes, and that one is missed in the next pass. Calls that come twice show
   that one arrived; that pass counts for nothing.)
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from ..errors import PagingError
from .types import LARGEST, PageRequest, PageResult, ServerPageLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

__all__ = ["SingleSecondReader"]

#: Rounds of step 2, and then passes of step 4, before the second is given up.
ROUNDS: Final = 8
#: Pages of one pass: more than any second holds, unless calls arrive as fast as they are read.
PAGES: Final = 1_000

Rows = list[tuple[Any, list[int]]]


class SingleSecondReader:
    """Reads the second `lo` whole. `next` gives the request, `answer` takes its answer.

    Args:
        ask: the request for page 1.
        answer: its answer, which proved nothing.
        capacity: how many rows an answer can hold.
    """

    def __init__(self, ask: PageRequest, answer: PageResult, capacity: ServerPageLimit) -> None:
        self._lo = ask.lo
        self._hi = ask.hi
        self._capacity = capacity
        self._limit = ask.limit
        self._hold(answer)
        self._step: Callable[[], PageRequest] = self._next_page
        self._rounds = 0
        self._repeats = 0
        #: The pass under way: its rows of this second, the ids of all its rows, and those of its first page.
        self._rows: Rows = []
        self._ids: set[Any] = set()
        self._first: list[Any] = []
        self._page = 1
        self._before: set[Any] | None = None

    def next(self) -> PageRequest:
        """The next request."""
        return self._step()

    def answer(self, ask: PageRequest, answer: PageResult, starts: list[datetime]) -> Rows | None:
        """The rows of the second, once they are proven.

        Raises:
            PagingError: the second cannot be read: its calls change too fast, or the server ignores page numbers.
        """
        if ask.order == "id_ASC":
            return self._after_pass_page(ask, answer, starts)
        if ask.page == 1:
            return self._after_first_page(ask, answer, starts)
        if starts:
            self._step = self._largest_page if self._limit < LARGEST else self._pass_page
        else:
            self._step = self._again
        return None

    def _ask(self, order: str, limit: int, page: int) -> PageRequest:
        return PageRequest(self._lo, self._hi, order, limit, page=page, most=self._capacity.most)

    def _own(self, starts: list[datetime]) -> list[int]:
        return [row for row, start in enumerate(starts) if start < self._hi]

    # Steps 1 to 3.

    def _hold(self, answer: PageResult) -> None:
        self._size = len(answer.starts)
        self._held = Counter(answer.ids())

    def _next_page(self) -> PageRequest:
        return self._ask("call_start_ASC", self._size, 2)

    def _again(self) -> PageRequest:
        return self._ask("call_start_ASC", self._limit, 1)

    def _largest_page(self) -> PageRequest:
        self._limit = LARGEST
        return self._again()

    def _after_first_page(self, ask: PageRequest, answer: PageResult, starts: list[datetime]) -> Rows | None:
        own = self._own(starts)
        behind = len(own) < len(starts)
        agreed = self._step == self._again and self._held <= Counter(answer.ids())
        if behind or agreed or ask.proves_end(len(starts)):
            return [(answer.body, own)]
        self._hold(answer)
        self._rounds += 1
        self._step = self._next_page if self._rounds < ROUNDS else self._pass_page
        return None

    # Step 4.

    def _pass_page(self) -> PageRequest:
        return self._ask("id_ASC", self._size, self._page)

    def _after_pass_page(self, ask: PageRequest, answer: PageResult, starts: list[datetime]) -> Rows | None:
        ids = list(answer.ids())
        known = len(self._ids)
        self._ids.update(ids)
        whole = len(self._ids) == known + len(ids)
        if self._page == 1:
            self._first = ids
        elif not whole:
            self._repeats = self._repeats + 1 if self._page == 2 and ids == self._first else 0
        self._rows.append((answer.body, self._own(starts)))
        if whole and not ask.proves_end(len(starts)) and self._page < PAGES:
            self._page += 1
            return None
        if whole and self._page < PAGES and self._before is not None and self._before <= self._ids:
            return self._rows
        self._after_pass(whole=whole)
        return None

    def _after_pass(self, *, whole: bool) -> None:
        self._rounds += 1
        if self._page >= PAGES or self._rounds >= 2 * ROUNDS:
            if self._repeats >= ROUNDS:
                raise PagingError(
                    f"the server answers the same page whatever its number, and one page cannot hold the second "
                    f"{self._lo} with certainty. Narrow the query with filters"
                )
            raise PagingError(
                f"the second {self._lo} holds more calls than one page, and they change faster than they can be "
                f"read: {ROUNDS} passes did not agree. Narrow the query with filters, or try again later"
            )
        self._before = self._ids if whole else None
        self._rows, self._ids, self._page = [], set(), 1
