"""From raw pages to records, in order: a stream without its handles.

The law of this room: raw bytes wait, and records are made as the reader asks for them, in slices small enough that the
loop turns. Within a second, calls are handed out by id, so that a second and an id say exactly what is left.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from itertools import compress, count, islice
from operator import attrgetter, eq
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from attrs import define, evolve, field

from iovox_async.results import StreamStats

from .._paging import SECOND, PagePlan
from .._paging.cursor import Cursor
from .._paging.spec import FINALITY_DELAY, ReadSpec
from .._parsing.splitter import SPLIT_PAGES
from ..errors import IovoxError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from .._paging import RowSlice
    from .._parsing.decoder import CallDecoder
    from .._parsing.splitter import PageFormat, Segment
    from ..arrow import BatchReader
    from ..arrow._batches import Rest
    from ..models import Call
    from .fetcher import PageFetcher

__all__ = ["CLOSED", "StreamReader", "where"]


CLOSED = "the stream is closed; make a new one (resume=stream.position goes on where it stood)"

#: Where a call stands in its range: its start and its id.
where: attrgetter[tuple[Any, Any]] = attrgetter("call_start", "id")
_microsecond = attrgetter("microsecond")
_id = attrgetter("id")


@define(eq=False)
class StreamReader:
    """The records of a pump: a stream without its handles. It never refers to them, so that they can be dropped."""

    reading: ReadSpec
    #: Takes what to read, and how its pages are built.
    make_pump: Callable[[ReadSpec, PageFormat], PageFetcher]
    structurer: CallDecoder
    timezone: Any
    pump: PageFetcher | None = None
    calls: int = 0
    #: Start and id of the last call handed out.
    last: tuple[Any, Any] | None = None
    closed: bool = False
    finished: bool = False
    error: IovoxError | None = None
    mode: str | None = None
    #: Calls left out because their answer listed them twice.
    doubled: int = 0
    _piece: RowSlice | None = None
    _segments: Iterator[tuple[int, Segment]] | None = None
    _rest: Rest | None = None
    _held: list[Call] = field(factory=list)
    _arrow: BatchReader | None = None

    # Pieces.

    async def piece(self) -> RowSlice | None:
        """The next rows, or None after the last."""
        if self.closed:
            raise SessionError(CLOSED)
        if self._enough():
            return None
        if self.pump is None:
            page_format = SPLIT_PAGES if self._arrow is None else self._arrow.page_format
            self.pump = self.make_pump(self.reading, page_format)
        self._piece = None
        self._piece = await self.pump.take()
        self.finished = self._piece is None
        return self._piece

    def _enough(self) -> bool:
        """Whether all calls that were asked for are handed out; the stream is finished then."""
        enough = self.reading.max_calls is not None and self.calls >= self.reading.max_calls
        self.finished = self.finished or enough
        return enough

    async def batch(self) -> list[Call] | None:
        """The next records, a few milliseconds' worth, or None after the last."""
        while True:
            # Also in the middle of a piece: what comes after the last call that is wanted is not read.
            if self._enough():
                return None
            if self._segments is None:
                piece = await self.piece()
                if piece is None:
                    return None
                self._segments = piece.body.pick(piece.rows)
                self._held = []
            found = next(self._segments, None)
            if found is None:
                self._segments = None
                batch, self._held = self._held, []
            else:
                index, segment = found
                batch = self._held + self.structurer.batch(segment.data, index)
                self._held = []
                if self.reading.windows and batch:
                    batch, self._held = self._split_ties(batch)
            batch = self._limited(batch)
            if batch:
                return batch

    async def page(self) -> tuple[list[Call], bytes] | None:
        """The records of the next piece and their JSON, or None after the last."""
        while (piece := await self.piece()) is not None:
            calls: list[Call] = []
            for index, segment in piece.body.pick(piece.rows):
                calls += self.structurer.batch(segment.data, index)
                await asyncio.sleep(0)
            calls = self._limited(calls)
            if calls:
                return calls, piece.body.raw(piece.rows)
        return None

    def _split_ties(self, batch: list[Call]) -> tuple[list[Call], list[Call]]:
        """The records whose second is complete, ordered by id within a second; and the rest, held back."""
        second = batch[-1].call_start.replace(microsecond=0)
        place = len(batch) - 1
        while place and batch[place - 1].call_start.replace(microsecond=0) == second:
            place -= 1
        return batch[:place], batch[place:]

    def _limited(self, batch: list[Call]) -> list[Call]:
        """The records in order, from the position on, and no more than were asked for."""
        if self.reading.windows:
            batch = self._ordered(batch)
        resume = self.reading.resume
        if resume is not None and resume.id is not None and batch:
            known, second, down = resume.id, resume.second, self.reading.descending
            batch = [
                call
                for call in batch
                if self._naive(call.call_start) != second or (call.id < known if down else call.id > known)
            ]
        if self.reading.max_calls is not None:
            del batch[max(0, self.reading.max_calls - self.calls) :]
        return batch

    def _ordered(self, batch: list[Call]) -> list[Call]:
        """The calls of each second by id; the answers have ordered the seconds. Listed twice, the last counts."""
        seconds = [call.call_start for call in batch]
        if any(map(_microsecond, seconds)):
            seconds = [moment.replace(microsecond=0) for moment in seconds]
        groups: list[tuple[int, int, list[Call]]] = []
        end = 0
        for first in compress(count(), map(eq, seconds, islice(seconds, 1, None))):
            if first < end:
                continue
            end = first + 2
            while end < len(seconds) and seconds[end] == seconds[first]:
                end += 1
            once = {call.id: call for call in batch[first:end]}
            groups.append((first, end, sorted(once.values(), key=_id, reverse=self.reading.descending)))
        for first, end, group in reversed(groups):
            self.doubled += end - first - len(group)
            batch[first:end] = group
        return batch

    def _naive(self, moment: datetime) -> datetime:
        return moment.replace(microsecond=0, tzinfo=None)

    async def arrow(self) -> pa.RecordBatch | None:
        """The next rows as a record batch, about a piece of them, or None after the last."""
        if self._arrow is None:
            from ..arrow import open_reader

            self._arrow = await to_thread.run_sync(open_reader, self.structurer, self.reading, self.timezone)
        while True:
            if self._rest is None:
                piece = await self.piece()
                if piece is None:
                    return None
                self._rest = self._arrow.rest(piece.body, piece.rows)
            batch, last, more = await self._arrow.read(self._rest, self.calls)
            if not more:
                self._rest = None
            if batch.num_rows:
                self.last = last
                self.calls += batch.num_rows
                return batch

    async def close(self) -> None:
        """Ends what is under way."""
        self.closed = True
        self._piece, self._segments, self._rest, self._held = None, None, None, []
        if self.pump is not None:
            try:
                await self.pump.stop()
            finally:
                self.pump.watch.stream_finished(self.stats(), complete=self.finished, error=self.error)

    def failed(self, error: IovoxError) -> None:
        """Takes notice of what ends the stream, and puts into it where it stood."""
        self.error = error
        error.position = self.position()

    # What is known of the stream.

    def position(self) -> str | None:
        """Where it stands, or None where that says nothing about what is left."""
        reading = self.reading
        if not (reading.windows and reading.ordered):
            return None
        last = self.last
        if last is None and reading.resume is not None:
            return str(reading.resume)
        start, end = reading.lo, reading.hi - SECOND
        if reading.resume is not None:
            start, end = reading.resume.start, reading.resume.end
        if last is None:
            last = (end if reading.descending else start, None)
        query = reading.query.fingerprint()
        return str(Cursor(reading.descending, start, end, self._naive(last[0]), last[1], query))

    def stats(self) -> StreamStats:
        """What it has done so far."""
        reading, pump = self.reading, self.pump
        final = min(reading.hi - SECOND, reading.began - FINALITY_DELAY)
        known = StreamStats(
            calls=self.calls,
            skipped=self.structurer.skipped,
            coerced=self.structurer.coerced,
            complete_until=final if self.timezone is None else final.replace(tzinfo=self.timezone),
        )
        if pump is None:
            return known
        in_hand = self._piece is not None
        # What the plan still waits for when a stream is left early never comes.
        flying, waiting = (0, 0) if self.closed else (pump.plan.flying, pump.plan.waiting)
        return evolve(
            known,
            requests=pump.requests,
            retries=pump.retries,
            bytes_received=pump.bytes,
            window_splits=pump.window_splits,
            duplicates_dropped=self.doubled
            + (pump.plan.duplicates if isinstance(pump.plan, PagePlan) else 0),
            in_flight=flying,
            buffered_pages=waiting,
            peak_buffered_pages=pump.peak + in_hand,
            progress=self._progress(pump),
        )

    def _progress(self, pump: PageFetcher) -> float:
        if pump.plan.done and self._piece is None:
            return 1.0
        total = (self.reading.hi - self.reading.lo) / SECOND
        return max(0.0, min(1.0, 1.0 - pump.plan.seconds_left / max(1.0, total)))
