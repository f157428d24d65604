"""Following new calls: late arrivals, updates, outages, memory bound and closing."""

import asyncio
from datetime import datetime, timedelta

import pytest
from support.sessions import open_tasks
from support.waiting import until

from iovox_async import AuthenticationError, QueryError, RecordError, RetryPolicy, SessionError
from iovox_async.sandbox import Faults, Sandbox

DAY = "2024-05-06"


@pytest.fixture
def sandbox():
    return Sandbox(calls=0, start=DAY, end=DAY)


def at(*times):
    return [{"call_start": f"{DAY} {time}"} for time in times]


class Rounds:
    """A sleep for tests: runs the next step instead of waiting, and waits forever after the last."""

    def __init__(self, *steps):
        self.steps, self.pauses = list(steps), []

    async def __call__(self, seconds):
        self.pauses.append(seconds)
        if not self.steps:
            await asyncio.Event().wait()
        self.steps.pop(0)()


async def take(follow, count):
    calls = []
    async for call in follow:
        calls.append(call)
        if len(calls) == count:
            return calls
    raise AssertionError("following ended by itself")


@pytest.mark.fault(35, 39)
async def test_new_and_late_calls_are_delivered_once(sandbox, open_session):
    """Given calls that arrive late, when following, then each new call is delivered once."""
    sandbox.add(at("10:00:00", "10:05:00"))
    rounds = Rounds(
        lambda: sandbox.add(at("10:20:00")),
        lambda: sandbox.add(at("09:10:00", "10:30:00")),
        lambda: None,
        lambda: sandbox.add(at("10:31:00")),
    )
    async with sandbox.serve() as base_url, open_session(base_url, sleep=rounds) as insights:
        async with insights.follow(f"{DAY} 09:00", interval=60) as follow:
            calls = await take(follow, 6)
            assert follow.latest_call_start == datetime(2024, 5, 6, 10, 31)
            assert follow.poll_count == 4
    starts = [call.call_start.strftime("%H:%M") for call in calls]
    assert starts == ["10:00", "10:05", "10:20", "09:10", "10:30", "10:31"]
    assert rounds.pauses == [60, 60, 60, 60]


@pytest.mark.fault(35)
async def test_changed_calls_are_delivered_again_on_request(sandbox, open_session):
    """Given a call that changes, when following with `include_updates`, then it is delivered again; else not."""
    first, second = sandbox.add(at("10:00:00", "10:01:00"))
    for changes, count, ids in ((True, 3, [first, second, first]), (False, 3, [first, second, None])):
        rounds = Rounds(
            lambda: sandbox.update(first, node_name="changed" if changes else "again"),
            lambda: sandbox.add(at("11:00:00")) if not changes else None,
        )
        async with sandbox.serve() as base_url, open_session(base_url, sleep=rounds) as insights:
            fields = ["id", "call_start", "node_name"]
            async with insights.follow(f"{DAY} 09:00", include_updates=changes, fields=fields) as follow:
                ids_in_order = [call.id for call in await take(follow, count)]
        assert [call_id for call_id, is_expected in zip(ids_in_order, ids, strict=True) if is_expected] == [
            one for one in ids if one
        ]
        assert (ids_in_order[2] == first) is changes


async def test_polling_continues_after_temporary_errors(sandbox, open_session):
    """Given polls that fail, when the server recovers, then the calls of the meantime are delivered."""
    sandbox.add(at("10:00:00"))

    def fail():
        sandbox.add(at("10:10:00"))
        sandbox.faults = Faults(fail_after=0, kinds="500")

    def mend():
        sandbox.faults = Faults()

    async with (
        sandbox.serve() as base_url,
        open_session(
            base_url, retry=RetryPolicy(max_attempts=1), sleep=Rounds(fail, lambda: None, mend)
        ) as insights,
    ):
        async with insights.follow(f"{DAY} 09:00") as follow:
            calls = await take(follow, 2)
            assert follow.failed_polls == 2
    assert [call.call_start.hour for call in calls] == [10, 10]


async def test_a_refused_key_is_raised(sandbox, open_session):
    """Given a wrong key, when following, then AuthenticationError is raised."""
    async with sandbox.serve() as base_url, open_session(base_url, secure_key="wrong-key") as insights:
        with pytest.raises(AuthenticationError):
            await take(insights.follow(f"{DAY} 09:00"), 1)


@pytest.mark.parametrize("argument", ["start", "end", "order"])
async def test_an_argument_of_other_methods_is_refused(open_session, argument):
    """Given an argument that only other methods have, when following, then it is refused, and not ignored."""
    async with open_session("http://127.0.0.1:9") as insights:
        with pytest.raises(QueryError, match=f"^{argument} is not a filter") as caught:
            insights.follow(**{argument: DAY})
    assert caught.value.hint


async def test_iterating_again_after_an_error_continues(sandbox, open_session):
    """Given an error, when the follower is iterated again, then it continues, and repeats nothing."""
    sandbox.add(at("10:00:00"))

    def fail():
        raise ZeroDivisionError

    rounds = Rounds(fail, lambda: None)
    async with sandbox.serve() as base_url, open_session(base_url, sleep=rounds) as insights:
        async with insights.follow(f"{DAY} 09:00") as follow:
            assert len(await take(follow, 1)) == 1
            with pytest.raises(ZeroDivisionError):
                await take(follow, 1)
            (later,) = sandbox.add(at("10:30:00"))
            assert [call.id for call in await take(follow, 1)] == [later]
        with pytest.raises(SessionError, match="ended"):
            await take(follow, 1)


@pytest.mark.parametrize("lookback", [1e12, 1e300, timedelta.max], ids=str)
async def test_a_very_long_look_back_reaches_to_the_start(sandbox, open_session, lookback):
    """Given a look-back longer than any range, when following, then each poll reads from `since`."""
    sandbox.add(at("10:00:00"))
    rounds = Rounds(lambda: sandbox.add(at("09:00:00")))
    async with sandbox.serve() as base_url, open_session(base_url, sleep=rounds) as insights:
        async with insights.follow(f"{DAY} 09:00", lookback=lookback) as follow:
            calls = await take(follow, 2)
    assert [call.call_start.hour for call in calls] == [10, 9]


async def test_memory_is_bounded_by_the_look_back(sandbox, open_session):
    """Given many polls, when calls are older than the look-back, then they are forgotten."""
    hours = iter(range(1, 20))

    def insert_calls():
        hour = next(hours)
        sandbox.add([{"call_start": f"{DAY} {hour:02}:{minute:02}:00"} for minute in range(0, 60, 6)])

    insert_calls()
    rounds = Rounds(*[insert_calls] * 9)
    async with sandbox.serve() as base_url, open_session(base_url, sleep=rounds) as insights:
        async with insights.follow(f"{DAY} 00:00", lookback=timedelta(hours=1)) as follow:
            assert len(await take(follow, 100)) == 100
            assert len(follow._state.delivered) <= 3 * 10


async def test_leaving_ends_all_tasks(sandbox, open_session):
    """Given a follower, when it is left by a bare break, then no task is left."""
    sandbox.add(at("10:00:00"))
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        before = asyncio.all_tasks()
        async for _ in insights.follow(f"{DAY} 09:00"):
            break
        await until(lambda: asyncio.all_tasks() <= before)


@pytest.mark.parametrize("reading", [True, False], ids=["in a poll", "in the pause"])
async def test_another_task_can_close_a_follower(sandbox, open_session, reading):
    """Given a reader that waits, when another task closes the follower, then the reader gets a SessionError."""
    sandbox.add(at("10:00:00"))
    pausing = asyncio.Event()

    async def pause(seconds):
        pausing.set()
        await asyncio.Event().wait()

    async with sandbox.serve() as base_url, open_session(base_url, sleep=pause) as insights:
        follow = insights.follow(f"{DAY} 09:00")
        sandbox.faults = Faults(latency=60) if reading else Faults()
        waiting = asyncio.create_task(take(follow, 2))
        if reading:
            await until(lambda: sandbox.stats.active_requests)
        else:
            await pausing.wait()
        await follow.aclose()
        with pytest.raises(SessionError):
            await waiting
        await follow.aclose()
        assert open_tasks(insights) == 0


@pytest.mark.finding("A10")
@pytest.mark.parametrize("waiting", ["in the pause", "in a request"])
async def test_a_cancelled_step_loses_nothing(sandbox, open_session, waiting):
    """Given a step that is cancelled while it waits, when the next is awaited, then it continues from there."""
    sandbox.add(at("10:00:00"))
    begun, release = asyncio.Event(), asyncio.Event()

    async def sleep(_seconds):
        begun.set()
        await release.wait()

    async with sandbox.serve() as base_url, open_session(base_url, sleep=sleep) as insights:
        async with insights.follow(f"{DAY} 09:00", interval=60) as follow:
            calls = aiter(follow)
            if waiting == "in the pause":
                await anext(calls)
            step = asyncio.ensure_future(anext(calls))
            await (begun.wait() if waiting == "in the pause" else until(lambda: sandbox.stats.requests))
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
            if waiting == "in the pause":
                sandbox.add(at("10:01:00"))
                release.set()
            assert (await anext(calls)).call_start.minute == (1 if waiting == "in the pause" else 0)


@pytest.mark.finding("A10")
async def test_a_follower_has_one_reader_and_no_quiet_end(sandbox, open_session):
    """Given a reader that waits, when another one asks or the follower is closed, then each gets a SessionError."""
    async with sandbox.serve() as base_url, open_session(base_url, sleep=Rounds()) as insights:
        follow = insights.follow(f"{DAY} 09:00")
        calls = aiter(follow)
        waiting = asyncio.ensure_future(anext(calls))
        await until(lambda: follow.poll_count)
        with pytest.raises(SessionError, match="another task"):
            await anext(calls)
        await follow.aclose()
        with pytest.raises(SessionError, match="ended"):
            await waiting
        with pytest.raises(SessionError, match="ended"):
            await anext(calls)


@pytest.mark.finding("B8")
async def test_the_end_of_its_task_ends_the_poll(sandbox, open_session):
    """Given a task that is cancelled in its loop and kept, when it has ended, then nothing of the poll is left."""
    sandbox.add(at("10:00:00", "10:00:01"))

    async def read(follow):
        async for _ in follow:
            await asyncio.Event().wait()

    async with sandbox.serve() as base_url, open_session(base_url, sleep=Rounds()) as insights:
        follow = insights.follow(f"{DAY} 09:00", fields=["call_origin"])
        task = asyncio.ensure_future(read(follow))
        await until(lambda: follow._state.delivered)
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: not open_tasks(insights))
        with pytest.raises(SessionError, match="ended"):
            aiter(follow)


async def test_added_sort_keys_are_not_delivered(sandbox, open_session):
    """Given fields without id, when following, then the id is None."""
    sandbox.add(at("10:00:00"))
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        (call,) = await take(insights.follow(f"{DAY} 09:00", fields=["node_name"]), 1)
    assert call.id is None
    assert call.node_name


async def test_an_invalid_filter_is_an_error(open_session):
    """Given an unknown filter, when following starts, then a QueryError is raised before any request."""
    with pytest.raises(QueryError, match="call_result"):
        open_session().follow(call_results="ANSWERED")


async def test_changes_are_delivered_also_before_a_call_that_cannot_be_read(sandbox, open_session):
    """Given a call that no poll can read, when one before it changes, then the change is delivered by the next poll."""
    changed, broken = sandbox.add(at("10:00:00", "10:01:00"))
    sandbox.update(broken, tags="no list")
    rounds = Rounds(lambda: None, lambda: None)
    fields = ["id", "call_start", "node_name", "tag_text"]
    options = {"include_updates": True, "fields": fields}
    async with sandbox.serve() as base_url, open_session(base_url, sleep=rounds) as insights:
        async with insights.follow(f"{DAY} 09:00", **options) as follow:
            names = []
            for name in ("first", "second"):
                sandbox.update(changed, node_name=name)
                names += [call.node_name for call in await take(follow, 1)]
                with pytest.raises(RecordError):
                    await take(follow, 1)
    assert names == ["first", "second"]
