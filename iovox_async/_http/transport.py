"""Requests pages from the endpoint: `Endpoint.get_page` takes a query string, and returns a page or raises an error.

Invariants:

- Credentials are sent to the configured origin only.
- An attempt ends at its deadline.
- A page is returned complete or not at all.

httpx's transports are used without its client, because the client copies custom headers to the target of a redirect and logs
the full URL with its phone numbers. httpx's timeouts apply to single reads, so each attempt has a deadline of its own. Its
gzip decoder accepts truncated bodies, so raw bytes are read and decoded here. Callers run in a task of `TaskSupervisor`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from typing import TYPE_CHECKING, Final

import anyio
import httpx

from .._parsing.error_body import ERROR_BYTES, error_messages
from .._parsing.gzip import GzipDecoder
from .._parsing.splitter import PageSplitter
from .._redaction import make_redactor
from ..errors import ConfigurationError, DecodeError, RequestError, RequestTimeout
from .exceptions import convert_exception
from .network import PoolTransport, with_tracked_connections
from .responses import error_for_status
from .throttle import RetryableFailure
from .urls import format_address, format_origin, parse_proxy

# anyio imports its backend at first use, which would block a running event loop for some milliseconds.
with contextlib.suppress(ImportError):
    import anyio._backends._asyncio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from .._config import Sign
    from .._parsing.page import PageBuilder, RawPage

__all__ = ["MAX_BODY_BYTES", "Endpoint"]

#: Bytes of the largest page accepted, as sent and as decoded: twice the largest page of long transcriptions.
MAX_BODY_BYTES: Final = 512 * 1024 * 1024
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


class Endpoint:
    """Sends requests to one endpoint.

    Args:
        base_url: as `check_base_url` returns it.
        sign: returns the credential headers.
        concurrency: maximum number of connections.
        timeout: seconds for one attempt, from start to last byte.
        proxy: a proxy's URL, "environment" to use HTTPS_PROXY and the like, or None.
        transport: replaces the connection pool; not allowed together with `proxy`. `concurrency` does not apply to it: if its
            pool has fewer connections, the time a request waits in it counts as part of the attempt. aiohttp's pool has 100,
            kept open for 5 to 15 seconds; aiohttp also keeps a host's cookies, rejects headers beyond 8 KB or 128, and
            repeats a request itself if the connection is lost before the response.
        max_body_bytes: size of the largest page accepted.
        on_date: called with the `Date` and `Age` headers of each page.
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
        max_body_bytes: int = MAX_BODY_BYTES,
        on_date: Callable[[str | None, str | None], None] | None = None,
    ) -> None:
        if proxy is not None and transport is not None:
            raise ConfigurationError(
                "proxy", "cannot be combined with transport", "Configure the proxy in the transport."
            )
        self._url = f"{base_url}/calls/insights"
        self._sign = sign
        key = dict(sign())[b"secureKey"].decode()
        #: Masks the key, phone numbers and credentials in URLs; and the key only, in messages of this package.
        self._mask, self._mask_key = make_redactor(key), make_redactor(key, only_secrets=True)
        self._concurrency = concurrency
        self._timeout = timeout
        self._proxy = parse_proxy(proxy, base_url)
        self._address = format_address(httpx.URL(base_url))
        if self._proxy is not None:
            self._address += f" through the proxy {format_address(self._proxy.url)}"
        self._transport = transport
        self._max_body_bytes = max_body_bytes
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
        """Closes all connections."""
        if self._transport is not None:
            await self._transport.aclose()

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
        with anyio.move_on_after(limit):
            try:
                return await self._request(params, new_page)
            except (RetryableFailure, RequestError) as error:
                self._mask_key_in(error.error if isinstance(error, RetryableFailure) else error)
                # Remove the traceback: the variables of its frames hold the page and the query.
                raise error.with_traceback(None)  # noqa: B904 - it is the same error
        timed_out = RequestTimeout(
            f"no complete response within {limit:g} seconds", hint="Raise timeout= if pages take that long."
        )
        raise RetryableFailure(timed_out, overload=True, splittable=True)

    def _mask_key_in(self, error: BaseException | None) -> None:
        """Masks the key in the messages of an error and its causes, whatever wrote them."""
        while error is not None:
            error.args = tuple(self._mask_key(arg) if isinstance(arg, str) else arg for arg in error.args)
            error = error.__cause__

    async def _request(self, params: str, new_page: Callable[[], PageBuilder]) -> RawPage:
        assert self._transport is not None
        request = httpx.Request(
            "GET",
            f"{self._url}?{params}",
            headers=[
                (b"accept", b"application/json"),
                (b"accept-encoding", b"gzip"),
                (b"user-agent", b"iovox-async"),
                *self._sign(),
            ],
            # The deadline covers the whole attempt; a timeout for each read would cost a timer each.
            extensions={"timeout": {"connect": self._timeout}},
        )
        response_started = False
        try:
            response = await with_tracked_connections(self._transport.handle_async_request(request))
            response_started = True
            try:
                return await self._read_page(response, new_page)
            finally:
                await response.stream.aclose()  # type: ignore[union-attr]  # async, as the transport is
        except (RetryableFailure, RequestError):
            raise
        except Exception as error:
            failure = convert_exception(error, response_started=response_started, address=self._address)
            if failure is None:
                raise
        # Raised outside the except block: the library's exception, which may hold the request, must not become its context.
        raise failure

    async def _read_page(self, response: httpx.Response, new_page: Callable[[], PageBuilder]) -> RawPage:
        if self._on_date is not None and response.status_code in {200, 204}:
            self._on_date(response.headers.get("date"), response.headers.get("age"))
        if response.status_code == 204:
            return PageSplitter.empty()
        if response.status_code != 200:
            messages = await self._error_messages(response)
            origin = self._mask(format_origin(response.headers.get("location")))
            raise error_for_status(response.status_code, response.headers, messages, origin)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "", "gzip", "x-gzip"}:
            problem = f"the page has the encoding {self._mask(encoding)[:40]!r}, but only gzip was accepted"
            raise RetryableFailure(DecodeError(problem), max_attempts=1)
        builder = new_page()
        body = _Body(response, self._max_body_bytes)
        try:
            async with contextlib.aclosing(body.blocks()) as blocks:
                async for block in blocks:
                    builder.feed(block)
            return await builder.finish(body.received)
        except DecodeError as error:
            problem, hint = _cut(self._mask_key(error.args[0])), error.hint
        # Raised outside the except block: the decoder's exception, which may hold the page, must not become its context.
        is_html = "html" in response.headers.get("content-type", "")
        # A page that is too large stays too large. HTML comes from a gateway, and rarely changes.
        max_attempts = 1 if body.too_large else 2 if is_html else None
        raise RetryableFailure(
            DecodeError(problem, hint=hint), splittable=not is_html, max_attempts=max_attempts
        )

    async def _error_messages(self, response: httpx.Response) -> tuple[str, ...]:
        """The messages in an error body. Failures while reading it are ignored: the status decides."""
        data = b""
        with contextlib.suppress(Exception), anyio.move_on_after(ERROR_BODY_SECONDS):
            async with contextlib.aclosing(_Body(response, self._max_body_bytes).blocks()) as blocks:
                async for block in blocks:
                    data += block
                    if len(data) >= ERROR_BYTES:
                        break
        return error_messages(data, self._mask)


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 1]}…"


class _Body:
    """The body of a response, decompressed.

    Attributes:
        received: bytes received so far.
        too_large: reading was stopped, because the received or decoded size exceeds the limit.
    """

    def __init__(self, response: httpx.Response, max_bytes: int) -> None:
        self.received = 0
        self.too_large = False
        self._stream = response.stream
        self._gzip = GzipDecoder() if "gzip" in response.headers.get("content-encoding", "").lower() else None
        self._max_bytes = max_bytes
        self._decoded = 0

    async def blocks(self) -> AsyncGenerator[bytes]:
        """Reads and decompresses the body block by block.

        Raises:
            DecodeError: it is truncated, damaged or too large.
        """
        async for data in self._stream:  # type: ignore[union-attr]  # async, as the transport is
            self.received += len(data)
            self._check_size(self.received)
            if self._gzip is None:
                yield data
                continue
            for block in self._gzip.feed(data):
                self._decoded += len(block)
                self._check_size(self._decoded)
                yield block
                await asyncio.sleep(0)
        if self._gzip is not None:
            self._gzip.finish()

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            self.too_large = True
            raise DecodeError(f"the page is larger than {self._max_bytes} bytes")
