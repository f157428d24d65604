"""The loop runs what is ready in the order that the seed decides, on a clock that waits for nobody."""

import asyncio
import random

import anyio
import anyio.to_thread
import pytest

from .loop import Deadlock, Runaway, SimulationLoop


def run_in(loop, main):
    """Runs a coroutine function in a loop, and closes the loop."""
    try:
        return loop.run_until_complete(main())
    finally:
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False
        loop.close()


async def order_of(number):
    """In which order so many tasks run."""
    order = []

    async def one(name):
        order.append(name)

    async with asyncio.TaskGroup() as group:
        for name in range(number):
            group.create_task(one(name))
    return order


def test_given_no_shuffling_when_tasks_are_ready_then_they_run_first_in_first_out():
    loop = SimulationLoop(random.Random(1))
    assert run_in(loop, lambda: order_of(6)) == list(range(6))


def test_given_a_seed_when_tasks_are_shuffled_then_the_order_is_another_one_and_always_the_same():
    orders = [
        run_in(SimulationLoop(random.Random(3), shuffle=1.0), lambda: order_of(6)),
        run_in(SimulationLoop(random.Random(3), shuffle=1.0), lambda: order_of(6)),
    ]
    assert orders[0] == orders[1] != list(range(6))


def test_given_a_deviation_when_its_step_comes_then_the_named_callback_runs():
    loop = SimulationLoop(random.Random(1), deviations={1: 2})
    assert run_in(loop, lambda: order_of(4)) == [2, 0, 1, 3]


def test_given_a_long_sleep_when_nothing_else_is_ready_then_the_clock_jumps():
    loop = SimulationLoop(random.Random(1))

    async def main():
        begin = loop.time()
        await asyncio.sleep(86_400)
        return loop.time() - begin

    assert run_in(loop, main) == 86_400


def test_given_a_deadline_when_it_passes_then_the_virtual_clock_counts():
    loop = SimulationLoop(random.Random(1))

    async def main():
        with anyio.move_on_after(10) as scope:
            await asyncio.Event().wait()
        return scope.cancelled_caught

    assert run_in(loop, main)


def test_given_nothing_that_can_go_on_when_the_program_waits_then_that_is_a_deadlock():
    loop = SimulationLoop(random.Random(1))
    with pytest.raises(Deadlock):
        run_in(loop, lambda: asyncio.Event().wait())


def test_given_a_program_without_end_when_it_has_taken_its_steps_then_it_is_stopped():
    loop = SimulationLoop(random.Random(1), max_steps=100)

    async def main():
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Runaway):
        run_in(loop, main)


def test_given_a_cancelled_caller_when_its_thread_has_begun_then_the_work_is_done_all_the_same(noise):
    loop = SimulationLoop(random.Random(1))
    done = []

    async def main():
        task = loop.create_task(anyio.to_thread.run_sync(done.append, 1))
        while not task._fut_waiter:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await asyncio.sleep(1)

    run_in(loop, main)
    assert done == [1]
