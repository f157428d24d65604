"""Defines the values that plans and the page fetcher exchange, and the checks of a page's rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from .._wording import Wording
from ..errors import PagingError
from .starts import AscendingStarts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


SECOND: Final = timedelta(seconds=1)
#: The last second that may be requested: one more second must follow it.
LAST_SECOND: Final = datetime(9999, 12, 31, 23, 59, 58)  # noqa: DTZ001 - the endpoint's dates have no zone
#: The endpoint's largest page.
MAX_PAGE_ROWS: Final = 20_000
#: Servers are assumed not to limit their pages to fewer rows.
SMALLEST_PAGE_LIMIT: Final = 20
PAGES_HINT: Final = Wording("Pass {paging=pages} to read by page numbers.")
UNREADABLE_HINT: Final = Wording(
    f"{PAGES_HINT.template} Its errors say what cannot be read; {{on_error=skip}} leaves such rows out."
)


class PageRequest(msgspec.Struct, frozen=True):
    """One request for a page.

    Attributes:
        start: sent as `start_date`. A window request includes the second before its window, see `windows`.
        stop: sent as `end_date`. A window request includes at least the first second after its window.
        order: sent as `order`.
        limit: rows requested.
        page: the page number, from 1.
        attempts: attempts already made for a larger window that this request replaces part of.
        largest_page: rows of the largest page received before this request was made.
    """

    start: datetime
    stop: datetime
    order: str
    limit: int
    page: int = 1
    attempts: int = 0
    largest_page: int = 0

    def is_last_page(self, rows: int) -> bool:
        """Whether a page of `rows` rows proves that no rows follow it.

        An empty page does, and so does one that is shorter than both the limit and the largest page received before the
        request was made: the server may limit pages to fewer rows than requested without saying so. Pages received
        after the request was made do not count, because the server may have raised its limit in between.
        """
        return rows == 0 or rows < min(self.limit, self.largest_page)

    @property
    def window(self) -> tuple[datetime, datetime]:
        """The first and last second requested, for errors and events."""
        return self.start, self.stop


class PageResult(msgspec.Struct, frozen=True):
    """The part of a received page that a plan needs.

    Attributes:
        starts: `call_start` of each row, in page order; None where it cannot be read.
        body: the page itself, opaque to plans.
        ids: returns the id of each row, None where it cannot be read. Called only where rows must be compared, and only while
            the page is accepted.
        ties: the rows that start in the same second as the row before; None: they were not compared.
        ids_ascend: the id of each row is a number above that of the row before; False: it is not, or it was not compared.
    """

    starts: Sequence[datetime | None]
    body: Any
    ids: Callable[[], Sequence[int | None]]
    ties: Sequence[int] | None = None
    ids_ascend: bool = False

    @property
    def is_unreadable(self) -> bool:
        """Whether there are rows, of which none has a start that can be read."""
        starts = self.starts
        # Nearly always the first one decides; reading on would make all of them.
        return bool(starts) and starts[0] is None and all(start is None for start in starts)

    def count_calls(self) -> int:
        """The number of calls: fewer than the rows if the server has listed a call twice after it cut the page."""
        if self.ids_ascend:
            return len(self.starts)
        ids = self.ids()
        calls = set(ids)
        return len(calls) if None not in calls else len(calls) - 1 + ids.count(None)


class RowSlice(msgspec.Struct, frozen=True):
    """Rows of one page that are ready for delivery.

    Attributes:
        body: the page.
        rows: the numbers of the rows, in the order of delivery.
        duplicates: how many rows of the page are left out because their call is listed, or was delivered, elsewhere.
    """

    body: Any
    rows: Sequence[int]
    duplicates: int = 0


class ServerPageLimit(msgspec.Struct):
    """The number of rows the server returns per page at most, as observed; shared by all streams of the same fields.

    Attributes:
        largest_page: rows of the largest page received.
        is_capped: the largest pages had as many rows and were shorter than their limits: the server has a lower limit of its own.
        smallest_truncated: rows of the smallest page that was shown to be truncated although it looked like the last.
        truncated: the rows and the limit of the latest such page, until a larger page is received with that limit.
    """

    largest_page: int = 0
    is_capped: bool = False
    smallest_truncated: int = MAX_PAGE_ROWS + 1
    truncated: tuple[int, int] | None = None

    def record_page(self, result: PageResult, limit: int) -> None:
        """Updates the observation with a page that was requested with `limit`."""
        if result.is_unreadable:
            # Perhaps it lists errors instead of calls.
            return
        rows = len(result.starts)
        # Calls that are listed twice make a page longer than the server's own limit.
        self.record(result.count_calls() if rows > self.largest_page else rows, limit)

    def record(self, rows: int, limit: int) -> None:
        """Updates the observation with a page of `rows` calls that was requested with `limit`."""
        if self.truncated is not None and rows > self.truncated[0] and limit >= self.truncated[1]:
            self.truncated = None
        if rows >= self.largest_page:
            # Once it may be chance: windows sized by it would all have shorter pages.
            self.is_capped = rows == self.largest_page and rows < limit
            self.largest_page = rows

    def record_truncated(self, rows: int, limit: int) -> None:
        """Updates the observation with a page that looked like the last, although more rows followed it."""
        self.smallest_truncated = min(self.smallest_truncated, rows)
        self.truncated = (rows, limit)

    def full_page(self, limit: int) -> int:
        """The number of rows to expect in a full page."""
        if self.truncated is not None and limit >= self.truncated[1]:
            return max(1, min(limit, self.truncated[0]))
        return max(1, min(limit, self.largest_page) if self.is_capped else limit)

    def claims_end(self, request: PageRequest, rows: int) -> bool:
        """Whether a page of `rows` rows says that no rows follow it; see `PageRequest.is_last_page`."""
        return request.is_last_page(rows) and (rows == 0 or rows < self.smallest_truncated)


def fill_missing_starts(
    starts: Sequence[datetime | None], request: PageRequest, first: datetime | None = None
) -> Sequence[datetime]:
    """Replaces each unreadable start by that of the row before it; decoding the row reports the error later.

    Rows before all readable ones get `first`, the first second of the window in the order of the page (by default of the
    request), unless the first readable row belongs to the second before the window. So they are never dropped with it.
    """
    if isinstance(starts, AscendingStarts) and request.order == "call_start_ASC":
        return starts
    if all(starts):
        return cast("list[datetime]", list(starts))
    previous = request.start if first is None else first
    if request.order == "id_ASC":
        return [previous if start is None else start for start in starts]
    readable = next((start for start in starts if start is not None), previous)
    before = readable > previous if request.order == "call_start_DESC" else readable < previous
    previous = readable if before else previous
    filled = []
    for start in starts:
        previous = previous if start is None else start
        filled.append(previous)
    return filled


def check_rows(starts: Sequence[datetime], request: PageRequest) -> None:
    """Checks that the server filtered and ordered the rows as requested.

    Raises:
        PagingError: a row lies outside the window, or the rows are not in order.
    """
    if not starts:
        return
    # In an ordered page the first and last row are the extremes, which saves thousands of comparisons.
    descending = request.order == "call_start_DESC"
    in_order = isinstance(starts, AscendingStarts) or starts == sorted(starts, reverse=descending)
    extremes = (starts[0], starts[-1]) if in_order else starts
    # A server may show starts rounded to the second, but compare them exactly: up to a second more is no sign of a wrong
    # filter. Such rows are outside the window, and dropped.
    if request.start - min(extremes) > SECOND or max(extremes) - request.stop >= 2 * SECOND:
        raise PagingError(
            f"the server returned calls outside {request.start} .. {request.stop}: "
            "it filters by something other than call_start",
            hint=Wording(
                f"{PAGES_HINT.template} A mock that returns a fixed list ignores the dates: use Sandbox.respond."
            ),
        )
    if request.order != "id_ASC" and not in_order:
        raise PagingError(f"the server did not return calls in the order {request.order}", hint=PAGES_HINT)
