"""Several works as one, and one that nothing breaks off.

The law of this room: when a call of it returns or raises, nothing that it began is still at work, and what failed is raised bare.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio
from anyio import to_thread

__all__ = ["together", "whole"]


async def whole(work: Callable[[], object]) -> None:
    """Does it in a thread; a cancellation of whatever kind waits until it is over.

    Else the lock would be given back, and the thread go on in a folder that may be another process's by then.
    """

    async def alone() -> None:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(work)

    with anyio.CancelScope(shield=True):
        await together([alone], 1)


async def together(works: Sequence[Callable[[], Awaitable[None]]], at_once: int) -> None:
    """Does all of it, a few at a time; the first failure ends the rest, and is raised bare."""
    left = iter(works)
    failure: BaseException | None = None

    async def some() -> None:
        nonlocal failure
        for work in left:
            try:
                await work()
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - raised below, without a group around it
                failure = failure or error
                group.cancel_scope.cancel()
                return

    async with anyio.create_task_group() as group:
        for _ in range(min(at_once, len(works))):
            group.start_soon(some)
    if failure is not None:
        raise failure
