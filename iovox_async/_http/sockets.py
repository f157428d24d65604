"""Connections of asyncio for the connection pool of httpcore or httpcore2: `AsyncioBackend`.

httpcore's own backend starts a timer and opens a cancel scope for each read, and stops reading from the socket between two reads.
Here an attempt's deadline covers all its reads, bytes are taken as the event loop receives them, and the pool gets them as they are.
A body that the pool does not get is received part by part, into memory of the connection or of whoever reads it.

Invariants:
- Exceptions are those of the package that the pool belongs to.
- After `aclose`, the socket is closed.
- About one read's bytes wait for the pool, at most: more would only take memory, and time to join them. Of a body, one part waits.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from .direct_body import without_body

if TYPE_CHECKING:
    import ssl

#: Bytes waiting for the pool, beyond which no more are received.
_MAX_WAITING: Final = 64 * 1024
#: Bytes received at once for the pool.
_READ_BYTES: Final = 256 * 1024
#: The same while a head is expected: what is received of a body along with it is copied once more.
_HEAD_BYTES: Final = 8 * 1024
#: Bytes of one part of a body: less than a millisecond of work.
_PART_BYTES: Final = 384 * 1024
_NOTHING: Final = memoryview(b"")
#: Seconds until the next address of a host is tried as well (RFC 8305).
_NEXT_ADDRESS_DELAY: Final = 0.25


class AsyncioBackend:
    """Opens connections; an `AsyncNetworkBackend` of httpcore.

    The timeouts of single steps are not applied: an attempt has one deadline for all of them.

    Args:
        package: the module `httpcore` or `httpcore2`.
    """

    def __init__(self, package: Any) -> None:
        self._package = package
        #: What is received for the pool is copied from here at once, so all connections share it.
        self._scratch = memoryview(bytearray(_READ_BYTES))

    async def connect_tcp(self, host: str, port: int, **_: Any) -> AsyncioStream:
        """Opens a connection. The pool sets no timeout, local address or socket options."""
        loop = asyncio.get_running_loop()
        try:
            if _is_address(host):
                return await self._connect(loop, host, port)
            results = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = _alternate_families(
                [(family, str(address[0])) for family, _, _, _, address in results]
            )
            if len(addresses) == 1:
                return await self._connect(loop, addresses[0], port)
            return await self._connect_to_first(loop, addresses, port)
        except TimeoutError as error:
            raise self._package.ConnectTimeout(str(error)) from error
        except (OSError, UnicodeError) as error:  # a name may be too long for the DNS
            raise self._package.ConnectError(str(error)) from error

    async def _connect_to_first(
        self, loop: asyncio.AbstractEventLoop, addresses: list[str], port: int
    ) -> AsyncioStream:
        """Tries the addresses, the next one after a moment, and returns the connection that is made first."""
        stream: AsyncioStream | None = None
        errors: list[OSError] = []

        async def connect(address: str, ended: anyio.Event) -> None:
            nonlocal stream
            try:
                opened = await self._connect(loop, address, port)
                if stream is None:
                    stream = opened
                    group.cancel_scope.cancel()
                else:
                    await opened.aclose()
            except OSError as error:
                errors.append(error)
            finally:
                ended.set()

        try:
            async with anyio.create_task_group() as group:
                for address in addresses:
                    ended = anyio.Event()
                    group.start_soon(connect, address, ended)
                    with anyio.move_on_after(_NEXT_ADDRESS_DELAY):
                        await ended.wait()
        except BaseException:
            if stream is not None:
                await stream.aclose()
            raise
        if stream is None:
            raise errors[0]
        return stream

    async def _connect(self, loop: asyncio.AbstractEventLoop, address: str, port: int) -> AsyncioStream:
        stream = AsyncioStream(self._package, loop, self._scratch)
        await loop.create_connection(lambda: stream, address, port)
        await stream.close_if_cancelled()
        return stream

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)


class AsyncioStream(asyncio.BufferedProtocol):
    """One connection; an `AsyncNetworkStream` of httpcore, and the asyncio protocol that receives its bytes.

    Args:
        package: the module `httpcore` or `httpcore2`.
        loop: the event loop.
        scratch: memory for bytes that are copied at once.
    """

    def __init__(self, package: Any, loop: asyncio.AbstractEventLoop, scratch: memoryview) -> None:
        self._package = package
        self._loop = loop
        self._scratch = scratch
        self._transport: Any = None
        self._received: list[bytes] = []
        self._waiting = 0
        self._is_paused = False
        #: The server has sent its last byte, or the connection is lost: for this reason, if there is one.
        self._ended = False
        self._error: Exception | None = None
        self._is_closed = False
        self._may_write = True
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        #: The next bytes are the head of a response to a GET request.
        self._expects_head = False
        #: The length of a body that the pool does not get, and its bytes that were not received yet.
        self.body_length = self.body_left = 0
        #: Memory for parts of bodies, and what is free of the part that is being received.
        self._memory = self._free = _NOTHING

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - a hint
        return self._free or (self._scratch[:_HEAD_BYTES] if self._expects_head else self._scratch)

    def buffer_updated(self, nbytes: int) -> None:
        if self._free:
            self._free = self._free[nbytes:]
            self.body_left -= nbytes
            if self._free:
                return
            is_enough = self.body_left > 0
        else:
            self._received.append(bytes(self._scratch[:nbytes]))
            self._waiting += nbytes
            is_enough = self._waiting > _MAX_WAITING
        if is_enough:
            self._pause()
        _wake(self._reader)

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        self._ended = True
        self._error = self._error or error
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        _wake(self._writer)

    # Called by the pool.

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109 - as above
        """Returns the bytes received, perhaps more than `max_bytes`; empty at the end."""
        data = await self._receive()
        if self._expects_head:
            self._expects_head = False
            head, rest, self.body_length = without_body(data)
            if self.body_length:
                self._put_back(rest)
                self.body_left = self.body_length
                if len(rest) < self.body_length:
                    self._pause()  # until there is memory for it
                return head
        return data

    async def read_body(self, space: memoryview | None = None) -> memoryview:
        """Receives the next part of a body that the pool does not get.

        Args:
            space: the memory for it, which is filled unless the body ends; None: memory of the connection, valid until the next call.
        """
        if space is None:
            size = min(self.body_left, _PART_BYTES)
            if size > len(self._memory):
                self._memory = memoryview(bytearray(size))
            space = self._memory[:size]
        else:
            self._memory = _NOTHING  # that of the connection would only add to it
        part = self._free = space[: self.body_left]
        try:
            self._take_part()
            while self._free:
                if not await self._wait():
                    received = self.body_length - self.body_left
                    raise self._package.RemoteProtocolError(
                        "peer closed connection without sending complete message body "
                        f"(received {received} bytes, expected {self.body_length})"
                    )
        finally:
            self._free = _NOTHING
        return part

    def _take_part(self) -> None:
        """Copies the bytes that wait to the free memory, and lets more be received."""
        waiting = memoryview(self._take())
        count = min(len(waiting), len(self._free))
        self._free[:count] = waiting[:count]
        self._free = self._free[count:]
        self.body_left -= count
        # Bytes after the body stay: the pool does not use a connection again that is readable.
        self._put_back(bytes(waiting[count:]))

    def _put_back(self, data: bytes) -> None:
        if data:
            self._received.insert(0, data)
            self._waiting += len(data)

    async def _receive(self) -> bytes:
        while not self._received:
            if not await self._wait():
                return b""
        return self._take()

    async def _wait(self) -> bool:
        """Waits until something happens; False if the server has sent its last byte."""
        if self._is_closed or self._error is not None:
            raise _with_context(self._package.ReadError(_message(self._error)), self._error)
        if self._ended:
            return False
        self._reader = self._loop.create_future()
        await self._reader
        return True

    def _take(self) -> bytes:
        """Returns the bytes that wait, and lets more be received."""
        data = self._received[0] if len(self._received) == 1 else b"".join(self._received)
        self._received.clear()
        self._waiting = 0
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - as above
        """Sends bytes."""
        self._check_writable()
        if buffer:
            self._expects_head = buffer.startswith(b"GET ")
            self.body_length = self.body_left = 0
            self._transport.write(buffer)
        while not self._may_write:
            self._writer = self._loop.create_future()
            await self._writer
            self._check_writable()

    def _check_writable(self) -> None:
        if self._is_closed or self._ended:
            raise _with_context(self._package.WriteError(_message(self._error)), self._error)

    async def aclose(self) -> None:
        """Closes the connection at once."""
        self._is_closed = True
        _wake(self._reader)
        _wake(self._writer)
        self._transport.abort()
        await asyncio.sleep(0)  # asyncio closes the socket in the next iteration of the loop

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - as above
    ) -> AsyncioStream:
        """Returns the connection with TLS, which may be within TLS to a proxy."""
        if self._is_closed or self._ended:
            raise _with_context(self._package.ConnectError(_message(self._error)), self._error)
        try:
            self._transport = await self._loop.start_tls(
                self._transport, self, ssl_context, server_hostname=server_hostname
            )
        except OSError as error:  # and ssl.SSLError
            await self.aclose()
            raise self._package.ConnectError(_message(error)) from error
        except BaseException:
            self._transport.abort()
            raise
        await self.close_if_cancelled()
        return self

    async def close_if_cancelled(self) -> None:
        """Ends a request here that was cancelled while the connection was made.

        Otherwise it would end at the pool's next lock, and the pool would count the unused connection for ever.
        """
        try:
            await checkpoint_if_cancelled()
        except BaseException:
            self._transport.abort()
            raise

    def get_extra_info(self, info: str) -> Any:
        """Returns a property of the connection."""
        if info == "is_readable":
            # The pool reads it of each idle connection: one that is readable has been closed by the server.
            return self._is_closed or self._ended or bool(self._received or self.body_left)
        return self._transport.get_extra_info(
            {"client_addr": "sockname", "server_addr": "peername"}.get(info, info)
        )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _alternate_families(addresses: list[tuple[int, str]]) -> list[str]:
    """The addresses without repeats; the second one is of another family than the first, if there is one.

    Args:
        addresses: the family and the address of each.
    """
    distinct = list(dict.fromkeys(addresses))
    other = next((item for item in distinct if item[0] != distinct[0][0]), None)
    if other is not None:
        distinct.remove(other)
        distinct.insert(1, other)
    return [address for _, address in distinct]


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def _with_context(error: Exception, cause: Exception | None) -> Exception:
    """The error with its cause as context too, since the pool raises errors again without their cause."""
    error.__cause__ = error.__context__ = cause
    return error


def _message(error: Exception | None) -> str:
    return str(error or "") or "the connection is closed"
