"""Uses the client as programs do: reads streams in every form, leaves them in every way, and resumes them.

Each use is a coroutine that takes a `Program` and records what it got. The uses of one run share a session.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio

from . import _names
from .checker import Pull, check_error, check_pull
from .disk import KilledError
from .endings import check_counts, check_final, check_outage
from .endpoint import at
from .loop import LAG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .schedule import Schedule, Use
    from .world import World

__all__ = ["Program", "check_recovery", "run_use"]

#: What a reader asks for, by the name that a schedule has for it.
FIELDS = {
    "keys": ("id", "call_start", "call_origin", "call_destination"),
    "bare": ("call_origin", "call_destination"),
    "default": None,
    "nested": ("id", "call_start", "call_origin", "call_destination", "tag_text", "tag_colour"),
}
#: Ways to leave in which another task closes the stream, or the session.
CLOSED = frozenset({"close", "close-between"})
SESSION_CLOSED = frozenset({"close-session", "close-session-between"})
#: Streams that resume one another, at most.
SEGMENTS = 8


class ReaderError(Exception):
    """What a reader raises by itself."""


@dataclass
class Program:
    """What the uses of one run share."""

    schedule: Schedule
    world: World
    insights: Any
    rng: random.Random
    pulls: list[Pull] = field(default_factory=list)


@dataclass
class Segment:
    """One stream of a pull."""

    program: Program
    pull: Pull
    stream: Any
    leave: str
    leave_at: float
    taken: int = 0
    #: Whether the reader itself stopped, and so the end proves nothing.
    left: bool = False
    closed: bool = False
    late: int = 0
    over: bool = False

    def take(self, item: Any) -> None:
        """Records what came."""
        world, pull = self.program.world, self.pull
        self.taken += 1
        if pull.use.mode == "records":
            pull.take(world, item.call_destination, item.call_origin, item.id, item.call_start)
        elif pull.use.mode == "pages":
            for call in item.calls:
                pull.take(world, call.call_destination, call.call_origin, call.id, call.call_start)
        else:
            columns = item.to_pydict()
            nothing = [None] * item.num_rows
            rows = (columns["call_destination"], columns["call_origin"], columns.get("id", nothing))
            for *row, start in zip(*rows, columns.get("call_start", nothing), strict=True):
                zoned = None if start is None or start.tzinfo is None else start.astimezone(world.zone)
                pull.take(world, *row, zoned or start)
        if world.lines is not None:
            world.trace("reader", f"took {[one.id for one in pull.got[-8:]]}, {len(pull.got)} in all")

    def iterator(self) -> AsyncIterator[Any]:
        """Reads the stream in the form that the use wants."""
        mode = self.pull.use.mode
        return self.stream.__aiter__() if mode == "records" else getattr(self.stream, mode)().__aiter__()


async def _read(segment: Segment) -> None:
    """Reads until the end, or until it is time to leave."""
    leave, enough = segment.leave, segment.leave_at
    world = segment.program.world
    if leave == "anext":
        await _read_with_deadlines(segment)
        return
    async for item in segment.iterator():
        segment.late += segment.closed and leave in CLOSED and getattr(item, "num_rows", 1)
        if segment.late:
            world.violated("closed", "calls came after the stream was closed")
        segment.take(item)
        if leave.endswith("between"):
            if segment.taken > enough and not segment.closed:
                await world.loop.create_task(_close_from_outside(segment))
        elif leave == "slow":
            await asyncio.sleep(segment.program.rng.random() * 0.5)
        elif leave in {"break", "break-bare", "raise", "drop"} and segment.taken > enough:
            segment.left = True
            if leave == "raise":
                raise ReaderError
            return
    if segment.closed:
        # Right only where all had been delivered; `check_pull` says so.
        world.trace("reader", "ended after the stream was closed")


async def _read_with_deadlines(segment: Segment) -> None:
    iterator = segment.iterator()
    impatient = 5
    while True:
        try:
            if impatient:
                item = await asyncio.wait_for(anext(iterator), segment.leave_at)
            else:
                item = await anext(iterator)
        except TimeoutError:
            impatient -= 1
            segment.program.world.trace("reader", "gave up waiting for a call, and asks again")
        except StopAsyncIteration:
            return
        else:
            segment.take(item)


async def _in_block(segment: Segment) -> None:
    """Reads within `async with`, after which nothing of the stream is under way."""
    program = segment.program
    try:
        async with segment.stream:
            await _read(segment)
    finally:
        if len(program.schedule.uses) == 1 and program.world.active:
            program.world.violated("left", f"{program.world.active} requests are open after the block")


async def _segment(segment: Segment) -> None:
    leave = segment.leave
    if leave in {"break-bare", "drop"}:
        await _read(segment)
    elif leave == "scope":
        with anyio.move_on_after(segment.leave_at) as scope:
            await _in_block(segment)
        segment.left = scope.cancelled_caught
    elif leave == "timeout":
        try:
            async with asyncio.timeout(segment.leave_at):
                await _in_block(segment)
        except TimeoutError:
            segment.left = True
    else:
        await _in_block(segment)


async def cancelled_at(program: Program, work: Any, step: float | None) -> tuple[str, BaseException | None]:
    """Runs work in a task of its own, and cancels it at a step; says how it ended."""
    loop = program.world.loop
    task = loop.create_task(work)
    asked = []
    if step is not None:
        loop.at_step(loop.step + int(step), lambda: asked.append(task.cancel()) if not task.done() else None)
    await asyncio.wait([task])
    if task.cancelled():
        if not asked:
            program.world.violated("cancelled", "a task was cancelled that nobody cancelled")
        return "cancelled", None
    error = task.exception()
    # A process that is killed while it ends is killed.
    if asked and asked[0] and not isinstance(error, KilledError):
        program.world.violated("swallowed", f"a cancellation had no effect: {error!r}")
    return ("ended", None) if error is None else ("raised", error)


async def _close_from_outside(segment: Segment) -> None:
    await (segment.stream if segment.leave in CLOSED else segment.program.insights).aclose()
    segment.closed = True
    segment.program.world.trace("closer", "closed it from another task")


async def stream_use(program: Program, use: Use) -> None:
    """Reads a range with one stream, and with others that resume it where it ended early."""
    world = program.world
    pull = Pull(use, world.endpoint.tick, limit=use.max_calls)
    if use.open:
        pull.until = world.now() + timedelta(seconds=min(0.0, program.schedule.skew))
    leave, position = use.leave, None
    for number in range(SEGMENTS):
        left = None if use.max_calls is None else max(0, use.max_calls - len(pull.got))
        insights = program.insights
        if _names.HAS_WITH_OPTIONS and program.rng.random() < 0.1:
            insights = insights.with_options(timeout=program.schedule.timeout)
        stream = insights.stream(
            at(use.start),
            None if use.open else at(use.end),
            order=use.order,
            ordered=use.ordered,
            paging=use.paging,
            max_calls=left,
            resume=position,
            **({"fields": FIELDS[use.fields]} if FIELDS[use.fields] else {}),
            **({"call_result": "ANSWERED"} if use.filtered else {}),
        )
        segment = Segment(program, pull, stream, leave if not number else "end", use.leave_at)
        del stream
        position = await _one(segment)
        if pull.complete or position is None or not use.resume or leave in SESSION_CLOSED:
            break
        # An account that was refused is refused for a while.
        await asyncio.sleep(_names.LOCKED_OUT + 1 if number else 0)
        world.trace("reader", f"resumes at {position}")
    pull.ended = world.endpoint.tick
    check_pull(world, pull)
    program.pulls.append(pull)


async def _one(segment: Segment) -> str | None:
    """Reads one stream; gives the position from which to go on, or None."""
    program, pull = segment.program, segment.pull
    world, loop = program.world, program.world.loop
    pull.segments.append([loop.step, 0])
    begun = loop.time()
    leave = segment.leave
    closing: list[asyncio.Task[None]] = []
    if leave in {"close", "close-session"}:
        step = loop.step + int(segment.leave_at)
        loop.at_step(
            step, lambda: segment.over or closing.append(loop.create_task(_close_from_outside(segment)))
        )
    how, error = await cancelled_at(
        program, _segment(segment), segment.leave_at if leave == "cancel" else None
    )
    segment.over = True
    if closing:
        await asyncio.wait(closing)
    if error is not None and not (leave == "raise" and isinstance(error, ReaderError)):
        check_error(world, error, "a stream")
        check_outage(world, error, loop.time() - begun)
        if isinstance(error, _names.SessionError) and not leave.startswith("close"):
            world.violated("session", f"the stream says that it was closed: {error}")
    world.trace("reader", f"{how} {type(error).__name__ if error is not None else ''}")
    position = segment.stream.position
    error_position = getattr(error, "position", None)
    if error_position is not None and error_position != position:
        world.violated("position", f"the error says {error_position}, the stream {position}")
    pull.segments[-1][1] = loop.step
    if leave in {"drop", "break-bare"} and segment.left:
        segment.stream = None
        # The requests of a stream that was dropped end a moment later.
        await asyncio.sleep(2 * LAG)
    else:
        counts = _names.counts(segment.stream)
        pull.counts.append(counts)
        pull.complete = how == "ended" and not segment.left
        check_counts(pull, counts, world)
        check_final(world, segment.stream.stats.complete_until)
    return position


async def page_use(program: Program, use: Use) -> None:
    """Reads one page, which holds what its response held."""
    world = program.world

    async def work() -> None:
        pull = Pull(use, world.endpoint.tick)
        page = await _names.one_page(
            program.insights,
            at(use.start),
            at(use.end),
            page=int(use.leave_at) or 1,
            page_size=program.schedule.page_size or 5,
            fields=FIELDS["keys"],
        )
        for call in page.calls:
            pull.take(world, call.call_destination, call.call_origin, call.id, call.call_start)
        tokens = {one.token for one in pull.got}
        if program.schedule.slip not in {"double", "twice"} and (
            len(tokens) > 1 or (tokens and len(world.exchanges[tokens.pop()].rows) != len(page.calls))
        ):
            world.violated("page", "the page does not hold what its response held")

    await _small(program, use, work)


async def check_recovery(program: Program) -> None:
    """Lets all faults end, after which the session must work again, whatever it has been through."""
    world, schedule = program.world, program.schedule
    closed = any(use.leave in SESSION_CLOSED for use in schedule.uses)
    if closed or schedule.latency > 1 or program.rng.random() < 0.5:
        return
    world.heal()
    paused = max([until for _, until, _ in world.pauses], default=0.0) - world.loop.time()
    await asyncio.sleep(max(paused, _names.LOCKED_OUT) + 1)
    world.trace("session", "sends a request after the faults")
    try:
        await _names.one_page(program.insights, at(0), at(1), page=1, page_size=1, fields=FIELDS["keys"])
    except _names.IovoxError as error:
        world.violated("dead", f"the session fails after all faults have ended: {error}")


async def get_use(program: Program, use: Use) -> None:
    """Gets calls by their ids, in the order of the ids."""
    world, endpoint = program.world, program.world.endpoint

    async def work() -> None:
        ids = program.rng.sample(sorted(endpoint.history), min(int(use.leave_at), len(endpoint.history)))
        requested_ids = [*ids, 99_999]
        began = endpoint.tick
        calls = await program.insights.get(requested_ids, fields=FIELDS["keys"])
        pull = Pull(use, began)
        for call in calls:
            pull.take(world, call.call_destination, call.call_origin, call.id, call.call_start)
        delivered = [one.id for one in pull.got]
        if delivered != [number for number in requested_ids if number in delivered]:
            world.violated("get", f"requested {requested_ids}, came {delivered}")
        for number in ids:
            first = endpoint.history[number][0]
            if number not in delivered and first.born <= began and first.died is None:
                world.violated("lost", f"get({number}) found nothing, and the call exists")

    await _small(program, use, work)


async def _small(program: Program, use: Use, work: Callable[[], Any]) -> None:
    step = program.rng.randrange(60) if use.leave == "cancel" else None
    _how, error = await cancelled_at(program, work(), step)
    if error is not None:
        check_error(program.world, error, use.kind)


async def run_use(program: Program, use: Use) -> None:
    """Runs one use."""
    from .backfills import backfill_use
    from .follows import follow_use

    kinds = {
        "stream": stream_use,
        "page": page_use,
        "get": get_use,
        "follow": follow_use,
        "backfill": backfill_use,
    }
    with contextlib.suppress(asyncio.CancelledError):
        try:
            await kinds[use.kind](program, use)
        except _names.IovoxError as error:
            program.world.violated("refused", f"{use.kind} was refused: {error}")
