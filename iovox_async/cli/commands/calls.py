"""`iovox calls`: writes the calls of a date range as JSON Lines, CSV, Parquet, Arrow or a table.

Invariant: if a run ends early and its output can be continued, the printed command writes exactly the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec
from click.core import ParameterSource
from click.exceptions import Exit

from iovox_async import Field, InsightsQuery, IovoxError
from iovox_async._call_writer import BINARY, CallWriter
from iovox_async._encoding import ENCODERS
from iovox_async._wording import format_count

from .. import CREDENTIALS, INTERRUPTED, UNFINISHED, options
from ..base import command
from ..console import is_terminal, print_error, print_note, print_warning, return_to_line_start
from ..dry_run import print_estimate
from ..errors import exit_code_of, format_error, run
from ..filters import filter_options, print_no_calls
from ..output import FileOutput, Output, format_of_name, open_output, run_in_thread
from ..progress import show_progress, stream_summary
from ..resume import print_resume_command
from ..tables import TableEncoder

if TYPE_CHECKING:
    from iovox_async import CallStream


class CallsCommand(msgspec.Struct):
    """One run of the command.

    Attributes:
        arguments: the arguments of `AsyncInsights.stream`.
        typed: the range as it was typed.
        ctx: the command as it was called, from which the command that continues is built.
        position: the position after the last call written; None if it is not known.
        earlier: how many calls the unfinished file that is continued contains.
        written: how many calls this run has written.
        kept: whether an unfinished file can be continued.
    """

    account: options.Account
    arguments: dict[str, Any]
    writer: CallWriter
    output: Output
    typed: options.TypedRange
    ctx: click.Context
    position: str | None = None
    earlier: int = 0
    written: int = 0
    kept: bool = False

    def __repr__(self) -> str:
        return object.__repr__(self)  # arguments may contain phone numbers

    async def run(self) -> None:
        """Reads and writes all calls."""
        started = time.monotonic()
        progress = show_progress(lambda: stream.stats, data_to_stdout=self.output.keeps_partial_data)
        async with self.account.client() as insights, insights.stream(**self.arguments) as stream:
            try:
                async with self.output:
                    try:
                        async with progress:
                            await self._copy(stream)
                    except (IovoxError, asyncio.CancelledError):
                        await self._keep()
                        raise
            except IovoxError as error:
                print_error(format_error(error))
                code, can_continue = exit_code_of(error), self._print_resume_command()
                raise Exit(code if code == CREDENTIALS or not can_continue else UNFINISHED) from None
            except asyncio.CancelledError:
                return_to_line_start()
                self._print_resume_command("Interrupted. ")
                raise Exit(INTERRUPTED) from None
            stats = stream.stats
            if not stats.calls and not self.arguments["resume"]:
                print_no_calls(stream)
        if stats.skipped:
            skipped = format_count(stats.skipped, "record")
            print_warning(f"{skipped} skipped: they could not be decoded.", style="yellow")
        if is_terminal("stderr"):
            print_note(stream_summary(stats, time.monotonic() - started), style="dim")

    async def _copy(self, stream: CallStream) -> None:
        # The output of a resumed run is appended to an earlier one, which has the header.
        await self._write(self.writer.start(header=self.arguments["resume"] is None))
        if isinstance(self.output, FileOutput) and self.output.unfinished and self.writer.is_arrow:
            for batch in self.writer.read(str(self.output.unfinished)):
                await self._write(await self._encode(batch))
        pages: AsyncIterator[Any] = stream.arrow() if self.writer.is_arrow else stream.pages()
        async for page in pages:
            data, writes = await self._encode(page), self.output.writes
            try:
                await self.output.write(data)
            finally:
                # A cancelled write may have finished; if it has not, an unknown part of it is out.
                finished = self.output.writes > writes
                self.position = stream.position if finished else None
                self.written += len(page if self.writer.is_arrow else page.calls) * finished
        await self._write(self.writer.finish())

    async def _encode(self, page: Any) -> bytes:
        """Encodes a batch or a page; requests in flight continue meanwhile."""
        if self.writer.is_arrow:
            return await run_in_thread(self.writer.encode, page)
        parts = []
        for part in self.writer.encode_in_slices(page.calls):
            parts.append(part)
            await asyncio.sleep(0)
        return b"".join(parts)

    async def _write(self, data: bytes) -> None:
        if data:
            await self.output.write(data)

    async def _keep(self) -> None:
        """Completes what was written, and keeps a file so that it can be continued."""
        if self.position and (self.output.keeps_partial_data or self.writer.can_continue):
            await self._write(self.writer.finish())
        if not isinstance(self.output, FileOutput):
            return
        if self.position and self.written and self.writer.can_continue:
            layout = _layout(self.writer.form, self.writer.columns, excel=self.writer.excel)
            written = self.earlier + self.written
            self.kept = self.output.keep({"position": self.position, "written": written, "layout": layout})
        if not self.kept and self.output.unfinished is not None:
            # What this run has continued is still there as it was.
            self.kept, self.written = True, 0

    def _print_resume_command(self, reason: str = "") -> bool:
        """Prints the command that writes the rest; returns False if there is none."""
        new: dict[str, str] = {}
        if self.kept:
            new["--resume"] = ""
            reason += f"{self.output.name} is unfinished: "
        elif not self.output.keeps_partial_data:
            print_warning(f"{reason}{self.output.name} was not written.")
            return False
        elif (
            not self.position
            or not (self.written or self.arguments["resume"])
            or self.written == self.arguments["max_calls"]
            or self.writer.is_arrow
        ):
            if reason:
                print_warning(reason)
            return False
        else:
            new["--resume"] = self.position
            if limit := self.arguments["max_calls"]:
                new["--limit"] = str(limit - self.written)
        # YESTERDAY and last-month are other days tomorrow; the position contains the dates.
        replaced = {"--date-constant", *self.typed.replaced}
        text = f"{reason}{format_count(self.earlier + self.written, 'call')} written."
        print_resume_command(self.ctx, text, new, without=replaced)
        return True


def _layout(form: str, columns: Sequence[Field], *, excel: bool) -> list[str]:
    """What a file has in common with the one that it continues, down to the order of its columns."""
    return [f"excel {form}" if excel else form, *columns]


@command(
    ("a quarter, with a progress bar", "iovox calls 2024-01-01 2024-03-31 -o quarter.jsonl"),
    (
        "last night's voicemails as a spreadsheet",
        'iovox calls "2024-03-30 18:00" "2024-03-31 07:59" --call-result VOICEMAIL --excel -o night.csv',
    ),
    (
        "the transcripts of calls with a red tag",
        "iovox calls 2024-03-01 --tag-colour RED --fields default,transcription_text | jq .transcriptions",
    ),
)
@options.range_options("the first of this month")
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
    shell_complete=options.complete(
        lambda: [f"{field}_{suffix}" for field in Field for suffix in ("ASC", "DESC")]
    ),
    default="call_start_ASC",
    help="Any order but by call_start is read by page numbers, which can miss calls while data changes.",
)
@options.read_option(
    "--limit", "max_calls", type=options.IntRange(min=1), help="Maximum number of calls to write."
)
@options.read_option(
    "--resume",
    metavar="[POSITION]",
    is_flag=False,
    flag_value="",
    help="Continue an earlier run of the same command: with -o FILE, the unfinished file; else at the position it printed.",
)
@options.read_option(
    "--dry-run",
    is_flag=True,
    help="Only estimate calls, requests, bytes and time, from at most three small requests.",
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
    type=click.Choice([*ENCODERS, *BINARY, "table"]),
    help="JSON Lines; CSV or TSV, with nested fields as JSON and spreadsheet formulas escaped; Parquet; Arrow (in a pipe, its "
    "stream format); or a table. Default: by the ending of FILE, else jsonl.",
)
@options.field_names_option(
    "--columns", help="Columns to write, in this order; no other fields are requested.", panel="Output"
)
@options.output_option(
    "--excel",
    is_flag=True,
    help="CSV or TSV for spreadsheets: with a byte-order mark, and phone numbers kept as text.",
)
@options.output_option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write to this file instead of stdout; it is replaced only when all calls are written. Endings: .jsonl, .csv, .tsv, "
    ".parquet, .arrow, each also with .gz or .zst.",
)
@filter_options
@options.account_options
@click.pass_context
def calls(
    ctx: click.Context,
    /,
    *,
    account: options.Account,
    filters: dict[str, Any],
    typed: options.TypedRange,
    form: str | None,
    columns: tuple[Field, ...],
    excel: bool,
    output: str | None,
    fields: tuple[Field, ...],
    date_constant: str | None,
    dry_run: bool,
    **arguments: Any,
) -> None:
    """Runs `iovox calls`.

    Both dates are inclusive and in the account's local time. If it fails after some output, it prints the command
    that writes exactly the rest, and exits with code 3.
    """
    if columns:
        missing = [name for name in columns if name not in fields]
        if missing and ctx.get_parameter_source("fields") != ParameterSource.DEFAULT:
            raise click.UsageError(
                f"--columns must be among --fields, got {', '.join(missing)}. Leave --fields out."
            )
        fields = columns
    destination = open_output(output)
    is_file = isinstance(destination, FileOutput)
    form, compression = format_of_name(destination.name, form) if is_file else (form, "")
    form = form or ("csv" if excel else "jsonl")
    if excel and form not in {"csv", "tsv"}:
        raise click.UsageError(
            f"--excel needs CSV or TSV, got {form}. Give --format csv, or a FILE that ends in .csv."
        )
    if form in BINARY and not is_file and destination.name == "stdout" and is_terminal("stdout"):
        raise click.UsageError(f"--format {form} is not text. Give -o FILE, or a pipe.")
    resume, earlier = arguments["resume"], 0
    if resume is not None and isinstance(destination, FileOutput):
        state = destination.load_state()
        layout = _layout(form, fields, excel=excel)
        if resume not in {"", state.get("position")} or state.get("layout") != layout:
            raise click.UsageError(f"--resume: the unfinished {output} is of another run.")
        destination.continue_unfinished(append=form not in BINARY)
        arguments["resume"], earlier = (resume := state["position"]), state["written"]
        if limit := arguments["max_calls"]:
            if limit < earlier:
                raise click.UsageError(
                    f"--limit must be at least {earlier}, got {limit}: so many calls are in the unfinished {output}."
                )
            arguments["max_calls"] = limit - earlier
    elif resume == "":
        raise click.UsageError("--resume needs the position that an earlier run printed, or -o FILE.")
    query = None if date_constant is None else InsightsQuery(date_constant=date_constant)

    async def run_command() -> None:
        # The position contains the dates, which words may not mean any more.
        start, end = (None, None) if resume and typed.in_words else account.resolve(typed)
        if dry_run:
            requested = InsightsQuery.from_arguments(start, end, query=query, fields=fields, **filters)
            async with account.client() as insights:
                await print_estimate(insights, requested, limit=arguments["max_calls"])
            return
        dates = {"start": start, "end": end, "query": query, "fields": fields}
        table = TableEncoder(fields) if form == "table" else None
        writer = CallWriter(form, fields, compression, excel=excel, to_file=is_file, text_encoder=table)
        command = CallsCommand(
            account, {**arguments, **filters, **dates}, writer, destination, typed, ctx, resume, earlier
        )
        await command.run()
        if table and 0 < (shown := len(table.widths)) < len(table.columns):
            print_note(
                f"The terminal shows {shown} of {len(table.columns)} columns; --columns selects others."
            )

    run(run_command)
