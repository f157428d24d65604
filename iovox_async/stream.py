"""Provides `CallStream`, the async iterator over the calls of a query."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from ._fetching.reader import StreamReader, closed_error, sort_key
from .errors import IovoxError, SessionError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from datetime import datetime
    from types import TracebackType

    import pyarrow as pa

    from .models import Call
    from .results import Page, StreamStats

__all__ = ["CallStream"]

T = TypeVar("T")

# The two generators refer to the reader and not to the stream. If a generator and its stream referred to each other, a
# `break` out of a bare `async for` would leave the requests running until the garbage collector runs.


async def _iterate_calls(reader: StreamReader) -> AsyncGenerator[Call, None]:
    added_fields = reader.spec.added_fields
    try:
        while (calls := await reader.next_calls()) is not None:
            for call in calls:
                # Before the caller gets the call and may change it.
                reader.last = sort_key(call)
                reader.calls += 1
                for name in added_fields:
                    setattr(call, name, None)
                yield call
            # Lets requests, and the rest of the program, continue however fast the caller is.
            await asyncio.sleep(0)
    except IovoxError as error:
        reader.fail(error)
        raise
    finally:
        await reader.close()


async def _iterate(
    reader: StreamReader, next_item: Callable[[], Awaitable[T | None]]
) -> AsyncGenerator[T, None]:
    try:
        while (item := await next_item()) is not None:
            yield item
    except IovoxError as error:
        reader.fail(error)
        raise
    finally:
        await reader.close()


class CallStream:
    """An async iterator over the calls of a query. Leaving it early is safe.

    ::

        async with insights.stream("2024-01-01", "2024-03-31") as calls:
            async for call in calls:
                ...
            print(calls.stats)

    `async with` ends all requests at the end of the block. Without it, a `break` out of `async for` ends them a moment
    later. At most `2 * concurrency + 1` pages are in memory, however long the range is. A stream has one reader at a time.
    """

    __slots__ = ("__weakref__", "_iterator", "_reader")

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._iterator: AsyncGenerator[Any, None] | None = None

    def __aiter__(self) -> AsyncIterator[Call]:
        return self._open("calls", _iterate_calls)

    def pages(self) -> AsyncIterator[Page]:
        """Iterates over pages instead of calls: the calls of one response at a time, with their JSON."""
        return self._open("pages", lambda reader: _iterate(reader, reader.next_page))

    def arrow(self) -> AsyncIterator[pa.RecordBatch]:
        """Iterates over `pyarrow.RecordBatch`es with the schema `iovox_async.arrow.schema_for(fields, timezone)`.

        They are decoded in a thread. A stream without calls yields one batch without rows, so that it has a schema too.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        from .arrow import _require_pyarrow

        _require_pyarrow()
        return self._open("arrow", lambda reader: _iterate(reader, reader.next_record_batch))

    def _open(
        self,
        mode: Literal["calls", "pages", "arrow"],
        iterate: Callable[[StreamReader], AsyncGenerator[T, None]],
    ) -> AsyncGenerator[T, None]:
        reader = self._reader
        if reader.mode not in {None, mode}:
            raise SessionError(
                f"the stream is already being read as {reader.mode}",
                hint=f"Make another one to read it as {mode}.",
            )
        if reader.closed and not reader.finished:
            raise closed_error()
        reader.mode = mode
        if self._iterator is None:
            self._iterator = iterate(reader)
        return self._iterator

    async def collect(self) -> list[Call]:
        """Returns all calls as a list, for ranges that fit in memory."""
        return [call async for call in self]

    @property
    def stats(self) -> StreamStats:
        """The counters of the stream so far."""
        return self._reader.stats()

    @property
    def position(self) -> str | None:
        """The position after the last call delivered: `stream(..., resume=position)` continues exactly there.

        None with `ordered=False` and for orders other than by `call_start`: such a stream cannot be resumed.
        """
        return self._reader.position()

    def _keep_skipped_keys(self) -> list[tuple[datetime, int]]:
        """A list that receives the start and id of each skipped record, as far as they can be read."""
        keys: list[tuple[datetime, int]] = []
        self._reader.decoder.skipped_keys = keys
        return keys

    async def aclose(self) -> None:
        """Ends all requests of this stream. It may be called more than once."""
        if self._iterator is not None and not getattr(self._iterator, "ag_running", False):
            await self._iterator.aclose()
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
