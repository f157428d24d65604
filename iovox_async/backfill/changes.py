"""Reads the changes of a Delta table that a backfill writes, from the table's change data feed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, date, datetime, time, tzinfo
from typing import TYPE_CHECKING

from ..errors import BackfillError, ConfigurationError
from ._tasks import run_in_thread

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_changes"]


def read_changes(
    table: str | os.PathLike[str],
    since: datetime | date | int | None = None,
    *,
    storage_options: Mapping[str, str] | None = None,
) -> pa.RecordBatchReader:
    """The changes of a Delta table, as a `pyarrow.RecordBatchReader`, which reads them as they are consumed.

    A row is a call as it was written or deleted, with three more columns:

    - `_change_type`: `insert`, `delete`, or, for an updated call, `update_preimage` (before) and `update_postimage` (after).
    - `_commit_version`: the version of the table.
    - `_commit_timestamp`: when it was committed, in UTC.

    The order of the rows is not defined. A table keeps its changes for 30 days by default (the property
    `delta.logRetentionDuration`), and `vacuum` removes those of removed files.

    Args:
        table: the path or URL of the table.
        since: a time or a day at or after which changes were committed, in UTC if it has no time zone; or the first version of the
            table; None for all changes.
        storage_options: options of the store, as `deltalake` takes them.

    Raises:
        BackfillError: there is no table, or it cannot be read.
        ConfigurationError: `since` is of another type.
        MissingExtraError: the package `deltalake` is not installed.
    """
    return _open_changes(table, since, UTC, storage_options)


def _open_changes(
    table: str | os.PathLike[str],
    since: datetime | date | int | None,
    timezone: tzinfo,
    storage_options: Mapping[str, str] | None,
) -> pa.RecordBatchReader:
    from ._delta_table import DeltaCalls

    calls = DeltaCalls(os.fspath(table), storage_options)
    if not calls.load():
        raise BackfillError(
            f"{calls} is no Delta table", hint="Only a backfill with format delta records its changes."
        )
    return calls.changes(_check_since(since, timezone))


async def stream_changes(
    table: str,
    since: datetime | date | int | None,
    timezone: tzinfo | None,
    storage_options: Mapping[str, str] | None,
) -> AsyncIterator[pa.RecordBatch]:
    """As `read_changes`, read in threads; a time without a time zone is in this one, or in UTC."""
    reader = await run_in_thread(lambda: _open_changes(table, since, timezone or UTC, storage_options))
    batches: Iterator[pa.RecordBatch] = iter(reader)
    while (batch := await run_in_thread(lambda: next(batches, None))) is not None:
        yield batch


def _check_since(since: object, timezone: tzinfo) -> datetime | int | None:
    if since is None or (isinstance(since, int) and not isinstance(since, bool) and since >= 0):
        return since
    if isinstance(since, datetime):
        return since if since.tzinfo is not None else since.replace(tzinfo=timezone)
    if isinstance(since, date):
        return datetime.combine(since, time.min, timezone)
    raise ConfigurationError("since", f"must be a date, a time or a version of the table, got {since!r}")
