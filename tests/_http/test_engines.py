"""Tests of the engines httpx, httpx2 and aiohttp: the same behaviour, and where they differ."""

import asyncio
import ssl
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
from support.backfill import ids_in
from support.faults import RawServer, answering, engine_options, every_engine, http_answer
from yarl import URL

from iovox_async import (
    AsyncInsights,
    BadRequestError,
    InsightsQuery,
    RequestTimeout,
    RetryPolicy,
    TLSError,
    TransportError,
)
from iovox_async._http.exceptions import convert_exception
from iovox_async._http.failures import RetryableFailure
from iovox_async.backfill import Backfill
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-01-10"


pytestmark = pytest.mark.usefixtures("nothing_is_left")


# Common behaviour.


@every_engine
async def test_one_connection_is_reused_for_all_requests(open_session):
    """Given concurrency 1, when pages and streams are read and some requests fail, then one connection serves all."""
    sandbox = Sandbox(calls=120, start=START, end=END, faults=Faults(fail_at=(3, 4, 9), kinds="500"))
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=1) as insights:
        for _ in range(10):
            await insights.page(START, END, page_size=20)
            await insights.stream(START, END, page_size=50).collect()
        assert sandbox.stats.requests > 40
        assert sandbox.stats.connections_made == 1


@every_engine
async def test_concurrent_requests_reuse_one_connection_each(open_session):
    """Given concurrency 4, when requests come in waves, then four connections are opened in total."""
    sandbox = Sandbox(calls=10, start=START, end=END, faults=Faults(latency=0.02))
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=4) as insights:
        for _ in range(4):
            await asyncio.gather(*(insights.page(START, END) for _ in range(8)))
        assert sandbox.stats.requests == 32
        assert sandbox.stats.peak_active_requests <= 4
        assert sandbox.stats.connections_made <= 4


@every_engine
async def test_connection_close_opens_a_new_connection(open_session, clock):
    """Given `Connection: close`, when pages are requested, then each has a new connection, without a wait."""
    last = http_answer(b"[]", b"200 OK", b"connection: close")
    async with RawServer(answering(last)) as server, open_session(server.base_url) as insights:
        for _ in range(3):
            assert (await insights.page(START, END)).calls == []
        assert server.connections == len(server.inbox) == 3
    assert clock.waits == []


def parse_head(head):
    """The parts of the request line, and the headers by lowercase name."""
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
    ids=["none", "characters that are escaped", "other characters"],
)
async def test_every_engine_send_the_same_request(filters, open_session, monkeypatch, tmp_path):
    """Given the same query, when each engine sends it, then path, query and headers are equal; netrc, proxies and cookies are not used."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login stranger password str4nge")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    answer = http_answer(b"[]", b"200 OK", b"set-cookie: sticky=1")
    sent = []
    async with RawServer(answering(answer)) as server:
        for engine in ("httpx", "aiohttp"):
            async with open_session(server.base_url, **engine_options(engine)) as insights:
                await insights.page(START, END, **filters)
                await insights.page(START, END, **filters)
    sent = [parse_head(head) for head in server.inbox]
    assert sent[0] == sent[1] == sent[2] == sent[3]
    method, path, query, version, headers = sent[3]
    assert (method, path, version) == ("GET", "/rest/v1/calls/insights", "HTTP/1.1")
    assert {name: values[0] for name, values in query.items()}.items() >= filters.items()
    assert headers.keys() - {"connection"} == {
        "accept",
        "accept-encoding",
        "cache-control",
        "host",
        "securekey",
        "user-agent",
        "username",
    }
    assert headers.get("connection", "keep-alive") == "keep-alive"
    assert headers["accept-encoding"] == "gzip"


FORMS = {
    "as it is": AiohttpTransport,
    "without the environment": lambda: AiohttpTransport(trust_env=False),
    "a class for a factory": lambda: AiohttpTransport(client=aiohttp.ClientSession),
    "a factory": lambda: AiohttpTransport(
        client=lambda: aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=2), cookie_jar=aiohttp.DummyCookieJar()
        )
    ),
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS.keys())
async def test_every_form_of_the_aiohttp_transport_works(make, open_session):
    """Given an AiohttpTransport made in any supported way, when a stream is read, then all calls arrive."""
    sandbox = Sandbox(calls=300, start=START, end=END, faults=Faults(gzip=True, latency=0.001))
    async with sandbox.serve() as base_url, open_session(base_url, transport=make()) as insights:
        stream = insights.stream(START, END, page_size=30)
        assert [call.id async for call in stream] == sandbox.ids()
        assert 0 < stream.stats.bytes_received < 300 * 200


async def test_closing_the_client_closes_the_users_aiohttp_session(open_session):
    """Given the user's aiohttp session, when the client is closed, then it is closed too, and later use is a TransportError."""
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


# Differences.


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
async def test_aiohttp_rejects_what_httpx_accepts_with_the_same_error(data, open_session):
    """Given responses that only httpx accepts, when aiohttp reads them, then TransportError is raised without the bytes."""
    for engine in ("httpx", "aiohttp"):
        async with RawServer(answering(data)) as server:
            async with open_session(server.base_url, **engine_options(engine)) as insights:
                if engine == "httpx":
                    assert (await insights.page(START, END)).calls == []
                    continue
                if data.count(b"\r\n") > 200 and aiohttp.__version__ < "3.14":
                    pytest.skip("aiohttp 3.11 and 3.13.0 accept any number of headers")
                with pytest.raises(TransportError, match="is not HTTP") as caught:
                    await insights.page(START, END)
            assert caught.value.attempts == len(server.inbox) == 2
    assert caught.value.__cause__ is None
    assert len(str(caught.value)) < 200


async def test_a_reason_phrase_that_is_not_text_is_a_transport_error_with_aiohttp(open_session):
    """Given a reason phrase with invalid bytes, when aiohttp reads it, then TransportError is raised, without a cause."""
    answer = http_answer(b"[]", b"200 s3cret\xff")
    async with RawServer(answering(answer)) as server:
        async with open_session(server.base_url) as insights:
            assert (await insights.page(START, END)).calls == []
        async with open_session(server.base_url, **engine_options("aiohttp")) as insights:
            with pytest.raises(TransportError, match="UnicodeEncodeError") as caught:
                await insights.page(START, END)
    assert caught.value.attempts == 2
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_aiohttp_repeats_a_request_after_a_lost_connection(open_session):
    """Given a server that never responds, when aiohttp is used, then it sends more requests than the attempts counted."""

    async def mute(connection):
        await connection.request()

    requests = {}
    for engine in ("httpx", "aiohttp"):
        async with RawServer(mute) as server:
            policy = RetryPolicy(max_attempts=3)
            options = engine_options(engine)
            async with open_session(server.base_url, retry=policy, **options) as insights:
                with pytest.raises(TransportError, match="without a response") as caught:
                    await insights.page(START, END)
            assert caught.value.attempts == 3
            requests[engine] = len(server.inbox)
    assert requests == {"httpx": 3, "aiohttp": 6}


# Errors.


def test_aiohttp_is_not_imported_without_need():
    """Given a program without aiohttp, when a request fails, then aiohttp is not imported."""
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


def create(kind):
    """An exception of an aiohttp class, created as aiohttp does."""
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
    """A class and all its subclasses."""
    yield kind
    for sub in kind.__subclasses__():
        yield from kinds_of(sub)


AIOHTTP_CLASSES = {
    kind.__name__: kind for kind in kinds_of(aiohttp.ClientError) if kind.__module__.startswith("aiohttp.")
}
NOT_RETRYABLE = {
    "ServerFingerprintMismatch": TLSError,
    "ClientHttpProxyError": BadRequestError,
    "InvalidURL": TransportError,
    "InvalidUrlClientError": TransportError,
    "InvalidUrlRedirectClientError": TransportError,
    "NonHttpUrlClientError": TransportError,
    "NonHttpUrlRedirectClientError": TransportError,
}
TIMEOUTS = {"ServerTimeoutError", "ConnectionTimeoutError", "SocketTimeoutError"}


@pytest.mark.parametrize("wrapped", [False, True], ids=["direct", "wrapped by httpx_aiohttp"])
@pytest.mark.parametrize("kind", AIOHTTP_CLASSES.values(), ids=AIOHTTP_CLASSES.keys())
def test_every_exception_of_aiohttp_is_converted_without_references(kind, wrapped):
    """Given any exception of aiohttp, wrapped or not, when it is converted, then the error holds no reference to it."""
    error = create(kind)
    if wrapped:
        with pytest.raises(Exception) as caught, map_aiohttp_exceptions():
            raise error
        error = caught.value
    failure = convert_exception(error, response_started=True)
    name = kind.__name__
    if name in NOT_RETRYABLE:
        assert type(failure) is NOT_RETRYABLE[name]
    else:
        assert isinstance(failure, RetryableFailure)
        assert type(failure.error) is (RequestTimeout if name in TIMEOUTS else TransportError)
        assert not failure.stale_connection, "aiohttp itself has repeated the request then"
        unreachable = issubclass(kind, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        unreachable = unreachable and not issubclass(kind, ssl.SSLError)
        assert failure.unreachable == unreachable
        assert failure.overload == (name in TIMEOUTS and not unreachable)
        failure = failure.error
    assert CANARY not in str(failure)
    assert failure.__cause__ in {None, REFUSED}
    assert failure.__context__ is None


async def test_unknown_exceptions_are_converted_only_before_the_response():
    """Given an exception of no HTTP library, when a response has started, then it is not converted."""
    assert convert_exception(RuntimeError("ours"), response_started=True) is None
    failure = convert_exception(RuntimeError("the transport's"))
    assert isinstance(failure, RetryableFailure)
    assert type(failure.error) is TransportError


async def test_an_unknown_exception_of_a_transport_is_a_transport_error(open_session):
    """Given a transport that raises LookupError, when a page is requested, then TransportError names that class."""

    class Odd(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            raise LookupError("odd")

    async with open_session(transport=Odd()) as insights:
        assert isinstance(insights, AsyncInsights)
        with pytest.raises(TransportError, match=r"the transport failed \(LookupError\) after 2 attempts"):
            await insights.page(START, END)


# Every reader.


@every_engine
async def test_every_reader_gives_the_same_calls_over_every_engine(engine, open_session, tmp_path):
    """Given faults and gzip, when all readers read over an engine, then each gives the calls of the sandbox, in order."""
    faults = Faults(gzip=True, every_nth=4, kinds="500")
    sandbox = Sandbox(calls=120, start=START, end=END, faults=faults)
    ids = sandbox.ids()
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=3, page_size=25) as insights:
        calls = [call.id async for call in insights.stream(START, END)]
        pages = [call.id async for page in insights.stream(START, END).pages() for call in page.calls]
        numbered = [call.id async for call in insights.stream(START, END, paging="pages")]
        batches = [batch["id"].to_pylist() async for batch in insights.stream(START, END).arrow()]
        columns = [one for batch in batches for one in batch]
        delivered = [call.id for call in await insights.get(ids[::-7])]
        followed = []
        async with insights.follow(START) as follow:
            async for call in follow:
                followed.append(call.id)
                if len(followed) == len(ids):
                    break
        query = InsightsQuery(start_date=START, end_date=END)
        report = await Backfill(insights, query, tmp_path / "calls", format="jsonl").run()
    assert calls == pages == numbered == columns == followed == ids_in(tmp_path / "calls") == ids
    assert delivered == ids[::-7]
    assert report.calls == len(ids)
