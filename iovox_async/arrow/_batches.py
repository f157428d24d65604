"""The batches of a stream: in order, from a position on, and made in a thread.

The law of this room: the rows that come out, and their order, are those of the stream's records, and the event loop
waits for none of the work. A piece of common size becomes one batch. A large one is read some megabytes at a time, and the
last second of each part waits for the next, since calls of one second are ordered by id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from anyio import CapacityLimiter, to_thread

from .._parsing.splitter import PageFormat, PageSplitter, RawPage, Segment
from ._arrays import constant, wholes
from ._document import UnsupportedByFastPath
from ._from_json import JsonColumnDecoder, Table
from ._from_records import InvalidCallError, RecordColumns
from ._pages import KEYS, ColumnPage, Picked
from ._timezones import FIRST, microseconds
from .schema import columns_for, schema_of

if TYPE_CHECKING:
    from .._paging.spec import ReadSpec
    from .._parsing.decoder import CallDecoder

__all__ = ["CHUNK_BYTES", "BatchReader"]

#: Bytes of JSON read at a time: more than a page of common size has.
CHUNK_BYTES: Final = 4 * 1024 * 1024
#: Bytes of JSON to aim at in a page: more than for records, since a thread makes the columns, so that a longer page blocks
#: nothing, and since each request costs the event loop some milliseconds.
_PAGE_BYTES: Final = 3_200_000
#: Segments in a row that are tried the fast way in vain before the rest of a chunk goes the exact way.
_TRIES: Final = 2
_SECOND: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the endpoint's dates have no zone

#: Where the last call stands: its start and id, as far as these are read.
Place = tuple[datetime | None, int | None]
#: Rows that are still to be read.
Rest = Iterator[tuple[int, Segment]] | Picked


class _ColumnPageBuilder:
    """Collects the bytes of a page, and builds it of all of them at once."""

    def __init__(self, build: Callable[[Sequence[bytes], int], Awaitable[RawPage]]) -> None:
        self._build = build
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self._parts.append(data)

    async def finish(self, wire_bytes: int) -> RawPage:
        return await self._build(self._parts, wire_bytes)


class BatchReader:
    """Makes record batches of the segments of one stream.

    Args:
        structurer: makes records of what the fast way refuses, and keeps the counts.
        reading: what the stream reads.
        timezone: the account's.
    """

    def __init__(self, structurer: CallDecoder, reading: ReadSpec, timezone: tzinfo | None) -> None:
        self._structurer = structurer
        self._reading = reading
        self._zone = timezone
        columns = columns_for(reading.fields)
        #: The schema of every batch.
        self.schema: pa.Schema = schema_of(
            [name for name in columns if name not in reading.added_fields], timezone
        )
        self._fast = JsonColumnDecoder(
            columns, [name for name in ("id", "call_start") if name in columns], timezone
        )
        self._exact = RecordColumns(self.schema, timezone)
        self._has_keys = {"id", "call_start"} <= set(columns)
        flat = self._has_keys and self._fast.flat
        #: How pages are built: as columns at once, where the fields allow that.
        self.page_format = PageFormat(
            partial(_ColumnPageBuilder, self.page) if flat else PageSplitter, _PAGE_BYTES
        )
        #: What reads has memory of its own, so one page at a time is read; and whatever else keeps threads busy, there is one
        #: for it, since an attempt's time runs meanwhile.
        self._turn = CapacityLimiter(1)
        self._held: pa.RecordBatch | None = None

    async def page(self, parts: Sequence[bytes], wire: int) -> RawPage:
        """A page in the parts it came in: as columns where that is quick and certain, else as JSON.

        Args:
            parts: its bytes.
            wire: how many they were on the way.

        Raises:
            DecodeError: the bytes are not a list of calls.
        """
        return await to_thread.run_sync(self._page, parts, wire, limiter=self._turn)

    def _page(self, parts: Sequence[bytes], wire: int) -> RawPage:
        table = self._fast.page(parts)
        if table is None or table.wall is None:
            reader = PageSplitter()
            for part in parts:
                reader.feed(part)
            return reader.close(wire)
        rows = self._batch(table)
        wall = np.frombuffer(table.wall.buffers()[1], np.int64)[table.wall.offset :][: table.rows]
        starts: list[datetime | None] = wall.view("M8[us]").tolist()
        return ColumnPage((), starts, sum(map(len, parts)), wire, rows, frozenset(table.coerced))

    @staticmethod
    def rest(page: RawPage, rows: Sequence[int]) -> Rest:
        """These rows of a page, to be read."""
        return page.picked(rows) if isinstance(page, ColumnPage) else page.pick(rows)

    async def read(self, rest: Rest, calls: int) -> tuple[pa.RecordBatch, Place, bool]:
        """The next rows of a piece, where its last row stands, and whether the piece may have more.

        Args:
            rest: the rest of the piece; JSON in segments, each with the place of its first row in the page.
            calls: how many calls the stream has handed out.

        Raises:
            RecordError: a record cannot be read, and `on_error` is `raise`.
        """
        return await to_thread.run_sync(self._next, rest, calls, limiter=self._turn)

    def _next(self, rest: Rest, calls: int) -> tuple[pa.RecordBatch, Place, bool]:
        if isinstance(rest, Picked):
            self._structurer.coerced += rest.coerced
            return self._handed([rest.rows], calls, more=False)
        chunk: list[tuple[int, Segment]] = []
        size, more = 0, False
        for index, segment in rest:
            chunk.append((index, segment))
            size += len(segment.data)
            if size >= CHUNK_BYTES:
                more = True
                break
        return self._handed(self._rows(chunk), calls, more=more)

    def _handed(
        self, batches: Iterable[pa.RecordBatch], calls: int, *, more: bool
    ) -> tuple[pa.RecordBatch, Place, bool]:
        held = [] if self._held is None else [self._held]
        self._held = None
        rows = self._joined([*held, *batches])
        if self._reading.by_windows:
            if more and rows.num_rows:
                rows, self._held = _split_ties(rows)
            rows = self._after_position(self._ordered(rows))
        if self._reading.max_calls is not None:
            left = max(0, self._reading.max_calls - calls)
            more = more and rows.num_rows < left
            rows = rows.slice(0, left)
        return rows.select(self.schema.names), self._place(rows), more

    # From bytes to rows: the schema's columns and the keys.

    def _rows(self, chunk: Sequence[tuple[int, Segment]]) -> Iterator[pa.RecordBatch]:
        try:
            yield self._quick([segment for _, segment in chunk])
        except UnsupportedByFastPath:
            pass
        else:
            return
        misses = 0
        for index, segment in chunk:
            if misses < _TRIES:
                try:
                    yield self._quick([segment])
                except UnsupportedByFastPath:
                    misses += 1
                else:
                    misses = 0
                    continue
            yield self._slow(segment, index)

    def _quick(self, segments: Sequence[Segment]) -> pa.RecordBatch:
        table = self._fast.table(
            [segment.data for segment in segments], sum(segment.rows for segment in segments)
        )
        self._structurer.coerced += len(table.coerced)
        return self._batch(table)

    def _batch(self, table: Table) -> pa.RecordBatch:
        rows = pa.RecordBatch.from_arrays(
            [table.columns[name] for name in self.schema.names], schema=self.schema
        )
        return self._keyed(rows, table.wall, table.columns["id"]) if self._has_keys else rows

    def _slow(self, segment: Segment, index: int) -> pa.RecordBatch:
        calls = self._structurer.batch(segment.data, index)
        while True:
            try:
                rows = self._exact.batch(calls)
                break
            except InvalidCallError as error:
                if not self._structurer.skips_errors:
                    raise error.at(index + error.place) from None
                self._structurer.skipped += 1
                del calls[error.place]
        if not self._has_keys:
            return rows
        wall = [microseconds(call.call_start.replace(tzinfo=None)) for call in calls]
        return self._keyed(rows, wholes(wall), wholes([call.id for call in calls]))

    @staticmethod
    def _keyed(rows: pa.RecordBatch, wall: pa.Int64Array, ids: pa.Int64Array) -> pa.RecordBatch:
        second = pc.divide(pc.subtract(wall, constant(FIRST)), constant(_SECOND))
        return pa.RecordBatch.from_arrays([*rows.columns, second, ids], names=[*rows.schema.names, *KEYS])

    def _joined(self, batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
        if len(batches) == 1:
            return batches[0]
        members = [*self.schema, *(pa.field(key, pa.int64()) for key in KEYS if self._has_keys)]
        table = pa.Table.from_batches(batches, pa.schema(members)).combine_chunks()
        columns = [column.combine_chunks() for column in table.columns]
        return pa.RecordBatch.from_arrays(columns, schema=table.schema)

    # Which of them, and in what order.

    def _ordered(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """By the second, then by the id: as they came, unless calls of one second came in another order."""
        if rows.num_rows < 2:
            return rows
        second, ids = (rows.column(key) for key in KEYS)
        seconds, numbers = (second[:-1], second[1:]), (ids[:-1], ids[1:])
        wrong = pc.less if self._reading.descending else pc.greater
        tied = pc.and_(pc.equal(*seconds), wrong(*numbers))
        if not pc.any(pc.or_(tied, wrong(*seconds))).as_py():
            return rows
        direction = "descending" if self._reading.descending else "ascending"
        keys = pa.RecordBatch.from_arrays([second, ids], names=["second", "id"])
        return rows.take(pc.sort_indices(keys, sort_keys=[("second", direction), ("id", direction)]))

    def _after_position(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        resume = self._reading.resume
        if resume is None or resume.id is None:
            return rows
        second, ids = (rows.column(key) for key in KEYS)
        elsewhere = pc.not_equal(second, constant((microseconds(resume.second) - FIRST) // _SECOND))
        after = pc.less if self._reading.descending else pc.greater
        return rows.filter(pc.or_(elsewhere, after(ids, constant(resume.id))))

    def _place(self, rows: pa.RecordBatch) -> Place:
        if not (self._has_keys and rows.num_rows):
            return None, None
        second, number = (rows.column(key)[-1].as_py() for key in KEYS)
        start = _EPOCH + timedelta(microseconds=FIRST + second * _SECOND)
        return start.replace(tzinfo=self._zone), number


def _split_ties(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The rows whose second is complete, and those of the last second."""
    second = rows.column(KEYS[0])
    others = pc.indices_nonzero(pc.not_equal(second, second[-1]))
    place = others[-1].as_py() + 1 if len(others) else 0
    return rows.slice(0, place), rows.slice(place)
