"""What may carry the requests: httpx's own transport, and aiohttp by one argument. The same promises, and where they differ."""

import asyncio
import subprocess
import sys
from urllib.parse import parse_qs

import aiohttp
import httpx
import pytest
from aiohttp.client_reqrep import ConnectionKey
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import map_aiohttp_exceptions
from multidict import CIMultiDict, CIMultiDictProxy
from support.faults import RawServer, answering, both_engines, carrier, http_answer, nothing_left
from yarl import URL

from iovox_async import AsyncInsights, BadRequestError, RequestTimeout, RetryPolicy, TLSError, TransportError
from iovox_async._http.exceptions import convert_exception
from iovox_async._http.throttle import RetryableFailure
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-01-10"


@pytest.fixture(autouse=True)
async def _nothing_is_left():
    async with nothing_left():
        yield


# What both do.


@both_engines
async def test_one_connection_carries_request_after_request(open_session):
    """HTTP/1.1 keep-alive: twenty pages, streams and refusals, one connection; the server ends none and none is left idle."""
    sandbox = Sandbox(calls=120, start=START, end=END, faults=Faults(fail_at=(3, 4, 9), kinds="500"))
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=1) as insights:
        for _ in range(10):
            await insights.page(START, END, page_size=20)
            await insights.stream(START, END, page_size=50).collect()
        assert sandbox.stats.requests > 40
        assert sandbox.stats.connections_made == 1


@both_engines
async def test_requests_at_once_take_a_connection_each_and_keep_it(open_session):
    """No more than `concurrency`, over all waves."""
    sandbox = Sandbox(calls=10, start=START, end=END, faults=Faults(latency=0.02))
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=4) as insights:
        for _ in range(4):
            await asyncio.gather(*(insights.page(START, END) for _ in range(8)))
        assert sandbox.stats.requests == 32
        assert sandbox.stats.peak_active_requests == 4
        assert sandbox.stats.connections_made == 4


@both_engines
async def test_a_connection_that_the_server_ends_is_not_used_again(open_session, clock):
    """`Connection: close` costs a new connection and nothing else."""
    last = http_answer(b"[]", b"200 OK", b"connection: close")
    async with RawServer(answering(last)) as server, open_session(server.base_url) as insights:
        for _ in range(3):
            assert (await insights.page(START, END)).calls == []
        assert server.connections == len(server.inbox) == 3
    assert clock.waits == []


def heads(head):
    """The request line's words and the headers, by their names in small letters."""
    line, *lines = head.decode().rstrip().split("\r\n")
    method, target, version = line.split()
    path, _, query = target.partition("?")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return method, path, parse_qs(query, strict_parsing=True), version, headers


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"call_origin": "+44 7598/455773", "node_name": "a&b=c#d%20e;f+g"},
        {"node_name": "Zoë, Ltd. ~'\"()*!$@:?[]\\|^`{}<>"},
    ],
    ids=["none", "what is escaped", "what may be"],
)
async def test_both_send_the_same_and_nothing_more(filters, open_session, monkeypatch, tmp_path):
    """The same question in HTTP/1.1 and the same headers; neither netrc nor a proxy of the environment is heeded."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login stranger password str4nge")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    answer = http_answer(b"[]", b"200 OK", b"set-cookie: sticky=1")
    sent = []
    async with RawServer(answering(answer)) as server:
        for engine in ("httpx", "aiohttp"):
            async with open_session(server.base_url, transport=carrier(engine)) as insights:
                await insights.page(START, END, **filters)
                await insights.page(START, END, **filters)
    sent = [heads(head) for head in server.inbox]
    assert sent[0] == sent[1] == sent[2] == sent[3]
    method, path, query, version, headers = sent[3]
    assert (method, path, version) == ("GET", "/rest/v1/calls/insights", "HTTP/1.1")
    assert {name: values[0] for name, values in query.items()}.items() >= filters.items()
    assert headers.keys() - {"connection"} == {
        "accept",
        "accept-encoding",
        "host",
        "securekey",
        "user-agent",
        "username",
    }
    assert headers.get("connection", "keep-alive") == "keep-alive"
    assert headers["accept-encoding"] == "gzip"


WAYS = {
    "as it is": AiohttpTransport,
    "without the environment": lambda: AiohttpTransport(trust_env=False),
    "a class for a factory": lambda: AiohttpTransport(client=aiohttp.ClientSession),
    "a factory": lambda: AiohttpTransport(
        client=lambda: aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=2), cookie_jar=aiohttp.DummyCookieJar()
        )
    ),
}


@pytest.mark.parametrize("make", WAYS.values(), ids=WAYS.keys())
async def test_each_way_to_make_the_transport_carries_a_session(make, open_session):
    """Also one whose own pool is smaller than `concurrency`: requests wait in it; and gzip is decoded once."""
    sandbox = Sandbox(calls=300, start=START, end=END, faults=Faults(gzip=True, latency=0.001))
    async with sandbox.serve() as base_url, open_session(base_url, transport=make()) as insights:
        stream = insights.stream(START, END, page_size=30)
        assert [call.id async for call in stream] == sandbox.ids()
        assert 0 < stream.stats.bytes_received < 300 * 200


async def test_a_session_of_the_user_s_own_is_closed_with_ours(open_session):
    """As the docstring says of every transport; used after that, it is a typed error."""
    sandbox = Sandbox(calls=5, start=START, end=END)
    async with sandbox.serve() as base_url:
        own = aiohttp.ClientSession()
        async with open_session(base_url, transport=AiohttpTransport(client=own)) as insights:
            assert len((await insights.page(START, END)).calls) == 5
        assert own.closed
        async with open_session(base_url, transport=AiohttpTransport(client=own)) as insights:
            with pytest.raises(TransportError, match="RuntimeError") as caught:
                await insights.page(START, END)
        assert "Session is closed" in str(caught.value.__cause__)


# Where they differ.


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"content-length: 2\r\n\r\n[]",
        http_answer(b"[]", b"200 OK", b"x: " + b"y" * 9_000),
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[] and more",
        http_answer(b"[]", b"204 No Content"),
    ],
    ids=["200 headers", "a header of 9 KB", "more than its length", "a body where there is none"],
)
async def test_aiohttp_is_stricter_and_says_so_in_our_words(data, open_session):
    """What httpx reads over is not HTTP to it: twice the same proves it; its error shows none of the bytes."""
    for engine in ("httpx", "aiohttp"):
        async with RawServer(answering(data)) as server:
            async with open_session(server.base_url, transport=carrier(engine)) as insights:
                if engine == "httpx":
                    assert (await insights.page(START, END)).calls == []
                    continue
                with pytest.raises(TransportError, match="is not HTTP") as caught:
                    await insights.page(START, END)
            assert caught.value.attempts == len(server.inbox) == 2
    assert caught.value.__cause__ is None
    assert len(str(caught.value)) < 200


async def test_a_reason_that_is_no_text_is_a_typed_error_where_the_transport_trips_over_it(open_session):
    """What httpx takes as it is, httpx_aiohttp does not; and what it tripped over is not shown."""
    answer = http_answer(b"[]", b"200 s3cret\xff")
    async with RawServer(answering(answer)) as server:
        async with open_session(server.base_url) as insights:
            assert (await insights.page(START, END)).calls == []
        async with open_session(server.base_url, transport=carrier("aiohttp")) as insights:
            with pytest.raises(TransportError, match="UnicodeEncodeError") as caught:
                await insights.page(START, END)
    assert caught.value.attempts == 2
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_aiohttp_asks_once_more_by_itself_where_a_connection_is_lost_before_its_answer(open_session):
    """A request is a question without effect, so it may; the attempts that we count are as many as ever."""

    async def mute(connection):
        await connection.request()

    requests = {}
    for engine in ("httpx", "aiohttp"):
        async with RawServer(mute) as server:
            policy = RetryPolicy(max_attempts=3)
            transport = carrier(engine)
            async with open_session(server.base_url, transport=transport, retry=policy) as insights:
                with pytest.raises(TransportError, match="without an answer") as caught:
                    await insights.page(START, END)
            assert caught.value.attempts == 3
            requests[engine] = len(server.inbox)
    # One more than the attempts: the first may have met an idle connection.
    assert requests == {"httpx": 4, "aiohttp": 8}


# Errors.


def test_nobody_loads_aiohttp_who_does_not_use_it():
    """Not even when a request fails, which is when its errors are told apart."""
    program = """
import asyncio, sys
from iovox_async import AsyncInsights, RetryPolicy, TransportError

async def main():
    async with AsyncInsights("u", "k", base_url="http://127.0.0.1:9", retry=RetryPolicy(max_attempts=1)) as insights:
        await insights.page()

try:
    asyncio.run(main())
except TransportError:
    print(*(name for name in sys.modules if "aiohttp" in name and not name.startswith("iovox_async")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("\n", "")


CANARY = "c4nary"
ASKED = aiohttp.RequestInfo(
    URL("https://127.0.0.1/"),
    "GET",
    CIMultiDictProxy(CIMultiDict(securekey=CANARY)),
    URL("https://127.0.0.1/"),
)
KEY = ConnectionKey("127.0.0.1", 443, True, True, None, None, None)
REFUSED = ConnectionRefusedError(111, "refused")


def made(kind):
    """One error of a kind of aiohttp's, as it makes them."""
    if issubclass(kind, aiohttp.ClientResponseError):
        return kind(ASKED, (), status=407, message=CANARY)
    if issubclass(kind, aiohttp.ServerFingerprintMismatch):
        return kind(b"one", b"other", "127.0.0.1", 443)
    if issubclass(kind, aiohttp.client_exceptions.UnixClientConnectorError):
        return kind("/socket", KEY, REFUSED)
    if issubclass(kind, aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError):
        return kind(KEY, REFUSED)
    return kind(CANARY)


def kinds_of(kind):
    """A class and all below it."""
    yield kind
    for sub in kind.__subclasses__():
        yield from kinds_of(sub)


FAULT_KINDS = {
    kind.__name__: kind for kind in kinds_of(aiohttp.ClientError) if kind.__module__.startswith("aiohttp.")
}
LASTING = {
    "ServerFingerprintMismatch": TLSError,
    "ClientHttpProxyError": BadRequestError,
    "InvalidURL": TransportError,
    "InvalidUrlClientError": TransportError,
    "InvalidUrlRedirectClientError": TransportError,
    "NonHttpUrlClientError": TransportError,
    "NonHttpUrlRedirectClientError": TransportError,
}
TIMEOUTS = {"ServerTimeoutError", "ConnectionTimeoutError", "SocketTimeoutError"}


@pytest.mark.parametrize("wrapped", [False, True], ids=["as it is", "in httpx's"])
@pytest.mark.parametrize("kind", FAULT_KINDS.values(), ids=FAULT_KINDS.keys())
def test_every_error_of_aiohttp_has_a_typed_twin_that_keeps_nothing_of_it(kind, wrapped):
    """Whatever httpx_aiohttp made of it: a refused connection is no timeout, and no error holds the request."""
    error = made(kind)
    if wrapped:
        with pytest.raises(Exception) as caught, map_aiohttp_exceptions():
            raise error
        error = caught.value
    twin = convert_exception(error, response_started=True)
    name = kind.__name__
    if name in LASTING:
        assert type(twin) is LASTING[name]
    else:
        assert isinstance(twin, RetryableFailure)
        assert type(twin.error) is (RequestTimeout if name in TIMEOUTS else TransportError)
        assert twin.stale_connection == (name == "ServerDisconnectedError")
        assert twin.overload == (name in TIMEOUTS)
        twin = twin.error
    assert CANARY not in str(twin)
    assert twin.__cause__ in {None, REFUSED}
    assert twin.__context__ is None


async def test_what_is_no_engine_s_error_is_left_alone_once_an_answer_began():
    """A mistake of our own is not dressed up as the network's; before, it can only be the transport's."""
    assert convert_exception(RuntimeError("ours"), response_started=True) is None
    twin = convert_exception(RuntimeError("the transport's"))
    assert isinstance(twin, RetryableFailure)
    assert type(twin.error) is TransportError


async def test_a_transport_that_raises_what_no_transport_should_ends_in_a_typed_error(open_session):
    """Its words are the cause's; ours name the class."""

    class Odd(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            raise LookupError("odd")

    async with open_session(transport=Odd()) as insights:
        assert isinstance(insights, AsyncInsights)
        with pytest.raises(TransportError, match=r"the transport failed \(LookupError\) after 2 attempts"):
            await insights.page(START, END)
