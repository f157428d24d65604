"""Provides `CallStream`, the async iterator over the calls of a query."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

from ._fetching.owner import end_with_current_task
from ._fetching.session import SessionBound
from .errors import IovoxError, SessionError
from .fields import Fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from datetime import datetime
    from types import TracebackType

    import pyarrow as pa

    from ._fetching.reader import StreamReader
    from .models import Call
    from .results import Page, StreamStats

__all__ = ["CallStream"]

T = TypeVar("T")

# An iterator refers to the reader and not to its stream. If the two referred to each other, a `break` out of a bare
# `async for` would leave the requests running until the garbage collector runs.


class _CallIterator(SessionBound):
    """The calls of a stream."""

    __slots__ = ("__weakref__", "_reader")

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Call:
        reader = self._reader
        while True:
            for call in reader.ready:
                return call
            if await reader.step(reader.next_calls) is None:
                raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends all requests of the stream."""
        await self._reader.close()


class _ItemIterator(SessionBound, Generic[T]):
    """The pages or record batches of a stream."""

    __slots__ = ("__weakref__", "_next_item", "_reader")

    def __init__(self, reader: StreamReader, next_item: Callable[[], Awaitable[T | None]]) -> None:
        self._reader = reader
        self._next_item = next_item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item = await self._reader.step(self._next_item)
        if item is None:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Ends all requests of the stream."""
        await self._reader.close()


class CallStream(SessionBound):
    """An async iterator over the calls of a query. Leaving it early is safe.

    ::

        async with insights.stream("2024-01-01", "2024-03-31") as calls:
            async for call in calls:
                ...
            print(calls.stats)

    `async with` ends all requests at the end of the block. Without it, they end a moment after the stream is dropped (a
    `break` out of `async for`), and when the task that reads it is cancelled or fails.

    Iteration ends without an error only when all calls were delivered: after `aclose`, also from another task, the next step
    raises `SessionError`. A step that is cancelled (`asyncio.timeout`, `wait_for(anext(aiter(stream)), 5)`) loses nothing; the
    next one continues. A stream has one reader at a time.

    At most `2 * concurrency + 1` pages are in memory, however long the range is. Only a second with more calls than one page
    is kept as a whole until it is proven complete, and while it has more pages than that, no others are requested ahead.
    """

    __slots__ = ("__weakref__", "_gathered", "_reader")

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        #: What `collect` or `table` has read while it has not returned, and the position before that.
        self._gathered: tuple[list[Any], str | None] | None = None

    def __aiter__(self) -> AsyncIterator[Call]:
        self._set_mode("calls")
        end_with_current_task(self._reader)
        return _CallIterator(self._reader)

    def pages(self) -> AsyncIterator[Page]:
        """Iterates over pages instead of calls: the calls of one response at a time, with their JSON."""
        self._set_mode("pages")
        end_with_current_task(self._reader)
        return _ItemIterator(self._reader, self._reader.next_page)

    def arrow(self) -> AsyncIterator[pa.RecordBatch]:
        """Iterates over `pyarrow.RecordBatch`es with the schema `iovox_async.arrow.SCHEMA`, decoded in a thread.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        from .arrow import _require_pyarrow

        _require_pyarrow()
        self._set_mode("arrow")
        end_with_current_task(self._reader)
        return _ItemIterator(self._reader, self._reader.next_record_batch)

    def _check_mode(self, mode: Literal["calls", "pages", "arrow"]) -> None:
        if self._reader.mode not in {None, mode}:
            raise SessionError(
                f"the stream is already being read as {self._reader.mode}",
                hint=f"Make another one to read it as {mode}.",
            )

    def _set_mode(self, mode: Literal["calls", "pages", "arrow"]) -> None:
        self._check_mode(mode)
        if self._gathered is not None:
            raise SessionError(
                "a cancelled collect() or table() has read a part of the stream",
                hint="Call it again: it continues where it was cancelled.",
            )
        self._reader.mode = mode

    @contextmanager
    def _gathering(self, mode: Literal["calls", "arrow"]) -> Iterator[list[Any]]:
        """Provides the list that all items are added to. After a cancellation, the next call gets the same list.

        Nothing is delivered before all is, so an error has the position before the first item.
        """
        if self._gathered is None:
            self._set_mode(mode)
            self._gathered = ([], self.position)
        else:
            self._check_mode(mode)
        items, position = self._gathered
        try:
            yield items
        except IovoxError as error:
            error.position = position
            raise
        self._gathered = None

    async def collect(self) -> list[Call]:
        """Returns all calls as a list, for ranges that fit in memory. If it is cancelled, another call continues it."""
        calls: list[Call]
        with self._gathering("calls") as calls:
            end_with_current_task(self._reader)
            async for call in _CallIterator(self._reader):
                calls.append(call)
        return calls

    async def table(self) -> pa.Table:
        """Returns all calls as a `pyarrow.Table` with the schema of `arrow`, for ranges that fit in memory.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        from .arrow import _require_pyarrow

        _require_pyarrow()
        import pyarrow as pa

        batches: list[pa.RecordBatch]
        with self._gathering("arrow") as batches:
            end_with_current_task(self._reader)
            async for batch in _ItemIterator(self._reader, self._reader.next_record_batch):
                batches.append(batch)
        return pa.Table.from_batches(batches, self._schema())

    def _schema(self) -> pa.Schema:
        """The schema of the record batches."""
        from .arrow import schema_for

        fields = self._reader.spec.query.fields or Fields.DEFAULT
        return schema_for(fields, self._reader.connection.timezone)

    @property
    def stats(self) -> StreamStats:
        """The counters of the stream so far."""
        return self._reader.stats()

    @property
    def position(self) -> str | None:
        """The position after the last call delivered: `stream(..., resume=position)` continues exactly there.

        None with `ordered=False` and for orders other than by `call_start`: such a stream cannot be resumed.
        """
        return self._reader.position() if self._gathered is None else self._gathered[1]

    def _keep_skipped_keys(self) -> list[tuple[datetime, int]]:
        """A list that receives the start and id of each skipped record, as far as they can be read."""
        keys: list[tuple[datetime, int]] = []
        self._reader.decoder.skipped_keys = keys
        return keys

    async def aclose(self) -> None:
        """Ends all requests of this stream. It may be called more than once."""
        await self._reader.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        stats = self.stats
        return (
            f"<CallStream {self._reader.spec.query!r}: {stats.calls} calls, {stats.requests} requests, "
            f"{stats.in_flight} in flight, {stats.progress:.0%}>"
        )
