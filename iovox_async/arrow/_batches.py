"""Makes the record batches of a stream, in threads.

One row slice becomes one batch. A large one is decoded some megabytes at a time, and the last second of each block is carried
over to the next, since calls of one second are ordered by id. The rows and their order are those of the stream's records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from anyio import CapacityLimiter, to_thread
from attrs import define

from .._parsing.compiled import response_keys
from .._parsing.page import PageFormat, RawPage, Segment
from .._parsing.splitter import PageSplitter
from ._arrays import int_scalar
from ._columns import SECOND, SORT_KEYS, ColumnConverter, Columns
from ._from_fixed_layout import FixedLayoutDecoder
from ._from_json import JsonColumnDecoder
from ._from_records import RecordColumns
from ._timezones import MIN_MICROSECONDS, from_microseconds, to_microseconds
from .schema import column_names, in_schema_order, schema_of

if TYPE_CHECKING:
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
#: The rest of a row slice: columns, or segments, each with the index of its first row in the page.
Remaining = Columns | Iterator[tuple[int, Segment]]


@define
class ColumnPage(RawPage):
    """A page that was decoded to columns when it arrived, in a third of the memory of its JSON."""

    columns: Columns

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.columns.batch.num_rows  # type: ignore[no-any-return]  # pyarrow has no types

    def ids(self) -> list[int | str | None]:
        """The id of each row."""
        return self.columns.batch.column(SORT_KEYS[1]).to_pylist()  # type: ignore[no-any-return]  # as above


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
        assert columns.starts is not None
        microseconds = np.frombuffer(columns.starts.buffers()[1], np.int64)[columns.starts.offset :]
        starts = microseconds[: columns.batch.num_rows].view("M8[us]").tolist()
        size = sum(map(len, self._body))
        return ColumnPage((), starts, size, wire_bytes, Columns(columns.batch, columns.coerced))


class BatchReader:
    """Makes record batches of the row slices of one stream.

    Args:
        decoder: makes the records of pages that the faster decoders do not support, and has the counters.
        spec: what the stream reads.
        timezone: the account's time zone.
    """

    def __init__(self, decoder: CallDecoder, spec: ReadSpec, timezone: tzinfo | None) -> None:
        self._decoder = decoder
        self._spec = spec
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
        self._carried_over: pa.RecordBatch | None = None

    def empty_batch(self) -> pa.RecordBatch:
        """A batch without rows."""
        return pa.RecordBatch.from_pylist([], schema=self.schema)

    @staticmethod
    def rest(page: RawPage, rows: Sequence[int]) -> Remaining:
        """These rows of a page, for `read`."""
        return page.columns.select(rows) if isinstance(page, ColumnPage) else page.pick(rows)

    async def read(self, remaining: Remaining, calls: int) -> tuple[pa.RecordBatch, SortKey, bool]:
        """The next rows of a row slice, the sort key of the last one, and whether the slice may have more.

        Args:
            remaining: the rest of the row slice.
            calls: how many calls the stream has delivered.

        Raises:
            RecordError: a record is invalid, and `on_error` is `raise`.
        """
        return await to_thread.run_sync(self.read_blocking, remaining, calls, limiter=self.limiter)

    def read_blocking(self, remaining: Remaining, calls: int) -> tuple[pa.RecordBatch, SortKey, bool]:
        """Blocks for some milliseconds; see `read`."""
        if isinstance(remaining, Columns):
            return self._deliver([remaining], calls, more=False)
        block: list[tuple[int, Segment]] = []
        size, more = 0, False
        for index, segment in remaining:
            block.append((index, segment))
            size += len(segment.data)
            if size >= BLOCK_BYTES:
                more = True
                break
        return self._deliver(self._decode(block), calls, more=more)

    def _decode(self, block: Sequence[tuple[int, Segment]]) -> Iterator[Columns]:
        """The columns of these segments; an unusual record slows down only its own segment."""
        columns = self._json.decode([segment for _, segment in block])
        if columns is not None:
            yield columns
            return
        failures = 0
        for index, segment in block:
            columns = self._json.decode([segment]) if failures < _MAX_FAILURES else None
            failures = 0 if columns is not None else failures + 1
            yield columns or self._records.decode(
                segment, index, self._decoder, sort_keys=self._has_sort_keys
            )

    def _deliver(
        self, decoded: Iterable[Columns], calls: int, *, more: bool
    ) -> tuple[pa.RecordBatch, SortKey, bool]:
        batches = [] if self._carried_over is None else [self._carried_over]
        self._carried_over = None
        for columns in decoded:
            self._decoder.coerced += len(columns.coerced)
            batches.append(columns.batch)
        rows = _concatenate(batches)
        if self._spec.by_windows:
            if more and rows.num_rows:
                rows, self._carried_over = _split_last_second(rows)
            rows = self._after_resume_position(self._sort(rows))
        if self._spec.max_calls is not None:
            remaining_calls = max(0, self._spec.max_calls - calls)
            more = more and rows.num_rows < remaining_calls
            rows = rows.slice(0, remaining_calls)
        return rows.select(self.schema.names), self._last_key(rows), more

    def _sort(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Orders rows by second and id; usually they are in order already."""
        if rows.num_rows < 2:
            return rows
        seconds, ids = (rows.column(key) for key in SORT_KEYS)
        is_wrong = pc.less if self._spec.descending else pc.greater
        wrong_ids = pc.and_(pc.equal(seconds[:-1], seconds[1:]), is_wrong(ids[:-1], ids[1:]))
        if not pc.any(pc.or_(wrong_ids, is_wrong(seconds[:-1], seconds[1:]))).as_py():
            return rows
        direction = "descending" if self._spec.descending else "ascending"
        keys = pa.RecordBatch.from_arrays([seconds, ids], names=["second", "id"])
        return rows.take(pc.sort_indices(keys, sort_keys=[("second", direction), ("id", direction)]))

    def _after_resume_position(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        resume = self._spec.resume
        if resume is None or resume.id is None:
            return rows
        seconds, ids = (rows.column(key) for key in SORT_KEYS)
        resume_second = (to_microseconds(resume.second) - MIN_MICROSECONDS) // SECOND
        is_after = pc.less if self._spec.descending else pc.greater
        return rows.filter(
            pc.or_(pc.not_equal(seconds, int_scalar(resume_second)), is_after(ids, int_scalar(resume.id)))
        )

    def _last_key(self, rows: pa.RecordBatch) -> SortKey:
        if not (self._has_sort_keys and rows.num_rows):
            return None, None
        second, call_id = (rows.column(key)[-1].as_py() for key in SORT_KEYS)
        return from_microseconds(MIN_MICROSECONDS + second * SECOND).replace(tzinfo=self._zone), call_id


def _concatenate(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches)
    return pa.RecordBatch.from_arrays(
        [column.combine_chunks() for column in table.columns], schema=table.schema
    )


def _split_last_second(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The rows before the last second, and those of it."""
    seconds = rows.column(SORT_KEYS[0])
    earlier = pc.indices_nonzero(pc.not_equal(seconds, seconds[-1]))
    start = earlier[-1].as_py() + 1 if len(earlier) else 0
    return rows.slice(0, start), rows.slice(start)
