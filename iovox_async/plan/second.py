"""How one second is read that one answer does not prove to be whole.

The law of this room: a second is handed out from a snapshot that was proven, or not at all. This is the only
place that uses page numbers in the window plan, and so the only one that makes the server skip rows.

The steps, each only when the one before proved nothing:

1. page 1, by `call_start` ascending (the window plan has done that);
2. page 2, with a limit of what page 1 held, so that it begins right behind it however the server caps its pages.
   If it is empty, page 1 is read again: the same calls before and after an empty page 2 are all there were. (An
   empty page 2 alone is not enough: a call of page 1 may have gone meanwhile, and one of page 2 moved up.)
3. page 1 with the largest page;
4. page by page, by `id`, which has no ties, until two passes agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..errors import PagingError
from .values import LARGEST, Answer, Ask, Capacity

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["SecondReader"]

#: Passes over a crowded second, and rounds of step 2, before it is given up.
ROUNDS: Final = 8

Rows = list[tuple[Any, list[int]]]


class SecondReader:
    """Reads the second `lo` whole. `next` gives the request, `answer` takes its answer.

    Args:
        ask: the request for page 1.
        answer: its answer, which proved nothing.
        capacity: how many rows an answer can hold.
    """

    def __init__(self, ask: Ask, answer: Answer, capacity: Capacity) -> None:
        self._lo = ask.lo
        self._hi = ask.hi
        self._capacity = capacity
        self._held = answer
        self._size = len(answer.starts)
        self._limit = ask.limit
        self._step = self._next_page
        self._rounds = 0
        self._pass: Rows = []
        self._pass_ids: list[Any] = []
        self._before: list[Any] | None = None
        self._page = 1

    def next(self) -> Ask:
        """The next request."""
        return self._step()

    def answer(self, ask: Ask, answer: Answer, starts: list[datetime]) -> Rows | None:
        """The rows of the second, once they are proven."""
        if ask.order == "id_ASC":
            return self._after_pass_page(ask, answer, starts)
        if ask.page == 1:
            return self._after_first_page(ask, answer, starts)
        if starts:
            self._step = self._largest_page if self._limit < LARGEST else self._pass_page
        else:
            self._step = self._again
        return None

    # Steps 1 to 3.

    def _next_page(self) -> Ask:
        return Ask(self._lo, self._hi, "call_start_ASC", self._size, page=2)

    def _again(self) -> Ask:
        return Ask(self._lo, self._hi, "call_start_ASC", self._limit)

    def _largest_page(self) -> Ask:
        self._limit = LARGEST
        return self._again()

    def _after_first_page(self, ask: Ask, answer: Answer, starts: list[datetime]) -> Rows | None:
        own = [row for row, start in enumerate(starts) if start < self._hi]
        behind = len(own) < len(starts)
        agreed = self._step == self._again and set(answer.ids()) == set(self._held.ids())
        if behind or agreed or self._capacity.proves_end(len(starts), ask.limit):
            return [(answer.body, own)]
        self._held, self._size = answer, len(starts)
        self._rounds += 1
        self._step = self._next_page if self._rounds < ROUNDS else self._pass_page
        return None

    # Step 4.

    def _pass_page(self) -> Ask:
        return Ask(self._lo, self._hi, "id_ASC", self._size, page=self._page)

    def _after_pass_page(self, ask: Ask, answer: Answer, starts: list[datetime]) -> Rows | None:
        if self._page == 1:
            self._pass, self._pass_ids = [], []
        if starts:
            ids = answer.ids()
            own = [row for row, start in enumerate(starts) if start < self._hi]
            self._pass.append((answer.body, own))
            self._pass_ids += [ids[row] for row in own]
        if starts and not self._capacity.proves_end(len(starts), ask.limit):
            self._page += 1
            return None
        self._page = 1
        ids = self._pass_ids
        whole = len(set(ids)) == len(ids)
        if whole and self._before is not None and set(self._before) == set(ids):
            return self._pass
        self._before = ids if whole else None
        self._rounds += 1
        if self._rounds > 2 * ROUNDS:
            raise PagingError(
                f"the second {self._lo} holds more calls than one page, and they change faster than they can be "
                f"read: {ROUNDS} passes did not agree. Narrow the query with filters, or try again later"
            )
        return None
