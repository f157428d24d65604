"""A sandbox in a process of its own.

The law of this room: the sandbox shares neither interpreter nor memory with the client, so that what is measured of
the client is the client; and it ends with the process that started it, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from typing import Any

from iovox_async import IovoxError, SessionError
from iovox_async.sandbox import Faults, Sandbox

from .threads import in_thread

__all__ = ["sandbox_process"]

#: Seconds between two looks for the answer, and until a process that was told to end is ended.
_LOOK, _PATIENCE = 0.02, 2.0


@contextlib.asynccontextmanager
async def sandbox_process(*, faults: Faults, **drawn: Any) -> AsyncIterator[str]:
    """The base URL of a sandbox that a process of its own serves.

    Raises:
        IovoxError: what the sandbox failed with.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, drawn, faults), name="iovox-sandbox", daemon=True)
    process.start()
    there.close()
    answered = False
    try:
        while not here.poll():  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(_LOOK)
        answer = here.recv()
        answered = True
        if isinstance(answer, IovoxError):
            raise answer
        yield answer
    except EOFError as error:
        raise SessionError("the sandbox's process ended before it could answer") from error
    finally:
        here.close()  # which it takes as the end
        if answered:
            with contextlib.suppress(asyncio.CancelledError):
                await in_thread(process.join, _PATIENCE)
        if process.is_alive():
            process.kill()
        process.join()
        process.close()


def _serve(there: Connection, drawn: dict[str, Any], faults: Faults) -> None:
    # Ctrl-C at a terminal reaches both; the client decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # When the other end is gone, so is the reason to be here.
    with contextlib.suppress(EOFError, OSError):
        try:
            with Sandbox(**drawn, faults=faults).serve() as url:
                there.send(url)
                there.recv()
        except IovoxError as error:
            there.send(error)
