"""`iovox demo`: the whole thing at work, without an account.

The law of this room: nothing is staged. The client is the one that is installed, the server is a process of its own on a
real socket, its failures are real answers, and every figure was measured in this run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
import rich_click as click
from click.exceptions import Exit
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from iovox_async.sandbox import KEY, USERNAME, Faults

from ..console import at_terminal, complain, note, number, out, show_page, size
from ..errors import FAILED, run
from ..memory import peak_memory
from ..progress import StreamRate, can_draw, watching
from ..sandbox_process import sandbox_process

if TYPE_CHECKING:
    from iovox_async import StreamStats

__all__ = ["PROGRAM", "demo"]

START, END = "2024-01-01", "2024-03-31"
#: A few requests are answered with a 500, early enough that even a short list meets one; the rest take a moment.
FAULTS = Faults(fail_at=(2, 7, 11), kinds="500", latency=0.02)

#: What to copy next.
PROGRAM = f"""\
import asyncio
from iovox_async import AsyncInsights

async def main():
    async with AsyncInsights() as insights:
        async for call in insights.stream("{START}", "{END}"):
            print(call.id, call.call_start, call.talk_time)

asyncio.run(main())
"""


@attrs.frozen
class Result:
    """What was seen."""

    stats: StreamStats
    seconds: float
    first: float


@click.command()
@click.option(
    "--calls", metavar="N", type=click.IntRange(min=1), default=50_000, help="Calls in the quarter."
)
@click.option("--seed", metavar="N", type=int, default=0, help="Same seed, same calls.")
def demo(*, calls: int, seed: int) -> None:
    """Streams a quarter's calls off a sandbox on this machine, failures included, and shows what it took.

    Needs no account. It ends with the program to copy next.
    """
    result = run(lambda: _pull(calls, seed))
    _tell(result)
    if result.stats.calls != calls:
        complain(f"The sandbox holds {number(calls)} calls, and {number(result.stats.calls)} came.")
        raise Exit(FAILED)


async def _pull(calls: int, seed: int) -> Result:
    from iovox_async import AsyncInsights  # the longest import of all, and no help needs it

    note(
        f"Drawing {number(calls)} calls, {START} to {END}, and serving them on this machine ...", style="dim"
    )
    async with (
        sandbox_process(calls=calls, start=START, end=END, seed=seed, faults=FAULTS) as url,
        AsyncInsights(USERNAME, KEY, base_url=url) as insights,
        insights.stream(START, END) as stream,
    ):
        note(f"Streaming them from {url}; some of the requests will fail with a 500 ...", style="dim")
        began, first = time.monotonic(), 0.0
        draw = can_draw()
        async with watching(StreamRate(lambda: stream.stats), draw=draw, lines=not draw):
            async for _call in stream:
                first = first or time.monotonic() - began
        return Result(stream.stats, time.monotonic() - began, first)


def _tell(result: Result) -> None:
    stats, screen = result.stats, out()
    peak = peak_memory()
    rows = {
        "Calls": number(stats.calls),
        "Calls a second": number(stats.calls / result.seconds),
        "Requests": number(stats.requests),
        "Retries": number(stats.retries),
        "Received": size(stats.bytes_received),
        "Peak memory": "unknown here" if peak is None else size(peak),
        "Time to the first call": f"{result.first * 1000:.0f} ms",
        "Time in all": f"{result.seconds:.1f} s",
    }
    table = Table(
        show_header=False, title="Every call, exactly once", title_style="bold", title_justify="left"
    )
    table.add_column(style="dim" if at_terminal("stdout") else "")
    table.add_column(justify="right", style="bold")
    for name, told in rows.items():
        table.add_row(name, told)
    show_page(table)
    screen.print(
        Text("\nThe same in your program, with the account of IOVOX_USERNAME and IOVOX_SECURE_KEY:\n")
    )
    if at_terminal("stdout"):
        # As a text, which runs over the edge of a narrow terminal; a `Syntax` ends there, and could not be copied.
        coloured = Syntax("", "python", theme="ansi_dark", background_color="default").highlight(PROGRAM)
        screen.print(coloured, soft_wrap=True)
    else:
        screen.print(PROGRAM)
    screen.print(
        Text("iovox sandbox serves invented calls for it, and prints the lines that point it there.")
    )
