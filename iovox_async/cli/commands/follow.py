"""`iovox follow`: writes new calls as they arrive."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click
from click.exceptions import Exit

from iovox_async._encoding import encode_json

from .. import INTERRUPTED, options
from ..base import command
from ..console import (
    escape_controls,
    format_call,
    is_terminal,
    print_note,
    print_warning,
    return_to_line_start,
)
from ..errors import run
from ..filters import filter_options
from ..output import background_task, open_output
from ..resume import print_resume_command

if TYPE_CHECKING:
    from iovox_async import Call
    from iovox_async.follow import CallFollower


@command(
    ("watch new calls", "iovox follow --fields call"),
    ("feed a program", 'iovox follow --since "2024-03-31 08:00" --include-updates --fields all | ./consumer'),
)
@options.range_options("now (without --timezone: UTC-12)", start="--since", end=False)
@options.read_option(
    "--interval", type=options.FloatRange(min=0, min_open=True), default=60.0, help="Seconds between polls."
)
@options.read_option(
    "--lookback",
    type=options.FloatRange(min=0),
    default=7200.0,
    help="Seconds before the latest call that each poll reads again, because calls and transcripts arrive late.",
)
@options.read_option(
    "--include-updates",
    is_flag=True,
    help="Write a call again when its content has changed, e.g. when its transcript arrives.",
)
@options.fields_option()
@options.on_error_option
@options.output_option(
    "--format",
    "form",
    type=click.Choice(["auto", "jsonl", "line"]),
    default="auto",
    help="JSON Lines, or a readable line per call. auto: readable lines on a terminal, else JSON Lines.",
)
@filter_options
@options.account_options
@click.pass_context
def follow(
    ctx: click.Context,
    /,
    *,
    account: options.Account,
    filters: dict[str, Any],
    form: str,
    typed: options.TypedRange,
    **arguments: Any,
) -> None:
    """Runs `iovox follow`.

    It waits until an outage ends. An error that polling again cannot fix (a wrong key, a wrong filter) ends it.
    """
    encode = _encode_line if form == "line" or (form == "auto" and is_terminal("stdout")) else encode_json

    async def write() -> None:
        since, _ = account.resolve(typed, echo=False)
        if typed.in_words:
            print_note(f"From {since} on.")
        arguments.update(filters, since=since)
        async with account.client() as insights, insights.follow(**arguments) as follower:
            try:
                since_text = f"{follower.latest_call_start:%Y-%m-%d %H:%M:%S}"
                if typed.start and follower.latest_call_start > (now := insights.now()):
                    print_warning(
                        f"The start ({since_text}) is in the future, as it is {now:%Y-%m-%d %H:%M}: nothing is written until then.",
                        style="yellow",
                    )
                if is_terminal("stderr"):
                    print_note(f"Writing new calls since {since_text}. Press Ctrl-C to stop.", style="dim")
                async with (
                    background_task(_report_outages(follower, arguments["interval"])),
                    open_output(None) as output,
                ):
                    async for call in follower:
                        await output.write(encode(call) + b"\n")
            except asyncio.CancelledError:
                return_to_line_start()
                new = {"--since": follower.latest_call_start.isoformat(" ", "seconds")}
                print_resume_command(ctx, "Interrupted.", new, without={"--start", "START"})
                raise Exit(INTERRUPTED) from None

    run(write)


def _encode_line(call: Call) -> bytes:
    """A call as a line for people."""
    return escape_controls(format_call(call)).encode(sys.stdout.encoding, "replace")


async def _report_outages(follower: CallFollower, interval: float) -> None:
    """Prints a note when polls begin to fail, and when they succeed again."""
    in_outage, failed_polls = False, 0
    poll_count = follower.poll_count
    while True:
        await asyncio.sleep(0.1)
        if follower.poll_count == poll_count:
            continue
        failing = follower.failed_polls > failed_polls
        poll_count, failed_polls = follower.poll_count, follower.failed_polls
        if failing != in_outage:
            note = (
                f"A poll failed; polling again every {interval:g} s." if failing else "Polls succeed again."
            )
            print_warning(note, style="yellow" if failing else "green")
        in_outage = failing
