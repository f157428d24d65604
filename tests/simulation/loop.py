"""Runs coroutines on a virtual clock and in an order that a seed decides.

`SimulationLoop` is an asyncio loop whose selector never waits. The clock moves only when nothing is ready, straight to
the next timer. At each step the loop runs one ready callback: the oldest, unless the seed or a list of deviations picks
another one.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

__all__ = ["LAG", "Deadlock", "Runaway", "SimulationLoop"]


#: Seconds by which a slow machine may be late.
LAG = 0.5


class Deadlock(BaseException):
    """Nothing is ready and no timer is set, yet the program has not ended."""


class Runaway(BaseException):
    """The program took more steps than it may."""


class _IdleSelector(selectors.BaseSelector):
    """A selector without files."""

    def register(self, fileobj, events, data=None):
        raise NotImplementedError

    def unregister(self, fileobj):
        raise NotImplementedError

    def select(self, timeout=None):
        return []

    def get_map(self):
        return {}


class _Task(asyncio.Task):
    """A task whose hash does not depend on its address, so that sets of tasks have one order in every process."""

    def __init__(self, coro, *, loop, **rest):
        loop.tasks_made += 1
        self._serial = loop.tasks_made
        super().__init__(coro, loop=loop, **rest)

    def __hash__(self):
        return self._serial


class SimulationLoop(asyncio.SelectorEventLoop):
    """An event loop with a virtual clock and a decided order of steps.

    Args:
        rng: decides which ready callback runs next.
        shuffle: the share of steps at which another callback than the oldest may run.
        lag: the share of steps at which the clock moves on although callbacks are ready, as on a slow machine.
        work: the most seconds that a function takes in a thread.
        deviations: step numbers at which the callback at the given place runs instead of the oldest.
        max_steps: steps after which the program counts as one that never ends.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        shuffle: float = 0.0,
        lag: float = 0.0,
        work: float = 0.0,
        deviations: dict[int, int] | None = None,
        max_steps: int = 50_000,
    ) -> None:
        self._now = 1000.0
        super().__init__(_IdleSelector())
        self._random = rng.random
        self._shuffle = shuffle
        self._lag, self._work = lag, work
        self._deviations = deviations or {}
        self._max_steps = max_steps
        self._at_step: dict[int, list[Callable[[], Any]]] = {}
        #: The number of callbacks that have run.
        self.step = 0
        #: How many callbacks were ready at each step, where `widths` is a list.
        self.widths: list[int] | None = None
        self.tasks_made = 0
        #: What went wrong where nobody awaited it.
        self.complaints: list[dict[str, Any]] = []
        self.set_task_factory(lambda loop, coro, **rest: _Task(coro, loop=loop, **rest))
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def run_in_executor(self, executor, func, *args):
        """Runs a function in the loop, at a later step; it runs even if the caller is gone by then."""
        future = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_in_thread(work)
        return future

    def call_in_thread(self, work: Callable[[], Any]) -> None:
        """Calls a function at a later step, after the time that it takes."""
        if self._work:
            self.call_later(self._work * self._random(), work)
        else:
            self.call_soon(work)

    def time(self) -> float:
        return self._now

    def at_step(self, step: int, action: Callable[[], Any]) -> None:
        """Calls an action just before the callback of this step runs."""
        self._at_step.setdefault(max(step, self.step), []).append(action)

    # No sockets: nothing of another thread or process ever wakes this loop.

    def _make_self_pipe(self):
        self._internal_fds = 0
        self._ssock = self._csock = None

    def _close_self_pipe(self):
        pass

    def _write_to_self(self):
        pass

    def _run_once(self):
        ready, scheduled = self._ready, self._scheduled
        if not ready or (
            self._lag and scheduled and self._random() < self._lag and self._next_timer() < self._now + LAG
        ):
            self._move_clock()
        step = self.step
        if self._at_step and step in self._at_step:
            for action in self._at_step.pop(step):
                action()
        self.step = step + 1
        if step > self._max_steps:
            raise Runaway
        width = len(ready)
        if self.widths is not None:
            self.widths.append(width)
        place = 0
        if width > 1:
            if self._shuffle and self._random() < self._shuffle:
                place = int(self._random() * width)
            elif self._deviations:
                place = min(self._deviations.get(step, 0), width - 1)
        if place:
            handle = ready[place]
            del ready[place]
        else:
            handle = ready.popleft()
        if not handle._cancelled:
            handle._run()
        # As asyncio does: from Python 3.12 on, the traceback of an exception keeps this frame.
        handle = None

    def _next_timer(self) -> float:
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        return scheduled[0]._when if scheduled else math.inf

    def _move_clock(self):
        ready, scheduled = self._ready, self._scheduled
        when = self._next_timer()
        if when == math.inf:
            raise Deadlock
        self._now = max(self._now, when)
        while scheduled and scheduled[0]._when <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            else:
                ready.append(handle)
