"""The event loop is never blocked: from the first use, with any interpreter option, and on uvloop."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import blockbuster
import pytest
from support.faults import RawServer, answering, http_answer

from iovox_async import IovoxError, SessionError
from iovox_async._runtime import Runtime
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-01-10"
ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("nothing_is_left")


#: A program that reads, meets a closed port and an untrusted server, and cancels at random. It prints the ids, and what was
#: imported while the loop ran.
PROGRAM = """
import asyncio, gc, logging, random, sys
from iovox_async import AsyncInsights, Fields, RetryPolicy, TLSError, TransportError

class Imports:
    # Records what is imported while a loop runs in this thread.
    names = []

    def find_spec(self, name, *_):
        if asyncio._get_running_loop() is not None:
            self.names.append(name)

sys.meta_path.insert(0, Imports())

base_url, tls_url = sys.argv[1:3]
uv, watched, engine = sys.argv[3] == "uvloop", sys.argv[4] == "watched", sys.argv[5]
transports = [None] * 3
if engine == "aiohttp":
    import encodings.idna  # what the standard library loads when aiohttp first resolves a host
    from httpx_aiohttp import AiohttpTransport
    # Before the loop runs, since this one reads the certificates where it is made.
    transports = [AiohttpTransport(trust_env=False) for _ in range(3)]

def session(key, url, **options):
    return AsyncInsights("demo", key, base_url=url, transport=transports.pop(), **{"retry": quick, **options})

quick = RetryPolicy(initial_backoff=0.001, max_backoff=0.01)
if watched:
    from blockbuster import BlockBuster
    BlockBuster().activate()

async def typed(kind, work):
    try:
        await work
    except kind:
        return
    raise SystemExit(f"no {kind}")

async def cancel_many(insights):
    rng = random.Random(3)
    for _ in range(4):
        tasks = [
            asyncio.create_task(
                insights.stream("2024-01-01", "2024-01-10", page_size=60).collect() if number % 2
                else insights.page("2024-01-01", "2024-01-10", page_size=50)
            )
            for number in range(25)
        ]
        for task in tasks:
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() * 0.002)
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

async def main():
    problems = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    # The speed of the machine must not matter.
    loop.slow_callback_duration = 10
    async with session("demo-key", base_url, concurrency=4) as insights:
        async with insights.stream("2024-01-01", "2024-01-10", page_size=60) as calls:
            ids = [call.id async for call in calls]
        everything = [c.id async for c in insights.stream("2024-01-01", "2024-01-10", fields=Fields.ALL)]
        if everything != ids or [call.id for call in await insights.get(ids)] != ids:
            raise SystemExit("not the same calls")
        before = asyncio.all_tasks()
        await cancel_many(insights)
        while insights._connection.supervisor.task_count:
            await asyncio.sleep(0.001)
        if insights._connection.throttle.in_flight or asyncio.all_tasks() - before:
            raise SystemExit("tasks or requests are left")
        if [c.id async for c in insights.stream("2024-01-01", "2024-01-10")] != ids:
            raise SystemExit("not the same calls after the cancellations")
    # The warning of an unreachable server would be printed to stderr.
    logging.getLogger("iovox_async").addHandler(logging.NullHandler())
    async with session("k", "http://127.0.0.1:9", retry=RetryPolicy(total_timeout=0.5)) as insights:
        await typed(TransportError, insights.page())
    async with session("k", tls_url) as insights:
        await typed(TLSError, insights.stream("2024-01-01", "2024-01-10").collect())
    if problems:
        raise SystemExit(f"loop exceptions: {problems}")
    return ids

factory = None
if uv:
    import uvloop
    factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    ids = runner.run(main())
gc.collect()
print(*ids)
print(*Imports.names)
"""

MODES = {
    "watched by blockbuster": ([], {}, "", "watched", "httpx"),
    "-O": (["-O"], {}, "", "", "httpx"),
    "-W error": (["-W", "error"], {}, "", "", "httpx"),
    "PYTHONASYNCIODEBUG": (["-X", "dev"], {"PYTHONASYNCIODEBUG": "1"}, "", "", "httpx"),
    "uvloop": ([], {}, "uvloop", "", "httpx"),
    "aiohttp, watched": ([], {}, "", "watched", "aiohttp"),
    "aiohttp, PYTHONASYNCIODEBUG": (
        ["-X", "dev", "-W", "error"],
        {"PYTHONASYNCIODEBUG": "1"},
        "",
        "",
        "aiohttp",
    ),
    "aiohttp, uvloop": (["-W", "error"], {}, "uvloop", "", "aiohttp"),
}
#: The others are slow tests.
DEFAULT_MODES = {"watched by blockbuster", "-W error", "aiohttp, uvloop"}


@pytest.mark.sweep(3)
@pytest.mark.fault(61)
@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("switches", "environment", "loop", "watched", "engine"),
    [
        pytest.param(*mode, id=name, marks=[] if name in DEFAULT_MODES else pytest.mark.slow)
        for name, mode in MODES.items()
    ],
)
async def test_a_whole_program_runs_the_same_without_warnings(switches, environment, loop, watched, engine):
    """Given interpreter options, when a program reads, cancels and fails, then stderr is empty and nothing is imported in the loop."""
    trustme = pytest.importorskip("trustme")
    if loop:
        pytest.importorskip(loop)
    if engine == "aiohttp":
        pytest.importorskip("httpx_aiohttp")
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    faults = Faults(every_nth=9, kinds=("500", "reset", "cut", "close"), latency=0.001)
    sandbox = Sandbox(calls=300, start=START, end=END, faults=faults)
    async with sandbox.serve() as base_url, RawServer(answering(http_answer()), tls=context) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *switches,
            "-c",
            PROGRAM,
            base_url,
            server.base_url,
            loop,
            watched,
            engine,
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, errors = await process.communicate()
    assert errors.decode() == ""
    assert process.returncode == 0
    ids, imported = out.decode().splitlines()
    assert [int(call_id) for call_id in ids.split()] == sandbox.ids()
    assert imported == ""


async def test_nothing_blocks_the_event_loop(open_session):
    """Given a faulty server, when calls are streamed, paged and followed, then blockbuster finds no blocking call."""
    faults = Faults(every_nth=5, kinds=("500", "cut", "gzip_cut", "garbage"), gzip=True)
    sandbox = Sandbox(calls=400, start=START, end=END, faults=faults)
    async with sandbox.serve() as base_url:
        with blockbuster.blockbuster_ctx("iovox_async", excluded_modules=["iovox_async.sandbox"]):
            async with open_session(base_url) as insights:
                stream = insights.stream(START, END, page_size=70)
                ids = [call.id async for call in stream]
                assert stream.position
                async for page in insights.stream(START, END, page_size=70).pages():
                    assert page.raw
                async with insights.follow(START) as calls:
                    async for _ in calls:
                        break
    assert ids == sandbox.ids()


@pytest.mark.fault(60)
async def test_jumps_of_the_wall_clock_do_not_matter(open_session, monkeypatch):
    """Given a wall clock that jumps, when requests are retried, then all calls are delivered; the runtime uses a monotonic clock."""
    jumps = [0.0]

    def jumping(real=time.time):
        jumps[0] = -(jumps[0] + 7_200)
        return real() + jumps[0]

    monkeypatch.setattr(time, "time", jumping)
    sandbox = Sandbox(calls=100, start=START, end=END, faults=Faults(every_nth=3, kinds=("500", "reset")))
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        assert [call.id async for call in insights.stream(START, END, page_size=30)] == sandbox.ids()
    assert Runtime().clock is time.monotonic


@pytest.mark.fault(50)
async def test_two_concurrent_readers_of_one_stream_are_an_error(open_session):
    """Given one iterator, when tasks step it in turn, then it works; when two step it at once, then one gets a SessionError."""
    sandbox = Sandbox(calls=120, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        async with insights.stream(START, END, page_size=30) as stream:
            iterator = aiter(stream)
            ids = [(await asyncio.create_task(anext(iterator))).id for _ in range(100)]
            assert ids == sandbox.ids()[:100]
        async with insights.stream(START, END, page_size=30) as stream:
            iterator = aiter(stream)
            both = await asyncio.gather(anext(iterator), anext(iterator), return_exceptions=True)
        errors = [result for result in both if isinstance(result, BaseException)]
        assert len(errors) == 1
        assert isinstance(errors[0], SessionError)
        assert "another task is reading" in str(errors[0])


@pytest.mark.subprocess
def test_a_program_cancelled_in_the_middle_of_a_stream_ends():
    """Given a program whose tasks `asyncio.run` cancels, when it ends, then it does not hang and prints nothing to stderr."""
    sandbox = Sandbox(calls=300, start=START, end=END, faults=Faults(latency=0.005))
    program = """
import asyncio, sys
from iovox_async import AsyncInsights

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # how fast this machine is does not matter
    async with AsyncInsights("demo", "demo-key", base_url=sys.argv[1], concurrency=2) as insights:
        async for call in insights.stream("2024-01-01", "2024-01-10", page_size=20):
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

try:
    asyncio.run(main())
except asyncio.CancelledError:
    print("ended")
"""
    with sandbox.serve() as base_url:
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", program, base_url]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("ended\n", "", 0)


@pytest.mark.fault(51)
async def test_closing_a_session_ends_its_streams_with_an_error(open_session):
    """Given a stream being read, when its session is closed, then the reader gets a SessionError."""
    sandbox = Sandbox(calls=400, start=START, end=END)
    async with sandbox.serve() as base_url:
        insights = open_session(base_url, concurrency=1)
        got = []
        with pytest.raises(IovoxError) as caught:
            async for call in insights.stream(START, END, page_size=30):
                got.append(call.id)
                if len(got) == 10:
                    await insights.aclose()
        assert isinstance(caught.value, SessionError)
    assert got == sandbox.ids()[: len(got)]
