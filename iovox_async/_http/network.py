"""The connection pool: a transport over httpcore, and what is recorded of the connections of each request.

httpcore's pool leaves connections open whose handshake (TLS, SOCKS) fails or is cancelled, and counts them for ever. A request that
fails or is cancelled therefore closes the connections that it opened, and the pool forgets them.
"""

from __future__ import annotations

import contextlib
import importlib
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import msgspec

from ..errors import MissingExtraError
from .direct_body import DirectBody
from .sockets import AsyncioBackend, AsyncioStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping

    import httpx

T = TypeVar("T")

#: Seconds that an idle connection is kept open.
KEEPALIVE_SECONDS: Final = 30
#: Seconds that closing a response or a connection may take.
CLOSE_SECONDS: Final = 5.0


class ConnectionLog(msgspec.Struct):
    """What a request has done to get a connection.

    Attributes:
        opened: the connections it has opened.
        connecting: it has started to open one.
        connected: it has opened one.
        in_use: it has begun to use one. Unknown (False) with a transport that does not support httpcore's extension `trace`.
    """

    opened: list[AsyncioStream] = msgspec.field(default_factory=list)
    connecting: bool = False
    connected: bool = False
    in_use: bool = True

    @property
    def reused(self) -> bool:
        """It uses a connection that has served a request before."""
        return self.in_use and not self.connecting

    @property
    def unreachable(self) -> bool:
        """It is still trying to open its first connection."""
        return self.connecting and not self.connected

    async def trace(self, event: str, _info: Mapping[str, Any]) -> None:
        """Takes an event of httpcore's extension `trace`, for a transport of the user's."""
        if event.startswith("connection.connect_"):
            self.connecting = True
            self.connected = self.connected or event.endswith(".complete")
        elif event.endswith("send_request_headers.started"):
            self.in_use = True


_log: Final[ContextVar[ConnectionLog | None]] = ContextVar("connection_log", default=None)


class PoolTransport:
    """Sends requests through a pool of at most `concurrency` connections. Raises httpcore's exceptions.

    httpx's own transport does not accept a network backend.

    Args:
        library: the module `httpx` or `httpx2`.
        pool_package: the module `httpcore` or `httpcore2`, which belongs to it.
        concurrency: maximum number of connections.
        ssl_context: for the server and the proxy; None without TLS.
        proxy: the proxy, or None.
    """

    def __init__(
        self,
        library: Any,
        pool_package: Any,
        *,
        concurrency: int,
        ssl_context: ssl.SSLContext | None,
        proxy: httpx.Proxy | None,
    ) -> None:
        self._new_request = pool_package.Request
        self._new_url = pool_package.URL
        self._new_response = library.Response
        self._pool = _pool_class(pool_package)(
            ssl_context,
            None if proxy is None else _proxy(pool_package, proxy, ssl_context),
            max_connections=concurrency,
            max_keepalive_connections=concurrency,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=TrackingBackend(AsyncioBackend(pool_package)),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request, and returns when the response's headers have arrived."""
        url = request.url
        response = await self._pool.handle_async_request(
            self._new_request(
                request.method,
                self._new_url(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        headers, stream = response.headers, response.stream
        connection = response.extensions.get("network_stream")
        if isinstance(connection, AsyncioStream) and connection.body_length:
            length = b"%d" % connection.body_length
            headers = [
                (name, length if name.lower() == b"content-length" else value) for name, value in headers
            ]
            stream = DirectBody(connection, stream)
        made: httpx.Response = self._new_response(
            response.status,
            headers=headers,
            stream=stream,  # without a wrapper for each read
            extensions=response.extensions,
        )
        return made

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._pool.aclose()


def _proxy(pool_package: Any, proxy: httpx.Proxy, ssl_context: ssl.SSLContext | None) -> Any:
    if proxy.url.scheme.startswith("socks5"):
        try:
            importlib.import_module("socksio")  # httpcore imports it at the first connection
        except ImportError as error:
            raise MissingExtraError("a SOCKS proxy", "socks") from error
    url = proxy.url
    return pool_package.Proxy(
        pool_package.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        auth=proxy.raw_auth,
        headers=proxy.headers.raw,
        ssl_context=ssl_context if proxy.url.scheme == "https" else None,
    )


@cache
def _pool_class(pool_package: Any) -> Any:
    """The pool of a package, with connections that it forgets when they cannot be opened."""

    class Pool(pool_package.AsyncConnectionPool):  # type: ignore[misc]  # either package's
        def create_connection(self, origin: Any) -> _NewConnection:
            return _NewConnection(super().create_connection(origin), pool_package.ConnectionNotAvailable)

    return Pool


class _NewConnection:
    """A connection that is closed, for its pool, when the request has failed that opened it.

    Args:
        connection: httpcore's connection.
        unavailable: httpcore's exception for a request that was not sent, since another one uses the connection.
    """

    def __init__(self, connection: Any, unavailable: type[Exception]) -> None:
        self._connection = connection
        self._unavailable = unavailable
        self._is_new = True
        self._has_failed = False

    async def handle_async_request(self, request: Any) -> Any:
        try:
            response = await self._connection.handle_async_request(request)
        except BaseException as error:
            self._has_failed = self._is_new and not isinstance(error, self._unavailable)
            raise
        self._is_new = False
        return response

    def is_closed(self) -> bool:
        return self._has_failed or self._connection.is_closed()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class TrackingBackend:
    """Connects through another backend, and records what the current request has opened."""

    def __init__(self, backend: AsyncioBackend) -> None:
        self._backend = backend

    async def connect_tcp(self, *args: Any, **options: Any) -> AsyncioStream:
        """Opens a connection."""
        log = _log.get() or ConnectionLog()
        log.connecting = True
        stream = await self._backend.connect_tcp(*args, **options)
        log.connected = True
        log.opened.append(stream)
        return stream

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await self._backend.sleep(seconds)


async def with_tracked_connections(work: Awaitable[T], log: ConnectionLog) -> T:
    """Awaits a request; if it fails or is cancelled, closes the connections that it opened."""
    token = _log.set(log)
    try:
        return await work
    except BaseException:
        for stream in log.opened:
            await close_quietly(stream.aclose)
        raise
    finally:
        _log.reset(token)


async def close_quietly(close: Callable[[], Awaitable[object]]) -> None:
    """Closes something in spite of a cancellation, for at most `CLOSE_SECONDS`. Errors are ignored: there is nothing to do."""
    with anyio.move_on_after(CLOSE_SECONDS, shield=True), contextlib.suppress(Exception):
        await close()
