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
import ipaddress
import ssl
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

# Imported now, since its first use would otherwise stall a running loop.
import anyio
import anyio._backends._asyncio
import httpx

from .errors import (
    AuthenticationError,
    BadRequest,
    ConfigurationError,
    DecodeError,
    ExchangeError,
    MissingExtraError,
    PermissionDenied,
    RateLimited,
    ResponseError,
    ServerError,
    TimedOut,
    UnexpectedRedirect,
)
from .failures import failure_of
from .messages import ERROR_BYTES, error_messages
from .pacing import Transient, parse_retry_after
from .shelter import Moorings, moored
from .wire import Inflate, Page, PageReader

if TYPE_CHECKING:
    from .settings import Sign
    from .wire import Whole

__all__ = ["BODY_BYTES", "Http", "check_base_url"]

#: Bytes of one page, at most, as sent and as decoded: twice the largest page of long transcriptions.
BODY_BYTES: Final = 512 * 1024 * 1024
#: Seconds for the body of an error, whose status is known already.
ERROR_SECONDS: Final = 5.0
#: Codes that may pass, besides 429. Source: the endpoint's table (500) and common practice for the others.
PASSING: Final = frozenset({408, 425, 500, 502, 503, 504, *range(520, 530)})


def check_base_url(base_url: str) -> str:
    """The address without a trailing slash.

    Raises:
        ConfigurationError: no address, or one that would send the key in the clear or to a stranger.
    """
    url = _url(base_url)
    if url is None:
        raise ConfigurationError("base_url (IOVOX_URL): it is not a URL")
    if url.userinfo:
        raise ConfigurationError(
            "base_url (IOVOX_URL): credentials do not belong in it; pass username and secure_key"
        )
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError("base_url (IOVOX_URL): https://host/path is wanted")
    if url.query or url.fragment:
        raise ConfigurationError("base_url (IOVOX_URL): it takes no query and no fragment")
    if url.scheme == "http" and not _loopback(url):
        raise ConfigurationError(
            f"base_url (IOVOX_URL): http would send the key to {url.host} in the clear; use https (http is for loopback)"
        )
    return str(url).rstrip("/")


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


class Http:
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
            pool._network_backend = Moorings(pool._network_backend)  # noqa: SLF001 - as above
            self._transport = transport

    async def close(self) -> None:
        """Closes all connections."""
        if self._transport is not None:
            await self._transport.aclose()

    async def get(self, params: str, *, seconds: float, whole: Whole | None = None) -> Page:
        """One attempt at one page.

        Args:
            params: the query string.
            seconds: the attempt's time, if less than the session's `timeout`.
            whole: makes the page of its bytes once all are there; None: it is split as it arrives.

        Raises:
            Transient: what may pass.
            ExchangeError: what will not.
        """
        await self.open()
        limit = min(self._timeout, seconds)
        with anyio.move_on_after(limit):
            try:
                return await self._exchange(params, whole)
            except (Transient, ExchangeError) as error:
                # Without the frames below: their variables hold the page and what was asked for.
                raise error.with_traceback(None)  # noqa: B904 - it is the same error
        raise Transient(
            TimedOut(f"no whole answer within {limit:g} seconds; raise timeout= if pages take that long"),
            overload=True,
            split=True,
        )

    async def _exchange(self, params: str, whole: Whole | None) -> Page:
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
            response = await moored(self._transport.handle_async_request(request))
            answered = True
            try:
                return await self._read(response, whole)
            finally:
                await response.stream.aclose()  # type: ignore[union-attr]  # an async transport answers async
        except (Transient, ExchangeError):
            raise
        except Exception as error:
            failure = failure_of(error, answered=answered, route=self._route)
            if failure is None:
                raise
        # Out here, so that the engine's own exception, which may hold the request, is no part of the context.
        raise failure

    async def _read(self, response: httpx.Response, whole: Whole | None) -> Page:
        status = response.status_code
        if status == 204:
            return PageReader.empty()
        if status != 200:
            raise self._refusal(response, await self._head(response))
        html = "html" in response.headers.get("content-type", "")
        encoding = self._redact(response.headers.get("content-encoding", "identity")).strip().lower()
        if encoding not in {"identity", "", "gzip", "x-gzip"}:
            problem = f"the page is encoded as {encoding[:40]!r}, and only gzip was offered"
            raise Transient(DecodeError(problem), at_most=1)
        inflate = Inflate() if "gzip" in encoding else None
        reader = PageReader()
        parts: list[bytes] = []
        take = reader.feed if whole is None else parts.append
        size = decoded = 0
        try:
            async for data in response.stream:  # type: ignore[union-attr]  # an async transport answers async
                size += len(data)
                self._check_size(size)
                for piece in (data,) if inflate is None else inflate.feed(data):
                    decoded += len(piece)
                    self._check_size(decoded)
                    take(piece)
                    if inflate is not None:
                        await asyncio.sleep(0)
            if inflate is not None:
                inflate.finish()
            return reader.close(size) if whole is None else await whole(parts, size)
        except DecodeError as error:
            problem = self._redact(error.args[0])
        # Out here, so that the decoder's own exception, which may hold the page, is no part of the context. A page of
        # markup is a gateway's and will hardly change; a page too large will be as large again.
        lasting = 1 if max(size, decoded) > self._body_bytes else 2 if html else None
        raise Transient(DecodeError(problem), split=not html, at_most=lasting)

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
            inflate = Inflate() if "gzip" in response.headers.get("content-encoding", "") else None
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
            return Transient(
                RateLimited(status, messages, retry_after=wait), overload=True, shared=True, retry_after=wait
            )
        if status in PASSING:
            return Transient(
                ServerError(status, messages, retry_after=wait),
                overload=status >= 500,
                shared=status == 503,
                retry_after=wait,
                split=status in {500, 502, 504},
            )
        if 300 <= status < 400:
            return UnexpectedRedirect(status, self._redact(_origin(response.headers.get("location"))))
        kinds: dict[int, type[ResponseError]] = {401: AuthenticationError, 403: PermissionDenied}
        kind = BadRequest if 400 <= status < 500 else ServerError if status >= 500 else ResponseError
        return kinds.get(status, kind)(status, messages)


def _with_params(url: httpx.URL, params: str) -> httpx.URL:
    """The address with parameters, which are encoded: httpx would look at each character again, for a millisecond."""
    whole = httpx.URL(url)
    whole._uri_reference = url._uri_reference._replace(query=params)  # noqa: SLF001 - there is no other way
    return whole


def _place(url: httpx.URL) -> str:
    """The `host:port` that a URL leads to."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or {'http': 80, 'https': 443}.get(url.scheme, 1080)}"


def _origin(location: str | None) -> str:
    """Where a redirect leads, without what might be secret; empty where that cannot be said."""
    url = _url(location or "")
    if url is None or not url.host:
        return "" if url is None else "another path"
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}"


def _proxy(proxy: str | None, base_url: str) -> httpx.Proxy | None:
    if proxy is None:
        return None
    base = httpx.URL(base_url)
    if proxy == "environment":
        known = getproxies()
        proxy = known.get(base.scheme, known.get("all"))
        if proxy is None or _loopback(base) or proxy_bypass(base.netloc.decode()):
            return None
    url = _url(proxy)
    if url is None or url.scheme not in {"http", "https", "socks5", "socks5h"} or not url.host:
        raise ConfigurationError(
            'proxy: an URL like http://host:8080 or socks5://host:1080, or "environment", is wanted'
        )
    if base.scheme == "http" and not _loopback(url):
        raise ConfigurationError(
            "proxy: with a base_url of http, the key would leave this machine in the clear; use https"
        )
    return httpx.Proxy(url)


def _loopback(url: httpx.URL) -> bool:
    """Whether a URL leads to this machine. By the address: a name may begin with 127 and lead anywhere."""
    if url.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return False


def _url(text: str) -> httpx.URL | None:
    """The URL that a text is, or None."""
    try:
        urlsplit(text)  # stricter about brackets than httpx
        return httpx.URL(text)
    except (ValueError, httpx.InvalidURL, TypeError, AttributeError):
        return None
