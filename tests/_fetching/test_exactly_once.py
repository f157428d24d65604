"""Exactly-once delivery over real sockets while the data changes, and what page numbers do to the same data."""

import pytest

from iovox_async import Fields
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


@pytest.mark.sweep(2)
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
    sandbox = Sandbox(calls=60_000, start="2024-01-01", end="2024-12-31")
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        count = 0
        async for _ in insights.stream(
            "2024-01-01", "2024-12-31", page_size=2_000, fields=["id", "call_start"]
        ):
            count += 1
    assert count == 60_000
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
