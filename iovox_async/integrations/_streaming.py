"""Streams calls to an HTTP client as NDJSON or server-sent events, for any web framework.

Invariants:

- When the client disconnects, the requests made for it end; when it reads slowly, they slow down.
- An incomplete response never ends as if it were complete.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import anyio.lowlevel
import msgspec

from iovox_async._encoding import encode_json
from iovox_async.errors import ConfigurationError, IovoxError, SessionError

from ._error_response import error_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from iovox_async.models import Call

NDJSON: Final = "application/x-ndjson"
SSE: Final = "text/event-stream"
#: Calls are personal data, so nothing may store them; a proxy that buffers would defeat streaming.
HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
#: Bytes that may wait for the client before reading pauses; one call more may be added.
BUFFER_SIZE: Final = 64 * 1024


def encode_error(error: Exception) -> bytes:
    """The error that ended a stream as JSON: `error`, `detail` and `position`."""
    position = error.position if isinstance(error, IovoxError) else None
    return msgspec.json.encode({**error_response(error).body, "position": position})


class Format(Protocol):
    """The format of a streamed response.

    Attributes:
        headers_timeout: seconds after which the headers are sent even without a call; None waits for the first call, so
            that an earlier error can have its own status.
        heartbeat: seconds without a call after which `keep_alive` is sent, so that no proxy closes the connection.
        keep_alive: bytes without a meaning.
        end: bytes after the last call.
    """

    headers_timeout: float | None
    heartbeat: float | None
    keep_alive: bytes
    end: bytes

    def encode_call(self, call: Call, source: object) -> bytes: ...

    def encode_error(self, error: Exception) -> bytes: ...


class NDJSONFormat:
    """One line of JSON per call. After an error, the last line is `{"error": ..., "detail": ..., "position": ...}`."""

    headers_timeout: float | None = None
    heartbeat: float | None = None
    keep_alive = end = b""

    def encode_call(self, call: Call, source: object) -> bytes:  # noqa: ARG002 - the protocol's signature
        return encode_json(call) + b"\n"

    def encode_error(self, error: Exception) -> bytes:
        return encode_error(error) + b"\n"


class SSEFormat:
    """One server-sent event per call; its `id` is the stream's position, so `Last-Event-ID` resumes after it.

    The last event is `end`, or `failure` after an error, with the data of `NDJSONFormat`.
    """

    headers_timeout: float | None = 1.0
    heartbeat: float | None = 15.0
    keep_alive = b": keep-alive\n\n"
    end = b"event: end\ndata: {}\n\n"

    def encode_call(self, call: Call, source: object) -> bytes:
        position = getattr(source, "position", None)
        event_id = b"" if position is None else b"id: " + position.encode() + b"\n"
        return event_id + b"data: " + encode_json(call) + b"\n\n"

    def encode_error(self, error: Exception) -> bytes:
        return b"event: failure\ndata: " + encode_error(error) + b"\n\n"


class _CallWriter:
    """Reads calls in a task and writes them; all calls that are read before the stream waits are written at once."""

    def __init__(self, calls: AsyncIterable[Call], output_format: Format) -> None:
        self._calls = calls
        self._format = output_format
        self._buffer = bytearray()
        self._finished = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def run(
        self, start: Callable[[], Awaitable[None]], write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Writes everything; `start` is called once before the first byte, unless an error occurs earlier."""
        output_format, started, timeout = self._format, False, self._format.headers_timeout
        self._task = asyncio.create_task(self._read())
        while True:
            if not self._buffer and not self._finished:
                self._changed.clear()
                with anyio.move_on_after(timeout):
                    await self._changed.wait()
            chunk, self._buffer = bytes(self._buffer), bytearray()
            self._drained.set()
            if not chunk and self._finished:
                break
            if not started:
                await start()
                started, timeout = True, output_format.heartbeat
            await write(chunk or output_format.keep_alive)
        error = self._error
        if error is not None and not started:
            raise error
        if not started:
            await start()
        if error is not None:
            await write(output_format.encode_error(error))
            raise error
        if output_format.end:
            await write(output_format.end)
        await write(b"")

    async def _read(self) -> None:
        try:
            async for call in self._calls:
                self._buffer += self._format.encode_call(call, self._calls)
                self._changed.set()
                while len(self._buffer) >= BUFFER_SIZE:
                    self._drained.clear()
                    await self._drained.wait()
        except Exception as error:  # noqa: BLE001 - raised by `run`, not in an exception group
            self._error = error
        except asyncio.CancelledError:
            # Not only by `aclose`: what the source waited for may have been cancelled, and the rest is missing then, too.
            self._error = SessionError("the stream was cancelled while it was being read")
            raise
        finally:
            try:
                if close := getattr(self._calls, "aclose", None):
                    await close()
            finally:
                self._finished = True
                self._changed.set()

    async def aclose(self) -> None:
        """Stops reading, and so ends the requests."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


async def stream_calls(
    calls: AsyncIterable[Call],
    output_format: Format,
    *,
    start: Callable[[], Awaitable[None]],
    write: Callable[[bytes], Awaitable[None]],
    wait_for_disconnect: Callable[[], Awaitable[None]],
    head: bool = False,
) -> bool:
    """Writes calls to a client until their end or until the client disconnects, and closes the stream.

    Args:
        calls: a `CallStream`, a `CallFollower`, or any async iterable of calls.
        output_format: the format of the response.
        start: sends the status and the headers.
        write: sends bytes, and waits while the client reads slowly; OSError if the client disconnected. Empty bytes
            complete the response.
        wait_for_disconnect: returns when the client disconnects.
        head: sends only the headers.

    Returns:
        Whether everything was written.

    Raises:
        ConfigurationError: `calls` is no async iterable.
        Exception: the error that ended the stream. If the response had started, the error was written to it.
    """
    if not hasattr(calls, "__aiter__"):
        raise ConfigurationError(
            "calls",
            f"must be a stream such as insights.stream(...), got {type(calls).__name__}",
            "Pass the stream itself, without collect().",
        )
    writer, error, complete = _CallWriter(calls, output_format), None, False
    try:
        if head:
            await start()
            await write(b"")
            return True
        async with anyio.create_task_group() as group:

            async def cancel_on_disconnect() -> None:
                await wait_for_disconnect()
                group.cancel_scope.cancel()

            async def cancel_on_oserror(sending: Awaitable[None]) -> None:
                try:
                    await sending
                except OSError:
                    group.cancel_scope.cancel()
                    await anyio.lowlevel.checkpoint()

            group.start_soon(cancel_on_disconnect)
            try:
                await writer.run(
                    lambda: cancel_on_oserror(start()), lambda chunk: cancel_on_oserror(write(chunk))
                )
                complete = True
            except Exception as failure:  # noqa: BLE001 - raised below, outside of the task group
                error = failure
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await writer.aclose()
    if error is not None:
        raise error
    return complete
