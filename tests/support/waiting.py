"""Waits for conditions, so that tests do not depend on the speed of the machine."""

import asyncio


async def until(condition):
    """Lets the event loop run until a condition holds, and returns its value; fails only if it never does."""
    async with asyncio.timeout(60):
        while not (value := condition()):
            await asyncio.sleep(0.001)
    return value
