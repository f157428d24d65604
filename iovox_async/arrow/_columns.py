"""Converts the values of JSON, strings and integers, to the columns of a batch.

Each decoder of this package returns `Columns`, or None if it does not support the page. A column holds what the attribute of
the record would hold; values that only the lenient converter can read are refused (`UnsupportedByFastPath`), all rows at
once. No row is touched by Python: booleans, and durations in unusual forms, have few distinct values, and each of these is
read once by the converter of the records.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta, tzinfo
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from .._params.validators import InvalidValue
from .._parsing.compiled import UnsupportedByFastPath
from ..models import Call
from ._arrays import bool_array, int_array, int_scalar, int_values, str_scalar, text_buffers
from ._kernels import MEMORY_POOL, call, cast, is_in
from ._plain_values import CLOCK_LENGTH, clock_seconds, int64_array
from ._row_values import WORD
from ._timezones import MIN_MICROSECONDS, OffsetTable
from .schema import EXTRA, ColumnKind, ColumnType, column_types, zone_name

if TYPE_CHECKING:
    from .._parsing.lenient import LenientConverter

#: The sort keys of rows, in columns after those of the schema: the start in local time, in microseconds from 1970, and the id.
SORT_KEYS: Final = ("\0start", "\0id")

#: Distinct durations cached.
_MAX_CACHED_VALUES: Final = 4096
_TIMESTAMP: Final = pa.timestamp("us")
#: A date and a time to the second. Arrow reads shorter forms too, but a record counts them as coerced.
_FULL_DATE_LENGTH: Final = len("2024-02-26 04:39:59")
#: What the fast decoders raise for a page that they do not support.
FAST_PATH_ERRORS: Final = (UnsupportedByFastPath, RecursionError, pa.ArrowException)
#: Takes the positions of coerced values in an array.
MarkCoerced = Callable[[pa.Array], None]


class Columns(msgspec.Struct, frozen=True):
    """Decoded rows.

    Attributes:
        batch: the columns of the schema; then those of `SORT_KEYS`, if both id and start of each call are read.
        coerced: the positions of rows with a coerced value that no `CallDecoder` has counted.
    """

    batch: pa.RecordBatch
    coerced: frozenset[int] = frozenset()

    def select(self, rows: Sequence[int]) -> Columns:
        """The rows at these positions, in this order."""
        if not isinstance(rows, range) and rows and rows == [*range(rows[0], rows[0] + len(rows))]:
            # A slice is no copy.
            rows = range(rows[0], rows[0] + len(rows))
        if isinstance(rows, range):
            batch = self.batch.slice(rows.start, len(rows))
        else:
            batch = call("take", self.batch, int_array(rows))
        return Columns(batch, self.coerced and self.coerced.intersection(rows))


def with_sort_keys(schema: pa.Schema) -> pa.Schema:
    """The schema and the columns of `SORT_KEYS`."""
    return pa.schema([*schema, *((name, pa.int64()) for name in SORT_KEYS)])


def whole_seconds(duration: timedelta) -> int:
    """A duration in seconds, without a fraction."""
    seconds = abs(duration) // timedelta(seconds=1)
    return seconds if duration > timedelta(0) else -seconds


class ColumnConverter:
    """Converts the columns to read, as they are in JSON, to those of the schema, which are some of them and `extra`.

    With a time zone, dates become instants.
    """

    def __init__(self, columns: Sequence[str], schema: pa.Schema, zone: tzinfo | None) -> None:
        self.columns: tuple[str, ...] = tuple(columns)
        self._required = {"id", "call_start"}.intersection(columns)
        #: Whether rows have the columns of `SORT_KEYS`.
        self.has_sort_keys: bool = len(self._required) == 2
        self._names = schema.names
        self._schema = with_sort_keys(schema) if self.has_sort_keys else schema
        self._types = column_types(Call)
        self._datetime = ColumnType("datetime").arrow_type(None if zone is None else zone_name(zone))
        self._offsets = None if zone is None else OffsetTable(zone)
        #: Pages are decoded in the event loop and in a thread, and the lenient converter counts what it coerces.
        self._mutex = threading.Lock()
        self._parse = lru_cache(_MAX_CACHED_VALUES)(self._parse_uncached)

    def convert(self, json_columns: Mapping[str, pa.Array], rows: int) -> Columns:
        """The columns of a batch; missing ones are null or empty. Others are left out, but must be valid, as in records.

        Raises:
            UnsupportedByFastPath: a value is unusual.
        """
        coerced: set[int] = set()
        starts = None

        def mark(positions: pa.Array) -> None:
            coerced.update(positions.to_pylist())

        arrays: dict[str, pa.Array] = {EXTRA: pa.nulls(rows, pa.string(), MEMORY_POOL)}
        for name in {*self.columns, *json_columns}:
            column = self._types[name]
            array = json_columns.get(name)
            if array is None:
                array = pa.nulls(rows, column.json_type(), MEMORY_POOL)
            if name == "call_start":
                starts = _local_times(array, mark)
                arrays[name] = self._instants(starts)
            elif column.kind == "json":
                arrays[name] = call("coalesce", array, str_scalar("[]"))
            else:
                arrays[name] = self._convert(array, column, mark)
            if name in self._required and arrays[name].null_count:
                raise UnsupportedByFastPath
        columns = [arrays[name] for name in self._names]
        if self.has_sort_keys:
            columns += [starts, arrays["id"]]
        return Columns(pa.RecordBatch.from_arrays(columns, schema=self._schema), frozenset(coerced))

    def _convert(self, array: pa.Array, column: ColumnType, mark: MarkCoerced) -> pa.Array:
        if column.kind in {"duration", "bool"} and array.type != pa.string():
            return array
        match column.kind:
            case "datetime":
                return self._instants(_local_times(array, mark))
            case "duration":
                durations = _durations(array)
                return self._convert_distinct(array, column, mark) if durations is None else durations
            case "bool":
                return self._convert_distinct(array, column, mark)
            case "list":
                return self._convert_list(array, column, mark)
            case "struct":
                return self._convert_struct(array, column, mark)
        return array

    def _instants(self, local: pa.Int64Array) -> pa.Array:
        return (local if self._offsets is None else self._offsets.to_instants(local)).view(self._datetime)

    def _convert_distinct(self, array: pa.StringArray, column: ColumnType, mark: MarkCoerced) -> pa.Array:
        """Converts each distinct value once."""
        encoded = call("dictionary_encode", array)
        parsed = [self._parse(column.kind, text) for text in encoded.dictionary.to_pylist()]
        values = [value for value, _ in parsed]
        coerced = [code for code, (_, is_coerced) in enumerate(parsed) if is_coerced]
        if coerced:
            codes = cast(int_array(coerced), encoded.indices.type)
            mark(call("indices_nonzero", is_in(encoded.indices, codes)))
        distinct = bool_array(values) if column.kind == "bool" else int_array(values)
        return call("take", distinct, encoded.indices)

    @cached_property
    def _lenient(self) -> LenientConverter:
        # Made at first use, since most pages need none and its import takes milliseconds.
        from .._parsing.lenient import LenientConverter

        return LenientConverter()

    @cached_property
    def _hooks(self) -> dict[ColumnKind, Callable[[Any, Any], Any]]:
        get_hook = self._lenient.converter.get_structure_hook
        return {"duration": get_hook(timedelta | None), "bool": get_hook(bool | None)}

    def _parse_uncached(self, kind: ColumnKind, text: str | None) -> tuple[Any, bool]:
        """Reads a value as records do; also returns whether it was coerced."""
        with self._mutex:
            coerced_before = self._lenient.coerced
            try:
                value = self._hooks[kind](text, None)
            except InvalidValue:
                raise UnsupportedByFastPath from None
            coerced = self._lenient.coerced > coerced_before
        return whole_seconds(value) if isinstance(value, timedelta) else value, coerced

    def _convert_list(self, array: pa.ListArray, column: ColumnType, mark: MarkCoerced) -> pa.ListArray:
        """Converts a list of parts; a missing list is empty, as in a record."""
        if array.values.null_count:
            raise UnsupportedByFastPath

        def mark_parents(positions: pa.Array) -> None:
            mark(call("take", call("list_parent_indices", array), positions))

        return pa.ListArray.from_arrays(
            array.offsets, self._convert_struct(array.values, column, mark_parents)
        )

    def _convert_struct(self, array: pa.StructArray, column: ColumnType, mark: MarkCoerced) -> pa.StructArray:
        types = column_types(column.model)
        members = [self._convert(array.field(name), member, mark) for name, member in types.items()]
        return pa.StructArray.from_arrays(
            [*members, pa.nulls(len(array), pa.string(), MEMORY_POOL)],
            names=[*types, EXTRA],
            mask=call("is_null", array) if array.null_count else None,
        )


def _local_times(array: pa.StringArray, mark: MarkCoerced) -> pa.Int64Array:
    """Dates as local times in microseconds from 1970; an empty text is null, and coerced."""
    if array.type == pa.int64():
        return array
    shortest = _shortest(array)
    if shortest == 0:
        blank = call("equal", call("binary_length", array), int_scalar(0))
        mark(call("indices_nonzero", blank))
        array = call("if_else", blank, pa.nulls(1, pa.string())[0], array)
        shortest = _shortest(array)
    if shortest is None:
        return pa.nulls(len(array), pa.int64(), MEMORY_POOL)
    if shortest < _FULL_DATE_LENGTH:
        raise UnsupportedByFastPath
    # The cast refuses an offset from UTC, which the JSON reader would apply.
    local = cast(array, _TIMESTAMP).view(pa.int64())
    if _smallest(local) < MIN_MICROSECONDS:
        raise UnsupportedByFastPath
    return local


def _smallest(integers: pa.Int64Array) -> int:
    """The smallest integer that is not null, of which there is one."""
    if integers.null_count:
        return call("min", integers).as_py()  # type: ignore[no-any-return]  # pyarrow has no types
    return int(int_values(integers).min())


def _shortest(texts: pa.StringArray) -> int | None:
    """The length of the shortest text that is not null, or None."""
    if not len(texts) or texts.null_count:
        return call("min", call("binary_length", texts)).as_py()  # type: ignore[no-any-return]  # pyarrow has no types
    offsets, _ = text_buffers(texts)
    return int(np.diff(offsets).min())


def _durations(texts: pa.StringArray) -> pa.Int64Array | None:
    """Durations that are all written `HH:MM:SS` and shorter than a day; None if they are not."""
    if not len(texts) or texts.null_count:
        return None
    offsets, data = text_buffers(texts)
    if (np.diff(offsets) != CLOCK_LENGTH).any():
        return None
    return int64_array(clock_seconds(data.view(WORD)))
