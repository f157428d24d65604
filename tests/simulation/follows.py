"""Follows new calls while they arrive and change, and checks that none is missed.

Calls arrive over five minutes of virtual time, on time or late, and some are edited. When all has happened, the follower polls twice more;
then every call that still exists must have come exactly once, or (`include_updates`) its latest version must have come.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from . import _names
from .checker import Pull, check_error
from .world import NOW

if TYPE_CHECKING:
    from datetime import datetime

    from .schedule import Use
    from .uses import Program

__all__ = ["follow_use"]

#: Seconds between polls, over which calls arrive, and for which the follower is given time.
INTERVAL, ARRIVING, PATIENCE = 30.0, 300.0, 3_000.0
#: How far each poll looks back, and how late a call may arrive.
LOOKBACK, LATEST = timedelta(hours=2), 2_000


async def _arrive(program: Program, number: int) -> None:
    """Lets calls arrive."""
    world, rng = program.world, program.rng
    moments = sorted(rng.random() * ARRIVING for _ in range(number))
    for index, moment in enumerate(moments):
        await asyncio.sleep(max(0.0, 1000 + moment - world.loop.time()))
        now = world.now().replace(microsecond=0)
        start = now - timedelta(seconds=rng.choice((0, 1, 5, 60, LATEST)))
        if program.schedule.slip == "future" and index == number // 2:
            start = now + timedelta(hours=20)
        row = world.endpoint.insert(start)
        world.trace("data", f"call {row.id} arrived, began at {start}")
        if rng.random() < 0.3:
            row = rng.choice(world.endpoint.rows)
            world.endpoint.move(row, row.start)
            world.trace("data", f"call {row.id} edited")


async def _read(program: Program, iterator: Any, pull: Pull, use: Use, ended: list[bool]) -> None:
    """Takes calls until following is ended by another task."""
    world = program.world
    failures = 0
    while not ended:
        try:
            if use.leave == "anext":
                await _read_with_deadlines(program, iterator, pull)
            else:
                async for call in iterator:
                    _take(program, pull, call)
            if not ended:
                world.violated("short", "following ended without an error")
                return
        except _names.IovoxError as error:
            if ended and isinstance(error, _names.SessionError):
                return
            check_error(world, error, "follow")
            world.trace("reader", f"following raised {type(error).__name__}")
            failures += 1
            if failures > 5:
                raise
            await asyncio.sleep(_names.LOCKED_OUT + 1)


async def _read_with_deadlines(program: Program, iterator: Any, pull: Pull) -> None:
    # Some readers never wait for longer.
    impatient = 5 if pull.use.leave_at % 2 else 10_000
    while True:
        try:
            _take(program, pull, await asyncio.wait_for(anext(iterator), 7.0 if impatient else None))
        except TimeoutError:
            impatient -= 1
        except StopAsyncIteration:
            return


def _take(program: Program, pull: Pull, call: Any) -> None:
    if pull.use.updates:
        pull.take_version(program.world, call.call_destination)
    else:
        pull.take(program.world, call.call_destination, call.call_origin, call.id, call.call_start)
    program.world.trace("reader", f"took {call.call_destination}")


async def follow_use(program: Program, use: Use) -> None:
    """Follows until all has arrived and two polls more have ended."""
    from .uses import FIELDS, cancelled_at

    world, loop, rng = program.world, program.world.loop, program.rng
    options = {"fields": FIELDS[use.fields]} if FIELDS[use.fields] else {}
    if use.updates:
        # Without the field that names the response and so changes with each.
        options = {"fields": ("id", "call_destination"), "include_updates": True}
    since = NOW if use.open else NOW - timedelta(hours=1)
    follower = _names.follow(
        program.insights, None if use.open else since, interval=INTERVAL, lookback=LOOKBACK, **options
    )
    pull = Pull(use, world.endpoint.tick)
    ended: list[bool] = []
    arriving = loop.create_task(_arrive(program, rng.choice((1, 4, 12))))
    step = use.leave_at if use.leave == "cancel" else None

    async def read() -> None:
        iterator = aiter(follower)
        how, error = await cancelled_at(program, _read(program, iterator, pull, use, ended), step)
        if how == "cancelled":
            # A step that was cancelled loses nothing: the next one goes on, in another task.
            _how, error = await cancelled_at(program, _read(program, iterator, pull, use, ended), None)
        if error is not None:
            raise error

    reading = loop.create_task(read())
    await arriving
    settled_tick = world.endpoint.tick
    polls, failed = _names.poll_counts(follower)
    needed = polls - failed + 3
    while not reading.done() and loop.time() - 1000 < PATIENCE:
        await asyncio.sleep(INTERVAL / 2)
        polls, failed = _names.poll_counts(follower)
        if polls - failed >= needed:
            break
    else:
        if not reading.done():
            world.violated("blind", f"no two polls ended well in {PATIENCE:g} s")
    missed = _missed(program, pull, settled_tick, since) if not reading.done() else []
    if missed:
        world.violated("blind", f"{len(missed)} calls never came: {missed[:5]}")
    seen = [(one.id, one.version if use.updates else 0) for one in pull.got]
    again = {number for number in seen if seen.count(number) > 1}
    if again:
        world.violated("double", f"calls came twice: {sorted(again)[:5]}")
    ended.append(True)
    await follower.aclose()
    await asyncio.wait([reading])
    if reading.exception() is not None:
        check_error(world, reading.exception(), "follow")


def _missed(program: Program, pull: Pull, tick: int, since: datetime) -> list[int]:
    """The calls that existed from a tick on until now, and never came, or not in their latest version."""
    seen = {(one.id, one.version if pull.use.updates else 0) for one in pull.got}
    return [
        number
        for number, versions in program.world.endpoint.history.items()
        if (last := versions[-1]).born <= tick
        and last.died is None
        and (number, last.version if pull.use.updates else 0) not in seen
        and all(version.start >= since for version in versions)
        and len({version.start for version in versions}) == 1
    ]
