"""Serving a sandbox: start, stop, added routes, and counters."""

import asyncio
import inspect
import re
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import blockbuster
import httpx
import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from support.sandbox import CREDENTIALS, PATH, finish_requests, reset, send_raw
from support.waiting import until
from uvicorn.protocols.http.h11_impl import H11Protocol

from iovox_async.errors import ConfigurationError, MissingExtraError, SessionError
from iovox_async.sandbox import Faults, Sandbox
from iovox_async.sandbox.stats import Request, RequestCounters

pytestmark = pytest.mark.usefixtures("no_threads_left")


def client(base_url, **options):
    return httpx.AsyncClient(verify=False, base_url=base_url, headers=CREDENTIALS, **options)


# ------------------------------------------------------------------------------------------- coming and going


async def test_given_a_sandbox_when_served_then_it_answers_on_a_loopback_port_until_the_end():
    """Given a sandbox, when it is served, then it answers at its base URL, with a Date header, and not afterwards."""
    before = int(time.time())
    async with Sandbox(calls=5).serve() as base_url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/rest/v1", base_url)
        async with client(base_url) as http:
            response = await http.get(PATH)
    assert len(response.json()) == 5
    assert before <= parsedate_to_datetime(response.headers["date"]).timestamp() <= time.time()
    with pytest.raises(httpx.ConnectError):
        httpx.get(base_url + PATH, verify=False)


def test_given_no_event_loop_when_served_with_with_then_it_answers():
    """Given a program without a loop, when it uses `with`, then the sandbox answers."""
    with Sandbox(calls=5).serve() as base_url:
        assert len(httpx.get(base_url + PATH, headers=CREDENTIALS, verify=False).json()) == 5


async def test_given_several_requests_when_sent_then_one_connection_is_used():
    """Given a client that keeps connections, when it sends five requests, then one connection is made."""
    sandbox = Sandbox(calls=5)
    async with sandbox.serve() as base_url, client(base_url) as http:
        for _ in range(5):
            await http.get(PATH)
        assert (sandbox.stats.connections, sandbox.stats.connections_made) == (1, 1)
    assert sandbox.stats.connections == 0


async def test_given_a_connection_when_accepted_then_nagle_is_off():
    """Given a connection, when it is accepted, then TCP_NODELAY is set; otherwise each response takes 40 ms longer."""
    sandbox = Sandbox(calls=0)

    async def delay_is_off(request):
        connection = request.scope["iovox_sandbox.connection"].transport.get_extra_info("socket")
        return PlainTextResponse(str(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0))

    sandbox.app.router.routes.append(Route("/", delay_is_off))
    async with sandbox.serve() as base_url, client(base_url) as http:
        assert (await http.get(base_url.removesuffix("/rest/v1"))).text == "True"


async def test_given_a_sandbox_when_served_twice_then_both_servers_share_its_calls():
    """Given one sandbox, when it is served again or twice at once, then all servers share calls and counters."""
    sandbox = Sandbox(calls=5)
    for _ in range(2):
        async with sandbox.serve() as one, client(one) as http:
            async with sandbox.serve() as two:
                assert one != two
                assert len((await http.get(two + PATH)).json()) == 5
            assert len((await http.get(one + PATH)).json()) == 5
    assert sandbox.stats.answered == 4


async def test_given_a_running_server_when_entered_again_then_it_is_an_error():
    """Given a running server, when it is entered again, then SessionError is raised; after its end it can be."""
    serving = Sandbox(calls=1).serve()
    async with serving:
        with pytest.raises(SessionError, match="already running"):
            serving.__enter__()
    async with serving as base_url:
        assert base_url


async def test_given_a_port_in_use_when_served_then_the_error_names_it():
    """Given a port that is in use or invalid, when it is served, then ConfigurationError names it, with a hint."""
    async with Sandbox(calls=0).serve() as base_url:
        port = int(base_url.rsplit(":", 1)[1].split("/")[0])
        with pytest.raises(ConfigurationError, match=str(port)):
            async with Sandbox(calls=0).serve(port=port):
                pass
    with pytest.raises(ConfigurationError, match=r"listen on .*Choose another host or port"):
        Sandbox(calls=0).serve(port=70_000).__enter__()


async def test_given_a_free_port_when_served_then_it_is_used():
    """Given a free port, when it is passed, then the base URL has it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with Sandbox(calls=0).serve(port=port) as base_url:
        assert f":{port}/" in base_url


@pytest.mark.parametrize("kind", ["hang", "hang_midway", "drip"])
async def test_given_requests_without_end_when_the_server_stops_then_they_are_aborted(kind):
    """Given hanging requests, when the server stops, then they end with a transport error and nothing remains."""
    sandbox = Sandbox(calls=50, faults=Faults(kinds=kind, fail_after=0, drip_interval=60))
    async with client("http://unused") as http, asyncio.timeout(50):
        async with sandbox.serve() as base_url:
            requests = [asyncio.create_task(http.get(base_url + PATH)) for _ in range(3)]
            await until(lambda: sandbox.stats.active_requests == 3)
        for outcome in await asyncio.gather(*requests, return_exceptions=True):
            assert isinstance(outcome, httpx.TransportError)
    stats = sandbox.stats
    assert (stats.active_requests, stats.connections, stats.peak_active_requests) == (0, 0, 3)


async def test_given_new_connections_when_the_server_stops_then_no_socket_leaks():
    """Given connections made at the last moment, when the server stops, then no socket is leaked."""
    for _ in range(5):
        async with Sandbox(calls=0).serve() as base_url:
            port = int(base_url.rsplit(":", 1)[1].split("/")[0])
            sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
        for connection in sockets:
            connection.close()


async def test_given_an_error_in_the_block_when_it_ends_then_the_server_stops():
    """Given an error inside `async with`, when the block ends, then the server stops and the error is raised."""
    with pytest.raises(ZeroDivisionError):
        async with Sandbox(calls=0).serve():
            raise ZeroDivisionError


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_given_a_cancellation_at_any_iteration_when_served_then_no_thread_remains(turns):
    """Given a task that serves, when it is cancelled while it starts, runs or ends, then no thread remains."""

    async def use():
        async with Sandbox(calls=0).serve():
            await asyncio.sleep(0)

    task = asyncio.create_task(use())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None


async def test_given_a_stopping_server_when_cancelled_then_it_stops_first():
    """Given a server that is stopping, when its task is cancelled, then it stops before the cancellation is raised."""
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


async def test_given_an_application_that_fails_to_start_when_served_then_the_error_is_raised():
    """Given a lifespan that raises, when the application is served, then ConfigurationError is raised."""
    sandbox = Sandbox(calls=0)

    async def broken(scope, receive, send):
        raise RuntimeError("no start today")

    sandbox.__dict__["app"] = broken
    with pytest.raises(ConfigurationError, match="could not start"):
        async with sandbox.serve():
            pass
    with pytest.raises(ConfigurationError, match="could not start"), sandbox.serve():
        pass


async def test_given_a_detector_of_blocking_calls_when_requests_are_served_then_it_finds_none():
    """Given blockbuster, when pages are read, compressed and broken off, then no call blocks the event loop."""
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
            responses = await asyncio.gather(*tasks, return_exceptions=True)
    assert (
        sum(isinstance(response, httpx.Response) and response.status_code == 200 for response in responses)
        == 16
    )


# ---------------------------------------------------------------------------------------- the application


async def test_given_a_test_transport_when_the_application_is_used_then_it_answers():
    """Given httpx.ASGITransport, when the application is used, then it answers without a server."""
    sandbox = Sandbox(calls=7)
    async with client("http://sandbox/rest/v1", transport=httpx.ASGITransport(sandbox.app)) as http:
        assert len((await http.get(PATH)).json()) == 7
        assert (await http.post(PATH)).status_code == 400
    assert sandbox.stats.answered == 1
    sandbox.close()


async def test_given_an_added_route_when_requested_then_it_answers():
    """Given a route added while serving, when it is requested, then it answers, and it is not counted."""
    sandbox = Sandbox(calls=0)

    async def hello(request):
        return PlainTextResponse("hello")

    async with sandbox.serve() as base_url, client(base_url) as http:
        sandbox.app.router.routes.append(Route("/", hello))
        assert (await http.get(base_url.removesuffix("/rest/v1"))).text == "hello"
    assert sandbox.stats.requests == 0


@pytest.mark.parametrize("missing", ["starlette.applications", "uvicorn"])
def test_given_a_missing_package_when_served_then_the_error_names_the_extra(missing, monkeypatch):
    """Given starlette or uvicorn is missing, when served, then MissingExtraError names the extra; `ids` works."""
    sandbox = Sandbox(calls=1)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "iovox_async.sandbox._server", raising=False)
    with pytest.raises(MissingExtraError, match=r"iovox-async\[sandbox\]"):
        sandbox.serve()
    assert len(sandbox.ids()) == 1


# ----------------------------------------------------------------------------------------------- counters


async def test_given_requests_when_finished_then_counters_and_request_list_are_right():
    """Given successful and failing requests, when they have finished, then counters and `requests` are right."""
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
    assert [(request.outcome, request.rows) for request in sandbox.requests] == [
        *(("200", 40), ("200", 40), ("500", 0), ("200", 20), ("200", 0), ("400", 0)),
    ]
    assert sandbox.requests[0].query == PATH.partition("?")[2] + "&limit=40&page=1"
    with pytest.raises(AttributeError):
        stats.rows = 0
    sandbox.reset_stats()
    assert (sandbox.stats.requests, sandbox.stats.rows, sandbox.requests) == (0, 0, ())


async def test_given_a_request_in_progress_when_counters_are_reset_then_its_end_is_not_counted():
    """Given a hanging request, when the counters are reset, then its end is not counted."""
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


def test_given_a_request_that_is_not_read_yet_when_a_shared_sandbox_is_reset_then_it_is_not_counted_later():
    """Given a server that is busy, and a client that has left, when a test resets its sandbox, then the request does not count."""
    sandbox = Sandbox(calls=5)
    counters = sandbox._state.counters
    with sandbox.serve() as base_url, ThreadPoolExecutor(1) as threads:
        with counters._lock:  # the server waits for it when it accepts a connection
            send_raw(base_url).close()
            done = threads.submit(reset, sandbox, base_url)
            assert sandbox.stats.connections_made == 0
        done.result()
        finish_requests(sandbox, base_url)
        assert sandbox.stats.requests == 0


def test_given_a_request_that_ends_when_the_counters_are_read_meanwhile_then_they_are_consistent():
    """Given a request that ends, when another thread reads the counters at any moment, then it is active or counted."""
    states = []

    class Recording(RequestCounters):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name == "_stats":
                states.append(value)

    counters = Recording()
    number, generation = counters.start_request()
    counters.finish_request(Request(number, "", "200", 3), generation, answered=1, rows=3)
    assert [state.active_requests + state.answered for state in states] == [0, 1, 1]


async def test_given_requests_in_groups_of_four_when_finished_then_the_peak_is_four():
    """Given three groups of four requests, when finished, then the peak is four."""
    sandbox = Sandbox(calls=10, faults=Faults(kinds="hang", fail_after=0))
    async with sandbox.serve() as base_url, client(base_url) as http:
        for _ in range(3):
            requests = [asyncio.create_task(http.get(PATH)) for _ in range(4)]
            await until(lambda: sandbox.stats.active_requests == 4)
            for request in requests:
                request.cancel()
            await until(lambda: not sandbox.stats.active_requests)
    assert (sandbox.stats.peak_active_requests, sandbox.stats.requests) == (4, 12)


async def test_given_a_large_response_when_the_client_disconnects_within_it_then_it_is_abandoned():
    """Given a large body, when the client disconnects within it, then the request counts as abandoned, without rows."""
    sandbox = Sandbox(calls=0)
    # More than the network buffers.
    sandbox.add([{"comments": [{"text": "x" * 20_000_000}]}])
    async with sandbox.serve() as base_url, client(base_url) as http:
        async with http.stream("GET", f"{PATH}&response_fields=comment_text") as response:
            assert response.status_code == 200
        await until(lambda: not sandbox.stats.active_requests)
        assert (sandbox.stats.abandoned, sandbox.stats.rows) == (1, 0)
        assert sandbox.stats.bytes < int(response.headers["content-length"])


def test_given_the_installed_uvicorn_when_its_internals_are_looked_up_then_those_in_use_exist():
    """Given attributes of uvicorn that are not public, when looked up, then they exist; checked with uvicorn 0.54.0.

    If this fails after an update of uvicorn, check `iovox_async/sandbox/_server.py`.
    """
    server = uvicorn.Server(uvicorn.Config(app=lambda: None, log_config=None))
    for name in ("_serve", "main_loop", "on_tick", "shutdown", "server_state", "started", "should_exit"):
        assert hasattr(server, name), name
    assert isinstance(server.server_state.connections, set)
    assert isinstance(server.server_state.tasks, set)
    source = inspect.getsource(uvicorn.Server)
    for name in ("self.servers", "self.lifespan"):
        assert name in source, name
    protocol = inspect.getsource(H11Protocol)
    for name in ("self.app", "self.transport", "self.flow", "self.timeout_keep_alive"):
        assert name in protocol, name
