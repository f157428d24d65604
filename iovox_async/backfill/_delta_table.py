"""Reads and writes a Delta table of calls with the public functions of the package `deltalake`."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .._redaction import hide_userinfo
from ..errors import BackfillError, MissingExtraError
from ._delta_log import read_transactions
from ._storage import is_url, storage_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pyarrow as pa

    from ._manifest import ManifestEntry

logger: logging.Logger = logging.getLogger("iovox_async")

#: A column of the rows to merge: whether the call is to be deleted.
DELETED: Final = "_iovox_deleted"
#: Retries of a request to a store, unless the options say otherwise: for a few minutes. The package's own ten give up after less than one.
_RETRIES: Final = {"max_retries": "30", "backoff_config.init_backoff": "1s"}


class CommitConflictError(BackfillError):
    """Another program has committed a change of what a commit depends on."""


class DeltaCalls:
    """A Delta table of calls, partitioned by `date`. Every method raises `BackfillError` if the store refuses.

    Args:
        location: the table's path or URL.
        options: the store's options, as `deltalake` takes them.

    Attributes:
        location: the same, without `file://`.
        folder: the table's path, if it is on this machine.

    Raises:
        MissingExtraError: the package `deltalake` is not installed.
    """

    def __init__(self, location: str, options: Mapping[str, str] | None = None) -> None:
        try:
            import deltalake  # noqa: F401 - only to check that it is installed
        except ImportError as error:
            raise MissingExtraError("the format delta", "delta") from error
        self.location = location.removeprefix("file://")
        self.folder: Path | None = None if is_url(self.location) else Path(self.location)
        self.options = {**_RETRIES, **(options or {})}
        self._table: Any = None
        self._dataset: Any = None
        #: Several threads read days of the loaded version, any of which may load another one.
        self._mutex = threading.RLock()

    def __str__(self) -> str:
        return hide_userinfo(self.location)

    def load(self) -> bool:
        """Loads the latest version; returns whether the table exists."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        with self._mutex, self._errors("open"):
            self._dataset = None
            try:
                # Not `is_deltatable`, which keeps other threads waiting for the store.
                self._table = DeltaTable(self.location, storage_options=self.options)
            except TableNotFoundError:
                return False
        return True

    def create(self, schema: pa.Schema, properties: dict[str, str]) -> None:
        """Creates the table.

        Raises:
            CommitConflictError: another program has created it.
        """
        import pyarrow as pa
        from deltalake import DeltaTable

        with self._errors("create"):
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._table = DeltaTable.create(
                    self.location,
                    schema=schema.append(pa.field("date", pa.date32())),
                    partition_by=["date"],
                    configuration={"delta.enableChangeDataFeed": "true", **properties},
                    storage_options=self.options,
                    raise_if_key_not_exists=False,
                )
            except Exception as error:
                if self.load():
                    raise self._conflict() from error
                raise

    @property
    def properties(self) -> dict[str, str]:
        """The properties of the loaded version."""
        with self._errors("read"):
            return dict(self._table.metadata().configuration)

    def set_properties(self, properties: dict[str, str]) -> None:
        """Commits properties."""
        with self._errors("write to"), self._conflicts():
            self._table.alter.set_table_properties(properties, raise_if_not_exists=False)
        self.load()

    def transaction(self, name: str) -> int | None:
        """The number of an application transaction in the loaded version."""
        with self._errors("read"):
            number: int | None = self._table.transaction_version(name)
            return number

    def transactions(self) -> Callable[[str], int | None]:
        """A function as `transaction`, which reads the log only once."""
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import PyFileSystem

        try:
            files = PyFileSystem(DeltaStorageHandler(self._table.table_uri, self.options))
            return read_transactions(files, self._table.version()).get
        except Exception as error:  # noqa: BLE001 - as `read_transactions` documents
            logger.debug("the transactions of %s are looked up one by one: %s", self, type(error).__name__)
            return self.transaction

    def add_columns(self, schema: pa.Schema) -> None:
        """Adds the columns of the schema that the table does not have."""
        import pyarrow as pa
        from deltalake import Schema

        names = {field.name for field in self._table.schema().fields}
        missing = [field for field in schema if field.name not in names]
        if missing:
            with self._errors("write to"), self._conflicts():
                self._table.alter.add_columns(Schema.from_arrow(pa.schema(missing)).fields)
            self.load()

    def rows_by_day(self) -> dict[str, int]:
        """How many calls the loaded version holds, by day."""
        if self._table is None:
            return {}
        import pyarrow as pa

        with self._errors("read"):
            actions = pa.table(self._table.get_add_actions(flatten=True))
        days, counts = actions["partition.date"].to_pylist(), actions["num_records"].to_pylist()
        rows: dict[str, int] = {}
        for day, count in zip(days, counts, strict=True):
            rows[str(day)] = rows.get(str(day), 0) + (count or 0)
        return rows

    def read_day(self, day: str, columns: list[str] | None = None) -> pa.Table:
        """The calls of a day in the loaded version."""
        import pyarrow.compute as pc

        with self._errors("read"):
            with self._mutex:
                if self._dataset is None:
                    self._dataset = self._table.to_pyarrow_dataset()
                dataset = self._dataset
            names = columns or [name for name in dataset.schema.names if name != "date"]
            return dataset.to_table(columns=names, filter=pc.field("date") == date.fromisoformat(day))

    def append(self, entries: Iterable[ManifestEntry], transactions: dict[str, int]) -> None:
        """Commits the files of days.

        Raises:
            CommitConflictError: a transaction of the same name was committed since the version was loaded.
        """
        from deltalake.transaction import AddAction

        now = int(time.time() * 1000)
        actions = [
            AddAction(entry.file, entry.bytes, {"date": entry.partition}, now, True, _statistics(entry))
            for entry in entries
            if entry.file
        ]
        with self._errors("write to"), self._conflicts():
            self._table.create_write_transaction(
                actions, "append", self._table.schema(), ["date"], commit_properties=_commit(transactions)
            )
        self.load()

    def merge(self, rows: pa.Table, transactions: dict[str, int]) -> None:
        """Commits changes of calls by their day and id: rows to update, to insert, or, with `DELETED`, to delete.

        Raises:
            CommitConflictError: the days were changed since the version was loaded.
        """
        from deltalake import WriterProperties

        days = sorted({str(day) for day in rows["date"].unique().to_pylist()})
        listed = ", ".join(f"'{day}'" for day in days)
        columns = {name: f"source.{name}" for name in rows.schema.names if name != DELETED}
        with self._errors("write to"), self._conflicts():
            merger = self._table.merge(
                rows,
                f"target.date IN ({listed}) AND target.date = source.date AND target.id = source.id",
                source_alias="source",
                target_alias="target",
                writer_properties=WriterProperties(compression="ZSTD"),
                commit_properties=_commit(transactions),
            )
            merger = merger.when_matched_delete(f"source.{DELETED}")
            updates = {name: value for name, value in columns.items() if name not in {"id", "date"}}
            merger = merger.when_matched_update(updates, f"NOT source.{DELETED}")
            merger.when_not_matched_insert(columns, f"NOT source.{DELETED}").execute()
        self.load()

    def changes(self, since: datetime | int | None) -> pa.RecordBatchReader:
        """The change data feed from a version or an aware time on."""
        import pyarrow as pa

        version = since if isinstance(since, int) else None
        time = since.isoformat() if isinstance(since, datetime) else None
        with self._errors("read the changes of"):
            # The version 0 creates the table.
            first = 0 if since is None else version
            feed = self._table.load_cdf(first, starting_timestamp=time, allow_out_of_range=True)
            return pa.RecordBatchReader.from_stream(feed)

    def delete_before(self, day: str, transactions: dict[str, int]) -> None:
        """Deletes the calls of the days before a day."""
        with self._errors("write to"), self._conflicts():
            self._table.delete(f"date < '{day}'", commit_properties=_commit(transactions))
        self.load()

    def forget_missing_files(self) -> None:
        """Removes files that are missing in the store from the table, so that it can be read."""
        with self._mutex:
            with self._errors("repair"):
                self._table.repair()
            self.load()

    @contextlib.contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        # The package raises exceptions of several kinds.
        with storage_errors(f"{action} the table {self}", Exception):
            yield

    @contextlib.contextmanager
    def _conflicts(self) -> Iterator[None]:
        from deltalake.exceptions import CommitFailedError

        try:
            yield
        except CommitFailedError as error:
            raise self._conflict() from error

    def _conflict(self) -> CommitConflictError:
        return CommitConflictError(
            f"another program has changed the table {self} at the same time",
            hint="Run the same backfill again.",
        )


def _commit(transactions: dict[str, int]) -> Any:
    from deltalake import CommitProperties, Transaction

    return CommitProperties(app_transactions=[Transaction(*item) for item in transactions.items()])


def _statistics(entry: ManifestEntry) -> str:
    return json.dumps(
        {
            "numRecords": entry.rows,
            "minValues": {"id": entry.first_id},
            "maxValues": {"id": entry.last_id},
            "nullCount": {"id": 0},
        }
    )
