"""Helpers of the web tests: waiting, and parsing of streamed responses."""

import asyncio
import json
import time

#: The range of a sandbox's calls by default.
START, END = "2024-01-01", "2024-03-31"


async def wait_until(condition, seconds=30):
    """Waits until `condition()` is true and returns its value; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not (value := condition()):
            await asyncio.sleep(0.005)
    return value


def wait_until_sync(condition, seconds=30):
    """Waits in a program without an event loop until `condition()` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.002)


async def wait_until_idle(sandbox):
    """Waits until no request is active and no new one arrives; returns the number of requests."""
    before, unchanged = None, 0
    async with asyncio.timeout(60):
        while unchanged < 3:
            now = (sandbox.stats.requests, len(sandbox.inserted_ids))
            unchanged = unchanged + 1 if now == before and not sandbox.stats.active_requests else 0
            before = now
            await asyncio.sleep(0.05)
    return before[0]


def parse_lines(text):
    """The JSON documents of an NDJSON response."""
    return [json.loads(line) for line in text.splitlines()]


def parse_events(text):
    """The server-sent events of a response, without comments."""
    return [
        dict(line.split(": ", 1) for line in block.splitlines())
        for block in text.split("\n\n")
        if block and not block.startswith(":")
    ]
