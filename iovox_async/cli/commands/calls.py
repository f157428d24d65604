"""`iovox calls`: writes the calls of a date range as JSON Lines or CSV.

Invariant: if a run ends early and its output can be continued, the printed command writes exactly the rest.
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

from .. import FAILED, UNFINISHED, options
from ..app import COMMANDS
from ..console import format_count, is_terminal, print_error, print_note, return_to_line_start, with_examples
from ..errors import format_error, run
from ..output import Output, encode_page, open_output
from ..progress import Mode, can_draw_bar, show_progress, stream_summary
from ..ranges import IntRange

if TYPE_CHECKING:
    from iovox_async import CallStream, Field, StreamStats


@attrs.define(repr=False)
class CallsCommand:
    """One run of the command.

    Attributes:
        arguments: the arguments of `AsyncInsights.stream`.
        ctx: the command as it was called, from which the command that continues is built.
        position: the position after the last call written; None if it is not known.
        written: how many calls were written.
    """

    account: options.Account
    arguments: dict[str, Any]
    encoder: CallEncoder
    output: Output
    ctx: click.Context
    position: str | None = None
    written: int = 0

    async def run(self) -> None:
        """Reads and writes all calls."""
        started = time.monotonic()
        mode: Mode | None = "bar" if can_draw_bar(data_to_stdout=self.output.keeps_partial_data) else None
        async with self.account.client() as insights, insights.stream(**self.arguments) as stream:
            try:
                async with self.output, show_progress(lambda: self._figures(stream), mode):
                    await self._copy(stream)
            except IovoxError as error:
                print_error(format_error(error))
                raise Exit(UNFINISHED if self._print_resume_command() else FAILED) from None
            except asyncio.CancelledError:
                return_to_line_start()
                self._print_resume_command("Interrupted. ")
                raise
        stats = stream.stats
        if stats.skipped:
            skipped = format_count(stats.skipped, "record")
            print_note(f"{skipped} skipped: they could not be decoded.", style="yellow")
        if is_terminal("stderr"):
            print_note(stream_summary(stats, time.monotonic() - started), style="dim")

    def _figures(self, stream: CallStream) -> StreamStats:
        stats, limit = stream.stats, self.arguments["max_calls"]
        if not limit:
            return stats
        return attrs.evolve(stats, progress=min(1.0, max(stats.progress, stats.calls / limit)))

    async def _copy(self, stream: CallStream) -> None:
        # The output of a resumed run is appended to an earlier one, which has the header.
        if self.arguments["resume"] is None and (header := self.encoder.header()):
            await self.output.write(header)
        async for page in stream.pages():
            data = await encode_page(self.encoder, page.calls)
            writes = self.output.writes
            try:
                await self.output.write(data)
            finally:
                # A cancelled write may have finished; if it has not, an unknown part of it is out.
                finished = self.output.writes > writes
                self.position = stream.position if finished else None
                self.written += len(page.calls) * finished

    def _print_resume_command(self, reason: str = "") -> bool:
        """Prints the command that writes the rest; returns False if there is none."""
        if not self.output.keeps_partial_data:
            print_note(f"{reason}{self.output.name} was not written.")
            return False
        if not self.position or not (self.written or self.arguments["resume"]):
            if reason:
                print_note(reason)
            return False
        new = {"--resume": self.position}
        if limit := self.arguments["max_calls"]:
            new["--limit"] = str(limit - self.written)
        # YESTERDAY is another day tomorrow; the position contains the dates.
        text = f"{reason}{format_count(self.written, 'call')} written."
        options.print_resume_command(self.ctx, text, new, without={"--date-constant"})
        return True


@click.command(
    cls=options.ResumableCommand,
    help=with_examples(
        f"""{COMMANDS["calls"]}

        Both dates are inclusive and in the account's local time. If it fails after some output, it prints the command
        that writes exactly the rest, and exits with code 3.
        """,
        ("a quarter, with a progress bar", "iovox calls 2024-01-01 2024-03-31 -o quarter.jsonl"),
        (
            "last night's voicemails as a spreadsheet",
            'iovox calls "2024-03-30 18:00" "2024-03-31 07:59" --call-result VOICEMAIL -o night.csv',
        ),
        (
            "the transcripts of calls with a red tag",
            "iovox calls 2024-03-01 --tag-colour RED --fields default,transcription_text | jq .transcriptions",
        ),
    ),
)
@click.argument(
    "start", required=False, help=f"{options.START_HELP}the first of this month.", panel=options.READ_PANEL
)
@click.argument("end", required=False, help=options.END_HELP, panel=options.READ_PANEL)
@options.read_option(
    "--date-constant",
    type=click.Choice(["YESTERDAY"], case_sensitive=False),
    metavar="YESTERDAY",
    help="Read all of yesterday, instead of START and END.",
)
@options.fields_option()
@options.read_option(
    "--order",
    metavar="FIELD_ASC|FIELD_DESC",
    default="call_start_ASC",
    help="Any order but by call_start is read by page numbers, which can miss calls while data changes.",
)
@options.read_option(
    "--limit", "max_calls", metavar="N", type=IntRange(min=1), help="Maximum number of calls to write."
)
@options.read_option(
    "--resume",
    metavar="POSITION",
    help="Continue an earlier run of the same command at the position that it printed.",
)
@options.on_error_option
@options.read_option(
    "--paging",
    type=click.Choice(["auto", "windows", "pages"]),
    default="auto",
    help="windows of time (exact while data changes) or page numbers. auto: windows if the order is by call_start.",
)
@options.output_option(
    "--format",
    "form",
    type=click.Choice(list(ENCODERS)),
    help="JSON Lines, or CSV with nested fields as JSON and spreadsheet formulas escaped. "
    "Default: csv for a FILE that ends in .csv, else jsonl.",
)
@options.output_option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write to this file instead of stdout; it is replaced only when all calls are written.",
)
@options.filter_options
@options.account_options
@click.pass_context
def calls(
    ctx: click.RichContext,
    /,
    *,
    account: options.Account,
    filters: dict[str, Any],
    form: Literal["jsonl", "csv"] | None,
    output: str | None,
    fields: tuple[Field, ...],
    date_constant: str | None,
    **arguments: Any,
) -> None:
    """Runs `iovox calls`."""
    query = None if date_constant is None else InsightsQuery(date_constant=date_constant)
    encoder = ENCODERS[form or ("csv" if (output or "").endswith(".csv") else "jsonl")](fields)
    command = CallsCommand(
        account,
        {**arguments, **filters, "query": query, "fields": fields},
        encoder,
        open_output(output),
        ctx,
        position=arguments["resume"],
    )
    run(command.run)
