"""Runs a backfill: reads missing partitions from the endpoint and writes them to the directory.

Adjacent partitions are read by one stream, which takes fewer requests than one stream each. Files are written in threads.
However a run ends, the lock is released and no task is left.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import msgspec
from attrs import evolve

from .._config import check_flag
from .._paging.spec import FINALITY_DELAY
from .._params.account_time import AccountTime, ClockReading
from .._parsing.decoder import OnError, checked_on_error
from .._runtime import current_runtime
from ..errors import BackfillError, BackfillLockedError, ConfigurationError, QueryError
from ..fields import Fields
from ..query import InsightsQuery
from ..retry import seconds
from ._directory import MANIFEST_INTERVAL, BackfillDirectory
from ._dry_run import BackfillPlan, plan_run
from ._formats import get_format
from ._job import Job, filter_checksums
from ._partition_writer import PartitionWriter
from ._partitions import (
    Partitioning,
    PartitionRange,
    RequestedDates,
    adjacent_groups,
    check_partitioning,
    partitions_in,
    partitions_to_read,
    start_of_day,
)
from ._reading import KEYS, PartitionReader
from ._run_report import end_run
from ._storage import location_of, open_storage
from ._tasks import run_concurrently, run_in_thread
from ._verification import verify_partitions
from .report import BackfillProgress, BackfillReport, RunCounters

if TYPE_CHECKING:
    import pyarrow as pa

    from ..client import AsyncInsights
    from ._chunks import Chunk
    from ._delta import DeltaDirectory
    from ._manifest import ManifestEntry

    Directory: TypeAlias = BackfillDirectory | DeltaDirectory

logger: logging.Logger = logging.getLogger("iovox_async")

#: A century. A longer delay would reach back before the first date that datetime has.
_MAX_FINALITY_DELAY: Final = 100 * 365.25 * 86_400


class _Plan(msgspec.Struct, frozen=True):
    """The resolved dates of a run: its range from `start` to before `stop`, and the clocks when it started."""

    start: datetime
    stop: datetime
    started_at: ClockReading


class Backfill:
    """Keeps a directory of files, one per day or month, in step with the calls of a date range.

    ::

        query = InsightsQuery(start_date="2022-01-01", fields=Fields.ALL)
        report = await Backfill(insights, query, "calls").run()

    The directory is one table for DuckDB, polars, pandas and Spark: files are named `date=2024-01-31/part-0.parquet`, and the
    rest is in the folder `_iovox`, which readers skip. A run downloads only what is missing. If it is killed at any instant and
    started again, the result is that of an undisturbed run. A query without an end, run every hour, keeps the directory current:
    a partition is read again until it ended longer ago than `finality_delay`. A partition without calls has no file.

    Memory is bounded whatever the range: at most `2 * concurrency + 1` pages for each of three streams, and one
    Parquet row group (32 MB) each.

    Args:
        insights: an open client. Without its `timezone`, the account's local time is unknown, and a partition counts as
            ended when it has ended in every time zone. If this machine's clock and the server's differ, the earlier of the
            two decides which partitions have ended.
        query: which calls, and which fields (`id` and `call_start` are always added). Without a start, the start of the
            backfill in the directory, or else the first of this month; without an end, now. `page` and `order` must
            not be set.
        directory: a path, or a URL that fsspec supports (`s3://bucket/calls`).
        format: "parquet", "delta", "jsonl", "jsonl.zst" or "csv".
        partition: "day" or "month"; a Delta table has days.
        finality_delay: seconds, or a timedelta, after which the calls of that time no longer arrive or change.
        on_error: "raise" raises a `RecordError` for a record that cannot be decoded; "skip" leaves it out and counts it.
        on_progress: called with a `BackfillProgress` in the event loop as the run proceeds. Its exceptions are logged once,
            and change nothing else.
        storage_options: options of the store, as fsspec takes them, or as `deltalake` does for a Delta table. Without them,
            credentials come from the environment.

    Raises:
        ConfigurationError: an unknown format or partition, or an invalid `finality_delay`.
        QueryError: the query has an order or page, or `on_error` is invalid.
        MissingExtraError: a package that the format or the directory needs is not installed.
        BackfillError: the scheme of the directory's URL is unknown.
    """

    def __init__(
        self,
        insights: AsyncInsights,
        query: InsightsQuery,
        directory: str | os.PathLike[str],
        format: str = "parquet",  # noqa: A002 - the name of the command's option
        partition: Partitioning = "day",
        *,
        finality_delay: float | timedelta = FINALITY_DELAY,
        on_error: OnError = "raise",
        on_progress: Callable[[BackfillProgress], None] | None = None,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        if not hasattr(insights, "_connection"):
            raise ConfigurationError(
                "insights",
                f"must be an AsyncInsights, got {type(insights).__name__}",
                "For the Insights of iovox_async.blocking, use the Backfill of iovox_async.blocking.",
            )
        if not isinstance(query, InsightsQuery):
            raise QueryError("query", f"must be an InsightsQuery, got {type(query).__name__}")
        if query.order not in {None, "call_start_ASC"}:
            raise QueryError("order", f"must not be set for a backfill, got {query.order}")
        if query.page != 1:
            raise QueryError("page", f"must not be set for a backfill, got {query.page}")
        fields = query.fields or Fields.DEFAULT
        self._insights = insights
        self._format = get_format(format)
        self._partitioning = check_partitioning(partition)
        self._fields = (*(key for key in KEYS if key not in fields), *fields)
        self._query = evolve(query, fields=self._fields, order="call_start_ASC")
        self._finality_delay = timedelta(
            seconds=min(seconds(finality_delay, "finality_delay"), _MAX_FINALITY_DELAY)
        )
        self._on_error = checked_on_error(on_error)
        self._on_progress = on_progress
        self._on_progress_failed = False
        self._timezone = insights.timezone
        self._time = insights._connection.time  # noqa: SLF001 - of this package
        self._runtime = current_runtime()
        self._location = location_of(directory)
        self._storage_options = storage_options
        if format == "delta" and partition != "day":
            raise ConfigurationError("partition", f'must be "day" for a Delta table, got {partition!r}')
        self._storage = None if format == "delta" else open_storage(directory, storage_options)
        self._manifest_interval = MANIFEST_INTERVAL
        self._job = Job(
            # Not the address, which may be spelled in several ways.
            account=insights.account.rpartition(" at ")[0],
            fields=tuple(map(str, self._fields)),
            filters=filter_checksums(query),
            format=format,
            partition=partition,
            timezone=None if self._timezone is None else str(self._timezone),
        )
        self._counters = RunCounters(self._runtime)
        self._running = False

    @classmethod
    def _for_test(
        cls,
        *args: Any,
        local_now: Callable[[], datetime] | None = None,
        file_system: Any = None,
        manifest_interval: float = MANIFEST_INTERVAL,
        **options: Any,
    ) -> Self:
        """Test seam: a backfill with another clock (account local time), file system and manifest interval."""
        backfill = cls(*args, **options)
        if local_now is not None:
            clock = backfill._runtime.clock
            backfill._time = AccountTime(UTC, lambda: local_now().replace(tzinfo=UTC), clock)
        backfill._manifest_interval = manifest_interval
        if file_system is not None:
            backfill._storage.file_system = file_system  # type: ignore[union-attr] # only LocalStorage has it
        return backfill

    @property
    def progress(self) -> BackfillProgress:
        """A snapshot of the run."""
        return self._counters.progress()

    async def run(
        self, *, repair: bool = False, refresh: bool = False, drop_before: date | None = None
    ) -> BackfillReport:
        """Reads the missing partitions.

        The files of the oldest partitions may be deleted; they are not read again. Any other missing file is damage.

        Args:
            repair: check every file by its checksum, and read damaged partitions and deleted ones again. Otherwise files
                are checked by their size, and damage is raised.
            refresh: read final partitions of the range again, too.
            drop_before: afterwards, delete the partitions that ended before this day. They are not read again.

        Raises:
            ConfigurationError: an argument is invalid.
            BackfillLockedError: another process is writing to the directory.
            BackfillMismatchError: the directory belongs to another backfill.
            ManifestCorruptedError: the manifest or a file is damaged, and `repair` is not set.
            BackfillError: the directory cannot be written.
            IovoxError: reading from the endpoint failed. Finished partitions are safe; the next run continues after them.
        """
        check_flag("repair", repair)
        check_flag("refresh", refresh)
        work = partial(self._read_missing, refresh=refresh, drop_before=start_of_day(drop_before))
        return await self._run_in_directory(work, repair=repair)

    async def verify(self) -> BackfillReport:
        """Compares the certificates of the range's final partitions with the endpoint and with the files.

        The ids are read again from both; partitions that differ are read again, so that a second verification finds no
        difference. Also checks every file by its checksum. Costs a small fraction of the bytes of `run`. Missing partitions
        are left to `run`.

        Returns:
            A report with `certificates`: for each partition what was read, and what differed.

        Raises:
            IovoxError: as `run`.
        """
        return await self._run_in_directory(self._compare_with_endpoint, check_files=True)

    async def changes(self, since: datetime | date | int | None = None) -> AsyncIterator[pa.RecordBatch]:
        """Yields what was inserted, updated and deleted in the Delta table, as record batches; see `read_changes`.

        Args:
            since: as in `read_changes`; a time without a zone is local time of the account if the client has a time zone.

        Raises:
            BackfillError: the directory is no Delta table.
        """
        from .changes import stream_changes

        async for batch in stream_changes(self._location, since, self._timezone, self._storage_options):
            yield batch

    async def _plan(self) -> BackfillPlan:
        """What `run` would read, without the directory's lock and without changing anything; raises as `run`."""
        dates = self._dates(self._time.read())
        return await run_in_thread(partial(plan_run, self._new_directory(), dates, self._partitioning))

    def _dates(self, now: ClockReading) -> RequestedDates:
        earliest, latest = self._time.earliest_now(now), self._time.latest_now(now)
        return RequestedDates(self._query, earliest, latest, self._timezone)

    def _new_directory(self) -> Directory:
        if self._storage is None:
            # Takes time to import, and other formats do not need it.
            from ._delta import DeltaDirectory

            return DeltaDirectory(
                self._location, self._job, self._timezone, self._storage_options, runtime=self._runtime
            )
        return BackfillDirectory(
            self._storage, self._job, manifest_interval=self._manifest_interval, clock=self._runtime.clock
        )

    async def _run_in_directory(
        self,
        work: Callable[[Directory, _Plan], Awaitable[None]],
        *,
        repair: bool = False,
        check_files: bool = False,
    ) -> BackfillReport:
        if self._running:
            raise BackfillLockedError("this backfill is running already", hint="Wait until it ends.")
        self._running, error = True, None
        self._counters = RunCounters(self._runtime)
        directory = self._new_directory()
        self._reader = PartitionReader(
            self._insights,
            self._query,
            self._format.arrow,
            self._on_error,
            self._counters,
            self._publish_progress,
        )
        try:
            started_at = self._time.read()
            dates = self._dates(started_at)
            requested, first = dates.start, dates.default_start
            await run_in_thread(
                partial(directory.open, requested, first, repair=repair, check_files=check_files)
            )
            start, stop = dates.resolve(requested or directory.manifest.start)
            await work(directory, _Plan(start, stop, started_at))
            self._counters.finished = True
            self._publish_progress()
        except BaseException as caught:
            error = caught
            raise
        finally:
            try:
                end = partial(end_run, directory, self._counters, self._insights.account, error)
                await run_in_thread(end)
            finally:
                self._running = False
        assert self._counters.final_report is not None
        return self._counters.final_report

    async def _read_missing(
        self, directory: Directory, plan: _Plan, *, refresh: bool, drop_before: datetime | None
    ) -> None:
        entries, partitioning = directory.manifest.entries, self._partitioning
        whole = list(partitions_in(plan.start, plan.stop, partitioning))
        again = [part.name for part in whole if refresh and part.name in entries.keys() - directory.deleted]
        ranges = partitions_to_read(
            plan.start, plan.stop, partitioning, entries, [*again, *directory.damaged]
        )
        dropped = {part.name: part for part in whole if drop_before is not None and part.stop <= drop_before}
        ranges = [part for part in ranges if part.name not in dropped]
        names = {part.name for part in ranges}
        self._counters.partitions_skipped = sum(part.name not in names for part in whole)
        await self._read(directory, plan, ranges)
        if drop_before is not None:
            await run_in_thread(partial(directory.drop_before, drop_before, dropped.values()))

    async def _compare_with_endpoint(self, directory: Directory, plan: _Plan) -> None:
        entries = directory.manifest.entries
        ranges = [
            entries[part.name].range
            for part in partitions_in(plan.start, plan.stop, self._partitioning)
            if part.name in entries and entries[part.name].final and part.name not in directory.deleted
        ]
        certificates = await verify_partitions(self._reader, directory, ranges)
        self._counters.certificates, self._counters.verified = certificates, len(ranges)
        wrong = [entries[certificate.partition].range for certificate in certificates if certificate.problem]
        await self._read(directory, plan, sorted(wrong))

    async def _read(self, directory: Directory, plan: _Plan, ranges: list[PartitionRange]) -> None:
        """Reads these partitions and replaces their files."""
        self._counters.add_partitions_to_read(ranges)
        self._publish_progress()
        await run_in_thread(partial(directory.mark_not_final, [part.name for part in ranges]))
        groups = adjacent_groups(ranges)
        try:
            await run_concurrently([partial(self._read_group, directory, plan, group) for group in groups])
        except BaseException:
            # Partitions missing from the manifest are read again; the first failure is the one to raise.
            with contextlib.suppress(BackfillError):
                await run_in_thread(directory.flush)
            raise
        else:
            await run_in_thread(directory.flush)
        finally:
            await run_in_thread(lambda: self._counters.partitions_lost(directory.lost_entries()))

    async def _read_group(self, directory: Directory, plan: _Plan, group: list[PartitionRange]) -> None:
        # By then the server's clock is known, too.
        final_before = partial(self._time.final_until, self._finality_delay, plan.started_at)
        writer = PartitionWriter(
            directory.storage,
            self._format,
            self._fields,
            group,
            final_before=final_before,
            utcnow=self._runtime.utcnow,
            before_commit=directory.before_commit,
        )

        def commit(entries: Iterable[ManifestEntry]) -> None:
            for entry in entries:
                self._counters.partition_finished(entry)
                directory.commit(entry)

        def write(chunk: Chunk) -> None:
            directory.heartbeat()
            commit(writer.write(chunk))

        try:
            await self._reader.stream_chunks(group, self._fields, write, writer.skipped)
            await run_in_thread(lambda: commit(writer.finish()))
        finally:
            await run_in_thread(writer.discard)
        self._publish_progress()

    def _publish_progress(self) -> None:
        if self._on_progress is None:
            return
        try:
            self._on_progress(self._counters.progress())
        except Exception:
            if not self._on_progress_failed:
                self._on_progress_failed = True
                logger.exception("on_progress failed; the backfill is not affected")
