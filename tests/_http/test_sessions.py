"""Tests of what a session does at its edges: its arguments, deadlines, closing, other loops, and being dropped."""

import asyncio
import contextlib
import functools
import gc
import gzip
import itertools
import json
import sys
import threading
import time
import warnings

import httpx
import httpx2
import pytest
from support.faults import CALL, nothing_left

from iovox_async import (
    AsyncInsights,
    ConfigurationError,
    DecodeError,
    IovoxError,
    QueryError,
    RequestTimeout,
    RetryPolicy,
    SessionError,
    TransportError,
)
from iovox_async._http import network
from iovox_async._http.body import ResponseBody
from iovox_async._http.budgets import PageBudget
from iovox_async.events import BaseObserver
from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-31"
ONCE = RetryPolicy(max_attempts=1)


class Answering(httpx.AsyncBaseTransport):
    """Returns what a function makes of the request."""

    def __init__(self, respond):
        self.respond = respond
        self.requests = []

    async def handle_async_request(self, request):
        self.requests.append(request)
        return self.respond(request)


def page(*blocks, **options):
    return httpx.Response(200, stream=Blocks(*blocks), **options)


class Blocks(httpx.AsyncByteStream):
    """Gives blocks, waiting before each; `close_seconds` is how long closing takes."""

    def __init__(self, *blocks, wait=0.0, close_seconds=0.0):
        self.blocks, self.wait, self.close_seconds = blocks, wait, close_seconds
        self.reading, self.closed = asyncio.Event(), False

    async def __aiter__(self):
        self.reading.set()
        for block in self.blocks:
            await asyncio.sleep(self.wait)
            yield block

    async def aclose(self):
        await asyncio.sleep(self.close_seconds)
        self.closed = True


# The transport (D11).


class Sync(httpx.BaseTransport):
    pass


WRONG = {
    "a synchronous one": httpx.HTTPTransport,
    "a class of the user's": Sync,
    "a string": lambda: "httpx",
    "a number": lambda: 5,
    "a class": lambda: httpx.AsyncHTTPTransport,
    "a client": httpx.AsyncClient,
    "httpx2's synchronous one": httpx2.HTTPTransport,
    "a client of httpx2": httpx2.AsyncClient,
}


@pytest.mark.finding("D11")
@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG.keys())
async def test_a_transport_of_the_wrong_kind_is_refused_at_construction(make):
    """Given something else as transport, when a session is made, then ConfigurationError names the argument and what to pass."""
    wrong = make()
    with pytest.raises(
        ConfigurationError, match=r"^transport must be an asynchronous transport of httpx, httpx2"
    ) as caught:
        AsyncInsights("demo", "k", transport=wrong)
    assert "AsyncHTTPTransport()" in caught.value.hint
    if isinstance(wrong, httpx.AsyncClient | httpx2.AsyncClient):
        await wrong.aclose()


@pytest.mark.finding("D11")
async def test_a_transport_may_read_all_four_timeouts(open_session):
    """Given a transport that reads httpx's four timeouts, when a page is requested, then each is a number of seconds."""
    seen = {}

    def respond(request):
        seen.update(
            {
                name: float(request.extensions["timeout"][name])
                for name in ("connect", "read", "write", "pool")
            }
        )
        return page(b"[]")

    async with open_session(transport=Answering(respond), timeout=30) as insights:
        await insights.page(START, END)
    assert all(seconds >= 30 for seconds in seen.values())
    assert len(seen) == 4


ODD_RESPONSES = {
    "None": lambda _: None,
    "a body": lambda _: b"[]",
    "a synchronous stream": lambda _: httpx.Response(200, stream=SyncStream()),
}


class SyncStream(httpx.SyncByteStream):
    def __iter__(self):
        yield b"[]"


@pytest.mark.finding("D11")
@pytest.mark.parametrize("respond", ODD_RESPONSES.values(), ids=ODD_RESPONSES.keys())
async def test_a_transport_that_returns_something_else_ends_in_a_typed_error(respond, open_session):
    """Given a transport that returns no async response, when a page is requested, then TransportError says what came, once."""
    transport = Answering(respond)
    async with open_session(transport=transport) as insights:
        with pytest.raises(TransportError, match=r"must return an httpx\.Response with an async stream"):
            await insights.page(START, END)
    assert len(transport.requests) == 1


@pytest.mark.finding("D11")
async def test_a_stream_that_raises_anything_ends_in_a_typed_error(open_session):
    """Given a response whose stream raises an unknown exception, when a page is requested, then it is a TransportError."""

    class Broken(Blocks):
        async def __aiter__(self):
            yield b"["
            raise LookupError("odd")

    async with open_session(transport=Answering(lambda _: httpx.Response(200, stream=Broken()))) as insights:
        with pytest.raises(TransportError, match="LookupError"):
            await insights.page(START, END)


def deep(levels, work):
    """Calls `work` with that many frames below it."""
    return work() if levels == 0 else deep(levels - 1, work)


# max_page_bytes (B9).


@pytest.mark.finding("B9")
@pytest.mark.parametrize("compressed", [False, True], ids=["as sent", "decompressed"])
async def test_a_page_larger_than_max_page_bytes_is_a_clear_error(compressed, open_session):
    """Given a page beyond the limit, when it is requested, then DecodeError names the limit and what to do, after one request."""
    body = json.dumps([CALL] * 100).encode()
    headers = {"content-encoding": "gzip"} if compressed else {}
    data = gzip.compress(body) if compressed else body
    transport = Answering(lambda _: page(data, headers=headers))
    async with open_session(transport=transport, max_page_bytes=len(body) - 1) as insights:
        with pytest.raises(DecodeError, match=f"larger than {len(body) - 1} bytes") as caught:
            await insights.page(START, END)
    assert "page_size=" in caught.value.hint
    assert "max_page_bytes=" in caught.value.hint
    assert len(transport.requests) == 1
    async with open_session(transport=transport, max_page_bytes=len(body)) as insights:
        assert len((await insights.page(START, END)).calls) >= 1


async def test_single_bytes_are_joined_before_they_are_decoded(open_session, monkeypatch):
    """Given a page that comes in chunks of one byte, when it is requested, then it takes few turns of the event loop to decode it."""
    turns = []
    take_turn = ResponseBody.take_turn

    async def counted(self):
        turns.append(self)
        await take_turn(self)

    monkeypatch.setattr(ResponseBody, "take_turn", counted)
    data = json.dumps([CALL] * 5).encode()
    blocks = [bytes([byte]) for byte in data]
    transport = Answering(lambda _: httpx.Response(200, stream=Blocks(*blocks)))
    async with open_session(transport=transport) as insights:
        assert [call.id for call in (await insights.page(START, END)).calls] == [CALL["id"]] * 5
    assert 1 <= len(turns) <= len(transport.requests) * (len(data) // 64 + 1)


@pytest.mark.finding("B9")
async def test_a_page_that_announces_too_many_bytes_is_not_read(open_session):
    """Given a content-length beyond the default limit, when a page is requested, then its body is not read."""
    body = Blocks(b"[]")
    headers = {"content-length": str(64 * 1024 * 1024 + 1)}
    transport = Answering(lambda _: httpx.Response(200, headers=headers, stream=body))
    async with open_session(transport=transport) as insights:
        with pytest.raises(DecodeError, match="larger than 67108864 bytes"):
            await insights.page(START, END)
    assert not body.reading.is_set()
    assert body.closed


@pytest.mark.finding("B9")
async def test_a_stream_replaces_pages_that_are_too_large(open_session):
    """Given pages beyond the limit, when a stream is read, then smaller windows are requested, and all calls arrive."""
    sandbox = Sandbox(calls=400, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, max_page_bytes=40_000) as insights:
        stream = insights.stream(START, END)
        assert [call.id async for call in stream] == sandbox.ids()
        assert stream.stats.window_splits


@pytest.mark.finding("B9")
@pytest.mark.parametrize("wrong", [0, -1, 1.5, "64 MB", None, True])
def test_max_page_bytes_is_a_positive_integer(wrong):
    """Given another value, when a session is made, then ConfigurationError names the argument."""
    with pytest.raises(ConfigurationError, match=r"^max_page_bytes must be a positive integer, got"):
        AsyncInsights("demo", "k", max_page_bytes=wrong)


@pytest.mark.finding("B9")
@pytest.mark.parametrize("name", ["max_page_bytes", "concurrency"])
async def test_a_huge_integer_is_refused_or_used(open_session, name):
    """Given more than 64 bits for an argument, when a session is made, then ConfigurationError; a bit less is read with."""
    with pytest.raises(
        ConfigurationError, match=rf"^{name} must be at most \d+, got an integer of 5000 bits"
    ):
        AsyncInsights("demo", "k", **{name: 1 << 4_999})
    sandbox = Sandbox(calls=40, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, **{name: 1 << 60}) as insights:
        assert len(await insights.stream(START, END).collect()) == 40


# Deadlines that cover the network only (B7).


def burn(seconds):
    """Computes for some seconds of processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))


@pytest.mark.finding("B7")
@pytest.mark.parametrize("waste", [burn, time.sleep], ids=["computing", "blocked"])
async def test_a_busy_loop_does_not_end_an_attempt(waste, open_session):
    """Given a loop that is busy for twice the timeout during an attempt, when the page then arrives, then it is returned."""

    class Slow(Blocks):
        async def __aiter__(self):
            yield b"["
            await asyncio.sleep(0.01)
            waste(0.4)
            await asyncio.sleep(0.01)
            yield b"]"

    transport = Answering(lambda _: httpx.Response(200, stream=Slow()))
    async with open_session(transport=transport, timeout=0.2, retry=ONCE) as insights:
        assert (await insights.page(START, END)).calls == []


@pytest.mark.finding("B7")
async def test_a_slow_processor_is_no_slow_server(open_session, monkeypatch):
    """Given many small computations by another task, when they take longer than the timeout, then no attempt ends."""
    # On a busy machine this thread gets a part of the time only; all of it counts as computing here.
    monkeypatch.setattr(time, "thread_time", time.monotonic)

    async def compute():
        for _ in range(60):
            burn(0.01)
            await asyncio.sleep(0)

    class Waiting(Blocks):
        async def __aiter__(self):
            await busy
            yield b"[]"

    transport = Answering(lambda _: httpx.Response(200, stream=Waiting()))
    async with open_session(transport=transport, timeout=0.3, retry=ONCE) as insights:
        busy = asyncio.create_task(compute())
        assert (await insights.page(START, END)).calls == []


@pytest.mark.finding("B7")
async def test_a_slow_server_still_ends_in_a_timeout(open_session):
    """Given a server that sends nothing, when the timeout is over, then RequestTimeout is raised."""
    stream = Blocks(b"[]", wait=3600)
    async with open_session(
        transport=Answering(lambda _: httpx.Response(200, stream=stream)), timeout=0.05, retry=ONCE
    ) as insights:
        with pytest.raises(RequestTimeout, match=r"0\.05 seconds"):
            await insights.page(START, END)
    assert stream.closed


# Closing (B8).


@pytest.mark.finding("B8")
@pytest.mark.parametrize("way", ["the caller", "the session", "the timeout"])
async def test_a_response_is_closed_although_its_closing_waits(way, open_session):
    """Given responses whose closing takes a moment, when their requests are cancelled, then all of them are closed."""
    streams = []

    def respond(_):
        streams.append(Blocks(b"[]", wait=3600, close_seconds=0.01))
        return httpx.Response(200, stream=streams[-1])

    timeout = 0.05 if way == "the timeout" else 60
    async with nothing_left():
        insights = open_session(transport=Answering(respond), timeout=timeout, retry=ONCE)
        tasks = [asyncio.create_task(insights.page(START, END)) for _ in range(8)]
        while len(streams) < 8:
            await asyncio.sleep(0)
        for stream in streams:
            await stream.reading.wait()
        if way == "the caller":
            for task in tasks:
                task.cancel()
        elif way == "the session":
            await insights.aclose()
        await asyncio.gather(*tasks, return_exceptions=True)
        await insights.aclose()
    assert [stream.closed for stream in streams] == [True] * 8


@pytest.mark.finding("B8")
async def test_closing_that_never_ends_is_given_up(open_session, monkeypatch):
    """Given a response and a transport whose closing hangs, when the session is closed, then that takes no longer than the limit."""
    monkeypatch.setattr(network, "CLOSE_SECONDS", 0.05)

    class Hanging(Answering):
        async def aclose(self):
            await asyncio.sleep(3600)

    stream = Blocks(b"[]", close_seconds=3600)
    insights = open_session(transport=Hanging(lambda _: httpx.Response(200, stream=stream)))
    async with asyncio.timeout(60), insights:
        assert (await insights.page(START, END)).calls == []


@pytest.mark.finding("B8")
async def test_a_cancelled_aclose_still_closes(open_session):
    """Given a transport whose closing waits, when aclose() is cancelled, then closing goes on, and a second aclose() waits for it."""

    class Slow(Answering):
        closed = 0

        async def aclose(self):
            await asyncio.sleep(0.02)
            self.closed += 1

    transport = Slow(lambda _: page(b"[]"))
    insights = open_session(transport=transport)
    await insights.page(START, END)
    task = asyncio.create_task(insights.aclose())
    await asyncio.sleep(0.001)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await insights.aclose()
    assert transport.closed == 1


# Loops (D7).


def run_in_loop(main):
    return asyncio.run(main())


@pytest.mark.finding("D7")
@pytest.mark.parametrize("call", ["page", "stream", "get", "follow", "enter"])
def test_under_another_library_the_first_call_is_one_clear_error(call, open_session):
    """Given no loop of asyncio, when a session is used, then the first call is a SessionError that says so."""
    insights = open_session()

    async def use():
        match call:
            case "page":
                await insights.page(START, END)
            case "stream":
                await insights.stream(START, END).collect()
            case "get":
                await insights.get(1)
            case "follow":
                await anext(aiter(insights.follow()))
            case "enter":
                async with insights:
                    pass

    coroutine = use()
    with pytest.raises(SessionError, match="needs an event loop of asyncio"):
        coroutine.send(None)


@pytest.mark.finding("D7")
@pytest.mark.parametrize("call", ["aclose", "page"])
def test_another_loop_is_a_clear_error(call, open_session):
    """Given a session that was used in one loop, when it is closed or used in another, then SessionError says so."""
    sandbox = Sandbox(calls=5, start=START, end=END)
    with sandbox.serve() as base_url:
        transport = httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_keepalive_connections=0), trust_env=False
        )
        insights = open_session(base_url, transport=transport)
        asyncio.run(insights.page(START, END))
        with pytest.raises(SessionError, match="belongs to another event loop"):
            asyncio.run(insights.aclose() if call == "aclose" else insights.page(START, END))
        insights._connection.supervisor.abandon()


@pytest.mark.finding("D7")
async def test_a_session_that_is_dropped_says_where_it_was_made(open_session):
    """Given a session that was used, when it is dropped without aclose(), then one ResourceWarning names file and line."""
    insights = AsyncInsights("demo", "k", transport=Answering(lambda _: page(b"[]")))
    line = sys._getframe().f_lineno - 1
    await insights.page(START, END)
    gc.collect()  # the garbage of other tests may warn of something, too
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del insights
        gc.collect()
        await asyncio.sleep(0)
    (warning,) = [one for one in caught if one.category is ResourceWarning]
    assert f"was made at {__file__}:{line}" in str(warning.message)


@pytest.mark.finding("D7")
@pytest.mark.parametrize("state", ["unused", "closed", "left by async with"])
async def test_a_session_that_needs_no_closing_is_dropped_in_silence(state):
    """Given a session that was never used, or closed, when it is dropped, then there is no warning."""
    insights = AsyncInsights("demo", "k", transport=Answering(lambda _: page(b"[]")))
    if state == "closed":
        await insights.page(START, END)
        await insights.aclose()
    elif state != "unused":
        async with insights:
            await insights.page(START, END)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del insights
        gc.collect()


# Observers (D8).


class Counting(BaseObserver):
    def __init__(self):
        self.open = 0

    def on_stream_started(self, event):
        self.open += 1

    def on_stream_finished(self, event):
        self.open -= 1


@pytest.mark.finding("D8")
@pytest.mark.parametrize("way", ["records", "pages"])
async def test_a_stream_of_a_closed_session_starts_nothing(way, open_session):
    """Given a closed session, when its stream is read, then no event says that it started."""
    observer = Counting()
    insights = open_session(transport=Answering(lambda _: page(b"[]")), observer=observer)
    stream = insights.stream(START, END)
    await insights.aclose()
    with pytest.raises(SessionError):
        await anext(aiter(stream) if way == "records" else stream.pages())
    await stream.aclose()
    assert observer.open == 0


class Raising:
    """Each method raises, is missing, or is no plain function."""

    def __init__(self, error):
        self.error = error

    def _raise(self, event):
        raise self.error

    on_stream_started = on_request_finished = on_page_accepted = on_stream_finished = on_retry = _raise


class Async:
    async def on_stream_started(self, event):
        pass

    on_request_finished = on_page_accepted = on_stream_finished = on_retry = on_stream_started


class Lacking:
    def on_stream_started(self, event):
        raise ValueError("mine")


OBSERVERS = {
    "raises": Raising(ValueError("mine")),
    "raises CancelledError": Raising(asyncio.CancelledError()),
    "raises GeneratorExit": Raising(GeneratorExit()),
    "raises StopAsyncIteration": Raising(StopAsyncIteration()),
    "lacks methods": Lacking(),
    "is async": Async(),
}


@pytest.mark.finding("D8")
@pytest.mark.parametrize("observer", OBSERVERS.values(), ids=OBSERVERS.keys())
async def test_no_observer_changes_the_outcome(observer, open_session, caplog):
    """Given an observer that fails in any way, when a stream and a page are read, then all calls arrive, and the log says so once each."""
    sandbox = Sandbox(calls=300, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, observer=observer) as insights:
        assert [call.id async for call in insights.stream(START, END, page_size=50)] == sandbox.ids()
        assert len((await insights.page(START, END)).calls) == 300
    assert sum("the observer failed" in record.message for record in caplog.records) == 2


# The memory of a session's streams (B3).


@pytest.mark.finding("B3")
async def test_many_streams_share_one_budget(open_session):
    """Given 15 streams that are not read on, when their pages fill the budget, then each holds its first page and no more."""
    sandbox = Sandbox(calls=500, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, page_size=60) as insights:
        budget = insights._connection.page_budget
        budget.limit = 40_000
        streams = [insights.stream(START, END) for _ in range(15)]
        readers = [aiter(stream) for stream in streams]
        for reader in readers:
            await anext(reader)
        await asyncio.sleep(0.1)
        assert sum(stream.stats.buffered_pages for stream in streams) <= 15 + 8
        rest = await asyncio.gather(*(collect(reader) for reader in readers))
        assert all(len(calls) == 499 for calls in rest)
        for stream in streams:
            await stream.aclose()
        del rest, readers, streams
        gc.collect()
        assert budget.used == 0


async def collect(reader):
    return [call async for call in reader]


@pytest.mark.finding("B3")
async def test_a_page_counts_until_it_is_dropped_in_any_thread():
    """Given a full budget, when a page is dropped in a thread, then the stream that waits is woken."""

    class Held:
        pass

    budget, wake = PageBudget(100), asyncio.Event()
    with budget.expect(60):
        assert budget.has_room(wake)
        held = [Held()]
        budget.hold(held[0], 60)
        assert not budget.has_room(wake)
    assert budget.used == 60
    with budget.expect(60):
        assert not budget.has_room(wake)
        wake.clear()
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
        async with asyncio.timeout(60):
            await wake.wait()
        assert budget.used == 60
    assert budget.used == 0


# The recursion limit (D11).


def stack_depth():
    """The number of frames of this thread."""
    frame, depth = sys._getframe(1), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


@pytest.mark.finding("D11")
@pytest.mark.parametrize("route", ["records", "pages", "arrow", "page", "get"])
async def test_near_the_recursion_limit_every_route_ends_in_an_iovox_error_or_a_result(route, open_session):
    """Given little of the stack left, when a deeply nested value is read, then an IovoxError is raised; a flat one arrives."""
    nested = functools.reduce(lambda value, _: [value], range(60), "x")
    bodies = {
        depth: json.dumps([{**CALL, "tags": value}]).encode() for depth, value in ((0, []), (60, nested))
    }
    served = [0]
    async with open_session(transport=Answering(lambda _: page(bodies[served[0]]))) as insights:
        fields = ["id", "call_start", "tag_text"]
        read = {
            "records": lambda: anext(aiter(insights.stream(START, END, fields=fields, paging="pages"))),
            "pages": lambda: anext(insights.stream(START, END, fields=fields, paging="pages").pages()),
            "arrow": lambda: anext(insights.stream(START, END, fields=fields, paging="pages").arrow()),
            "page": lambda: insights.page(START, END, fields=fields),
            "get": lambda: insights.get(CALL["id"], fields=fields),
        }[route]
        # All modules are imported by now.
        assert await read()
        limit = sys.getrecursionlimit()
        for served[0], left in itertools.product(bodies, range(120, 320, 20)):
            sys.setrecursionlimit(stack_depth() + left)
            try:
                await read()
                error = None
            except IovoxError as raised:
                error = raised
            finally:
                sys.setrecursionlimit(limit)
            assert (error is not None) == (served[0] > 0), (served, left, error)
            assert not isinstance(error, QueryError)


# Messages that fit the cause (D9).


@pytest.mark.finding("D9")
async def test_gzip_data_without_its_header_is_named(open_session):
    """Given gzip data without Content-Encoding, when a page is requested, then the error names it, and no address is doubted."""
    transport = Answering(lambda _: page(gzip.compress(b"[]")))
    async with open_session(transport=transport) as insights:
        with pytest.raises(DecodeError, match="gzip data") as caught:
            await insights.page(START, END)
    assert "address" not in str(caught.value)
    assert "Content-Encoding" in str(caught.value)
