"""`iovox calls`: the calls of a range, as JSON Lines or CSV.

The law of this room: whatever ends it, the user knows what was written, and where it can be gone on from, the line that
goes on says so exactly.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Literal

import attrs
import rich_click as click
from click.exceptions import Exit

from iovox_async import InsightsQuery, IovoxError
from iovox_async._encoding import ENCODERS, CallEncoder

from ..console import at_terminal, complain, fresh_line, note, number
from ..errors import FAILED, UNFINISHED, in_options, run
from ..filters import filter_options
from ..formats import encode_page
from ..help_text import with_examples
from ..options import Account, session_options
from ..output import Output, open_output
from ..progress import StreamRate, can_draw, summary, watching
from ..query_options import FIRST, LAST, PANEL, fields_option, on_error_option
from ..resume_command import Remembering, again

if TYPE_CHECKING:
    from iovox_async import CallStream, Field

__all__ = ["calls"]


@attrs.define
class Pull:
    """One run of the command.

    Attributes:
        stream: the arguments of `AsyncInsights.stream`.
        ctx: the command as it was called, for the line that goes on.
        position: where all that was written ends.
        done: calls written.
    """

    account: Account
    stream: dict[str, Any]
    form: CallEncoder
    output: Output
    ctx: click.Context
    position: str | None = None
    done: int = 0

    async def run(self) -> None:
        """Reads and writes until all is written."""
        began = time.monotonic()
        draw = can_draw(data_to_stdout=self.output.keeps_parts)
        async with self.account.session() as insights, insights.stream(**self.stream) as calls:
            meter = StreamRate(lambda: calls.stats, limit=self.stream["max_calls"])
            try:
                async with self.output, watching(meter, draw=draw):
                    await self._copy(calls)
            except IovoxError as error:
                complain(in_options(error))
                raise Exit(UNFINISHED if self._tell_the_rest() else FAILED) from None
            except asyncio.CancelledError:
                fresh_line()
                self._tell_the_rest("Interrupted. ")
                raise
        stats = calls.stats
        if stats.skipped:
            note(
                f"{number(stats.skipped, 'record', 'records')} could not be read and were left out.",
                style="yellow",
            )
        if at_terminal("stderr"):
            note(summary(stats, time.monotonic() - began), style="dim")

    async def _copy(self, calls: CallStream) -> None:
        # Appended to what an earlier run wrote, a second head would be in the way.
        if self.stream["resume"] is None and (head := self.form.header()):
            await self.output.write(head)
        async for page in calls.pages():
            data = await encode_page(self.form, page.calls)
            before = self.output.writes
            try:
                await self.output.write(data)
            finally:
                # Also when it was cancelled and had ended; when it had not, nobody knows where it stands.
                ended = self.output.writes > before
                self.position = calls.position if ended else None
                self.done += len(page.calls) * ended

    def _tell_the_rest(self, why: str = "") -> bool:
        """Tells the line that writes exactly the rest, if what was written stays and the rest is known."""
        if not self.output.keeps_parts:
            note(f"{why}{self.output.name} was not written.")
            return False
        if not self.position or not (self.done or self.stream["resume"]):
            if why:
                note(why)
            return False
        new = {"--resume": self.position}
        if limit := self.stream["max_calls"]:
            new["--max"] = str(limit - self.done)
        # A constant date means another day tomorrow; the position knows the dates.
        line = again(self.ctx, new, without={"--date-constant"})
        note(f"{why}Go on after {number(self.done, 'call', 'calls')} with:", line=line)
        return True


@click.command(
    cls=Remembering,
    help=with_examples(
        """
        The calls of a range, each exactly once, one JSON document a line.

        Both dates are inclusive and in the account's local time. A failure after some output ends with exit code 3 and the
        command that writes exactly the rest.
        """,
        ("a quarter, with a bar of progress", "iovox calls 2024-01-01 2024-03-31 -o quarter.jsonl"),
        (
            "a spreadsheet of last night's voicemails",
            'iovox calls "2024-03-30 18:00" "2024-03-31 07:59" --call-result VOICEMAIL -o night.csv',
        ),
        (
            "what was said in calls that somebody tagged red",
            "iovox calls 2024-03-01 --tag-colour RED --fields default,transcription_text | jq .transcriptions",
        ),
    ),
)
@click.argument(
    "start",
    required=False,
    help=f"{FIRST}the first of this month.",
    panel=PANEL,
)
@click.argument(
    "end",
    required=False,
    help=LAST,
    panel=PANEL,
)
@click.option(
    "--date-constant",
    type=click.Choice(["YESTERDAY"], case_sensitive=False),
    metavar="YESTERDAY",
    help="Instead of START and END: the whole of yesterday.",
    panel=PANEL,
)
@fields_option()
@click.option(
    "--order",
    metavar="FIELD_ASC|FIELD_DESC",
    default="call_start_ASC",
    help="Any other than by call_start is read by page numbers, which lose calls while the data moves.",
    panel=PANEL,
)
@click.option(
    "--max",
    "max_calls",
    metavar="N",
    type=click.IntRange(min=1),
    default=None,
    help="Calls to write, at most.",
    panel=PANEL,
)
@click.option(
    "--resume",
    metavar="POSITION",
    default=None,
    help="Go on where an earlier run of the same command ended; it printed the position.",
    panel=PANEL,
)
@on_error_option(" and say so")
@click.option(
    "--paging",
    type=click.Choice(["auto", "windows", "pages"]),
    default="auto",
    help="By windows of time, exact while the data moves, or by page numbers. auto: windows if ordered by call_start.",
    panel=PANEL,
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(ENCODERS)),
    default=None,
    help="One JSON document a line, or CSV with nested fields as JSON and spreadsheet formulas made harmless. "
    "Left out: csv for a FILE that ends in .csv, else jsonl.",
    panel="Output",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default=None,
    help="Write here, whole or not at all, instead of to stdout.",
    panel="Output",
)
@filter_options
@session_options
@click.pass_context
def calls(
    ctx: click.RichContext,
    /,
    *,
    account: Account,
    filters: dict[str, Any],
    form: Literal["jsonl", "csv"] | None,
    output: str | None,
    fields: tuple[Field, ...],
    date_constant: str | None,
    **stream: Any,
) -> None:
    """Reads and writes the calls of a range."""
    query = None if date_constant is None else InsightsQuery(date_constant=date_constant)
    arguments = {**stream, **filters, "query": query, "fields": fields}
    pull = Pull(
        account,
        arguments,
        ENCODERS[form or ("csv" if (output or "").endswith(".csv") else "jsonl")](fields),
        open_output(output),
        ctx,
        position=stream["resume"],
    )
    run(pull.run)
