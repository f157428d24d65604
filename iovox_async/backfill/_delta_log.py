"""Reads all application transactions of a Delta table at once.

`deltalake` looks one up at a time, and reads the log each time; the certificates of years are tens of thousands. The form of the log
is part of Delta's protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyarrow.fs import FileSystem

_LOG: Final = "_delta_log"


class _Transaction(msgspec.Struct, rename={"app_id": "appId"}):
    app_id: str
    version: int


class _Line(msgspec.Struct):
    txn: _Transaction | None = None


class _LastCheckpoint(msgspec.Struct):
    version: int
    parts: int | None = None


def read_transactions(files: FileSystem, version: int) -> dict[str, int]:
    """The number of each transaction in a version of a table.

    Args:
        files: the table's files.
        version: the version, which is the latest.

    Raises:
        Exception: of any kind; the log was written in another form, or has newer versions.
    """
    numbers: dict[str, int] = {}
    first = 0
    try:
        last = msgspec.json.decode(_read(files, f"{_LOG}/_last_checkpoint"), type=_LastCheckpoint)
    except FileNotFoundError:
        pass
    else:
        first = last.version + 1
        numbers = dict(_from_checkpoint(files, last))
    for number in range(first, version + 1):
        for line in _read(files, f"{_LOG}/{number:020}.json").splitlines():
            transaction = msgspec.json.decode(line, type=_Line).txn if b'"txn"' in line else None
            if transaction is not None:
                numbers[transaction.app_id] = transaction.version
    return numbers


def _from_checkpoint(files: FileSystem, last: _LastCheckpoint) -> Iterator[tuple[str, int]]:
    import pyarrow.parquet as pq

    stem = f"{_LOG}/{last.version:020}.checkpoint"
    parts = [f".{part:010}.{last.parts:010}" for part in range(1, last.parts + 1)] if last.parts else [""]
    for part in parts:
        table = pq.read_table(f"{stem}{part}.parquet", columns=["txn"], filesystem=files)
        column = table["txn"].combine_chunks().drop_null()
        yield from zip(column.field("appId").to_pylist(), column.field("version").to_pylist(), strict=True)


def _read(files: FileSystem, path: str) -> bytes:
    with files.open_input_stream(path) as stream:
        data: bytes = stream.readall()
    return data
