"""Runs work in tasks that are cancelled only through their own cancel scopes.

httpx's connection pool loses a slot for good when a task is cancelled by `task.cancel()` at certain awaits. Cancellation
through an anyio scope respects the shields inside the pool, so everything that uses a transport runs in a task of a
`TaskSupervisor`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import sniffio

from ..errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import FrameType

T = TypeVar("T")


def _other_library() -> str:
    try:
        return f"this is {sniffio.current_async_library()}"
    except sniffio.AsyncLibraryNotFoundError:
        return "none is running"


def caller_location() -> str:
    """The file and line of the caller outside of this package, for messages."""
    package = __name__.partition(".")[0]
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as logging does
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame = frame.f_back
    return "an unknown place" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


class TaskSupervisor:
    """Runs the work of a session in separate tasks, out of reach of `task.cancel()` on the caller.

    A cancelled caller returns at once; its work is cancelled through its own scope, and ends a moment later. `aclose` cancels
    the remaining tasks and waits for them.

    Args:
        release: closes the connections, after all tasks have ended.
    """

    def __init__(self, release: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._release = release
        self._made_at = caller_location()
        self._tasks: dict[asyncio.Task[Any], anyio.CancelScope] = {}
        self._owner: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._closed = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def task_count(self) -> int:
        """Tasks that have not ended."""
        return len(self._tasks)

    def check_usable(self) -> None:
        """Checks that the session is open, and belongs to this process and event loop.

        Raises:
            SessionError: it is not.
        """
        if self._closed:
            raise SessionError(
                "the session is closed", hint="Open a new one: async with AsyncInsights() as insights."
            )
        self._check_loop("Open one in each loop.")
        if self._owner is None:
            self._owner = os.getpid(), asyncio.get_running_loop()

    def _check_loop(self, hint: str) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise SessionError(
                f"the session needs an event loop of asyncio, and {_other_library()}",
                hint="Run the program with asyncio.run(), or with anyio's backend asyncio.",
            ) from None
        if self._owner is None:
            return
        if self._owner[0] != os.getpid():
            raise SessionError(
                "the session was opened before this process was forked", hint="Open one in each process."
            )
        if self._owner[1] is not loop:
            raise SessionError("the session belongs to another event loop", hint=hint)

    def start_task(
        self, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> tuple[asyncio.Task[T | None], anyio.CancelScope]:
        """Starts work, and returns its task and its scope. When the scope is cancelled, the task ends with None."""
        self.check_usable()
        scope = anyio.CancelScope()

        async def run_in_scope() -> T | None:
            with scope:
                try:
                    return await work()
                except Exception:
                    # After a cancellation nobody waits for the error.
                    if not scope.cancel_called:
                        raise
            return None

        task = asyncio.create_task(run_in_scope())
        self._tasks[task] = scope
        task.add_done_callback(self._tasks.pop)
        return task, scope

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs work and returns its result; cancels it if the caller is cancelled."""
        task, scope = self.start_task(work)
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            scope.cancel()
            if task.done() and not task.cancelled():
                # The work has failed in the same moment, and nobody waits for its error any more.
                task.exception()
            raise
        if scope.cancel_called:
            raise SessionError("the session was closed during a request")
        return result  # type: ignore[return-value]  # None only when the scope was cancelled

    async def aclose(self) -> None:
        """Accepts no more work, cancels all tasks, and closes the connections when they have ended.

        A caller that is cancelled returns at once; closing goes on.

        Raises:
            SessionError: the session belongs to another event loop or process.
        """
        if self._owner is None:
            # Nothing was started, so there is no loop to which anything belongs.
            self._closed = True
            await self._release()
            return
        if not self._closed:
            self._check_loop("Close it in its own loop, before that ends: async with closes it in time.")
            self._closed = True
            self._closing = asyncio.create_task(self._end())
        if self._closing is not None and not self._closing.done():
            await asyncio.shield(self._closing)

    async def _end(self) -> None:
        for scope in self._tasks.values():
            scope.cancel()
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        await self._release()

    def abandon(self) -> None:
        """Accepts no more work, and leaves what is open to the garbage collector."""
        self._closed = True

    def __del__(self) -> None:
        if self._owner is None or self._closed or self._owner[0] != os.getpid():
            return
        message = (
            f"a session was not closed; it was made at {self._made_at}. Use async with, or call aclose()"
        )
        warnings.warn(message, ResourceWarning, source=self, stacklevel=2)
        loop = self._owner[1]
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(self._release(), loop)
