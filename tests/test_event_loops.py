"""Tests of sessions in event loops of all kinds, and with Python's optimizations."""

import asyncio
import gc
import os
import subprocess
import sys
import warnings

import pytest
from support.faults import engine_options

from iovox_async import AsyncInsights, SessionError
from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-10"

#: A whole program: streams, pages, Arrow, lookups, a view, errors; LOOP runs `main`.
PROGRAM = """
import asyncio, sys
from iovox_async import AsyncInsights, QueryError, RetryPolicy, ServerError
from iovox_async.sandbox import Faults, Sandbox

async def main():
    sandbox = Sandbox(calls=200, start="2024-01-01", end="2024-01-10", faults=Faults(every_nth=4))
    async with sandbox.serve() as url:
        policy = RetryPolicy(initial_backoff=0.001, max_backoff=0.01)
        async with AsyncInsights(sandbox.username, sandbox.key, base_url=url, retry=policy, engine=ENGINE) as insights:
            ids = sandbox.ids()
            stream = insights.stream("2024-01-01", "2024-01-10", page_size=20)
            assert_equal([call.id async for call in stream], ids)
            left = insights.stream("2024-01-01", "2024-01-10", page_size=20)
            async with left as calls:
                async for call in calls:
                    break
            several = [insights.with_options(page_size=size).stream("2024-01-01", "2024-01-10").collect() for size in (30, 50)]
            for calls in await asyncio.gather(*several):
                assert_equal([call.id for call in calls], ids)
            assert_equal([call.id for call in await insights.get(ids[:5])], ids[:5])
            tables = [batch async for batch in insights.stream("2024-01-01", "2024-01-10").arrow()]
            assert_equal(sum(batch.num_rows for batch in tables), 200)
            try:
                insights.stream("2024-02-30")
            except QueryError as error:
                assert_equal(error.parameter, "start_date")
            task = asyncio.create_task(insights.page("2024-01-01", "2024-01-10"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert_equal(len((await insights.page("2024-01-01", "2024-01-10")).calls), 200)

def assert_equal(found, expected):
    if found != expected:
        raise SystemExit(f"{found!r} is not {expected!r}")

"""
LOOPS = {
    "uvloop": "import uvloop; uvloop.run(main())",
    "eager tasks": (
        "loop = asyncio.new_event_loop(); loop.set_task_factory(asyncio.eager_task_factory)\n"
        "loop.run_until_complete(main()); loop.run_until_complete(loop.shutdown_default_executor()); loop.close()"
    ),
    "debug mode": "asyncio.run(main(), debug=True)",
    "nest_asyncio": (
        "import nest_asyncio; nest_asyncio.apply()\n"
        "async def cell():\n    asyncio.get_event_loop().run_until_complete(main())\n"
        "asyncio.run(cell())"
    ),
    "anyio": "import anyio; anyio.run(main)",
}
EAGER = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


def run(program, *options, engine="httpx", **environment):
    """Runs a program in a process of its own; returns its output and exit code."""
    done = subprocess.run(
        [sys.executable, *options, "-c", f"ENGINE = {engine!r}\n{PROGRAM}\n{program}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.stdout, done.stderr, done.returncode


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("kind", "engine"),
    [
        pytest.param(kind, engine, marks=marks)
        for kind in LOOPS
        for engine in ("httpx", "httpx2")
        for marks in [
            [
                *([EAGER] if kind == "eager tasks" else []),
                *(
                    []
                    if (kind, engine) in {("uvloop", "httpx2"), ("eager tasks", "httpx")}
                    else [pytest.mark.slow]
                ),
            ]
        ]
    ],
)
def test_a_program_runs_in_every_kind_of_loop(kind, engine):
    """Given a kind of event loop, when a whole program runs in it, then its results are the same, without a warning."""
    # In debug mode, asyncio prints steps that take long.
    options = ["-W", "error", "-W", "ignore::DeprecationWarning"]
    out, err, code = run(LOOPS[kind], *options, engine=engine)
    assert code == 0, err
    assert out == ""
    if kind != "debug mode":
        assert err == ""
    assert "never awaited" not in err
    assert "never retrieved" not in err


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("engine", ["httpx", pytest.param("httpx2", marks=pytest.mark.slow)])
def test_a_program_runs_without_asserts_and_docstrings(engine):
    """Given PYTHONOPTIMIZE=2, when a whole program and the command's help run, then all is as before."""
    show = "asyncio.run(main())\nfrom iovox_async.cli.app import iovox\niovox(['calls', '--help'], standalone_mode=False)"
    out, err, code = run(show, engine=engine, PYTHONOPTIMIZE="2")
    assert (err, code) == ("", 0)
    assert "--ca-bundle" in out


@pytest.mark.parametrize("call", ["page", "stream", "get", "enter"])
def test_the_first_call_on_trio_is_one_clear_error(call):
    """Given trio, when anything is requested first, then one SessionError of ours says what is needed."""
    trio = pytest.importorskip("trio")

    async def main():
        insights = AsyncInsights("u", "k", base_url="http://127.0.0.1:9", engine="httpx2")
        if call == "page":
            await insights.page(START, END)
        elif call == "get":
            await insights.get(1)
        elif call == "enter":
            await insights.__aenter__()
        else:
            await insights.stream(START, END).collect()

    with pytest.raises(SessionError, match="needs an event loop of asyncio, and this is trio") as caught:
        trio.run(main)
    assert "asyncio" in caught.value.hint


@pytest.mark.parametrize("engine", ["httpx", "httpx2", "aiohttp"])
def test_closing_in_another_loop_says_what_is_wrong(engine):
    """Given a session that was used in one loop, when it is closed in another, then SessionError says where to close it."""
    sandbox = Sandbox(calls=3, start=START, end=END)
    with sandbox.serve() as url, asyncio.Runner() as first, asyncio.Runner() as second:

        async def use():
            insights = AsyncInsights(sandbox.username, sandbox.key, base_url=url, **engine_options(engine))
            await insights.page(START, END)
            return insights

        insights = first.run(use())
        with pytest.raises(SessionError, match="belongs to another event loop") as caught:
            second.run(insights.aclose())
        assert "Close it in its own loop" in caught.value.hint
        first.run(insights.aclose())


@pytest.mark.parametrize("engine", ["httpx", "httpx2"])
async def test_a_session_that_is_dropped_gives_one_warning_with_its_place(engine):
    """Given an open session and a view of it, when both are dropped, then one ResourceWarning names this file and line."""
    sandbox = Sandbox(calls=3, start=START, end=END)
    async with sandbox.serve() as url:
        line = sys._getframe().f_lineno + 1
        insights = AsyncInsights(sandbox.username, sandbox.key, base_url=url, engine=engine)
        view = insights.with_options(timeout=5)
        await view.page(START, END)
        gc.collect()  # the garbage of other tests may warn of something, too
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del insights
            gc.collect()
            assert caught == []
            del view
            gc.collect()
        (warning,) = [one for one in caught if "session was not closed" in str(one.message)]
        assert warning.category is ResourceWarning
        assert f"{__file__}:{line}" in str(warning.message)
        while sandbox.stats.connections:
            await asyncio.sleep(0.002)
