"""Groups everything that the requests of one client share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from .._paging import MAX_PAGE_ROWS, ServerPageLimit
from .._telemetry import Telemetry

if TYPE_CHECKING:
    from datetime import tzinfo

    from .._http.budgets import PageBudget
    from .._http.tasks import TaskSupervisor
    from .._http.throttle import RequestThrottle
    from .._http.transport import Endpoint
    from .._params.account_time import AccountTime
    from .._parsing.page import RawPage
    from .._runtime import Runtime
    from ..events import Observer
    from ..fields import Field
    from ..retry import RetryPolicy

__all__ = ["Connection", "PageSizeEstimator"]


class PageSizeEstimator:
    """Estimates the size of pages from the pages received so far, for one selection of fields."""

    def __init__(self) -> None:
        self.server_limit: ServerPageLimit = ServerPageLimit()
        self._row_bytes: float | None = None

    def record(self, page: RawPage) -> None:
        """Updates the estimate with a page."""
        if page.rows:
            size = page.size / page.rows
            # Growth counts at once, because a page too large is worse than one too small.
            self._row_bytes = size if self._row_bytes is None else max(size, 0.5 * (size + self._row_bytes))

    def bytes_for(self, rows: int, page_bytes: int) -> int:
        """The size to expect of a page of at most `rows` rows; `page_bytes` if none has been received yet."""
        return page_bytes if self._row_bytes is None else int(rows * self._row_bytes)

    def rows_for(self, page_bytes: int) -> int:
        """The number of rows in a page of about `page_bytes` bytes of JSON."""
        if self._row_bytes is None:
            return MAX_PAGE_ROWS
        return max(1, min(MAX_PAGE_ROWS, int(page_bytes / self._row_bytes)))


@frozen(kw_only=True, eq=False)
class Connection:
    """What the requests of one client share.

    The endpoint sends single attempts, the throttle limits and retries them, the supervisor owns their tasks, and the page budget
    limits the memory of their pages.
    """

    endpoint: Endpoint
    throttle: RequestThrottle
    page_budget: PageBudget
    supervisor: TaskSupervisor
    retry: RetryPolicy
    observer: Observer | None
    time: AccountTime
    runtime: Runtime
    _estimators: dict[tuple[Field, ...], PageSizeEstimator] = field(factory=dict, init=False)

    def page_sizes(self, fields: tuple[Field, ...]) -> PageSizeEstimator:
        """The estimator that all streams of these fields share."""
        return self._estimators.setdefault(fields, PageSizeEstimator())

    @property
    def timezone(self) -> tzinfo | None:
        """The time zone of the account, or None if it is unknown."""
        return self.time.timezone

    async def get(self, query_string: str) -> RawPage:
        """Sends one request outside any stream, with retries.

        Raises:
            IovoxError: the request failed for good.
        """
        telemetry = Telemetry(self.observer)

        async def send() -> RawPage:
            holder = object()
            await self.throttle.acquire(holder)
            try:
                return await self.throttle.run(
                    lambda seconds: telemetry.track_request(
                        self.endpoint.get_page(query_string, time_limit=seconds)
                    ),
                    self.retry,
                    on_retry=telemetry.retry_scheduled,
                )
            finally:
                self.throttle.release(holder)

        return await self.supervisor.run(send)
