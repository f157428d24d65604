"""The position of a stream: continuing after any call, after an error, and only with the same query."""

import pytest

from iovox_async import Fields, QueryError, RetryPolicy, ServerError
from iovox_async._fetching.reader import StreamReader
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-03-31"


@pytest.fixture(scope="module")
def quarter():
    """Three months of calls, shared by the tests that do not change them."""
    return Sandbox(calls=4_000, start=START, end=END)


async def test_changing_a_delivered_call_does_not_change_the_position(quarter, open_session):
    """Given a caller that changes calls, when the position is read, then it is that of the last call delivered."""
    async with quarter.serve() as base_url, open_session(base_url) as insights:
        async with insights.stream(START, END) as calls:
            async for call in calls:
                call.call_start, call.id = None, 5
                if calls.stats.calls == 700:
                    break
            position = calls.position
        rest = [call.id async for call in insights.stream(resume=position)]
    assert rest == quarter.ids()[700:]


async def test_an_error_in_the_middle_is_not_wrapped_and_has_a_position(open_session):
    """Given a server that starts to fail, when a range is streamed, then the error follows the calls before it, and its position resumes there."""
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


async def test_a_stream_resumes_after_any_call(open_session):
    """Given many ties, when a stream is resumed after any call in either direction, then exactly the calls after it are delivered."""
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


async def test_a_position_is_rejected_by_another_query(open_session):
    """Given a position, when it is passed with other filters, order, fields or dates, then a QueryError is raised."""
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
        with pytest.raises(QueryError, match="must be the position of an earlier run"):
            insights.stream(START, END, resume="yesterday", call_result="ANSWERED")
        with pytest.raises(QueryError, match="ordered"):
            insights.stream(START, END, resume=position, call_result="ANSWERED", ordered=False)
        rest = [call.id async for call in insights.stream(resume=position, call_result="ANSWERED")]
        assert rest == sandbox.ids(call_result="ANSWERED")[1:]


async def test_a_position_that_another_thread_reads_is_never_ahead(open_session, monkeypatch):
    """Given a step that makes calls ready, when the position is read in between, then none of them counts as delivered."""
    sandbox, positions = Sandbox(calls=30, start=START, end=END), set()
    set_attribute = StreamReader.__setattr__

    def set_and_read(reader, name, value):
        set_attribute(reader, name, value)
        positions.add(reader.position())

    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        async with insights.stream(START, END) as calls:
            iterator, start = aiter(calls), calls.position
            with monkeypatch.context() as patched:
                patched.setattr(StreamReader, "__setattr__", set_and_read)
                first = await anext(iterator)
    assert first.id == sandbox.ids()[0]
    assert positions == {start}
