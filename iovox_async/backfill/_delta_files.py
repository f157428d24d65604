"""Writes the Parquet files of a Delta table, which no reader sees before a commit names them.

In an object store, a file is written to this machine first and uploaded by `obstore`, which lets other threads run meanwhile (the file
system of `deltalake` does not).
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .._platform import sync_file
from ..errors import MissingExtraError
from ._storage import AtomicFile, StagedFile, storage_errors

if TYPE_CHECKING:
    from datetime import tzinfo

    import pyarrow as pa
    from obstore.store import BackoffConfig, RetryConfig

    from ._delta_table import DeltaCalls
    from ._manifest import ManifestEntry

#: The beginnings of options of stores; other options are of the connection, or of `deltalake` alone.
_STORE_OPTIONS: Final = ("aws_", "azure_", "google_")
_CONNECTION_OPTIONS: Final = frozenset(
    {"allow_http", "connect_timeout", "proxy_url", "timeout", "user_agent"}
)
_DELTA_OPTIONS: Final = frozenset(
    {"aws_s3_allow_unsafe_rename", "aws_s3_locking_provider", "aws_allow_http", "aws_endpoint_url_dynamodb"}
)
#: As `DeltaCalls` sets it for `deltalake`.
_BACKOFF: Final[BackoffConfig] = {"init_backoff": timedelta(seconds=1)}


class _DeltaFile(StagedFile):
    """A file on this machine that becomes a file of a table when it is committed.

    Args:
        path: its path in the table.
        local_path: its path on this machine.
        upload: called with the path on this machine when it is complete; None if it is there already.
    """

    def __init__(self, path: str, local_path: Path, upload: Any = None) -> None:
        with storage_errors(f"write {path}"):
            local_path.parent.mkdir(parents=True, exist_ok=True)
            file = local_path.open("wb", buffering=0)
        super().__init__(path, file)
        self._upload = upload

    def _commit(self) -> None:
        if self._upload is None:
            sync_file(self._file.fileno())
        self._file.close()
        if self._upload is not None:
            self._upload(self.local_path)
            self.local_path.unlink()


class DeltaFiles:
    """Creates the files of a table; the part of `Storage` that a `PartitionWriter` needs.

    Args:
        table: the table.

    Raises:
        MissingExtraError: the table is in an object store, and `obstore` is not installed.

    Attributes:
        days: the days of which the table holds calls; their new calls are staged on this machine.
    """

    def __init__(self, table: DeltaCalls) -> None:
        self._root = table.folder
        self._store = None if self._root is not None else _open_store(table.location, table.options)
        self._name = str(table)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._mutex = threading.Lock()  # several days are written at a time, and all need the same folder
        self._staged: dict[str, Path] = {}
        self.days: Collection[str] = ()

    def __str__(self) -> str:
        return self._name

    def create(self, path: str) -> AtomicFile:
        """A new file for a day: staged if the table holds calls of the day."""
        folder, _, _ = path.partition("/")
        day, name = folder.removeprefix("date="), f"part-{uuid.uuid4()}.parquet"
        if day in self.days:
            self._staged[day] = self._temporary(name)
            return _DeltaFile(path, self._staged[day])
        path = f"{folder}/{name}"
        if self._root is not None:
            return _DeltaFile(path, self._root / path)
        return _DeltaFile(path, self._temporary(name), lambda local_path: self._put(path, local_path))

    def schema(self, fields: Sequence[str], timezone: tzinfo | None) -> pa.Schema:
        """The schema of the files."""
        from ..arrow import schema_for

        return schema_for(fields, None if timezone is None else "UTC")

    def read(self, entry: ManifestEntry, fields: Sequence[str], timezone: tzinfo | None) -> pa.Table:
        """The calls that were read of a day."""
        import pyarrow.parquet as pq

        if entry.file is None:
            return self.schema(fields, timezone).empty_table()
        with storage_errors(f"read {entry.file}", Exception):
            if entry.partition in self._staged:
                source: Any = self._staged[entry.partition]
            elif self._root is not None:
                source = self._root / entry.file
            else:
                import obstore

                source = io.BytesIO(obstore.get(self._store, entry.file).bytes())
            return pq.ParquetFile(source).read()

    def remove(self, paths: Sequence[str]) -> None:
        """Removes files that no commit names, as far as the store allows it."""
        if self._root is not None:
            for path in paths:
                with contextlib.suppress(OSError):
                    (self._root / path).unlink()
        elif paths:
            import obstore

            # A store may raise any exception; the files are not part of the table in any case.
            with contextlib.suppress(Exception):
                obstore.delete(self._store, paths)

    def close(self) -> None:
        """Removes the files on this machine."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self._staged.clear()

    def _temporary(self, name: str) -> Path:
        with self._mutex, storage_errors("create a temporary directory"):
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="iovox-")
        return Path(self._folder.name, name)

    def _put(self, path: str, local_path: Path) -> None:
        import obstore

        with storage_errors(f"write {path}", Exception):
            obstore.put(self._store, path, local_path)


def _open_store(location: str, options: Mapping[str, str]) -> Any:
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise MissingExtraError("a Delta table in an object store", "delta") from error
    lowered = {name.lower(): value for name, value in options.items()}
    connection = {name: value for name, value in lowered.items() if name in _CONNECTION_OPTIONS}
    allow_http = lowered.get("aws_allow_http", lowered.get("allow_http", os.environ.get("AWS_ALLOW_HTTP")))
    store = {
        name: value
        for name, value in lowered.items()
        if name.startswith(_STORE_OPTIONS) and name not in _DELTA_OPTIONS
    }
    client_options: dict[str, Any] = connection
    if allow_http is not None:
        client_options["allow_http"] = str(allow_http).lower() in {"1", "true"}
    with storage_errors("open the store", Exception):
        retry: RetryConfig = {"max_retries": int(lowered["max_retries"]), "backoff": _BACKOFF}
        return from_url(location, config=store, client_options=client_options, retry_config=retry)
