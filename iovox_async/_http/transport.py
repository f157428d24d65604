"""One exchange: a query string in, a page or a typed error out. The only room that knows httpx.

The law of this room: credentials go to the configured origin and nowhere else, an attempt ends when its time is up,
and an answer is taken whole or not at all. (That no cancellation from outside reaches httpx is the law of `shelter`.)

Known faults of httpx 0.28 that are absorbed here: its client copies custom headers to the target of a redirect (so
its transport is used without its client, and a redirect is an error); its timeouts are per read (so each attempt has
a deadline of its own); a cut gzip body passes as whole (so raw bytes are taken, and `wire` is strict); an idle
connection that the server closed is an error (tried again at once); and its INFO line shows the full URL, phone
numbers included (without its client there is no such line).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

# Imported now, since its first use would otherwise stall a running loop.
import anyio
import anyio._backends._asyncio
import httpx

from .._parsing.error_body import ERROR_BYTES, error_messages
from .._parsing.gzip import GzipDecoder
from .._parsing.splitter import PageSplitter, RawPage
from ..errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DecodeError,
    MissingExtraError,
    PermissionDeniedError,
    RateLimitError,
    RequestError,
    RequestTimeout,
    ResponseError,
    ServerError,
    UnexpectedRedirectError,
)
from ..retry import parse_retry_after
from .exceptions import failure_of
from .network import TrackingBackend, with_tracked_connections
from .throttle import RetryableFailure
from .urls import _origin, _place, _proxy, _with_params

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._config import Sign
    from .._parsing.splitter import PageBuilder

__all__ = ["BODY_BYTES", "Endpoint"]

#: Bytes of one page, at most, as sent and as decoded: twice the largest page of long transcriptions.
BODY_BYTES: Final = 512 * 1024 * 1024
#: Seconds for the body of an error, whose status is known already.
ERROR_SECONDS: Final = 5.0
#: Codes that may pass, besides 429. Source: the endpoint's table (500) and common practice for the others.
PASSING: Final = frozenset({408, 425, 500, 502, 503, 504, *range(520, 530)})


_context: ssl.SSLContext | None = None
_context_lock = threading.Lock()


def ssl_context() -> ssl.SSLContext:
    """The one SSL context of the process. Made once, since reading the certificates takes 25 ms."""
    global _context  # noqa: PLW0603 - made once on purpose
    with _context_lock:
        if _context is None:
            _context = httpx.create_ssl_context(trust_env=False)
            # The standard library heeds SSLKEYLOGFILE, and with it whoever sets a variable could read the key.
            _context.keylog_filename = None  # type: ignore[assignment]  # what the documentation says
        return _context


class Endpoint:
    """Exchanges with one endpoint.

    Args:
        base_url: as `check_base_url` returns it.
        sign: gives the credential headers.
        concurrency: connections, at most.
        timeout: seconds for one attempt, from start to last byte.
        proxy: a proxy's URL, "environment" to read HTTPS_PROXY and its like, or None.
        transport: to use instead of httpx's own; `proxy` is refused beside it. `concurrency` does not reach into it: its
            pool should hold no fewer connections (aiohttp's: 100, kept for 5 to 15 seconds), or what waits in it is counted
            as its attempt's time. aiohttp keeps the cookies of a host by name, refuses headers beyond 8 KB or 128, and
            asks once more by itself where a connection is lost before its answer.
        body_bytes: the largest page taken.
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
        body_bytes: int = BODY_BYTES,
    ) -> None:
        self._url = httpx.URL(f"{base_url}/calls/insights")
        self._sign = sign
        self._concurrency = concurrency
        self._timeout = timeout
        if proxy is not None and transport is not None:
            raise ConfigurationError(
                "proxy: it would be ignored, since a transport= has proxies of its own; give it to the transport, or leave "
                "transport= out"
            )
        self._proxy = _proxy(proxy, base_url)
        through = "" if self._proxy is None else f", through the proxy {_place(self._proxy.url)}"
        self._route = _place(self._url) + through
        self._transport = transport
        self._body_bytes = body_bytes

    async def open(self) -> None:
        """Makes what exchanges need, without holding up the loop."""
        if self._transport is not None:
            return
        if self._url.scheme == "https" or (self._proxy is not None and self._proxy.url.scheme == "https"):
            context = await anyio.to_thread.run_sync(ssl_context)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._transport is None:
            limits = httpx.Limits(
                max_connections=self._concurrency,
                max_keepalive_connections=self._concurrency,
                keepalive_expiry=30,
            )
            try:
                transport = httpx.AsyncHTTPTransport(
                    verify=context, limits=limits, proxy=self._proxy, trust_env=False
                )
            except ImportError as error:
                raise MissingExtraError("a SOCKS proxy", "socks") from error
            pool = transport._pool  # noqa: SLF001 - httpx lets nobody choose the backend
            pool._network_backend = TrackingBackend(pool._network_backend)  # noqa: SLF001 - as above
            self._transport = transport

    async def aclose(self) -> None:
        """Closes all connections."""
        if self._transport is not None:
            await self._transport.aclose()

    async def get_page(
        self, params: str, *, time_limit: float, new_page: Callable[[], PageBuilder] = PageSplitter
    ) -> RawPage:
        """One attempt at one page.

        Args:
            params: the query string.
            time_limit: the attempt's time, if less than the session's `timeout`.
            new_page: makes the builder of the page.

        Raises:
            Transient: what may pass.
            RequestError: what will not.
        """
        await self.open()
        limit = min(self._timeout, time_limit)
        with anyio.move_on_after(limit):
            try:
                return await self._exchange(params, new_page)
            except (RetryableFailure, RequestError) as error:
                # Without the frames below: their variables hold the page and what was asked for.
                raise error.with_traceback(None)  # noqa: B904 - it is the same error
        raise RetryableFailure(
            RequestTimeout(
                f"no whole answer within {limit:g} seconds; raise timeout= if pages take that long"
            ),
            overload=True,
            split=True,
        )

    async def _exchange(self, params: str, new_page: Callable[[], PageBuilder]) -> RawPage:
        assert self._transport is not None
        request = httpx.Request(
            "GET",
            _with_params(self._url, params),
            headers=[
                (b"accept", b"application/json"),
                (b"accept-encoding", b"gzip"),
                (b"user-agent", b"iovox-async"),
                *self._sign(),
            ],
            # An attempt has its own deadline; one more for each read would cost a timer each.
            extensions={"timeout": {"connect": self._timeout}},
        )
        answered = False
        try:
            response = await with_tracked_connections(self._transport.handle_async_request(request))
            answered = True
            try:
                return await self._read(response, new_page)
            finally:
                await response.stream.aclose()  # type: ignore[union-attr]  # an async transport answers async
        except (RetryableFailure, RequestError):
            raise
        except Exception as error:
            failure = failure_of(error, answered=answered, route=self._route)
            if failure is None:
                raise
        # Out here, so that the engine's own exception, which may hold the request, is no part of the context.
        raise failure

    async def _read(self, response: httpx.Response, new_page: Callable[[], PageBuilder]) -> RawPage:
        status = response.status_code
        if status == 204:
            return PageSplitter.empty()
        if status != 200:
            raise self._refusal(response, await self._head(response))
        html = "html" in response.headers.get("content-type", "")
        encoding = self._redact(response.headers.get("content-encoding", "identity")).strip().lower()
        if encoding not in {"identity", "", "gzip", "x-gzip"}:
            problem = f"the page is encoded as {encoding[:40]!r}, and only gzip was offered"
            raise RetryableFailure(DecodeError(problem), at_most=1)
        inflate = GzipDecoder() if "gzip" in encoding else None
        builder = new_page()
        size = decoded = 0
        try:
            async for data in response.stream:  # type: ignore[union-attr]  # an async transport answers async
                size += len(data)
                self._check_size(size)
                for piece in (data,) if inflate is None else inflate.feed(data):
                    decoded += len(piece)
                    self._check_size(decoded)
                    builder.feed(piece)
                    if inflate is not None:
                        await asyncio.sleep(0)
            if inflate is not None:
                inflate.finish()
            return await builder.finish(size)
        except DecodeError as error:
            problem = self._redact(error.args[0])
        # Out here, so that the decoder's own exception, which may hold the page, is no part of the context. A page of
        # markup is a gateway's and will hardly change; a page too large will be as large again.
        lasting = 1 if max(size, decoded) > self._body_bytes else 2 if html else None
        raise RetryableFailure(DecodeError(problem), split=not html, at_most=lasting)

    def _check_size(self, size: int) -> None:
        if size > self._body_bytes:
            raise DecodeError(f"the page is larger than {self._body_bytes} bytes")

    async def _head(self, response: httpx.Response) -> tuple[str, ...]:
        """What an error body says; whatever is wrong with the body, the status counts."""
        body = b""
        # A status that is known is not lost to a body that never ends.
        with (
            contextlib.suppress(Exception),
            anyio.move_on_after(ERROR_SECONDS),
        ):
            inflate = GzipDecoder() if "gzip" in response.headers.get("content-encoding", "") else None
            async for data in response.stream:  # type: ignore[union-attr]  # an async transport answers async
                for piece in (data,) if inflate is None else inflate.feed(data):
                    body += piece
                    if len(body) >= ERROR_BYTES:
                        break
                if len(body) >= ERROR_BYTES:
                    break
        # Before, since messages are cut to size, and after, since markup may have hidden it.
        body = body.replace(dict(self._sign())[b"secureKey"], b"***")
        return tuple(self._redact(text) for text in error_messages(body))

    def _redact(self, text: str) -> str:
        return text.replace(dict(self._sign())[b"secureKey"].decode(), "***")

    def _refusal(self, response: httpx.Response, messages: tuple[str, ...]) -> Exception:
        """The error of an answer that is not 200."""
        status = response.status_code
        wait = parse_retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        if status == 429:
            return RetryableFailure(
                RateLimitError(status, messages, retry_after=wait),
                overload=True,
                shared=True,
                retry_after=wait,
            )
        if status in PASSING:
            return RetryableFailure(
                ServerError(status, messages, retry_after=wait),
                overload=status >= 500,
                shared=status == 503,
                retry_after=wait,
                split=status in {500, 502, 504},
            )
        if 300 <= status < 400:
            return UnexpectedRedirectError(status, self._redact(_origin(response.headers.get("location"))))
        kinds: dict[int, type[ResponseError]] = {401: AuthenticationError, 403: PermissionDeniedError}
        kind = BadRequestError if 400 <= status < 500 else ServerError if status >= 500 else ResponseError
        return kinds.get(status, kind)(status, messages)
