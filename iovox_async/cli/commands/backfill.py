"""`iovox backfill`: downloads years of calls into a directory.

Invariant: the same command, run again, continues; however a run ends, the command is printed.
"""

from __future__ import annotations

import asyncio
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec
from click.exceptions import Exit

from iovox_async import InsightsQuery, IovoxError, QueryError, RecordError, TLSError
from iovox_async._params.dates import show_date
from iovox_async._platform import share_freed_memory
from iovox_async._redaction import hide_credentials
from iovox_async._wording import format_count
from iovox_async.errors import TRANSIENT_ERRORS

from .. import FAILED, UNFINISHED, options
from ..base import command
from ..console import is_terminal, print_error, print_note, print_warning, return_to_line_start, switched_off
from ..dry_run import print_backfill
from ..errors import exit_code_of, format_error, run
from ..filters import filter_options
from ..progress import backfill_summary, show_progress, verification_table, write_event
from ..resume import print_resume_command, resume_command, resume_preparation

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from iovox_async import Field
    from iovox_async.backfill import Backfill, BackfillReport

#: The names in `backfill.FORMATS`, repeated because that module takes long to import.
FORMATS = ("parquet", "delta", "jsonl", "jsonl.zst", "csv")
#: Seconds between two lines of progress, and over which the rate is estimated.
_LINE_INTERVAL, _RATE_PERIOD = 5.0, 20.0


class BackfillCommand(msgspec.Struct, frozen=True):
    """One run of the command.

    Attributes:
        ctx: the command as it was called, from which the command that continues is built.
        job: the backfill.
        query: what it reads.
        typed: the range as it was typed.
        out: the directory as it was typed.
    """

    ctx: click.Context
    job: Backfill
    query: InsightsQuery
    typed: options.TypedRange
    out: str
    verify: bool
    log_format: Literal["text", "json"]

    def __repr__(self) -> str:
        return object.__repr__(self)  # arguments may contain phone numbers

    async def run(self, **arguments: Any) -> None:
        """Downloads what is missing; the arguments are those of `Backfill.run`."""
        try:
            async with self._show_progress():
                report = await self.job.run(**arguments)
            self._print_report(report, "done")
            if (day := arguments["drop_before"]) and self.log_format == "text":
                print_note(f"the partitions that ended before {day} are deleted")
            if self.verify:
                async with self._show_progress():
                    report = await self.job.verify()
                if self.log_format == "text":
                    click.echo(verification_table(report))
                self._print_report(report, "verified")
                if report.mismatched_partitions:
                    raise Exit(FAILED)
        except asyncio.CancelledError:
            return_to_line_start()
            self._print_resume_command("Interrupted.")
            raise Exit(UNFINISHED) from None
        except QueryError:
            raise
        except IovoxError as error:
            temporary = isinstance(error, TRANSIENT_ERRORS) and not isinstance(error, TLSError | RecordError)
            can_continue = temporary or bool(self.job.progress.partitions)
            code = exit_code_of(error)
            code = UNFINISHED if code == FAILED and can_continue else code
            self._print_error(error, code)
            if can_continue:
                self._print_resume_command("Unfinished.")
            raise Exit(code) from None

    def _show_progress(self) -> AbstractAsyncContextManager[None]:
        return show_progress(
            lambda: self.job.progress,
            self.log_format,
            period=_RATE_PERIOD,
            interval=_LINE_INTERVAL,
            details=self._details,
        )

    @property
    def _details(self) -> dict[str, Any]:
        """What every JSON event of the run holds."""
        account = self.job._insights.account  # noqa: SLF001 - of this package
        return {"account": account, "folder": hide_credentials(self.out), "run_id": self.job.progress.run_id}

    def _print_error(self, error: IovoxError, code: int) -> None:
        report = self.job._counters.final_report  # noqa: SLF001 - of this package; also of a run that has failed
        since = report and (report.failing_since or report.started_at)
        details = self._details
        if self.log_format == "json":
            event = {"error": type(error).__name__, "message": format_error(error), "exit_code": code}
            write_event("error", details | event | {"failing_since": since})
        else:
            print_error(format_error(error))
            if not is_terminal("stderr"):
                where = f"Account {details['account']}, folder {details['folder']}"
                print_warning(f"{where}: failing since {since}, exit code {code}.")

    def _print_report(self, report: BackfillReport, event: str) -> None:
        if self.log_format == "json":
            if "notes" not in switched_off:
                write_event(event, report.to_dict() | self._details)
        else:
            # With --verify, the total follows after the verification.
            with_total = event == "verified" or not self.verify
            print_note(backfill_summary(report, hide_credentials(self.out), with_total=with_total))

    def _print_resume_command(self, reason: str) -> None:
        partitions = self.job.progress.partitions
        dates = {"--start": self.query.start_date, "--end": self.query.end_date}
        new = {name: str(date) for name, date in dates.items() if date and self.typed.in_words}
        replaced = self.typed.replaced
        if self.log_format == "json":
            command = resume_command(self.ctx, new, without=replaced)
            preparation = resume_preparation(self.ctx)
            event = {"partitions": partitions, "resume_command": command, "preparation": preparation}
            write_event("unfinished", self._details | event)
        else:
            finished = f" {format_count(partitions, 'partition')} finished." if partitions else ""
            print_resume_command(self.ctx, f"{reason}{finished}", new, without=replaced)


def _parse_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise QueryError(
            "drop_before", f"must be a day, got {show_date(text)}", "Write it as 2024-01-31."
        ) from None


@command(
    ("two years", "iovox backfill --start 2022-01-01 --end 2023-12-31 --out calls"),
    (
        "everything since 2022, kept up to date by cron",
        "iovox backfill --start 2022-01-01 --out calls --fields all --timezone Europe/London",
    ),
    ("into a bucket", "iovox backfill --start 2022-01-01 --out s3://bucket/calls --partition month"),
)
@options.range_options("the first second of the backfill in the directory, else the first of this month")
@options.fields_option("; id and call_start are always included")
@options.read_option(
    "--finality-delay",
    type=options.FloatRange(min=0),
    default=7200.0,
    help="A partition is downloaded again until its end is this long ago, because calls and transcripts arrive late.",
)
@options.read_option(
    "--dry-run",
    is_flag=True,
    help="Only list which days are there, and estimate calls, requests, bytes and time, from at most three small requests.",
)
@options.on_error_option
@options.output_option(
    "--out",
    metavar="DIR",
    required=True,
    envvar="IOVOX_OUT",
    help="The directory, or a URL (s3://bucket/calls, gs://, az://, ...). One directory belongs to one backfill.",
)
@options.output_option(
    "--format",
    type=click.Choice(FORMATS),
    default="parquet",
    help="Parquet; a Delta table; JSON Lines, also compressed by zstd; or CSV, with nested fields as JSON and spreadsheet formulas escaped.",
)
@options.output_option(
    "--partition", type=click.Choice(["day", "month"]), default="day", help="Period of one file."
)
@options.output_option(
    "--repair", is_flag=True, help="Check every file, and download damaged partitions again."
)
@options.output_option(
    "--refresh", is_flag=True, help="Download the partitions of the range again, also those that are final."
)
@options.output_option(
    "--drop-before",
    metavar="DATE",
    callback=lambda _ctx, _option, day: day if day is None else _parse_day(day),
    help="Afterwards, delete the partitions that ended before this day; they are not downloaded again.",
)
@options.output_option(
    "--verify",
    is_flag=True,
    help="Afterwards, compare the call ids with the endpoint's and the files', print a table, and download partitions that "
    "differ again. Exit code 1 if any did.",
)
@options.output_option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Progress on stderr: a bar on a terminal, else lines; or JSON documents, one per line.",
)
@filter_options
@options.account_options
@click.pass_context
def backfill(
    ctx: click.Context,
    /,
    *,
    account: options.Account,
    filters: dict[str, Any],
    typed: options.TypedRange,
    fields: tuple[Field, ...],
    out: str,
    verify: bool,
    log_format: Literal["text", "json"],
    dry_run: bool,
    **arguments: Any,
) -> None:
    """Runs `iovox backfill`.

    The same command, run again, downloads only what is missing; run every hour without --end, it keeps the directory
    up to date. If Ctrl-C or a failure ends it early, it prints that command and exits with code 3. Files are named
    date=2024-01-31/part-0.parquet; DuckDB, polars, pandas and Spark read the directory as one table.
    """
    run_arguments = {name: arguments.pop(name) for name in ("repair", "refresh", "drop_before")}

    async def run_command() -> None:
        from iovox_async.backfill import Backfill  # a slow import, and `--help` does not need it

        share_freed_memory()
        start, end = account.resolve(typed)
        query = InsightsQuery(start_date=start, end_date=end, fields=fields, **filters)
        async with account.client() as insights:
            job = Backfill(insights, query, out, **arguments)
            if dry_run:
                await print_backfill(insights, job, query)
            else:
                await BackfillCommand(ctx, job, query, typed, out, verify, log_format).run(**run_arguments)

    run(run_command)
