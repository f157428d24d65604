"""Streams over real sockets: order, completeness, memory bound, and leaving early."""

import asyncio
import contextlib
import gc
import logging
from contextvars import ContextVar
from datetime import datetime, timedelta

import httpx
import msgspec
import pytest
from support.sessions import endpoint, requests_in_flight
from support.waiting import until

from iovox_async import (
    PagingError,
    SessionError,
)
from iovox_async._http.throttle import RequestThrottle
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-03-31"
#: Which stream a task reads.
READER = ContextVar("READER")


@pytest.fixture(scope="module")
def quarter():
    """Three months of calls, shared by the tests that do not change them."""
    return Sandbox(calls=6_000, start=START, end=END)


async def test_a_stream_delivers_each_call_once_and_in_order(quarter, open_session):
    """Given a range, when it is streamed, then each call is delivered once and in order, and the stats agree."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        async with insights.stream(START, END) as calls:
            ids = [call.id async for call in calls]
        assert ids == quarter.ids()
        assert calls.stats.calls == 6_000
        assert calls.stats.progress == 1.0
        assert calls.stats.in_flight == calls.stats.buffered_pages == 0
        assert calls.stats.bytes_received > 1_000_000


async def test_a_stream_left_early_has_nothing_in_flight(quarter, open_session):
    """Given requests in flight, when the stream is left, then nothing is in flight or buffered."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        async with insights.stream(START, END, page_size=100) as calls:
            async for _ in calls:
                if calls.stats.in_flight:
                    break
            assert calls.stats.in_flight
        assert calls.stats.in_flight == calls.stats.buffered_pages == 0


@pytest.mark.sweep(5)
@pytest.mark.parametrize("page_size", [50, 1_000, 20_000, None])
@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
@pytest.mark.parametrize("concurrency", [1, 3, 16])
async def test_page_size_order_and_concurrency_do_not_change_the_calls(
    order, page_size, concurrency, open_session
):
    """Given any page size, order and concurrency, when a range is streamed, then the same calls are delivered."""
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
async def test_an_exclusive_end_or_a_lower_page_limit_does_not_change_the_calls(exclusive, cap, open_session):
    """Given an inclusive or exclusive end and any page limit, when a range is streamed, then the same calls are delivered."""
    sandbox = Sandbox(
        calls=3_000, start=START, end=END, faults=Faults(exclusive_end=exclusive, max_page_rows=cap)
    )
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        assert [call.id async for call in insights.stream(START, END)] == sandbox.ids()


async def test_unordered_windows_deliver_the_same_calls(quarter, open_session):
    """Given `ordered=False`, when a range is streamed, then the same calls are delivered, and there is no position."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        stream = insights.stream(START, END, ordered=False, page_size=500)
        ids = [call.id async for call in stream]
        assert stream.position is None
    assert sorted(ids) == sorted(quarter.ids())


async def test_page_numbers_read_any_order(quarter, open_session):
    """Given an order by another field, when it is streamed, then it is read by page numbers in that order."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        stream = insights.stream(
            START, END, order="talk_time_DESC", fields=["id", "talk_time"], page_size=2_000
        )
        calls = await stream.collect()
        assert stream.position is None
    assert sorted(call.id for call in calls) == sorted(quarter.ids())
    talks = [call.talk_time for call in calls]
    assert talks == sorted(talks, reverse=True)


async def test_filters_are_applied_by_the_server(quarter, open_session):
    """Given a filter, when a range is streamed, then only matching calls are delivered."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        ids = [call.id async for call in insights.stream(START, END, call_result="ANSWERED")]
    assert 0 < len(ids) < 6_000
    assert ids == quarter.ids(call_result="ANSWERED")


async def test_added_sort_keys_are_not_delivered(quarter, open_session):
    """Given fields without id and call_start, when they are streamed, then both are None, and the position still works."""
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


async def test_pages_contain_all_calls_and_their_json(quarter, open_session):
    """Given a range, when `.pages()` is iterated, then the pages contain all calls and their JSON."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        async with insights.stream(START, END, page_size=3_000) as stream:
            pages = [page async for page in stream.pages()]
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert [call.id for page in pages for call in page.calls] == quarter.ids()
    assert all(page.raw.startswith(b'[{"id"') and page.raw.endswith(b"}]") for page in pages)


async def test_max_calls_decodes_no_later_record(quarter, open_session):
    """Given an invalid record after the last call wanted, when `max_calls` is reached, then it is not decoded."""
    rows = [{"id": n, "call_start": f"{datetime(2024, 1, 1) + timedelta(seconds=n)}"} for n in range(1, 6000)]
    rows[5900]["id"] = "no number"
    answer = httpx.MockTransport(lambda _request: httpx.Response(200, json=rows))
    async with open_session("http://127.0.0.1", transport=answer) as insights:
        calls = await insights.stream("2024-01-01", "2024-01-01", max_calls=10).collect()
    assert [call.id for call in calls] == list(range(1, 11))


async def test_closing_a_stream_from_another_task_raises_in_its_reader(quarter, open_session):
    """Given a reader that waits, when another task closes the stream, then the reader gets a SessionError."""
    quarter.faults = Faults(latency=60)
    try:
        async with quarter.serve() as base_url, open_session(base_url) as insights:
            stream = insights.stream(START, END)
            reader = asyncio.create_task(stream.collect())
            await until(lambda: quarter.stats.active_requests)
            await stream.aclose()
            with pytest.raises(SessionError, match="the stream was closed"):
                await reader
    finally:
        quarter.faults = Faults()


async def test_max_calls_ends_the_stream(quarter, open_session):
    """Given `max_calls`, when so many calls are delivered, then the stream ends, and its progress is 1."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        stream = insights.stream(START, END, max_calls=10)
        ids = [call.id async for call in stream]
        assert stream.stats.progress == 1.0
        assert ids == quarter.ids()[:10]
        assert [call async for call in insights.stream(START, END, max_calls=0)] == []


@pytest.mark.parametrize("options", [{}, {"order": "call_start_DESC"}, {"paging": "pages"}], ids=str)
async def test_an_end_before_this_month_without_a_start_is_empty(options, open_session):
    """Given no start and an end before this month, when it is streamed, then nothing is requested or delivered."""
    sandbox = Sandbox(calls=0, start=START, end=END)
    sandbox.add([{"call_start": f"{END} 23:59:59"}])
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        stream = insights.stream(end=END, **options)
        assert await stream.collect() == []
        assert stream.position is None
        assert sandbox.stats.requests == 0
        assert len(await insights.stream(END, END, **options).collect()) == 1


@pytest.mark.parametrize(("end", "max_calls"), [("2024-01-27", None), (END, 10), (END, None)])
async def test_an_empty_range_is_requested_twice(open_session, end, max_calls):
    """Given a range without calls, then a second request checks the first; a long range begins with both."""
    sandbox = Sandbox(calls=0, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        stream = insights.stream(START, end, max_calls=max_calls)
        assert await stream.collect() == []
        assert stream.stats.requests == 2


@pytest.mark.fault(44, 47)
async def test_at_most_twice_the_concurrency_plus_one_pages_are_in_memory(open_session):
    """Given a slow reader, when 100 pages are streamed, then at most `2 * concurrency + 1` pages are in memory."""
    sandbox = Sandbox(calls=30_000, start=START, end=END)
    concurrency = 4
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=concurrency) as insights:
        count, most = 0, 0
        async with insights.stream(START, END, page_size=300) as calls:
            async for _ in calls:
                count += 1
                if count % 600 == 0:
                    await asyncio.sleep(0.002)
                    stats = calls.stats
                    most = max(most, stats.in_flight + stats.buffered_pages + 1)
            assert count == 30_000
            assert most <= 2 * concurrency + 1
            assert calls.stats.peak_buffered_pages <= 2 * concurrency + 1


class Queue(RequestThrottle):
    """A throttle that records which stream waits for a slot, and which gets one."""

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


async def test_streams_get_request_slots_in_turn(open_session):
    """Given one long and many short streams, when they share a session, then each waits for one slot at a time, first come first served."""
    with contextlib.closing(Sandbox(calls=2_000, start=START, end=END)) as sandbox:
        transport = httpx.ASGITransport(sandbox.app)
        async with open_session(transport=transport, page_size=20) as insights:
            throttle = Queue(4)
            insights._connection = msgspec.structs.replace(insights._connection, throttle=throttle)

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
    assert max(ahead for name, _, ahead, _ in throttle.turns if name == "long") >= 50, "no stream had to wait"
    for name, others, ahead, passed in throttle.turns:
        assert (name, others, passed) == (name, 0, ahead)


@pytest.mark.fault(47)
async def test_a_reader_that_stops_stops_the_requests(open_session):
    """Given a reader that stops, when the buffer is full, then no more requests are sent."""
    sandbox = Sandbox(calls=20_000, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=2) as insights:
        async with insights.stream(START, END, page_size=300) as calls:
            async for _ in calls:
                break
            await until(lambda: calls.stats.in_flight == 0)
            assert calls.stats.buffered_pages <= 2 * 2
            assert sandbox.stats.requests <= 2 * 2 + 2


@pytest.mark.sweep(2)
@pytest.mark.fault(46, 48)
@pytest.mark.parametrize("way", ["break", "async with", "error", "cancel", "aclose"])
async def test_leaving_early_leaves_no_task_and_no_request(way, open_session):
    """Given requests in flight, when the stream is left in any way, then no task or request is left, and the session can be used again."""
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
                        raise LookupError("from the caller")
                    if way == "aclose":
                        await calls.aclose()
                        break
                    if way == "cancel":
                        await asyncio.Event().wait()

        if way == "cancel":
            task = asyncio.create_task(read())
            await until(lambda: sandbox.stats.answered)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif way == "error":
            with pytest.raises(LookupError):
                await read()
        else:
            await read()
        gc.collect()
        await until(lambda: asyncio.all_tasks() <= before)
        assert requests_in_flight(insights) == 0
        await until(lambda: not sandbox.stats.active_requests)
        assert [call.id async for call in insights.stream(START, END)] == sandbox.ids()


async def test_an_internal_error_is_raised_and_does_not_end_the_stream_early(open_session, monkeypatch):
    """Given an internal error in a request, when the stream is read, then that error is raised."""
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


@pytest.mark.fault(29, 30)
async def test_ignored_page_numbers_or_dates_are_an_error(open_session):
    """Given a server that ignores page numbers or dates, when a range is streamed, then a PagingError is raised."""
    sandbox = Sandbox(calls=500, start=START, end=END, faults=Faults(ignore_page=True))
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        with pytest.raises(PagingError, match="ignores the page number"):
            await insights.stream(START, END, paging="pages", page_size=100).collect()
        with pytest.raises(PagingError, match="ignores the page number"):
            await insights.stream(START, END, paging="pages", page_size=100, fields=["node_name"]).collect()
        sandbox.faults = Faults(ignore_dates=True)
        with pytest.raises(PagingError, match='paging="pages"'):
            await insights.stream("2024-02-01", "2024-02-02").collect()


@pytest.mark.parametrize(("order", "warns"), [("call_result_ASC", True), ("id_ASC", False)])
async def test_calls_that_move_between_page_numbers_are_a_warning(order, warns, open_session, caplog):
    """Given ties in a random order, when a stream reads by page numbers, then it warns once that calls may be missing."""
    sandbox = Sandbox(calls=200, start=START, end=END, faults=Faults(shuffle_ties=True))
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        calls = await insights.stream(START, END, order=order, page_size=20).collect()
    assert (len({call.id for call in calls}) < 200) == warns
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert ["others may be missing" in warning for warning in warnings] == [True] * warns


@pytest.mark.fault(50)
async def test_a_stream_has_one_mode(quarter, open_session):
    """Given a stream read as calls, when it is read as pages, then a SessionError is raised."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        async with insights.stream(START, END) as calls:
            async for _ in calls:
                break
            with pytest.raises(SessionError, match="as calls"):
                calls.pages()
        with pytest.raises(SessionError, match="closed"):
            await calls.collect()


@pytest.mark.fault(51)
async def test_a_closed_session_is_an_error(quarter, open_session):
    """Given a closed session, when a stream or a page is read, then a SessionError is raised."""
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
