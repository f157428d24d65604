"""Runs one schedule and gives what it violated.

`run` makes the loop, the world and the session, starts all uses at once, waits for their end, closes the session, and lets the
checker look at what is left. Whatever happens, it returns: a deadlock or an endless program is a violation too.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

# The first stream of a process would wait for this import, and no other one.
import iovox_async.arrow._batches  # noqa: F401

from . import _names
from .checker import check_end
from .loop import LAG, Deadlock, Runaway, SimulationLoop
from .transport import new_transport
from .uses import Program, check_recovery, run_use
from .world import KEY, Violation, World

if TYPE_CHECKING:
    from .patches import Noise
    from .schedule import Schedule

__all__ = ["Outcome", "run"]


@dataclass
class Outcome:
    """What came of one run.

    Attributes:
        violations: what was violated, each kind once.
        steps: callbacks that ran.
        requests: requests that were sent.
        calls: calls that readers got.
        widths: how many callbacks were ready at each step, where that was asked for.
        lines: the trace, where that was asked for.
        print: a number that two runs share only if the same happened in the same order.
    """

    violations: list[Violation] = field(default_factory=list)
    steps: int = 0
    requests: int = 0
    calls: int = 0
    widths: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    print: int = 0


async def _program(program: Program) -> None:
    world = program.world
    insights = program.insights
    async with insights:
        tasks = [world.loop.create_task(run_use(program, use)) for use in program.schedule.uses]
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if program.schedule.faults or program.schedule.outage:
            await check_recovery(program)
    if world.active:
        world.violated("unclosed", f"{world.active} requests are open after the session was closed")
    # Helper tasks of asyncio that wait for a task of the session end a step after it.
    await asyncio.sleep(2 * LAG)
    if pages := _names.pages_in_memory(insights):
        world.violated("buffer", f"{pages} pages are in memory after the session was closed")
    check_end(world, insights, program.pulls)


class _LogSearch(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if KEY in text:
            self.world.violated("secret", f"the log shows the key: {record.msg}")
        if record.levelno >= logging.ERROR:
            self.world.violated("log", f"an error was logged: {text}")


def run(schedule: Schedule, noise: Noise, *, trace: bool = False, widths: bool = False) -> Outcome:
    """Runs a schedule."""
    loop = SimulationLoop(
        random.Random(f"loop {schedule.seed}"),
        shuffle=schedule.shuffle,
        lag=schedule.lag,
        work=schedule.work,
        deviations=schedule.deviations,
    )
    if widths:
        loop.widths = []
    world = World(schedule, loop, trace=trace)
    handler, level = _LogSearch(world), _names.LOGGER.level
    _names.LOGGER.addHandler(handler)
    _names.LOGGER.setLevel(logging.DEBUG if schedule.log or trace else logging.WARNING)
    program = None
    noise.limit_time()
    try:
        asyncio.set_event_loop(loop)
        client_rng = random.Random(f"client {schedule.seed}")
        with _names.clocks(world.machine_utc, loop.time, client_rng), _names.first_page(schedule.first_page):
            insights = _names.open_session(
                new_transport(world),
                key=KEY,
                concurrency=schedule.concurrency,
                page_size=schedule.page_size,
                timeout=schedule.timeout,
                attempts=schedule.attempts,
                timezone=world.zone if schedule.shift else schedule.timezone,
            )
            world.pages_in_memory = functools.partial(_names.pages_in_memory, insights)
            program = Program(schedule, world, insights, random.Random(f"program {schedule.seed}"))
            loop.run_until_complete(_program(program))
            loop.run_until_complete(loop.shutdown_asyncgens())
        del insights
    except Deadlock:
        world.violated("hang", "nothing is ready and no timer is set, and the program has not ended")
    except Runaway:
        world.violated("endless", f"the program has not ended after {loop.step} steps")
    finally:
        noise.limit_time(0)
        world.pages_in_memory = None
        _names.LOGGER.removeHandler(handler)
        _names.LOGGER.setLevel(level)
        asyncio.set_event_loop(None)
    return _outcome(world, loop, program, noise)


def _outcome(world: World, loop: SimulationLoop, program: Program | None, noise: Noise) -> Outcome:
    outcome = Outcome(
        steps=loop.step, requests=len(world.exchanges), widths=loop.widths or [], lines=world.lines or []
    )
    outcome.calls = sum(len(pull.got) for pull in program.pulls) if program else 0
    got = [(one.id, one.token, one.step) for pull in program.pulls for one in pull.got] if program else []
    outcome.print = hash(
        (world.events, loop.step, loop.time(), tuple(got), tuple(e.began for e in world.exchanges))
    )
    stuck = any(violation.kind in {"hang", "endless"} for violation in world.violations)
    if program is not None:
        program.pulls.clear()
        program.insights = None
    if stuck:
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False
    loop.close()
    del program
    # All that the run made is young, since nothing was collected meanwhile.
    gc.collect(0)
    if not stuck:
        for context in loop.complaints:
            world.violated("unretrieved", f"{context['message']}: {context.get('exception')!r}")
        for text in noise.heard:
            world.violated("noise", text)
    noise.heard.clear()
    seen: dict[str, Violation] = {}
    for violation in world.violations:
        seen.setdefault(violation.kind, violation)
    outcome.violations = list(seen.values())
    return outcome
