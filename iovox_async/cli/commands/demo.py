"""`iovox demo`: reads calls from a local sandbox in another process, and shows measured figures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
from rich.syntax import Syntax
from rich.table import Table

from iovox_async._platform import peak_memory
from iovox_async._wording import format_bytes, format_count
from iovox_async.sandbox import KEY, USERNAME, Faults
from iovox_async.sandbox._process import sandbox_process

from ..base import command
from ..console import is_terminal, print_note, print_page, stdout_screen
from ..errors import run
from ..options import IntRange
from ..progress import show_progress

if TYPE_CHECKING:
    from iovox_async import StreamStats

START, END = "2024-01-01", "2024-03-31"
#: Some requests get a 500, early enough that a short run has one, too; all others take 20 ms.
FAULTS = Faults(fail_at=(2, 7, 11), kinds="500", latency=0.02)

#: The program to copy.
PROGRAM = f"""\
import asyncio
from iovox_async import AsyncInsights

async def main():
    async with AsyncInsights() as insights:
        async for call in insights.stream("{START}", "{END}"):
            print(call.id, call.call_start, call.talk_time)

asyncio.run(main())
"""


@command(("a million calls", "iovox demo --calls 1000000"))
@click.option("--calls", type=IntRange(min=1), default=50_000, help="Calls in the quarter.")
@click.option("--seed", type=IntRange(min=0), default=0, help="The same seed gives the same calls.")
def demo(*, calls: int, seed: int) -> None:
    """Runs `iovox demo`.

    Needs no account. It ends with a program to copy.
    """
    stats, elapsed, first_call = run(lambda: _measure(calls, seed))
    _print_result(stats, elapsed, first_call)
    if stats.calls != calls:
        raise click.ClickException(
            f"The sandbox contains {calls:,} calls, but {stats.calls:,} were received."
        )


async def _measure(calls: int, seed: int) -> tuple[StreamStats, float, float]:
    """Reads the calls; returns the figures, the seconds in all, and the seconds until the first call."""
    from iovox_async import AsyncInsights  # a slow import, and `--help` does not need it

    print_note(f"Generating {format_count(calls, 'call')} from {START} to {END} ...", style="dim")
    async with (
        sandbox_process(calls=calls, start=START, end=END, seed=seed, faults=FAULTS) as url,
        AsyncInsights(USERNAME, KEY, base_url=url) as insights,
        insights.stream(START, END) as stream,
    ):
        print_note(f"Streaming them from {url}; some requests will fail with a 500 ...", style="dim")
        started, first_call = time.monotonic(), 0.0
        async with show_progress(lambda: stream.stats, "text"):
            async for _ in stream:
                first_call = first_call or time.monotonic() - started
        return stream.stats, time.monotonic() - started, first_call


def _print_result(stats: StreamStats, elapsed: float, first_call: float) -> None:
    screen, peak = stdout_screen(), peak_memory()
    rows = {
        "Calls": format_count(stats.calls),
        "Calls per second": format_count(stats.calls / elapsed),
        "Requests": format_count(stats.requests),
        "Retries": format_count(stats.retries),
        "Received": format_bytes(stats.bytes_received),
        "Peak memory": "unknown" if peak is None else format_bytes(peak),
        "Time to the first call": f"{first_call * 1000:.0f} ms",
        "Total time": f"{elapsed:.1f} s",
    }
    table = Table(
        show_header=False, title="Every call, exactly once", title_style="bold", title_justify="left"
    )
    table.add_column(style="dim" if is_terminal("stdout") else "")
    table.add_column(justify="right", style="bold")
    for name, value in rows.items():
        table.add_row(name, value)
    print_page(table)
    screen.print("\nThe same program for the account of IOVOX_USERNAME and IOVOX_SECURE_KEY:\n")
    # Highlighted text is not cut off at the edge of a narrow terminal, as a `Syntax` is, and can be copied whole.
    highlighted = Syntax("", "python", theme="ansi_dark", background_color="default").highlight(PROGRAM)
    screen.print(highlighted, soft_wrap=True)
    screen.print(
        f"Without an account, run iovox sandbox --start {START} --end {END}: it serves generated calls and prints the "
        "variables to set."
    )
