"""Writes the Parquet files of a Delta table, which no reader sees before a commit names them."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ._storage import AtomicFile, storage_errors

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import tzinfo

    import pyarrow as pa

    from ._manifest import ManifestEntry

__all__ = ["DeltaFiles", "StagedFile", "TableFile"]


#: Bytes that are written at a time. A write beyond the buffer's size would reach the file system of `deltalake` as a buffer of
#: Arrow, which it does not accept.
_BLOCK: Final = 1 << 20


class TableFile(AtomicFile):
    """A file at the location of a table, under a name of its own.

    Args:
        file_system: the location, as a file system of pyarrow.
        path: the path, relative to the location.
    """

    def __init__(self, file_system: Any, path: str) -> None:
        super().__init__(path)
        self._file_system = file_system
        with storage_errors(f"write {path}", Exception):
            self._stream = file_system.open_output_stream(path, buffer_size=2 * _BLOCK)

    def _write(self, data: memoryview) -> None:
        with storage_errors(f"write {self.path}", Exception):
            for start in range(0, len(data), _BLOCK):
                self._stream.write(data[start : start + _BLOCK])

    def _commit(self) -> None:
        with storage_errors(f"write {self.path}", Exception):
            self._stream.close()

    def _discard(self) -> None:
        # A store may raise any exception; the file is not part of the table in any case.
        with contextlib.suppress(Exception):
            self._stream.close()
        with contextlib.suppress(Exception):
            self._file_system.delete_file(self.path)


class StagedFile(AtomicFile):
    """A file on this machine with the new calls of a day that the table holds already."""

    def __init__(self, path: str, folder: Path) -> None:
        super().__init__(path)
        self.local_path = local_path = folder / f"{uuid.uuid4()}.parquet"
        with storage_errors(f"write {local_path}"):
            self._file = local_path.open("wb", buffering=0)

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[self._file.write(data) :]

    def _commit(self) -> None:
        self._file.close()

    def _discard(self) -> None:
        self._file.close()
        Path(self._file.name).unlink(missing_ok=True)


class DeltaFiles:
    """Creates the files of a table; the part of `Storage` that a `PartitionWriter` needs.

    Args:
        location: the table's path or URL.
        options: the store's options, as `deltalake` takes them.

    Attributes:
        days: the days of which the table holds calls; their new calls are staged.
        staged: the staged files by day.
    """

    def __init__(self, location: str, options: Mapping[str, str] | None) -> None:
        self._location = location
        self._options = options
        self._file_system: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.days: Collection[str] = ()
        self.staged: dict[str, Path] = {}

    @property
    def file_system(self) -> Any:
        """The location, as a file system of pyarrow."""
        if self._file_system is None:
            import pyarrow.fs
            from deltalake.fs import DeltaStorageHandler

            if "://" not in self._location:
                with storage_errors(f"create the directory {self._location}"):
                    Path(self._location).mkdir(parents=True, exist_ok=True)
            options = dict(self._options or {})
            self._file_system = pyarrow.fs.PyFileSystem(DeltaStorageHandler(self._location, options))
        return self._file_system

    def create(self, path: str) -> AtomicFile:
        """A new file for a day: staged if the table holds calls of the day."""
        folder, _, _name = path.partition("/")
        day = folder.removeprefix("date=")
        if day not in self.days:
            return TableFile(self.file_system, f"{folder}/part-{uuid.uuid4()}.parquet")
        if self._folder is None:
            with storage_errors("create a temporary directory"):
                self._folder = tempfile.TemporaryDirectory(prefix="iovox-")
        file = StagedFile(path, Path(self._folder.name))
        assert file.local_path is not None
        self.staged[day] = file.local_path
        return file

    def schema(self, fields: Sequence[str], timezone: tzinfo | None) -> pa.Schema:
        """The schema of the files."""
        from ..arrow import schema_for

        return schema_for(fields, None if timezone is None else "UTC")

    def read(self, entry: ManifestEntry, fields: Sequence[str], timezone: tzinfo | None) -> pa.Table:
        """The calls that were read of a day."""
        import pyarrow.parquet as pq

        if entry.file is None:
            return self.schema(fields, timezone).empty_table()
        staged = self.staged.get(entry.partition)
        with storage_errors(f"read {entry.file}", Exception):
            if staged is not None:
                return pq.ParquetFile(staged).read()
            return pq.ParquetFile(self.file_system.open_input_file(entry.file)).read()

    def remove(self, path: str) -> None:
        """Removes a file that no commit names, if it is there."""
        with contextlib.suppress(Exception):
            self.file_system.delete_file(path)

    def close(self) -> None:
        """Removes the staged files."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self.staged.clear()
