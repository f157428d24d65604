"""Lets one step of the work on pages run in each pass of an event loop, the most urgent first.

Each step is short, but many responses may have data at once. Without turns, the loop would run a step of each of them before it
comes to the rest of the program, and all their pages would be in memory before the first is complete. So the response that a
reader waits for comes first, then the oldest, and none before the calls that a reader can have already; what has to wait is in
the buffers of the network.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

#: What comes first. Of responses that no reader waits for, the one that began first: its number is added.
REQUESTING: Final = 0
DECODING: Final = 1
RECEIVING: Final = 2


class _Turns(msgspec.Struct):
    """The turns in one event loop."""

    taken: bool = False
    #: The steps that wait: priority, number and future.
    waiting: list[tuple[int, int, asyncio.Future[None]]] = msgspec.field(default_factory=list)
    numbers: count[int] = msgspec.field(default_factory=count)

    def end(self) -> None:
        """Ends a turn, and gives it to the most urgent step."""
        while self.waiting:
            *_, waiter = heappop(self.waiting)
            if not waiter.done():
                waiter.set_result(None)
                return
        self.taken = False


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


async def take_turn(priority: int) -> None:
    """Waits, before a step that takes up to a millisecond or two, for a pass of the loop in which no other such step runs."""
    loop = asyncio.get_running_loop()
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = _Turns()
    if turns.taken:
        waiter = loop.create_future()
        heappush(turns.waiting, (priority, next(turns.numbers), waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                turns.end()
            raise
    turns.taken = True
    loop.call_soon(turns.end)
