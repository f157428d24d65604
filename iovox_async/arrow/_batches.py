"""Makes the record batches of a stream, in threads.

One row slice becomes one batch; a large one is decoded some megabytes at a time. The rows and their order are given by the
slice, as for the stream's records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from anyio import CapacityLimiter, to_thread
from attrs import define

from .._parsing.compiled import response_keys
from .._parsing.page import Block, Blocks, PageFormat, RawPage
from .._parsing.splitter import PageSplitter
from ._columns import SORT_KEYS, ColumnConverter, Columns
from ._from_fixed_layout import FixedLayoutDecoder
from ._from_json import JsonColumnDecoder
from ._from_records import RecordColumns
from ._timezones import from_microseconds
from .schema import column_names, in_schema_order, schema_of

if TYPE_CHECKING:
    from .._paging import RowSlice
    from .._paging.spec import ReadSpec
    from .._parsing.decoder import CallDecoder

#: Bytes of JSON to aim at in a page: more than for records, since a thread makes the columns, so that a longer page blocks
#: nothing, and since each request costs the event loop some milliseconds.
_PAGE_BYTES: Final = 3_200_000
#: Bytes of JSON decoded at a time: more than a page usually has.
BLOCK_BYTES: Final = 4 * 1024 * 1024
#: After so many segments in a row that the JSON decoder does not support, the rest of a block is decoded by way of records.
_MAX_FAILURES: Final = 2

#: Start and id of a call, as far as they are read.
SortKey = tuple[datetime | None, int | None]
#: A batch, the sort key of its last row, and whether the row slice may have more.
DecodedRows = tuple[pa.RecordBatch, SortKey, bool]


@define
class ColumnPage(RawPage):
    """A page that was decoded to columns when it arrived, in a third of the memory of its JSON."""

    columns: Columns

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.columns.batch.num_rows  # type: ignore[no-any-return]  # pyarrow has no types


@define
class ColumnRows:
    """The rows of a `ColumnPage` that are not delivered yet."""

    columns: Columns
    rows: Sequence[int]

    def take(self, limit: int | None) -> Columns:
        """The next rows, at most `limit`."""
        rows, self.rows = self.rows[:limit], self.rows[len(self.rows) if limit is None else limit :]
        return self.columns.select(rows)


#: The rows of a slice that are not delivered yet.
RemainingRows = ColumnRows | Blocks


class ColumnPageBuilder:
    """Collects the bytes of a page, and decodes all of them at once."""

    def __init__(self, reader: BatchReader) -> None:
        self._reader = reader
        self._body: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Adds the next bytes."""
        self._body.append(data)

    async def finish(self, wire_bytes: int) -> RawPage:
        """The page: as columns if all its rows are written alike, else as JSON.

        Raises:
            DecodeError: the bytes are not a list of calls.
        """
        return await to_thread.run_sync(self.build, wire_bytes, limiter=self._reader.limiter)

    def build(self, wire_bytes: int) -> RawPage:
        """Blocks for some milliseconds; see `finish`."""
        columns = self._reader.fixed_layout.decode(self._body)
        if columns is None:
            splitter = PageSplitter()
            for data in self._body:
                splitter.feed(data)
            return splitter.build(wire_bytes)
        size = sum(map(len, self._body))
        start_keys, ids = (_integers(columns.batch.column(name)) for name in SORT_KEYS)
        starts = np.frombuffer(start_keys, "M8[us]").tolist()
        return ColumnPage((), starts, ids, size, wire_bytes, columns)


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
            partial(ColumnPageBuilder, self) if self.fixed_layout.supported else PageSplitter, _PAGE_BYTES
        )
        #: The decoders reuse their memory, so one page at a time is decoded. Not the shared limit of threads: if other work
        #: used all of them, the deadline of an attempt could pass while its page waits.
        self.limiter = CapacityLimiter(1)

    def empty_batch(self) -> pa.RecordBatch:
        """A batch without rows."""
        return pa.RecordBatch.from_pylist([], schema=self.schema)

    @staticmethod
    def remaining(rows: RowSlice) -> RemainingRows:
        """The rows of a slice, for `read`."""
        page = rows.body
        return (
            ColumnRows(page.columns, rows.rows) if isinstance(page, ColumnPage) else Blocks(page, rows.rows)
        )

    async def read(self, rows: RemainingRows, limit: int | None) -> DecodedRows:
        """Decodes the next rows of a slice, at most `limit`.

        Raises:
            RecordError: a record is invalid, and `on_error` is `raise`.
        """
        return await to_thread.run_sync(self.read_blocking, rows, limit, limiter=self.limiter)

    def read_blocking(self, rows: RemainingRows, limit: int | None) -> DecodedRows:
        """Blocks for some milliseconds; see `read`."""
        if isinstance(rows, ColumnRows):
            return self._deliver([rows.take(limit)], more=False)
        blocks: list[Block] = []
        count, size = 0, 0
        while (block := rows.take(None if limit is None else limit - count)) is not None:
            blocks.append(block)
            count += block.count
            size += len(block.segment.data)
            if size >= BLOCK_BYTES:
                break
        # With a limit, rows that are skipped are replaced by those after them.
        return self._deliver(self._decode(blocks), more=block is not None or count == limit)

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


def _integers(column: pa.Int64Array) -> memoryview:
    """The integers of a column without nulls, where they are."""
    return memoryview(column.buffers()[1]).cast("q")[column.offset : column.offset + len(column)]


def _concatenate(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches)
    return pa.RecordBatch.from_arrays(
        [column.combine_chunks() for column in table.columns], schema=table.schema
    )
