"""Waits for conditions, so that tests do not depend on the speed of the machine."""

import asyncio
import threading
import time


async def until(condition):
    """Lets the event loop run until a condition holds, and returns its value; fails only if it never does."""
    async with asyncio.timeout(60):
        while not (value := condition()):
            await asyncio.sleep(0.001)
    return value


def until_sync(condition):
    """Waits in a program without an event loop until `condition()` is true."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.002)


def start_meanwhile(function, *args):
    """Calls a function in another thread, and lets it end unless it waits for a lock of this one; returns the thread."""
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join(0.2)
    return thread


async def until_idle(sandbox):
    """Lets the event loop run until no request is active and no new one arrives; returns the number of requests."""
    before, unchanged = None, 0
    async with asyncio.timeout(60):
        while unchanged < 3:
            now = (sandbox.stats.requests, len(sandbox.inserted_ids))
            unchanged = unchanged + 1 if now == before and not sandbox.stats.active_requests else 0
            before = now
            await asyncio.sleep(0.05)
    return before[0]
