"""Streams over a real socket: every call, in order, in bounded memory, and left at any moment without a trace."""

import asyncio
import contextlib
import gc
from contextvars import ContextVar
from datetime import datetime, timedelta

import httpx
import pytest
from attrs import evolve
from support.sessions import endpoint, requests_in_flight

from iovox_async import (
    Fields,
    PagingError,
    QueryError,
    RetryPolicy,
    ServerError,
    SessionError,
)
from iovox_async._http.throttle import RequestThrottle
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-03-31"
#: Which stream a task reads.
READER = ContextVar("READER")


async def settled(sandbox):
    """Waits, a turn of the loop at a time, until the server has no request and no connection in hand."""
    for _ in range(2000):
        if not sandbox.stats.active_requests:
            return
        await asyncio.sleep(0.001)


@pytest.fixture(scope="module")
def quarter():
    """A quarter of calls, shared by the tests that do not change it."""
    return Sandbox(calls=20_000, start=START, end=END)


async def test_a_stream_hands_out_every_call_once_in_order(quarter, open_session):
    """The main job, with nothing but dates."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        async with insights.stream(START, END) as calls:
            ids = [call.id async for call in calls]
        assert ids == quarter.ids()
        assert calls.stats.calls == 20_000
        assert calls.stats.progress == 1.0
        assert calls.stats.in_flight == calls.stats.buffered_pages == 0
        assert calls.stats.bytes_received > 1_000_000


async def test_a_stream_that_was_left_has_nothing_in_flight(quarter, open_session):
    """Nor waiting: what was under way is ended, and what had come is dropped."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        async with insights.stream(START, END, page_size=100) as calls:
            async for _ in calls:
                if calls.stats.in_flight:
                    break
            assert calls.stats.in_flight
        assert calls.stats.in_flight == calls.stats.buffered_pages == 0


@pytest.mark.parametrize("page_size", [50, 1_000, 20_000, None])
@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
@pytest.mark.parametrize("concurrency", [1, 3, 16])
async def test_page_size_order_and_concurrency_do_not_change_what_comes(
    order, page_size, concurrency, open_session
):
    """The same calls, ascending or descending, in small pages or large, one at a time or many."""
    sandbox = Sandbox(calls=2_000, start=START, end=END, faults=Faults(shuffle_ties=True))
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=concurrency) as insights:
        ids = [call.id async for call in insights.stream(START, END, order=order, page_size=page_size)]
    truth = sandbox.ids()
    assert ids == (truth if order.endswith("ASC") else truth[::-1])
    assert sandbox.stats.offset_rows == 0
    assert sandbox.stats.peak_active_requests <= concurrency


@pytest.mark.fault(28, 32)
@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("cap", [None, 300], ids=["whole", "capped"])
async def test_both_readings_of_the_end_and_a_lower_cap_give_the_same_calls(exclusive, cap, open_session):
    """The documentation contradicts itself about both, so neither may matter."""
    sandbox = Sandbox(
        calls=3_000, start=START, end=END, faults=Faults(exclusive_end=exclusive, max_page_rows=cap)
    )
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        assert [call.id async for call in insights.stream(START, END)] == sandbox.ids()


async def test_windows_as_they_finish_are_the_same_calls(quarter, open_session):
    """`ordered=False` changes the order, and nothing else."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        stream = insights.stream(START, END, ordered=False, page_size=500)
        ids = [call.id async for call in stream]
        assert stream.position is None
    assert sorted(ids) == sorted(quarter.ids())


async def test_page_numbers_read_any_order(quarter, open_session):
    """Orders other than by `call_start` go by page numbers."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        stream = insights.stream(
            START, END, order="talk_time_DESC", fields=["id", "talk_time"], page_size=2_000
        )
        calls = await stream.collect()
        assert stream.position is None
    assert sorted(call.id for call in calls) == sorted(quarter.ids())
    talks = [call.talk_time for call in calls]
    assert talks == sorted(talks, reverse=True)


async def test_filters_choose_calls_on_the_server(quarter, open_session):
    """Keyword filters reach the endpoint under its own names."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        ids = [call.id async for call in insights.stream(START, END, call_result="ANSWERED")]
    assert 0 < len(ids) < 20_000
    assert ids == quarter.ids(call_result="ANSWERED")


async def test_fields_without_id_and_start_hand_out_only_what_was_asked(quarter, open_session):
    """Both are asked for all the same, to keep order and position, and not handed out."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        stream = insights.stream(START, "2024-01-05", fields=["node_name"])
        names = []
        async for call in stream:
            assert call.id is None
            assert call.call_start is None
            names.append(call.node_name)
            last = stream.position
        rest = await insights.stream(START, "2024-01-05", fields=["node_name"], resume=last).collect()
    assert names == [row["node_name"] for row in quarter.rows(START, "2024-01-05", fields=["node_name"])]
    assert rest == []


async def test_pages_of_a_stream_hold_all_calls_and_their_json(quarter, open_session):
    """`.pages()` is the same stream, an answer at a time."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        async with insights.stream(START, END, page_size=3_000) as stream:
            pages = [page async for page in stream.pages()]
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert [call.id for page in pages for call in page.calls] == quarter.ids()
    assert all(page.raw.startswith(b'[{"id"') and page.raw.endswith(b"}]") for page in pages)


async def test_max_calls_reads_no_record_beyond_the_last_one_wanted(quarter, open_session):
    """What is wrong with later calls of the same page is nobody's concern."""
    rows = [{"id": n, "call_start": f"{datetime(2024, 1, 1) + timedelta(seconds=n)}"} for n in range(1, 6000)]
    rows[5900]["id"] = "no number"
    answer = httpx.MockTransport(lambda _request: httpx.Response(200, json=rows))
    async with open_session("http://127.0.0.1", transport=answer) as insights:
        calls = await insights.stream("2024-01-01", "2024-01-01", max_calls=10).collect()
    assert [call.id for call in calls] == list(range(1, 11))


async def test_a_call_that_its_reader_changes_does_not_move_the_position(quarter, open_session):
    """What is handed out is the reader's; where the stream stands is not."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        async with insights.stream(START, END) as calls:
            async for call in calls:
                call.call_start, call.id = None, 5
                if calls.stats.calls == 700:
                    break
            position = calls.position
        rest = [call.id async for call in insights.stream(resume=position)]
    assert rest == quarter.ids()[700:]


async def test_a_reader_whose_stream_is_closed_by_another_task_is_told_so(quarter, open_session):
    """The session goes on."""
    quarter.faults = Faults(latency=60)
    try:
        async with quarter.serve() as base_url, open_session(base_url) as insights:
            stream = insights.stream(START, END)
            reader = asyncio.create_task(stream.collect())
            while not quarter.stats.active_requests:
                await asyncio.sleep(0.001)
            await stream.aclose()
            with pytest.raises(SessionError, match="the stream was closed"):
                await reader
    finally:
        quarter.faults = Faults()


async def test_max_calls_ends_the_stream_and_its_requests(quarter, open_session):
    """A few calls cost a few requests."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        ids = [call.id async for call in insights.stream(START, END, max_calls=10)]
        assert ids == quarter.ids()[:10]
        assert [call async for call in insights.stream(START, END, max_calls=0)] == []


@pytest.mark.parametrize("options", [{}, {"order": "call_start_DESC"}, {"paging": "pages"}], ids=str)
async def test_an_end_before_this_month_leaves_nothing_where_the_start_is_left_out(options, open_session):
    """The start is the first of this month then; not even the end's own second is read, and nothing is sent."""
    sandbox = Sandbox(calls=0, start=START, end=END)
    sandbox.add([{"call_start": f"{END} 23:59:59"}])
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        stream = insights.stream(end=END, **options)
        assert await stream.collect() == []
        assert stream.position is None
        assert sandbox.stats.requests == 0
        assert len(await insights.stream(END, END, **options).collect()) == 1


async def test_an_empty_range_is_one_request(open_session):
    """Nothing there is nothing asked twice."""
    sandbox = Sandbox(calls=0, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        stream = insights.stream(START, END)
        assert await stream.collect() == []
        assert stream.stats.requests == 1


@pytest.mark.fault(44, 47)
async def test_at_most_twice_the_concurrency_and_one_page_are_held(open_session):
    """A hundred thousand calls and a reader who takes his time: the bound holds."""
    sandbox = Sandbox(calls=100_000, start=START, end=END)
    concurrency = 4
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=concurrency) as insights:
        count, most = 0, 0
        async with insights.stream(START, END, page_size=1_000) as calls:
            async for _ in calls:
                count += 1
                if count % 2_000 == 0:
                    await asyncio.sleep(0.002)
                    stats = calls.stats
                    most = max(most, stats.in_flight + stats.buffered_pages + 1)
            assert count == 100_000
            assert most <= 2 * concurrency + 1
            assert calls.stats.peak_buffered_pages <= 2 * concurrency + 1


class Queue(RequestThrottle):
    """A gate that keeps account of who waits for a place, and of who was given one."""

    def __init__(self, concurrency):
        super().__init__(concurrency)
        self.waiting, self.given, self.turns = [], [], []

    async def acquire(self, holder):
        name, ahead, before = READER.get(), len(self.waiting), len(self.given)
        self.waiting.append(name)
        await super().acquire(holder)
        self.waiting.remove(name)
        self.turns.append((name, self.waiting.count(name), ahead, len(self.given) - before))
        self.given.append(name)


async def test_a_long_stream_and_short_ones_take_places_in_turn(open_session):
    """A stream waits for one place at a time, and gets it after exactly those who were waiting when it asked."""
    with contextlib.closing(Sandbox(calls=2_000, start=START, end=END)) as sandbox:
        transport = httpx.ASGITransport(sandbox.app)
        async with open_session(transport=transport, page_size=20) as insights:
            throttle = Queue(4)
            insights._connection = evolve(insights._connection, throttle=throttle)

            async def read(name, start, end):
                READER.set(name)
                return [call.id for call in await insights.stream(start, end).collect()]

            days = [f"2024-02-{1 + n % 28:02d}" for n in range(60)]
            async with asyncio.TaskGroup() as tasks:
                long = tasks.create_task(read("long", START, END))
                short = [tasks.create_task(read(n, day, day)) for n, day in enumerate(days)]
        assert long.result() == sandbox.ids()
        assert [task.result() for task in short] == [sandbox.ids(day, day) for day in days]
    assert throttle.given.count("long") > 100
    assert max(ahead for name, _, ahead, _ in throttle.turns if name == "long") >= 50, "there was a queue"
    for name, others, ahead, passed in throttle.turns:
        assert (name, others, passed) == (name, 0, ahead)


@pytest.mark.fault(47)
async def test_a_slow_reader_stops_the_requests(open_session):
    """Back-pressure: while nobody reads, no more than the bound is asked for."""
    sandbox = Sandbox(calls=20_000, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=2) as insights:
        async with insights.stream(START, END, page_size=300) as calls:
            async for _ in calls:
                break
            before = -1
            while before != sandbox.stats.requests:
                before = sandbox.stats.requests
                await asyncio.sleep(0.03)
            assert calls.stats.buffered_pages <= 2 * 2
            assert before <= 2 * 2 + 2


@pytest.mark.fault(46, 48)
@pytest.mark.parametrize("way", ["break", "async with", "error", "cancel", "aclose"])
async def test_leaving_early_leaves_no_task_and_no_request(way, open_session):
    """However a reader goes, all work ends and the session can be used again."""
    sandbox = Sandbox(calls=5_000, start=START, end=END, faults=Faults(latency=0.005))
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        before = asyncio.all_tasks()

        async def read():
            if way == "break":
                async for _ in insights.stream(START, END, page_size=100):
                    break
                return
            async with insights.stream(START, END, page_size=100) as calls:
                async for _ in calls:
                    if way == "async with":
                        break
                    if way == "error":
                        raise LookupError("the reader's own")
                    if way == "aclose":
                        await calls.aclose()
                        break
                    if way == "cancel":
                        await asyncio.Event().wait()

        if way == "cancel":
            task = asyncio.create_task(read())
            while not sandbox.stats.answered:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif way == "error":
            with pytest.raises(LookupError):
                await read()
        else:
            await read()
        gc.collect()
        for _ in range(1000):
            if asyncio.all_tasks() <= before:
                break
            await asyncio.sleep(0.001)
        assert asyncio.all_tasks() <= before
        assert requests_in_flight(insights) == 0
        await settled(sandbox)
        assert [call.id async for call in insights.stream(START, END)] == sandbox.ids()


async def test_an_error_in_the_middle_arrives_bare_typed_and_with_a_position(open_session):
    """What came before it is handed out; the position in it goes on exactly there."""
    sandbox = Sandbox(calls=3_000, start=START, end=END, faults=Faults(fail_after=6, kinds="500"))
    policy = RetryPolicy(max_attempts=2)
    async with sandbox.serve() as base_url, open_session(base_url, retry=policy, concurrency=2) as insights:
        ids = []
        with pytest.raises(ServerError) as caught:
            async for call in insights.stream(START, END, page_size=200):
                ids.append(call.id)
        assert ids == sandbox.ids()[: len(ids)]
        assert 0 < len(ids) < 3_000
        assert caught.value.window
        sandbox.faults = Faults()
        rest = insights.stream(START, END, page_size=200, resume=caught.value.position)
        assert ids + [call.id async for call in rest] == sandbox.ids()


async def test_a_fault_of_ours_in_a_worker_raises_instead_of_ending_the_stream_short(
    open_session, monkeypatch
):
    """The worst failure a backfill can have is a quiet short stream."""
    sandbox = Sandbox(calls=3_000, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        answered = 0
        real = endpoint(insights).get_page

        async def planted(params, **options):
            nonlocal answered
            answered += 1
            if answered == 5:
                raise KeyError("planted")
            return await real(params, **options)

        monkeypatch.setattr(endpoint(insights), "get_page", planted)
        with pytest.raises(KeyError, match="planted"):
            await insights.stream(START, END, page_size=200).collect()


async def test_a_position_after_any_call_goes_on_exactly_there(open_session):
    """Every place of a stream with many ties, both directions, while calls arrive behind the position."""
    sandbox = Sandbox(calls=0, start=START, end="2024-01-01")
    sandbox.add(
        {"call_start": f"2024-01-01 00:00:{second:02}"} for second in (1, 1, 1, 2, 3, 3, 3, 3, 4, 9, 9)
    )
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        for order in ("call_start_ASC", "call_start_DESC"):
            truth = sandbox.ids() if order.endswith("ASC") else sandbox.ids()[::-1]
            positions = []
            stream = insights.stream(START, START, order=order, page_size=3)
            async for _ in stream:
                positions.append(stream.position)
            for place, position in enumerate(positions):
                rest = insights.stream(START, START, order=order, page_size=3, resume=position)
                assert [call.id async for call in rest] == truth[place + 1 :]


async def test_a_position_is_refused_by_another_query(open_session):
    """Filters, order, fields and dates must be the same; dates left out come from the position."""
    sandbox = Sandbox(calls=50, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        stream = insights.stream(START, END, call_result="ANSWERED")
        async for _ in stream:
            break
        position = stream.position
        for other in (
            {"call_result": "BUSY"},
            {"call_result": "ANSWERED", "order": "call_start_DESC"},
            {"call_result": "ANSWERED", "fields": Fields.ALL},
            {},
        ):
            with pytest.raises(QueryError, match="another query"):
                insights.stream(START, END, resume=position, **other)
        with pytest.raises(QueryError, match="end"):
            insights.stream(START, "2024-02-01", resume=position, call_result="ANSWERED")
        with pytest.raises(QueryError, match="is not a position"):
            insights.stream(START, END, resume="yesterday", call_result="ANSWERED")
        with pytest.raises(QueryError, match="ordered"):
            insights.stream(START, END, resume=position, call_result="ANSWERED", ordered=False)
        rest = [call.id async for call in insights.stream(resume=position, call_result="ANSWERED")]
        assert rest == sandbox.ids(call_result="ANSWERED")[1:]


@pytest.mark.fault(29, 30)
async def test_a_server_that_ignores_page_or_dates_is_an_error_and_not_a_loop(open_session):
    """Exactness stands on both; without them the truth cannot be read, and that is said."""
    sandbox = Sandbox(calls=500, start=START, end=END, faults=Faults(ignore_page=True))
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        with pytest.raises(PagingError, match="ignores the page number"):
            await insights.stream(START, END, paging="pages", page_size=100).collect()
        with pytest.raises(PagingError, match="ignores the page number"):
            await insights.stream(START, END, paging="pages", page_size=100, fields=["node_name"]).collect()
        sandbox.faults = Faults(ignore_dates=True)
        with pytest.raises(PagingError, match='paging="pages"'):
            await insights.stream("2024-02-01", "2024-02-02").collect()


@pytest.mark.fault(50)
async def test_a_stream_is_read_in_one_way_only(quarter, open_session):
    """Two ways at once would share the calls out by chance."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        async with insights.stream(START, END) as calls:
            async for _ in calls:
                break
            with pytest.raises(SessionError, match="as calls"):
                calls.pages()
        with pytest.raises(SessionError, match="closed"):
            await calls.collect()


@pytest.mark.fault(51)
async def test_a_closed_session_says_so(quarter, open_session):
    """Streams and pages alike, before and during."""
    async with quarter.serve() as base_url:
        async with open_session(base_url) as insights:
            stream = insights.stream(START, END, page_size=100)
            async for _ in stream:
                break
        with pytest.raises(SessionError, match="closed"):
            async for _ in stream:
                pass
        with pytest.raises(SessionError, match="closed"):
            await insights.page(START, END)
        with pytest.raises(SessionError, match="closed"):
            await insights.stream(START, END).collect()
