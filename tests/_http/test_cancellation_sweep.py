"""Sweep: a cancellation at each await of a request or stream."""

import asyncio

import anyio
import pytest
from support.faults import every_engine_slow, struck
from support.sessions import open_tasks, requests_in_flight, requests_waiting

from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-10"


pytestmark = pytest.mark.usefixtures("nothing_is_left")


async def settle(insights):
    """Waits until all tasks of the client have ended."""
    while open_tasks(insights):
        await asyncio.sleep(0.0005)


WORK = {
    "page": lambda insights: insights.page(START, END),
    "get": lambda insights: insights.get(range(1, 400)),
    "collect": lambda insights: insights.stream(START, END, page_size=60).collect(),
    "pages": lambda insights: _last(insights.stream(START, END, page_size=60).pages()),
    "columns": lambda insights: _last(insights.stream(START, END, page_size=60).arrow()),
    "in a block": lambda insights: _block(insights.stream(START, END, page_size=60)),
}


async def _last(pages):
    async for _ in pages:
        pass


async def _block(stream):
    async with stream as calls:
        async for _ in calls:
            pass


@pytest.mark.sweep(2)
@pytest.mark.fault(45)
@every_engine_slow
@pytest.mark.parametrize(
    "way",
    [
        "thrown in its place",
        pytest.param("thrown as it resumes", marks=pytest.mark.slow),
        "task.cancel",
        "anyio scope",
    ],
)
@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
async def test_cancellation_at_any_await_leaves_the_client_usable(work, way, open_session):
    """Given a cancellation at await 1, 2, 3, ..., when work is repeated, then nothing is swallowed, and no task, slot or connection leaks."""
    sandbox = Sandbox(calls=150, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=2) as insights:
        before = asyncio.all_tasks()
        turn = 0
        while True:
            turn += 1
            scope = None

            async def run(turn=turn):
                nonlocal scope
                if way == "task.cancel":
                    task = asyncio.current_task()
                    return await struck(work(insights), turn, lambda: task.cancel() and None)
                if way == "anyio scope":
                    with anyio.CancelScope() as scope:
                        await struck(work(insights), turn, scope.cancel)
                    if scope.cancelled_caught:
                        raise asyncio.CancelledError
                    return turn - 1
                late = way == "thrown as it resumes"
                return await struck(work(insights), turn, asyncio.CancelledError, late=late)

            task = asyncio.create_task(run())
            await asyncio.wait([task])
            if not task.cancelled():
                assert task.result() < turn
                break
            await settle(insights)
            assert requests_in_flight(insights) == 0
            assert requests_waiting(insights) == 0
        assert turn > 1
        assert asyncio.all_tasks() <= before
        assert [call.id async for call in insights.stream(START, END)] == sandbox.ids()
        while sandbox.stats.connections > 2:
            await asyncio.sleep(0.002)
