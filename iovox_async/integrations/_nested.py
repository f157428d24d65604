"""Writes nested Arrow columns as JSON text, for programs whose tables have no nested types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa


def nested_to_json(table: pa.RecordBatch | pa.Table) -> pa.Table:
    """A table with the same columns, in which lists and structs are JSON."""
    import pyarrow as pa

    columns = [
        pa.array(map(_to_json, column.to_pylist()), pa.string())
        if pa.types.is_nested(column.type)
        else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.schema.names)


def _to_json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
