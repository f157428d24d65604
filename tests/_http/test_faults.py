"""Checks the table of faults (`support/fault_table.py`), and tests faults that belong to no other module."""

import json
from urllib.parse import parse_qs

import httpx
import pytest
from support.fault_table import FAULTS, WITHOUT_TEST, marked_tests
from support.faults import RawServer, answering, http_answer, nothing_left

from iovox_async import BadRequestError, DecodeError, Fields, RecordError
from iovox_async._parsing.splitter import PAGE_BYTES
from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-10"


@pytest.fixture(autouse=True)
async def _nothing_is_left():
    async with nothing_left():
        yield


@pytest.mark.parametrize("number", FAULTS, ids=str)
def test_given_a_fault_of_the_table_then_a_test_is_marked_with_it(number):
    """Given a fault, when tests are searched for its mark, then there is one, or a reason why there is none."""
    assert bool(marked_tests()[number]) != (number in WITHOUT_TEST)


def test_given_a_mark_then_its_fault_is_in_the_table():
    """Given the marks of all tests, then each number is in the table."""
    assert marked_tests().keys() <= FAULTS.keys()


class Listing(httpx.AsyncBaseTransport):
    """An endpoint that answers these rows, filtered by dates and ordered, as they are."""

    def __init__(self, rows):
        self.rows, self.asked = rows, []

    async def handle_async_request(self, request):
        asked = {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()}
        self.asked.append(asked)
        rows = sorted(
            (row for row in self.rows if asked["start_date"] <= row["call_start"] <= asked["end_date"]),
            key=lambda row: row["call_start"],
            reverse=asked["order"] == "call_start_DESC",
        )
        size = int(asked["limit"])
        begin = size * (int(asked["page"]) - 1)
        body = json.dumps(rows[begin : begin + size]).encode()
        return httpx.Response(200, stream=httpx.ByteStream(body))


def row(number, second, **more):
    return {"id": number, "call_start": f"2024-01-02 10:00:{second:02}", **more}


@pytest.mark.fault(37)
@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
async def test_a_call_that_an_answer_lists_twice_comes_once_and_is_counted(order, open_session):
    """The last of them counts; its neighbours of the same second stay."""
    rows = [row(1, 1), row(2, 2, node_name="old"), row(3, 2), row(2, 2, node_name="new"), row(4, 5)]
    transport = Listing(rows)
    async with open_session(transport=transport) as insights:
        stream = insights.stream(START, END, order=order)
        calls = await stream.collect()
    assert [call.id for call in calls] == ([1, 2, 3, 4] if order.endswith("ASC") else [4, 3, 2, 1])
    assert next(call.node_name for call in calls if call.id == 2) == "new"
    assert stream.stats.duplicates_dropped == 1
    assert stream.stats.calls == 4


@pytest.mark.fault(38)
@pytest.mark.parametrize("bad", [{"id": None}, {"id": ""}, {}], ids=["null", "empty", "missing"])
async def test_a_call_without_an_id_is_no_call_and_costs_no_other(bad, open_session):
    """Raised with its place, or left out and counted."""
    rows = [row(1, 1), {"call_start": "2024-01-02 10:00:02", **bad}, row(3, 3)]
    async with open_session(transport=Listing(rows)) as insights:
        with pytest.raises(RecordError) as caught:
            await insights.stream(START, END).collect()
        assert caught.value.index == 1
        stream = insights.stream(START, END, on_error="skip")
        assert [call.id for call in await stream.collect()] == [1, 3]
        assert stream.stats.skipped == 1


@pytest.mark.fault(44)
async def test_the_rows_of_a_page_follow_their_bytes(open_session):
    """Records of a few KB each: after the first small page no page is much larger than it should be."""
    sandbox = Sandbox(calls=3_000, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=2) as insights:
        async for _ in insights.stream(START, END, fields=Fields.ALL):
            pass
    row_bytes = sandbox.stats.bytes_received / sandbox.stats.rows
    limits = [int(parse_qs(request.query)["limit"][0]) for request in sandbox.requests]
    assert row_bytes > 1_000
    assert limits[0] == 250
    assert max(limits[1:]) * row_bytes < 1.3 * PAGE_BYTES


@pytest.mark.fault(41)
async def test_a_stream_always_sends_both_dates(open_session):
    """Whatever is left out: the endpoint would read this month, or today."""
    transport = Listing([])
    async with open_session(transport=transport) as insights:
        for dates in ((), (START,), (None, END)):
            assert await insights.stream(*dates).collect() == []
    assert all({"start_date", "end_date"} <= asked.keys() for asked in transport.asked)


@pytest.mark.fault(22)
async def test_a_wrong_address_is_told_without_the_question(open_session):
    """The cure, and neither query nor key."""
    async with RawServer(answering(http_answer(b"<html>Not Found</html>", b"404 Not Found"))) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(BadRequestError, match="Check base_url") as caught:
                await insights.page(START, END, call_origin="447598455773")
    assert "447598455773" not in str(caught.value)
    assert "response_fields" not in str(caught.value)


async def test_a_page_of_another_form_is_told_by_its_form(open_session):
    """What came instead of calls is said in a word, and not shown."""
    async with RawServer(answering(http_answer(b"<html>Sign in, 447598455773</html>"))) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(DecodeError, match=r"HTML.*check the address") as caught:
                await insights.page(START, END)
    assert "447598455773" not in str(caught.value)
