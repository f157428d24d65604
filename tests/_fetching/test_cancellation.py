"""Cancellation at any moment and by any means: nothing leaks, and the session works on."""

import asyncio
import random

import anyio
import pytest
from support.faults import every_engine
from support.sessions import requests_in_flight, requests_waiting
from support.waiting import until

from iovox_async import RequestTimeout, RetryPolicy
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-01-10"


def sockets():
    """The open connections of this loop. The sandbox has a loop of its own."""
    return sum(not transport.is_closing() for transport in asyncio.get_running_loop()._transports.values())


@pytest.mark.sweep(2)
@pytest.mark.fault(45, 52)
@every_engine
@pytest.mark.timeout(600)
@pytest.mark.parametrize("waves", [10, pytest.param(100, marks=pytest.mark.slow)])
async def test_thousands_of_cancelled_reads_leave_the_session_working(waves, open_session):
    """Given pages and streams cancelled at random moments, when all have ended, then no slot, task or socket is lost."""
    rng = random.Random(4)
    sandbox = Sandbox(calls=400, start=START, end=END, faults=Faults(latency=0.004))
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=8) as insights:
        before = asyncio.all_tasks()

        async def pull(number):
            if number % 2:
                await insights.page(START, END, page_size=50)
            else:
                await insights.stream(START, END, page_size=60).collect()

        cancelled = peak_sockets = 0
        for wave in range(waves):
            tasks = [asyncio.create_task(pull(number)) for number in range(50)]
            rng.shuffle(tasks)
            for task in tasks:
                if not task.done() and rng.random() < 0.3:
                    await asyncio.sleep(rng.random() * 0.0015)
                    peak_sockets = max(peak_sockets, sockets())
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled += sum(isinstance(result, asyncio.CancelledError) for result in results)
            assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results), (
                wave
            )
        assert cancelled >= 40 * waves
        await until(lambda: asyncio.all_tasks() <= before and not sandbox.stats.active_requests)
        assert requests_in_flight(insights) == 0
        assert requests_waiting(insights) == 0
        stats = sandbox.stats
        assert stats.connections <= 8
        assert 0 < peak_sockets <= 8
        unfinished = stats.requests - stats.answered
        assert unfinished > 0  # the scheduler decides how many
        assert stats.abandoned >= 0.9 * unfinished
        assert await insights.stream(START, END).collect()
        sandbox.reset_stats()
        sandbox.faults = Faults(latency=0.5)
        await asyncio.gather(*(insights.page(START, END, page_size=50) for _ in range(16)))
        assert sandbox.stats.peak_active_requests == 8


@pytest.mark.sweep(4)
@every_engine
@pytest.mark.parametrize("way", ["task.cancel", "asyncio.timeout", "anyio scope"])
@pytest.mark.parametrize("fault", ["hang", "hang_midway", "drip"])
async def test_cancelling_a_hanging_request_frees_its_slot(way, fault, open_session):
    """Given a server that hangs, when the request is cancelled in any way, then its slot is free and the server is disconnected."""
    faults = Faults(fail_first=4, kinds=fault, drip_interval=0.01)
    sandbox = Sandbox(calls=100, start=START, end=END, faults=faults)
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=2) as insights:
        for number in range(1, 5):
            cancel_when_received = asyncio.create_task(
                until(lambda expected=number: sandbox.stats.requests == expected)
            )
            if way == "task.cancel":
                task = asyncio.create_task(insights.page(START, END))
                cancel_when_received.add_done_callback(lambda _, task=task: task.cancel())
                with pytest.raises(asyncio.CancelledError):
                    await task
            elif way == "asyncio.timeout":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(None) as timeout:
                        cancel_when_received.add_done_callback(
                            lambda _, timeout=timeout: timeout.reschedule(0)
                        )
                        await insights.page(START, END)
            else:
                with anyio.CancelScope() as scope:
                    cancel_when_received.add_done_callback(lambda _, scope=scope: scope.cancel())
                    await insights.page(START, END)
                assert scope.cancelled_caught
        await until(lambda: not sandbox.stats.active_requests)
        assert sandbox.stats.abandoned == 4
        assert len((await insights.page(START, END)).calls) == 100
        assert requests_in_flight(insights) == 0


@pytest.mark.fault(45)
@every_engine
async def test_cancelling_at_every_turn_of_the_loop_leaves_the_session_working(open_session):
    """Given a stream, when it is cancelled at its first, second, third ... turn of the loop, then the session works on."""
    sandbox = Sandbox(calls=300, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=3) as insights:
        before = asyncio.all_tasks()
        turns = 0
        while True:
            task = asyncio.create_task(insights.stream(START, END, page_size=80).collect())
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                assert len(task.result()) == 300
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            turns += 1 + turns // 25
        await until(lambda: asyncio.all_tasks() <= before)
        assert requests_in_flight(insights) == 0
        assert turns > 20


@every_engine
async def test_a_cancelled_wait_for_a_slot_loses_no_slot(open_session):
    """Given requests that wait for a slot, when they are cancelled, then those behind them get it."""
    sandbox = Sandbox(calls=50, start=START, end=END, faults=Faults(latency=0.02))
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=1) as insights:
        tasks = [asyncio.create_task(insights.page(START, END)) for _ in range(6)]
        await until(lambda: sandbox.stats.active_requests)
        for task in tasks[1:5]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in done] == [
            False,
            True,
            True,
            True,
            True,
            False,
        ]
        assert sandbox.stats.peak_active_requests == 1
        assert requests_in_flight(insights) == 0


@pytest.mark.fault(11)
@every_engine
async def test_the_timeout_covers_the_whole_attempt(open_session):
    """Given a server that sends a byte now and then, when the timeout is over, then the attempt ends."""
    sandbox = Sandbox(
        calls=100, start=START, end=END, faults=Faults(fail_after=0, kinds="drip", drip_interval=0.01)
    )
    async with sandbox.serve() as base_url:
        async with open_session(base_url, timeout=0.08, retry=RetryPolicy(max_attempts=2)) as insights:
            with pytest.raises(RequestTimeout, match="after 2 attempts"):
                await insights.page(START, END)
