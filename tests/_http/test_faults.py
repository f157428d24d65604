"""Checks the table of faults (`support/fault_table.py`), and tests faults that belong to no other module."""

import json
from urllib.parse import parse_qs

import httpx
import pytest
from support.fault_table import FAULTS, WITHOUT_TEST, marked_tests
from support.faults import RawServer, answering, http_answer

from iovox_async import BadRequestError, DecodeError, Fields, RecordError
from iovox_async._parsing.splitter import PAGE_BYTES
from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-10"


pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_every_fault_has_a_marked_test_or_a_reason():
    """Given the table of faults, when tests are searched for their marks, then each has one, or a reason without one."""
    marked = marked_tests().keys()
    assert FAULTS.keys() - marked == WITHOUT_TEST.keys()
    assert marked <= FAULTS.keys()


class ListTransport(httpx.AsyncBaseTransport):
    """Responds with the given rows, filtered by dates and ordered."""

    def __init__(self, rows):
        self.rows, self.params = rows, []

    async def handle_async_request(self, request):
        params = {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()}
        self.params.append(params)
        rows = sorted(
            (row for row in self.rows if params["start_date"] <= row["call_start"] <= params["end_date"]),
            key=lambda row: row["call_start"],
            reverse=params["order"] == "call_start_DESC",
        )
        size = int(params["limit"])
        begin = size * (int(params["page"]) - 1)
        body = json.dumps(rows[begin : begin + size]).encode()
        return httpx.Response(200, stream=httpx.ByteStream(body))


def row(number, second, **more):
    return {"id": number, "call_start": f"2024-01-02 10:00:{second:02}", **more}


@pytest.mark.fault(37)
@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
async def test_a_call_listed_twice_in_a_page_is_delivered_once(order, open_session):
    """Given a page with an id twice, when a stream is read, then the last one is delivered, and the other is counted."""
    rows = [row(1, 1), row(2, 2, node_name="old"), row(3, 2), row(2, 2, node_name="new"), row(4, 5)]
    transport = ListTransport(rows)
    async with open_session(transport=transport) as insights:
        stream = insights.stream(START, END, order=order)
        calls = await stream.collect()
    assert [call.id for call in calls] == ([1, 2, 3, 4] if order.endswith("ASC") else [4, 3, 2, 1])
    assert next(call.node_name for call in calls if call.id == 2) == "new"
    assert stream.stats.duplicates_dropped == 1
    assert stream.stats.calls == 4


@pytest.mark.fault(38)
@pytest.mark.parametrize("bad", [{"id": None}, {"id": ""}, {}], ids=["null", "empty", "missing"])
async def test_a_record_without_an_id_is_raised_or_skipped(bad, open_session):
    """Given a record without an id, when a stream is read, then it is raised with its index, or skipped and counted."""
    rows = [row(1, 1), {"call_start": "2024-01-02 10:00:02", **bad}, row(3, 3)]
    async with open_session(transport=ListTransport(rows)) as insights:
        with pytest.raises(RecordError) as caught:
            await insights.stream(START, END).collect()
        assert caught.value.index == 1
        stream = insights.stream(START, END, on_error="skip")
        assert [call.id for call in await stream.collect()] == [1, 3]
        assert stream.stats.skipped == 1


@pytest.mark.fault(44)
async def test_the_rows_of_a_page_are_chosen_by_its_bytes(open_session):
    """Given records of a few KB, when a stream is read, then after the first page, pages have about the target size."""
    sandbox = Sandbox(calls=3_000, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=2) as insights:
        async for _ in insights.stream(START, END, fields=Fields.ALL):
            pass
    row_bytes = sandbox.stats.bytes / sandbox.stats.rows
    limits = [int(parse_qs(request.query)["limit"][0]) for request in sandbox.requests]
    assert row_bytes > 1_000
    assert limits[0] == 250
    assert max(limits[1:]) * row_bytes < 1.3 * PAGE_BYTES


@pytest.mark.fault(41)
async def test_a_stream_always_sends_both_dates(open_session):
    """Given missing dates, when a stream is read, then each request has both dates."""
    transport = ListTransport([])
    async with open_session(transport=transport) as insights:
        for dates in ((), (START,), (None, END)):
            assert await insights.stream(*dates).collect() == []
    assert all({"start_date", "end_date"} <= params.keys() for params in transport.params)


@pytest.mark.fault(22)
async def test_a_wrong_address_is_reported_without_the_query(open_session):
    """Given a 404, when a page is requested, then the error has a hint, and neither query nor phone number."""
    async with RawServer(answering(http_answer(b"<html>Not Found</html>", b"404 Not Found"))) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(BadRequestError, match="Check base_url") as caught:
                await insights.page(START, END, call_origin="447598455773")
    assert "447598455773" not in str(caught.value)
    assert "response_fields" not in str(caught.value)


async def test_a_page_of_html_is_reported_without_its_text(open_session):
    """Given HTML instead of calls, when a page is requested, then the error says so, without the text."""
    async with RawServer(answering(http_answer(b"<html>Sign in, 447598455773</html>"))) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(DecodeError, match=r"HTML.*Check the address") as caught:
                await insights.page(START, END)
    assert "447598455773" not in str(caught.value)
