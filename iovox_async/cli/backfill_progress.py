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

__all__ = ["RateEstimator", "summary", "tell", "told", "watching"]

#: Seconds between two looks, and between two lines.
_LOOK, _LINE = 0.1, 5.0
#: Seconds over which the pace is taken, and of work before the time left is told.
_RECENT, _WARM = 20.0, 2.0
#: Columns that the figures beside the bar take.
_FIGURES = 90
#: Partitions that differed and are named one by one.
_NAMED = 10


class RateEstimator:
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


def told(progress: BackfillProgress, pace: RateEstimator) -> str:
    """Where a run stands, in words."""
    parts = [
        progress.last_partition or "",
        number(progress.calls, "call", "calls"),
        f"{number(pace.calls)}/s",
        size(progress.bytes_received),
    ]
    if progress.retries:
        parts.append(number(progress.retries, "retry", "retries"))
    if progress.skipped:
        parts.append(number(progress.skipped, "bad record", "bad records"))
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
    pace = RateEstimator()
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
    pace = RateEstimator()
    pace.saw(backfill.progress)
    while True:
        await asyncio.sleep(_LINE)
        progress = backfill.progress
        pace.saw(progress)
        note(f"{_percent(progress.progress):>3}%  {told(progress, pace)}")


async def _write_json(backfill: Backfill) -> None:
    pace = RateEstimator()
    pace.saw(backfill.progress)
    while True:
        await asyncio.sleep(_LINE)
        progress = backfill.progress
        pace.saw(progress)
        more = {"calls_a_second": round(pace.calls, 1), "seconds_left": pace.left}
        tell("progress", attrs.asdict(progress) | more)


def _percent(share: float) -> int:
    return 100 if share == 1 else min(99, int(share * 100))


def summary(report: BackfillReport, folder: str, *, more: bool = False) -> str:
    """What a run did, in a line or two; what did not happen is left out.

    Args:
        report: of a run, or of a comparison.
        folder: as the user wrote it.
        more: the folder is looked at once more, so what it holds is told then.
    """
    cost = _cost(report)
    if report.verified:
        named = ", ".join(report.mismatched_partitions[:_NAMED])
        unnamed = len(report.mismatched_partitions) - _NAMED
        said = (
            f"{number(len(report.mismatched_partitions))} differed and were read again: {named}"
            f"{f' and {number(unnamed)} more' if unnamed > 0 else ''}"
            if named
            else "none differs"
        )
        compared = number(report.verified, "partition", "partitions")
        lines = [f"{compared} compared with the endpoint, {said} ({cost})"]
    elif report.partitions_skipped and not report.partitions:
        lines = [
            f"{number(report.partitions_skipped, 'partition', 'partitions')} there before, nothing left to read"
        ]
    else:
        kept = f", {number(report.partitions_skipped)} there before" if report.partitions_skipped else ""
        written = number(report.partitions, "partition written", "partitions written")
        lines = [f"{written}{kept}: {number(report.calls, 'call', 'calls')}, {cost}"]
    if not more:
        still = (
            f"; {number(len(report.open_partitions))} of its partitions may still change"
            if report.open_partitions
            else ""
        )
        lines.append(f"{folder} holds {number(report.total_calls, 'call', 'calls')}{still}")
    return "\n".join(lines)


def _cost(report: BackfillReport) -> str:
    parts = [f"{size(report.bytes_received)} in {number(report.requests, 'request', 'requests')}"]
    rare = (
        (report.retries, "retry", "retries"),
        (report.window_splits, "window halved", "windows halved"),
        (report.skipped, "bad record left out", "bad records left out"),
    )
    parts += [number(*one) for one in rare if one[0]]
    return ", ".join([*parts, f"{report.elapsed:.1f} s"])
