"""Shows the progress of a stream or a backfill on stderr, as a bar, as lines of text or as JSON documents.

Invariants:

- A bar is drawn only on a terminal that nothing else writes to.
- The percentage is below 100 until the work is finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
import msgspec

from iovox_async._wording import format_bytes, format_count

from .console import format_duration, is_terminal, print_note, progress_screen, stderr_screen, switched_off
from .output import background_task
from .tables import format_table

if TYPE_CHECKING:
    from iovox_async import StreamStats
    from iovox_async.backfill import BackfillProgress, BackfillReport

Figures: TypeAlias = "StreamStats | BackfillProgress"

#: Seconds between two refreshes of a bar.
REFRESH_INTERVAL: Final = 0.1
#: Seconds of samples that must exist before a remaining time is shown.
_MIN_SAMPLE_SECONDS: Final = 2.0
#: Columns that a terminal keeps free for the figures beside the bar.
_FIGURES_WIDTH: Final = 84


def can_draw_bar(*, data_to_stdout: bool = False) -> bool:
    """Whether a bar can be drawn: stderr is a terminal, and the data does not go to the same one.

    The program that reads a pipe (`| head`, `| less`, `| jq`) most likely writes to the terminal, too.
    """
    return (
        "progress" not in switched_off
        and is_terminal("stderr")
        and not stderr_screen().is_dumb_terminal
        and not (data_to_stdout and (is_terminal("stdout") or _is_pipe(sys.stdout)))
    )


def _is_pipe(stream: Any) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):  # None, closed, or not a file
        return False


class RateEstimator(msgspec.Struct, frozen=True):
    """The current rate of a stream or backfill, and the time it will still take, from its recent samples.

    Attributes:
        period: seconds of samples that are kept.
    """

    period: float
    _samples: deque[tuple[float, int, float]] = msgspec.field(default_factory=deque)

    def add(self, figures: Figures, now: float | None = None) -> None:
        """Adds a sample."""
        now = time.monotonic() if now is None else now
        self._samples.append((now, figures.calls, figures.progress))
        while len(self._samples) > 2 and now - self._samples[1][0] > self.period:
            self._samples.popleft()

    @property
    def calls_per_second(self) -> float:
        """Calls per second."""
        (start, first_calls, _), (end, last_calls, _) = self._samples[0], self._samples[-1]
        return (last_calls - first_calls) / (end - start) if end > start else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end at the current rate; None while there are too few samples."""
        (start, _, first_share), (end, _, last_share) = self._samples[0], self._samples[-1]
        if end - start < _MIN_SAMPLE_SECONDS or last_share <= first_share:
            return None
        return (1.0 - last_share) * (end - start) / (last_share - first_share)


@contextlib.asynccontextmanager
async def show_progress(
    read: Callable[[], Figures],
    lines: Literal["text", "json"] | None = None,
    *,
    data_to_stdout: bool = False,
    period: float = 3.0,
    interval: float = 1.0,
    details: Mapping[str, Any] | None = None,
) -> AsyncIterator[None]:
    """Shows progress while the block runs: as a bar if one can be drawn and JSON is not wanted, else as lines.

    Args:
        read: the current figures.
        lines: the form of the lines; None for no lines.
        data_to_stdout: as for `can_draw_bar`.
        period: seconds over which the rate is estimated.
        interval: seconds between two lines.
        details: what each JSON document holds in addition.
    """
    rate = RateEstimator(period)
    rate.add(read())
    if lines != "json" and can_draw_bar(data_to_stdout=data_to_stdout):
        task = _draw_bar(read, rate)
    elif lines and "progress" not in switched_off:
        task = _write_lines(read, rate, interval, lines, details or {})
    else:
        yield
        return
    async with background_task(task):
        yield


async def _draw_bar(read: Callable[[], Figures], rate: RateEstimator) -> None:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    with progress_screen() as screen:
        # Not up to the edge: the ^C that a terminal shows would wrap the line, and the bar could not be erased.
        width = max(8, min(40, screen.width - _FIGURES_WIDTH))
        with Progress(
            SpinnerColumn("dots" if screen.encoding.startswith("utf") else "line", style="cyan"),
            BarColumn(width, complete_style="cyan"),
            TextColumn("{task.fields[share]}", style="bold"),
            TextColumn("{task.fields[figures]}"),
            console=screen,
            # No thread: the figures are changed and read in the thread of the event loop.
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as bar:
            task = bar.add_task("", total=1.0, share="", figures="")
            while True:
                figures = read()
                rate.add(figures)
                share, text = f"{_percent(figures)}%", format_progress(figures, rate)
                bar.update(task, completed=figures.progress, share=share, figures=text)
                bar.refresh()
                await asyncio.sleep(REFRESH_INTERVAL)


async def _write_lines(
    read: Callable[[], Figures], rate: RateEstimator, interval: float, form: str, details: Mapping[str, Any]
) -> None:
    while True:
        await asyncio.sleep(interval)
        figures = read()
        rate.add(figures)
        if form == "json":
            rates = {"calls_per_second": round(rate.calls_per_second, 1), "seconds_left": rate.seconds_left}
            write_event("progress", {**details, **attrs.asdict(figures), **rates})
        else:
            print_note(
                f"{time.strftime('%H:%M:%S')} {_percent(figures):>3}%  {format_progress(figures, rate)}"
            )


def write_event(event: str, data: dict[str, Any]) -> None:
    """Writes one JSON document, on a line of its own, to stderr."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(msgspec.json.encode({"event": event, "time": now, **data}).decode() + "\n")
    sys.stderr.flush()


def _percent(figures: Figures) -> int:
    return min(99, int(figures.progress * 100))


def format_progress(figures: Figures, rate: RateEstimator) -> str:
    """The figures beside a bar: `2024-01-05  1,000 calls  100/s  2.0 MB  1 retry  00:10 left`."""
    parts = [
        getattr(figures, "last_partition", None) or "",
        format_count(figures.calls, "call"),
        f"{format_count(rate.calls_per_second)}/s",
        format_bytes(figures.bytes_received),
    ]
    rare = ((figures.retries, "retry", "retries"), (figures.skipped, "skipped", "skipped"))
    parts += [format_count(*count) for count in rare if count[0]]
    if rate.seconds_left is not None:
        parts.append(f"{format_duration(rate.seconds_left)} left")
    return "  ".join(filter(None, parts))


def stream_summary(stats: StreamStats, seconds: float) -> str:
    """What a stream has read, in one line."""
    parts = [
        format_count(stats.calls, "call"),
        f"{format_count(stats.calls / max(seconds, 1e-3))} per second",
        format_count(stats.requests, "request"),
        format_count(stats.retries, "retry", "retries"),
        format_bytes(stats.bytes_received),
    ]
    return f"{', '.join(parts)} in {seconds:.1f} s"


def backfill_summary(report: BackfillReport, directory: str, *, with_total: bool = True) -> str:
    """What a backfill has done, and `with_total` how many calls the directory, as the user typed it, contains."""
    if not with_total:
        return str(report)
    count = len(report.open_partitions)
    still_open = f"; {format_count(count, 'partition')} may still change" if count else ""
    return f"{report}\n{directory} contains {format_count(report.total_calls, 'call')}{still_open}"


def verification_table(report: BackfillReport) -> str:
    """What was read of each partition, and what `verify` found, as lines of aligned columns."""
    rows = [("partition", "calls", "first id", "last id", "ids", "read at", "result")]
    rows += [
        (
            certificate.partition,
            format_count(certificate.calls),
            str(certificate.first_id or ""),
            str(certificate.last_id or ""),
            certificate.ids[:12],
            f"{certificate.read_at:%Y-%m-%d %H:%M:%S}Z" if certificate.read_at else "",
            certificate.problem or "ok",
        )
        for certificate in report.certificates
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return format_table(rows, widths, right={1})
