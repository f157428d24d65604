"""Calls of a stretch into the files of its partitions, as they come.

The law of this room: calls come in order, so one file is open at a time, and a partition is done when a call of a later one
comes, or the end. A chunk is written before the next one is read, so memory holds pages, never partitions.
"""

from __future__ import annotations

import io
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ._job import PartitionRange, file_of
from ._manifest import ManifestEntry
from ._storage import Chunk, IdChecksum, parted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._storage import AtomicFile, FileFormat, Storage

__all__ = ["PartitionWriter"]

#: Bytes that are written at a time: formats write in small pieces.
_BUFFER: Final = 1 << 18


class PartitionWriter:
    """Writes one stretch. Its methods block; they are called in threads, one at a time.

    Args:
        store: where to.
        form: in which format.
        fields: what was asked for.
        wanted: the stretch, in order.
        sealed_until: partitions that end no later than this are final.
    """

    def __init__(
        self,
        store: Storage,
        form: FileFormat,
        fields: Sequence[str],
        wanted: Sequence[PartitionRange],
        sealed_until: datetime,
    ) -> None:
        self._store = store
        self._form = form
        self._fields = fields
        self._wanted = wanted
        self._sealed_until = sealed_until
        self._at = 0
        self._file: _File | None = None

    def feed(self, chunk: Chunk) -> Iterator[ManifestEntry]:
        """Writes some calls, and hands out each partition as it is done.

        Raises:
            BackfillError: they cannot be written.
        """
        for place, calls in parted(chunk, self._at, [need.hi for need in self._wanted]):
            while self._at < place:
                yield self._end()
            if self._file is None:
                name = file_of(self._wanted[place].name, self._form.suffix)
                self._file = _File(self._store.draft(name), self._form, self._fields)
            self._file.write(calls)

    def finish(self) -> Iterator[ManifestEntry]:
        """Ends what is left of the stretch.

        Raises:
            BackfillError: it cannot be written.
        """
        while self._at < len(self._wanted):
            yield self._end()

    def discard(self) -> None:
        """Leaves nothing of the file that is being written."""
        file, self._file = self._file, None
        if file is not None:
            file.draft.discard()

    def _end(self) -> ManifestEntry:
        """Ends the partition, and its file if it has one."""
        need = self._wanted[self._at]
        sealed = need.hi <= self._sealed_until
        entry = ManifestEntry(
            partition=need.name, lo=need.lo, hi=need.hi, sealed=sealed, ids=str(IdChecksum())
        )
        if self._file is not None:
            entry = self._file.finish(entry)
            self._file = None
        self._at += 1
        return entry


class _File:
    """A file that is being written."""

    def __init__(self, draft: AtomicFile, form: FileFormat, fields: Sequence[str]) -> None:
        self.draft = draft
        self.ids = IdChecksum()
        self._buffer: Any = io.BufferedWriter(draft, _BUFFER)
        self._writer = form.writer(self._buffer, fields)

    def write(self, chunk: Chunk) -> None:
        self.ids += chunk.ids()
        self._writer.write(chunk.data)

    def finish(self, entry: ManifestEntry) -> ManifestEntry:
        """Ends the file, and returns the entry with what it holds."""
        self._writer.finish()
        self._buffer.flush()
        self.draft.commit()
        return msgspec.structs.replace(
            entry,
            rows=self.ids.rows,
            ids=str(self.ids),
            file=self.draft.name,
            bytes=self.draft.size,
            sha256=self.draft.digest,
        )
