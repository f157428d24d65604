"""The words that plans and the pump share. Values only: nothing here decides anything but `ServerPageLimit`.

The law of this room: two answers prove an end, an empty one, and one that is shorter both than what was asked for
and than the longest answer known when it was asked for; for a server may hold fewer rows a page than asked for and
not say so. (Known when it was asked for, since an answer that was overtaken by a longer one may have been given
before the server held so many rows a page.)
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from attrs import define, frozen

from ..errors import PagingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "LARGEST",
    "SECOND",
    "PageRequest",
    "PageResult",
    "Plan",
    "RowSlice",
    "ServerPageLimit",
    "check_rows",
    "filled",
]

SECOND: Final = timedelta(seconds=1)
#: The endpoint's largest page.
LARGEST: Final = 20_000


@frozen
class PageRequest:
    """One request: the calls from `lo` to `hi` (both as the endpoint reads them), page by page of `limit` rows."""

    lo: datetime
    hi: datetime
    order: str
    limit: int
    page: int = 1
    #: Attempts that a larger window in its place has used up.
    attempts: int = 0
    #: The longest answer known when it was asked.
    most: int = 0

    def proves_end(self, rows: int) -> bool:
        """Whether an answer of so many rows is known to be all there is."""
        return rows == 0 or rows < min(self.limit, self.most)

    @property
    def window(self) -> tuple[datetime, datetime]:
        """First and last second requested, as errors and events have them."""
        return self.lo, self.hi


@frozen
class PageResult:
    """What a plan needs to know of a page.

    Attributes:
        starts: when each row began, in the order of the answer; None where that cannot be read.
        ids: gives the id of each row; called only where a plan must tell rows apart.
        body: the page itself, which a plan hands back with the places of the rows to use.
    """

    starts: Sequence[datetime | None]
    body: Any
    ids: Callable[[], Sequence[Any]]


@frozen
class RowSlice:
    """Rows to be handed out: these places of this body. In a window plan all lie within `lo .. hi-1`."""

    lo: datetime
    hi: datetime
    body: Any
    rows: Sequence[int]


@define
class ServerPageLimit:
    """How many rows an answer can hold, as far as is known; shared by all plans with the same fields."""

    most: int = 0
    #: The longest answer was shorter than it was allowed to be: the server may have a lower cap.
    capped: bool = False

    def saw(self, rows: int, limit: int) -> None:
        """Takes notice of an answer."""
        if rows >= self.most:
            self.capped = rows < limit
            self.most = rows

    def page(self, limit: int) -> int:
        """The rows to expect in a full answer."""
        return max(1, min(limit, self.most) if self.capped else limit)


class Plan(Protocol):
    """What the pump knows of a plan."""

    #: Rows a request asks for; may be changed between requests.
    limit: int

    @property
    def done(self) -> bool:
        """All is handed out."""

    @property
    def flying(self) -> int:
        """Requests under way."""

    @property
    def waiting(self) -> int:
        """Answers that wait for their turn."""

    @property
    def seconds_left(self) -> float:
        """Seconds of the range whose calls are not handed out yet."""

    @property
    def settled(self) -> bool:
        """Nothing is left to ask."""

    def ready(self, *, room: bool) -> bool:
        """Whether a request may start; without `room` only the one that the reader waits for."""

    def next(self) -> PageRequest:
        """The next request, after `ready` said that one may start."""

    def answer(self, ask: PageRequest, answer: PageResult) -> None:
        """Takes the answer to a request."""

    def halvings(self, ask: PageRequest) -> int:
        """How often a request that keeps failing may be halved."""

    def halve(self, ask: PageRequest, attempts: int) -> bool:
        """Puts a smaller request in the place of one that used up so many attempts, if it may be halved."""

    def pop(self) -> RowSlice | None:
        """The next rows to hand out, if they are there."""


def filled(starts: Sequence[datetime | None], ask: PageRequest) -> list[datetime]:
    """The starts, where one that cannot be read takes its neighbour's: its row then fails in its turn."""
    if all(starts):
        return cast("list[datetime]", list(starts))
    known = next((start for start in starts if start is not None), ask.lo)
    complete = []
    for start in starts:
        known = known if start is None else start
        complete.append(known)
    return complete


def check_rows(starts: list[datetime], ask: PageRequest) -> None:
    """Whether the rows are what was asked for.

    Raises:
        PagingError: a row lies outside the window, or the rows are not in order.
    """
    if not starts:
        return
    # In order, the ends tell the range: thousands of comparisons less.
    descending = ask.order == "call_start_DESC"
    ordered = starts == sorted(starts, reverse=descending)
    ends = (starts[0], starts[-1]) if ordered else starts
    if min(ends) < ask.lo or max(ends) >= ask.hi + SECOND:
        raise PagingError(
            f"the server answered calls outside {ask.lo} .. {ask.hi}: it filters by something other than "
            'call_start. Pass paging="pages" to read by page numbers'
        )
    if ask.order != "id_ASC" and not ordered:
        raise PagingError(
            f"the server did not answer in the order {ask.order}: windows cannot be read exactly. "
            'Pass paging="pages" to read by page numbers'
        )
