"""Makes the record batches of a stream.

Flat rows that are all written alike are decoded while they arrive, some milliseconds of work at a time; other rows when the
reader asks for them, in a thread. The rows and their order are given by row slices, as for the stream's records.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import pyarrow as pa
from anyio import CapacityLimiter, to_thread

from .._paging.starts import AscendingStarts
from .._parsing.compiled import response_keys
from .._parsing.page import Block, Blocks, PageFormat, RawPage, Segment
from .._parsing.splitter import PageSplitter
from ._arrays import int_values
from ._columns import SORT_KEYS, ColumnConverter, Columns
from ._from_fixed_layout import FixedLayoutDecoder
from ._from_json import JsonColumnDecoder
from ._from_records import RecordColumns
from ._kernels import MEMORY_POOL
from ._late_pages import PAGE_BYTES
from ._row_buffer import RowBuffer
from ._timezones import from_microseconds
from .schema import column_names, in_schema_order, schema_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from .._paging.spec import ReadSpec
    from .._parsing.decoder import CallDecoder

#: Bytes decoded at a time when they arrive: a quarter of a page, some milliseconds of work, which a processor can cache.
ARRIVING_BYTES: Final = 1_300_000
#: Bytes of JSON decoded at a time by a thread: more than a page usually has.
BLOCK_BYTES: Final = 6 * 1024 * 1024
#: Microseconds in a second.
MICROSECONDS: Final = 1_000_000
#: After so many segments in a row that the JSON decoder does not support, the rest of a block is decoded by way of records.
_MAX_FAILURES: Final = 2

#: Start and id of a call, as far as they are read.
SortKey = tuple[datetime | None, int | None]
#: A batch, the sort key of its last row, and whether the row slice may have more.
DecodedRows = tuple[pa.RecordBatch, SortKey, bool]


class ColumnSegment(Segment, frozen=True, eq=False):
    """Rows that were decoded to columns when they arrived, in a third of the memory of their JSON."""

    min_share: ClassVar[float] = 0.0

    columns: Columns


class ColumnPageBuilder:
    """Builds a page while its bytes arrive: of column segments, and from the first block with a row in another layout on, of JSON."""

    def __init__(self, decoder: FixedLayoutDecoder) -> None:
        self._decoder = decoder
        #: The bytes that are not decoded yet.
        self._buffer = RowBuffer(ARRIVING_BYTES)
        self._size = 0
        self._segments: list[Segment] = []
        #: The sort keys of all rows; the starts of each segment are in microseconds.
        self._starts: list[npt.NDArray[np.int64]] = []
        self._ids = array("q")
        self._ids_ascend = True
        #: The rows that start in the same second as the row before.
        self._ties = array("q")
        self._rows = 0
        self._is_ascending = True
        #: Takes the remaining bytes, once there are other rows.
        self._splitter: PageSplitter | None = None

    def space(self) -> memoryview | None:
        """Where the next bytes are decoded."""
        return self._buffer.space

    def feed(self, data: bytes | memoryview) -> None:
        """Adds the next bytes; decodes a block when enough are buffered."""
        self._size += len(data)
        view = memoryview(data)
        while view and self._splitter is None:
            count = self._buffer.free_bytes
            self._buffer.add(view[:count])
            view = view[count:]
            if not self._buffer.free_bytes:
                self._decode(last=False)
        if self._splitter is not None:
            self._splitter.feed(view)

    async def finish(self, wire_bytes: int) -> RawPage:
        """The same as `build`, for the protocol `PageBuilder`."""
        return self.build(wire_bytes)

    def build(self, wire_bytes: int) -> RawPage:
        """The page, after all bytes were fed; `wire_bytes` is the size of the body as it was sent.

        Raises:
            DecodeError: the bytes are not a list of calls.
        """
        if self._splitter is None:
            self._decode(last=True)
        segments = tuple(self._segments)
        if self._splitter is None:
            starts = self._join_starts()
            return RawPage(
                segments, starts, self._ids, self._size, wire_bytes, self._ties, ids_ascend=self._ids_ascend
            )
        rest = self._splitter.build()
        starts = [start for keys in self._starts for start in keys.view("M8[us]").tolist()]
        ids = [*self._ids, *rest.ids]
        return RawPage(segments + rest.segments, [*starts, *rest.starts], ids, self._size, wire_bytes)

    def _join_starts(self) -> Sequence[datetime]:
        starts = np.concatenate(self._starts)
        return AscendingStarts(starts) if self._is_ascending else starts.view("M8[us]").tolist()

    def _decode(self, *, last: bool) -> None:
        first = not self._segments
        columns = self._decoder.decode(self._buffer, first=first, last=last)
        if columns is None:
            self._splitter = PageSplitter()
            if not first:
                self._splitter.feed(b"[")
            self._splitter.feed(self._buffer.data)
            self._buffer = RowBuffer(0)
            return
        batch = columns.batch
        self._segments.append(ColumnSegment(b"", batch.num_rows, columns))
        start_keys, ids = (int_values(batch.column(name)) for name in SORT_KEYS)
        self._add_starts(start_keys)
        following = np.concatenate((self._ids[-1:], ids)) if self._ids else ids
        self._ids_ascend = self._ids_ascend and bool((following[1:] > following[:-1]).all())
        self._ids.frombytes(ids.view("u1").data)

    def _add_starts(self, starts: npt.NDArray[np.int64]) -> None:
        # With the start before them, if there is one, so that each has one to be compared with.
        following = np.concatenate((self._starts[-1][-1:], starts)) if self._starts else starts
        self._is_ascending = self._is_ascending and bool((following[1:] >= following[:-1]).all())
        seconds = following // MICROSECONDS
        ties = np.flatnonzero(seconds[1:] == seconds[:-1])
        ties += self._rows - len(following) + len(starts) + 1
        self._ties.frombytes(ties.view("u1").data)
        self._starts.append(starts)
        self._rows += len(starts)


class BatchReader:
    """Makes record batches of the row slices of one stream.

    Args:
        decoder: makes the records of pages that the faster decoders do not support, and has the counters.
        spec: what the stream reads.
        timezone: the account's time zone.
    """

    def __init__(self, decoder: CallDecoder, spec: ReadSpec, timezone: tzinfo | None) -> None:
        self._decoder = decoder
        self._zone = timezone
        columns = column_names(spec.fields)
        keys = in_schema_order(response_keys(spec.fields))
        #: The schema of every batch.
        self.schema: pa.Schema = schema_of(
            [name for name in columns if name not in spec.added_fields], timezone
        )
        converter = ColumnConverter(keys, self.schema, timezone)
        self._has_sort_keys = converter.has_sort_keys
        self.fixed_layout = FixedLayoutDecoder(converter)
        self._json = JsonColumnDecoder(converter)
        self._records = RecordColumns(self.schema, timezone)
        #: How the pages of the stream are built.
        self.page_format = PageFormat(
            partial(ColumnPageBuilder, self.fixed_layout) if self.fixed_layout.supported else PageSplitter,
            PAGE_BYTES,
        )
        #: The JSON decoder reuses its memory, so one block at a time is decoded. Not the shared limit of threads, which other
        #: work may use up.
        self._limiter = CapacityLimiter(1)

    def empty_batch(self) -> pa.RecordBatch:
        """A batch without rows."""
        return pa.RecordBatch.from_pylist([], schema=self.schema)

    @staticmethod
    def is_decoded(rows: Blocks) -> bool:
        """Whether the next rows were decoded when they arrived."""
        block = rows.peek()
        return block is not None and isinstance(block.segment, ColumnSegment)

    def take_decoded(self, rows: Blocks, limit: int | None) -> DecodedRows:
        """The next rows, at most `limit`, which were decoded when they arrived."""
        block = rows.take(limit)
        assert block is not None
        assert isinstance(block.segment, ColumnSegment)
        columns = block.segment.columns
        if block.rows is not None:
            columns = columns.select(block.rows)
        return self._deliver([columns], more=rows.peek() is not None)

    async def read(self, rows: Blocks, limit: int | None) -> DecodedRows:
        """Decodes the next rows of a slice, at most `limit`.

        Raises:
            RecordError: a record is invalid, and `on_error` is `raise`.
        """
        return await to_thread.run_sync(self.read_blocking, rows, limit, limiter=self._limiter)

    def read_blocking(self, rows: Blocks, limit: int | None) -> DecodedRows:
        """Blocks for some milliseconds; see `read`."""
        if self.is_decoded(rows):
            return self.take_decoded(rows, limit)
        blocks: list[Block] = []
        count, size = 0, 0
        while size < BLOCK_BYTES and not self.is_decoded(rows):
            block = rows.take(None if limit is None else limit - count)
            if block is None:
                break
            blocks.append(block)
            count += block.count
            size += len(block.segment.data)
        # With a limit, rows that are skipped are replaced by those after them.
        return self._deliver(self._decode(blocks), more=rows.peek() is not None)

    def _decode(self, blocks: Sequence[Block]) -> Iterator[Columns]:
        """The columns of these rows; an unusual record slows down only its own segment."""
        columns = self._json_columns(blocks)
        if columns is not None:
            yield columns
            return
        failures = 0
        for block in blocks:
            columns = self._json_columns([block]) if failures < _MAX_FAILURES else None
            failures = 0 if columns is not None else failures + 1
            yield columns or self._records.decode(block, self._decoder, sort_keys=self._has_sort_keys)

    def _json_columns(self, blocks: Sequence[Block]) -> Columns | None:
        columns = self._json.decode([block.segment for block in blocks])
        if columns is None or all(block.rows is None for block in blocks):
            return columns
        rows: list[int] = []
        start = 0
        for block in blocks:
            segment_rows = range(block.segment.rows) if block.rows is None else block.rows
            rows += [start + row for row in segment_rows]
            start += block.segment.rows
        return columns.select(rows)

    def _deliver(self, decoded: Iterable[Columns], *, more: bool) -> DecodedRows:
        batches = []
        for columns in decoded:
            self._decoder.coerced += len(columns.coerced)
            batches.append(columns.batch)
        rows = _concatenate(batches)
        return rows.select(self.schema.names), self._last_key(rows), more

    def _last_key(self, rows: pa.RecordBatch) -> SortKey:
        if not (self._has_sort_keys and rows.num_rows):
            return None, None
        start, call_id = (rows.column(key)[-1].as_py() for key in SORT_KEYS)
        return from_microseconds(start).replace(tzinfo=self._zone), call_id


def _concatenate(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches)
    return pa.RecordBatch.from_arrays(
        [column.combine_chunks(MEMORY_POOL) for column in table.columns], schema=table.schema
    )
