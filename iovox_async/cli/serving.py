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

from iovox_async import IovoxError
from iovox_async.sandbox import Faults, Sandbox

from .threads import in_thread

__all__ = ["sandbox_process"]


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
    try:
        answer = await in_thread(here.recv)
        if isinstance(answer, IovoxError):
            raise answer
        yield answer
    finally:
        here.close()
        # It ends by itself when the pipe is closed; it is not asked twice.
        with contextlib.suppress(asyncio.CancelledError):
            await in_thread(process.join, 2)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


def _serve(there: Connection, drawn: dict[str, Any], faults: Faults) -> None:
    # Ctrl-C at a terminal reaches both; the client decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Sandbox(**drawn, faults=faults).serve() as url:
            there.send(url)
            with contextlib.suppress(EOFError, OSError):
                there.recv()
    except IovoxError as error:
        there.send(error)
