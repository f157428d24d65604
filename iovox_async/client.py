"""Provides `AsyncInsights`, the client."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta, tzinfo
from typing import TYPE_CHECKING, Final, SupportsIndex, Unpack

from attrs import evolve

from ._config import Secret, check_flag, check_page_size, positive_seconds
from ._fetching.by_id import fetch_by_id, flatten_ids
from ._fetching.connection import connect
from ._fetching.reader import StreamReader
from ._fetching.session import Session
from ._fetching.slices import decode_page, raw_json
from ._http.transport import MAX_PAGE_BYTES
from ._paging.spec import FINALITY_DELAY, Paging, add_fields, resolve, to_local_time
from ._parsing.decoder import CallDecoder, OnError, checked_on_error
from ._telemetry import enable_logging
from .errors import QueryError
from .fields import Field, Fields
from .query import Filters, InsightsQuery, check_filter_names
from .results import Page
from .retry import RetryPolicy, seconds
from .stream import CallStream

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ._http.engines import EngineName, Transport
    from ._http.tls import Verify
    from ._params.dates import DateLike
    from .events import Observer
    from .fields import FieldNames
    from .follow import CallFollower
    from .models import Call

__all__ = ["AsyncInsights"]

DAY: Final = timedelta(days=1)
#: Seconds of the longest timedelta.
MAX_SECONDS: Final = timedelta.max // timedelta(seconds=1)


class AsyncInsights(Session):
    """A client session: `stream` reads a range of calls, `page` one page, `get` calls by id, `follow` new calls.

    ::

        async with AsyncInsights() as insights:
            async for call in insights.stream("2024-01-01", "2024-03-31", call_result="ANSWERED"):
                print(call.id, call.call_start, call.talk_time)

    Create one per program and share it: its limits apply to all its requests together. It belongs to one event loop and
    one process.

    Args:
        username: the API user of the account; by default the environment variable IOVOX_USERNAME.
        secure_key: its key; by default IOVOX_SECURE_KEY. No repr, log, error or file contains it.
        base_url: by default IOVOX_URL, else the address of the service. https, or http to this machine; see `allow_http`.
        concurrency: the number of requests in flight, at most, over all streams of the session.
        page_size: rows per request, 1 to 20,000; None: chosen by the size of the records (about 4 MB per page). Small
            pages take many requests, and pages of one row several for each call.
        retry: how often and how long a request is retried.
        timeout: seconds or a timedelta for one attempt, from its start to the last byte. Time in which this program computes
            does not count.
        max_page_bytes: the largest page accepted, as sent and as decompressed. Streams replace a larger one by smaller ones;
            where that is impossible, a `DecodeError` is raised.
        timezone: the time zone of the account, as a tzinfo or an IANA name. With it, dates passed may be aware and dates
            of records are. Without it all dates are naive and in the account's local time, which the endpoint never states.
        proxy: the URL of a proxy (`http://`, `https://`, `socks5://`), or "environment" to read HTTPS_PROXY and the like.
            By default these variables are ignored.
        verify: the certificates trusted. True: those that SSL_CERT_FILE or SSL_CERT_DIR names, else those of the library (for
            httpx, Mozilla's, from certifi). A path: those of a CA bundle or folder. "system": those of the operating system
            (extra `truststore`). An `ssl.SSLContext`: what it says; a client certificate is loaded into it. Its key logging is
            switched off.
        allow_http: accept a `base_url` of http to a host of a private network, such as a sandbox in another container; also
            by IOVOX_ALLOW_HTTP=1. The key is sent there unencrypted.
        headers: headers to send with each request. `User-Agent` may be among them, but no credential, and none that the client
            itself needs.
        engine: the library that sends the requests, "httpx" or "httpx2" (extra `httpx2`).
        transport: an asynchronous transport of httpx, httpx2 or httpx_aiohttp to use instead of the client's own connections; it is
            closed with the session. It has its own proxies, certificates and pool, so `proxy` and `verify` must not be passed
            with it. For aiohttp: `httpx_aiohttp.AiohttpTransport(trust_env=False)`.
        observer: receives an event for every request, retry, page and stream, for metrics (see `iovox_async.events`).

    Raises:
        ConfigurationError: an argument or an environment variable is missing or invalid.
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
        max_page_bytes: int = MAX_PAGE_BYTES,
        timezone: tzinfo | str | None = None,
        proxy: str | None = None,
        verify: Verify = True,
        allow_http: bool = False,
        headers: Mapping[str, str] | None = None,
        engine: EngineName = "httpx",
        transport: Transport | None = None,
        observer: Observer | None = None,
    ) -> None:
        enable_logging()
        # The key leaves the local variables at once, so that a traceback that shows them cannot show it.
        key, secure_key = Secret("secure_key", secure_key), None
        self._page_size = check_page_size(page_size)
        self._connection = connect(
            Secret("username", username),
            key,
            base_url=base_url,
            concurrency=concurrency,
            retry=retry,
            timeout=timeout,
            max_page_bytes=max_page_bytes,
            timezone=timezone,
            proxy=proxy,
            verify=verify,
            allow_http=allow_http,
            headers=headers,
            engine=engine,
            transport=transport,
            observer=observer,
        )

    def stream(
        self,
        start: DateLike | None = None,
        end: DateLike | None = None,
        *,
        query: InsightsQuery | None = None,
        order: str = "call_start_ASC",
        fields: FieldNames = Fields.DEFAULT,
        page_size: int | None = None,
        ordered: bool = True,
        paging: Paging = "auto",
        max_calls: int | None = None,
        resume: str | None = None,
        on_error: OnError = "raise",
        **filters: Unpack[Filters],
    ) -> CallStream:
        """Returns the calls of a range, each exactly once, as an async iterator.

        Requests start when the first call is awaited. With `paging="windows"`, which "auto" selects for an order by
        `call_start`, each call that exists during the whole read is delivered exactly once, even if calls are inserted,
        deleted or changed meanwhile. With `paging="pages"`, the only way for other orders, that holds only while neither the data
        nor the server's order of calls with equal values changes: in a simulation of a live server (3,000 calls, pages of 200, eight
        at once, inserts and deletes between requests), nearly all of 100 reads by page numbers lost calls. The first call that comes
        on two pages is logged as a warning.

        Args:
            start: the first second, inclusive: str, date or datetime. None: the first of this month; with an `end` before
                that, the stream is empty.
            end: the last second, inclusive; a bare date means 23:59:59. None: now, fixed when this method is called; without
                a time zone, the latest that it may be in the account (UTC+14).
            query: an `InsightsQuery` instead of, or in addition to, the arguments.
            order: a field with `_ASC` or `_DESC`.
            fields: the fields to request: a preset of `Fields`, or names.
            page_size: rows per request; None: that of the session.
            ordered: deliver calls in order; False: deliver windows as they finish, which starts sooner on uneven data.
            paging: "auto", "windows" or "pages", see above.
            max_calls: the number of calls to deliver, at most.
            resume: the `.position` of an earlier stream with the same arguments: continue right after it.
            on_error: "raise" a `RecordError` for a record that cannot be decoded, or "skip" and count it.
            **filters: the endpoint's filters, see `Filters`.

        Raises:
            QueryError: the endpoint would reject or misinterpret an argument.
        """
        requested = InsightsQuery.from_arguments(
            start,
            end,
            query=query,
            order=order,
            fields=fields,
            default_order="call_start_ASC",
            default_fields=Fields.DEFAULT,
            **filters,
        )
        check_flag("ordered", ordered, QueryError)
        page_size = self._page_size if page_size is None else check_page_size(page_size, QueryError)
        if page_size is None and query is not None:
            page_size = query.limit
        time = self._connection.time
        reading = time.read()
        spec = resolve(
            requested,
            now=time.latest_now(reading),
            earliest_now=time.earliest_now(reading),
            resolved_at=reading,
            timezone=self.timezone,
            ordered=ordered,
            paging=paging,
            page_size=page_size,
            max_calls=max_calls,
            resume=resume,
        )
        return CallStream(StreamReader(spec, self._connection, self._decoder(spec.fields, on_error)))

    async def page(
        self,
        start: InsightsQuery | DateLike | None = None,
        end: DateLike | None = None,
        *,
        query: InsightsQuery | None = None,
        page: int = 1,
        page_size: int = 10_000,
        order: str = "call_start_DESC",
        fields: FieldNames = Fields.DEFAULT,
        on_error: OnError = "raise",
        **filters: Unpack[Filters],
    ) -> Page:
        """Requests one page and returns it as the server sends it, with the endpoint's own defaults.

        A call that the server lists twice is in it twice; streams deliver it once.

        Args:
            start: an `InsightsQuery`, or the first second; None: the first of this month.
            end: the last second; None: the end of today.
            query: an `InsightsQuery` instead of, or in addition to, the arguments.
            page: the page number, from 1.
            page_size: rows per page, 1 to 20,000.
            order: a field with `_ASC` or `_DESC`.
            fields: the fields to request.
            on_error: as for `stream`.
            **filters: the endpoint's filters, see `Filters`.

        Raises:
            QueryError: the endpoint would reject an argument.
            IovoxError: the request failed for good.
        """
        if isinstance(start, InsightsQuery):
            query, start = start, None
        requested = to_local_time(
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
            self.timezone,
        )
        page_size = check_page_size(page_size, QueryError) or 10_000
        if query is not None:
            page = query.page if page == 1 else page
            page_size = query.limit if page_size == 10_000 and query.limit is not None else page_size
        response = await self._connection.get(requested.to_query_string(page=page, limit=page_size))
        calls = await decode_page(self._decoder(requested.fields, on_error), response)
        return Page(
            page,
            calls,
            await raw_json(response, range(response.rows)),
            response.status_code,
            response.headers,
            response.attempts,
        )

    async def get(
        self,
        *ids: SupportsIndex | str | Iterable[SupportsIndex | str],
        fields: FieldNames = Fields.DEFAULT,
        on_error: OnError = "raise",
    ) -> list[Call]:
        """Returns the calls with these ids, in the order of the ids; ids that do not exist are left out.

        Long lists are split into several requests, so that no URL is longer than 4 KiB.

        Raises:
            QueryError: an id is not a number.
            IovoxError: a request failed for good.
        """
        flat_ids = flatten_ids(ids)
        if not flat_ids:
            return []
        query = InsightsQuery(ids=flat_ids, fields=fields)
        all_fields, _ = add_fields(query.fields, ("id",))
        decoder = self._decoder(all_fields, on_error)
        # A call found by its id may start in the future, if a clock at an exchange is wrong.
        end = self._connection.time.latest_now() + DAY
        return await fetch_by_id(query, all_fields, self._connection, decoder, end)

    def follow(
        self,
        since: DateLike | None = None,
        *,
        interval: float | timedelta = 60,
        lookback: float | timedelta = FINALITY_DELAY,
        include_updates: bool = False,
        fields: FieldNames = Fields.DEFAULT,
        on_error: OnError = "raise",
        **filters: Unpack[Filters],
    ) -> CallFollower:
        """Polls for new calls, and returns them as an endless async iterator, each once.

        Polling continues after temporary errors; others (401, 403, an invalid query) are raised. Memory holds the ids of
        the calls within the look-back.

        Args:
            since: the first second; None: now. Without a time zone, None is the earliest that it may be in the account
                (UTC-12), so that calls of the last hours come first.
            interval: seconds or a timedelta between polls, more than 0.
            lookback: seconds or a timedelta before the latest call that each poll reads again, because calls arrive late
                and transcripts take up to half an hour. Two hours by default.
            include_updates: deliver a call again when its content has changed.
            fields: the fields to request.
            on_error: as for `stream`.
            **filters: the endpoint's filters, see `Filters`.

        Raises:
            QueryError: the endpoint would reject or misinterpret an argument.
            ConfigurationError: `interval`, `lookback` or `include_updates` is invalid.
        """
        from .follow import CallFollower, PollRange, PollState  # takes milliseconds, and few programs use it

        query = InsightsQuery.from_arguments(since, fields=fields, **check_filter_names(filters))
        query = to_local_time(query, self.timezone)
        check_flag("include_updates", include_updates)
        all_fields, added_fields = add_fields(query.fields)
        stream_query = evolve(query, start_date=None, fields=all_fields)

        time = self._connection.time

        def read(start: datetime) -> CallStream:
            # A day more, because the clocks may be wrong, of this machine before the first response and of exchanges.
            end = max(start, time.latest_now()) + DAY
            return self.stream(start, end, query=stream_query, on_error=on_error)

        return CallFollower(
            PollState(
                read=read,
                sleep=self._connection.runtime.sleep,
                clock=self._connection.runtime.clock,
                range=PollRange(
                    time,
                    query.start_date or time.earliest_now(),
                    timedelta(seconds=min(seconds(lookback, "lookback"), MAX_SECONDS)),
                ),
                interval=positive_seconds("interval", interval),
                max_retry_after=self._connection.retry.max_retry_after,
                include_updates=include_updates,
                added_fields=added_fields,
            )
        )

    def _decoder(self, fields: Iterable[Field] | None, on_error: OnError) -> CallDecoder:
        on_error = checked_on_error(on_error)
        return CallDecoder(tuple(fields or Fields.DEFAULT), timezone=self.timezone, on_error=on_error)
