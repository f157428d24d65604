"""How a table's file is written: Parquet, JSON Lines, CSV.

The law of this room: a writer takes calls as they come and keeps no more of them than one row group; what it writes goes to
a file that somebody else opens, ends and names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from attrs import frozen

from .._encoding import CallEncoder, CsvEncoder, JsonLinesEncoder, encode_in_slices
from ..errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from ..models import Call

__all__ = [
    "FORMATS",
    "FileFormat",
    "FileWriter",
    "PackedLinesWriter",
    "ParquetWriter",
    "TextWriter",
    "format_named",
]

#: Rows of a Parquet row group: enough to compress well, few enough for parallel readers.
GROUP_ROWS: Final = 1 << 17
#: Bytes of a row group in memory, at most: a page or two more than this, whatever the calls hold.
GROUP_BYTES: Final = 32 << 20
#: Columns by which readers leave row groups out; statistics of the others cost more than they are good for.
_SOUGHT: Final = frozenset({"id", "call_start", "call_end"})


class FileWriter(Protocol):
    """Writes calls of one file."""

    def write(self, data: Any) -> None:
        """Some calls, in the form that the format takes."""

    def finish(self) -> None:
        """What stands at the end; the file stays open."""


class ParquetWriter:
    """Parquet with zstd, in row groups of about 128k rows; takes record batches."""

    def __init__(self, file: Any, fields: Sequence[str]) -> None:  # noqa: ARG002 - the batches carry their schema
        self._file = file
        self._writer: Any = None
        self._batches: list[Any] = []
        self._rows = 0
        self._bytes = 0

    def write(self, data: Any) -> None:
        self._batches.append(data)
        self._rows += data.num_rows
        # A slice counts with its own bytes, not with those of the batch it was cut from.
        self._bytes += data.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def finish(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        if not self._batches:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self._batches[0].schema
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, schema, **_options(schema))
        table = pa.Table.from_batches(self._batches, schema)
        if len(self._batches) > 1:
            # One chunk a column, so that a row group is encoded in one go.
            table = table.combine_chunks()
        self._writer.write_table(table, row_group_size=GROUP_ROWS)
        self._batches, self._rows, self._bytes = [], 0, 0


@lru_cache(maxsize=8)
def _options(schema: Any) -> dict[str, Any]:
    """How columns of this schema are written."""
    import pyarrow.parquet as pq

    place = schema.get_field_index("call_start")
    return {
        "compression": "zstd",
        # zstd finds what repeats by itself: with dictionaries files take longer and become no smaller.
        "use_dictionary": False,
        "column_encoding": {field.name: "DELTA_BINARY_PACKED" for field in schema if _is_whole(field.type)},
        "write_statistics": [name for name in schema.names if name in _SOUGHT],
        "sorting_columns": [pq.SortingColumn(place)] if place >= 0 else None,
    }


def _is_whole(kind: Any) -> bool:
    """Whether a column holds whole numbers or what is stored as such: consecutive ones differ by little."""
    import pyarrow.types as known

    return bool(known.is_int64(kind) or known.is_timestamp(kind) or known.is_duration(kind))


class TextWriter:
    """JSON Lines or CSV, as the encoder has it; takes calls."""

    def __init__(self, file: Any, encoder: CallEncoder) -> None:
        self._file = file
        self._encoder = encoder
        file.write(encoder.header())

    def write(self, data: Sequence[Call]) -> None:
        for text in encode_in_slices(self._encoder, data):
            self._file.write(text)

    def finish(self) -> None:
        """Nothing stands at the end."""


class PackedLinesWriter(TextWriter):
    """The same, compressed with zstd."""

    def __init__(self, file: Any, fields: Sequence[str]) -> None:
        import pyarrow as pa

        self._stream = pa.CompressedOutputStream(pa.PythonFile(_Kept(file), mode="w"), "zstd")
        super().__init__(self._stream, JsonLinesEncoder(fields))

    def finish(self) -> None:
        self._stream.close()


class _Kept:
    """A file that others may close, and that stays open."""

    closed = False

    def __init__(self, file: Any) -> None:
        self.write = file.write
        self.flush = file.flush

    def close(self) -> None:
        self.closed = True

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def _jsonl(file: Any, fields: Sequence[str]) -> FileWriter:
    return TextWriter(file, JsonLinesEncoder(fields))


def _csv(file: Any, fields: Sequence[str]) -> FileWriter:
    return TextWriter(file, CsvEncoder(fields))


@frozen
class FileFormat:
    """A format of files.

    Attributes:
        name: what it is called.
        suffix: how its files' names end.
        writer: opens a writer on a file, for these fields.
        arrow: whether the writer takes record batches; else calls.
        needs_arrow: whether pyarrow must be there.
    """

    name: str
    suffix: str
    writer: Callable[[Any, Sequence[str]], FileWriter]
    arrow: bool = False
    needs_arrow: bool = False


FORMATS: Final = {
    form.name: form
    for form in (
        FileFormat("parquet", ".parquet", ParquetWriter, arrow=True, needs_arrow=True),
        FileFormat("jsonl", ".jsonl", _jsonl),
        FileFormat("jsonl.zst", ".jsonl.zst", PackedLinesWriter, needs_arrow=True),
        FileFormat("csv", ".csv", _csv),
    )
}


def format_named(name: str) -> FileFormat:
    """The format of this name.

    Raises:
        ConfigurationError: there is none.
        MissingExtraError: its package is not installed.
    """
    if name not in FORMATS:
        raise ConfigurationError(f"format: {', '.join(FORMATS)} are known, not {name!r}")
    form = FORMATS[name]
    if form.needs_arrow:
        try:
            import numpy  # noqa: F401, ICN001 - only to see whether they are there
            import pyarrow.parquet  # noqa: F401 - as above
        except ImportError as error:
            raise MissingExtraError(f"the format {name}", "arrow") from error
    return form
