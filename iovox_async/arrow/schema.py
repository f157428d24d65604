"""Which columns a batch has, and of what types.

The law of this room: the fields that were asked for decide the schema, and the answers never do. Columns have the names
and the order of the attributes of `Call`; `extra` comes last.

==================================================  ========================================================
attribute of a record                               column
==================================================  ========================================================
`str`                                               `string`
`int`                                               `int64`
`bool`                                              `bool`
`datetime`                                          `timestamp[us]`; with a time zone `timestamp[us, tz=...]`
`timedelta`                                         `duration[us]`
`Categories`                                        a struct of four lists; null where the record has None
a list of parts (comments, tags, ...)               a list of structs, with the attributes of the part; never null
`call_outcomes`                                     `string`, a JSON list: the endpoint does not say what is in it
`extra`, of calls and of their parts                `string`, a JSON object, or null where there is nothing
==================================================  ========================================================

Microseconds, since they hold whatever a record can hold, and since pandas, polars, DuckDB and Parquet all know them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo
from functools import cache
from typing import Any, Final, Literal, TypeAlias, get_args

import pyarrow as pa
from attrs import frozen

from .._params.timezones import zone_of
from .._params.validators import InvalidValue
from .._parsing.compiled import response_keys
from ..errors import ConfigurationError
from ..fields import AskedFields, Fields, as_fields
from ..models import Call, Categories, item_type, types_of

__all__ = [
    "EXTRA",
    "SCHEMA",
    "ColumnType",
    "columns_for",
    "name_of",
    "schema_for",
    "schema_of",
    "shapes_of",
]

EXTRA: Final = "extra"

Tag: TypeAlias = Literal["text", "whole", "flag", "moment", "span", "json", "keys", "list", "struct"]


@frozen
class ColumnType:
    """What a column holds; `part` is the class of record of a list or struct; `keys` is for `extra`."""

    tag: Tag
    part: Any = None

    def parsed(self) -> pa.DataType:
        """What Arrow's JSON reader is told to read; dates, durations and flags are text to it."""
        match self.tag:
            case "list":
                return pa.list_(self._parsed_parts())
            case "struct":
                return self._parsed_parts()
        return pa.int64() if self.tag == "whole" else pa.string()

    def _parsed_parts(self) -> pa.DataType:
        return pa.struct([(name, shape.parsed()) for name, shape in shapes_of(self.part).items()])

    def type(self, zone: str | None = None) -> pa.DataType:
        """What a batch holds."""
        match self.tag:
            case "list":
                return pa.list_(self._parts(zone))
            case "struct":
                return self._parts(zone)
            case "moment":
                return pa.timestamp("us", tz=zone)
            case "span":
                return pa.duration("us")
            case "flag":
                return pa.bool_()
        return self.parsed()

    def _parts(self, zone: str | None) -> pa.DataType:
        members = [(name, shape.type(zone)) for name, shape in shapes_of(self.part).items()]
        return pa.struct([*members, (EXTRA, pa.string())])


@cache
def shapes_of(part: Any) -> dict[str, ColumnType]:
    """The attributes of a class of record, `extra` left out, each with its shape."""
    return {name: _shape(known) for name, known in types_of(part).items()}


def _shape(known: Any) -> ColumnType:
    item = item_type(known)
    if item:
        return ColumnType("json") if item is Any else ColumnType("list", item)
    options = set(get_args(known)) or {known}
    if Categories in options:
        return ColumnType("struct", Categories)
    tags: dict[Any, Tag] = {datetime: "moment", timedelta: "span", bool: "flag", int: "whole"}
    return ColumnType(next((tag for kind, tag in tags.items() if kind in options), "text"))


def columns_for(fields: Iterable[str]) -> tuple[str, ...]:
    """The columns that these fields are answered in, `extra` left out, in the order of the schema."""
    keys = set(response_keys(tuple(map(str, fields))))
    return tuple(name for name in shapes_of(Call) if name in keys)


def schema_of(columns: Iterable[str], zone: tzinfo | None) -> pa.Schema:
    """The schema of these columns and `extra`."""
    name = None if zone is None else name_of(zone)
    shapes = shapes_of(Call)
    return pa.schema([*((column, shapes[column].type(name)) for column in columns), (EXTRA, pa.string())])


def schema_for(fields: AskedFields = Fields.DEFAULT, timezone: tzinfo | str | None = None) -> pa.Schema:
    """The schema of every batch of a stream with these fields, in a session with this time zone.

    A field has the column it is answered in: `talk_time_seconds` has `talk_time_sec` (which comes along with `talk_time`,
    as in answers), `tag_colour` is in `tags`. Keys that nobody knows yet are in `extra`; known ones that were not asked
    for are left out.

    Raises:
        ConfigurationError: a field or the time zone does not exist.
    """
    try:
        asked = as_fields(fields) or Fields.DEFAULT
    except InvalidValue as error:
        raise ConfigurationError(f"fields: {error}") from None
    return schema_of(columns_for(asked), zone_of(timezone))


def name_of(zone: tzinfo) -> str:
    """The name that Arrow knows a zone by. One without a name is shown in UTC: the instants are the same."""
    name = getattr(zone, "key", None)
    if name:
        return str(name)
    offset = zone.utcoffset(None)
    if offset is None:
        return "UTC"
    minutes, rest = divmod(offset, timedelta(minutes=1))
    sign = "-" if minutes < 0 else "+"
    return "UTC" if rest else f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


#: Every column, in order, for a session without a time zone.
SCHEMA: Final = schema_for(Fields.ALL)
