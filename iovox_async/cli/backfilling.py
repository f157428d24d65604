"""How far a backfill is, told while it runs: a bar, lines, or lines of JSON.

The law of this room: what is told is true when it is told. The bar is one of dates, not of guesses of calls; it is full only
when all is on the disk; and the time left is told only once there is something to tell it by.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from .console import drawing, note, number, size, span
from .progress import bar_on, can_draw

if TYPE_CHECKING:
    from iovox_async.backfill import Backfill, BackfillProgress, BackfillReport

__all__ = ["Pace", "summary", "tell", "told", "watching"]

#: Seconds between two looks, and between two lines.
_LOOK, _LINE = 0.1, 5.0
#: Seconds over which the pace is taken, and of work before the time left is told.
_RECENT, _WARM = 20.0, 2.0
#: Columns that the figures beside the bar take.
_FIGURES = 90


class Pace:
    """How fast a run goes of late."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, float]] = deque()

    def saw(self, progress: BackfillProgress, now: float | None = None) -> None:
        """Takes notice of where it stands."""
        now = time.monotonic() if now is None else now
        self._seen.append((now, progress.calls, progress.progress))
        while len(self._seen) > 2 and now - self._seen[1][0] > _RECENT:
            self._seen.popleft()

    @property
    def calls(self) -> float:
        """Calls a second."""
        (then, calls, _), (now, more, _) = self._seen[0], self._seen[-1]
        return (more - calls) / (now - then) if now > then else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the end, if it goes on like this; None while nobody can know."""
        (then, _, share), (now, _, further) = self._seen[0], self._seen[-1]
        if now - then < _WARM or further <= share:
            return None
        return (1.0 - further) * (now - then) / (further - share)


def told(progress: BackfillProgress, pace: Pace) -> str:
    """Where a run stands, in words."""
    parts = [
        progress.last or "",
        number(progress.calls, "call", "calls"),
        f"{number(pace.calls)}/s",
        size(progress.bytes),
    ]
    if progress.retries:
        parts.append(number(progress.retries, "retry", "retries"))
    if progress.bad_records:
        parts.append(number(progress.bad_records, "bad record", "bad records"))
    if pace.left is not None:
        parts.append(f"{span(pace.left)} left")
    return "  ".join(filter(None, parts))


def tell(event: str, data: dict[str, Any]) -> None:
    """One line of JSON to stderr."""
    sys.stderr.write(msgspec.json.encode({"event": event, **data}).decode() + "\n")
    sys.stderr.flush()


@contextlib.asynccontextmanager
async def watching(backfill: Backfill, log_format: str) -> AsyncIterator[None]:
    """Tells of a run for as long as the block runs."""
    if log_format == "json":
        work = _write_json(backfill)
    elif can_draw():
        work = _draw(backfill)
    else:
        work = _write_lines(backfill)
    telling = asyncio.create_task(work)
    try:
        yield
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling


async def _draw(backfill: Backfill) -> None:
    pace = Pace()
    with drawing() as screen, bar_on(screen, _FIGURES) as bar:
        task = bar.add_task("", total=1.0, share="", told="")
        while True:
            progress = backfill.progress
            pace.saw(progress)
            share = f"{_percent(progress.progress)}%"
            bar.update(task, completed=progress.progress, share=share, told=told(progress, pace))
            bar.refresh()
            await asyncio.sleep(_LOOK)


async def _write_lines(backfill: Backfill) -> None:
    pace = Pace()
    pace.saw(backfill.progress)
    while True:
        await asyncio.sleep(_LINE)
        progress = backfill.progress
        pace.saw(progress)
        note(f"{_percent(progress.progress):>3}%  {told(progress, pace)}")


async def _write_json(backfill: Backfill) -> None:
    pace = Pace()
    pace.saw(backfill.progress)
    while True:
        await asyncio.sleep(_LINE)
        progress = backfill.progress
        pace.saw(progress)
        more = {"calls_a_second": round(pace.calls, 1), "seconds_left": pace.left}
        tell("progress", attrs.asdict(progress) | more)


def _percent(share: float) -> int:
    return 100 if share == 1 else min(99, int(share * 100))


def summary(report: BackfillReport, folder: str) -> str:
    """What a run did, in two or three lines."""
    figures = {
        "partitions": number(report.partitions, "partition written", "partitions written"),
        "kept": f"{number(report.kept)} there before",
        "calls": number(report.calls, "call", "calls"),
        "bytes": size(report.bytes),
        "requests": number(report.requests, "request", "requests"),
        "retries": number(report.retries, "retry", "retries"),
        "halved": number(report.halved, "window halved", "windows halved"),
        "bad": number(report.bad_records, "bad record", "bad records"),
    }
    lines = [f"{', '.join(figures.values())}, {report.seconds:.1f} s"]
    if report.verified:
        differed = ", ".join(report.differing[:10]) + (" ..." if len(report.differing) > 10 else "")
        said = (
            f"{len(report.differing)} differed and were read again: {differed}"
            if differed
            else "none differs"
        )
        lines.append(
            f"{number(report.verified, 'partition', 'partitions')} compared with the endpoint, {said}"
        )
    still = f"; {len(report.open)} of its partitions may still change" if report.open else ""
    lines.append(f"{folder} holds {number(report.total_calls, 'call', 'calls')}{still}")
    return "\n".join(lines)
