"""Encoding and writing data without blocking the event loop."""

import asyncio
import threading

import pytest

from iovox_async.cli.output import run_in_thread


async def test_thread_returns_or_raises():
    """Given a function, when called in a thread, then its result is returned and its error raised."""
    assert await run_in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(divmod, 7, 0)


async def test_cancelled_wait_lets_the_call_finish():
    """Given a call that is about to finish, when the wait is cancelled, then it finishes before the cancellation."""
    started, release, finished = threading.Event(), threading.Event(), []

    def work():
        started.set()
        release.wait(10)
        finished.append(True)

    task = asyncio.create_task(run_in_thread(work))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert finished == [True]


async def test_cancelled_wait_abandons_a_call_that_blocks(monkeypatch):
    """Given a call that blocks, when the wait is cancelled, then it ends after the grace period."""
    monkeypatch.setattr("iovox_async.cli.output.GRACE", 0.01)
    release = threading.Event()
    task = asyncio.create_task(run_in_thread(release.wait, 10))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not release.is_set()
    release.set()
