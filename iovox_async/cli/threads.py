"""A blocking call that the loop waits for, and the process does not.

The law of this room: a write to a pipe whose reader sleeps may take for ever. It holds up neither the requests in
flight nor the end of the process, so it runs in a thread that dies with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["GRACE", "in_thread"]

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that a call which is under way may still take when the program is asked to end.
GRACE = 1.0


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function in a thread of its own.

    Cancelled, it waits another moment for the call to end, and raises the cancellation either way; whether the
    call has ended is for the function to note.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type] # without an error there is a result

    def call() -> None:
        result, failure = None, None
        try:
            result = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            failure = error
        # The loop may have ended meanwhile, and nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=call, name="iovox-write", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done], timeout=GRACE)
        if done.done():
            done.exception()  # so that it counts as seen
        else:
            done.cancel()
        raise
