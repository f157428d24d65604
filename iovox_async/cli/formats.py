"""The formats of `iovox calls`, and the endings of file names that select them."""

from __future__ import annotations

import io
import shutil
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import attrs
import rich_click as click

from iovox_async import MissingExtraError
from iovox_async._encoding import ENCODERS, CallEncoder, CsvEncoder, csv_cell, encode_in_slices
from iovox_async._parsing.compiled import requested_keys

from .console import escape_controls, is_terminal

if TYPE_CHECKING:
    from iovox_async import Call, Field

FORMATS: Final = (*ENCODERS, "parquet", "arrow", "table")
_COMPRESSIONS: Final = (".gz", ".zst")
_ENDINGS: Final = ("parquet", "arrow", "csv", "tsv", "jsonl")
#: Columns of a table are not made narrower than this, and wider only where the terminal has space.
_MIN_COLUMN, _MAX_COLUMN = 6, 40


def format_of_name(path: str | None) -> tuple[str | None, str]:
    """The format that the ending of a file name selects, and its compression: `("csv", ".gz")`.

    Raises:
        click.UsageError: the ending is another one.
    """
    name = PurePath(path or "").name.lower()
    compression = next((ending for ending in _COMPRESSIONS if name.endswith(ending)), "")
    stem, dot, ending = name.removesuffix(compression).rpartition(".")
    if ending in _ENDINGS and dot:
        return ending, compression
    if (dot and stem) or compression:
        raise click.UsageError(
            f"-o {path}: the ending of FILE must be {', '.join(f'.{name}' for name in _ENDINGS)}, each also with .gz or .zst, or "
            "give --format.",
            click.get_current_context(silent=True),
        )
    return None, ""


class Buffer(io.RawIOBase):
    """A file that collects what is written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def take(self) -> bytes:
        """What was written since the last time."""
        data, self._parts = b"".join(self._parts), []
        return data


@attrs.define
class CallWriter:
    """Turns calls into the bytes of a format.

    Attributes:
        form: the name of the format.
        columns: the columns that the output has.
        compression: `.gz`, `.zst` or empty.
        excel: whether a spreadsheet is to open it.
        to_file: the output is a regular file: Arrow's file format instead of its stream.
    """

    form: str
    columns: Sequence[Field]
    compression: str = ""
    excel: bool = False
    to_file: bool = False
    _buffer: Buffer = attrs.field(factory=Buffer, init=False)
    _sink: Any = attrs.field(default=None, init=False)
    _writer: Any = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.form in {"parquet", "arrow"} or self.compression == ".zst":
            try:
                import pyarrow  # noqa: F401, ICN001 - only to check that it is installed
            except ImportError as error:
                raise MissingExtraError(f"the format {self.form}{self.compression}", "arrow") from error

    @property
    def is_arrow(self) -> bool:
        """Whether `encode` takes record batches instead of calls."""
        return self.form in {"parquet", "arrow"}

    @property
    def can_continue(self) -> bool:
        """Whether a file that was left unfinished can be continued."""
        return not (self.is_arrow and self.compression)

    def start(self, *, header: bool) -> bytes:
        """The bytes before the first call."""
        if self.compression == ".gz":
            self._sink = _GzipSink(self._buffer)
        elif self.compression:
            import pyarrow as pa

            self._sink = pa.CompressedOutputStream(pa.PythonFile(self._buffer, mode="w"), "zstd")
        else:
            self._sink = self._buffer
        if not self.is_arrow:
            self._writer = self._encoder()
            if header:
                self._sink.write(self._writer.header())
        return self._buffer.take()

    def _encoder(self) -> CallEncoder | TableEncoder:
        if self.form == "table":
            return TableEncoder(self.columns)
        if self.form in {"csv", "tsv"}:
            return CsvEncoder(self.columns, delimiter="," if self.form == "csv" else "\t", excel=self.excel)
        return ENCODERS[self.form](self.columns)

    def encode(self, data: Any) -> bytes:
        """The bytes of a page of calls, or of a record batch, as far as they are complete; may be called in a thread."""
        if self.is_arrow:
            names = requested_keys(self.columns)
            batch = data.select([name for name in data.schema.names if name in names or name == "extra"])
            if self._writer is None:
                self._writer = self._open_arrow(batch.schema)
            self._writer.write(batch)
        else:
            for part in encode_in_slices(self._writer, data):
                self._sink.write(part)
        return self._buffer.take()

    def _open_arrow(self, schema: Any) -> Any:
        if self.form == "parquet":
            from iovox_async.backfill._formats import ParquetWriter

            return ParquetWriter(self._sink, schema.names)
        import pyarrow as pa

        return (pa.ipc.new_file if self.to_file else pa.ipc.new_stream)(self._sink, schema)

    def finish(self) -> bytes:
        """The bytes after the last call."""
        if self.is_arrow and self._writer is not None:
            (self._writer.finish if self.form == "parquet" else self._writer.close)()
        if self._sink is not self._buffer and self._sink is not None:
            self._sink.close()
        return self._buffer.take()

    def read(self, path: str) -> Iterator[Any]:
        """The record batches of an unfinished file, which the continued file begins with."""
        import pyarrow as pa

        if self.form == "parquet":
            import pyarrow.parquet as pq

            yield from pq.ParquetFile(path).iter_batches()
        else:
            reader = pa.ipc.open_file(path)
            yield from (reader.get_batch(index) for index in range(reader.num_record_batches))


class _GzipSink:
    """Compresses what is written; the result can be followed by another one."""

    def __init__(self, file: Buffer) -> None:
        self._file = file
        self._compressor = zlib.compressobj(6, zlib.DEFLATED, 31)
        self.closed = False

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        """Does nothing: data is complete when the sink is closed."""

    def write(self, data: Any) -> int:
        self._file.write(self._compressor.compress(data))
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._file.write(self._compressor.flush())


class TableEncoder:
    """Aligned columns for people. The first page decides their widths; on a terminal they fit its width."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._columns = requested_keys(fields)
        self._widths: list[int] = []

    def header(self) -> bytes:
        """Nothing: the first page decides the widths."""
        return b""

    def encode(self, calls: Sequence[Call]) -> bytes:
        """The bytes of these calls, after the titles if they are the first ones."""
        rows = [
            [_table_cell(row.get(column)) for column in self._columns]
            for row in (call.to_dict() for call in calls)
        ]
        if not self._widths:
            rows.insert(0, [*self._columns])
            self._widths = fit_columns(rows)
        return "".join(map(self._line, rows)).encode(sys.stdout.encoding or "utf-8", "replace")

    def _line(self, row: Sequence[str]) -> str:
        return (
            "  ".join(fit_cell(cell, width) for cell, width in zip(row, self._widths, strict=False)).rstrip()
            + "\n"
        )


def _table_cell(value: Any) -> str:
    return escape_controls(csv_cell(value)).replace("\n", " ")


def fit_cell(text: str, width: int) -> str:
    """The text padded or, on a terminal, cut to a width."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width or not is_terminal("stdout"):
        return text + " " * (width - cell_len(text))
    return set_cell_size(text, width - 1) + (
        "\u2026" if (sys.stdout.encoding or "").lower().startswith("utf") else "~"
    )


def terminal_width() -> int:
    """The columns of the terminal."""
    return shutil.get_terminal_size().columns


def fit_columns(rows: Sequence[Sequence[str]]) -> list[int]:
    """The widths of as many columns as fit the terminal; elsewhere, of all."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    if not is_terminal("stdout"):
        return widths
    space = terminal_width()
    while sum(widths) + 2 * (len(widths) - 1) > space and max(widths) > _MIN_COLUMN:
        widest = widths.index(max(widths))
        widths[widest] -= 1
    while len(widths) > 1 and sum(widths) + 2 * (len(widths) - 1) > space:
        widths.pop()
    return widths
