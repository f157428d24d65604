"""A blocking session that one thread closes while another one uses it."""

import pytest
from support.sandbox import shared_sandbox
from support.waiting import start_meanwhile

from iovox_async.blocking import Insights
from iovox_async.blocking._thread import LoopThread

served, sandbox = shared_sandbox(calls=50)
RANGE = ("2024-01-01", "2024-03-31")


@pytest.fixture
def insights(served, sandbox, monkeypatch):
    """A session that another thread closes right after a check whether it is open."""
    insights = Insights("demo", "demo-key", base_url=served[1])
    insights.page(*RANGE, page_size=1)  # starts its thread
    is_running = LoopThread.is_running

    @property
    def then_closed(thread):
        open_before = is_running.fget(thread)
        if open_before:
            start_meanwhile(insights.close).join()
        return open_before

    monkeypatch.setattr(LoopThread, "is_running", then_closed)
    yield insights
    insights.close()


@pytest.mark.parametrize("method", ["stream", "follow"])
def test_what_is_closed_meanwhile_can_be_closed(insights, method):
    """Given a stream or a follower, when another thread closes the session in the same moment, then close() returns."""
    start = {"stream": RANGE, "follow": ()}[method]
    getattr(insights, method)(*start).close()


def test_the_stats_of_a_session_that_is_closed_meanwhile_can_be_read(insights):
    """Given a stream, when another thread closes the session in the same moment, then the stats are those so far."""
    assert insights.stream(*RANGE).stats.calls == 0
