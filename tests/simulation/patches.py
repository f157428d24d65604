"""Replaces threads, warnings and address-dependent orders for the time of a run.

Everything that the simulation replaces by patching stands here, apart from the clock of a session, which `_names` replaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import signal
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio._backends import _asyncio as backend

from .loop import Runaway

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Noise", "patched"]

#: Seconds of processor time that a run may take: code that never awaits takes no steps, which are limited too.
LONGEST = 10.0


async def _run_inline(func, *args, abandon_on_cancel=False, cancellable=False, limiter=None):
    """Runs a function as `anyio.to_thread.run_sync` does, but in the loop, at a later step.

    As with a thread, a cancelled caller leaves at once, and the function runs all the same.
    """
    loop = asyncio.get_running_loop()
    await anyio.lowlevel.checkpoint()
    async with limiter or contextlib.nullcontext():
        with anyio.CancelScope(shield=not (abandon_on_cancel or cancellable)):
            future = loop.create_future()
            context = contextvars.copy_context()

            def work():
                try:
                    result = context.run(func, *args)
                except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
                    if not future.done():
                        future.set_exception(error)
                else:
                    if not future.done():
                        future.set_result(result)

            loop.call_in_thread(work)
            return await future


class _OrderedSet(dict):
    """A set that keeps the order in which its members came."""

    def add(self, member: Any) -> None:
        """Adds a member."""
        self[member] = None

    def discard(self, member: Any) -> None:
        """Removes a member that may be missing."""
        self.pop(member, None)

    def remove(self, member: Any) -> None:
        """Removes a member."""
        del self[member]


_plain_init = backend.CancelScope.__init__


def _init_scope(self, *args, **options):
    """Makes a cancel scope that cancels its child scopes in the order in which they were entered."""
    _plain_init(self, *args, **options)
    self._child_scopes = _OrderedSet()


class Noise:
    """What the interpreter says of warnings and of exceptions that nobody can catch."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        #: Whether signals can end a run: not outside the main thread, nor on Windows.
        self._has_timer = (
            hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
        )

    def limit_time(self, seconds: float = LONGEST) -> None:
        """Lets the run that begins now raise `Runaway` after so much processor time; 0 for never."""
        if self._has_timer:
            signal.signal(signal.SIGVTALRM, _end_run)
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds)

    def warning(self, message, category, filename, lineno, file=None, line=None) -> None:
        """Takes a warning."""
        self.heard.append(f"{category.__name__}: {message}")

    def unraisable(self, args: Any) -> None:
        """Takes an exception that cannot be raised."""
        self.heard.append(f"unraisable {type(args.exc_value).__name__}: {args.exc_value} in {args.object!r}")


def _end_run(_signal: int, _frame: Any) -> None:
    raise Runaway


@contextlib.contextmanager
def patched() -> Iterator[Noise]:
    """Replaces what must be replaced, and gives what is heard meanwhile."""
    noise = Noise()
    run_sync = anyio.to_thread.run_sync
    hook, collecting = sys.unraisablehook, gc.isenabled()
    thread_time = time.thread_time
    anyio.to_thread.run_sync = _run_inline
    # The processor's time must not decide what happens.
    time.thread_time = lambda: 0.0
    backend.CancelScope.__init__ = _init_scope
    sys.unraisablehook = noise.unraisable
    gc.disable()
    # What is frozen stays so: otherwise each collection of the runs and of the tests after them would go through it again.
    gc.collect()
    gc.freeze()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = noise.warning
            yield noise
    finally:
        noise.limit_time(0)
        if collecting:
            gc.enable()
        sys.unraisablehook = hook
        backend.CancelScope.__init__ = _plain_init
        anyio.to_thread.run_sync = run_sync
        time.thread_time = thread_time
