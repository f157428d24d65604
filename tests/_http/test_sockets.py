"""Connections of asyncio for the pool: bytes, ends, errors, and hosts with several addresses."""

import asyncio
import socket

import httpcore
import httpcore2
import pytest

from iovox_async._http.sockets import AsyncioBackend

pytestmark = pytest.mark.parametrize("package", [httpcore, httpcore2], ids=lambda module: module.__name__)


class Server:
    """A server on loopback that handles each connection with `handle(reader, writer)`."""

    def __init__(self, handle):
        self._handle = handle

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader, writer):
        try:
            await self._handle(reader, writer)
        finally:
            writer.close()

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()


async def test_all_bytes_arrive_and_few_of_them_wait(package):
    """Given a server that sends much more than is read, when it is read slowly, then few bytes wait and all arrive."""
    size = 8 * 1024 * 1024

    async def send(_reader, writer):
        writer.write(b"x" * size)
        await writer.drain()

    async with Server(send) as server:
        stream = await AsyncioBackend(package).connect_tcp("127.0.0.1", server.port)
        received = longest = 0
        while data := await stream.read(1024):
            received += len(data)
            longest = max(longest, len(data))
            for _ in range(20):
                await asyncio.sleep(0)
        assert received == size
        assert longest <= 1024 * 1024
        assert stream.get_extra_info("is_readable")
        await stream.aclose()


async def test_a_reset_is_a_read_error_after_the_bytes_before_it(package):
    """Given a server that resets the connection, when it is read, then the error is the package's, and writing fails too."""

    async def reset(reader, writer):
        await reader.read(4)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with Server(reset) as server:
        stream = await AsyncioBackend(package).connect_tcp("127.0.0.1", server.port)
        await stream.write(b"ping")
        with pytest.raises(package.ReadError):
            await stream.read(1024)
        with pytest.raises(package.WriteError):
            await stream.write(b"ping")
        with pytest.raises(package.ConnectError):
            await stream.start_tls(None)
        await stream.aclose()


async def test_closing_ends_a_read_and_a_write_that_wait(package):
    """Given a server that neither sends nor reads, when the connection is closed, then waiting calls raise errors."""
    done = asyncio.Event()

    async def ignore(_reader, _writer):
        await done.wait()

    async with Server(ignore) as server:
        stream = await AsyncioBackend(package).connect_tcp("127.0.0.1", server.port)
        assert not stream.get_extra_info("is_readable")
        reading = asyncio.create_task(stream.read(1024))
        writing = asyncio.create_task(stream.write(b"x" * 64 * 1024 * 1024))
        await asyncio.sleep(0.01)
        assert not reading.done()
        assert not writing.done()
        await stream.aclose()
        assert stream.get_extra_info("socket").fileno() == -1
        with pytest.raises(package.ReadError):
            await reading
        with pytest.raises(package.WriteError):
            await writing
        done.set()


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1", "127.0.0.1"], ["127.0.0.1", "::1", "::1"]])
async def test_the_first_address_that_responds_is_used(package, addresses, monkeypatch):
    """Given a host of which one address responds, when a connection is opened, then it is to this one, and works."""

    async def echo(reader, writer):
        writer.write(await reader.read(4))

    async with Server(echo) as server:
        _resolve_to(monkeypatch, addresses, server.port)
        stream = await AsyncioBackend(package).connect_tcp("iovox.test", server.port)
        await stream.write(b"ping")
        assert await stream.read(1024) == b"ping"
        assert await stream.read(1024) == b""
        assert stream.get_extra_info("server_addr")[0] == "127.0.0.1"
        await stream.aclose()


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1", "127.0.0.1"]])
async def test_no_address_that_responds_is_a_connect_error(package, addresses, monkeypatch):
    """Given a host of which no address responds, when a connection is opened, then the error is the package's."""
    with socket.socket() as bound:  # it does not listen, and nobody else can use its port
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        _resolve_to(monkeypatch, addresses, port)
        with pytest.raises(package.ConnectError):
            await AsyncioBackend(package).connect_tcp("iovox.test", port)


async def test_an_unknown_name_is_a_connect_error_with_its_cause(package):
    """Given a name that no DNS can have, when a connection is opened, then the error is the package's."""
    with pytest.raises(package.ConnectError) as caught:
        await AsyncioBackend(package).connect_tcp("a" * 64 + ".invalid", 80)
    assert isinstance(caught.value.__cause__, OSError | UnicodeError)


def _resolve_to(monkeypatch, addresses, port):
    families = {True: socket.AF_INET6, False: socket.AF_INET}

    async def getaddrinfo(_host, _port, **_):
        return [(families[":" in ip], socket.SOCK_STREAM, 6, "", (ip, port)) for ip in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
