"""Writes a stream of calls to the files of consecutive partitions.

Calls arrive in order, so one file is open at a time; a partition is finished by the first call of a later one, or by
the end. A chunk is written before the next one is read, so memory holds pages, never partitions.
"""

from __future__ import annotations

import io
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from .. import __version__
from ._chunks import Chunk, IdChecksum, SkippedIds, split_at
from ._manifest import ManifestEntry
from ._partitions import PartitionRange, partition_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ._delta_files import DeltaFiles
    from ._formats import FileFormat
    from ._storage import AtomicFile, Storage

#: Bytes that are written at a time; the writers of formats write in small blocks.
_BUFFER_SIZE: Final = 1 << 18


class PartitionWriter:
    """Writes a group of adjacent partitions. The methods block; they are called in threads, one at a time.

    Args:
        storage: the directory.
        file_format: the format of the files.
        fields: the requested fields.
        ranges: the partitions, in order and without gaps.
        final_before: returns the time before which partitions are final; called when one is finished.
        utcnow: returns the current time in UTC.
        before_commit: called with the name of a finished partition and its file, before the file replaces an earlier one.
    """

    def __init__(
        self,
        storage: Storage | DeltaFiles,
        file_format: FileFormat,
        fields: Sequence[str],
        ranges: Sequence[PartitionRange],
        *,
        final_before: Callable[[], datetime],
        utcnow: Callable[[], datetime],
        before_commit: Callable[[str, AtomicFile | None], None],
    ) -> None:
        self._storage = storage
        self._format = file_format
        self._fields = fields
        self._ranges = ranges
        self._stops = [part.stop for part in ranges]
        #: Ids of records that were left out of the files.
        self.skipped = SkippedIds(self._stops)
        self._final_before = final_before
        self._utcnow = utcnow
        self._before_commit = before_commit
        self._index = 0
        self._file: AtomicFile | None = None
        self._buffer: Any = None
        self._writer: Any = None
        self._ids = IdChecksum()

    def write(self, chunk: Chunk) -> Iterator[ManifestEntry]:
        """Writes calls, and yields the entry of each partition that this finishes.

        Raises:
            BackfillError: a file cannot be written.
        """
        for index, calls in split_at(chunk, self._index, self._stops):
            while self._index < index:
                yield self._finish_partition()
            if self._file is None:
                self._file = self._storage.create(
                    partition_path(self._ranges[index].name, self._format.suffix)
                )
                self._buffer = io.BufferedWriter(self._file, _BUFFER_SIZE)
                self._writer = self._format.open_writer(self._buffer, self._fields)
            self._ids += calls.ids()
            self._writer.write(calls.data)

    def finish(self) -> Iterator[ManifestEntry]:
        """Finishes the remaining partitions, and yields their entries.

        Raises:
            BackfillError: a file cannot be written.
        """
        while self._index < len(self._ranges):
            yield self._finish_partition()

    def discard(self) -> None:
        """Removes the file that is being written, if there is one."""
        if self._file is not None:
            self._file.discard()

    def _finish_partition(self) -> ManifestEntry:
        part, file, ids = self._ranges[self._index], self._file, self._ids
        skipped = self.skipped.checksum(self._index)
        if file is not None:
            self._writer.finish()
            self._buffer.close()
        self._before_commit(part.name, file)
        if file is not None:
            file.commit()
        self._file, self._buffer, self._writer, self._ids = None, None, None, IdChecksum()
        self._index += 1
        return ManifestEntry(
            partition=part.name,
            start=part.start,
            stop=part.stop,
            final=part.stop <= self._final_before(),
            rows=ids.rows,
            ids=str(ids + skipped),
            file_ids=str(ids),
            first_id=ids.lowest,
            last_id=ids.highest,
            skipped=skipped.rows,
            read_at=self._utcnow(),
            version=__version__,
            file=file.path if file is not None else None,
            bytes=file.size if file is not None else 0,
            sha256=file.sha256 if file is not None else "",
        )
