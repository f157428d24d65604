"""Manages the directory of a backfill: its lock, its manifest and its files.

Invariants:

- A file is complete and in place before the manifest names it.
- A final partition is marked as not final before its file is replaced, so what the manifest calls final is intact
  whenever a process ends.
- A file is removed only after the manifest no longer names it; files it does not name are removed when it is opened.
- Only the holder of the lock writes the manifest.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Final, cast

import msgspec

from .._wording import Wording
from ..errors import BackfillError, BackfillMismatchError, ManifestCorruptedError
from ._chunks import IdChecksum
from ._manifest import MANIFEST, Manifest, ManifestEntry, dropped_entry
from ._partitions import partitions_in
from ._storage import STATE_FOLDER, TEMPORARY_SUFFIX
from .report import PartitionChanges

if TYPE_CHECKING:
    from ._job import Job
    from ._locks import Lock
    from ._partitions import Partitioning, PartitionRange
    from ._storage import AtomicFile, Storage

logger: logging.Logger = logging.getLogger("iovox_async")

REPORT: Final = f"{STATE_FOLDER}/report.json"
#: Where versions 0.1 kept the manifest.
_OLD_MANIFEST: Final = "manifest.jsonl"
#: Seconds between two versions of the manifest: writing it takes longer than reading a short partition, and some stores
#: limit how often an object is replaced. A killed process loses what it finished within this time.
MANIFEST_INTERVAL: Final = 1.0
#: The files that a backfill writes; no other file in the directory is ever removed.
_PARTITION_FILE: Final = re.compile(
    r"(?:date=\d{4}-\d\d-\d\d|month=\d{4}-\d\d)/part-0\.(?:parquet|jsonl|jsonl\.zst|csv)"
)
_TEMPORARY_FILE: Final = re.compile(
    rf"{STATE_FOLDER}/(?:(?:date|month)=[\d-]+\.part-0\.[a-z.]+|manifest|report\.json)"
    + re.escape(TEMPORARY_SUFFIX)
)
_REPAIR_HINT: Final = Wording("Repair it ({repair=True}): only what is damaged is read again.")


class BackfillDirectory:
    """The directory of a job. The methods block; they are called in threads.

    Every method that writes raises `BackfillLockedError` if another process has taken the directory over, and
    `BackfillError` if the file system refuses.

    Args:
        storage: the directory's files.
        job: the job that it belongs to.
        manifest_interval: seconds between two versions of the manifest.
        clock: a monotonic clock.

    Attributes:
        manifest: what the directory holds; set by `open`.
        damaged: what is wrong with the files of partitions that must be read again, by name; set by `open`.
        deleted: names of the oldest partitions if their files were deleted, which is no damage; set by `open`.
        changes: what this run inserted, updated and deleted, by partition.
    """

    manifest: Manifest

    def __init__(
        self,
        storage: Storage,
        job: Job,
        *,
        manifest_interval: float = MANIFEST_INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.storage = storage
        self.damaged: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.changes: dict[str, PartitionChanges] = {}
        self._job = job
        self._manifest_interval = manifest_interval
        self._clock = clock
        self._lock: Lock | None = None
        self._lock_renewed_at = 0.0
        self._write_mutex = threading.Lock()
        self._manifest_written_at = -math.inf
        #: Committed partitions that the manifest in the directory lacks, by name.
        self._unwritten: dict[str, ManifestEntry] = {}
        #: Files that the next version of the manifest no longer names.
        self._obsolete_files: set[str] = set()

    def open(
        self,
        start: datetime | None,
        default_start: datetime,
        *,
        repair: bool = False,
        check_files: bool = False,
    ) -> None:
        """Locks the directory, loads the manifest, checks the files' sizes, and removes leftovers of earlier runs.

        The oldest files may be deleted.

        Args:
            start: the first second requested, or None for the start that the manifest holds.
            default_start: the start of a directory without a manifest.
            repair: add damaged partitions to `damaged` instead of raising, also those with a deleted file, and check the
                checksum of every file.
            check_files: as `repair`, but raise if the manifest is damaged or missing.

        Raises:
            BackfillMismatchError: the directory belongs to another job.
            ManifestCorruptedError: the manifest, or the file of a final partition, is damaged.
        """
        self.storage.prepare()
        lock = self.storage.lock()
        lock.acquire()
        self._lock, self._lock_renewed_at = lock, self._clock()
        files = self.storage.list_files()
        stored = self._load_manifest(start or default_start, files)
        if stored is None:
            self.manifest = Manifest(self._job, start or default_start)
            unknown = sorted(filter(_PARTITION_FILE.fullmatch, files))
            if unknown and not repair:
                raise ManifestCorruptedError(
                    f"{self.storage} holds {unknown[0]} but no {MANIFEST}",
                    hint=Wording(
                        "Choose an empty directory, or read everything again in this one ({repair=True})."
                    ),
                )
        else:
            self.manifest = stored
            if stored.damage and not repair:
                damage = ", ".join(stored.damage[:5])
                raise ManifestCorruptedError(
                    f"{self.storage}/{MANIFEST} is damaged ({damage})", hint=_REPAIR_HINT
                )
        self.deleted = {name for name, entry in self.manifest.entries.items() if entry.dropped}
        if not repair:
            self.deleted |= self._find_deleted(files)
        self._check_files(files, keep_going=repair or check_files)
        self._remove_leftovers(files)
        self.storage.keep_reserve(files.get(MANIFEST, 0))
        first = min(start or self.manifest.start, self.manifest.start)
        if stored is None or stored.damage or first < self.manifest.start:
            self.manifest.start = first
            self.manifest.damage = []
            self._write_manifest()

    def preview(self, start: datetime | None, default_start: datetime) -> tuple[Manifest, Collection[str]]:
        """The manifest that `open` would set, and the partitions that the directory holds; changes and locks nothing.

        Raises:
            BackfillMismatchError: as `open`.
        """
        first = start or default_start
        manifest = self._load_manifest(first, self.storage.list_files()) or Manifest(self._job, first)
        return manifest, manifest.entries.keys()

    def close(self) -> None:
        """Gives the reserve back, and releases the lock."""
        lock, self._lock = self._lock, None
        if lock is not None:
            try:
                self.storage.keep_reserve(0)
            finally:
                lock.release()

    def heartbeat(self) -> None:
        """Renews the lock and writes the manifest, each if it is due."""
        with self._write_mutex:
            interval = None if self._lock is None else self._lock.renew_interval
            if interval is not None and self._clock() - self._lock_renewed_at > interval:
                self._renew_lock()
            self._write_entries_if_due()

    def mark_not_final(self, partitions: Iterable[str]) -> None:
        """Marks partitions whose files are about to be replaced, so that no later run relies on them."""
        entries = self.manifest.entries
        with self._write_mutex:
            final = {name: entries[name] for name in partitions if name in entries and entries[name].final}
            if not final:
                return
            entries.update(
                {name: msgspec.structs.replace(entry, final=False) for name, entry in final.items()}
            )
            try:
                self._write_manifest()
            except BaseException:
                entries.update(final)
                raise

    def before_commit(self, name: str, file: AtomicFile | None) -> None:
        """Compares the file of a partition with the one that it replaces, which is gone afterwards."""
        previous = self.manifest.entries.get(name)
        self.changes.pop(name, None)
        if previous is None or previous.file is None:
            return
        from ._file_changes import compare_files  # takes milliseconds, and a first run replaces no file

        with contextlib.ExitStack() as stack:
            try:
                old = stack.enter_context(self.storage.open(previous.file))
                new = None
                if file is not None:
                    new = stack.enter_context(file.local_path.open("rb"))
                self.changes[name] = compare_files(name, old, new, self._job.format)
            except Exception:  # noqa: BLE001 - readers raise exceptions of many kinds for a damaged file
                logger.info(
                    "the file of partition %s is damaged or missing; all of its calls count as inserted", name
                )

    def commit(self, entry: ManifestEntry) -> None:
        """Adds a partition whose file is in place to the manifest, which is written now or when it is due."""
        with self._write_mutex:
            previous = self.manifest.entries.get(entry.partition)
            if previous is not None and previous.file:
                self._obsolete_files.add(previous.file)
            if entry.file:
                self._obsolete_files.discard(entry.file)
            self.changes.setdefault(entry.partition, PartitionChanges(entry.partition, inserted=entry.rows))
            self.manifest.entries[entry.partition] = entry
            self._unwritten[entry.partition] = entry
            self._write_entries_if_due()

    def flush(self) -> None:
        """Writes the manifest if it lacks a committed partition."""
        with self._write_mutex:
            if self._unwritten:
                self._write_entries()

    def lost_entries(self) -> list[ManifestEntry]:
        """Committed partitions that the manifest in the directory lacks; the next run reads them again."""
        kept: dict[str, ManifestEntry] = {}
        if self._unwritten:
            with contextlib.suppress(BackfillError):
                data = self.storage.read(MANIFEST) or b""
                kept = Manifest.load(data, self._job, self.manifest.start, location=self.storage).entries
        return [entry for name, entry in self._unwritten.items() if kept.get(name) != entry]

    def remaining(self) -> list[ManifestEntry]:
        """The partitions of the directory, without those whose files were deleted."""
        return [entry for name, entry in self.manifest.entries.items() if name not in self.deleted]

    def drop_before(self, time: datetime, unread: Iterable[PartitionRange]) -> None:
        """Removes the files of partitions that ended before a time; neither they nor the unread ones are read by a later run."""
        entries, partitioning = self.manifest.entries, cast("Partitioning", self._job.partition)
        with self._write_mutex:
            held = [entry for entry in entries.values() if not entry.dropped]
            ended = {
                part.name: part
                for entry in held
                for part in partitions_in(entry.start, entry.stop, partitioning)
            }
            ended = {name: part for name, part in ended.items() if part.stop <= time}
            ended |= {part.name: part for part in unread if part.name not in entries}
            if ended:
                self._obsolete_files |= {
                    entry.file for entry in held if entry.file and entry.partition in ended
                }
                entries.update((name, dropped_entry(part, entries.get(name))) for name, part in ended.items())
                self.deleted |= ended.keys()
                self._write_entries()

    def finish(self, report: bytes, *, done: bool) -> None:  # noqa: ARG002 - every run has a report
        """Writes the report of a run that has ended."""
        self.storage.replace(REPORT, report)

    def last_report(self) -> bytes | None:
        """The report of the run before."""
        return self.storage.read(REPORT)

    def file_ids(self, entry: ManifestEntry) -> IdChecksum:
        """The checksum of the ids in the file of a partition.

        Raises:
            BackfillError: the file cannot be read.
        """
        from ._file_ids import ids_in_file

        self.heartbeat()
        return ids_in_file(self.storage, entry.file, self._job.format) if entry.file else IdChecksum()

    def find_damaged(self) -> dict[str, str]:
        """What is wrong with files that differ from what was written, by partition; reads every file."""
        files = self.storage.list_files()
        damaged = {}
        for name, entry in self.manifest.entries.items():
            self.heartbeat()  # a large directory takes longer than a lease lasts
            if entry.file and name not in self.deleted:
                problem = _compare_size(entry, files.get(entry.file))
                if not problem and self.storage.sha256(entry.file) != entry.sha256:
                    problem = "the file is damaged (another checksum)"
                if problem:
                    damaged[name] = problem
        return damaged

    def _load_manifest(self, start: datetime, files: Collection[str]) -> Manifest | None:
        """The manifest in the directory, if there is one; `start` is used if its own cannot be read."""
        if any(path.startswith("_delta_log/") for path in files):
            raise BackfillMismatchError(
                f"{self.storage} is a Delta table", hint="Use format delta, or choose another directory."
            )
        if _OLD_MANIFEST in files:
            raise BackfillError(
                f"{self.storage} holds {_OLD_MANIFEST}, the manifest of version 0.1; this version has another layout",
                hint="Choose another directory.",
            )
        data = self.storage.read(MANIFEST)
        return None if data is None else Manifest.load(data, self._job, start, location=self.storage)

    def _write_entries_if_due(self) -> None:
        due = self._clock() - self._manifest_written_at >= self._manifest_interval
        if self._unwritten and due:
            self._write_entries()

    def _write_entries(self) -> None:
        self._write_manifest()
        self._manifest_written_at, self._unwritten = self._clock(), {}
        obsolete, self._obsolete_files = self._obsolete_files, set()
        for path in sorted(obsolete):
            self.storage.remove(path)

    def _write_manifest(self) -> None:
        # A process that took the directory over has removed the files that this manifest would add.
        self._renew_lock()
        data = self.manifest.dump()
        self.storage.replace(MANIFEST, data)
        self.storage.keep_reserve(len(data))

    def _renew_lock(self) -> None:
        if self._lock is not None:
            self._lock.renew()
            self._lock_renewed_at = self._clock()

    def _find_deleted(self, files: dict[str, int]) -> set[str]:
        """The final partitions without a file that are older than all files, if there are any files."""
        entries = sorted(
            (entry for entry in self.manifest.entries.values() if entry.file),
            key=lambda entry: entry.partition,
        )
        missing = list(takewhile(lambda entry: entry.final and entry.file not in files, entries))
        if not missing or len(missing) == len(entries):
            return set()
        logger.info("partitions up to %s were deleted, and are not read again", missing[-1].partition)
        return {entry.partition for entry in missing}

    def _check_files(self, files: dict[str, int], *, keep_going: bool) -> None:
        """Compares the files with the manifest by their sizes; with `keep_going`, also by their checksums."""
        wrong = [
            entry
            for entry in self.manifest.entries.values()
            if entry.file and entry.partition not in self.deleted and files.get(entry.file) != entry.bytes
        ]
        final = [entry for entry in wrong if entry.final]
        if final and not keep_going:
            first, path = final[0], final[0].file or ""
            problem = _compare_size(first, files.get(path))
            more = f", and {len(final) - 1} more files are damaged" if len(final) > 1 else ""
            raise ManifestCorruptedError(f"{self.storage}/{path}: {problem}{more}", hint=_REPAIR_HINT)
        # A process that ended before it wrote the manifest may have replaced the file of a partition that is not final.
        problems = {entry.partition: _compare_size(entry, files.get(entry.file or "")) for entry in wrong}
        self.damaged = problems | (self.find_damaged() if keep_going else {})
        for name in sorted(self.damaged):
            logger.info("partition %s is damaged and will be read again", name)

    def _remove_leftovers(self, files: dict[str, int]) -> None:
        named = {entry.file for entry in self.manifest.entries.values()}
        for path in files:
            if (_PARTITION_FILE.fullmatch(path) and path not in named) or _TEMPORARY_FILE.fullmatch(path):
                logger.info("removing %s, left behind by an earlier run", path)
                self.storage.remove(path)


def _compare_size(entry: ManifestEntry, size: int | None) -> str:
    """What is wrong with the size of a partition's file; empty if it is right."""
    if size is None:
        return "the file is missing"
    return "" if size == entry.bytes else f"the file is damaged ({size:,} bytes instead of {entry.bytes:,})"
