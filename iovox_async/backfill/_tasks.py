"""Runs blocking functions in threads, and several functions at a time, for a backfill."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

T = TypeVar("T")

#: Functions that run at a time. Each reads a group of partitions, and may buffer `2 * concurrency + 1` pages.
_MAX_PARALLEL: Final = 3


async def run_in_thread(function: Callable[[], T]) -> T:
    """Calls a function in a thread. It is always called, and a cancellation, also a native one, waits until it has returned.

    Otherwise the lock would be kept, or be released while a function still writes to the directory.
    """
    # Not a task, which the end of an event loop would cancel; nor anyio's thread, which a native cancellation abandons.
    future = asyncio.get_running_loop().run_in_executor(None, function)
    cancellation: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancellation = error
    if cancellation is not None:
        future.exception()  # asyncio logs an exception that is never retrieved
        raise cancellation
    return future.result()


async def run_concurrently(functions: list[Callable[[], Awaitable[None]]]) -> None:
    """Runs all functions, a few at a time; the first exception cancels the rest and is raised without a group."""
    failure: BaseException | None = None
    remaining = iter(functions)

    async def work() -> None:
        nonlocal failure
        for function in remaining:
            try:
                await function()
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - raised below
                failure = failure or error
                group.cancel_scope.cancel()
                return

    async with anyio.create_task_group() as group:
        for _ in range(min(_MAX_PARALLEL, len(functions))):
            group.start_soon(work)
    if failure is not None:
        raise failure
