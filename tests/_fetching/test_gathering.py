"""`collect` and `table` deliver all calls or nothing: neither a cancellation nor an error loses what they have read."""

import asyncio

import anyio
import pytest

from iovox_async import RetryPolicy
from iovox_async.errors import ServerError, SessionError
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-03-31"


def ids_of(result):
    return [call.id for call in result] if isinstance(result, list) else result.column("id").to_pylist()


@pytest.mark.finding("A10")
@pytest.mark.parametrize("method", ["collect", "table"])
async def test_a_cancelled_call_is_continued_by_the_next(open_session, method):
    """Given `collect` or `table`, cancelled again and again, when it is called once more, then it returns every call."""
    sandbox = Sandbox(calls=300, start=START, end=END, seed=1, faults=Faults(latency=0.005))
    async with sandbox.serve() as base_url, open_session(base_url, page_size=20, concurrency=1) as insights:
        stream = insights.stream(START, END)
        begin, cancelled, result = stream.position, 0, None

        async def cancel_after_some_calls(scope):
            seen = stream.stats.calls
            while stream.stats.calls == seen:
                await asyncio.sleep(0)
            scope.cancel()

        while result is None:
            with anyio.CancelScope() as scope:
                cancelling = asyncio.create_task(cancel_after_some_calls(scope)) if cancelled < 3 else None
                result = await getattr(stream, method)()
            if result is None:
                await cancelling
                cancelled += 1
                assert stream.position == begin
                with pytest.raises(SessionError, match="cancelled"):
                    aiter(stream) if method == "collect" else stream.arrow()
                with pytest.raises(SessionError, match="already being read as"):
                    await getattr(stream, "table" if method == "collect" else "collect")()
        assert ids_of(result) == sandbox.ids()
        assert stream.position != begin


@pytest.mark.finding("A10")
@pytest.mark.parametrize("skipped", [0, 7])
@pytest.mark.parametrize("method", ["collect", "table"])
async def test_the_position_of_an_error_is_before_what_was_not_returned(open_session, method, skipped):
    """Given a read that fails in its middle, when `collect` or `table` raises, then its position is where it began."""
    sandbox = Sandbox(calls=300, start=START, end=END, seed=1)
    options = {"page_size": 20, "concurrency": 1, "retry": RetryPolicy(max_attempts=1)}
    async with sandbox.serve() as base_url, open_session(base_url, **options) as insights:
        first = insights.stream(START, END, max_calls=skipped)
        await first.collect()
        sandbox.faults = Faults(fail_after=sandbox.stats.requests + 8)
        stream = insights.stream(START, END, resume=first.position)
        with pytest.raises(ServerError) as failure:
            await getattr(stream, method)()
        assert 0 < stream.stats.calls < 300
        assert failure.value.position == stream.position == first.position
        sandbox.faults = Faults()
        rest = await getattr(insights.stream(START, END, resume=failure.value.position), method)()
        assert ids_of(rest) == sandbox.ids()[skipped:]
