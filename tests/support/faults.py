"""Helpers for tests of faults: servers that send raw bytes, proxies, cancellation at a given await, and a leak check."""

import asyncio
import contextlib
import functools
import gc
import json
import socket
import struct
import types
from collections import Counter
from pathlib import Path

import attrs
import httpx
import pytest

from iovox_async._http.engines import load_engine
from iovox_async._http.tls import Trust, create_context

#: Runs a test with each HTTP library; the fixture `open_session` and `engine_options` use it.
every_engine = pytest.mark.parametrize("engine", ["httpx", "httpx2", "aiohttp"])
#: The same for long tests: only httpx in the default run.
every_engine_slow = pytest.mark.parametrize(
    "engine",
    [
        "httpx",
        pytest.param("httpx2", marks=pytest.mark.slow),
        pytest.param("aiohttp", marks=pytest.mark.slow),
    ],
)


@functools.cache
def default_context():
    """The context of a session that trusts the default certificates."""
    return create_context(load_engine("httpx"), Trust())


def engine_options(engine, verify=None):
    """The arguments of `AsyncInsights` for an engine, and for certificates that it trusts."""
    if engine == "aiohttp":
        transport = pytest.importorskip("httpx_aiohttp").AiohttpTransport
        # Certificates are loaded once for all tests. The pool is as small as the client's, so that a leaked slot is noticed.
        limits = httpx.Limits(max_connections=8, keepalive_expiry=30)
        return {"transport": transport(verify=verify or default_context(), trust_env=False, limits=limits)}
    return {"engine": engine, "verify": True if verify is None else verify}


FILES = Path("/proc/self/fd")


def _open_files():
    """The open sockets and files, each with its number of handles."""
    opened = Counter()
    for handle in FILES.iterdir() if FILES.exists() else ():
        with contextlib.suppress(OSError):
            target = str(handle.readlink())
            if target.startswith(("socket:", "/")):
                opened[target] += 1
    return opened


@contextlib.asynccontextmanager
async def nothing_left():
    """Checks that the block leaves no task, socket or file open."""
    tasks, files = asyncio.all_tasks(), _open_files()
    yield
    for turn in range(4000):
        running = {task for task in asyncio.all_tasks() - tasks if task is not asyncio.current_task()}
        opened = _open_files() - files
        if not running and not opened:
            return
        if turn == 20:
            gc.collect()
        await asyncio.sleep(0.005 if turn > 5 else 0)
    assert not running, f"tasks still running: {running}"
    assert not opened, f"sockets or files still open: {opened}"


@attrs.define
class Connection:
    """An accepted connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    #: Its number, from 1.
    number: int
    server: "RawServer"

    async def request(self):
        """Reads the head of the next request, and adds it to the server's inbox; None if the client has disconnected."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        self.server.inbox.append(head)
        return head

    async def send(self, data):
        """Sends raw bytes."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self):
        """Resets the connection."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class RawServer:
    """A server on a loopback port with a handler for raw connections; `inbox` has the heads of all requests."""

    def __init__(self, handler, *, tls=None):
        self._handler, self._tls = handler, tls
        self._tasks = set()
        self.inbox = []
        self.connections = 0
        self.port = 0

    async def __aenter__(self):
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
        """The base URL of the endpoint on this server."""
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
    """A complete, valid response."""
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


#: A call, the page that consists of it, and the response with that page.
CALL = {"id": 30683207599876, "call_start": "2024-01-02 04:39:59"}
PAGE = json.dumps([CALL]).encode()
RESPONSE = http_answer(PAGE)


def answering(*answers):
    """A handler that sends these responses in turn over all connections, and repeats the last."""
    remaining = list(answers)

    async def handler(connection):
        while await connection.request() is not None:
            await connection.send(remaining.pop(0) if len(remaining) > 1 else remaining[0])

    return handler


async def pipe(one, other):
    """Copies bytes in both directions until one side closes."""

    async def copy(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.close()

    await asyncio.gather(copy(one[0], other[1]), copy(other[0], one[1]))


async def tunnel(connection, port):
    """Connects a connection to a local port."""
    onward = await asyncio.open_connection("127.0.0.1", port)
    try:
        await pipe((connection.reader, connection.writer), onward)
    finally:
        onward[1].transport.abort()


@types.coroutine
def struck(coroutine, turn, strike, *, late=False):
    """Runs a coroutine and calls `strike()` at its `turn`-th suspension. Returns the number of suspensions.

    If `strike()` returns an error, it is thrown into the coroutine before it waits, or after if `late`.
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
        except BaseException as thrown:  # noqa: BLE001 - passed on to the coroutine
            error = thrown
        if turns == turn and late:
            error = strike()
