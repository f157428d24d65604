"""Writes the file formats of a backfill: Parquet, JSON Lines (plain or compressed), CSV.

A writer buffers at most one row group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from ..arrow import _require_pyarrow
from ..errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from ..models import Call

#: Rows of a Parquet row group: enough to compress well, few enough for parallel readers.
ROW_GROUP_ROWS: Final = 1 << 17
#: Bytes of a row group in memory; it exceeds this by at most one batch.
ROW_GROUP_BYTES: Final = 32 << 20
#: Bytes that are written at a time.
BUFFER_SIZE: Final = 1 << 18
#: Columns by which readers skip row groups; statistics of the others cost more than they save.
_STATISTICS: Final = frozenset({"id", "call_start", "call_end"})


class ParquetWriter:
    """Parquet with zstd compression; takes record batches."""

    def __init__(self, file: Any, fields: Sequence[str]) -> None:  # noqa: ARG002 - the batches carry their schema
        self._file = file
        self._writer: Any = None
        self._sink: Any = None
        self._batches: list[Any] = []
        self._rows = 0
        self._bytes = 0

    def write(self, data: Any) -> None:
        self._batches.append(data)
        self._rows += data.num_rows
        self._bytes += data.get_total_buffer_size()
        if self._bytes >= ROW_GROUP_BYTES:
            # That of a slice is the size of the batch it was sliced from; its own size takes many times as long to get.
            self._bytes = sum(batch.nbytes for batch in self._batches)
        if self._rows >= ROW_GROUP_ROWS or self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def finish(self) -> None:
        """Writes the end of the file; may close it."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._sink.flush()

    def _flush(self) -> None:
        if not self._batches:
            return
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:  # there are builds of pyarrow without it
            raise MissingExtraError("the format parquet", "arrow") from error

        schema = self._batches[0].schema
        if self._writer is None:
            # Without a buffer of its own, it would call Python, and wait for the interpreter's lock, for each part of a column.
            file = pa.PythonFile(self._file, mode="w")
            self._sink = pa.BufferedOutputStream(file, BUFFER_SIZE, pa.system_memory_pool())
            self._writer = pq.ParquetWriter(self._sink, schema, **_parquet_options(schema))
        # The batches are not joined first: encoding them one after the other takes less time than the copy.
        table = pa.Table.from_batches(self._batches, schema)
        self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self._batches, self._rows, self._bytes = [], 0, 0


@lru_cache(maxsize=8)
def _parquet_options(schema: Any) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sort_column = schema.get_field_index("call_start")
    return {
        "compression": "zstd",
        # zstd finds repetitions itself: with dictionaries, writing takes longer and files are no smaller.
        # Values are PLAIN: fastparquet reads DELTA_BINARY_PACKED wrong.
        "use_dictionary": False,
        "write_statistics": [name for name in schema.names if name in _STATISTICS],
        "sorting_columns": [pq.SortingColumn(sort_column)] if sort_column >= 0 else None,
        # As in `arrow._kernels`.
        "memory_pool": pa.system_memory_pool(),
    }


class DeltaParquetWriter(ParquetWriter):
    """As `ParquetWriter`; aware times are in UTC, the only zone of a Delta table."""

    def write(self, data: Any) -> None:
        super().write(data.cast(in_utc(data.schema)))


@lru_cache(maxsize=8)
def in_utc(schema: Any) -> Any:
    """The schema with UTC as the zone of all aware times."""
    import pyarrow as pa

    def convert(kind: Any) -> Any:
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            return pa.timestamp(kind.unit, "UTC")
        if pa.types.is_list(kind):
            return pa.list_(convert(kind.value_type))
        if pa.types.is_struct(kind):
            return pa.struct([field.with_type(convert(field.type)) for field in kind])
        return kind

    return pa.schema([field.with_type(convert(field.type)) for field in schema])


class TextWriter:
    """A text format; takes calls."""

    def __init__(self, file: Any, fields: Sequence[str], encoder: str = "jsonl") -> None:
        from .._encoding import ENCODERS, encode_in_slices  # Parquet does not need it

        call_encoder = ENCODERS[encoder](fields)
        self._file = file
        self._encode = partial(encode_in_slices, call_encoder)
        file.write(call_encoder.header())

    def write(self, data: Sequence[Call]) -> None:
        for text in self._encode(data):
            self._file.write(text)

    def finish(self) -> None:
        pass


class ZstdTextWriter(TextWriter):
    """A text format, compressed with zstd; takes calls."""

    def __init__(self, file: Any, fields: Sequence[str]) -> None:
        import pyarrow as pa

        self._stream = pa.CompressedOutputStream(pa.PythonFile(file, mode="w"), "zstd")
        super().__init__(self._stream, fields)

    def finish(self) -> None:
        self._stream.close()


FileWriter: TypeAlias = ParquetWriter | TextWriter


class FileFormat(msgspec.Struct, frozen=True):
    """A format of files.

    Attributes:
        name: the name users give.
        suffix: the end of file names.
        open_writer: makes a writer for a file and these fields.
        arrow: the writer takes record batches; otherwise calls.
        needs_arrow: pyarrow must be installed.
    """

    name: str
    suffix: str
    open_writer: Callable[[Any, Sequence[str]], FileWriter]
    arrow: bool = False
    needs_arrow: bool = False


FORMATS: Final = {
    file_format.name: file_format
    for file_format in (
        FileFormat("parquet", ".parquet", ParquetWriter, arrow=True, needs_arrow=True),
        FileFormat("delta", ".parquet", DeltaParquetWriter, arrow=True, needs_arrow=True),
        FileFormat("jsonl", ".jsonl", TextWriter),
        FileFormat("jsonl.zst", ".jsonl.zst", ZstdTextWriter, needs_arrow=True),
        FileFormat("csv", ".csv", partial(TextWriter, encoder="csv")),
    )
}


def get_format(name: str) -> FileFormat:
    """The format with this name.

    Raises:
        ConfigurationError: there is no such format.
        MissingExtraError: the package it needs is not installed.
    """
    if name not in FORMATS:
        raise ConfigurationError("format", f"must be one of {', '.join(FORMATS)}, got {name!r}")
    file_format = FORMATS[name]
    if file_format.needs_arrow:
        _require_pyarrow(f"the format {name}")
    return file_format
