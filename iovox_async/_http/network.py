"""The network backend of the connection pool: it keeps track of the connections of a request."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import httpcore
from httpcore._utils import is_socket_readable

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")

__all__ = ["READ_BYTES", "TrackingBackend", "with_tracked_connections"]

#: Bytes that one read may bring. As many as asyncio takes from a socket at a time: httpcore asks for a quarter of that,
#: and each read has its price, however few bytes it brings.
READ_BYTES: Final = 256 * 1024


#: What the attempt under way has opened.
_opened: Final[ContextVar[list[httpcore.AsyncNetworkStream] | None]] = ContextVar("opened", default=None)


class TrackingBackend(httpcore.AsyncNetworkBackend):
    """Connects as another backend does, and keeps account of what the attempt under way has opened."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        """A connection."""
        stream = _Wide(await self._backend.connect_tcp(*args, **options))
        opened = _opened.get()
        if opened is not None:
            opened.append(stream)
        return stream

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await self._backend.sleep(seconds)


class _Wide(httpcore.AsyncNetworkStream):
    """A connection that is read in large steps."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self.write = stream.write  # type: ignore[method-assign]  # the same, without a step between
        self.aclose = stream.aclose  # type: ignore[method-assign]
        self._socket = stream.get_extra_info("socket")

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's own
        """The next bytes; none at the end."""
        return await self._stream.read(max(max_bytes, READ_BYTES), timeout)

    def get_extra_info(self, info: str) -> Any:
        """What is known of the connection."""
        # Of every idle connection, at every request: finding its socket each time takes ten times as long as the look at it.
        if info == "is_readable" and self._socket is not None:
            return is_socket_readable(self._socket)
        return self._stream.get_extra_info(info)

    async def start_tls(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        """The connection under TLS."""
        return _Wide(await self._stream.start_tls(*args, **options))


async def with_tracked_connections(work: Awaitable[T]) -> T:
    """Awaits work that gets an answer; where it fails or is cancelled, closes the connections it opened."""
    opened: list[httpcore.AsyncNetworkStream] = []
    token = _opened.set(opened)
    try:
        return await work
    except BaseException:
        with anyio.CancelScope(shield=True):
            for stream in opened:
                with contextlib.suppress(Exception):
                    await stream.aclose()
        raise
    finally:
        _opened.reset(token)
