"""While a page waits for its reader, only the next one, and the small one of the range's end, are received."""

import asyncio

import pytest
from support.waiting import until

from iovox_async import AsyncInsights
from iovox_async._fetching import fetcher
from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-03-31"
PAGE_ROWS = 100

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
def served():
    sandbox = Sandbox(calls=3_000)
    with sandbox.serve() as url:
        yield sandbox, url


async def stays(condition):
    """Whether a condition still holds after the event loop has had nothing to do for a while."""
    for _ in range(30):
        await asyncio.sleep(0.005)
    return condition()


@pytest.mark.parametrize("descending", [False, True])
async def test_a_reader_that_has_a_page_gets_only_the_next_one(served, monkeypatch, descending):
    # given pages that are larger than what may wait
    monkeypatch.setattr(fetcher, "WAITING_BYTES", 5_000)
    sandbox, url = served
    order = "call_start_DESC" if descending else "call_start_ASC"
    async with (
        AsyncInsights("demo", "demo-key", base_url=url, page_size=PAGE_ROWS) as insights,
        insights.stream(START, END, order=order) as calls,
    ):
        # when the reader stops within a page, while other requests are in flight
        ids = [(await anext(aiter(calls))).id]
        await until(lambda: calls.stats.in_flight > 3)

        # then at most the next page and the small one of the range's end are received
        assert await stays(lambda: calls.stats.buffered_pages <= 3 and calls.stats.in_flight > 1)

        # and when it goes on, it gets all calls
        ids += [call.id async for call in calls]
    assert sorted(ids) == sorted(sandbox.ids())


async def test_pages_are_received_in_any_case_before_a_server_may_lose_patience(served, monkeypatch):
    # given a time after which pages are received
    monkeypatch.setattr(fetcher, "WAITING_BYTES", 5_000)
    monkeypatch.setattr(fetcher, "UNREAD_SECONDS", 0.0)
    _, url = served
    async with (
        AsyncInsights("demo", "demo-key", base_url=url, page_size=PAGE_ROWS) as insights,
        insights.stream(START, END) as calls,
    ):
        # when the reader stops within a page
        await anext(aiter(calls))

        # then all pages in flight are received
        await until(lambda: calls.stats.buffered_pages > 3)


@pytest.mark.parametrize("concurrency", [None, 3])
async def test_pages_are_received_while_another_request_waits_for_their_slots(
    served, monkeypatch, concurrency
):
    # given a stream whose reader is busy, and whose pages wait in the network, so that their requests hold all slots
    monkeypatch.setattr(fetcher, "WAITING_BYTES", 5_000)
    monkeypatch.setattr(fetcher, "UNREAD_SECONDS", 60.0)
    sandbox, url = served
    async with AsyncInsights("demo", "demo-key", base_url=url, page_size=PAGE_ROWS, concurrency=4) as session:
        insights = session if concurrency is None else session.with_options(concurrency=concurrency)
        async with insights.stream(START, END) as calls:
            first = await anext(aiter(calls))
            await until(
                lambda: calls.stats.buffered_pages >= 2 and calls.stats.in_flight == (concurrency or 4)
            )

            # when it makes a request of a call
            async with asyncio.timeout(20):
                (call,) = await insights.get(first.id)

            # then that does not wait for the reader, and all calls come
            assert call.id == first.id
            assert 1 + len([call async for call in calls]) == len(sandbox.ids())
