"""`Backfill`: years of calls into files, through any crash.

The law of this room: it joins the parts and decides nothing that they decide. What is missing is read in stretches as long as
possible, each by one stream, since a stream reads a year with fewer requests than twelve months; files are written in threads;
and however a run ends, the lock is given back and no task is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
from anyio import to_thread
from attrs import evolve, frozen

from .._paging import SECOND
from .._paging.spec import FINALITY_DELAY, resolve, to_local_time
from .._parsing.decoder import OnError, checked_on_error
from ..errors import BackfillError, BackfillLockedError, QueryError
from ..fields import Field, Fields
from ..retry import seconds
from ._concurrency import together, whole
from ._directory import REPORT, BackfillDirectory
from ._job import (
    Job,
    Partitioning,
    PartitionRange,
    checked_unit,
    checksums,
    needs,
    parts,
    seconds_of,
    stretches,
)
from ._partition_writer import PartitionWriter
from ._storage import ArrowChunk, CallChunk, Chunk, IdChecksum, format_named, open_store, parted
from .report import BackfillProgress, BackfillReport, RunCounters

if TYPE_CHECKING:
    import os

    from ..client import AsyncInsights
    from ..query import InsightsQuery
    from ..stream import CallStream
    from ._manifest import ManifestEntry
    from ._storage import FileSystem

__all__ = ["Backfill"]

#: Stretches that are read at a time; each may hold `2 x concurrency + 1` pages.
STRETCHES: Final = 3
#: Without the account's time zone, how far its clock may be behind UTC and ahead of it.
BEHIND, AHEAD = timedelta(hours=12), timedelta(hours=14)
#: Seconds after which everything has settled: a century. More would lie before the first date there is.
LONGEST: Final = 100 * 365.25 * 86_400
_IDS: Final = (Field.ID, Field.CALL_START)

Observer = Callable[[BackfillProgress], None]


@frozen
class _Plan:
    """What a run is to do, its dates fixed.

    Attributes:
        lo: the first second of the range.
        hi: the second after the last.
        sealed_until: what ended by then can no longer change.
        wanted: what is to be read.
    """

    lo: datetime
    hi: datetime
    sealed_until: datetime
    wanted: list[PartitionRange]


class Backfill:
    """A range of calls in a folder, one file a day or month, in step with the endpoint.

    ::

        query = InsightsQuery(start_date="2022-01-01", fields=Fields.ALL)
        report = await Backfill(insights, query, "calls").run()

    Files are `calls/date=2024-01-31/part-0.parquet` below the folder, a table for DuckDB, polars, pandas and Spark. A run reads
    only what is missing; killed at any moment and run again, it ends with what an undisturbed run has. Left without an
    end and run every hour, it stays current: a partition is read again until it ended longer ago than `finality_delay`.

    Memory is bounded by pages, whatever the range: at most `2 x concurrency + 1` for each of three stretches, and one row
    group (32 MB). An account without calls in a partition has no file for it.

    Args:
        insights: an open session. Without its `timezone` nobody knows what time it is at the account, so a partition counts as
            ended when it has ended everywhere on earth.
        query: which calls, and which fields (`id` and `call_start` are always read). Without a start: the start of
            the job that is in the folder, else the first of this month; without an end: now. Page and order must not be set.
        directory: a folder, or a URL of one that fsspec knows (`s3://bucket/calls`).
        format: "parquet", "jsonl", "jsonl.zst" or "csv".
        partition: "day" or "month".
        finality_delay: seconds, or a timedelta, after which calls that began then no longer arrive or change; two hours.
        on_error: "raise" a `RecordError` at a record that cannot be read, or "skip" it and count it.
        on_progress: is called with a `BackfillProgress` as work goes on, in the event loop.
        clock: gives the account's local time, naive; None: the session's.
        files: the file system below a local folder.

    Raises:
        ConfigurationError: an unknown format or partition.
        QueryError: the query has an order or page that a backfill cannot keep, or `on_error` is neither word.
        MissingExtraError: a package is missing that the format or the folder needs.
    """

    def __init__(
        self,
        insights: AsyncInsights,
        query: InsightsQuery,
        directory: str | os.PathLike[str],
        format: str = "parquet",  # noqa: A002 - the word of the command line
        partition: Partitioning = "day",
        *,
        finality_delay: float | timedelta = FINALITY_DELAY,
        on_error: OnError = "raise",
        on_progress: Observer | None = None,
        clock: Callable[[], datetime] | None = None,
        files: FileSystem | None = None,
    ) -> None:
        if query.order not in {None, "call_start_ASC"}:
            raise QueryError("order", f"a backfill reads by call_start_ASC, not {query.order}; leave it out")
        if query.page != 1:
            raise QueryError("page", "a backfill reads all pages; leave it out")
        self._insights = insights
        self._form = format_named(format)
        self._unit: Partitioning = checked_unit(partition)
        fields = query.fields or Fields.DEFAULT
        self._fields = (*(name for name in _IDS if name not in fields), *fields)
        self._query = evolve(query, fields=self._fields, order="call_start_ASC")
        self._finality_delay = timedelta(seconds=min(seconds(finality_delay, "finality_delay"), LONGEST))
        self._on_error = checked_on_error(on_error)
        self._on_progress = on_progress
        self._clock = clock
        zone = insights.timezone
        self._knows_time = zone is not None or clock is not None
        self._zone = zone
        self._store = open_store(directory, files)
        self._job = Job(
            account=insights.account,
            fields=tuple(map(str, self._fields)),
            filters=checksums(query),
            format=format,
            partition=partition,
            timezone=None if zone is None else str(zone),
        )
        self._tally = RunCounters()
        self._at_work = False

    @property
    def progress(self) -> BackfillProgress:
        """Where the run stands."""
        return self._tally.progress()

    async def run(self, *, repair: bool = False) -> BackfillReport:
        """Reads what is missing.

        Args:
            repair: look into every file, and read again what is damaged; otherwise damage is raised. Files are always
                compared with the manifest by their size.

        Raises:
            BackfillLockedError: another process is at work in the folder.
            BackfillMismatchError: the folder belongs to another job.
            ManifestCorruptedError: the manifest or a file is damaged, and `repair` is not set.
            BackfillError: the folder cannot be written: full, read-only, gone.
            IovoxError: what ended the reading; what was done before is safe, and the next run goes on there.
        """
        return await self._in_folder(self._fill, repair=repair)

    async def verify(self) -> BackfillReport:
        """Compares what is sealed with the endpoint, by the ids alone, and reads again what differs.

        All files are compared with their checksums, and for the partitions of the range the ids that were written with those
        that the endpoint has now; a small fraction of the bytes. A run fills what is missing, this mends what changed.

        Raises:
            IovoxError: as `run`.
        """
        return await self._in_folder(self._compare, repair=False, deep=True)

    # The two works.

    async def _in_folder(
        self,
        work: Callable[[BackfillDirectory, _Plan], Awaitable[BackfillReport]],
        *,
        repair: bool,
        deep: bool = False,
    ) -> BackfillReport:
        if self._at_work:
            raise BackfillLockedError("this backfill is at work already: wait until it ends")
        self._at_work = True
        try:
            return await self._locked(work, repair=repair, deep=deep)
        finally:
            self._at_work = False

    async def _locked(
        self,
        work: Callable[[BackfillDirectory, _Plan], Awaitable[BackfillReport]],
        *,
        repair: bool,
        deep: bool,
    ) -> BackfillReport:
        self._tally = RunCounters()
        folder = BackfillDirectory(self._store, self._job)
        now, sealed_until, latest = self._times()
        start = self._start(now)
        month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        try:
            await whole(partial(folder.open, start, month, repair=repair, deep=deep))
            lo, hi = self._range(start or folder.manifest.start, now, latest)
            wanted = needs(lo, hi, self._unit, folder.manifest.entries, folder.again)
            report = await work(folder, _Plan(lo, hi, sealed_until, wanted))
            text = msgspec.json.format(msgspec.json.encode(report.to_dict()))
            await whole(partial(folder.replace, REPORT, text))
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(folder.close)
        return report

    async def _fill(self, folder: BackfillDirectory, plan: _Plan) -> BackfillReport:
        wanted = {need.name for need in plan.wanted}
        self._tally.partitions_skipped = sum(
            part.name not in wanted for part in parts(plan.lo, plan.hi, self._unit)
        )
        await self._read(folder, plan, plan.wanted)
        return self._ended(folder)

    async def _compare(self, folder: BackfillDirectory, plan: _Plan) -> BackfillReport:
        entries = folder.manifest.entries
        inside = [part.name for part in parts(plan.lo, plan.hi, self._unit) if part.name in entries]
        wanted = [
            PartitionRange(name, entries[name].lo, entries[name].hi)
            for name in inside
            if entries[name].sealed
        ]
        self._tally.verified = len(wanted)
        differing = set(folder.again)

        async def compare(stretch: list[PartitionRange]) -> None:
            sums = await self._sums(folder, stretch)
            differing.update(need.name for need in stretch if sums[need.name] != entries[need.name].ids)

        self._tally.expects(wanted)
        await together([partial(compare, stretch) for stretch in stretches(wanted)], STRETCHES)
        again = sorted(PartitionRange(name, entries[name].lo, entries[name].hi) for name in differing)
        await self._read(folder, plan, again)
        return self._ended(folder, tuple(sorted(differing)))

    def _ended(self, folder: BackfillDirectory, differing: tuple[str, ...] = ()) -> BackfillReport:
        self._tally.ended = True
        self._tell()
        return self._tally.report(folder.manifest.entries.values(), differing)

    # Reading.

    async def _read(self, folder: BackfillDirectory, plan: _Plan, wanted: list[PartitionRange]) -> None:
        """Reads these partitions, and replaces their files."""
        self._tally.expects(wanted)
        self._tell()
        await whole(partial(folder.reopen, [need.name for need in wanted]))
        try:
            await together(
                [partial(self._stretch, folder, plan, stretch) for stretch in stretches(wanted)], STRETCHES
            )
        except BaseException:
            # What cannot be named is read again; the failure that came first is the one to tell.
            with contextlib.suppress(BackfillError):
                await whole(folder.settle)
            raise
        await whole(folder.settle)

    async def _stretch(self, folder: BackfillDirectory, plan: _Plan, stretch: list[PartitionRange]) -> None:
        cutter = PartitionWriter(self._store, self._form, self._fields, stretch, plan.sealed_until)

        def write(chunk: Chunk | None, done: list[ManifestEntry]) -> None:
            folder.alive()
            for entry in cutter.finish() if chunk is None else cutter.feed(chunk):
                folder.commit(entry)
                done.append(entry)

        async def put(chunk: Chunk | None) -> None:
            done: list[ManifestEntry] = []
            try:
                await to_thread.run_sync(write, chunk, done)
            finally:
                self._tally.done(done)

        stream = self._stream(stretch, self._fields)
        try:
            async with stream:
                source, chunk_of = self._source(stream, arrow=self._form.arrow)
                async for some in source:
                    await put(chunk_of(some))
                    self._tell()
            await put(None)
        finally:
            self._tally.closed(stream)
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(cutter.discard)
        self._tell()

    async def _sums(self, folder: BackfillDirectory, stretch: list[PartitionRange]) -> dict[str, str]:
        """Which calls the endpoint has now, for each partition of a stretch."""
        found = {need.name: IdChecksum() for need in stretch}
        ends = [need.hi for need in stretch]
        at = 0

        def count(chunk: Chunk) -> None:
            nonlocal at
            folder.alive()
            for place, calls in parted(chunk, at, ends):
                at = place
                found[stretch[at].name] += calls.ids()

        stream = self._stream(stretch, _IDS)
        try:
            async with stream:
                source, chunk_of = self._source(stream, arrow=self._form.needs_arrow)
                async for some in source:
                    await to_thread.run_sync(count, chunk_of(some))
                    self._tell()
        finally:
            self._tally.closed(stream)
        return {name: str(known) for name, known in found.items()}

    def _stream(self, stretch: list[PartitionRange], fields: tuple[Field, ...]) -> CallStream:
        query = evolve(
            self._query,
            start_date=stretch[0].lo,
            end_date=stretch[-1].hi - SECOND,
            date_constant=None,
            fields=fields,
        )
        stream = self._insights.stream(query=query, fields=fields, on_error=self._on_error)
        self._tally.opened(stream, seconds_of(stretch))
        return stream

    def _source(
        self, stream: CallStream, *, arrow: bool
    ) -> tuple[AsyncIterator[Any], Callable[[Any], Chunk]]:
        """What a stream hands out in this form, and how it becomes a chunk."""
        if arrow:
            return stream.arrow(), lambda batch: ArrowChunk(batch, self._zone)
        return stream.pages(), lambda page: CallChunk(page.calls)

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._tally.progress())

    # Dates.

    def _times(self) -> tuple[datetime, datetime, datetime]:
        """The account's time, up to when partitions are final, and the latest time that it may be there."""
        now = self._clock() if self._clock is not None else self._insights.now()
        if self._knows_time:
            return now, now - self._finality_delay, now
        utc = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
        return now, min(now, utc - BEHIND) - self._finality_delay, max(now, utc + AHEAD)

    def _start(self, now: datetime) -> datetime | None:
        """The first second that is asked for, or None where that is left to the folder."""
        if self._query.start_date is None and self._query.date_constant is None:
            return None
        return resolve(self._query, now=now, timezone=self._zone).lo

    def _range(self, start: datetime, now: datetime, latest: datetime) -> tuple[datetime, datetime]:
        """The seconds that are asked for, as first and second after the last; none of them lies ahead."""
        query = self._query
        if query.date_constant is None and query.start_date is None:
            end = to_local_time(query, self._zone).end_date
            if end is not None and end < start:
                raise QueryError(
                    "end_date",
                    f"{end} lies before {start}, where a job without a start begins (the first second of its folder, "
                    "else the first of this month); give a start",
                )
            query = evolve(query, start_date=start)
        reading = resolve(query, now=now, timezone=self._zone)
        return reading.lo, min(reading.hi, latest + SECOND)
