"""The exact way: records to columns.

The law of this room: a column holds what the record's attribute holds. The one thing that a record can hold and a column
cannot, a number beyond 64 bits, is a `RecordError` that names its place, never another number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import chain
from typing import Any, Final

import pyarrow as pa

from .._params.timezones import zone_of
from ..errors import RecordError
from ..fields import AskedFields, Fields
from ..models import Call
from ._arrays import flags, offsets, texts, wholes
from ._from_json import json_text
from .schema import EXTRA, ColumnType, name_of, schema_for, shapes_of

__all__ = ["InvalidCallError", "RecordColumns", "table_from_calls"]

#: Records made into one batch: a few milliseconds of work.
_SLICE: Final = 1000

#: What a value raises that does not fit a column.
_UNFIT: Final = (ValueError, TypeError, OverflowError, AttributeError, RecursionError)
_MICROSECOND: Final = timedelta(microseconds=1)
_EXTRA: Final = ColumnType("keys")
#: What is subtracted from a date, without a time zone and with one.
_EPOCHS: Final = (datetime(1970, 1, 1), datetime(1970, 1, 1, tzinfo=UTC))  # noqa: DTZ001 - account-local


class InvalidCallError(Exception):
    """The call in this place has a value that its column cannot hold."""

    def __init__(self, place: int, name: str) -> None:
        super().__init__(place, name)
        self.place = place
        self.name = name

    def at(self, index: int) -> RecordError:
        """The error of the record with this index."""
        problem = "holds what its Arrow column cannot, such as a number beyond 64 bits"
        return RecordError(index, f"$[{index}].{self.name}", problem)


class RecordColumns:
    """Makes columns of calls.

    Args:
        schema: the columns.
        zone: the account's, for dates of records that have none.
    """

    def __init__(self, schema: pa.Schema, zone: tzinfo | None) -> None:
        self.schema = schema
        self._zone = zone
        self._moments = ColumnType("moment").type(None if zone is None else name_of(zone))
        self._columns = {name: shapes_of(Call).get(name, _EXTRA) for name in schema.names}

    def batch(self, calls: Sequence[Call]) -> pa.RecordBatch:
        """A batch of these calls.

        Raises:
            InvalidCallError: a value does not fit its column.
        """
        arrays = [
            self._named(name, shape, [getattr(call, name) for call in calls])
            for name, shape in self._columns.items()
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _named(self, name: str, shape: ColumnType, values: Sequence[Any]) -> pa.Array:
        try:
            return self._column(shape, values)
        except _UNFIT:
            for place, value in enumerate(values):
                try:
                    self._column(shape, [value])
                except _UNFIT:
                    raise InvalidCallError(place, name) from None
            raise

    def _column(self, shape: ColumnType, values: Sequence[Any]) -> pa.Array:
        match shape.tag:
            case "whole":
                return wholes(values)
            case "flag":
                return flags(values)
            case "moment":
                moments = [None if value is None else self._moment(value) for value in values]
                return wholes(moments).view(self._moments)
            case "span":
                return wholes([None if value is None else value // _MICROSECOND for value in values]).view(
                    shape.type()
                )
            case "json":
                return texts([json_text(list(value)) for value in values])
            case "keys":
                return texts([json_text(dict(value)) if value else None for value in values])
            case "list":
                places = offsets(map(len, values))
                return pa.ListArray.from_arrays(
                    places, self._struct(shape.part, [*chain.from_iterable(values)])
                )
            case "struct":
                return self._struct(shape.part, values)
        return texts(values)

    def _struct(self, part: Any, values: Sequence[Any]) -> pa.StructArray:
        shapes = {**shapes_of(part), EXTRA: _EXTRA}
        gaps = None in values
        empty = part()
        there = [empty if value is None else value for value in values] if gaps else values
        return pa.StructArray.from_arrays(
            [
                self._column(shape, [getattr(value, name) for value in there])
                for name, shape in shapes.items()
            ],
            names=[*shapes],
            mask=flags([value is None for value in values]) if gaps else None,
        )

    def _moment(self, value: datetime) -> int:
        """Microseconds from 1970: of wall time in a session without a time zone, else of instants.

        The difference of two aware dates minds folds and gaps as their time zone does.
        """
        if self._zone is None:
            naive = value if value.tzinfo is None else value.replace(tzinfo=None)
            return (naive - _EPOCHS[0]) // _MICROSECOND
        return (
            (value if value.tzinfo is not None else value.replace(tzinfo=self._zone)) - _EPOCHS[1]
        ) // _MICROSECOND


def table_from_calls(
    calls: Iterable[Call], fields: AskedFields = Fields.DEFAULT, timezone: tzinfo | str | None = None
) -> pa.Table:
    """A table of calls that are records already, with the schema `schema_for(fields, timezone)`.

    What the records hold beyond these fields is left out. With a time zone, dates without one are taken to be its wall time.

    Raises:
        ConfigurationError: a field or the time zone does not exist.
        RecordError: a value does not fit its column (a number beyond 64 bits); `index` is its place among the calls.
    """
    schema = schema_for(fields, timezone)
    writer = RecordColumns(schema, zone_of(timezone))
    every = list(calls)
    batches = []
    for begin in range(0, len(every), _SLICE):
        try:
            batches.append(writer.batch(every[begin : begin + _SLICE]))
        except InvalidCallError as error:
            raise error.at(begin + error.place) from None
    return pa.Table.from_batches(batches, schema)
