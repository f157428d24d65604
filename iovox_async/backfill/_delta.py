"""Keeps the calls of a backfill in a Delta table. `DeltaDirectory` has the methods of `BackfillDirectory`.

Days that the table does not hold yet are appended, many in one commit. Days that it holds are compared with what was read, and
only their changes are merged.

Invariants:

- A commit holds days as a whole and the state of these days (`_delta_state`), so the table is right whenever a process ends.
- A commit of another backfill since this one began makes the next commit fail, so no day is written twice.
- Where neither calls nor state change, nothing is committed.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..errors import BackfillError, BackfillLockedError, BackfillMismatchError
from ._changes import compare_tables
from ._chunks import ArrowChunk, IdChecksum
from ._delta_files import DeltaFiles
from ._delta_state import (
    APP_ID,
    DROPPED_BEFORE,
    JOB,
    START,
    Lookup,
    days_between,
    decode_job,
    encode_job,
    final_days,
    load_certificate,
    state_of_days,
)
from ._delta_table import DELETED, CommitConflictError, DeltaCalls
from ._job import Job, describe_differences, mismatch_error
from ._manifest import MANIFEST, Manifest, ManifestEntry
from .report import PartitionChanges

if TYPE_CHECKING:
    import pyarrow as pa

    from .._runtime import Runtime

#: Calls and seconds after which finished days are committed.
COMMIT_CALLS: Final = 1_000_000
COMMIT_INTERVAL: Final = 60.0
#: Tries of a commit that commits of other programs make fail.
_ATTEMPTS: Final = 5
_DAY: Final = timedelta(days=1)


class DeltaDirectory:
    """The Delta table of a job. The methods block; they are called in threads.

    Args:
        location: the table's path or URL.
        job: the job that it belongs to.
        timezone: the account's time zone.
        options: the store's options, as `deltalake` takes them.
        runtime: provides the clocks.

    Attributes:
        storage: the table's files.
        manifest: the start of the backfill, and the final days; set by `open`.
        damaged: final days that do not hold what was read, and how they differ; set by `open`.
        deleted: final days that were dropped; set by `open`.
        changes: what this run inserted, updated and deleted, by day.
    """

    manifest: Manifest

    def __init__(
        self,
        location: str,
        job: Job,
        timezone: tzinfo | None,
        options: Mapping[str, str] | None = None,
        *,
        runtime: Runtime,
    ) -> None:
        self._table = DeltaCalls(location, options)
        self._exists = False
        self._job = job
        self._timezone = timezone
        self._runtime = runtime
        self._commits = 0
        self._mutex = threading.Lock()
        self._pending: dict[str, ManifestEntry] = {}
        self._committed_at = runtime.clock()
        self._requested_start: datetime | None = None
        self._open_days: set[str] = set()
        self._whole_days: set[str] = set()
        self.storage = DeltaFiles(self._table)
        self.damaged: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.changes: dict[str, PartitionChanges] = {}

    def open(
        self,
        start: datetime | None,
        default_start: datetime,
        *,
        repair: bool = False,
        check_files: bool = False,
    ) -> None:
        """Loads the table if it exists, and checks that it belongs to the job; see `BackfillDirectory.open`.

        Raises:
            BackfillMismatchError: the table or the directory belongs to another job.
        """
        self._requested_start = start
        self.manifest = Manifest(self._job, start or default_start)
        folder = self._table.folder
        if folder is not None and (folder / MANIFEST).exists():
            raise mismatch_error(self._table, ["format (requested: delta)"])
        self._exists = self._table.load()
        if not self._exists:
            return
        self._check_job()
        lookup = self._table.transactions()
        self._commits = lookup(APP_ID) or 0
        properties = self._table.properties
        self.manifest.start = datetime.fromisoformat(properties[START])
        self.storage.days = self._table.rows_by_day()
        self._load_final_days(lookup, before := properties.get(DROPPED_BEFORE, ""))
        self.deleted = {name for name in self.manifest.entries if name < before}
        if repair or check_files:
            for name, entry in self.manifest.entries.items():
                self.manifest.entries[name] = load_certificate(lookup, entry)
        if repair:
            self._find_damaged()

    def preview(self, start: datetime | None, default_start: datetime) -> tuple[Manifest, Collection[str]]:
        """The manifest that `open` would set, and the days that the table holds; see `BackfillDirectory.preview`."""
        self.open(start, default_start)  # it changes nothing
        return self.manifest, self.manifest.entries.keys() | self.storage.days

    def close(self) -> None:
        """Removes temporary files, and files that no commit names."""
        self.storage.close()
        new = [entry for day, entry in self._pending.items() if day not in self.storage.days]
        self.storage.remove([entry.file for entry in new if entry.file])

    def heartbeat(self) -> None:
        """Commits finished days if it is due."""
        if self._runtime.clock() - self._committed_at >= COMMIT_INTERVAL:
            self.flush()

    def mark_not_final(self, partitions: Iterable[str]) -> None:
        """Does nothing: a day and its state are replaced by one commit."""

    def before_commit(self, name: str, file: object) -> None:
        """Does nothing: the merge compares a day with the table."""

    def commit(self, entry: ManifestEntry) -> None:
        """Adds a finished day to the next commit."""
        with self._mutex:
            # A day that was read in part is read again, unless the backfill begins within it.
            first, stop = self._range_of(date.fromisoformat(entry.partition))
            whole = entry.start <= first and entry.stop >= stop
            self._pending[entry.partition] = msgspec.structs.replace(entry, final=entry.final and whole)
            due = sum(pending.rows for pending in self._pending.values()) >= COMMIT_CALLS
        if due:
            self.flush()

    def flush(self) -> None:
        """Commits the finished days.

        Raises:
            BackfillLockedError: another backfill has committed since this one was started.
        """
        with self._mutex:
            if self._pending:
                self._commit_pending()
            self._committed_at = self._runtime.clock()

    def last_report(self) -> None:
        """None: a table has no file with a report."""

    def finish(self, report: bytes, *, done: bool) -> None:  # noqa: ARG002 - as above
        """Records that everything from the requested start on is loaded, if the run has ended well."""
        start, previous = self._requested_start, self.manifest.start
        if not done or not self._exists or start is None or start >= previous:
            return
        # Only if the day within which the backfill began is whole now; otherwise a later run does it.
        if previous.time() == time.min or str(previous.date()) in self._whole_days:
            self._table.set_properties({START: start.isoformat()})
            self.manifest.start = start

    def lost_entries(self) -> list[ManifestEntry]:
        """Finished days that are not committed; the next run reads them again."""
        return list(self._pending.values())

    def remaining(self) -> list[ManifestEntry]:
        """The days of the table, and how many calls each holds."""
        rows = self._table.rows_by_day()
        final = self.manifest.entries
        names = sorted((rows.keys() | final.keys() | self._open_days) - self.deleted)
        return [
            ManifestEntry(
                partition=name,
                start=datetime.fromisoformat(name),
                stop=datetime.fromisoformat(name) + _DAY,
                final=name in final,
                rows=rows.get(name, 0),
            )
            for name in names
        ]

    def file_ids(self, entry: ManifestEntry) -> IdChecksum:
        """The checksum of the ids that the table holds for a day."""
        try:
            ids = self._table.read_day(entry.partition, ["id"])
        except BackfillError:
            # A file may be missing in the store. Without it, the day can be read and repaired.
            self._table.forget_missing_files()
            ids = self._table.read_day(entry.partition, ["id"])
        return sum((ArrowChunk(batch).ids() for batch in ids.to_batches()), IdChecksum())

    def drop_before(self, stop: datetime, unread: Collection[object]) -> None:
        """Deletes the days that ended before a time; neither they nor the unread ones are read by a later run."""
        day = str(stop.date())
        if unread and not self._exists:
            self._prepare_table()
        if self._exists and self._table.properties.get(DROPPED_BEFORE, "") < day:
            self._table.set_properties({DROPPED_BEFORE: day})
        if any(name < day for name in self.storage.days):
            self._table.delete_before(day, self._next_commit({}))
            self._committed()
        self.deleted |= {name for name in self.manifest.entries if name < day}

    def _check_job(self) -> None:
        try:
            stored = decode_job(self._table.properties[JOB])
        except (KeyError, msgspec.DecodeError):
            raise BackfillMismatchError(
                f"{self._table} is a Delta table that no backfill has written",
                hint="Choose another directory.",
            ) from None
        # The table may gain columns; the other attributes never change.
        same_fields = msgspec.structs.replace(stored, fields=self._job.fields)
        if differences := describe_differences(same_fields, self._job):
            raise mismatch_error(self._table, differences)

    def _load_final_days(self, lookup: Lookup, dropped_before: str) -> None:
        days = [self.manifest.start.date(), *map(date.fromisoformat, self.storage.days)]
        # Two days later, it is later in every time zone.
        last = max(*days, self._runtime.utcnow().date() + 2 * _DAY)
        final = set(final_days(lookup, min(days), last))
        # Days that were dropped before they were read are not read either.
        final |= {day for day in days_between(min(days), last) if str(day) < dropped_before}
        for day in sorted(final):
            first, stop = self._range_of(day)
            self.manifest.entries[str(day)] = ManifestEntry(
                partition=str(day), start=first, stop=stop, final=True
            )

    def _range_of(self, day: date) -> tuple[datetime, datetime]:
        """The first second of a day that the table holds if the day is final, and the second after the last."""
        begin, start = datetime.combine(day, time.min), self.manifest.start
        return (start if day == start.date() else begin), begin + _DAY

    def _find_damaged(self) -> None:
        for name, entry in self.manifest.entries.items():
            if name not in self.deleted and str(self.file_ids(entry)) != entry.file_ids:
                self.damaged[name] = "the table holds other calls than were read"

    def _commit_pending(self) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                self._prepare_table()
                days = self.storage.days
                self._append([entry for entry in self._pending.values() if entry.partition not in days])
                self._merge(list(self._pending.values()))
            except CommitConflictError:
                self._reload()
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    def _reload(self) -> None:
        """Loads the table after a conflict.

        Raises:
            BackfillLockedError: another backfill caused it.
        """
        self._exists = self._table.load()
        self._check_job()
        self._check_commits()
        self.storage.days = self._table.rows_by_day()

    def _check_commits(self) -> None:
        """Checks that the loaded version is that of the last commit of this backfill, and of nobody else's."""
        if (self._table.transaction(APP_ID) or 0) != self._commits:
            raise BackfillLockedError(
                f"another backfill is writing to {self._table}",
                hint="Wait until it ends, then run the same backfill again.",
            )

    def _prepare_table(self) -> None:
        schema = self.storage.schema(self._job.fields, self._timezone)
        job = encode_job(self._job)
        if not self._exists:
            self._table.create(schema, {JOB: job, START: self.manifest.start.isoformat()})
            self._exists = True
        elif self._table.properties[JOB] != job:
            self._table.add_columns(schema)
            self._table.set_properties({JOB: job})
        # Of two backfills that create the table at the same time, the later one may find days of the other.
        self._check_commits()

    def _append(self, entries: list[ManifestEntry]) -> None:
        """Commits days that the table does not hold."""
        state = state_of_days(self._table.transaction, entries)
        if state or any(entry.file for entry in entries):
            self._table.append(entries, self._next_commit(state))
            self._committed()
        for entry in entries:
            self._record(entry, PartitionChanges(entry.partition, inserted=entry.rows))

    def _merge(self, entries: list[ManifestEntry]) -> None:
        """Commits the changes of days that the table holds."""
        import pyarrow as pa

        state = state_of_days(self._table.transaction, entries)
        compared = [self._compare(entry) for entry in entries]
        sources = [rows for _, rows in compared if rows.num_rows]
        if sources:
            self._table.merge(pa.concat_tables(sources), self._next_commit(state))
        elif state:
            self._table.append([], self._next_commit(state))
        if sources or state:
            self._committed()
        for entry, (changes, _) in zip(entries, compared, strict=True):
            self._record(entry, changes)

    def _next_commit(self, state: dict[str, int]) -> dict[str, int]:
        return {APP_ID: self._commits + 1, **state}

    def _committed(self) -> None:
        """Counts a commit, and lists the days that the table holds after it."""
        self._commits += 1
        self.storage.days = self._table.rows_by_day()

    def _record(self, entry: ManifestEntry, changes: PartitionChanges) -> None:
        del self._pending[entry.partition]
        self.changes[entry.partition] = changes
        if entry.start.time() == time.min:
            self._whole_days.add(entry.partition)
        if entry.final:
            self.manifest.entries[entry.partition] = entry
            self._open_days.discard(entry.partition)
        else:
            self.manifest.entries.pop(entry.partition, None)
            self._open_days.add(entry.partition)

    def _compare(self, entry: ManifestEntry) -> tuple[PartitionChanges, pa.Table]:
        """The changes of a day, and the rows to merge."""
        import numpy as np
        import pyarrow as pa

        new = self.storage.read(entry, self._job.fields, self._timezone)
        old = self._within(self._table.read_day(entry.partition), entry)
        changes = compare_tables(old, new)
        upserts = new.take(np.concatenate([changes.inserted, changes.updated]))
        ids = pa.array(changes.deleted_ids, pa.int64())
        deletes = pa.table(
            [ids if field.name == "id" else pa.nulls(len(ids), field.type) for field in new.schema],
            schema=new.schema,
        )
        rows = pa.concat_tables([upserts, deletes])
        day = pa.scalar(date.fromisoformat(entry.partition), pa.date32())
        flags = pa.array([False] * upserts.num_rows + [True] * len(ids))
        rows = rows.append_column("date", pa.repeat(day, rows.num_rows)).append_column(DELETED, flags)
        report = PartitionChanges(
            partition=entry.partition,
            inserted=len(changes.inserted),
            updated=len(changes.updated),
            deleted_ids=tuple(changes.deleted_ids.tolist()),
        )
        return report, rows

    def _within(self, table: pa.Table, entry: ManifestEntry) -> pa.Table:
        """The calls that start within the seconds that were read."""
        day = datetime.fromisoformat(entry.partition)
        if entry.start <= day and entry.stop >= day + _DAY:
            return table
        import pyarrow as pa

        mask: list[Any] = []
        for batch in table.select(["call_start"]).to_batches():
            chunk = ArrowChunk(batch, self._timezone)
            mask += [entry.start <= chunk.start(row) < entry.stop for row in range(chunk.rows)]
        return table.filter(pa.array(mask, pa.bool_()))
