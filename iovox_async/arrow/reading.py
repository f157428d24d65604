"""The batches of a stream: in order, from a position on, and made in a thread.

The law of this room: the rows that come out, and their order, are those of the stream's records, and the event loop
waits for none of the work. A piece of common size becomes one batch. A large one is read some megabytes at a time, and the
last second of each part waits for the next, since calls of one second are ordered by id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from anyio import to_thread

from .exact import UnfitCallError, Writer
from .fast import FastWay, MisfitError
from .instants import FIRST, microseconds
from .schema import EXTRA, columns_for, schema_of

if TYPE_CHECKING:
    from ..reading import Reading
    from ..records import Call
    from ..structure import Structurer
    from ..wire import Segment

__all__ = ["CHUNK_BYTES", "ArrowReader"]

#: Bytes of JSON read at a time: more than a page of common size has.
CHUNK_BYTES: Final = 4 * 1024 * 1024
#: Segments in a row that are tried the fast way in vain before the rest of a chunk goes the exact way.
_TRIES: Final = 2
_SECOND: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the endpoint's dates have no zone

#: What rows are ordered by, beside the columns that are handed out: the second on the wall, and the id.
_KEYS: Final = ("\0second", "\0id")

#: Where the last call stands: its start and id, as far as these are read.
Place = tuple[datetime | None, int | None]


class ArrowReader:
    """Makes record batches of the segments of one stream.

    Args:
        structurer: makes records of what the fast way refuses, and keeps the counts.
        reading: what the stream reads.
        timezone: the account's.
    """

    def __init__(self, structurer: Structurer, reading: Reading, timezone: tzinfo | None) -> None:
        self._structurer = structurer
        self._reading = reading
        self._zone = timezone
        columns = columns_for(reading.fields)
        #: The schema of every batch.
        self.schema = schema_of([name for name in columns if name not in reading.hidden], timezone)
        self._fast = FastWay(columns, [name for name in ("id", "call_start") if name in columns], timezone)
        self._exact = Writer(self.schema, timezone)
        self._keyed = {"id", "call_start"} <= set(columns)
        self._held: pa.RecordBatch | None = None

    async def read(
        self, segments: Iterator[tuple[int, Segment]], calls: int
    ) -> tuple[pa.RecordBatch, Place, bool]:
        """The next rows of a piece, where its last row stands, and whether the piece may have more.

        Args:
            segments: the rest of the piece, each segment with the place of its first row in the page.
            calls: how many calls the stream has handed out.

        Raises:
            RecordError: a record cannot be read, and `on_error` is `raise`.
        """
        return await to_thread.run_sync(self._next, segments, calls)

    def _next(self, segments: Iterator[tuple[int, Segment]], calls: int) -> tuple[pa.RecordBatch, Place, bool]:
        chunk: list[tuple[int, Segment]] = []
        size, more = 0, False
        for index, segment in segments:
            chunk.append((index, segment))
            size += len(segment.data)
            if size >= CHUNK_BYTES:
                more = True
                break
        rows = self._joined([self._held, *self._rows(chunk)])
        self._held = None
        if self._reading.windows:
            if more:
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
        except MisfitError:
            pass
        else:
            return
        misses = 0
        for index, segment in chunk:
            if misses < _TRIES:
                try:
                    yield self._quick([segment])
                except MisfitError:
                    misses += 1
                else:
                    misses = 0
                    continue
            yield self._slow(segment, index)

    def _quick(self, segments: Sequence[Segment]) -> pa.RecordBatch:
        table = self._fast.table([segment.data for segment in segments], sum(segment.rows for segment in segments))
        self._structurer.bent += len(table.bent)
        arrays = [table.columns[name] for name in self.schema.names]
        return self._keyed_batch(pa.RecordBatch.from_arrays(arrays, schema=self.schema), table.wall, table.columns.get("id"))

    def _slow(self, segment: Segment, index: int) -> pa.RecordBatch:
        calls = self._structurer.batch(segment.data, index)
        while True:
            try:
                batch = self._exact.batch(calls)
            except UnfitCallError as error:
                if not self._structurer.skips:
                    raise error.at(index + error.place) from None
                self._structurer.skipped += 1
                del calls[error.place]
            else:
                break
        ...
