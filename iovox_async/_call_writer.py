"""Turns a stream of calls into the bytes of a file: JSON Lines, CSV, TSV, Parquet, Arrow, compressed or not."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from ._encoding import ENCODERS, encode_in_slices
from ._parsing.compiled import requested_keys
from .errors import MissingExtraError

if TYPE_CHECKING:
    import pyarrow as pa

    from .fields import Field
    from .models import Call

#: Formats that take record batches.
BINARY: Final = ("parquet", "arrow")


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


@define
class CallWriter:
    """Turns calls into the bytes of a format.

    Attributes:
        form: the name of the format.
        columns: the columns that the output has.
        compression: `.gz`, `.zst` or empty.
        excel: CSV or TSV for spreadsheets.
        to_file: the output is a regular file: Arrow's file format instead of its stream.
        text_encoder: an encoder of another text format.
    """

    form: str
    columns: Sequence[Field]
    compression: str = ""
    excel: bool = False
    to_file: bool = False
    text_encoder: Any = None
    _buffer: Buffer = field(factory=Buffer, init=False)
    _sink: Any = field(default=None, init=False)
    _writer: Any = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.is_arrow or self.compression == ".zst":
            try:
                import pyarrow  # noqa: F401, ICN001 - only to check that it is installed
            except ImportError as error:
                raise MissingExtraError(f"the format {self.form}{self.compression}", "arrow") from error

    @property
    def is_arrow(self) -> bool:
        """Whether it takes record batches, by `encode`, instead of calls, by `encode_in_slices`."""
        return self.form in BINARY

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

    def _encoder(self) -> Any:
        if self.text_encoder is not None:
            return self.text_encoder
        options = {"excel": True} if self.excel else {}
        return ENCODERS[self.form](self.columns, **options)

    def encode(self, data: pa.RecordBatch) -> bytes:
        """The bytes of a record batch, as far as they are complete; may be called in a thread."""
        names = requested_keys(self.columns)
        batch = data.select([name for name in data.schema.names if name in names or name == "extra"])
        if self._writer is None:
            self._writer = self._open_arrow(batch.schema)
        self._writer.write(batch)
        return self._buffer.take()

    def encode_in_slices(self, calls: Sequence[Call]) -> Iterator[bytes]:
        """The bytes of a page of calls, as far as they are complete, a few calls at a time."""
        for part in encode_in_slices(self._writer, calls):
            self._sink.write(part)
            yield self._buffer.take()

    def _open_arrow(self, schema: Any) -> Any:
        if self.form == "parquet":
            from .backfill._formats import ParquetWriter

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
