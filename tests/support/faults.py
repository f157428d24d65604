"""What the tests of faults share: servers that answer bytes, proxies, steps of a coroutine, and a check for leaks.

The law of this room: it knows sockets and bytes, and of the client only what may carry its requests.
"""

import asyncio
import contextlib
import gc
import socket
import struct
import types
from collections import Counter
from pathlib import Path

import attrs
import httpx
import pytest

from iovox_async._http import transport as http

#: For a promise that holds whatever carries the requests: `open_session` obeys it, and `carrier`.
both_engines = pytest.mark.parametrize("engine", ["httpx", "aiohttp"])


def carrier(engine):
    """The `transport=` of an engine, as the docstring of `AsyncInsights` has it; None for the session's own."""
    if engine == "httpx":
        return None
    transport = pytest.importorskip("httpx_aiohttp").AiohttpTransport
    # With the certificates that are loaded once for all tests, and no more slots than a session has: one lost is missed.
    limits = httpx.Limits(max_connections=8, keepalive_expiry=30)
    return transport(verify=http.ssl_context(), trust_env=False, limits=limits)


FILES = Path("/proc/self/fd")


def _open_files():
    """The sockets and files that are open, each with its number of handles."""
    found = Counter()
    for handle in FILES.iterdir() if FILES.exists() else ():
        with contextlib.suppress(OSError):
            target = str(handle.readlink())
            if target.startswith(("socket:", "/")):
                found[target] += 1
    return found


@contextlib.asynccontextmanager
async def nothing_left():
    """What runs within leaves no task, socket or file behind."""
    tasks, files = asyncio.all_tasks(), _open_files()
    yield
    for turn in range(400):
        running = {task for task in asyncio.all_tasks() - tasks if task is not asyncio.current_task()}
        opened = _open_files() - files
        if not running and not opened:
            return
        if turn == 20:
            gc.collect()
        await asyncio.sleep(0.005 if turn > 5 else 0)
    assert not running, f"tasks are left: {running}"
    assert not opened, f"sockets or files are left: {opened}"


@attrs.define
class Connection:
    """One accepted connection, as its handler sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    #: Its number, from 1.
    number: int
    server: "RawServer"

    async def request(self):
        """The head of the next request, or None when the client has left; kept in the server's inbox."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        self.server.inbox.append(head)
        return head

    async def send(self, data):
        """Sends bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self):
        """Closes by a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class RawServer:
    """A server on a loopback port whose handler speaks bytes; `inbox` holds the heads of all requests."""

    def __init__(self, handler, *, tls=None):
        self._handler, self._tls = handler, tls
        self._tasks = set()
        self.inbox = []
        self.connections = 0
        self.port = 0

    async def __aenter__(self):
        # A backlog for all clients of a test at once.
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls, backlog=500)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def base_url(self):
        """The address of the endpoint's base there."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/rest/v1"

    def _accept(self, reader, writer):
        self.connections += 1
        task = asyncio.create_task(self._serve(Connection(reader, writer, self.connections, self)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection):
        try:
            with contextlib.suppress(OSError):
                await self._handler(connection)
        finally:
            transport = connection.writer.transport
            transport.abort() if transport.is_closing() else transport.close()


def http_answer(body=b"[]", status=b"200 OK", *headers):
    """An answer, whole and right."""
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def answering(*answers):
    """A handler that gives these answers in turn over all connections, the last one for ever."""
    left = list(answers)

    async def handler(connection):
        while await connection.request() is not None:
            await connection.send(left.pop(0) if len(left) > 1 else left[0])

    return handler


async def pipe(one, other):
    """Carries bytes both ways until one side ends."""

    async def carry(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.close()

    await asyncio.gather(carry(one[0], other[1]), carry(other[0], one[1]))


async def tunnel(connection, port):
    """Carries a connection on to a local port."""
    onward = await asyncio.open_connection("127.0.0.1", port)
    try:
        await pipe((connection.reader, connection.writer), onward)
    finally:
        onward[1].transport.abort()


@types.coroutine
def struck(coroutine, turn, strike, *, late=False):
    """Runs a coroutine and strikes at its `turn`-th suspension: `strike()` is called, and may return an error.

    An error is thrown into the coroutine where it would wait; `late`: after it has waited, in the place of what it
    would have got. Without one it goes on. Gives how often it was suspended.
    """
    turns, error = 0, None
    while True:
        try:
            future = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration:
            return turns
        turns += 1
        error = None
        if turns == turn and not late:
            error = strike()
            if error is not None:
                if future is not None:
                    future._asyncio_future_blocking = False
                continue
        try:
            yield future
        except BaseException as thrown:  # noqa: BLE001 - whatever is thrown at the task is for the coroutine
            error = thrown
        if turns == turn and late:
            error = strike()
