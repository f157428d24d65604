"""The sandbox as a server: started and gone without a trace, counted, extended, and an oracle that shares nothing."""

import asyncio
import re
import socket
import sys
import threading
import time
from email.utils import parsedate_to_datetime

import blockbuster
import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from iovox_async.errors import ConfigurationError, MissingExtraError, SessionError
from iovox_async.sandbox import Faults, Sandbox

KNOWN = {"username": "demo", "secureKey": "demo-key"}
PATH = "/calls/insights?start_date=2024-01-01&end_date=2024-03-31"


def client(base_url, **options):
    return httpx.AsyncClient(base_url=base_url, headers=KNOWN, **options)


@pytest.fixture(autouse=True)
def _nothing_is_left():
    """No thread of a sandbox outlives its test."""
    before = set(threading.enumerate())
    yield
    assert not [each for each in set(threading.enumerate()) - before if each.name.startswith("iovox-sandbox")]


async def until(condition):
    """Turns the loop until the server has come so far."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


# ------------------------------------------------------------------------------------------- coming and going


async def test_it_runs_on_a_loopback_port_of_its_own():
    """The address has the form of the real one, and answers at once."""
    async with Sandbox(calls=5).serve() as base_url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/rest/v1", base_url)
        async with client(base_url) as http:
            answer = await http.get(PATH)
    assert len(answer.json()) == 5
    age = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
    assert abs(age) < 3
    with pytest.raises(httpx.ConnectError):
        httpx.get(base_url + PATH)


def test_it_serves_programs_without_a_loop():
    """`with` does the same."""
    with Sandbox(calls=5).serve() as base_url:
        assert len(httpx.get(base_url + PATH, headers=KNOWN).json()) == 5


async def test_a_connection_is_kept_alive():
    """Many requests, one connection."""
    sandbox = Sandbox(calls=5)
    async with sandbox.serve() as base_url, client(base_url) as http:
        for _ in range(5):
            await http.get(PATH)
        assert (sandbox.stats.connections, sandbox.stats.connections_made) == (1, 1)
    assert sandbox.stats.connections == 0


async def test_a_small_answer_is_not_held_back():
    """Nagle's delay is off, else every answer waits 40 ms for an acknowledgement."""
    sandbox = Sandbox(calls=0)

    async def delay_is_off(request):
        line = request.scope["iovox_sandbox.connection"].transport.get_extra_info("socket")
        return PlainTextResponse(str(line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0))

    sandbox.app.router.routes.append(Route("/", delay_is_off))
    async with sandbox.serve() as base_url, client(base_url) as http:
        assert (await http.get(base_url.removesuffix("/rest/v1"))).text == "True"


async def test_it_can_be_served_again_and_twice_at_once():
    """Each `serve()` is a server of its own; they share the calls and the counters."""
    sandbox = Sandbox(calls=5)
    for _ in range(2):
        async with sandbox.serve() as one, client(one) as http:
            async with sandbox.serve() as two:
                assert one != two
                assert len((await http.get(two + PATH)).json()) == 5
            assert len((await http.get(one + PATH)).json()) == 5
    assert sandbox.stats.answered == 4


async def test_one_serving_is_entered_once():
    """The same object cannot run twice at a time, and can run again."""
    serving = Sandbox(calls=1).serve()
    async with serving:
        with pytest.raises(SessionError, match="already running"):
            serving.__enter__()
    async with serving as base_url:
        assert base_url


async def test_a_taken_port_is_refused():
    """With the address, before any thread starts."""
    async with Sandbox(calls=0).serve() as base_url:
        port = int(base_url.rsplit(":", 1)[1].split("/")[0])
        with pytest.raises(ConfigurationError, match=str(port)):
            async with Sandbox(calls=0).serve(port=port):
                pass
    with pytest.raises(ConfigurationError, match=r"listen on .*Choose another host or port"):
        Sandbox(calls=0).serve(port=70_000).__enter__()


async def test_its_port_can_be_chosen():
    """A free one is found by the system first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with Sandbox(calls=0).serve(port=port) as base_url:
        assert f":{port}/" in base_url


@pytest.mark.parametrize("kind", ["hang", "hang_midway", "drip"])
async def test_it_ends_at_once_whatever_is_going_on(kind):
    """Requests that would last for ever are broken off."""
    sandbox = Sandbox(calls=50, faults=Faults(kinds=kind, fail_after=0, drip_interval=60))
    async with client("http://unused") as http:
        async with sandbox.serve() as base_url:
            requests = [asyncio.create_task(http.get(base_url + PATH)) for _ in range(3)]
            await until(lambda: sandbox.stats.active_requests == 3)
            began = time.monotonic()
        assert time.monotonic() - began < 2
        for outcome in await asyncio.gather(*requests, return_exceptions=True):
            assert isinstance(outcome, httpx.TransportError)
    assert (sandbox.stats.active_requests, sandbox.stats.connections, sandbox.stats.peak_active_requests) == (
        0,
        0,
        3,
    )


async def test_it_ends_while_connections_are_still_being_made():
    """A burst of clients at the last moment leaves no socket behind."""
    for _ in range(5):
        async with Sandbox(calls=0).serve() as base_url:
            port = int(base_url.rsplit(":", 1)[1].split("/")[0])
            sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
        for one in sockets:
            one.close()


async def test_a_body_that_raises_ends_it_too():
    """The error arrives as it was."""
    with pytest.raises(ZeroDivisionError):
        async with Sandbox(calls=0).serve():
            raise ZeroDivisionError


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_cancelling_its_user_leaves_nothing(turns):
    """While it starts, runs or ends."""

    async def use():
        async with Sandbox(calls=0).serve():
            await asyncio.sleep(0)

    task = asyncio.create_task(use())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None


async def test_cancelling_the_end_waits_for_it():
    """Cancelled while the server ends: it has ended, and the cancellation arrives."""
    leave = asyncio.Event()
    sandbox = Sandbox(calls=0)

    async def use():
        async with sandbox.serve() as base_url, client(base_url) as http:
            await http.get(PATH)
            here.set()
            await leave.wait()

    here = asyncio.Event()
    task = asyncio.create_task(use())
    await here.wait()
    leave.set()
    for _ in range(3):
        await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])
    assert task.cancelled()
    assert sandbox.stats.connections == 0


async def test_a_start_that_fails_is_told():
    """By who waits for it, and the thread is gone."""
    sandbox = Sandbox(calls=0)

    async def broken(scope, receive, send):
        raise RuntimeError("no start today")

    sandbox.__dict__["app"] = broken
    with pytest.raises(ConfigurationError, match="could not start"):
        async with sandbox.serve():
            pass
    with pytest.raises(ConfigurationError, match="could not start"), sandbox.serve():
        pass


async def test_it_never_blocks_its_own_loop():
    """SQL, gzip and waiting happen elsewhere; a detector of blocking calls sees none."""
    sandbox = Sandbox(
        calls=2_000,
        faults=Faults(
            gzip=True,
            inserts_per_request=1,
            deletes_per_request=1,
            every_nth=5,
            kinds=("500", "cut", "reset"),
        ),
    )
    async with sandbox.serve() as base_url, client(base_url) as http:
        with blockbuster.blockbuster_ctx():
            tasks = [asyncio.create_task(http.get(PATH)) for _ in range(20)]
            answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(answer, httpx.Response) and answer.status_code == 200 for answer in answers) == 16


# ---------------------------------------------------------------------------------------- the application


async def test_the_application_works_in_process():
    """Under any ASGI server or transport, and with no thread of its own."""
    sandbox = Sandbox(calls=7)
    async with client("http://sandbox/rest/v1", transport=httpx.ASGITransport(sandbox.app)) as http:
        assert len((await http.get(PATH)).json()) == 7
        assert (await http.post(PATH)).status_code == 400
    assert sandbox.stats.answered == 1
    sandbox.close()


async def test_the_application_can_be_extended():
    """By routes, before or while it is served."""
    sandbox = Sandbox(calls=0)

    async def hello(request):
        return PlainTextResponse("hello")

    async with sandbox.serve() as base_url, client(base_url) as http:
        sandbox.app.router.routes.append(Route("/", hello))
        assert (await http.get(base_url.removesuffix("/rest/v1"))).text == "hello"
    assert sandbox.stats.requests == 0


@pytest.mark.parametrize("missing", ["starlette.applications", "uvicorn"])
def test_without_the_extra_the_cure_is_named(missing, monkeypatch):
    """What is not installed, and the line that installs it."""
    sandbox = Sandbox(calls=1)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "iovox_async.sandbox._server", raising=False)
    with pytest.raises(MissingExtraError, match=r"iovox-async\[sandbox\]"):
        sandbox.serve()
    assert len(sandbox.ids()) == 1


# ----------------------------------------------------------------------------------------------- counters


async def test_the_counters_tell_what_was_done():
    """Requests, rows, bytes, OFFSET; one by one in the log."""
    sandbox = Sandbox(calls=100, faults=Faults(fail_at=[3]))
    async with sandbox.serve() as base_url, client(base_url) as http:
        sizes = [len((await http.get(f"{PATH}&limit=40&page={page}")).content) for page in (1, 2, 2, 3, 4)]
        await http.get("/calls/insights?page=x")
    stats = sandbox.stats
    assert (stats.requests, stats.answered, stats.failed, stats.abandoned) == (6, 4, 2, 0)
    assert (stats.rows, stats.offset_rows, stats.peak_active_requests, stats.active_requests) == (
        100,
        40 + 80 + 100,
        1,
        0,
    )
    assert stats.bytes > sum(sizes)
    assert [(each.outcome, each.rows) for each in sandbox.requests] == [
        *(("200", 40), ("200", 40), ("500", 0), ("200", 20), ("200", 0), ("400", 0)),
    ]
    assert sandbox.requests[0].query == PATH.partition("?")[2] + "&limit=40&page=1"
    with pytest.raises(AttributeError):
        stats.rows = 0
    sandbox.reset_stats()
    assert (sandbox.stats.requests, sandbox.stats.rows, sandbox.requests) == (0, 0, ())


async def test_a_reset_in_the_middle_of_a_request_forgets_it():
    """Its end is not counted in a round that it did not begin in."""
    sandbox = Sandbox(calls=5, faults=Faults(kinds="hang", fail_after=0))
    async with sandbox.serve() as base_url, client(base_url) as http:
        hanging = asyncio.create_task(http.get(PATH))
        await until(lambda: sandbox.stats.active_requests)
        sandbox.faults = Faults()
        sandbox.reset_stats()
        assert (
            sandbox.stats.requests,
            sandbox.stats.active_requests,
            sandbox.stats.peak_active_requests,
        ) == (0, 1, 1)
        assert len((await http.get(PATH)).json()) == 5
        hanging.cancel()
        await until(lambda: not sandbox.stats.active_requests)
    stats = sandbox.stats
    assert (stats.requests, stats.answered, stats.abandoned, stats.failed, len(sandbox.requests)) == (
        1,
        1,
        0,
        0,
        1,
    )


async def test_the_peak_is_what_was_asked_at_once():
    """And not what was asked in all."""
    sandbox = Sandbox(calls=10, faults=Faults(latency=0.01))
    async with sandbox.serve() as base_url, client(base_url) as http:
        for _ in range(3):
            await asyncio.gather(*(http.get(PATH) for _ in range(4)))
    assert (sandbox.stats.peak_active_requests, sandbox.stats.requests) == (4, 12)
    assert sandbox.stats.connections_peak <= 4


async def test_a_reader_who_leaves_midway_is_counted():
    """He had the head and a little of a large body; what he did not get is no row."""
    sandbox = Sandbox(calls=15_000)
    query = f"{PATH}&limit=15000&response_fields=id,transcription_phrases"
    async with sandbox.serve() as base_url, client(base_url) as http:
        async with http.stream("GET", query) as answer:
            assert answer.status_code == 200
        await until(lambda: not sandbox.stats.active_requests)
        assert (sandbox.stats.abandoned, sandbox.stats.rows) == (1, 0)
        assert sandbox.stats.bytes < int(answer.headers["content-length"])
