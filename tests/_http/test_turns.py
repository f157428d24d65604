"""Turns: one step of the work on pages in each pass of the event loop."""

from __future__ import annotations

import asyncio

import pytest

from iovox_async._http.turns import DECODING, RECEIVING, REQUESTING, take_turn


class Passes:
    """Counts the passes of the running loop, and notes in which one each step ran."""

    def __init__(self) -> None:
        self.number = 0
        self.steps: list[tuple[int, str]] = []
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._count)

    def _count(self) -> None:
        self.number += 1
        self._handle = self._loop.call_soon(self._count)

    def stop(self) -> None:
        self._handle.cancel()

    async def step(self, name: str, priority: int, times: int = 1) -> None:
        for _ in range(times):
            await take_turn(priority)
            self.steps.append((self.number, name))


async def test_one_step_runs_in_a_pass_the_most_urgent_first():
    """Given steps that wait at once, then each runs in a pass of its own: requests, calls, then the oldest response."""
    passes = Passes()
    names = {
        "first": REQUESTING, "newer": RECEIVING + 8, "older": RECEIVING + 7, "calls": DECODING, "request": REQUESTING
    }  # fmt: skip
    await asyncio.gather(*(passes.step(name, priority) for name, priority in names.items()))
    passes.stop()
    assert [name for _, name in passes.steps] == ["first", "request", "calls", "older", "newer"]
    numbers = [number for number, _ in passes.steps]
    assert len(set(numbers)) == 5


async def test_a_response_is_received_before_newer_ones():
    """Given three responses with several blocks each, when they take turns, then each is complete before the next begins."""
    passes = Passes()
    await asyncio.gather(*(passes.step(str(number), RECEIVING + number, 3) for number in (2, 1, 3)))
    passes.stop()
    # The one that came while no other waited begins at once.
    assert [name for _, name in passes.steps] == ["2", "1", "1", "1", "2", "2", "3", "3", "3"]


@pytest.mark.parametrize("cancelled", [0, 1], ids=["as its turn comes", "while it waits"])
async def test_a_cancelled_step_gives_its_turn_away(cancelled: int):
    """Given a step that is cancelled, then the other steps run, and later ones too."""
    passes = Passes()
    tasks = [asyncio.create_task(passes.step(str(number), RECEIVING + number)) for number in range(3)]
    await take_turn(REQUESTING)
    # Now all of them wait, and the first has been given the next turn.
    await asyncio.sleep(0)
    tasks[cancelled].cancel()
    await asyncio.wait(tasks)
    await passes.step("later", RECEIVING)
    passes.stop()
    others = [str(number) for number in range(3) if number != cancelled]
    assert [name for _, name in passes.steps] == [*others, "later"]
    assert tasks[cancelled].cancelled()
