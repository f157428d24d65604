"""The fast way: a page's bytes to columns by Arrow's own JSON reader, outside the interpreter's lock.

The law of this room: what is read here, the records would hold just so, and all else is refused whole (`UnsupportedByFastPath`)
for the exact way. No row is touched by Python.

Some segments become one document, `{"c": [ ...rows... ]}`, which is read as a single list of structs; cutting it into
lines would only cost. Dates, durations and flags are read as text and converted after that: Arrow would take some forms
of a date for another thing than the records do. Flags, and durations in any form but the common one, have few distinct
values, which the records' own converter reads. An empty text where none is meant is nothing, and counts as bent, as it does there.

Arrow is told to refuse keys that it was not told of, so that nothing new is dropped unseen. Where it does, it infers them
from then on: a known key that was not asked for is read as what it is, for its value must be a proper one, and is not
handed out; unknown keys, and call outcomes where there are any, are read by msgspec.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta, tzinfo
from functools import lru_cache
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from attrs import define, field
from pyarrow import json as pa_json

from .._params.validators import InvalidValue
from .._parsing.lenient import LenientConverter
from ..models import ALIASES, Call
from ._arrays import constant, flags, nothing, repeated, texts, wholes
from ._document import Document, UnsupportedByFastPath, misfits
from ._from_fixed_layout import FixedLayoutDecoder
from ._timezones import FIRST, OffsetTable, clocks
from .schema import EXTRA, ColumnType, name_of, shapes_of

__all__ = ["JsonColumnDecoder", "Table", "json_text"]

#: Unknown keys, those within them included, at most: more of them are no schema but data.
_UNKNOWN_KEYS: Final = 64
#: A list in which nothing is.
_EMPTY: Final = pa.list_(pa.null())
#: Distinct durations remembered.
_REMEMBERED: Final = 4096
#: A date and a time to the second; what Arrow takes and is shorter, the records count as bent.
_WHOLE_DATE: Final = len("2024-02-26 04:39:59")
_MICROSECOND: Final = timedelta(microseconds=1)

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

#: From places in an array to the rows they belong to.
Up = Callable[[pa.Array], pa.Array]


@define
class Table:
    """Columns by their names.

    Attributes:
        rows: how many rows there are.
        columns: what was asked for, keys included, and `extra`.
        wall: when each call began on the account's wall, in microseconds, if that was asked for.
        bent: rows with a value of unusual form.
    """

    rows: int
    columns: dict[str, pa.Array]
    wall: pa.Int64Array | None = None
    coerced: set[int] = field(factory=set)


def json_text(value: Any) -> str:
    """A value as JSON text: the same whichever way it came here."""
    return _encode(value)


class JsonColumnDecoder:
    """Reads documents for one choice of columns.

    Args:
        columns: the names to read, keys included.
        required: those that must be there in every row.
        zone: the account's; dates become instants.
    """

    def __init__(self, columns: Sequence[str], required: Iterable[str], zone: tzinfo | None) -> None:
        self._known = shapes_of(Call)
        self._columns = frozenset(columns)
        self._required = frozenset(required)
        self._read = set(columns)
        #: Arrow is to infer what it was not told of; and whether it may.
        self._infers = False
        self._may_infer = True
        self._moment = ColumnType("moment").type(None if zone is None else name_of(zone))
        self._wall = None if zone is None else OffsetTable(zone)
        self._document = Document()
        self._uniform = FixedLayoutDecoder(self._known)
        #: Nothing that was asked for is a list or an object.
        self.flat: bool = all(self._known[name].tag not in {"list", "struct", "json"} for name in columns)
        self._tolerant = LenientConverter()
        converter = self._tolerant.converter
        self._hooks: dict[str, tuple[Callable[[Any, Any], Any], dict[str, tuple[Any, bool]]]] = {
            "span": (converter.get_structure_hook(timedelta | None), {}),
            "flag": (converter.get_structure_hook(bool | None), {}),
        }

    def table(self, segments: Sequence[bytes], rows: int) -> Table:
        """The columns of these segments, each a JSON array of objects.

        Raises:
            UnsupportedByFastPath: something in them is unusual.
        """
        with misfits():
            return self._table(segments, rows)

    def page(self, parts: Sequence[bytes]) -> Table | None:
        """The columns of a page in the parts it came in, if it is a whole one and its rows are all written alike."""
        found = self._uniform.page(parts)
        if found is None:
            return None
        arrays, rows = found
        try:
            with misfits():
                return self._made(arrays, Table(rows, {}))
        except UnsupportedByFastPath:
            self._uniform.refuse()
            return None

    def _table(self, segments: Sequence[bytes], rows: int) -> Table:
        table = Table(rows, {})
        arrays = self._uniform.columns(segments, rows) if self.flat else None
        if arrays is None:
            arrays = self._from_json(segments, table)
        return self._made(arrays, table)

    def _made(self, arrays: Mapping[str, pa.Array], table: Table) -> Table:
        """The table with what its raw columns mean."""
        rows = table.rows
        for name in self._read | arrays.keys():
            array = arrays.get(name)
            shape = self._known[name]
            if array is None:
                array = repeated("[]", rows) if shape.tag == "json" else pa.nulls(rows, shape.parsed())
            if shape.tag != "json":
                array = self._column(array, shape, table, _itself, keep_wall=name == "call_start")
            if array.null_count and name in self._required:
                raise UnsupportedByFastPath
            if name in self._columns:
                table.columns[name] = array
        table.columns.setdefault(EXTRA, pa.nulls(rows, pa.string()))
        return table

    def _from_json(self, segments: Sequence[bytes], table: Table) -> dict[str, pa.Array]:
        """The raw columns, as far as there are any; `extra` goes into the table."""
        found = self._found(segments)
        names = _names(found)
        news = sorted(names - self._read)
        if len(found) != table.rows or found.null_count or not ALIASES.keys().isdisjoint(news):
            raise UnsupportedByFastPath
        loose = [name for name in self._plain() if name in names and not _is_empty(found.field(name))]
        decoded = _decoded((*news, *loose), segments) if news or loose else []
        if news:
            table.columns[EXTRA] = _extras(news, decoded)
        arrays = {name: found.field(name) for name in self._read if self._known[name].tag != "json"}
        if any(array.type != self._known[name].parsed() for name, array in arrays.items()):
            raise UnsupportedByFastPath  # a part has keys that nobody knows
        for place, name in enumerate(loose, len(news)):
            arrays[name] = _lists([getattr(row, f"key_{place}") for row in decoded])
        return arrays

    # From bytes to raw columns.

    def _found(self, segments: Sequence[bytes]) -> pa.StructArray:
        """The rows as Arrow reads them, with all that it was not told of."""
        if not self._infers:
            try:
                return self._parsed(segments)
            except pa.ArrowInvalid:
                if not self._learn(segments[:1]):
                    raise
        found = self._parsed(segments)
        if self._infers and not self._is_schema(found):
            self._infers, self._may_infer = False, False
            raise UnsupportedByFastPath
        return found

    def _learn(self, sample: Sequence[bytes]) -> bool:
        """Whether there is something in a sample that Arrow was not told of and may be told to expect."""
        if not self._may_infer:
            return False
        before, self._infers = set(self._read), True
        found = self._parsed(sample)
        names = _names(found)
        self._read |= names & self._known.keys()
        self._infers = bool(names - self._read) or any(
            name in names and not _is_empty(found.field(name)) for name in self._plain()
        )
        if not self._is_schema(found):
            self._infers, self._may_infer = False, False
        return self._infers or self._read != before

    def _is_schema(self, found: pa.StructArray) -> bool:
        """Whether what was found beside the known is a schema, and not data used as keys, which would fill the memory."""
        known = [
            shape.parsed()
            for name, shape in self._known.items()
            if name in self._read and shape.tag != "json"
        ]
        return _keys_in(found.type) - 1 - sum(map(_keys_in, known)) <= _UNKNOWN_KEYS

    def _plain(self) -> list[str]:
        """The lists that may hold anything."""
        return [name for name in self._read if self._known[name].tag == "json"]

    def _parsed(self, segments: Sequence[bytes]) -> pa.StructArray:
        document = self._document.of(segments)
        shapes = {name: shape for name, shape in self._known.items() if name in self._read}
        members = [
            (name, _EMPTY if shape.tag == "json" else shape.parsed())
            for name, shape in shapes.items()
            if shape.tag != "json" or not self._infers
        ]
        table = pa_json.read_json(
            pa.BufferReader(document),
            read_options=pa_json.ReadOptions(use_threads=False, block_size=len(document) + 64),
            parse_options=pa_json.ParseOptions(
                explicit_schema=pa.schema([("c", pa.list_(pa.struct(members)))]),
                unexpected_field_behavior="infer" if self._infers else "error",
            ),
        )
        lists = table.column("c")
        if len(lists) != 1 or lists.num_chunks != 1:
            raise UnsupportedByFastPath
        return lists.chunk(0).values

    # Columns.

    def _column(
        self, array: pa.Array, shape: ColumnType, table: Table, up: Up, *, keep_wall: bool = False
    ) -> pa.Array:
        match shape.tag:
            case "moment":
                wall = _moments(array, table, up)
                if keep_wall:
                    table.wall = wall
                return (wall if self._wall is None else self._wall.instants(wall)).view(self._moment)
            case "span":
                spans = clocks(array)
                return self._few(array, shape, table, up) if spans is None else spans
            case "flag":
                return self._few(array, shape, table, up)
            case "list":
                return self._list(array, shape, table, up)
            case "struct":
                return self._struct(array, shape.part, table, up)
        return array

    def _few(self, array: pa.StringArray, shape: ColumnType, table: Table, up: Up) -> pa.Array:
        """A column of few distinct values, each read once."""
        hook, memory = self._hooks[shape.tag]
        encoded = array.dictionary_encode()
        values: list[Any] = []
        coerced: list[int] = []
        if len(memory) > _REMEMBERED:
            memory.clear()
        for place, text in enumerate(encoded.dictionary.to_pylist()):
            found = memory.get(text)
            if found is None:
                before = self._tolerant.coerced
                try:
                    value = hook(text, None)
                except InvalidValue:
                    raise UnsupportedByFastPath from None
                if isinstance(value, timedelta):
                    value //= _MICROSECOND
                found = memory[text] = value, self._tolerant.coerced > before
            values.append(found[0])
            if found[1]:
                coerced.append(place)
        if coerced:
            odd = pc.is_in(encoded.indices, wholes(coerced).cast(encoded.indices.type))
            table.coerced.update(up(pc.indices_nonzero(odd)).to_pylist())
        column = flags(values) if shape.tag == "flag" else wholes(values).view(shape.type())
        return column.take(encoded.indices)

    def _list(self, array: pa.ListArray, shape: ColumnType, table: Table, up: Up) -> pa.ListArray:
        """A list of parts; a missing one is empty, as in a record."""
        parts = array.values
        if parts.null_count:
            raise UnsupportedByFastPath

        def within(places: pa.Array) -> pa.Array:
            return up(pc.list_parent_indices(array).take(places))

        made = self._struct(parts, shape.part, table, within)
        return pa.ListArray.from_arrays(array.offsets, made)

    def _struct(self, array: pa.StructArray, part: Any, table: Table, up: Up) -> pa.StructArray:
        shapes = shapes_of(part)
        members = [self._column(array.field(name), shape, table, up) for name, shape in shapes.items()]
        return pa.StructArray.from_arrays(
            [*members, pa.nulls(len(array), pa.string())],
            names=[*shapes, EXTRA],
            mask=array.is_null() if array.null_count else None,
        )


def _moments(array: pa.StringArray, table: Table, up: Up) -> pa.Int64Array:
    """Dates as the wall showed them, in microseconds."""
    lengths = pc.binary_length(array)
    shortest = pc.min(lengths).as_py()
    if shortest == 0:
        blank = pc.equal(lengths, constant(0))
        table.coerced.update(up(pc.indices_nonzero(blank)).to_pylist())
        array = pc.if_else(blank, nothing(pa.string()), array)
        shortest = pc.min(pc.binary_length(array)).as_py()
    if shortest is None:
        return pa.nulls(len(array), pa.int64())
    if shortest < _WHOLE_DATE:
        raise UnsupportedByFastPath
    # The cast refuses an offset from UTC, where the JSON reader would apply it.
    wall = array.cast(pa.timestamp("us")).view(pa.int64())
    if pc.min(wall).as_py() < FIRST:
        raise UnsupportedByFastPath
    return wall


def _itself(places: pa.Array) -> pa.Array:
    return places


def _names(rows: pa.StructArray) -> set[str]:
    return {member.name for member in rows.type}


def _keys_in(kind: pa.DataType) -> int:
    """How many keys a column of this type is, itself included."""
    return 1 + sum(_keys_in(kind.field(place).type) for place in range(kind.num_fields))


def _is_empty(array: pa.Array) -> bool:
    """Whether these are lists with nothing in them, or null."""
    kind = array.type
    return pa.types.is_null(kind) or (
        pa.types.is_list(kind) and pa.types.is_null(kind.value_type) and not len(array.values)
    )


@lru_cache(maxsize=16)
def _decoder(keys: tuple[str, ...]) -> Callable[[bytes], list[Any]]:
    members = [
        (f"key_{place}", Any, msgspec.field(default=msgspec.UNSET, name=key))
        for place, key in enumerate(keys)
    ]
    row = msgspec.defstruct("Loose", members, gc=False)
    return msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type] # made at run time


def _decoded(keys: tuple[str, ...], segments: Sequence[bytes]) -> list[Any]:
    """Only these keys of each row, as plain JSON data: `key_0`, `key_1` and so on, UNSET where there is none."""
    try:
        decode = _decoder(keys)  # which refuses keys with characters that no name has
        return [row for segment in segments for row in decode(segment)]
    except (ValueError, RecursionError):
        raise UnsupportedByFastPath from None


def _lists(values: list[Any]) -> pa.StringArray:
    written = []
    for value in values:
        if value is None or value is msgspec.UNSET:
            written.append("[]")
        elif isinstance(value, list):
            written.append(json_text(value))
        else:
            raise UnsupportedByFastPath
    return texts(written)


def _extras(keys: Sequence[str], rows: Sequence[Any]) -> pa.StringArray:
    """What unknown keys hold, as a JSON object a row; null where there are none."""
    members = [(f"key_{place}", key) for place, key in enumerate(keys)]
    written = []
    for row in rows:
        extra = {key: value for own, key in members if (value := getattr(row, own)) is not msgspec.UNSET}
        written.append(json_text(extra) if extra else None)
    return texts(written)
