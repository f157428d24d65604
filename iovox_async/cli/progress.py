"""How far a stream is, told while it runs.

The law of this room: a bar is drawn only where a person sees it and nothing else writes, never reaches its end before
the stream does, and costs the stream nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeRemainingColumn

from .console import Screen, at_terminal, drawing, err, note, number, size

if TYPE_CHECKING:
    from iovox_async import StreamStats

__all__ = ["StreamRate", "bar_on", "can_draw", "summary", "watching"]

#: Seconds between two looks, and over which the rate is taken.
_LOOK, _RECENT = 0.1, 3.0
#: Seconds between two lines where no bar can be drawn.
_LINE = 1.0
#: Columns that the figures beside a bar take.
_FIGURES = 68


def can_draw(*, data_to_stdout: bool = False) -> bool:
    """Whether a bar can be drawn on stderr: it is a terminal, and nothing else writes to the same one.

    What reads a pipe (`| head`, `| less`, `| jq`) most likely writes to it.
    """
    return (
        at_terminal("stderr")
        and not err().is_dumb_terminal
        and not (data_to_stdout and (at_terminal("stdout") or _is_pipe(sys.stdout)))
    )


def _is_pipe(stream: Any) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):  # none at all, closed, or no file
        return False


class StreamRate:
    """The figures of a stream as time goes by."""

    def __init__(self, stats: Callable[[], StreamStats], *, limit: int | None = None) -> None:
        self._stats = stats
        self._limit = limit
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def look(self) -> tuple[float, StreamStats, float]:
        """The share that is done, below 1 until all is; the figures; calls a second of late."""
        stats, now = self._stats(), time.monotonic()
        self._seen.append((now, stats.calls))
        while len(self._seen) > 2 and now - self._seen[1][0] > _RECENT:
            self._seen.popleft()
        then, calls = self._seen[0]
        rate = (stats.calls - calls) / (now - then) if now > then else 0.0
        share = stats.progress
        if self._limit:
            share = max(share, stats.calls / self._limit)
        return min(share, 1.0), stats, rate


@contextlib.asynccontextmanager
async def watching(meter: StreamRate, *, draw: bool, lines: bool = False) -> AsyncIterator[None]:
    """Tells of a stream for as long as the block runs: by a bar, else by lines where they are wanted."""
    if not (draw or lines):
        yield
        return
    telling = asyncio.create_task(_draw(meter) if draw else _write_lines(meter))
    try:
        yield
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling


def bar_on(screen: Screen, figures: int, *more: ProgressColumn) -> Progress:
    """A bar whose task has the fields `share` and `told`.

    Args:
        screen: where it is drawn.
        figures: columns that are kept for what stands beside it.
        more: what stands behind its fields.
    """
    # Not to the edge: the ^C that a terminal shows would break the line, and the bar could not be wiped off.
    width = max(8, min(40, screen.width - figures))
    return Progress(
        SpinnerColumn(style="cyan"),
        BarColumn(width, complete_style="cyan"),
        TextColumn("{task.fields[share]}", style="bold"),
        TextColumn("{task.fields[told]}"),
        *more,
        console=screen,
        # No thread of its own: the figures change in this one, and are read between two changes.
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


async def _draw(meter: StreamRate) -> None:
    with drawing() as screen, bar_on(screen, _FIGURES, TimeRemainingColumn(compact=True)) as bar:
        task = bar.add_task("", total=1.0, share="", told="")
        while True:
            share, stats, rate = meter.look()
            bar.update(task, completed=share, share=f"{_percent(share)}%", told=_told(stats, rate))
            bar.refresh()
            await asyncio.sleep(_LOOK)


async def _write_lines(meter: StreamRate) -> None:
    while True:
        await asyncio.sleep(_LINE)
        share, stats, rate = meter.look()
        note(f"{_percent(share):>3}%  {_told(stats, rate)}")


def _percent(share: float) -> int:
    return min(99, int(share * 100))


def _told(stats: StreamStats, rate: float) -> str:
    parts = [number(stats.calls, "call", "calls"), f"{number(rate)}/s", size(stats.bytes_received)]
    if stats.retries:
        parts.append(number(stats.retries, "retry", "retries"))
    return "  ".join(parts)


def summary(stats: StreamStats, seconds: float) -> str:
    """What a stream did, in a line."""
    parts = [
        number(stats.calls, "call", "calls"),
        f"{number(stats.calls / max(seconds, 1e-3))} a second",
        number(stats.requests, "request", "requests"),
        number(stats.retries, "retry", "retries"),
        size(stats.bytes_received),
    ]
    return f"{', '.join(parts)} in {seconds:.1f} s"
