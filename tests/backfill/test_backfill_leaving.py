"""A backfill that is cancelled, or whose `on_progress` fails, leaves its directory unlocked and complete."""

import asyncio
import contextlib
import json
import logging

import pytest
from support.backfill import ids_in

from iovox_async import ServerError
from iovox_async.sandbox import Faults


def cancel_after(steps, *tasks):
    """Cancels tasks natively after so many steps of the event loop."""
    if steps:
        asyncio.get_running_loop().call_soon(cancel_after, steps - 1, *tasks)
    else:
        for task in tasks:
            task.cancel()


class CancelledAt:
    """Awaits a coroutine, and cancels its task natively at one of its suspensions, counted from 0."""

    def __init__(self, coroutine, suspension):
        self.coroutine, self.suspension, self.count = coroutine, suspension, 0

    def __await__(self):
        steps = self.coroutine.__await__()
        send, value = steps.send, None
        while True:
            try:
                future = send(value)
            except StopIteration as end:
                return end.value
            if self.count == self.suspension:
                asyncio.current_task().cancel()
            self.count += 1
            try:
                send, value = steps.send, (yield future)
            except BaseException as error:  # noqa: BLE001 - passed on to the coroutine
                send, value = steps.throw, error


async def cancel_everywhere(make_run, check):
    """Runs once for each suspension of an undisturbed run, cancels it there, and calls `check` afterwards."""
    for suspension in range(1_000):
        run = CancelledAt(make_run(), suspension)

        async def awaited():
            return await run

        (task,), _ = await asyncio.wait([asyncio.create_task(awaited())])
        await check()
        if run.count <= suspension:
            return suspension
        assert task.cancelled() or task.exception() is not None
    raise AssertionError("the run never ended")


@pytest.mark.finding("S2")
class TestCancellation:
    async def test_a_run_cancelled_at_any_await_releases_the_lock(self, job, sandbox, tmp_path):
        """Given a run, when it is cancelled natively at any await, also while it closes, then the next run completes it."""
        numbers = iter(range(1_000))

        def start():
            self.directory = tmp_path / str(next(numbers))
            return job(directory=self.directory).run()

        async def check():
            await job(directory=self.directory).run()
            assert ids_in(self.directory) == sandbox.ids()

        assert await cancel_everywhere(start, check) > 5

    async def test_a_verify_cancelled_at_any_await_releases_the_lock(self, job):
        """Given a finished backfill, when verify is cancelled natively at any await, then the next one runs."""
        await job().run()

        async def check():
            assert (await job().verify()).mismatched_partitions == ()

        assert await cancel_everywhere(lambda: job().verify(), check) > 5

    async def test_a_failed_run_cancelled_at_any_await_releases_the_lock(self, job, sandbox):
        """Given a run that fails for good, when it is cancelled at any await, also while it closes, then the next one starts."""

        def start():
            sandbox.faults = Faults(fail_after=0)
            return job().run()

        async def check():
            with pytest.raises(ServerError):
                await job().run()

        assert await cancel_everywhere(start, check) > 5

    @pytest.mark.parametrize("steps", [0, 1, 2, 5, 20])
    async def test_the_end_of_an_event_loop_leaves_no_writer(self, steps, job, sandbox, out):
        """Given a run at work, when all tasks are cancelled natively, as at the end of a loop, then the next run completes it."""
        test = asyncio.current_task()

        def leave(progress):
            if progress.partitions == 3:
                cancel_after(steps, *(asyncio.all_tasks() - {test}))

        task = asyncio.create_task(job(on_progress=leave).run())
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
        await job().run()
        assert ids_in(out) == sandbox.ids()
        assert not list(out.rglob("*.tmp"))


@pytest.mark.finding("D8")
class TestOnProgress:
    @pytest.mark.parametrize(
        "fails", [lambda _: True, lambda progress: progress.progress == 1.0, lambda progress: progress.calls]
    )
    async def test_its_exceptions_are_logged_once_and_change_nothing(self, fails, job, sandbox, out, caplog):
        """Given an on_progress that raises, when a backfill runs, then all is written, with the report."""

        def on_progress(progress):
            if fails(progress):
                raise RuntimeError("a dashboard is down")

        with caplog.at_level(logging.ERROR, "iovox_async"):
            report = await job(on_progress=on_progress).run()
        assert ids_in(out) == sandbox.ids()
        assert json.loads((out / "_iovox/report.json").read_text()) == report.to_dict()
        assert ["on_progress failed" in record.message for record in caplog.records] == [True]

    async def test_it_does_not_hide_the_error_of_a_run(self, job, sandbox):
        """Given an on_progress that raises, when a request fails for good, then the run raises that error."""
        sandbox.faults = Faults(fail_after=1)
        with pytest.raises(ServerError):
            await job(on_progress=lambda _: 1 / 0).run()
