"""The folder of a job: its lock, its manifest, its files.

The law of this room: the manifest is the truth. A file is complete and named before the manifest names it; a sealed partition
that is to be replaced is first marked as open; what the manifest no longer names is removed after that, and what it does not
name is swept at the start; and only the holder of the lock writes it. So whenever a process ends, and however, what the
manifest calls sealed is whole. It is written at most once a second, while calls come and at the end: a killed process loses
what it finished in the second before it received its last calls, and no more.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from ..errors import ManifestCorruptedError
from ._manifest import MANIFEST, Manifest, ManifestEntry
from ._storage import TEMPORARY

if TYPE_CHECKING:
    from ._job import Job
    from ._locks import Lock
    from ._storage import Storage

__all__ = ["REPORT", "BackfillDirectory"]

logger: logging.Logger = logging.getLogger("iovox_async")

REPORT: Final = "report.json"
#: Names that a job gives: nothing else in a folder is ever removed.
_TABLE: Final = re.compile(
    r"calls/(?:date=\d{4}-\d\d-\d\d|month=\d{4}-\d\d)/part-0\.(?:parquet|jsonl|jsonl\.zst|csv)"
)
_TEMPORARY: Final = re.compile(
    r"\.(?:calls\.(?:date|month)=[\d-]+\.part-0\.[a-z.]+|manifest\.jsonl|report\.json)" + re.escape(TEMPORARY)
)


class BackfillDirectory:
    """The folder of a job. Its methods block; they are called in threads.

    Args:
        store: where it is.
        job: whose it is.
        clock: seconds that pass; the manifest is written, and the lock renewed, by it.

    Attributes:
        store: where the folder is.
        manifest: what is in it; there after `open`.
        again: names of partitions whose files must be read again: what was found damaged.
    """

    manifest: Manifest

    def __init__(self, store: Storage, job: Job, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.again: set[str] = set()
        self._job = job
        self._clock = clock
        self._lock: Lock | None = None
        self._renewed = 0.0
        self._writing = threading.Lock()
        #: When the manifest last named something, whether something waits to be named, and the files that will be left by that.
        self._named = -math.inf
        self._unnamed = False
        self._left: set[str] = set()

    def open(
        self, start: datetime | None, default: datetime, *, repair: bool = False, deep: bool = False
    ) -> None:
        """Locks the folder, reads what is in it, and sweeps what does not belong there.

        Args:
            start: the first second that is asked for, or None for the one that the folder knows.
            default: the first second of a folder that knows none.
            repair: do not stop at what is damaged, but note it in `again`, after looking into every file.
            deep: do so with files, and stop at a manifest that is damaged or missing, since it alone says what is in them.

        Raises:
            BackfillLockedError: another process is at work there.
            BackfillMismatchError: the folder belongs to another job.
            ManifestCorruptedError: the manifest, or a file that it names, is not what it was.
        """
        self.store.prepare()
        lock = self.store.lock()
        lock.take()
        self._lock = lock
        self._renewed = self._clock()
        files = self.store.listing()
        data = self.store.read(MANIFEST)
        if data is None:
            strays = sorted(filter(_TABLE.fullmatch, files))
            if strays and not repair:
                raise ManifestCorruptedError(
                    f"{self.store} holds {strays[0]} and no {MANIFEST}: choose an empty folder, "
                    "or --repair (repair=True) to read everything again in its place"
                )
            self.manifest = Manifest(self._job, start or default)
        else:
            self.manifest = Manifest.load(data, self._job, start or default, where=self.store)
            if self.manifest.damage and not repair:
                raise ManifestCorruptedError(
                    f"{self.store}/{MANIFEST} is damaged ({', '.join(self.manifest.damage[:5])}): "
                    "--repair (repair=True) reads again what cannot be trusted, and keeps the rest"
                )
        self._look(files, repair=repair or deep)
        self._sweep(files)
        first = min(start or self.manifest.start, self.manifest.start)
        if data is None or self.manifest.damage or first < self.manifest.start:
            self.manifest.start = first
            self.manifest.damage = []
            self._write()

    def close(self) -> None:
        """Gives the lock back."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def alive(self) -> None:
        """Keeps the lock, where it must be kept, and names what has waited for its turn.

        Raises:
            BackfillLockedError: another process took it over.
            BackfillError: the manifest cannot be written.
        """
        with self._writing:
            lock = self._lock
            every = None if lock is None else lock.renew_every
            if every is not None and self._clock() - self._renewed > every:
                self._renew()
            self._name_in_turn()

    def reopen(self, names: Iterable[str]) -> None:
        """Says that these are about to be replaced: until they are, nobody relies on their files.

        Raises:
            BackfillLockedError: another process took the folder over.
            BackfillError: the manifest cannot be written.
        """
        entries = self.manifest.entries
        with self._writing:
            sealed = {name: entry for name in names if (entry := entries.get(name)) and entry.sealed}
            if not sealed:
                return
            entries.update(
                {name: msgspec.structs.replace(entry, sealed=False) for name, entry in sealed.items()}
            )
            try:
                self._write()
            except BaseException:
                entries.update(sealed)
                raise

    def commit(self, entry: ManifestEntry) -> None:
        """Names a file that is in its place, now or soon; a partition that has none any more loses it then.

        Raises:
            BackfillLockedError: another process took the folder over.
            BackfillError: the manifest cannot be written.
        """
        with self._writing:
            old = self.manifest.entries.get(entry.partition)
            if old is not None and old.file:
                self._left.add(old.file)
            if entry.file:
                self._left.discard(entry.file)
            self.manifest.entries[entry.partition] = entry
            self._unnamed = True
            self._name_in_turn()

    def settle(self) -> None:
        """Names what is not named yet.

        Raises:
            BackfillLockedError: another process took the folder over.
            BackfillError: the manifest cannot be written.
        """
        with self._writing:
            if self._unnamed:
                self._name()

    def _name_in_turn(self) -> None:
        if self._unnamed and self._clock() - self._named >= self.store.rewrite_every:
            self._name()

    def _name(self) -> None:
        self._write()
        self._named, self._unnamed = self._clock(), False
        left, self._left = self._left, set()
        for name in sorted(left):
            self.store.remove(name)

    def replace(self, name: str, data: bytes) -> None:
        """Writes a small file, whole or not at all."""
        with self.store.draft(name) as draft:
            draft.write(data)
            draft.commit()

    def damaged(self) -> set[str]:
        """Names of partitions whose files are not what was written, after a look into every file."""
        files = self.store.listing()
        found = set()
        for entry in self.manifest.entries.values():
            self.alive()  # a large folder takes longer than a lock lasts
            if entry.file and (
                files.get(entry.file) != entry.bytes or self.store.digest(entry.file) != entry.sha256
            ):
                found.add(entry.partition)
        return found

    def _renew(self) -> None:
        if self._lock is not None:
            self._lock.renew()
            self._renewed = self._clock()

    def _write(self) -> None:
        # Whoever took the folder over has swept what this manifest would name.
        self._renew()
        self.replace(MANIFEST, self.manifest.dump())

    def _look(self, files: dict[str, int], *, repair: bool) -> None:
        """Compares the files with the manifest: their sizes, and with `repair` all of them."""
        entries = self.manifest.entries
        wrong = {
            name: entry
            for name, entry in entries.items()
            if entry.file and files.get(entry.file) != entry.bytes
        }
        sealed = [entry for entry in wrong.values() if entry.sealed]
        if sealed and not repair:
            file = sealed[0].file or ""
            told = f"{files[file]:,} bytes instead of {sealed[0].bytes:,}" if file in files else "missing"
            more = f", and {len(sealed) - 1} more files are wrong" if len(sealed) > 1 else ""
            raise ManifestCorruptedError(
                f"{self.store}/{file} is damaged ({told}){more}: --repair (repair=True) reads just these again"
            )
        # An open partition may have been replaced by a process that ended before it could say so.
        self.again = set(wrong) | (self.damaged() if repair else set())
        for name in self.again:
            logger.info("partition %s is damaged and is read again", name)

    def _sweep(self, files: dict[str, int]) -> None:
        known = {entry.file for entry in self.manifest.entries.values()}
        for name in files:
            if (_TABLE.fullmatch(name) and name not in known) or _TEMPORARY.fullmatch(name):
                logger.info("%s was left by an earlier run and is removed", name)
                self.store.remove(name)
