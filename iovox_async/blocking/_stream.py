"""Provides the blocking `CallStream` and `CallFollower`, thin iterators over the async ones."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from operator import length_hint
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from .. import follow, stream
from .._fetching.session import SessionBound
from ..errors import SessionError
from ._surface import like

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import datetime

    import pyarrow as pa

    from ..models import Call
    from ..results import Page, StreamStats
    from ._thread import LoopThread

T = TypeVar("T")


def _next_item(
    lock: threading.Lock, ready: deque[T], thread: LoopThread, step: Callable[[], Awaitable[None]]
) -> T:
    """Returns the next item, which a step puts into `ready`: so an interrupted thread (Ctrl-C) loses none."""
    with lock:
        if not ready:
            thread.run(step)
        return ready.popleft()


# The iterators are no generators, which an exception would end: after an error or Ctrl-C, their next step would say that all was
# delivered.


class _Iterator(SessionBound):
    """Base class of the iterators."""

    __slots__ = ()

    def __iter__(self) -> Self:
        return self


class _CallIterator(_Iterator):
    """The calls of a stream, which lives as long as its iterators."""

    __slots__ = ("_reader", "_stream")

    def __init__(self, stream: CallStream) -> None:
        self._stream = stream
        self._reader = stream._stream._reader  # noqa: SLF001 - of this package

    def __next__(self) -> Call:
        reader = self._reader
        while True:
            for call in reader.ready:
                return call
            if reader.closed and reader.finished:
                raise StopIteration
            with self._stream._lock:  # noqa: SLF001 - of this module; after a fork it is another one
                # Another thread may have taken the step.
                if length_hint(reader.ready):
                    continue
                if self._stream._thread.run(reader.step, reader.next_calls) is None:  # noqa: SLF001 - as above
                    raise StopIteration


class _ItemIterator(_Iterator, Generic[T]):
    """The pages or record batches of a stream."""

    __slots__ = ("_next_item", "_reader", "_stream")

    def __init__(self, stream: CallStream, next_item: Callable[[], Awaitable[T | None]]) -> None:
        self._stream = stream
        self._reader = stream._stream._reader  # noqa: SLF001 - of this package
        self._next_item = next_item

    async def _step(self) -> None:
        self._stream._items_ready.append(await self._reader.step(self._next_item))  # noqa: SLF001 - of this module

    def __next__(self) -> T:
        stream = self._stream
        if self._reader.closed and self._reader.finished and not stream._items_ready:  # noqa: SLF001 - as above
            raise StopIteration
        item: T | None = _next_item(stream._lock, stream._items_ready, stream._thread, self._step)  # noqa: SLF001 - as above
        if item is None:
            raise StopIteration
        return item


class _FollowIterator(_Iterator):
    """The calls that polls deliver."""

    __slots__ = ("_follower", "_state")

    def __init__(self, follower: CallFollower) -> None:
        self._follower = follower
        self._state = follower._follower._state  # noqa: SLF001 - of this package

    async def _step(self) -> None:
        self._follower._calls_ready.append(await self._state.step())  # noqa: SLF001 - of this module

    def __next__(self) -> Call:
        follower = self._follower
        with follower._lock:  # noqa: SLF001 - as above
            call = None if follower._calls_ready else self._state.take_ready()  # noqa: SLF001 - as above
        if call is not None:
            return call
        return _next_item(follower._lock, follower._calls_ready, follower._thread, self._step)  # noqa: SLF001 - as above


#: What may be inherited by a fork.
_iterables: weakref.WeakSet[CallStream | CallFollower] = weakref.WeakSet()


def _drop_inherited() -> None:
    """Drops, in a process made by a fork, the items that wait for delivery: its parent delivers them."""
    for iterable in list(_iterables):
        iterable._lock = threading.Lock()  # noqa: SLF001 - of this module; another thread may have held it
        iterable._drop_items()  # noqa: SLF001 - as above


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_inherited)


class CallStream(SessionBound):
    """An iterator over the calls of a query. Leaving it early is safe.

    ::

        with insights.stream("2024-01-01", "2024-03-31") as calls:
            for call in calls:
                ...
            print(calls.stats)

    `with` ends all requests at the end of the block. Without it, they end a moment after the stream is dropped (a `break` out
    of `for`).

    Iteration ends without an error only when all calls were delivered: after `close`, also from another thread, the next step
    raises `SessionError`. An interrupted step (Ctrl-C) loses nothing; the next one continues. Several threads may iterate over
    one stream: each call goes to one of them.

    At most `2 * concurrency + 1` pages are in memory, however long the range is. Only a second with more calls than one page
    is kept as a whole until it is proven complete.

    A stream is also an Arrow stream (`__arrow_c_stream__`), which DuckDB, polars, pandas and pyarrow read batch by batch::

        polars.DataFrame(insights.stream("2024-01-01", "2024-03-31"))
    """

    __slots__ = ("__weakref__", "_items_ready", "_lock", "_stream", "_thread")

    def __init__(self, thread: LoopThread, stream: stream.CallStream) -> None:
        self._thread = thread
        self._stream = stream
        self._lock = threading.Lock()
        self._items_ready: deque[Any] = deque()
        _iterables.add(self)

    def _drop_items(self) -> None:
        self._items_ready.clear()
        self._stream._reader._count_ready()  # noqa: SLF001 - of this package

    def __iter__(self) -> Iterator[Call]:
        self._stream._set_mode("calls")  # noqa: SLF001 - of this package
        return _CallIterator(self)

    @like(stream.CallStream.pages)
    def pages(self) -> Iterator[Page]:
        self._stream._set_mode("pages")  # noqa: SLF001 - as above
        return _ItemIterator(self, self._stream._reader.next_page)  # noqa: SLF001 - as above

    @like(stream.CallStream.arrow)
    def arrow(self) -> Iterator[pa.RecordBatch]:
        from ..arrow import _require_pyarrow

        _require_pyarrow()
        self._stream._set_mode("arrow")  # noqa: SLF001 - as above
        return _ItemIterator(self, self._stream._reader.next_record_batch)  # noqa: SLF001 - as above

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Exports the calls as an Arrow C stream, in a PyCapsule, for `duckdb.sql("from calls")` and the like.

        Requests start when the first batch is read. A stream is read once: DuckDB reads it in each query, so for several
        queries keep its table (`table`). Errors while it is read come as the reader's own errors, with our message.

        Args:
            requested_schema: a schema to cast to, in a PyCapsule.

        Raises:
            MissingExtraError: pyarrow is not installed.
            SessionError: the stream was read or closed already.
        """
        from ..arrow import _require_pyarrow

        _require_pyarrow()
        import pyarrow as pa

        self._check_unread()

        def batches() -> Iterator[pa.RecordBatch]:
            # Readers export a stream several times, only for its schema, before they read one of them.
            self._check_unread()
            with self:
                yield from self.arrow()

        reader = pa.RecordBatchReader.from_batches(self._stream._schema(), batches())  # noqa: SLF001 - as above
        capsule: object = reader.__arrow_c_stream__(requested_schema)
        return capsule

    def _check_unread(self) -> None:
        reader = self._stream._reader  # noqa: SLF001 - as above
        if reader.mode is not None or reader.closed:
            raise SessionError(
                "the stream was read or closed already",
                hint="Make another one for each query, or keep its table: table = stream.table().",
            )

    @like(stream.CallStream.table)
    def table(self) -> pa.Table:
        return self._thread.run(self._stream.table)

    @like(stream.CallStream.collect)
    def collect(self) -> list[Call]:
        calls: list[Call]
        with self._stream._gathering("calls") as calls:  # noqa: SLF001 - of this package
            calls.extend(_CallIterator(self))
        return calls

    @property
    def stats(self) -> StreamStats:
        """The counters of the stream so far."""
        return self._thread.run_if_open(self._read_stats) or self._stream.stats

    async def _read_stats(self) -> StreamStats:
        return self._stream.stats

    @property
    def position(self) -> str | None:
        """The position after the last call delivered: `stream(..., resume=position)` continues exactly there.

        None with `ordered=False` and for orders other than by `call_start`: such a stream cannot be resumed.
        """
        return self._stream.position

    @like(stream.CallStream.aclose)
    def close(self) -> None:
        self._thread.run_if_open(self._stream.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._thread.end(self._stream._reader.abandon)  # noqa: SLF001 - as above

    def __repr__(self) -> str:
        return repr(self._stream)


class CallFollower(SessionBound):
    """An endless iterator over new calls.

    ::

        with insights.follow(interval=60) as calls:
            for call in calls:
                ...

    An interrupted step (Ctrl-C) loses nothing; the next one continues. After `close`, also from another thread, the next step
    raises `SessionError`. Several threads may iterate: each call goes to one of them.
    """

    __slots__ = ("__weakref__", "_calls_ready", "_follower", "_lock", "_thread")

    def __init__(self, thread: LoopThread, follower: follow.CallFollower) -> None:
        self._thread = thread
        self._follower = follower
        self._lock = threading.Lock()
        self._calls_ready: deque[Call] = deque()
        _iterables.add(self)

    def _drop_items(self) -> None:
        self._calls_ready.clear()
        self._follower._state.closed = True  # noqa: SLF001 - of this package

    def __iter__(self) -> Iterator[Call]:
        self._follower._state.check_open()  # noqa: SLF001 - of this package
        return _FollowIterator(self)

    @property
    def latest_call_start(self) -> datetime:
        """The start of the latest call so far that is not in the future, in the account's local time.

        `follow(since=latest_call_start)` continues there.
        """
        return self._follower.latest_call_start

    @property
    def poll_count(self) -> int:
        """The number of polls that have ended."""
        return self._follower.poll_count

    @property
    def failed_polls(self) -> int:
        """The number of polls that failed with an error that may be temporary."""
        return self._follower.failed_polls

    @like(follow.CallFollower.aclose)
    def close(self) -> None:
        self._thread.run_if_open(self._follower.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._thread.end(self._follower._state.abandon)  # noqa: SLF001 - as above

    def __repr__(self) -> str:
        return repr(self._follower)
