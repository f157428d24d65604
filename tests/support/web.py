"""What the tests of the web frameworks share: waiting for what is told, and reading what was sent.

The law of this room: it knows no framework.
"""

import asyncio
import json

#: The range of a sandbox that is not told another.
START, END = "2024-01-01", "2024-03-31"


async def until(condition, seconds=5):
    """Waits until it holds, and gives what it gave; fails after so many seconds."""
    async with asyncio.timeout(seconds):
        while not (found := condition()):
            await asyncio.sleep(0.005)
    return found


async def at_rest(sandbox):
    """The requests made so far, once no more are made."""
    seen = -1
    while seen != sandbox.stats.requests or sandbox.stats.active_requests:
        seen = sandbox.stats.requests
        await asyncio.sleep(0.08)
    return seen


def lines(text):
    """The documents of an answer, one a line."""
    return [json.loads(line) for line in text.splitlines()]


def sent(text):
    """The server-sent events of an answer, without its pauses."""
    return [
        dict(line.split(": ", 1) for line in block.splitlines())
        for block in text.split("\n\n")
        if block and not block.startswith(":")
    ]
