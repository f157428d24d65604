"""Tasks that no cancellation from outside reaches, and sockets that none leaves behind.

The law of this room: whatever touches httpx runs in a task of its own and is cancelled through that task's own scope.
httpx's pool loses a slot for ever when a task is cancelled natively at the wrong await; a scope of anyio is told apart
by the shields within it, and so leaves the pool whole. What the pool forgets all the same are connections whose
handshake (TLS, SOCKS) is broken off: an attempt that fails closes what it opened.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from ..errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["TaskSupervisor"]

T = TypeVar("T")


class TaskSupervisor:
    """Runs work in tasks of its own, which no native cancellation reaches.

    A caller who is cancelled leaves at once; the work is cancelled through its own scope, gives back what it holds,
    and ends a moment later. `aclose` cancels all that is left, and waits for it.
    """

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], anyio.CancelScope] = {}
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._closed = False

    def check_usable(self) -> None:
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

    def start_task(
        self, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> tuple[asyncio.Task[T | None], anyio.CancelScope]:
        """Starts work; its scope cancels it, and then it ends with None."""
        self.check_usable()
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
        task, scope = self.start_task(work)
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            scope.cancel()
            raise
        if scope.cancel_called:
            raise SessionError("the session was closed during a request")
        return result  # type: ignore[return-value]  # None only when the scope was cancelled

    @property
    def task_count(self) -> int:
        """Tasks that have not ended."""
        return len(self._tasks)

    async def aclose(self) -> None:
        """Takes no more work, cancels what is under way, and returns when it has ended."""
        self._closed = True
        for scope in self._tasks.values():
            scope.cancel()
        while self._tasks:
            await asyncio.shield(asyncio.wait(list(self._tasks)))
