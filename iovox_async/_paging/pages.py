"""The page plan: `page=1, 2, 3, ...` of one query, as the endpoint offers it.

The law of this room: pages are handed out in their order, every row of the answers once, and at most
`concurrency` requests are wasted. It is exact only while the data stands still.

The limit is the same for all pages, since a page's place is its number times the limit. The first page goes alone:
if it is shorter than what was asked for, the server may have a lower cap, and then page numbers count in steps of
the cap or of the limit, nobody says which. So from there on the limit is what the first page held, and both are one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import PagingError
from .types import PageRequest, PageResult, RowSlice, ServerPageLimit

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["PagePlan"]


class PagePlan:
    """Reads one query page by page; pages beyond the end are forgotten.

    Args:
        lo: the first second asked for.
        hi: the last second asked for.
        order: a field with `_ASC` or `_DESC`.
        limit: rows a page.
        ahead: pages to have asked for beyond the one that the reader waits for, at most.
        capacity: what earlier plans learned about the server's pages.
    """

    def __init__(
        self,
        lo: datetime,
        hi: datetime,
        *,
        order: str,
        limit: int,
        ahead: int,
        capacity: ServerPageLimit | None = None,
    ) -> None:
        self.limit: int = limit
        self.capacity: ServerPageLimit = ServerPageLimit() if capacity is None else capacity
        #: Rows that came on two pages, and were dropped the second time.
        self.duplicates: int = 0
        self._lo, self._hi, self._order, self._ahead = lo, hi, order, ahead
        self._asked = 0
        self._last: int | None = None
        self._handed = 0
        self._flying: list[PageRequest] = []
        self._answers: dict[int, PageResult] = {}
        self._seen: set[Any] = set()
        self._prints: dict[int, int] = {}
        self._alone = True

    @property
    def done(self) -> bool:
        return self._last is not None and self._handed >= self._last

    @property
    def flying(self) -> int:
        return len(self._flying)

    @property
    def waiting(self) -> int:
        return len(self._answers)

    @property
    def seconds_left(self) -> float:
        return 0.0 if self.done else (self._hi - self._lo).total_seconds() + 1

    @property
    def settled(self) -> bool:
        return self._last is not None and all(
            page in self._answers for page in range(self._handed + 1, self._last + 1)
        )

    def ready(self, *, room: bool) -> bool:
        """Whether a request may start; without `room` only the one that the reader waits for."""
        number = self._asked + 1
        if (self._last is not None and number > self._last) or (self._alone and self._flying):
            return False
        return number == self._handed + 1 or (room and number <= self._handed + self._ahead)

    def next(self) -> PageRequest:
        """The next page."""
        self._asked += 1
        most = self.capacity.most
        ask = PageRequest(self._lo, self._hi, self._order, self.limit, page=self._asked, most=most)
        self._flying.append(ask)
        return ask

    def answer(self, ask: PageRequest, answer: PageResult) -> None:
        """Takes the answer to a request.

        Raises:
            PagingError: the same page came under two numbers.
        """
        self._flying = [other for other in self._flying if other is not ask]
        rows = len(answer.starts)
        self.capacity.saw(rows, ask.limit)
        if self._last is not None and ask.page > self._last:
            return
        if ask.page == 1 and 0 < rows < self.limit:
            self.limit = rows
        else:
            # The first page was full, or the second has told what the first could not.
            self._alone = False
        if ask.proves_end(rows):
            self._last = ask.page
            for page in [page for page in self._answers if page > ask.page]:
                del self._answers[page]
        if rows:
            self._check_repeat(ask.page, tuple(answer.ids()))
        self._answers[ask.page] = answer

    def _check_repeat(self, page: int, ids: tuple[Any, ...]) -> None:
        if None in ids:
            # Rows without ids cannot be told apart.
            return
        known = self._prints.setdefault(hash(ids), page)
        if known != page:
            raise PagingError(
                f"pages {min(known, page)} and {max(known, page)} are the same: the server ignores page. Pass "
                'paging="windows" (for an order by call_start) to read without page numbers'
            )

    def halvings(self, ask: PageRequest) -> int:  # noqa: ARG002 - page numbers count in steps of one limit
        """Never: a smaller page would be another place in the list."""
        return 0

    def halve(self, ask: PageRequest, attempts: int) -> bool:  # noqa: ARG002 - as above
        """Never."""
        return False

    def pop(self) -> RowSlice | None:
        """The next page's rows, without those that came before."""
        answer = self._answers.pop(self._handed + 1, None)
        if answer is None:
            return None
        self._handed += 1
        rows = []
        for row, name in enumerate(answer.ids()):
            if name not in self._seen:
                rows.append(row)
            if name is not None:
                self._seen.add(name)
        self.duplicates += len(answer.starts) - len(rows)
        return RowSlice(self._lo, self._hi, answer.body, rows)
