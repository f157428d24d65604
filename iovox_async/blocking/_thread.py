"""Runs an event loop in a thread of its own, and work in it for other threads.

Invariants:
- A thread that waits for work never waits for ever: work ends with its result, with its error, or with the loop.
- Nothing that is called by the garbage collector waits, or takes a lock that another thread may hold for long.
- What belongs to the loop is used, and dropped, in the loop's thread.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Final, ParamSpec, TypeVar

from .._fetching.session import SessionBound
from .._http.tasks import caller_location
from .._platform import system
from ..errors import SessionError

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that the end of the thread may take, when the session is closed and when the interpreter ends.
JOIN_TIMEOUT: Final = 5.0
#: Ctrl-C does not interrupt a wait for a lock on Windows, so waits are short there.
WAIT: Final = 0.2 if system == "win32" else None


class _Loop:
    """The loop, its thread and their state. It does not refer to the `LoopThread`, so that dropping that ends the thread."""

    def __init__(self, release: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._release = release
        self._stop = asyncio.Event()
        self.loop = asyncio.new_event_loop()
        self.process = os.getpid()
        self.stopping = False
        #: Whether the interpreter ends.
        self.exiting = False
        self.thread = threading.Thread(target=self._run, name="iovox_async", daemon=True)

    def _run(self) -> None:
        try:
            main = self.loop.create_task(self._main())
            while not main.done():
                # Raised by a function that the session calls; the thread that waits gets it.
                with contextlib.suppress(KeyboardInterrupt, SystemExit):
                    self.loop.run_until_complete(main)
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            # Does not wait for the threads that resolve host names, as asyncio.run would: they may take long.
            self.loop.close()

    async def _main(self) -> None:
        await self._stop.wait()
        with contextlib.suppress(Exception):
            await self._release()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=JOIN_TIMEOUT)

    def stop(self) -> None:
        """Lets the session close, and the thread end, soon."""
        self.stopping = True
        self.call_soon(self._stop.set)

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Calls a function in the loop soon, unless the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)


class LoopThread(SessionBound):
    """An event loop in a thread of its own, which starts with the first work and ends with `close`.

    Args:
        release: closes what belongs to the loop, before it ends.
    """

    def __init__(self, release: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._release = release
        self._lock = threading.RLock()
        self._loop: _Loop | None = None
        self._closed = False
        self._made_at = caller_location()

    def run(self, function: Callable[P, Awaitable[T]], *args: P.args, **options: P.kwargs) -> T:
        """Calls an async function in the loop, waits for it, and returns its result or raises its error.

        If the waiting thread is interrupted (Ctrl-C), the work is cancelled before the interruption is raised.

        Raises:
            SessionError: the session is closed, belongs to another process, or is used in its own thread.
        """
        result: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        async def work() -> T:
            return await function(*args, **options)

        def start() -> None:
            task = asyncio.create_task(work())
            tasks.append(task)
            task.add_done_callback(set_result)

        def cancel() -> None:
            for task in tasks:
                task.cancel()
            if not tasks:  # interrupted before it started
                result.cancel()

        def set_result(task: asyncio.Task[T]) -> None:
            if loop is not None and loop.exiting:
                return  # Threads that still wait are daemons; the interpreter stops them.
            if task.cancelled():
                result.set_exception(SessionError("the session was closed during a request"))
            elif (error := task.exception()) is not None:
                result.set_exception(error)
            else:
                result.set_result(task.result())

        self._check_process()
        if self._loop is not None and self._loop.exiting and not _is_main_thread():
            _wait(result)  # for ever, as above
        loop: _Loop | None = None
        try:
            # `start` is in the loop's queue before `close` can be, so the work is at least cancelled.
            with self._lock:
                loop = self._started()
                loop.loop.call_soon_threadsafe(start)
            return _wait(result)
        except BaseException:
            if loop is not None and not result.done():
                loop.call_soon(cancel)
                with contextlib.suppress(Exception):
                    _wait(result, JOIN_TIMEOUT)
            raise
        finally:
            if result.done():
                del result  # An error refers to this frame, and the future to the error.

    def run_if_open(self, function: Callable[[], Awaitable[T]]) -> T | None:
        """As `run`, but returns None where the session is closed, or is closed by another thread meanwhile."""
        if not self.is_running:
            return None
        try:
            return self.run(function)
        except SessionError:
            if self.is_running:
                raise
            return None

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """The items of an async iterator, each of which is made in the loop."""
        try:
            while True:
                try:
                    item = self.run(source.__anext__)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if aclose := getattr(source, "aclose", None):
                self.run_if_open(aclose)

    def _started(self) -> _Loop:
        if self._closed or (self._loop is not None and self._loop.stopping):
            raise SessionError("the session is closed", hint="Open a new one: with Insights() as insights.")
        if self._loop is None:
            loop = _Loop(self._release)
            _open_loops.add(loop)
            self._loop = loop
            try:
                loop.thread.start()
            except BaseException:
                self._loop = None
                _open_loops.discard(loop)
                loop.loop.close()
                raise
        if self._loop.thread is threading.current_thread():
            raise SessionError(
                "the session is used in its own thread, which would wait for itself",
                hint="Functions that the session calls (observer, on_progress) must not use it.",
            )
        return self._loop

    def _check_process(self) -> None:
        if self._loop is not None and self._loop.process != os.getpid():
            raise SessionError(
                "the session was opened before this process was forked", hint="Open one in each process."
            )

    @property
    def is_running(self) -> bool:
        """Whether work can be done in the loop."""
        loop = self._loop
        return (
            loop is not None
            and not loop.stopping
            and loop.process == os.getpid()
            and loop.thread is not threading.current_thread()
        )

    def end(self, function: Callable[[], object]) -> None:
        """Calls a function that ends something in the loop, soon; for `__del__`, so it never waits.

        The loop keeps what the function refers to until then, so that it is not dropped in another thread.
        """
        loop = self._loop
        if loop is None or loop.exiting:
            return
        if loop.process == os.getpid():
            loop.call_soon(function)
        else:
            _inherited.append(function)

    def close(self) -> None:
        """Closes the session and ends the thread. It may be called more than once.

        Raises:
            SessionError: the session belongs to another process, or is used in its own thread.
        """
        self._check_process()
        with self._lock:
            if self._closed:
                return
            loop = self._started()
            self._closed = True
        try:
            loop.stop()
            _join(loop, JOIN_TIMEOUT)
        finally:
            _open_loops.discard(loop)

    def __del__(self) -> None:
        loop = self._loop
        if loop is None or loop.stopping or loop.process != os.getpid():
            return
        loop.stop()
        _open_loops.discard(loop)
        message = f"a session was not closed; it was made at {self._made_at}. Use with, or call close()"
        warnings.warn(message, ResourceWarning, source=self, stacklevel=2)


#: The loops that have not ended. In a process made by a fork, those of its parent stay here: dropping them would have effects.
_open_loops: set[_Loop] = set()
#: What a process has inherited by a fork belongs to a loop that does not run in it, so it is never dropped there.
_inherited: list[Callable[[], object]] = []


def _wait(result: Future[T], timeout: float | None = None) -> T:
    """The result, as soon as there is one. Ctrl-C interrupts it."""
    if WAIT is None or timeout is not None:
        return result.result(timeout)
    while True:
        try:
            return result.result(WAIT)
        except TimeoutError:
            if result.done():
                return result.result()


def _join(loop: _Loop, seconds: float) -> None:
    end = time.monotonic() + seconds
    while loop.thread.is_alive() and (remaining := end - time.monotonic()) > 0:
        loop.thread.join(min(remaining, WAIT or remaining))


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@atexit.register
def _stop_all() -> None:
    """Ends the threads of open sessions before the interpreter ends."""
    loops = [loop for loop in list(_open_loops) if loop.process == os.getpid()]
    for loop in loops:
        loop.exiting = True
        loop.stop()
    end = time.monotonic() + JOIN_TIMEOUT
    for loop in loops:
        _join(loop, end - time.monotonic())
