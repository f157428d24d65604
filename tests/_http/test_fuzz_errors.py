"""Random responses and failures: they end in calls or in an IovoxError, never in another exception."""

import gzip
import json
import ssl

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.clock import Clock, fake_runtime
from support.faults import RawServer, engine_options, every_engine
from support.model_server import examples
from support.sessions import requests_in_flight

from iovox_async import AsyncInsights, IovoxError, RetryPolicy
from iovox_async._runtime import use_runtime
from iovox_async.errors import RequestError

START, END = "2024-01-01", "2024-01-04"
BASE = "https://rest.iovox.test/rest/v1"


pytestmark = pytest.mark.usefixtures("nothing_is_left")


class RespondingTransport(httpx.AsyncBaseTransport):
    """Responds with bytes, and fails before or after them."""

    def __init__(self, status, headers, blocks, failure=None, *, early=False):
        self.response = (status, headers, blocks, failure)
        self.early = early
        self.requests = 0

    async def handle_async_request(self, request):
        self.requests += 1
        status, headers, blocks, failure = self.response
        if self.early and failure is not None:
            raise failure

        class Body(httpx.AsyncByteStream):
            async def __aiter__(self):
                for block in blocks:
                    yield block
                if failure is not None:
                    raise failure

        return httpx.Response(status, headers=headers, stream=Body())


def session(transport=None, base_url=BASE, **options):
    """A client whose waits take no time."""
    clock = Clock()
    with use_runtime(fake_runtime(clock)):
        insights = AsyncInsights("demo", "demo-key", base_url=base_url, transport=transport, **options)
    return insights, clock


async def outcome(work):
    """The IovoxError that work raises, or None; other exceptions propagate."""
    try:
        assert await work is not None
    except IovoxError as error:
        return error
    return None


async def check(insights, clock, limit=None):
    """Requests a page, a stream, pages by number, and calls by id; checks each result and the time it takes."""
    works = (
        lambda: insights.page(START, END),
        lambda: insights.page(START, END, on_error="skip"),
        lambda: insights.stream(START, END).collect(),
        lambda: insights.stream(START, END, paging="pages", order="talk_time_ASC").collect(),
        lambda: insights.get(1, 2),
    )
    for work in works[:limit]:
        began = clock.now
        error = await outcome(work())
        assert error is None or 0 < len(str(error)) < 2_000
        # Probes of a server that cannot be reached are limited by the total timeout, not by `max_attempts`.
        max_attempts = 60 if "has been unreachable for" in str(error) else RetryPolicy().max_attempts
        assert not isinstance(error, RequestError) or 1 <= error.attempts <= max_attempts
        assert clock.now - began <= RetryPolicy().total_timeout
        # After a 401 or 403, nothing is sent for 30 seconds.
        clock.now += 60
    assert requests_in_flight(insights) == 0


RECORD = {"id": 5, "call_start": "2024-01-02 10:00:00", "talk_time": "00:01:00"}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from([*RECORD, "has_recording", "tags", "categories", "transcriptions", "other"])
records = st.dictionaries(names, json_values, max_size=5).map(lambda odd: RECORD | odd)
bodies = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.lists(records | json_values, max_size=4).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [
            b"",
            b"null",
            b"[",
            b"[" * 50_000,
            b'[{"id":1' + b'{"a":' * 20_000,
            b"[" + b"9" * 5_000 + b"]",
            b"[NaN, 1e999]",
            b'["\\ud800"]',
            b"\xef\xbb\xbf[]",
            "[{'é'}]".encode("latin-1"),
            b"<errors><error status='500'>&lol;</error></errors>",
            b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>",
            b'{"errors": [{"error": "x"}, 5, null]}',
        ]
    ),
)
zipped = bodies.map(gzip.compress)
damaged = st.tuples(zipped, st.integers(0, 40), st.binary(max_size=8)).map(
    lambda parts: parts[0][: -parts[1] or None] + parts[2]
)
plain_text = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30
)
headers = st.dictionaries(
    st.sampled_from(
        [
            "content-type",
            "content-encoding",
            "retry-after",
            "location",
            "content-length",
            "date",
            "set-cookie",
        ]
    ),
    st.one_of(
        plain_text,
        st.sampled_from(
            ["gzip", "GZIP", "x-gzip", "gzip, gzip", "br", "text/html", "application/json; charset=latin-1"]
        ),
        st.sampled_from(
            ["http://[", "https://x:99999/", "//x", "http://\u00e9.example", "1e999", "-1", "nan", "0"]
        ),
        st.sampled_from(
            ["Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359", "1_0", "\u0661"]
        ),
        st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    ).map(lambda value: value.encode("utf-8")),
    max_size=4,
).map(lambda known: [(name.encode(), value) for name, value in known.items()])
statuses = st.one_of(
    st.integers(100, 999), st.sampled_from([200, 200, 200, 204, 302, 400, 401, 403, 407, 408, 429, 500, 503])
)


def _kinds(kind):
    yield kind
    for sub in kind.__subclasses__():
        yield from _kinds(sub)


failures = st.one_of(
    st.sampled_from(sorted(_kinds(httpx.TransportError), key=lambda kind: kind.__name__)).flatmap(
        lambda kind: st.text(max_size=20).map(kind)
    ),
    st.sampled_from(
        [OSError(5, "I/O"), ConnectionResetError(), BrokenPipeError(32, "x"), ssl.SSLError(1, "y")]
    ),
)


@pytest.mark.fault(43)
@given(statuses, headers, bodies | zipped | damaged, st.integers(1, 60))
@example(200, [(b"content-encoding", b"gzip")], gzip.compress(b"[]")[:5], 1)
@example(429, [(b"retry-after", b"Fri, 31 Dec 9999 23:59:59 -2359")], b"", 1)
@example(503, [(b"retry-after", b"Mon, 01 Jan 0001 00:00:00 +2359")], b"", 1)
@example(302, [(b"location", b"http://[")], b"", 1)
@examples(40)
async def test_any_response_ends_in_calls_or_in_an_iovox_error(status, heads, body, step):
    """Given any status, headers and body in blocks of any size, when calls are read, then only an IovoxError is raised."""
    blocks = [body[offset : offset + step] for offset in range(0, len(body), max(step, len(body) // 200))]
    transport = RespondingTransport(status, heads, blocks)
    insights, clock = session(transport)
    async with insights:
        await check(insights, clock)


@given(statuses, headers, bodies, failures, st.booleans())
@examples(30)
async def test_any_exception_of_a_transport_ends_in_an_iovox_error(status, heads, body, failure, early):
    """Given any exception before or in a response, when calls are read, then only an IovoxError is raised."""
    insights, clock = session(RespondingTransport(status, heads, [body], failure, early=early))
    async with insights:
        await check(insights, clock)


start_lines = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 500 x",
        b"HTTP/2 200",
        b"HTTP/1.1 99",
        b"HTTP/1.1 101 x",
        b"",
    ]
)
lines = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            b"content-length: 2",
            b"content-length: 2, 2",
            b"content-length: -1",
            b"content-length: 99999999999999999999",
            b"transfer-encoding: chunked",
            b"transfer-encoding: gzip, chunked",
            b"connection: close",
            b" folded",
            b": empty",
            b"content-encoding: gzip",
        ]
    ),
)
wire = st.one_of(
    st.binary(max_size=120),
    st.tuples(start_lines, st.lists(lines, max_size=4), bodies).map(
        lambda parts: b"\r\n".join([parts[0], *parts[1], b"", parts[2]])
    ),
)


@pytest.mark.fault(43)
@every_engine
@given(answers=st.lists(wire, min_size=1, max_size=3))
@example(answers=[b"", b"", b"HTTP/0.0 200\n\n"])
@examples(15)
async def test_any_bytes_on_the_wire_end_in_calls_or_in_an_iovox_error(engine, answers):
    """Given any bytes from a real socket, when calls are read, then only an IovoxError is raised."""

    async def handler(connection):
        if await connection.request() is not None:
            await connection.send(answers[(connection.number - 1) % len(answers)])

    async with RawServer(handler) as server:
        insights, clock = session(base_url=server.base_url, **engine_options(engine))
        async with insights:
            await check(insights, clock, limit=3)
