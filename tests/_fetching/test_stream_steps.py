"""Single steps of every iterator: cancelled, closed from outside, two at once, and the end of the task that reads."""

import asyncio
import gc
import weakref

import anyio
import httpx
import pytest
from support.sessions import open_tasks, requests_in_flight
from support.waiting import until

from iovox_async import ServerError, SessionError
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-01-20"
CALLS = 500
READERS = ["records", "pages", "arrow", "follow"]


def new_sandbox():
    return Sandbox(calls=CALLS, start=START, end=END)


shared_sandbox = pytest.fixture(scope="module")(new_sandbox)


@pytest.fixture
def sandbox(shared_sandbox):
    """The calls, shared by all tests, which must not change them; each test serves them anew."""
    shared_sandbox.faults = Faults()
    shared_sandbox.reset_stats()
    return shared_sandbox


class Reader:
    """One reader of all calls: its handle, its iterator, and the ids of what a step returns."""

    def __init__(self, insights, kind):
        self.kind = kind
        if kind == "follow":
            self.handle = insights.follow(START, lookback=60, fields=["id", "call_start"])
        else:
            self.handle = insights.stream(START, END, page_size=40)
        self.iterator = aiter(self.handle) if kind in {"records", "follow"} else getattr(self.handle, kind)()

    async def step(self):
        """The ids of the next item; an empty list at the end."""
        try:
            item = await anext(self.iterator)
        except StopAsyncIteration:
            return []
        return self.ids_of(item)

    def ids_of(self, item):
        if self.kind == "pages":
            return [call.id for call in item.calls]
        return item.column("id").to_pylist() if self.kind == "arrow" else [item.id]


async def cancel_task(reader):
    task = asyncio.create_task(reader.step())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    return (await asyncio.gather(task, return_exceptions=True))[0]


async def cancel_anext_itself(reader):
    async def anext_of_iterator():
        return reader.ids_of(await anext(reader.iterator))

    task = asyncio.ensure_future(anext_of_iterator())
    await asyncio.sleep(0)
    task.cancel()
    return (await asyncio.gather(task, return_exceptions=True))[0]


async def wait_for(reader):
    try:
        return reader.ids_of(await asyncio.wait_for(anext(reader.iterator), 0.001))
    except TimeoutError as error:
        return error


async def timeout(reader):
    try:
        async with asyncio.timeout(0):
            return await reader.step()
    except TimeoutError as error:
        return error


async def anyio_scope(reader):
    with anyio.move_on_after(0.001):
        return await reader.step()
    return TimeoutError()


WAYS = [cancel_task, cancel_anext_itself, wait_for, timeout, anyio_scope]


@pytest.mark.sweep(4)
@pytest.mark.finding("A10")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("kind", READERS)
async def test_a_cancelled_step_loses_nothing(sandbox, open_session, kind, way):
    """Given steps that are cancelled, when the next steps are awaited, then all calls come, each once and in order."""
    sandbox.faults = Faults(latency=0.02)
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        reader = Reader(insights, kind)
        ids, cancelled = [], 0
        while len(ids) < CALLS:
            result = await way(reader)
            if isinstance(result, BaseException):
                cancelled += 1
                assert isinstance(result, asyncio.CancelledError | TimeoutError), result
                result = await reader.step() if cancelled > 30 else []
            ids += result
        assert ids == sandbox.ids()
        assert cancelled
        if kind != "follow":
            assert await reader.step() == []
            assert await reader.step() == []
        await reader.handle.aclose()
        await until(lambda: not open_tasks(insights))


@pytest.mark.parametrize("kind", ["pages", "arrow"])
async def test_steps_that_are_all_cancelled_get_on(sandbox, open_session, kind):
    """Given steps of which each is cancelled long before a thread can finish its work, when they go on, then all calls come."""
    async with open_session(transport=httpx.MockTransport(sandbox.respond)) as insights:
        reader = Reader(insights, kind)
        ids, result = [], None
        while result != []:
            result = await cancel_task(reader)
            if isinstance(result, list):
                ids += result
            else:
                assert isinstance(result, asyncio.CancelledError)
                result = None
                await asyncio.sleep(0.001)
        assert ids == sandbox.ids()


@pytest.mark.finding("A10")
async def test_a_cancelled_pause_of_follow_goes_on(open_session):
    """Given a step that is cancelled in the pause between polls, when the next one waits, then only for the rest of the pause."""
    pauses, waiting = [], asyncio.Event()

    async def sleep(seconds):
        pauses.append(seconds)
        waiting.set()
        if len(pauses) < 3:
            await asyncio.Event().wait()

    sandbox = new_sandbox()
    async with sandbox.serve() as base_url, open_session(base_url, sleep=sleep) as insights:
        reader = Reader(insights, "follow")
        for _ in range(CALLS):
            await reader.step()
        for _ in range(2):
            waiting.clear()
            task = asyncio.create_task(reader.step())
            await waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        (late,) = sandbox.add([{"call_start": f"{END} 23:59:58"}])
        assert await reader.step() == [late]
        assert pauses[0] == 60
        assert all(0 <= pause <= 60 for pause in pauses[1:])
        await reader.handle.aclose()


@pytest.mark.sweep(3)
@pytest.mark.finding("A10")
@pytest.mark.parametrize("steps", [0, 1, 3, "a waiting step"])
@pytest.mark.parametrize("kind", READERS)
async def test_a_reader_closed_by_another_task_gets_an_error(sandbox, open_session, kind, steps):
    """Given a reader anywhere before its end, when another task closes it, then each later step raises SessionError."""
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        reader = Reader(insights, kind)
        if steps == "a waiting step":
            sandbox.faults = Faults(latency=60)
            task = asyncio.create_task(reader.step())
            await until(lambda: sandbox.stats.active_requests)
            await asyncio.create_task(reader.handle.aclose())
            with pytest.raises(SessionError, match=r"closed|ended"):
                await task
        else:
            for _ in range(steps):
                assert await reader.step()
            await asyncio.create_task(reader.handle.aclose())
        for _ in range(2):
            with pytest.raises(SessionError, match=r"closed|ended"):
                await reader.step()
        sandbox.faults = Faults()


@pytest.mark.finding("A10")
@pytest.mark.parametrize("stride", [12, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("first", "kind"), [(0, "records"), (1, "pages"), (2, "arrow")])
async def test_no_close_at_any_turn_of_the_loop_ends_a_stream_quietly(
    sandbox, open_session, first, kind, stride
):
    """Given a stream that is closed at any turn of the loop, when it is read, then all calls came, or SessionError is raised."""
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        for turns in range(4 * first % stride, 160, stride):
            reader = Reader(insights, kind)

            async def read(reader=reader):
                ids = []
                while item := await reader.step():
                    ids += item
                return ids

            task = asyncio.create_task(read())
            for _ in range(turns):
                await asyncio.sleep(0)
            await reader.handle.aclose()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(result, SessionError) or result == sandbox.ids()


@pytest.mark.finding("A10")
@pytest.mark.parametrize("kind", ["records", "pages", "arrow"])
async def test_a_loop_body_that_closes_its_stream_gets_an_error(sandbox, open_session, kind):
    """Given a loop body that closes the stream, when the loop goes on, then SessionError is raised."""
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        reader = Reader(insights, kind)
        with pytest.raises(SessionError, match="closed"):
            async for _ in reader.iterator:
                await reader.handle.aclose()


@pytest.mark.finding("A10")
@pytest.mark.parametrize("kind", ["records", "pages", "arrow"])
async def test_a_stream_that_has_failed_does_not_end_quietly(sandbox, open_session, kind):
    """Given a stream that has failed, when it is read on, then SessionError names the cause, and not the end."""
    sandbox.faults = Faults(fail_after=3, kinds="500")
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        reader = Reader(insights, kind)
        with pytest.raises(ServerError):
            while await reader.step():
                pass
        with pytest.raises(SessionError) as caught:
            await reader.step()
        assert isinstance(caught.value.__cause__, ServerError)
        sandbox.faults = Faults()
        rest = insights.stream(START, END, page_size=40, resume=reader.handle.position)
        assert reader.handle.stats.calls + len(await rest.collect()) == CALLS


@pytest.mark.finding("A10")
@pytest.mark.parametrize("kind", READERS)
async def test_two_readers_at_once_are_an_error(sandbox, open_session, kind):
    """Given a step that waits, when another task steps too, then that one gets a SessionError, and the first its item."""
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        reader = Reader(insights, kind)
        first, second = await asyncio.gather(reader.step(), reader.step(), return_exceptions=True)
        assert first[:1] == sandbox.ids()[:1]
        assert isinstance(second, SessionError)
        assert "another task" in str(second)
        await reader.handle.aclose()


@pytest.mark.finding("B8")
@pytest.mark.parametrize("end", ["cancelled", "failed"])
@pytest.mark.parametrize("kind", READERS)
async def test_the_end_of_the_task_ends_the_stream(sandbox, open_session, kind, end):
    """Given a bare loop whose task is cancelled or fails, when the task is kept, then no request and no page is kept."""
    sandbox.faults = Faults(latency=0.002)
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        in_body = asyncio.Event()
        states = []

        async def read():
            reader = Reader(insights, kind)
            states.append(reader.handle)
            async for _ in reader.iterator:
                in_body.set()
                if end == "failed":
                    raise LookupError
                await asyncio.Event().wait()

        task = asyncio.create_task(read())
        await in_body.wait()
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError | LookupError)
        await until(lambda: not open_tasks(insights))
        assert requests_in_flight(insights) == 0
        handle = states[0]
        if kind != "follow":
            assert handle.stats.buffered_pages == handle.stats.in_flight == 0
        assert task.done()
        with pytest.raises(SessionError):
            async for _ in handle if kind in {"records", "follow"} else getattr(handle, kind)():
                pass


@pytest.mark.sweep(2)
@pytest.mark.finding("B8")
@pytest.mark.parametrize("kind", READERS)
async def test_a_dropped_iterator_ends_its_requests_without_the_garbage_collector(
    sandbox, open_session, kind
):
    """Given a `break` out of a bare loop, when the handles are dropped, then requests end though no garbage is collected."""
    sandbox.faults = Faults(latency=0.002)
    async with sandbox.serve() as base_url, open_session(base_url) as insights:

        async def read():
            reader = Reader(insights, kind)
            async for _ in reader.iterator:
                break
            return weakref.ref(reader.iterator)

        gc.collect()
        gc.disable()
        try:
            reference = await read()
            assert reference() is None
            await until(lambda: not open_tasks(insights))
        finally:
            gc.enable()
        assert requests_in_flight(insights) == 0


@pytest.mark.finding("A10")
async def test_a_task_that_ends_does_not_end_what_another_opened(sandbox, open_session):
    """Given a stream that one task opened, when the tasks of single steps end or fail, then the stream goes on."""
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        iterator = aiter(insights.stream(START, END, page_size=40))

        async def step_and_fail(ids):
            ids.append((await anext(iterator)).id)
            raise LookupError

        ids = []
        for _ in range(100):
            await asyncio.gather(asyncio.create_task(step_and_fail(ids)), return_exceptions=True)
        ids += [call.id async for call in iterator]
        assert ids == sandbox.ids()
