"""`AsyncInsights`: the session, one a program.

The law of this room: it holds what all requests share (connections, slots, retries, what was learned of the answers)
and turns arguments into a `ReadSpec`; everything else is done elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, SupportsIndex, Unpack

from attrs import evolve

from ._config import Secret, checked_page_size, positive_seconds, signer, whole
from ._fetching.by_id import flat, lookup
from ._fetching.fetcher import PageFetcher, PageSizeEstimator, plan_for, watch_for
from ._fetching.reader import StreamReader
from ._http.tasks import TaskSupervisor
from ._http.throttle import RequestThrottle
from ._http.transport import Endpoint
from ._http.urls import check_base_url
from ._paging.spec import FINALITY_DELAY, Paging, ReadSpec, resolve, to_local_time, with_keys
from ._params.timezones import zone_of
from ._parsing.decoder import CallDecoder, OnError, checked_on_error
from ._runtime import current_runtime
from ._telemetry import Telemetry, enable_logging
from .errors import ConfigurationError
from .fields import Field, Fields
from .follow import LONGEST, CallFollower, PollState
from .query import Filters, InsightsQuery
from .retry import RetryPolicy, seconds
from .stream import CallStream, Page

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    import httpx

    from ._paging import PageRequest
    from ._params.dates import Moment
    from ._parsing.splitter import PageFormat, RawPage
    from .events import Observer
    from .fields import AskedFields
    from .models import Call

__all__ = ["BASE_URL", "AsyncInsights"]

BASE_URL: Final = "https://rest.iovox.com/rest/v1"


class AsyncInsights:
    """A session with the endpoint: `stream` for a range of calls, `page` for one page, `get` for calls by id.

    ::

        async with AsyncInsights() as insights:
            async for call in insights.stream("2024-01-01", "2024-03-31", call_result="ANSWERED"):
                print(call.id, call.call_start, call.talk_time)

    Make one for a program and share it: the limits hold for all it does. It belongs to one event loop and one process.

    Args:
        username: the account's API user; else the environment's IOVOX_USERNAME.
        secure_key: its key; else IOVOX_SECURE_KEY. It appears in no repr, log, error or file.
        base_url: else IOVOX_URL, else the service's own. https, or http to this machine.
        concurrency: requests in flight, at most, over all streams of the session.
        page_size: rows a request asks for, 1 to 20,000; None follows the bytes of the records (about 1.6 MB a page).
        retry: how often and how long a request is tried.
        timeout: seconds, or a timedelta, for one attempt, wall clock from start to last byte.
        timezone: the account's time zone, as a tzinfo or an IANA name; given, dates may be aware and those of records
            are. The endpoint never says, so without it all dates are naive and local to the account.
        proxy: a proxy's URL (`http://`, `https://`, `socks5://`), or "environment" to read HTTPS_PROXY and its like.
            The environment is not looked at otherwise.
        transport: an `httpx.AsyncBaseTransport` instead of httpx's own, closed with the session. Its proxies, trust and
            pool are its own, so `proxy` is refused beside it. For aiohttp's engine:
            `httpx_aiohttp.AiohttpTransport(trust_env=False)`.
        observer: is told of every request, retry, window and stream, for metrics (see `iovox_async.events`).

    Raises:
        ConfigurationError: something is missing or malformed; the message names the argument and the variable.
    """

    def __init__(
        self,
        username: str | None = None,
        secure_key: str | None = None,
        *,
        base_url: str | None = None,
        concurrency: int = 8,
        page_size: int | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        timeout: float | timedelta = 60.0,
        timezone: tzinfo | str | None = None,
        proxy: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        observer: Observer | None = None,
    ) -> None:
        enable_logging()
        # The key leaves the variables of this frame at once, so that no traceback that shows them can show it.
        key, secure_key = Secret(secure_key, "IOVOX_SECURE_KEY"), None
        user = Secret(username, "IOVOX_USERNAME")
        sign = signer(user, key)
        concurrency = whole(concurrency, "concurrency")
        if not isinstance(retry, RetryPolicy):
            raise ConfigurationError("retry: a RetryPolicy is wanted")
        wait = positive_seconds(timeout, "timeout")
        address = check_base_url(base_url or os.environ.get("IOVOX_URL") or BASE_URL)
        self._page_size = checked_page_size(page_size)
        self._timezone = zone_of(timezone)
        self._retry = retry
        self._observer = observer
        self._runtime = runtime = current_runtime()
        self._gate = RequestThrottle(
            concurrency, clock=runtime.clock, sleep=runtime.sleep, random=runtime.random
        )
        self._shelter = TaskSupervisor()
        self._http = Endpoint(
            address, sign, concurrency=concurrency, timeout=wait, proxy=proxy, transport=transport
        )
        self._profiles: dict[tuple[Field, ...], PageSizeEstimator] = {}
        self._address = address
        self._account = f"{user.reveal().decode()} at {address}"

    # Reading.

    def stream(
        self,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        query: InsightsQuery | None = None,
        order: str = "call_start_ASC",
        fields: AskedFields = Fields.DEFAULT,
        page_size: int | None = None,
        ordered: bool = True,
        paging: Paging = "auto",
        max_calls: int | None = None,
        resume: str | None = None,
        on_error: OnError = "raise",
        **filters: Unpack[Filters],
    ) -> CallStream:
        """The calls of a range, each exactly once, as an async iterator.

        Nothing is sent until the first record is asked for. By windows (`paging="windows"`, what "auto" means for an
        order by `call_start`) a call that exists during the whole pull comes exactly once, whatever arrives, vanishes
        or changes meanwhile. By page numbers (`paging="pages"`, the only way for other orders) that holds only while
        the data stands still: in a simulation of a live server (3,000 calls, pages of 200, eight at once, inserts and
        deletes between requests), every one of 100 pulls by page numbers lost calls.

        Args:
            start: the first second, inclusive: str, date or datetime. None: the first of this month, so that an
                `end` before it leaves nothing: the stream is empty.
            end: the last second, inclusive; a bare date means 23:59:59. None: now, fixed when this is called.
            query: an `InsightsQuery` instead of, or beside, the arguments.
            order: a field with `_ASC` or `_DESC`.
            fields: what to ask for: a preset of `Fields`, or names.
            page_size: rows a request; None: the session's.
            ordered: hand calls out in order; False: windows as they finish, which starts sooner on uneven data.
            paging: "auto", "windows" or "pages", see above.
            max_calls: calls to hand out, at most.
            resume: the `.position` of an earlier stream with the same arguments: go on exactly after it.
            on_error: "raise" a `RecordError` at a record that cannot be read, or "skip" it and count it.
            **filters: the endpoint's own filters, see `Filters`.

        Raises:
            QueryError: an argument that the endpoint would refuse or misread.
        """
        asked = InsightsQuery.from_arguments(
            start,
            end,
            query=query,
            order=order,
            fields=fields,
            default_order="call_start_ASC",
            default_fields=Fields.DEFAULT,
            **filters,
        )
        reading = resolve(
            asked,
            now=self.now(),
            timezone=self._timezone,
            ordered=ordered,
            paging=paging,
            max_calls=max_calls,
            resume=resume,
        )
        size = self._page_size if page_size is None else checked_page_size(page_size)
        if size is None and query is not None:
            size = query.limit
        structurer = self._structurer(reading.fields, on_error)
        return CallStream(StreamReader(reading, partial(self._pump, size), structurer, self._timezone))

    async def page(
        self,
        start: InsightsQuery | Moment | None = None,
        end: Moment | None = None,
        *,
        query: InsightsQuery | None = None,
        page: int = 1,
        page_size: int = 10_000,
        order: str = "call_start_DESC",
        fields: AskedFields = Fields.DEFAULT,
        on_error: OnError = "raise",
        **filters: Unpack[Filters],
    ) -> Page:
        """One page, by one request: the endpoint as it is, with its defaults.

        Args:
            start: a whole `InsightsQuery`, or the first second; None: the first of this month.
            end: the last second; None: today's last.
            query: an `InsightsQuery` instead of, or beside, the arguments.
            page: the page's number, from 1.
            page_size: rows a page, 1 to 20,000.
            order: a field with `_ASC` or `_DESC`.
            fields: what to ask for.
            on_error: as for `stream`.
            **filters: the endpoint's own filters.

        Raises:
            QueryError: an argument that the endpoint would refuse.
            IovoxError: the request failed for good.
        """
        if isinstance(start, InsightsQuery):
            query, start = start, None
        asked = to_local_time(
            InsightsQuery.from_arguments(
                start,
                end,
                query=query,
                order=order,
                fields=fields,
                default_order="call_start_DESC",
                default_fields=Fields.DEFAULT,
                **filters,
            ),
            self._timezone,
        )
        if query is not None:
            page = asked.page if page == 1 else page
            page_size = asked.limit if page_size == 10_000 and asked.limit is not None else page_size
        params = asked.to_query_string(page=page, limit=page_size)
        body = await self._request(params)
        structurer = self._structurer(asked.fields, on_error)
        calls = [
            call
            for index, segment in body.pick(range(body.rows))
            for call in structurer.batch(segment.data, index)
        ]
        return Page(page, calls, body.raw(range(body.rows)))

    async def get(
        self,
        *ids: SupportsIndex | str | Iterable[SupportsIndex | str],
        fields: AskedFields = Fields.DEFAULT,
        on_error: OnError = "raise",
    ) -> list[Call]:
        """The calls with these ids, in the order of the ids; those that do not exist are left out.

        Long lists are split, so that no URL grows past 4 KiB.

        Raises:
            QueryError: an id that is no number.
            IovoxError: a request failed for good.
        """
        wanted = flat(ids)
        if not wanted:
            return []
        asked = InsightsQuery(ids=wanted, fields=fields)
        every_field = with_keys(asked.fields or Fields.DEFAULT, ("id",))
        structurer = self._structurer(every_field, on_error)
        return await lookup(asked, every_field, self._request, structurer, self.now() + timedelta(days=1))

    def follow(
        self,
        since: Moment | None = None,
        *,
        interval: float | timedelta = 60,
        lookback: float | timedelta = FINALITY_DELAY,
        include_updates: bool = False,
        fields: AskedFields = Fields.DEFAULT,
        on_error: OnError = "raise",
        **filters: Unpack[Filters],
    ) -> CallFollower:
        """New calls without end: polls, and hands out each call once.

        An outage is waited out; refusals (401, 403, a wrong query) are raised. Memory holds the ids of the look-back.

        Args:
            since: the first second; None: now.
            interval: seconds, or a timedelta, between polls.
            lookback: seconds, or a timedelta, before the newest call that each poll reads again: calls arrive late, and
                transcripts take up to half an hour. Two hours by default.
            include_updates: hand a call out again when its content has changed.
            fields: what to ask for.
            on_error: as for `stream`.
            **filters: the endpoint's own filters.

        Raises:
            QueryError: an argument that the endpoint would refuse or misread.
        """
        asked = to_local_time(InsightsQuery.from_arguments(since, fields=fields, **filters), self._timezone)
        chosen = asked.fields or Fields.DEFAULT
        every_field = with_keys(chosen)
        hidden = tuple(str(name) for name in every_field[len(chosen) :])
        query = evolve(asked, start_date=None, fields=every_field)
        begin = asked.start_date or self.now()

        def read(lower: datetime) -> CallStream:
            # The account's clock may be ahead of this one; calls that have not begun do not exist.
            return self.stream(lower, self.now() + timedelta(days=1), query=query, on_error=on_error)

        pause = seconds(interval, "interval")
        back = timedelta(seconds=min(seconds(lookback, "lookback"), LONGEST))
        return CallFollower(
            PollState(
                read,
                self.now,
                self._runtime.sleep,
                begin,
                begin,
                pause,
                back,
                include_updates=include_updates,
                hidden=hidden,
            )
        )

    # Life.

    async def __aenter__(self) -> Self:
        self._shelter.check_usable()
        await self._http.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends all that is under way and closes all connections. Harmless when done before."""
        await self._shelter.aclose()
        await self._http.aclose()

    @property
    def account(self) -> str:
        """Whose calls these are: the API user and the service's address."""
        return self._account

    def __repr__(self) -> str:
        if not hasattr(self, "_account"):
            return "<AsyncInsights, refused>"
        return f"<AsyncInsights {self._address}: {self._gate.in_flight} of {self._gate.concurrency} requests in flight>"

    def __reduce__(self) -> Any:
        raise ConfigurationError(
            "a session holds connections and a key and cannot be pickled; make one in each process"
        )

    # Parts.

    @property
    def timezone(self) -> tzinfo | None:
        """The account's time zone, or None where it was not given."""
        return self._timezone

    def now(self) -> datetime:
        """The account's local time; without a time zone, this machine's."""
        return self._runtime.utcnow().astimezone(self._timezone).replace(microsecond=0, tzinfo=None)

    def _profile(self, fields: tuple[Field, ...]) -> PageSizeEstimator:
        return self._profiles.setdefault(fields, PageSizeEstimator())

    def _structurer(self, fields: Iterable[Field] | None, on_error: OnError) -> CallDecoder:
        how = checked_on_error(on_error)
        return CallDecoder(tuple(fields or Fields.DEFAULT), timezone=self._timezone, on_error=how)

    async def _request(self, params: str) -> RawPage:
        """One request outside any stream."""
        watch = Telemetry(self._observer)

        async def work() -> RawPage:
            holder = object()
            await self._gate.acquire(holder)
            try:
                return await self._gate.run(
                    lambda left: watch.track_request(self._http.get_page(params, time_limit=left)),
                    self._retry,
                    on_retry=watch.retry_scheduled,
                )
            finally:
                self._gate.release(holder)

        return await self._shelter.run(work)

    def _pump(self, size: int | None, reading: ReadSpec, page_format: PageFormat) -> PageFetcher:
        # With the fields now, since checking them takes longer than all else that a request's parameters need.
        query, profile = evolve(reading.query, fields=reading.fields), self._profile(reading.fields)
        plan, page_size = plan_for(reading, profile, size, page_format.target_bytes, self._gate.concurrency)

        def params(ask: PageRequest) -> str:
            lo, hi = ask.lo, ask.hi
            return query.to_query_string(
                page=ask.page, limit=ask.limit, start_date=lo, end_date=hi, order=ask.order
            )

        return PageFetcher(
            plan,
            params,
            http=self._http,
            gate=self._gate,
            shelter=self._shelter,
            policy=self._retry,
            profile=profile,
            watch=watch_for(reading, self._observer),
            page_size=page_size,
            page_format=page_format,
        )
