"""Calls on their way to one client, over HTTP.

The law of this room: it knows no framework. A client that leaves ends the requests made for it; a client that is slow
slows them; and an answer that is not whole never ends as though it were.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import anyio.lowlevel
import msgspec

from iovox_async._encoding import encode_json
from iovox_async.errors import IovoxError

from ._error_response import answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from iovox_async.models import Call

__all__ = ["EVENTS", "HEADERS", "NDJSON", "Events", "Form", "Lines", "deliver"]

NDJSON: Final = "application/x-ndjson"
EVENTS: Final = "text/event-stream"
#: Calls are personal data, and a proxy that gathers them would defeat the stream.
HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
#: Bytes that wait for a client, at most, and one call more.
CHUNK: Final = 64 * 1024


def _failure(error: Exception) -> bytes:
    position = error.position if isinstance(error, IovoxError) else None
    return msgspec.json.encode({**answer(error).body, "position": position})


class Form(Protocol):
    """How calls are written."""

    #: Seconds after which a client that got nothing yet gets headers and a pause; None: it waits for the first call,
    #: so that an error before it still has a status of its own.
    patience: float | None
    #: Seconds without a call after which a pause is written, so that no proxy takes the answer for dead.
    heartbeat: float | None
    pause: bytes
    end: bytes

    def call(self, call: Call, source: object) -> bytes: ...

    def failure(self, error: Exception) -> bytes: ...


class Lines:
    """A line of JSON a call. An answer that broke ends with a line `{"error": ..., "detail": ..., "position": ...}`."""

    patience: float | None = None
    heartbeat: float | None = None
    pause = end = b""

    def call(self, call: Call, source: object) -> bytes:  # noqa: ARG002 - the form's signature
        return encode_json(call) + b"\n"

    def failure(self, error: Exception) -> bytes:
        return _failure(error) + b"\n"


class Events:
    """A server-sent event a call; its `id` is the stream's position, so `Last-Event-ID` resumes exactly.

    After the last call comes an event `end`; an answer that broke ends with an event `failure`, as in `Lines`.
    """

    patience: float | None = 1.0
    heartbeat: float | None = 15.0
    pause = b": still here\n\n"
    end = b"event: end\ndata: {}\n\n"

    def call(self, call: Call, source: object) -> bytes:
        position = getattr(source, "position", None)
        number = b"" if position is None else b"id: " + position.encode() + b"\n"
        return number + b"data: " + encode_json(call) + b"\n\n"

    def failure(self, error: Exception) -> bytes:
        return b"event: failure\ndata: " + _failure(error) + b"\n\n"


class Feed:
    """Calls between their stream and a client: what is read until the stream has to wait is written at once."""

    def __init__(self, calls: AsyncIterable[Call], form: Form) -> None:
        self._calls = calls
        self._form = form
        self._buffer = bytearray()
        self._over = False
        self._failure: Exception | None = None
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def run(
        self, begin: Callable[[], Awaitable[None]], write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Writes everything; `begin` is called once, before the first byte, unless an error came before it."""
        form, begun, wait = self._form, False, self._form.patience
        self._task = asyncio.create_task(self._read())
        while True:
            if not self._buffer and not self._over:
                self._ready.clear()
                with anyio.move_on_after(wait):
                    await self._ready.wait()
            chunk, self._buffer = bytes(self._buffer), bytearray()
            self._room.set()
            if not chunk and self._over:
                break
            if not begun:
                await begin()
                begun, wait = True, form.heartbeat
            await write(chunk or form.pause)
        failure = self._failure
        if failure is not None and not begun:
            raise failure
        if not begun:
            await begin()
        if failure is not None:
            await write(form.failure(failure))
            raise failure
        if form.end:
            await write(form.end)
        await write(b"")

    async def _read(self) -> None:
        try:
            async for call in self._calls:
                self._buffer += self._form.call(call, self._calls)
                self._ready.set()
                while len(self._buffer) >= CHUNK:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:  # noqa: BLE001 - raised below, bare, and not in a group of one
            self._failure = error
        finally:
            try:
                if close := getattr(self._calls, "aclose", None):
                    await close()
            finally:
                self._over = True
                self._ready.set()

    async def close(self) -> None:
        """Ends the requests made for this client."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


async def deliver(
    calls: AsyncIterable[Call],
    form: Form,
    *,
    begin: Callable[[], Awaitable[None]],
    write: Callable[[bytes], Awaitable[None]],
    gone: Callable[[], Awaitable[None]],
    head: bool = False,
) -> bool:
    """Writes calls to a client until their end, or until the client is gone; closes the stream either way.

    Args:
        calls: a `CallStream`, a `CallFollower`, or any iterable of calls.
        form: how they are written.
        begin: sends status and headers.
        write: sends bytes, and waits while the client is behind; OSError: it is gone. No bytes: the answer is whole.
        gone: returns when the client is gone.
        head: only the headers are wanted.

    Returns:
        Whether all was written.

    Raises:
        Exception: what ended the stream early; where the answer had begun, the client was told before.
    """
    feed, failure, whole = Feed(calls, form), None, False
    try:
        if head:
            await begin()
            await write(b"")
            return True
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                await gone()
                group.cancel_scope.cancel()

            async def reach(sending: Awaitable[None]) -> None:
                try:
                    await sending
                except OSError:
                    group.cancel_scope.cancel()
                    await anyio.lowlevel.checkpoint()

            group.start_soon(watch)
            try:
                await feed.run(lambda: reach(begin()), lambda chunk: reach(write(chunk)))
                whole = True
            except Exception as error:  # noqa: BLE001 - whatever it is, the client must not take this for the end
                failure = error
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await feed.close()
    if failure is not None:
        raise failure
    return whole
