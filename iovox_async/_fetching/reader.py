"""Turns the pages of a stream into records, pages of records or record batches.

Pages are buffered as bytes, and their rows are in the order of delivery. Records are decoded when the reader asks for them,
in slices of a few milliseconds, so that the event loop stays responsive.

Invariants:
- A step that is cancelled loses nothing: what it has taken stays in the state, and the next step continues from there.
- A step returns the end only when all calls were delivered. Once the stream is closed, every other step raises.
- The state refers to no object that a caller has, so that requests end when the caller drops the stream.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from operator import attrgetter, length_hint
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import evolve
from msgspec import Struct, field

from .._http.turns import DECODING, take_turn
from .._paging import SECOND
from .._paging.spec import FINALITY_DELAY
from .._parsing.page import Blocks
from .._parsing.splitter import SPLIT_PAGES
from ..errors import IovoxError, SessionError
from ..results import Page, StreamStats
from .fetcher import PageFetcher
from .owner import current_task
from .slices import MAX_JOINED, raw_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import pyarrow as pa

    from .._paging import RowSlice
    from .._paging.spec import ReadSpec
    from .._parsing.decoder import CallDecoder
    from .._parsing.page import PageFormat
    from ..arrow._batches import BatchReader
    from ..arrow._late_pages import LatePages
    from ..models import Call
    from .connection import Connection
    from .owner import TaskReference

T = TypeVar("T")

#: Seconds after the start of a stream, when its first request has been sent, and between the steps that prepare its decoder.
PREPARE_SECONDS: Final = 0.004

#: The start and id of a call.
_sort_key: attrgetter[tuple[Any, Any]] = attrgetter("call_start", "id")


class StreamReader(Struct, eq=False, weakref=True):
    """The state of a stream.

    Attributes:
        ready: the decoded calls that are delivered next. Whoever takes one from here has delivered it.
        mode: "calls", "pages" or "arrow"; None until reading starts.
        closed: no more is delivered.
        finished: all calls were delivered.
        last_task: the task that made the latest step.
    """

    spec: ReadSpec
    connection: Connection
    decoder: CallDecoder
    ready: Iterator[Call] = field(default_factory=lambda: iter(()))
    mode: str | None = None
    closed: bool = False
    finished: bool = False
    #: Calls delivered before `ready`, and the start and id of the last of them.
    _calls: int = 0
    _last: tuple[Any, Any] = (None, None)
    #: `ready`, and the starts and the ids of its calls (callers may change these): one value, since any thread may read the position.
    _made_ready: tuple[Iterator[Call], list[Any], list[Any]] = field(
        default_factory=lambda: (iter(()), [], [])
    )
    #: Rows of the slices delivered so far that were left out because their call came twice.
    _duplicates: int = 0
    _error: IovoxError | None = None
    _fetcher: PageFetcher | None = None
    _is_stepping: bool = False
    last_task: TaskReference | None = None
    #: The rows being delivered.
    _rows: RowSlice | None = None
    _blocks: Blocks | None = None
    #: The page being decoded, and the number of pages delivered.
    _page_calls: list[Call] = field(default_factory=list)
    _pages: int = 0
    _late_pages: LatePages | None = None
    _arrow: BatchReader | None = None
    _has_batch: bool = False
    _working: asyncio.Task[Any] | None = None

    # Steps.

    async def step(self, next_item: Callable[[], Awaitable[T | None]]) -> T | None:
        """Returns the next item, or None after the last.

        Raises:
            IovoxError: the stream has failed.
            SessionError: it was closed before all was delivered, or another task is waiting for the next item.
        """
        if self.closed and self.finished:
            return None
        self._check_open()
        if self._is_stepping:
            raise SessionError(
                "another task is reading the stream",
                hint="A stream has one reader at a time: open one for each.",
            )
        self._is_stepping, self.last_task = True, current_task()
        try:
            item = await next_item()
        except Exception as error:
            if isinstance(error, IovoxError):
                # The stream keeps its error, and the frames of a traceback hold a page.
                self.fail(error.with_traceback(None))
            await self.close()
            raise
        except asyncio.CancelledError as error:
            # anyio's task groups keep it in a reference cycle, and the frames of its traceback hold a page.
            error.with_traceback(None)
            raise
        finally:
            self._is_stepping = False
        if item is None:
            await self.close()
        return item

    def _check_open(self) -> None:
        """Raises if another task has closed the stream. To be called after each await of a step."""
        if self.closed:
            raise SessionError(
                "the stream is closed",
                hint="Make a new one; with resume=stream.position it continues after the last call.",
            ) from self._error

    async def _pause(self) -> None:
        """Lets requests, and the rest of the program, continue however fast the caller is."""
        await asyncio.sleep(0)
        await take_turn(DECODING)
        self._check_open()

    async def next_calls(self) -> bool | None:
        """Makes the next few milliseconds' worth of records `ready`; returns None after the last."""
        if self._made_ready[1]:
            self._count_ready()
            await self._pause()
        while not self._reached_max_calls():
            if self._blocks is None:
                self._blocks = await self._next_blocks()
                if self._blocks is None:
                    return None
            block = self._blocks.take(self._remaining_calls())
            if block is None:
                self._blocks = None
                continue
            calls = self.decoder.batch(block.segment.data, block.index, block.rows)
            if calls:
                starts, ids = [call.call_start for call in calls], [call.id for call in calls]
                self._remove_added_fields(calls)
                self._made_ready = iter(calls), starts, ids
                self.ready = self._made_ready[0]
                return True
            await self._pause()
        return None

    async def next_page(self) -> Page | None:
        """Returns the next page, or None after the last."""
        while not self._reached_max_calls():
            if self._blocks is None:
                self._blocks = await self._next_blocks()
                if self._blocks is None:
                    return None
            while (block := self._blocks.take(self._remaining_calls())) is not None:
                self._page_calls += self.decoder.batch(block.segment.data, block.index, block.rows)
                await self._pause()
            assert self._rows is not None
            raw = b""
            if self._page_calls and self._working is None and self._blocks.page.size <= MAX_JOINED:
                raw = self._blocks.page.raw(self._rows.rows)
            elif self._page_calls:
                raw = await self._run_in_own_task(partial(raw_json, self._blocks.page, self._rows.rows))
            response = self._blocks.page
            self._blocks, calls, self._page_calls = None, self._page_calls, []
            if calls:
                self._pages += 1
                self._calls += len(calls)
                self._last = _sort_key(calls[-1])
                self._remove_added_fields(calls)
                return Page(
                    self._pages, calls, raw, response.status_code, response.headers, response.attempts
                )
        return None

    async def next_record_batch(self) -> pa.RecordBatch | None:
        """Returns about a page's rows as a record batch, one without rows if there are no calls, or None after the last."""
        batch = await self._next_batch_with_rows()
        if batch is None and not self._has_batch:
            # A table made of the batches has columns even if there are no calls.
            assert self._arrow is not None
            batch = self._arrow.empty_batch()
        self._has_batch = True
        return batch

    async def _next_batch_with_rows(self) -> pa.RecordBatch | None:
        if self._arrow is None:
            if self._late_pages is None:
                from ..arrow._late_pages import LatePages

                self._late_pages = LatePages()
                if self.spec.max_calls != 0:
                    self._start_requests(self._late_pages.page_format)
            load = partial(self._late_pages.load, self.decoder, self.spec, self.connection.timezone)
            self._arrow = await self._run_in_own_task(load)
        while not self._reached_max_calls():
            if self._blocks is None:
                self._blocks = await self._next_blocks()
                if self._blocks is None:
                    return None
            if self._working is None and self._arrow.is_decoded(self._blocks):
                await self._pause()
                decoded = self._arrow.take_decoded(self._blocks, self._remaining_calls())
            else:
                work = partial(self._arrow.read, self._blocks, self._remaining_calls())
                decoded = await self._run_in_own_task(work)
            batch, last, has_more = decoded
            if not has_more:
                self._blocks = None
            if batch.num_rows:
                self._last = last
                self._calls += batch.num_rows
                return batch
        return None

    async def _run_in_own_task(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs work that takes a thread; if this step is cancelled, the next one takes over the work and its result."""
        if self._working is None:
            self._working, _ = self.connection.supervisor.start_task(work)
            self._working.add_done_callback(_retrieve_exception)
        result: T | None = await asyncio.shield(self._working)
        self._check_open()
        self._working = None
        if result is None:
            raise SessionError("the session was closed while the stream was being read")
        return result

    async def _next_blocks(self) -> Blocks | None:
        if self._fetcher is None:
            self._start_requests(SPLIT_PAGES)
            # While the first page is on its way.
            asyncio.get_running_loop().call_later(PREPARE_SECONDS, _prepare, self.decoder.preparations)
        assert self._fetcher is not None
        self._rows = None
        rows = await self._fetcher.next_rows()
        self._check_open()
        self._rows, self.finished = rows, rows is None
        if rows is None:
            return None
        self._duplicates += rows.duplicates
        return Blocks(rows.body, rows.rows)

    def _start_requests(self, page_format: PageFormat) -> None:
        self._fetcher = PageFetcher(self.spec, self.connection, page_format)

    def _remaining_calls(self) -> int | None:
        if self.spec.max_calls is None:
            return None
        return self.spec.max_calls - self._calls - len(self._page_calls)

    def _reached_max_calls(self) -> bool:
        if self._remaining_calls() == 0 and not self._page_calls:
            self.finished = True
        return self.finished

    def _remove_added_fields(self, calls: list[Call]) -> None:
        for name in self.spec.added_fields:
            for call in calls:
                setattr(call, name, None)

    # Delivered calls.

    @property
    def calls(self) -> int:
        """The number of calls delivered."""
        ready, starts, _ = self._made_ready
        return self._calls + len(starts) - length_hint(ready)

    @property
    def last(self) -> tuple[Any, Any]:
        """The start and id of the last call delivered."""
        ready, starts, ids = self._made_ready
        delivered = len(starts) - length_hint(ready)
        return (starts[delivered - 1], ids[delivered - 1]) if delivered else self._last

    def _count_ready(self) -> None:
        """Counts the delivered calls of `ready`, and drops the others."""
        self._calls, self._last = self.calls, self.last
        self._made_ready = iter(()), [], []
        self.ready = self._made_ready[0]

    def position(self) -> str | None:
        """The position after the last call delivered, or None if the stream cannot be resumed."""
        cursor = self.spec.cursor_after(*self.last)
        return None if cursor is None else str(cursor)

    def fail(self, error: IovoxError) -> None:
        """Records the error that ends the stream, and sets its position."""
        self._error = error
        error.position = self.position()

    # Ending.

    def abandon(self) -> None:
        """Ends all requests of the stream soon."""
        if not self.closed:
            self._close()
            if self._fetcher is not None:
                self._fetcher.abandon(self.stats())

    async def close(self) -> None:
        """Ends all requests of the stream, and returns when they have ended."""
        self._close()
        if self._fetcher is not None:
            try:
                await self._fetcher.stop()
            finally:
                self._fetcher.telemetry.stream_finished(
                    self.stats(), complete=self.finished, error=self._error
                )

    def _close(self) -> None:
        self.closed = True
        self._count_ready()
        self._rows, self._blocks, self._page_calls = None, None, []

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # When the interpreter ends, nothing runs that could be ended, and modules may be gone.
        if not is_finalizing():
            self.abandon()

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
        return evolve(
            stats,
            requests=fetcher.requests,
            retries=fetcher.retries,
            bytes_received=fetcher.bytes_received,
            window_splits=fetcher.window_splits,
            duplicates_dropped=self._duplicates,
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
        of_range = 1.0 - fetcher.plan.seconds_left / max(1.0, total)
        of_calls = self.calls / self.spec.max_calls if self.spec.max_calls else 0.0
        return max(0.0, min(1.0, max(of_range, of_calls)))


def _prepare(steps: Sequence[Callable[[], object]]) -> None:
    """Takes the first step now, and the others one by one, each in a pass of the event loop of its own."""
    steps[0]()
    if steps[1:]:
        asyncio.get_running_loop().call_later(PREPARE_SECONDS, _prepare, steps[1:])


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
