"""Makes columns from records: for pages that the faster decoders do not support, and for calls that a program has.

A column holds what the attribute of the record holds. The only value that a record can hold and a column cannot, an integer
beyond 64 bits, is a `RecordError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from .._params.timezones import zone_of
from ..errors import RecordError
from ..fields import FieldNames, Fields
from ..models import Call
from ._arrays import bool_array, int_array, offset_array, str_array
from ._columns import Columns, whole_seconds, with_sort_keys
from ._from_json import json_text
from ._timezones import MICROSECOND, to_microseconds
from .schema import EXTRA, ColumnType, column_types, schema_for, zone_name

if TYPE_CHECKING:
    from .._parsing.decoder import CallDecoder
    from .._parsing.page import Block

#: Records in one batch: a few milliseconds of work.
_BATCH_ROWS: Final = 1000
#: The errors of values that do not fit a column.
_VALUE_ERRORS: Final = (ValueError, TypeError, OverflowError, AttributeError, RecursionError)
_EXTRA: Final = ColumnType("extra")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class RecordColumns:
    """Makes batches of calls; dates without a time zone are local times of the given one."""

    def __init__(self, schema: pa.Schema, zone: tzinfo | None) -> None:
        self._schema = schema
        self._zone = zone
        self._datetime = ColumnType("datetime").arrow_type(None if zone is None else zone_name(zone))
        self._types = {name: column_types(Call).get(name, _EXTRA) for name in schema.names}

    def decode(self, block: Block, decoder: CallDecoder, *, sort_keys: bool) -> Columns:
        """The columns of a block, by way of its records, which the decoder makes and counts.

        Raises:
            RecordError: a record is invalid, and `on_error` is `raise`.
        """
        calls = decoder.batch(block.segment.data, block.index, block.rows)
        if decoder.skips_errors:
            while True:
                try:
                    batch = self.batch(calls)
                    break
                except RecordError as error:
                    call = calls.pop(error.index)
                    decoder.skip(call.call_start, call.id)
        else:
            rows = range(block.count) if block.rows is None else block.rows
            batch = self.batch(calls, [block.index + row for row in rows])
        if not sort_keys:
            return Columns(batch)
        starts = int_array([to_microseconds(call.call_start.replace(tzinfo=None)) for call in calls])
        ids = int_array([call.id for call in calls])
        schema = with_sort_keys(self._schema)
        return Columns(pa.RecordBatch.from_arrays([*batch.columns, starts, ids], schema=schema))

    def batch(self, calls: Sequence[Call], indexes: Sequence[int] | None = None) -> pa.RecordBatch:
        """A batch of these calls; the indexes are for error messages, and count from 0 by default.

        Raises:
            RecordError: a value does not fit its column.
        """
        arrays = []
        for name, column in self._types.items():
            values = [getattr(call, name) for call in calls]
            try:
                arrays.append(self._array(column, values))
                continue
            except _VALUE_ERRORS:
                error = self._error_of(name, column, values, indexes or range(len(calls)))
            # The variables of this frame and of the other error's must not show the values.
            values, arrays = [], []
            raise error
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _error_of(
        self, name: str, column: ColumnType, values: Sequence[Any], indexes: Sequence[int]
    ) -> RecordError:
        """The error of the first record whose value does not fit the column."""
        index = 0
        for index, value in zip(indexes, values, strict=True):  # noqa: B007 - the last one is reported
            try:
                self._array(column, [value])
            except _VALUE_ERRORS:
                break
        problem = "does not fit its Arrow column, for example because it is an integer beyond 64 bits"
        return RecordError(index, f"$[{index}].{name}", problem)

    def _array(self, column: ColumnType, values: Sequence[Any]) -> pa.Array:
        match column.kind:
            case "int":
                return int_array(values)
            case "bool":
                return bool_array(values)
            case "datetime":
                instants = [None if value is None else self._microseconds(value) for value in values]
                return int_array(instants).view(self._datetime)
            case "duration":
                return int_array([None if value is None else whole_seconds(value) for value in values])
            case "json":
                return str_array([json_text(list(value)) for value in values])
            case "extra":
                return str_array([json_text(dict(value)) if value else None for value in values])
            case "list":
                parts = self._struct(column.model, [*chain.from_iterable(values)])
                return pa.ListArray.from_arrays(offset_array(map(len, values)), parts)
            case "struct":
                return self._struct(column.model, values)
        return str_array(values)

    def _struct(self, model: Any, values: Sequence[Any]) -> pa.StructArray:
        types = {**column_types(model), EXTRA: _EXTRA}
        has_nulls = None in values
        empty = model()
        parts = [empty if value is None else value for value in values] if has_nulls else values
        return pa.StructArray.from_arrays(
            [self._array(column, [getattr(part, name) for part in parts]) for name, column in types.items()],
            names=[*types],
            mask=bool_array([value is None for value in values]) if has_nulls else None,
        )

    def _microseconds(self, value: datetime) -> int:
        """Microseconds from 1970: of local time for a client without a time zone, else of the instant.

        The difference of two aware dates follows the folds and gaps of their time zone.
        """
        if self._zone is None:
            return to_microseconds(value.replace(tzinfo=None))
        aware = value if value.tzinfo is not None else value.replace(tzinfo=self._zone)
        return (aware - _EPOCH) // MICROSECOND


def table_from_calls(
    calls: Iterable[Call], fields: FieldNames = Fields.DEFAULT, timezone: tzinfo | str | None = None
) -> pa.Table:
    """A table of calls, with the schema `schema_for(fields, timezone)`.

    Other attributes of the calls are left out. With a time zone, dates without one are taken to be its local time.

    Raises:
        ConfigurationError: a field or the time zone does not exist.
        RecordError: a value does not fit its column (an integer beyond 64 bits); `index` is its position in `calls`.
    """
    schema = schema_for(fields, timezone)
    columns = RecordColumns(schema, zone_of(timezone))
    all_calls = list(calls)
    starts = range(0, len(all_calls), _BATCH_ROWS)
    batches = [
        columns.batch(
            all_calls[start : start + _BATCH_ROWS],
            range(start, start + _BATCH_ROWS)[: len(all_calls) - start],
        )
        for start in starts
    ]
    return pa.Table.from_batches(batches, schema)
