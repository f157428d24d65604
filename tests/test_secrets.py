"""Tests that the key and phone numbers appear in no log, repr, error, file or request to another host."""

import asyncio
import gc
import traceback
import warnings
from pathlib import Path

import httpx
import pytest
from support.clock import fake_runtime
from support.faults import (
    RawServer,
    answering,
    engine_options,
    every_engine,
    every_engine_slow,
    http_answer,
)
from support.leaks import links, shown

from iovox_async import AsyncInsights, IovoxError, RetryPolicy
from iovox_async._runtime import use_runtime
from iovox_async.sandbox import FAULT_KINDS, Faults, Sandbox

START, END = "2024-01-01", "2024-01-04"
#: A key whose parts occur nowhere else, with characters that escaping changes.
CANARY = "c4nary/<k3y>&\"0f\\n0b0dy'"
NUMBER = "447598455773"
HERE = __file__


pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty directory for files written by mistake."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


FORMS = {CANARY, repr(CANARY)[1:-1], repr(CANARY.encode())[2:-1], CANARY[:12], CANARY[-12:]}


def tainted(texts):
    """The texts that contain the key, whole, escaped or in part."""
    return [text for text in texts if any(form in text for form in FORMS)]


async def errors_of(insights):
    """Texts that show the results and errors of a page, a stream and a lookup, and the client afterwards."""
    stream = insights.stream(START, END, page_size=20)
    seen = [repr(insights), repr(stream)]
    for work in (insights.page(START, END, page_size=20), stream.collect(), insights.get(5, 6)):
        try:
            done = await work
        except IovoxError as error:
            seen += shown(error, HERE)
        else:
            seen.append(repr(done))
    seen += [repr(insights), repr(stream), repr(stream.stats), repr(stream.position), repr(insights.account)]
    return seen


@pytest.fixture(autouse=True)
def _retries_take_no_time(clock):
    with use_runtime(fake_runtime(clock)):
        yield


@pytest.mark.sweep(9)
@pytest.mark.fault(63)
@every_engine_slow
@pytest.mark.parametrize(
    ("kind", "form"),
    [*((kind, "xml") for kind in (*FAULT_KINDS, "none")), *(("401", form) for form in ("json", "text"))],
)
async def test_the_key_is_in_no_output_under_any_fault(kind, form, logs, clock, engine, folder, capfd):
    """Given any fault, when requests fail, then the key is in no log, repr, error, file, output or warning."""
    sandbox = Sandbox(calls=60, start=START, end=END, key=CANARY)
    if kind != "none":
        sandbox.faults = Faults(fail_after=1, kinds=kind, drip_interval=0.01, error_format=form)
    options = {"timeout": 0.04} if kind in {"hang", "hang_midway", "drip"} else {}
    policy = RetryPolicy(max_attempts=2)
    with warnings.catch_warnings(record=True) as warned:
        async with sandbox.serve() as base_url:
            session = AsyncInsights(
                "demo", CANARY, base_url=base_url, **engine_options(engine), retry=policy, **options
            )
            async with session as insights:
                seen = await errors_of(insights)
    assert len(seen) >= 10
    assert logs
    assert tainted(seen) == []
    assert tainted(logs) == []
    assert tainted(str(one.message) for one in warned) == []
    assert tainted(capfd.readouterr()) == []
    assert [path for path in folder.rglob("*") if path.is_file()] == []


ECHOES = {
    "an error as text": http_answer(b"bad key " + CANARY.encode(), b"400 Bad Request"),
    "an error as XML": http_answer(
        b"<errors><error>c4nary/&lt;k3y&gt;&amp;&quot;0f\\n0b0dy'</error></errors>", b"400 Bad Request"
    ),
    "an error as JSON": http_answer(b'{"error": "c4nary/<k3y>&\\"0f\\\\n0b0dy\'"}', b"500 Oh"),
    "a long error": http_answer(b"x" * 190 + CANARY.encode() + b"y" * 300, b"403 No"),
    "the reason": http_answer(b"", b"400 " + CANARY.encode()),
    "a header": http_answer(
        b"", b"500 Oh", b"x-key: " + CANARY.encode(), b"set-cookie: k=" + CANARY.encode()
    ),
    "a broken header": b"HTTP/1.1 200 OK\r\n" + CANARY.encode() + b"\r\n\r\n",
    "a broken status": CANARY.encode() + b"\r\n\r\n",
    "an encoding": http_answer(b"x", b"200 OK", b"content-encoding: " + CANARY.encode()),
    "a Location": http_answer(b"", b"302 Found", b"location: https://" + CANARY.encode() + b"@x.example/"),
    "a Location's host": http_answer(b"", b"302 Found", b"location: https://c4nary/<k3y>/" + CANARY.encode()),
    "a Retry-After": http_answer(b"", b"503 Wait", b"retry-after: " + CANARY.encode()),
    "a page that is no list": http_answer(b'{"error": "c4nary/<k3y>&\\"0f\\\\n0b0dy\'"}'),
    "a page that is no JSON": http_answer(b'[{"id": ' + CANARY.encode()),
    "a page of markup": http_answer(b"<html>" + CANARY.encode(), b"200 OK", b"content-type: text/html"),
}


@pytest.mark.sweep(4)
@pytest.mark.fault(63)
@every_engine
@pytest.mark.parametrize("answer", ECHOES.values(), ids=ECHOES.keys())
async def test_a_key_repeated_by_the_server_is_masked(answer, logs, clock, engine):
    """Given a response that contains the key, when it is received, then no error and no log line contains it."""
    async with RawServer(answering(answer)) as server:
        session = AsyncInsights(
            "demo",
            CANARY,
            base_url=server.base_url,
            **engine_options(engine),
            retry=RetryPolicy(max_attempts=3),
        )
        async with session as insights:
            seen = await errors_of(insights)
    assert len(seen) > 20
    assert tainted(seen) == []
    # The library's connection pool logs the response at DEBUG, but not the request.
    assert tainted(line for line in logs if not line.startswith(("httpcore.", "httpcore2."))) == []


@pytest.mark.finding("C1")
@pytest.mark.parametrize(
    "kind",
    [httpx.ReadError, httpx.ProxyError, httpx.ConnectError, httpx.UnsupportedProtocol, OSError, KeyError],
)
async def test_a_key_in_the_message_of_a_library_is_masked(kind, logs, clock):
    """Given a transport whose exception quotes the key, then neither our error nor its causes show it."""

    def fail(request):
        raise kind(f"cannot send {CANARY} to host") from OSError(f"refused {CANARY}")

    session = AsyncInsights(
        "demo", CANARY, base_url="https://rest.iovox.test", transport=httpx.MockTransport(fail)
    )
    async with session as insights:
        seen = await errors_of(insights)
    assert tainted(seen) == []
    assert tainted(logs) == []


@pytest.mark.fault(14)
@every_engine
async def test_a_redirect_target_receives_no_request(logs, clock, engine):
    """Given a redirect to another host, when pages are requested, then that host receives no connection."""
    async with RawServer(answering(http_answer())) as other:
        target = f"http://127.0.0.1:{other.port}/calls/insights"
        sandbox = Sandbox(calls=5, start=START, end=END, key=CANARY)
        sandbox.faults = Faults(fail_after=0, kinds="302", location=target)
        async with sandbox.serve() as base_url:
            async with AsyncInsights("demo", CANARY, base_url=base_url, **engine_options(engine)) as insights:
                seen = await errors_of(insights)
        assert any(f"127.0.0.1:{other.port}" in text for text in seen)
        assert other.connections == 0
    assert tainted(seen) == []


async def test_a_proxy_sees_the_key_only_inside_tls(logs, clock):
    """Given an HTTP proxy, when an https page is requested, then CONNECT has no header of ours, and no password is shown."""
    heard = []

    async def proxy(connection):
        head = await connection.request()
        heard.append(head)
        await connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        heard.append(await connection.reader.read(5_000))

    async with RawServer(proxy) as server:
        session = AsyncInsights(
            "demo",
            CANARY,
            base_url="https://rest.iovox.test",
            proxy=f"http://me:{'pr0xy-pass'}@127.0.0.1:{server.port}",
            retry=RetryPolicy(max_attempts=1),
        )
        async with session as insights:
            seen = await errors_of(insights)
    assert heard[0].startswith(b"CONNECT rest.iovox.test:443")
    assert CANARY.encode() not in b"".join(heard)
    assert b"username" not in b"".join(heard)
    assert tainted(seen) == []
    assert not [text for text in seen + logs if "pr0xy-pass" in text]


@every_engine
async def test_a_cancelled_request_shows_no_key(engine, clock):
    """Given a request in flight, when it is cancelled, then neither its frames nor the exception show the key."""
    sandbox = Sandbox(calls=5, start=START, end=END, key=CANARY)
    sandbox.faults = Faults(fail_after=0, kinds="hang")
    async with sandbox.serve() as base_url:
        async with AsyncInsights("demo", CANARY, base_url=base_url, **engine_options(engine)) as insights:
            task = asyncio.create_task(insights.page(START, END))
            while not sandbox.stats.active_requests:
                await asyncio.sleep(0.001)
            stacks = [
                f"{frame.f_code.co_qualname}: {frame.f_locals!r}"
                for one in asyncio.all_tasks()
                for frame in _awaited(one.get_coro())
                if frame.f_code.co_filename != HERE
            ]
            assert any("_request" in text for text in stacks)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            seen = [*shown(caught.value, HERE), *stacks]
    assert tainted(seen) == []


def _awaited(coroutine):
    """The frames of a coroutine and of those it awaits, down to the HTTP library, whose frames hold the request."""
    while getattr(coroutine, "cr_frame", None) is not None:
        yield coroutine.cr_frame
        coroutine = coroutine.cr_await
        file = Path(getattr(getattr(coroutine, "cr_code", None), "co_filename", ""))
        if {"httpcore", "httpcore2", "aiohttp"} & {*file.parts}:
            return


@every_engine
async def test_no_phone_number_is_in_an_error_or_a_log_line(logs, clock, engine):
    """Given a filter by phone number, when requests fail, then no error and no log line contains it."""
    sandbox = Sandbox(calls=60, start=START, end=END)
    async with sandbox.serve() as base_url:
        async with AsyncInsights("demo", "demo-key", base_url=base_url, **engine_options(engine)) as insights:
            for kind in ("404", "500", "cut", "garbage", "302", "close"):
                sandbox.faults = Faults(fail_after=0, kinds=kind)
                with pytest.raises(IovoxError) as caught:
                    await insights.stream(START, END, call_origin=NUMBER).collect()
                texts = [text for link in links(caught.value) for text in (str(link), repr(link.args))]
                assert not [text for text in texts if NUMBER in text]
    loud = [line for line in logs if " DEBUG " not in line and not line.startswith("httpx ")]
    assert not [line for line in loud if NUMBER in line]


@every_engine
async def test_an_error_keeps_no_frame_of_the_request(engine, clock):
    """Given a failed request, when its error is kept, then no frame of the request is kept with it."""
    sandbox = Sandbox(calls=60, start=START, end=END, faults=Faults(fail_after=1, kinds="cut"))
    async with sandbox.serve() as base_url:
        async with AsyncInsights("demo", "demo-key", base_url=base_url, **engine_options(engine)) as insights:
            with pytest.raises(IovoxError) as caught:
                await insights.stream(START, END, page_size=20).collect()
            gc.collect()
            frames = [
                frame.f_code.co_name
                for link in links(caught.value)
                for frame, _ in traceback.walk_tb(link.__traceback__)
            ]
    assert "_request" not in frames
    assert "_read_page" not in frames
