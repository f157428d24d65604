"""Runs work in tasks that are cancelled only through their own cancel scopes.

httpx's connection pool loses a slot for good when a task is cancelled by `task.cancel()` at certain awaits. Cancellation
through an anyio scope respects the shields inside the pool, so everything that uses a transport runs in a task of a
`TaskSupervisor`.
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
    """Runs work in separate tasks, out of reach of `task.cancel()` on the caller.

    A cancelled caller returns at once; its work is cancelled through its own scope, and ends a moment later. `aclose` cancels
    the remaining tasks and waits for them.
    """

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], anyio.CancelScope] = {}
        self._owner: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._closed = False

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
        process, loop = os.getpid(), asyncio.get_running_loop()
        if self._owner is None:
            self._owner = process, loop
        elif self._owner[0] != process:
            raise SessionError(
                "the session was opened before this process was forked", hint="Open one in each process."
            )
        elif self._owner[1] is not loop:
            raise SessionError("the session belongs to another event loop", hint="Open one in each loop.")

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
            raise
        if scope.cancel_called:
            raise SessionError("the session was closed during a request")
        return result  # type: ignore[return-value]  # None only when the scope was cancelled

    async def aclose(self) -> None:
        """Accepts no more work, cancels all tasks, and returns when they have ended."""
        self._closed = True
        for scope in self._tasks.values():
            scope.cancel()
        while self._tasks:
            await asyncio.shield(asyncio.wait(list(self._tasks)))
