"""Arrow schemas of calls: which columns a batch has, and their types.

The columns depend on the requested fields only, never on the responses. They have the names and the order of the
attributes of `Call`; `extra` comes last.

==================================================  ========================================================
attribute of a record                               column
==================================================  ========================================================
`str`                                               `string`
`int`                                               `int64`
`bool`                                              `bool`
`datetime`                                          `timestamp[us]`; with a time zone `timestamp[us, tz=...]`
`timedelta`                                         `int64`: whole seconds; a fraction is cut
`Categories`                                        a struct of four lists; null where the record has None
a list of parts (comments, tags, ...)               a list of structs, with the attributes of the part; never null
`call_outcomes`                                     `string`, a JSON list: its items are not documented
`extra`, of calls and of their parts                `string`, a JSON object; null if there are no unknown keys
==================================================  ========================================================

Every column holds the same values in Arrow, Parquet, dlt and Dask, and every common reader takes its type. So a duration is a
number of seconds: DuckDB reads Arrow durations in Parquet as bare numbers, and Delta tables have no such type. A time zone has
its IANA name; a fixed offset, which polars refuses, is shown in UTC: the instants are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo
from functools import cache
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
import pyarrow as pa

from .._params.timezones import zone_of
from .._params.validators import InvalidValue
from .._parsing.compiled import requested_keys
from ..errors import ConfigurationError
from ..fields import FieldNames, Fields, as_fields
from ..models import Call, Categories, item_type, types_of

__all__ = ["SCHEMA", "schema_for"]

EXTRA: Final = "extra"

ColumnKind: TypeAlias = Literal[
    "str", "int", "bool", "datetime", "duration", "json", "extra", "list", "struct"
]


class ColumnType(msgspec.Struct, frozen=True):
    """The type of a column.

    Attributes:
        kind: what its values are; `json` and `extra` are JSON in text.
        model: for a list or a struct, the class of its parts.
    """

    kind: ColumnKind
    model: Any = None

    def json_type(self) -> pa.DataType:
        """The type to read from JSON: dates, durations and booleans are text there."""
        if self.model is not None:
            struct = pa.struct(
                [(name, column.json_type()) for name, column in column_types(self.model).items()]
            )
            return pa.list_(struct) if self.kind == "list" else struct
        return pa.int64() if self.kind == "int" else pa.string()

    def arrow_type(self, zone: str | None = None) -> pa.DataType:
        """The type in a batch; `zone` is the name of the time zone."""
        if self.model is not None:
            members = [(name, column.arrow_type(zone)) for name, column in column_types(self.model).items()]
            struct = pa.struct([*members, (EXTRA, pa.string())])
            return pa.list_(struct) if self.kind == "list" else struct
        types = {"datetime": pa.timestamp("us", tz=zone), "duration": pa.int64(), "bool": pa.bool_()}
        return types.get(self.kind) or self.json_type()


@cache
def column_types(model: Any) -> dict[str, ColumnType]:
    """The type of the column of each attribute of a model class, `extra` left out."""
    return {name: _column_type(annotation) for name, annotation in types_of(model).items()}


def _column_type(annotation: Any) -> ColumnType:
    item = item_type(annotation)
    if item:
        return ColumnType("json") if item is Any else ColumnType("list", item)
    options = set(get_args(annotation)) or {annotation}
    if Categories in options:
        return ColumnType("struct", Categories)
    kinds: dict[Any, ColumnKind] = {datetime: "datetime", timedelta: "duration", bool: "bool", int: "int"}
    return ColumnType(next((kind for option, kind in kinds.items() if option in options), "str"))


def column_names(fields: Iterable[str]) -> tuple[str, ...]:
    """The columns that hold these fields, in the order of the schema, `extra` left out."""
    return in_schema_order(requested_keys(map(str, fields)))


def in_schema_order(keys: Iterable[str]) -> tuple[str, ...]:
    """The columns with these names, in the order of the schema."""
    names = set(keys)
    return tuple(name for name in column_types(Call) if name in names)


def schema_of(columns: Iterable[str], zone: tzinfo | None) -> pa.Schema:
    """The schema of these columns and `extra`."""
    name = None if zone is None else zone_name(zone)
    types = column_types(Call)
    return pa.schema(
        [*((column, types[column].arrow_type(name)) for column in columns), (EXTRA, pa.string())]
    )


def schema_for(fields: FieldNames = Fields.DEFAULT, timezone: tzinfo | str | None = None) -> pa.Schema:
    """The schema of every batch of a stream with these fields, for a client with this time zone.

    A field is in the column of the response that holds it: `talk_time_seconds` in `talk_time_sec`, `tag_colour` in
    `tags`. Keys that this version has no field for are in `extra`; other keys that were not requested are left out.

    Raises:
        ConfigurationError: a field or the time zone does not exist.
    """
    try:
        requested = as_fields(fields) or Fields.DEFAULT
    except InvalidValue as error:
        raise ConfigurationError("fields", str(error), error.hint) from None
    return schema_of(column_names(requested), zone_of(timezone))


def zone_name(zone: tzinfo) -> str:
    """The name of a time zone in Arrow. A zone without an IANA name is shown in UTC: the instants are the same."""
    name = str(getattr(zone, "key", None) or "UTC")
    # Names that only the files of this machine have.
    return "UTC" if name.startswith(("posix/", "right/")) or name in {"localtime", "posixrules"} else name


#: Every column, in order, for a client without a time zone.
SCHEMA: Final = schema_for(Fields.ALL)
