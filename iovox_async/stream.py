"""`CallStream`: the calls of one question, as they come.

The law of this room: handles only. What a stream does is done by a `StreamReader`, which never refers to its handle, so that
a handle that is dropped takes everything with it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from ._fetching.reader import CLOSED, StreamReader, where
from .errors import IovoxError, SessionError
from .results import Page, StreamStats

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from types import TracebackType

    import pyarrow as pa

    from .models import Call

__all__ = ["CallStream", "Page", "StreamStats"]

T = TypeVar("T")


async def _records(reader: StreamReader) -> AsyncGenerator[Call, None]:
    # A function of the reader alone: were it a method of the stream, the two would hold each other, and a `break`
    # out of a bare `async for` would leave the requests running until the garbage collector came by.
    hidden = reader.reading.hidden
    try:
        while (batch := await reader.batch()) is not None:
            for call in batch:
                # Now, since whoever has it may change it.
                reader.last = where(call)
                reader.calls += 1
                for name in hidden:
                    setattr(call, name, None)
                yield call
            # So that requests go on, and the rest of the program with them, however fast the reader is.
            await asyncio.sleep(0)
    except IovoxError as error:
        reader.failed(error)
        raise
    finally:
        await reader.close()


async def _pages(reader: StreamReader) -> AsyncGenerator[Page, None]:
    number = 0
    try:
        while (page := await reader.page()) is not None:
            calls, raw = page
            number += 1
            reader.last = where(calls[-1])
            reader.calls += len(calls)
            for name in reader.reading.hidden:
                for call in calls:
                    setattr(call, name, None)
            yield Page(number, calls, raw)
    except IovoxError as error:
        reader.failed(error)
        raise
    finally:
        await reader.close()


async def _batches(reader: StreamReader) -> AsyncGenerator[pa.RecordBatch, None]:
    try:
        while (batch := await reader.arrow()) is not None:
            yield batch
    except IovoxError as error:
        reader.failed(error)
        raise
    finally:
        await reader.close()


class CallStream:
    """The calls of one question: an async iterator of `Call`, safe to leave early.

    ::

        async with insights.stream("2024-01-01", "2024-03-31") as calls:
            async for call in calls:
                ...
            print(calls.stats)

    `async with` ends all requests at the end of the block. Without it, a `break` out of `async for` ends them a moment
    later. Whatever the range, at most `2 x concurrency + 1` pages are in memory. One reader at a time.
    """

    __slots__ = ("__weakref__", "_iterator", "_reader")

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._iterator: AsyncGenerator[Any, None] | None = None

    def __aiter__(self) -> AsyncIterator[Call]:
        return self._iterate("calls", _records)

    def pages(self) -> AsyncIterator[Page]:
        """The same, one answer's worth at a time."""
        return self._iterate("pages", _pages)

    def arrow(self) -> AsyncIterator[pa.RecordBatch]:
        """The same as `pyarrow.RecordBatch`es of the schema `iovox_async.arrow.SCHEMA`, read off the event loop.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        from .arrow import require

        require()
        return self._iterate("arrow", _batches)

    def _iterate(
        self,
        mode: Literal["calls", "pages", "arrow"],
        make: Callable[[StreamReader], AsyncGenerator[T, None]],
    ) -> AsyncGenerator[T, None]:
        reader = self._reader
        if reader.mode not in {None, mode}:
            raise SessionError(
                f"the stream is being read as {reader.mode}; make another one to read it as {mode}"
            )
        if reader.closed and not reader.finished:
            raise SessionError(CLOSED)
        reader.mode = mode
        if self._iterator is None:
            self._iterator = make(reader)
        return self._iterator

    async def collect(self) -> list[Call]:
        """All calls as a list, for ranges that fit in memory."""
        return [call async for call in self]

    @property
    def stats(self) -> StreamStats:
        """What the stream has done so far."""
        return self._reader.stats()

    @property
    def position(self) -> str | None:
        """Where it stands: `stream(..., resume=position)` goes on exactly after the last call handed out.

        None with `ordered=False` and for orders other than by `call_start`, where what is left cannot be told.
        """
        return self._reader.position()

    async def aclose(self) -> None:
        """Ends all requests of this stream. Harmless when it has ended."""
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
            f"<CallStream {self._reader.reading.query!r}: {stats.calls} calls, {stats.requests} requests, "
            f"{stats.in_flight} in flight, {stats.progress:.0%}>"
        )
