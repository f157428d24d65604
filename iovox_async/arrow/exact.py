"""The exact way: records to columns.

The law of this room: a column holds what the record's attribute holds. The one thing that a record can hold and a column
cannot, a number beyond 64 bits, is a `RecordError` that names its place, never another number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final

import pyarrow as pa

from ..errors import RecordError
from ..fields import AskedFields, Fields
from ..records import Call
from .fast import json_text
from .instants import microseconds
from .schema import EXTRA, Shape, schema_for, shapes_of, zone_of

__all__ = ["UnfitCallError", "Writer", "table_from_calls"]

#: Records made into one batch: a few milliseconds of work.
_SLICE: Final = 1000

#: What Arrow raises at a value that does not fit a column.
_UNFIT: Final = (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, TypeError, OverflowError, AttributeError)


class UnfitCallError(Exception):
    """The call in this place has a value that its column cannot hold."""

    def __init__(self, place: int, name: str) -> None:
        super().__init__(place, name)
        self.place = place
        self.name = name

    def at(self, index: int) -> RecordError:
        """The error of the record with this index."""
        problem = "holds what its Arrow column cannot, such as a number beyond 64 bits"
        return RecordError(index, f"$[{index}].{self.name}", problem)


class Writer:
    """Makes columns of calls.

    Args:
        schema: the columns.
        zone: the account's, for dates of records that have none.
    """

    def __init__(self, schema: pa.Schema, zone: tzinfo | None) -> None:
        self.schema = schema
        shapes = shapes_of(Call)
        self._columns = [
            (member.name, _plain(shapes[member.name], zone), member.type)
            for member in schema
            if member.name != EXTRA
        ]

    def batch(self, calls: Sequence[Call]) -> pa.RecordBatch:
        """A batch of these calls.

        Raises:
            UnfitCallError: a value does not fit its column.
        """
        arrays = [self._array(calls, name, plain, kind) for name, plain, kind in self._columns]
        arrays.append(self._array(calls, EXTRA, _extra, pa.string()))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    @staticmethod
    def _array(
        calls: Sequence[Call], name: str, plain: Callable[[Any], Any] | None, kind: pa.DataType
    ) -> pa.Array:
        values = [getattr(call, name) for call in calls]
        try:
            return pa.array(values if plain is None else map(plain, values), kind, size=len(values))
        except _UNFIT:
            for place, value in enumerate(values):
                try:
                    pa.array([value if plain is None else plain(value)], kind)
                except _UNFIT:
                    raise UnfitCallError(place, name) from None
            raise


def _plain(shape: Shape, zone: tzinfo | None) -> Callable[[Any], Any] | None:
    """What makes of an attribute something that `pyarrow.array` takes; None where it is that already."""
    match shape.tag:
        case "moment":
            return lambda value: None if value is None else _instant(value, zone)
        case "json":
            return lambda value: json_text(list(value))
        case "list":
            part = _part(shape.part, zone)
            return lambda value: [part(item) for item in value]
        case "struct":
            part = _part(shape.part, zone)
            return lambda value: None if value is None else part(value)
    return None


def _part(kind: Any, zone: tzinfo | None) -> Callable[[Any], dict[str, Any]]:
    members = [(name, _plain(shape, zone)) for name, shape in shapes_of(kind).items()]
    members.append((EXTRA, _extra))

    def part(item: Any) -> dict[str, Any]:
        return {
            name: getattr(item, name) if plain is None else plain(getattr(item, name))
            for name, plain in members
        }

    return part


def _extra(value: Any) -> str | None:
    return json_text(dict(value)) if value else None


def _instant(value: datetime, zone: tzinfo | None) -> int:
    """Microseconds from 1970: of wall time in a session without a time zone, else of instants."""
    naive = microseconds(value.replace(tzinfo=None))
    if zone is None:
        return naive
    offset = (value if value.tzinfo is not None else value.replace(tzinfo=zone)).utcoffset()
    return naive if offset is None else naive - offset // timedelta(microseconds=1)


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
    writer = Writer(schema, zone_of(timezone))
    every = list(calls)
    batches = []
    for begin in range(0, len(every), _SLICE):
        try:
            batches.append(writer.batch(every[begin : begin + _SLICE]))
        except UnfitCallError as error:
            raise error.at(begin + error.place) from None
    return pa.Table.from_batches(batches, schema)
