"""Turns the pages of a stream into records, pages of records or record batches.

Pages are buffered as bytes. Records are decoded when the reader asks for them, in slices of a few milliseconds, so that
the event loop stays responsive. Within a second, calls are delivered by id, so that a second and an id determine what is
left of the stream.
"""

from __future__ import annotations

import asyncio
from itertools import compress, count, islice
from operator import attrgetter, eq
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from attrs import define, evolve, field

from .._paging import SECOND, PagePlan
from .._paging.spec import FINALITY_DELAY
from .._parsing.splitter import SPLIT_PAGES
from ..errors import IovoxError, SessionError
from ..results import Page, StreamStats
from .fetcher import PageFetcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import pyarrow as pa

    from .._paging import RowSlice
    from .._paging.spec import ReadSpec
    from .._parsing.decoder import CallDecoder
    from .._parsing.page import Segment
    from ..arrow._batches import BatchReader, Remaining
    from ..models import Call
    from .connection import Connection

__all__ = ["StreamReader", "closed_error", "sort_key"]

#: The start and id of a call.
sort_key: attrgetter[tuple[Any, Any]] = attrgetter("call_start", "id")
_microsecond = attrgetter("microsecond")
_id = attrgetter("id")


def closed_error() -> SessionError:
    """The error for reading a closed stream."""
    return SessionError(
        "the stream is closed",
        hint="Make a new one; with resume=stream.position it continues after the last call.",
    )


@define(eq=False)
class StreamReader:
    """The state of a stream. It does not refer to its `CallStream`, so that dropping the `CallStream` ends it.

    Attributes:
        calls: the number of calls delivered.
        last: the start and id of the last of them.
        mode: "calls", "pages" or "arrow"; None until reading starts.
        finished: all calls were delivered.
    """

    spec: ReadSpec
    connection: Connection
    decoder: CallDecoder
    calls: int = 0
    last: tuple[Any, Any] = (None, None)
    mode: str | None = None
    closed: bool = False
    finished: bool = False
    _error: IovoxError | None = None
    _fetcher: PageFetcher | None = None
    _pages: int = 0
    #: Calls dropped because their page listed them twice.
    _duplicates: int = 0
    _rows: RowSlice | None = None
    _segments: Iterator[tuple[int, Segment]] | None = None
    _buffered: list[Call] = field(factory=list)
    _arrow: BatchReader | None = None
    _arrow_rows: Remaining | None = None
    _arrow_has_batch: bool = False

    async def _next_rows(self) -> RowSlice | None:
        if self.closed:
            raise closed_error()
        if self._reached_max_calls():
            return None
        if self._fetcher is None:
            page_format = SPLIT_PAGES if self._arrow is None else self._arrow.page_format
            self._fetcher = PageFetcher(self.spec, self.connection, page_format)
        self._rows = None
        self._rows = await self._fetcher.next_rows()
        self.finished = self._rows is None
        return self._rows

    def _reached_max_calls(self) -> bool:
        reached = self.spec.max_calls is not None and self.calls >= self.spec.max_calls
        self.finished = self.finished or reached
        return reached

    async def next_calls(self) -> list[Call] | None:
        """Returns the next few milliseconds' worth of records, or None after the last."""
        while True:
            # Checked within a page too: nothing after the last call wanted is decoded.
            if self._reached_max_calls():
                return None
            if self._segments is None:
                rows = await self._next_rows()
                if rows is None:
                    return None
                self._segments = rows.body.pick(rows.rows)
                self._buffered = []
            item = next(self._segments, None)
            if item is None:
                self._segments = None
                calls, self._buffered = self._buffered, []
            else:
                index, segment = item
                calls = self._buffered + self.decoder.batch(segment.data, index)
                self._buffered = []
                if self.spec.by_windows and calls:
                    calls, self._buffered = _split_off_last_second(calls)
            calls = self._select(calls)
            if calls:
                return calls

    async def next_page(self) -> Page | None:
        """Returns the next page, or None after the last."""
        while (rows := await self._next_rows()) is not None:
            calls: list[Call] = []
            for index, segment in rows.body.pick(rows.rows):
                calls += self.decoder.batch(segment.data, index)
                await asyncio.sleep(0)
            calls = self._select(calls)
            if calls:
                self._pages += 1
                self.last = sort_key(calls[-1])
                self.calls += len(calls)
                for name in self.spec.added_fields:
                    for call in calls:
                        setattr(call, name, None)
                return Page(self._pages, calls, rows.body.raw(rows.rows))
        return None

    async def next_record_batch(self) -> pa.RecordBatch | None:
        """Returns about a page's rows as a record batch, one without rows if there are no calls, or None after the last."""
        if self._arrow is None:
            from ..arrow import _new_batch_reader

            timezone = self.connection.timezone
            self._arrow = await to_thread.run_sync(_new_batch_reader, self.decoder, self.spec, timezone)
        while True:
            if self._arrow_rows is None:
                rows = await self._next_rows()
                if rows is None:
                    # A table made of the batches has columns even if there are no calls.
                    first, self._arrow_has_batch = not self._arrow_has_batch, True
                    return self._arrow.empty_batch() if first else None
                self._arrow_rows = self._arrow.rest(rows.body, rows.rows)
            batch, last, has_more = await self._arrow.read(self._arrow_rows, self.calls)
            if not has_more:
                self._arrow_rows = None
            if batch.num_rows:
                self.last = last
                self.calls += batch.num_rows
                self._arrow_has_batch = True
                return batch

    def _select(self, calls: list[Call]) -> list[Call]:
        """The calls in order, from the resume position on, and no more than `max_calls`."""
        spec = self.spec
        if spec.by_windows:
            calls = self._sort_by_id(calls)
        resume = spec.resume
        if resume is not None and resume.id is not None and calls:
            second, last_id, descending = resume.second, resume.id, spec.descending
            calls = [
                call
                for call in calls
                if call.call_start.replace(microsecond=0, tzinfo=None) != second
                or (call.id < last_id if descending else call.id > last_id)
            ]
        if spec.max_calls is not None:
            del calls[max(0, spec.max_calls - self.calls) :]
        return calls

    def _sort_by_id(self, calls: list[Call]) -> list[Call]:
        """Sorts the calls of each second by id; the page has sorted the seconds. Of duplicates the last is kept."""
        seconds = [call.call_start for call in calls]
        if any(map(_microsecond, seconds)):
            seconds = [second.replace(microsecond=0) for second in seconds]
        groups: list[tuple[int, int, list[Call]]] = []
        end = 0
        for first in compress(count(), map(eq, seconds, islice(seconds, 1, None))):
            if first < end:
                continue
            end = first + 2
            while end < len(seconds) and seconds[end] == seconds[first]:
                end += 1
            unique = {call.id: call for call in calls[first:end]}
            groups.append((first, end, sorted(unique.values(), key=_id, reverse=self.spec.descending)))
        for first, end, group in reversed(groups):
            self._duplicates += end - first - len(group)
            calls[first:end] = group
        return calls

    def fail(self, error: IovoxError) -> None:
        """Records the error that ends the stream, and sets its position."""
        self._error = error
        error.position = self.position()

    async def close(self) -> None:
        """Ends all requests of the stream."""
        self.closed = True
        self._rows, self._segments, self._arrow_rows, self._buffered = None, None, None, []
        if self._fetcher is not None:
            try:
                await self._fetcher.stop()
            finally:
                self._fetcher.telemetry.stream_finished(
                    self.stats(), complete=self.finished, error=self._error
                )

    def position(self) -> str | None:
        """The position after the last call delivered, or None if the stream cannot be resumed."""
        cursor = self.spec.cursor_after(*self.last)
        return None if cursor is None else str(cursor)

    def stats(self) -> StreamStats:
        """The counters of the stream so far."""
        fetcher = self._fetcher
        stats = StreamStats(
            calls=self.calls,
            skipped=self.decoder.skipped,
            coerced=self.decoder.coerced,
            complete_until=self._complete_until(),
        )
        if fetcher is None:
            return stats
        plan = fetcher.plan
        duplicates = plan.duplicates if isinstance(plan, PagePlan) else 0
        return evolve(
            stats,
            requests=fetcher.requests,
            retries=fetcher.retries,
            bytes_received=fetcher.bytes_received,
            window_splits=fetcher.window_splits,
            duplicates_dropped=self._duplicates + duplicates,
            # After closing, the plan still counts requests that were cancelled.
            in_flight=0 if self.closed else plan.in_flight,
            buffered_pages=0 if self.closed else plan.buffered,
            peak_buffered_pages=fetcher.peak_buffered + (self._rows is not None),
            progress=self._progress(fetcher),
        )

    def _complete_until(self) -> datetime:
        time = self.connection.time
        # What the server's clock has shown since then counts too.
        final_until = time.final_until(FINALITY_DELAY, self.spec.resolved_at)
        return min(self.spec.stop - SECOND, final_until).replace(tzinfo=time.timezone)

    def _progress(self, fetcher: PageFetcher) -> float:
        if fetcher.plan.done and self._rows is None:
            return 1.0
        total = (self.spec.stop - self.spec.start) / SECOND
        return max(0.0, min(1.0, 1.0 - fetcher.plan.seconds_left / max(1.0, total)))


def _split_off_last_second(calls: list[Call]) -> tuple[list[Call], list[Call]]:
    """Splits calls into those whose second is complete and those of the last second."""
    second = calls[-1].call_start.replace(microsecond=0)
    index = len(calls) - 1
    while index and calls[index - 1].call_start.replace(microsecond=0) == second:
        index -= 1
    return calls[:index], calls[index:]
