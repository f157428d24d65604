"""Requests pages from the endpoint: `Endpoint.get_page` takes a query string, and returns a page or raises an error.

Invariants:

- Credentials are sent to the configured origin only.
- An attempt ends when the network has taken longer than its limit.
- A response is closed in spite of a cancellation, within a few seconds.
- A page is returned complete or not at all.

httpx's transports are used without its client, because the client copies custom headers to the target of a redirect and logs
the full URL with its phone numbers. httpx's timeouts apply to single reads, so each attempt has a `NetworkDeadline`. Its
gzip decoder accepts truncated bodies, so raw bytes are read and decoded here. Callers run in a task of `TaskSupervisor`.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from typing import TYPE_CHECKING, Any, Final

import anyio
import httpx

from .._parsing.error_body import ERROR_BYTES, error_messages
from .._parsing.splitter import PageSplitter
from .._redaction import make_redactor
from ..errors import ConfigurationError, DecodeError, RequestError, RequestTimeout
from .body import ResponseBody, check_response, describe_type
from .deadline import NetworkDeadline
from .exceptions import CONNECTION_HINT, convert_exception
from .failures import RetryableFailure
from .network import ConnectionLog, PoolTransport, close_quietly, with_tracked_connections
from .responses import error_for_status
from .urls import format_address, format_origin, parse_proxy

# anyio imports its backend at first use, which would block a running event loop for some milliseconds.
with contextlib.suppress(ImportError):
    import anyio._backends._asyncio

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._config import Sign
    from .._parsing.page import PageBuilder, RawPage

__all__ = ["MAX_PAGE_BYTES", "Endpoint"]

#: Bytes of the largest page accepted, as sent and as decoded, unless the session sets another limit.
MAX_PAGE_BYTES: Final = 64 * 1024 * 1024
#: Characters of a message about a page, at most. Messages are cut after they are masked.
MAX_MESSAGE: Final = 300
#: Seconds for the body of an error; its status is enough to go on.
ERROR_BODY_SECONDS: Final = 5.0


_ssl_context: ssl.SSLContext | None = None
_ssl_context_lock = threading.Lock()


def ssl_context() -> ssl.SSLContext:
    """Returns the SSL context of the process. It is created once, since reading the certificates takes 25 ms."""
    global _ssl_context  # noqa: PLW0603 - created once
    with _ssl_context_lock:
        if _ssl_context is None:
            _ssl_context = httpx.create_ssl_context(trust_env=False)
            # The standard library follows SSLKEYLOGFILE, so whoever sets that variable could read the key.
            _ssl_context.keylog_filename = None  # type: ignore[assignment]  # as documented
        return _ssl_context


def _make_redactors(sign: Sign) -> tuple[Callable[[str], str], Callable[[str], str]]:
    # A function of its own: the key must not be a variable of a frame that may become part of a traceback.
    key = dict(sign())[b"secureKey"].decode()
    return make_redactor(key), make_redactor(key, only_secrets=True)


class Endpoint:
    """Sends requests to one endpoint.

    Args:
        base_url: as `check_base_url` returns it.
        sign: returns the credential headers.
        concurrency: maximum number of connections.
        timeout: seconds for one attempt, from start to last byte, without the time spent computing.
        proxy: a proxy's URL, "environment" to use HTTPS_PROXY and the like, or None.
        transport: replaces the connection pool; not allowed together with `proxy`. `concurrency` does not apply to it: if its
            pool has fewer connections, the time a request waits in it counts as part of the attempt. aiohttp's pool has 100,
            kept open for 5 to 15 seconds; aiohttp also keeps a host's cookies, rejects headers beyond 8 KB or 128, and
            repeats a request itself if the connection is lost before the response.
        max_page_bytes: size of the largest page accepted.
        on_date: called with the `Date` and `Age` headers of each page.

    Raises:
        ConfigurationError: the transport or the proxy cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        sign: Sign,
        *,
        concurrency: int,
        timeout: float,
        proxy: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        max_page_bytes: int = MAX_PAGE_BYTES,
        on_date: Callable[[str | None, str | None], None] | None = None,
    ) -> None:
        if transport is not None and not isinstance(transport, httpx.AsyncBaseTransport):
            raise ConfigurationError(
                "transport",
                f"must be an instance of httpx.AsyncBaseTransport, got {describe_type(transport)}",
                "Pass one of httpx such as httpx.AsyncHTTPTransport(), or httpx_aiohttp.AiohttpTransport(); no client, no "
                "synchronous transport and none of httpx2.",
            )
        if proxy is not None and transport is not None:
            raise ConfigurationError(
                "proxy", "cannot be combined with transport", "Configure the proxy in the transport."
            )
        self._url = f"{base_url}/calls/insights"
        self._sign = sign
        #: Masks the key, phone numbers and credentials in URLs; and the key only, in messages of this package.
        self._mask, self._mask_key = _make_redactors(sign)
        self._concurrency = concurrency
        self._timeout = timeout
        self._proxy = parse_proxy(proxy, base_url)
        self._address = format_address(httpx.URL(base_url))
        if self._proxy is not None:
            self._address += f" through the proxy {format_address(self._proxy.url)}"
        self._transport = transport
        self._own_pool = transport is None
        self._max_page_bytes = max_page_bytes
        self._on_date = on_date

    async def open(self) -> None:
        """Creates the connection pool without blocking the event loop."""
        if self._transport is not None:
            return
        if self._url.startswith("https:") or (self._proxy is not None and self._proxy.url.scheme == "https"):
            context = await anyio.to_thread.run_sync(ssl_context)
        else:
            # Never used, but without one httpcore would read the certificates.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._transport is None:
            self._transport = PoolTransport(
                concurrency=self._concurrency, ssl_context=context, proxy=self._proxy
            )

    async def aclose(self) -> None:
        """Closes all connections. Errors are ignored, and waiting ends after a few seconds."""
        if self._transport is not None:
            await close_quietly(self._transport.aclose)

    async def get_page(
        self, params: str, *, time_limit: float, new_page: Callable[[], PageBuilder] = PageSplitter
    ) -> RawPage:
        """Requests a page once.

        Args:
            params: the query string.
            time_limit: seconds for this attempt, if less than the session's `timeout`.
            new_page: creates the builder of the page.

        Raises:
            RetryableFailure: a retry may succeed.
            RequestError: a retry would fail too.
        """
        await self.open()
        limit = min(self._timeout, time_limit)
        # With a transport of the user's, its events tell whether it reuses a connection.
        log = ConnectionLog(in_use=self._own_pool)
        try:
            with NetworkDeadline(limit) as deadline:
                return await self._request(params, new_page, log, deadline)
        except (RetryableFailure, RequestError) as error:
            self._mask_key_in(error.error if isinstance(error, RetryableFailure) else error)
            # Remove the traceback: the variables of its frames hold the page and the query.
            raise error.with_traceback(None)  # noqa: B904 - it is the same error
        if log.unreachable:
            problem = f"cannot connect to the server at {self._address} within {limit:g} seconds"
            raise RetryableFailure(RequestTimeout(problem, hint=CONNECTION_HINT), unreachable=True)
        timed_out = RequestTimeout(
            f"no complete response within {limit:g} seconds", hint="Raise timeout= if pages take that long."
        )
        raise RetryableFailure(timed_out, overload=True, splittable=True)

    def _mask_key_in(self, error: BaseException | None) -> None:
        """Masks the key in the messages of an error and its causes, whatever wrote them."""
        while error is not None:
            error.args = tuple(self._mask_key(arg) if isinstance(arg, str) else arg for arg in error.args)
            error = error.__cause__

    async def _request(
        self, params: str, new_page: Callable[[], PageBuilder], log: ConnectionLog, deadline: NetworkDeadline
    ) -> RawPage:
        assert self._transport is not None
        request = httpx.Request(
            "GET",
            f"{self._url}?{params}",
            headers=[
                (b"accept", b"application/json"),
                (b"accept-encoding", b"gzip"),
                # A page from a cache could miss calls that another page has shown already.
                (b"cache-control", b"no-cache"),
                (b"user-agent", b"iovox-async"),
                *self._sign(),
            ],
            extensions=self._extensions(log),
        )
        body: ResponseBody | None = None
        try:
            response = await with_tracked_connections(self._transport.handle_async_request(request), log)
            check_response(response)
            try:
                body = ResponseBody(response, self._max_page_bytes, deadline)
                return await self._read_page(response, body, new_page)
            finally:
                await close_quietly(response.stream.aclose)  # type: ignore[union-attr]  # checked above
        except (RetryableFailure, RequestError):
            raise
        except Exception as error:
            ours = body is not None and not body.reading
            failure = convert_exception(
                error, response_started=ours, reused=log.reused, address=self._address
            )
            if failure is None:
                raise
        # Raised outside the except block: the library's exception, which may hold the request, must not become its context.
        raise failure

    def _extensions(self, log: ConnectionLog) -> dict[str, Any]:
        # The deadline covers the whole attempt; a timeout for each read would cost a timer each. A transport of the user's may
        # expect numbers: it gets twice the time, so that the deadline comes first.
        timeout = None if self._own_pool else 2 * self._timeout
        extensions: dict[str, Any] = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout)}
        if not self._own_pool:
            extensions["trace"] = log.trace
        return extensions

    async def _read_page(
        self, response: httpx.Response, body: ResponseBody, new_page: Callable[[], PageBuilder]
    ) -> RawPage:
        if self._on_date is not None and response.status_code in {200, 204}:
            self._on_date(response.headers.get("date"), response.headers.get("age"))
        if response.status_code == 204:
            return PageSplitter.empty()
        if response.status_code != 200:
            messages = await self._error_messages(body)
            origin = self._mask(format_origin(response.headers.get("location")))
            raise error_for_status(response.status_code, response.headers, messages, origin)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "", "gzip", "x-gzip"}:
            problem = f"the page has the encoding {self._mask(encoding)[:40]!r}, but only gzip was accepted"
            raise RetryableFailure(DecodeError(problem), max_attempts=1)
        builder = new_page()
        try:
            async with contextlib.aclosing(body.blocks()) as blocks:
                async for block in blocks:
                    body.decode(builder.feed, block)
            body.deadline.stop()
            return await builder.finish(body.received)
        except DecodeError as error:
            problem, hint = _cut(self._mask_key(error.args[0])), error.hint
        except RecursionError:
            problem, hint = "the page cannot be decoded: Python's recursion limit is too near", None
        # Raised outside the except block: the decoder's exception, which may hold the page, must not become its context.
        is_html = "html" in response.headers.get("content-type", "")
        # A page that is too large stays too large. HTML comes from a gateway, and rarely changes.
        max_attempts = 1 if body.too_large else 2 if is_html else None
        raise RetryableFailure(
            DecodeError(problem, hint=hint), splittable=not is_html, max_attempts=max_attempts
        )

    async def _error_messages(self, body: ResponseBody) -> tuple[str, ...]:
        """The messages in an error body. Failures while reading it are ignored: the status decides."""
        data = b""
        with contextlib.suppress(Exception), anyio.move_on_after(ERROR_BODY_SECONDS):
            async with contextlib.aclosing(body.blocks()) as blocks:
                async for block in blocks:
                    data += block
                    if len(data) >= ERROR_BYTES:
                        break
        return error_messages(data, self._mask)


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 1]}…"
