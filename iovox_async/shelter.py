"""Tasks that no cancellation from outside reaches, and sockets that none leaves behind.

The law of this room: whatever touches httpx runs in a task of its own and is cancelled through that task's own scope.
httpx's pool loses a slot for ever when a task is cancelled natively at the wrong await; a scope of anyio is told apart
by the shields within it, and so leaves the pool whole. What the pool forgets all the same are connections whose
handshake (TLS, SOCKS) is broken off: an attempt that fails closes what it opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import httpcore
from httpcore._utils import is_socket_readable

from .errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

__all__ = ["Moorings", "Shelter", "moored"]

T = TypeVar("T")


class Shelter:
    """Runs work in tasks of its own, which no native cancellation reaches.

    A caller who is cancelled leaves at once; the work is cancelled through its own scope, gives back what it holds,
    and ends a moment later. `aclose` cancels all that is left, and waits for it.
    """

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], anyio.CancelScope] = {}
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._closed = False

    def check(self) -> None:
        """Raises `SessionError` where this session cannot work."""
        if self._closed:
            raise SessionError(
                "the session is closed; open a new one with `async with AsyncInsights() as insights`"
            )
        here = (os.getpid(), asyncio.get_running_loop())
        if self._home is None:
            self._home = here
        elif self._home[0] != here[0]:
            raise SessionError(
                "the session was opened before this process was forked; open one in each process"
            )
        elif self._home[1] is not here[1]:
            raise SessionError("the session belongs to another event loop; open one in each loop")

    def start(
        self, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> tuple[asyncio.Task[T | None], anyio.CancelScope]:
        """Starts work; its scope cancels it, and then it ends with None."""
        self.check()
        scope = anyio.CancelScope()

        async def sheltered() -> T | None:
            with scope:
                try:
                    return await work()
                except Exception:
                    # Nobody waits any more for what went wrong on the way out.
                    if not scope.cancel_called:
                        raise
            return None

        task = asyncio.create_task(sheltered())
        self._tasks[task] = scope
        task.add_done_callback(self._tasks.pop)
        return task, scope

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs work to its end, or cancels it when the caller is cancelled."""
        task, scope = self.start(work)
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            scope.cancel()
            raise
        if scope.cancel_called:
            raise SessionError("the session was closed during a request")
        return result  # type: ignore[return-value]  # None only when the scope was cancelled

    @property
    def busy(self) -> int:
        """Tasks that have not ended."""
        return len(self._tasks)

    async def aclose(self) -> None:
        """Takes no more work, cancels what is under way, and returns when it has ended."""
        self._closed = True
        for scope in self._tasks.values():
            scope.cancel()
        while self._tasks:
            await asyncio.shield(asyncio.wait(list(self._tasks)))


#: Bytes that one read may bring. As many as asyncio takes from a socket at a time: httpcore asks for a quarter of that,
#: and each read has its price, however few bytes it brings.
READ_BYTES: Final = 256 * 1024

#: What the attempt under way has opened.
_opened: Final[ContextVar[list[httpcore.AsyncNetworkStream] | None]] = ContextVar("opened", default=None)


class Moorings(httpcore.AsyncNetworkBackend):
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


async def moored(work: Awaitable[T]) -> T:
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
