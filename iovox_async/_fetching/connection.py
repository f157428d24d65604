"""Groups everything that the requests of one client share, and makes it of the client's arguments."""

from __future__ import annotations

import os
from datetime import timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .._config import (
    Secret,
    check_flag,
    check_positive_integer,
    environment_flag,
    make_signer,
    positive_seconds,
)
from .._http.budgets import PageBudget
from .._http.connections import Connections
from .._http.headers import check_headers
from .._http.slots import SlotQueue
from .._http.tasks import TaskSupervisor
from .._http.throttle import RequestThrottle
from .._http.throttle_view import ThrottleView
from .._http.transport import Endpoint
from .._paging import MAX_PAGE_ROWS, ServerPageLimit
from .._params.account_time import AccountTime
from .._params.timezones import zone_of
from .._runtime import current_runtime
from .._telemetry import Telemetry, check_observer
from ..errors import ConfigurationError
from ..fields import Fields
from ..retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .._parsing.page import RawPage
    from .._runtime import Runtime
    from ..events import Observer
    from ..fields import Field

DEFAULT_BASE_URL: Final = "https://rest.iovox.com/rest/v1"

#: Bytes of JSON to assume for a field of a call, and for its transcriptions, tags and the like, until a page has come.
FIELD_BYTES: Final = 30
LARGE_FIELDS: Final = frozenset(Fields.INSIGHTS)
LARGE_ROW_BYTES: Final = 8_000


class PageSizeEstimator:
    """Estimates the size of pages from the pages received so far, for one selection of fields."""

    def __init__(self, fields: Collection[Field]) -> None:
        self.server_limit: ServerPageLimit = ServerPageLimit()
        self._row_bytes: float = FIELD_BYTES * len(fields)
        if not LARGE_FIELDS.isdisjoint(fields):
            self._row_bytes += LARGE_ROW_BYTES
        self._measured = False

    def record(self, page: RawPage) -> None:
        """Updates the estimate with a page."""
        if page.rows:
            size = page.size / page.rows
            # Growth counts at once, because a page too large is worse than one too small.
            self._row_bytes = max(size, 0.5 * (size + self._row_bytes)) if self._measured else size
            self._measured = True

    def bytes_for(self, rows: int) -> int:
        """The size to expect of a page of at most `rows` rows."""
        return int(rows * self._row_bytes)

    def rows_for(self, page_bytes: int) -> int:
        """The number of rows in a page of about `page_bytes` bytes of JSON."""
        return max(1, min(MAX_PAGE_ROWS, int(page_bytes / self._row_bytes)))


class Connection(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the requests of one client share.

    The endpoint sends single attempts, the throttle limits and retries them, the supervisor owns their tasks, and the page budget
    limits the memory of their pages. A view, which `with_options` makes, has an endpoint and a throttle of its own over the
    same connections and limits.

    Attributes:
        username: the API user.
        is_view: it was made by `with_options`.
    """

    username: str
    endpoint: Endpoint
    throttle: RequestThrottle | ThrottleView
    page_budget: PageBudget
    supervisor: TaskSupervisor
    retry: RetryPolicy
    observer: Observer | None
    time: AccountTime
    runtime: Runtime
    is_view: bool = False
    slots: SlotQueue = msgspec.field(default_factory=SlotQueue)
    _estimators: dict[tuple[Field, ...], PageSizeEstimator] = msgspec.field(default_factory=dict)

    def page_sizes(self, fields: tuple[Field, ...]) -> PageSizeEstimator:
        """The estimator that all streams of these fields share."""
        return self._estimators.setdefault(fields, PageSizeEstimator(fields))

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
        attempts = 0

        async def attempt(seconds: float) -> RawPage:
            nonlocal attempts
            attempts += 1
            return await telemetry.track_request(self.endpoint.get_page(query_string, time_limit=seconds))

        async def send() -> RawPage:
            holder = object()
            await self.slots.acquire(self.throttle, holder, owner=holder)
            try:
                page = await self.throttle.run(attempt, self.retry, on_retry=telemetry.retry_scheduled)
            finally:
                self.throttle.release(holder)
            page.attempts = attempts
            return page

        return await self.supervisor.run(send)

    def with_options(
        self,
        *,
        timeout: float | timedelta | None,
        retry: RetryPolicy | None,
        headers: Mapping[str, str] | None,
        concurrency: int | None,
    ) -> Connection:
        """A view with other options on the same connections, limits and retry budget; None leaves an option as it is.

        Raises:
            ConfigurationError: an option is invalid, or `concurrency` is larger than that of this connection.
        """
        throttle = self.throttle
        if concurrency is not None:
            if check_positive_integer("concurrency", concurrency) > throttle.concurrency:
                raise ConfigurationError(
                    "concurrency",
                    f"must be at most {throttle.concurrency}, that of the session, got {concurrency}",
                    "Pass the larger number to AsyncInsights.",
                )
            throttle = ThrottleView(throttle, concurrency)
        return msgspec.structs.replace(
            self,
            endpoint=self.endpoint.with_options(
                timeout=None if timeout is None else positive_seconds("timeout", timeout),
                headers=check_headers(headers),
            ),
            throttle=throttle,
            retry=self.retry if retry is None else _check_retry(retry),
            is_view=True,
        )


def connect(
    username: Secret,
    secure_key: Secret,
    *,
    base_url: str | None,
    concurrency: int,
    retry: RetryPolicy,
    timeout: float | timedelta,
    max_page_bytes: int,
    timezone: tzinfo | str | None,
    headers: Mapping[str, str] | None,
    observer: Observer | None,
    allow_http: bool,
    **network: Any,
) -> Connection:
    """Checks the arguments of `AsyncInsights`, and makes what its requests share; nothing is opened yet.

    `network` are the arguments of `Connections`.

    Raises:
        ConfigurationError: an argument or an environment variable is missing or invalid.
    """
    sign = make_signer(username, secure_key)
    concurrency = check_positive_integer("concurrency", concurrency)
    attempt_seconds = positive_seconds("timeout", timeout)
    retry = _check_retry(retry)
    check_flag("allow_http", allow_http)
    connections = Connections(
        base_url or os.environ.get("IOVOX_URL") or DEFAULT_BASE_URL,
        concurrency=concurrency,
        allow_http=allow_http or environment_flag("IOVOX_ALLOW_HTTP"),
        **network,
    )
    runtime = current_runtime()
    time = AccountTime(zone_of(timezone), runtime.utcnow, runtime.clock)
    endpoint = Endpoint(
        connections,
        sign,
        timeout=attempt_seconds,
        headers=check_headers(headers),
        max_page_bytes=check_positive_integer("max_page_bytes", max_page_bytes),
        on_date=time.observe,
    )
    return Connection(
        username=username.reveal().decode(),
        endpoint=endpoint,
        throttle=RequestThrottle(
            concurrency, clock=runtime.clock, sleep=runtime.sleep, random=runtime.random
        ),
        page_budget=PageBudget.for_concurrency(concurrency),
        supervisor=TaskSupervisor(endpoint.aclose),
        retry=retry,
        observer=check_observer(observer),
        time=time,
        runtime=runtime,
    )


def _check_retry(retry: object) -> RetryPolicy:
    if not isinstance(retry, RetryPolicy):
        raise ConfigurationError("retry", f"must be a RetryPolicy, got {type(retry).__name__}")
    return retry
