"""`iovox backfill`: years of calls into a folder of files.

The law of this room: the same line, run again, goes on; so whatever ends it, that line is what the user is told.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import attrs
import rich_click as click
from click.exceptions import Exit

from iovox_async import (
    DecodeError,
    InsightsQuery,
    IovoxError,
    RateLimitError,
    ServerError,
    TransportError,
)
from iovox_async.backfill._formats import FORMATS
from iovox_async.errors import QueryError, RecordError, TLSError

from ..backfill_progress import summary, tell, watching
from ..console import complain, fresh_line, note, number
from ..errors import FAILED, UNFINISHED, in_options, run
from ..filters import filter_options
from ..help_text import with_examples
from ..options import Account, session_options
from ..query_options import FIRST, LAST, PANEL, fields_option, on_error_option
from ..resume_command import Remembering, again

if TYPE_CHECKING:
    from iovox_async import Field
    from iovox_async.backfill import Backfill, BackfillReport

__all__ = ["backfill"]

#: What may be gone when the same line is run again.
_PASSING = (TransportError, RateLimitError, ServerError, DecodeError)
_LASTING = (TLSError, RecordError)


@attrs.frozen
class Work:
    """One run of the command.

    Attributes:
        query: which calls.
        out: the folder.
        options: further arguments of `Backfill`.
        ctx: the command as it was called, for the line that goes on.
    """

    account: Account
    query: InsightsQuery
    out: str
    options: dict[str, Any]
    repair: bool
    verify: bool
    log_format: Literal["text", "json"]
    ctx: click.Context

    async def run(self) -> None:
        """Reads and writes until all is there."""
        from iovox_async.backfill import Backfill  # with all that it writes with, and no help needs it

        async with self.account.session() as insights:
            job = Backfill(insights, self.query, self.out, **self.options)
            try:
                async with watching(job, self.log_format):
                    report = await job.run(repair=self.repair)
                self._tell_of(report, "done")
                if self.verify:
                    async with watching(job, self.log_format):
                        report = await job.verify()
                    self._tell_of(report, "verified")
            except asyncio.CancelledError:
                fresh_line()
                self._tell_the_rest(job, "Interrupted.")
                raise Exit(UNFINISHED) from None
            except QueryError:
                raise
            except IovoxError as error:
                passing = isinstance(error, _PASSING) and not isinstance(error, _LASTING)
                if self.log_format == "json":
                    tell("error", {"error": type(error).__name__, "message": in_options(error)})
                else:
                    complain(in_options(error))
                if not (passing or job.progress.partitions):
                    raise Exit(FAILED) from None
                self._tell_the_rest(job, "Unfinished.")
                raise Exit(UNFINISHED) from None

    def _tell_of(self, report: BackfillReport, event: str) -> None:
        if self.log_format == "json":
            tell(event, report.to_dict())
        else:
            note(summary(report, self.out, more=self.verify and event == "done"))

    def _tell_the_rest(self, job: Backfill, why: str) -> None:
        line = again(self.ctx, {})
        done = job.progress.partitions
        if self.log_format == "json":
            tell("unfinished", {"partitions": done, "resume_command": line})
        else:
            said = f"{number(done, 'partition is done and stays', 'partitions are done and stay')}. " * (
                done > 0
            )
            note(f"{why} {said}Go on with:", line=line)


@click.command(
    cls=Remembering,
    help=with_examples(
        """
        Years of calls into a folder, one file a day or month, through any crash.

        The same line run again reads only what is missing; run every hour without --end, it keeps the folder current. Ended
        early, by Ctrl-C or a failure, it says so with exit code 3. Files are calls/date=2024-01-31/part-0.parquet, which
        DuckDB, polars, pandas and Spark read as one table.
        """,
        ("two years", "iovox backfill --start 2022-01-01 --end 2023-12-31 --out calls"),
        (
            "everything since then, kept current from cron",
            "iovox backfill --start 2022-01-01 --out calls --fields all --timezone Europe/London",
        ),
        (
            "straight into a bucket",
            "iovox backfill --start 2022-01-01 --out s3://bucket/calls --partition month",
        ),
    ),
)
@click.option(
    "--start",
    metavar="DATE",
    default=None,
    help=f"{FIRST}where the job in the folder begins, else the first of this month.",
    panel=PANEL,
)
@click.option(
    "--end",
    metavar="DATE",
    default=None,
    help=LAST,
    panel=PANEL,
)
@fields_option("; id and call_start are always among them")
@click.option(
    "--finality-delay",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=7200.0,
    help="A partition is read again until it ended longer ago than this: calls come late, transcripts half an hour late.",
    panel=PANEL,
)
@on_error_option(" and count it")
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    help="The folder, or the URL of one (s3://bucket/calls, gs://, az://, ...). One folder belongs to one job.",
    panel="Output",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="parquet",
    help="Parquet; JSON documents, one a line, also packed with zstd; CSV with nested fields as JSON and spreadsheet "
    "formulas made harmless.",
    panel="Output",
)
@click.option(
    "--partition",
    type=click.Choice(["day", "month"]),
    default="day",
    help="One file for each.",
    panel="Output",
)
@click.option(
    "--repair",
    is_flag=True,
    help="Look into every file, and read again what is damaged.",
    panel="Output",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Afterwards, compare the folder with the endpoint by the ids alone, and read again what differs.",
    panel="Output",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="What is told on stderr: a bar at a terminal and lines elsewhere, or JSON documents, one a line.",
    panel="Output",
)
@filter_options
@session_options
@click.pass_context
def backfill(
    ctx: click.RichContext,
    /,
    *,
    account: Account,
    filters: dict[str, Any],
    start: str | None,
    end: str | None,
    fields: tuple[Field, ...],
    out: str,
    form: str,
    repair: bool,
    verify: bool,
    log_format: Literal["text", "json"],
    **options: Any,
) -> None:
    """Reads what is missing in a folder."""
    options["format"] = form
    try:
        query = InsightsQuery(start_date=start, end_date=end, fields=fields, **filters)
    except QueryError as error:
        raise click.UsageError(in_options(error), ctx) from None
    run(Work(account, query, out, options, repair, verify, log_format, ctx).run)
