"""Bodies that the pool does not get: which ones, and what becomes of their connections."""

import asyncio

import anyio
import httpcore
import httpcore2
import httpx
import pytest
from support.faults import CALL, PAGE, RawServer, answering, http_answer

from iovox_async import AsyncInsights, RetryPolicy
from iovox_async._http.direct_body import without_body
from iovox_async._http.network import PoolTransport
from iovox_async._http.sockets import AsyncioStream

pytestmark = pytest.mark.usefixtures("nothing_is_left")
#: Larger than what is received at once.
BODY = b"[" + b" " * 1_000_000 + b"]"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nA: b\r\n\r\n[1, 2",
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: b\r\n\r\n", b"[1, 2", 12),
        ),
        (
            b"HTTP/1.1 200 OK\ncontent-length:7\n\n[\r\n\r\n]",
            (b"HTTP/1.1 200 OK\ncontent-length:0\n\n", b"[\r\n\r\n]", 7),
        ),
    ],
)
def test_the_body_of_a_plain_response_is_parted(data, expected):
    assert without_body(data) == expected


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n",  # not complete
        b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 12\nTRANSFER-ENCODING: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nContent-Length: 13\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 12, 13\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -12\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 12\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Content-Length: 12\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nContent-Length: 12\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\n\nContent-Length: 12\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 12\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 12\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 12\r\n\r\n",
        b"\x05\x00",
    ],
)
def test_the_pool_gets_a_response_that_may_mean_something_else(head):
    assert without_body(head) == (head, b"", 0)


@pytest.fixture(params=[httpcore, httpcore2], ids=lambda module: module.__name__)
async def transport(request):
    transport = PoolTransport(httpx, request.param, concurrency=1, ssl_context=None, proxy=None)
    yield transport
    await transport.aclose()


async def get(transport, server):
    return await transport.handle_async_request(httpx.Request("GET", server.base_url))


async def test_a_body_is_complete_and_its_connection_is_used_again(transport):
    """Given responses with a length, when they are read, then bodies and headers are the server's, over one connection."""
    async with RawServer(answering(http_answer(BODY), http_answer(PAGE), http_answer(b""))) as server:
        for body in (BODY, PAGE, b""):
            response = await get(transport, server)
            assert response.headers["content-length"] == str(len(body))
            assert b"".join([bytes(block) async for block in response.stream]) == body
            await response.stream.aclose()
        assert server.connections == 1


async def test_a_connection_whose_body_is_left_is_closed(transport):
    """Given a body that is left after its first bytes, when the next request is sent, then over another connection."""
    async with RawServer(answering(http_answer(BODY), http_answer(PAGE))) as server:
        response = await get(transport, server)
        async for _ in response.stream:
            break
        await response.stream.aclose()
        response = await get(transport, server)
        assert b"".join([bytes(block) async for block in response.stream]) == PAGE
        await response.stream.aclose()
        assert server.connections == 2


async def test_bytes_after_a_body_end_its_connection(transport):
    """Given a response that is longer than it says, when it is read, then the rest belongs to no other response."""
    async with RawServer(answering(http_answer(PAGE) + http_answer(b"[7]"), http_answer(BODY))) as server:
        for body in (PAGE, BODY):
            response = await get(transport, server)
            assert b"".join([bytes(block) async for block in response.stream]) == body
            await response.stream.aclose()
        assert server.connections == 2


async def test_a_body_that_ends_early_is_an_error(transport):
    """Given a server that closes within a body, when it is read, then the error says how much came."""

    async def handler(connection):
        await connection.request()
        await connection.send(http_answer(BODY)[:-100])

    async with RawServer(handler) as server:
        response = await get(transport, server)
        with pytest.raises(
            Exception, match=f"received {len(BODY) - 100} bytes, expected {len(BODY)}"
        ) as caught:
            [block async for block in response.stream]
        assert type(caught.value).__name__ == "RemoteProtocolError"
        await response.stream.aclose()


async def test_a_request_that_is_cancelled_within_a_body_closes_its_connection():
    """Given a server that stops within a body, when the call is cancelled, then the next one uses another connection."""
    stopped = anyio.Event()

    async def handler(connection):
        while await connection.request() is not None:
            if stopped.is_set():
                await connection.send(http_answer(PAGE))
                continue
            await connection.send(http_answer(BODY)[:500_000])
            stopped.set()
            await anyio.sleep_forever()

    async with (
        RawServer(handler) as server,
        AsyncInsights("demo", "key", base_url=server.base_url, concurrency=1) as insights,
    ):
        async with anyio.create_task_group() as group:
            group.start_soon(insights.page, "2024-01-01", "2024-01-31")
            await stopped.wait()
            group.cancel_scope.cancel()
        page = await insights.page("2024-01-01", "2024-01-31")
        assert [call.id for call in page.calls] == [CALL["id"]]
        assert server.connections == 2


async def test_a_truncated_page_is_requested_again():
    """Given a page that is cut, when it is read, then it is requested again, and never delivered in part."""

    async def handler(connection):
        await connection.request()
        await connection.send(http_answer(PAGE)[: -5 if server.connections < 3 else None])

    async with (
        RawServer(handler) as server,
        AsyncInsights(
            "demo", "key", base_url=server.base_url, retry=RetryPolicy(initial_backoff=0.001)
        ) as insights,
    ):
        page = await insights.page("2024-01-01", "2024-01-31")
        assert [call.id for call in page.calls] == [CALL["id"]]
        assert server.connections == 3


class Pausing(asyncio.Transport):
    """A transport that keeps whether it reads."""

    reading = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


@pytest.mark.parametrize("rest", [b"", b"more"])
@pytest.mark.parametrize(("space", "parts"), [(None, 3), (memoryview(bytearray(300_000)), 4)])
@pytest.mark.parametrize("lump", [1 << 22, 600_000, 8191])
async def test_a_body_is_complete_in_whatever_lumps_it_arrives(lump, space, parts, rest):
    """Given an event loop that gives bytes in lumps, also more than there is space for (as on Windows), a body is whole."""
    data = http_answer(BODY) + rest
    lumps = [data[start : start + lump] for start in range(0, len(data), lump)]
    stream = AsyncioStream(httpcore, asyncio.get_running_loop(), memoryview(bytearray(10_000)))
    stream.connection_made(transport := Pausing())

    async def send():
        while lumps:
            if transport.reading:
                asyncio.protocols._feed_data_to_buffered_proto(stream, lumps.pop(0))
            await asyncio.sleep(0)
        stream.eof_received()

    async with anyio.create_task_group() as group:
        stream._expects_head = True
        group.start_soon(send)
        assert (await stream.read(1)).endswith(b"\r\ncontent-length: 0\r\n\r\n")
        received = []
        while stream.body_left:
            part = await stream.read_body(space)
            assert space is None or part.obj is space.obj
            received.append(bytes(part))
            await asyncio.sleep(0)
    assert len(received) == parts
    assert b"".join(received) == BODY
    assert await stream.read(1) == rest
    assert await stream.read(1) == b""
