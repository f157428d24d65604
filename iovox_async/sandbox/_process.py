"""Serves a sandbox from a process of its own, so that the client's figures contain only the client.

Invariant: the sandbox's process ends with the process that started it, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from iovox_async.errors import IovoxError, SessionError

from ._sandbox import Sandbox

if TYPE_CHECKING:
    from .faults import Faults

#: Seconds between two polls of the pipe, and until a process that was asked to exit is killed.
_POLL_INTERVAL, _EXIT_TIMEOUT = 0.02, 2.0


@contextlib.asynccontextmanager
async def sandbox_process(*, faults: Faults, **options: Any) -> AsyncIterator[str]:
    """The base URL of a sandbox in another process.

    Args:
        faults: its faults.
        options: further arguments of `Sandbox`.

    Raises:
        IovoxError: the sandbox failed to start.
    """
    context = multiprocessing.get_context("spawn")
    parent_end, child_end = context.Pipe()
    process = context.Process(
        target=_serve, args=(child_end, options, faults), name="iovox-sandbox", daemon=True
    )
    process.start()
    child_end.close()
    started = False
    try:
        while not parent_end.poll():  # noqa: ASYNC110 - another process cannot set an event of this loop
            await asyncio.sleep(_POLL_INTERVAL)
        message = parent_end.recv()
        started = True
        if isinstance(message, IovoxError):
            raise message
        yield message
    except EOFError as error:
        raise SessionError("the sandbox's process ended before it had started") from error
    finally:
        parent_end.close()  # which ends the sandbox
        if started:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.to_thread(process.join, _EXIT_TIMEOUT)
        if process.is_alive():
            process.kill()
        process.join()
        process.close()


def _serve(pipe: Connection, options: dict[str, Any], faults: Faults) -> None:
    # Ctrl-C on a terminal reaches both processes; the parent decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The pipe breaks when the parent ends, and so does this process.
    with contextlib.suppress(EOFError, OSError):
        try:
            with Sandbox(**options, faults=faults).serve() as url:
                pipe.send(url)
                pipe.recv()
        except IovoxError as error:
            pipe.send(error)
