"""Exactly-once delivery over real sockets while the data changes, and what page numbers do to the same data."""

import asyncio
from datetime import datetime, timedelta

import httpx
import pytest

from iovox_async import AsyncInsights, Fields
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-01-31"

LIVE = [
    # order, page size, concurrency, more faults
    ("call_start_ASC", 10, 1, {}),
    ("call_start_ASC", 10, 16, {"shuffle_ties": True}),
    ("call_start_DESC", 10, 8, {"exclusive_end": True}),
    ("call_start_ASC", 200, 8, {"max_page_rows": 150, "shuffle_ties": True}),
    ("call_start_DESC", 200, 8, {"max_page_rows": 150}),
    ("call_start_ASC", 200, 3, {"exclusive_end": True, "shuffle_ties": True}),
    ("call_start_DESC", 200, 16, {"shuffle_ties": True}),
    ("call_start_ASC", 1_000, 8, {"every_nth": 7, "kinds": ("500", "reset", "cut", "garbage")}),
    ("call_start_DESC", 1_000, 2, {"every_nth": 7, "kinds": ("503", "empty", "reset_midway")}),
    ("call_start_ASC", 20_000, 8, {"max_page_rows": 700, "max_page_rows_after": 0}),
    ("call_start_DESC", 20_000, 1, {"shuffle_ties": True}),
    ("call_start_ASC", None, 8, {"exclusive_end": True, "max_page_rows": 333}),
]


@pytest.mark.sweep(5)
@pytest.mark.fault(28, 34, 36)
@pytest.mark.parametrize(("order", "page_size", "concurrency", "faults"), LIVE)
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as they finish"])
async def test_stable_calls_are_delivered_exactly_once_while_others_change(
    order, page_size, concurrency, faults, ordered, open_session
):
    """Given calls inserted and deleted before every request, when a range is streamed, then each stable call is delivered once."""
    sandbox = Sandbox(
        calls=500 if page_size == 10 else 1_500,
        start=START,
        end=END,
        faults=Faults(inserts_per_request=1.5, deletes_per_request=0.7, **faults),
    )
    initial_ids = set(sandbox.ids())
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=concurrency) as insights:
        stream = insights.stream(START, END, order=order, page_size=page_size, ordered=ordered)
        calls = await stream.collect()
    ids = [call.id for call in calls]
    assert len(ids) == len(set(ids)), "a call was delivered twice"
    assert initial_ids - sandbox.deleted_ids <= set(ids), "a stable call was lost"
    assert set(ids) <= initial_ids | sandbox.inserted_ids, "a call does not exist"
    if ordered:
        starts = [call.call_start for call in calls]
        assert starts == sorted(starts, reverse=order.endswith("DESC"))
    assert sandbox.stats.offset_rows == 0


async def test_page_numbers_lose_calls_on_the_same_data(open_session):
    """Given calls inserted and deleted before every request, when a range is read by page numbers, then calls are lost (as the README says)."""
    lost = 0
    for seed in range(5):
        sandbox = Sandbox(
            calls=1_500,
            start=START,
            end=END,
            seed=seed,
            faults=Faults(inserts_per_request=0.5, deletes_per_request=0.5),
        )
        initial_ids = set(sandbox.ids())
        async with sandbox.serve() as base_url, open_session(base_url) as insights:
            stream = insights.stream(START, END, paging="pages", page_size=50, fields=["id"])
            ids = {call.id async for call in stream}
        lost += bool(initial_ids - sandbox.deleted_ids - ids)
    assert lost >= 4


@pytest.mark.fault(31)
async def test_a_second_larger_than_a_page_is_read_completely(open_session):
    """Given a second with more calls than the page limit, when the range is streamed, then all its calls are delivered."""
    for order in ("call_start_ASC", "call_start_DESC"):
        sandbox = Sandbox(calls=40, start=START, end=END, faults=Faults(max_page_rows=100, shuffle_ties=True))
        sandbox.add([{"call_start": "2024-01-17 12:00:00"}] * 350)
        sandbox.add([{"call_start": "2024-01-17 12:00:01"}] * 250)
        async with sandbox.serve() as base_url, open_session(base_url) as insights:
            ids = [call.id async for call in insights.stream(START, END, order=order, page_size=60)]
        assert ids == (sandbox.ids() if order.endswith("ASC") else sandbox.ids()[::-1])


async def test_a_large_read_makes_few_requests_and_the_server_skip_no_row(open_session):
    """Given 30 pages of calls, when they are streamed, then at most 1.6 times 30 plus the concurrency are requested, and no row is skipped."""
    sandbox = Sandbox(calls=15_000, start="2024-01-01", end="2024-12-31")
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        count = 0
        async for _ in insights.stream(
            "2024-01-01", "2024-12-31", page_size=500, fields=["id", "call_start"]
        ):
            count += 1
    assert count == 15_000
    assert sandbox.stats.offset_rows == 0
    assert sandbox.stats.requests <= 1.6 * 30 + 8


async def test_calls_inserted_before_a_position_do_not_change_the_rest(open_session):
    """Given calls inserted before a position, when the stream is resumed, then exactly the rest is delivered."""
    sandbox = Sandbox(calls=800, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        stream = insights.stream(START, END, page_size=100, fields=Fields.DEFAULT)
        first = []
        async for call in stream:
            first.append(call)
            if len(first) == 300:
                break
        sandbox.add([{"call_start": "2024-01-01 00:00:00"}] * 50)
        rest = await insights.stream(START, END, page_size=100, resume=stream.position).collect()
    ids = [call.id for call in first] + [call.id for call in rest]
    assert ids == [call_id for call_id in sandbox.ids() if call_id not in sandbox.inserted_ids]


@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
@pytest.mark.parametrize("kind", ["calls", "pages", "arrow"])
@pytest.mark.parametrize("calls_a_second", [2, 400], ids=["ties", "a second larger than the small page"])
async def test_the_full_page_of_a_long_range_may_come_before_the_small_one(order, kind, calls_a_second):
    """Given calls that share seconds, when the full page comes before the small one, then each call is delivered once, in order."""
    begin, descending = datetime(2024, 1, 1), order.endswith("DESC")
    rows = [
        {
            "id": 1_000 - number,
            "call_start": str(begin + number // calls_a_second * timedelta(minutes=40)),
            "link_name": "x",
        }
        for number in range(800)
    ]
    full_page_came = asyncio.Event()

    async def answer(request):
        query = request.url.params
        limit = int(query["limit"])
        if limit == 250:
            await full_page_came.wait()
            # Its page has been accepted then.
            for _ in range(100):
                await asyncio.sleep(0)
        start, end = query["start_date"], query["end_date"]
        rows_in_range = [row for row in rows if start <= row["call_start"] <= end]
        rows_in_range.sort(key=lambda row: row["call_start"], reverse=query["order"].endswith("DESC"))
        first = limit * (int(query["page"]) - 1)
        full_page_came.set()
        return httpx.Response(200, json=rows_in_range[first : first + limit])

    transport = httpx.MockTransport(answer)
    async with AsyncInsights("user", "key", transport=transport) as insights:
        stream = insights.stream(
            "2024-01-01", "2024-02-29", fields=["id", "call_start", "link_name"], order=order
        )
        if kind == "calls":
            ids = [call.id async for call in stream]
        elif kind == "pages":
            ids = [call.id async for page in stream.pages() for call in page.calls]
        else:
            ids = (await stream.table())["id"].to_pylist()
    expected = sorted(rows, key=lambda row: (row["call_start"], row["id"]), reverse=descending)
    assert ids == [row["id"] for row in expected]
