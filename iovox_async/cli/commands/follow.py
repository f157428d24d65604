"""`iovox follow`: new calls as they come.

The law of this room: each call is out as soon as it is known, and an outage is told, waited out and told to be over.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import attrs
import rich_click as click

from iovox_async._encoding import encode_json

from ..call_line import line
from ..console import at_terminal, clean, fresh_line, note
from ..errors import run
from ..filters import filter_options
from ..help_text import with_examples
from ..options import Account, session_options
from ..output import Output, open_output
from ..query_options import FIRST, PANEL, fields_option, on_error_option
from ..resume_command import Remembering, again

if TYPE_CHECKING:
    from iovox_async import Call
    from iovox_async.follow import CallFollower

__all__ = ["follow"]


@attrs.frozen
class Following:
    """One run of the command."""

    account: Account
    arguments: dict[str, Any]
    pretty: bool
    output: Output
    ctx: click.Context

    async def run(self) -> None:
        """Writes calls until it is told to end."""
        async with self.account.session() as insights, insights.follow(**self.arguments) as calls:
            telling = asyncio.create_task(self._tell_of_outages(calls))
            try:
                if at_terminal("stderr"):
                    note(
                        f"New calls from {calls.latest_call_start:%Y-%m-%d %H:%M:%S} on; Ctrl-C ends it.",
                        style="dim",
                    )
                async with self.output:
                    async for call in calls:
                        await self.output.write(self._text(call))
            except asyncio.CancelledError:
                fresh_line()
                since = calls.latest_call_start.isoformat(" ", "seconds")
                note("Interrupted. Go on with:", line=again(self.ctx, {"--since": since}))
                raise
            finally:
                telling.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await telling

    def _text(self, call: Call) -> bytes:
        if not self.pretty:
            return encode_json(call) + b"\n"
        return f"{clean(line(call))}\n".encode()

    async def _tell_of_outages(self, calls: CallFollower) -> None:
        out, known = False, 0
        polls = calls.poll_count
        while True:
            await asyncio.sleep(0.1)
            if calls.poll_count == polls:
                continue
            polls, failed = calls.poll_count, calls.failed_polls > known
            known = calls.failed_polls
            if failed != out:
                out = failed
                every = self.arguments["every"]
                note(
                    f"No answer; asking again every {every:g} s." if failed else "Answers are back.",
                    style="yellow" if failed else "green",
                )


@click.command(
    cls=Remembering,
    help=with_examples(
        """
        New calls as they come, until Ctrl-C; each once.

        An outage is waited out. What is refused (a wrong key, a wrong query) ends it.
        """,
        ("watch", "iovox follow --fields call"),
        ("feed something", 'iovox follow --since "2024-03-31 08:00" --changes --fields all | ./consumer'),
    ),
)
@click.option("--since", metavar="DATE", default=None, help=f"{FIRST}now.", panel=PANEL)
@click.option(
    "--every",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    help="Seconds between polls.",
    panel=PANEL,
)
@click.option(
    "--lookback",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=7200.0,
    help="Seconds before the newest call that each poll reads again: calls come late, transcripts half an hour late.",
    panel=PANEL,
)
@click.option(
    "--changes",
    is_flag=True,
    help="Show a call again when its content has changed, as when its transcript comes.",
    panel=PANEL,
)
@fields_option()
@on_error_option("")
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "jsonl", "line"]),
    default="auto",
    help="JSON documents, or a line for the eye. auto: lines at a terminal, else JSON.",
    panel="Output",
)
@filter_options
@session_options
@click.pass_context
def follow(
    ctx: click.RichContext, /, *, account: Account, filters: dict[str, Any], form: str, **arguments: Any
) -> None:
    """Writes new calls until it is told to end."""
    pretty = form == "line" or (form == "auto" and at_terminal("stdout"))
    run(Following(account, {**arguments, **filters}, pretty, open_output(None), ctx).run)
