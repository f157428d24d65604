"""Decodes segments of JSON to columns by Arrow's JSON reader, which runs without the interpreter's lock.

The segments become one document, `{"c": [ ...rows... ]}`, which Arrow reads as a single list of structs. Dates, durations and
booleans are read as text and converted afterwards, since Arrow would accept forms of a date that mean something else in a
record.

Invariants:

- Arrow has an explicit type for every requested column and refuses all other keys, also in the parts of a call, so no key is
  dropped unseen; a page with such keys is left to the records, which keep them in `extra`.
- What a page gives depends on its own bytes only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from .._parsing.compiled import UnsupportedByFastPath
from ..models import Call
from ._arrays import MAX_BYTES, ReusableBuffer, str_array
from ._columns import FAST_PATH_ERRORS, ColumnConverter, Columns
from ._kernels import MEMORY_POOL
from .schema import column_types

if TYPE_CHECKING:
    from .._parsing.page import Segment

_START: Final = b'{"c":['
_END: Final = b"]}"
_COMMA: Final = ord(",")
#: The name of the only column without a known type.
_OUTCOMES: Final = "call_outcomes"
#: Keys of call outcomes, at most, that the fast decoder supports.
_MAX_OUTCOME_KEYS: Final = 32

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class _OutcomeRow(msgspec.Struct, gc=False):
    call_outcomes: list[dict[str, str]] | None = None


_decode_outcomes = msgspec.json.Decoder(list[_OutcomeRow]).decode


def json_text(value: Any) -> str:
    """A value as compact JSON: the same text from every decoder."""
    return _encode(value)


class JsonColumnDecoder:
    """Decodes segments of JSON to the columns of a converter."""

    def __init__(self, converter: ColumnConverter) -> None:
        self._converter = converter
        types = column_types(Call)
        self._types = {name: types[name].json_type() for name in converter.columns}
        self._buffer = ReusableBuffer()

    def decode(self, segments: Sequence[Segment]) -> Columns | None:
        """The columns of these segments, or None if something in them is unusual."""
        rows = sum(segment.rows for segment in segments)
        try:
            json_columns = self._json_columns([segment.data for segment in segments], rows)
            return self._converter.convert(json_columns, rows)
        except MemoryError:  # also one of Arrow's errors
            raise
        except FAST_PATH_ERRORS:
            return None

    def _json_columns(self, segments: Sequence[bytes], rows: int) -> dict[str, pa.Array]:
        if _OUTCOMES not in self._types:
            return self._read(segments, rows, self._types)
        try:
            columns = self._read(segments, rows, {**self._types, _OUTCOMES: pa.list_(pa.null())})
        except pa.ArrowInvalid:
            outcomes = _outcomes(segments)
            if not any(outcomes):
                raise
            columns = self._read(segments, rows, {**self._types, _OUTCOMES: _type_of(outcomes)})
            return {**columns, _OUTCOMES: str_array([json_text(value) for value in outcomes])}
        if len(columns.pop(_OUTCOMES).values):
            raise UnsupportedByFastPath  # a null among the outcomes
        return columns

    def _read(
        self, segments: Sequence[bytes], rows: int, types: dict[str, pa.DataType]
    ) -> dict[str, pa.Array]:
        from pyarrow import json as pa_json  # pages of a fixed layout do not need it

        document = self._join(segments)
        table = pa_json.read_json(
            pa.BufferReader(document),
            read_options=pa_json.ReadOptions(use_threads=False, block_size=len(document) + 64),
            parse_options=pa_json.ParseOptions(
                explicit_schema=pa.schema([("c", pa.list_(pa.struct(list(types.items()))))]),
                unexpected_field_behavior="error",
            ),
            memory_pool=MEMORY_POOL,
        )
        lists = table.column("c")
        if len(lists) != 1 or lists.num_chunks != 1:
            raise UnsupportedByFastPath
        structs = lists.chunk(0).values
        if len(structs) != rows or structs.null_count:
            raise UnsupportedByFastPath
        return {name: structs.field(name) for name in types}

    def _join(self, segments: Sequence[bytes]) -> memoryview:
        """One document in one line of these segments, in memory that is reused."""
        size = len(_START) + sum(map(len, segments)) + len(_END)
        if size > MAX_BYTES:
            raise UnsupportedByFastPath
        # Assignment to a slice of the bytearray itself would copy the rows once more.
        buffer = memoryview(self._buffer.get(size))
        buffer[: len(_START)] = _START
        end = len(_START)
        for segment in segments:
            check_utf8(segment)
            rows = memoryview(segment)[1:-1]
            if b"\n" in segment or b"\r" in segment:
                # They are between values, since in a text they are escaped. Arrow's reader would split the document there.
                rows = memoryview(bytes(rows).replace(b"\n", b" ").replace(b"\r", b" "))
            buffer[end : end + len(rows)] = rows
            end += len(rows) + 1
            buffer[end - 1] = _COMMA
        # The end of the list replaces the last comma.
        end -= bool(segments)
        buffer[end : end + len(_END)] = _END
        return buffer[: end + len(_END)]


def check_utf8(data: bytes) -> None:
    """Raises `UnsupportedByFastPath` if the bytes are not UTF-8, which Arrow does not check."""
    if not data.isascii():
        try:
            str(data, "utf-8")
        except UnicodeDecodeError:
            raise UnsupportedByFastPath from None


def _outcomes(segments: Sequence[bytes]) -> list[list[dict[str, str]]]:
    """The outcomes of each call, if they are flat objects of texts: the endpoint does not document their keys."""
    try:
        return [row.call_outcomes or [] for segment in segments for row in _decode_outcomes(segment)]
    except (ValueError, RecursionError):
        raise UnsupportedByFastPath from None


def _type_of(outcomes: list[list[dict[str, str]]]) -> pa.DataType:
    keys = {key for items in outcomes for item in items for key in item}
    if len(keys) > _MAX_OUTCOME_KEYS:
        raise UnsupportedByFastPath
    return pa.list_(pa.struct([(key, pa.string()) for key in sorted(keys)]))
