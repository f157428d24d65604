"""Tests of the log and the observer with real streams."""

import asyncio
import io
import logging
import sys
from datetime import datetime

import pytest

from iovox_async import (
    AsyncInsights,
    ConfigurationError,
    Fields,
    RetryPolicy,
    ServerError,
)
from iovox_async._telemetry import Telemetry, enable_logging
from iovox_async.events import BaseObserver
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-03-31"
#: A number that the queries below filter by.
NUMBER = "447700900123"
FAST = RetryPolicy(max_attempts=8, initial_backoff=0.001)


class RecordingObserver(BaseObserver):
    """Records every event."""

    def __init__(self):
        self.events = []

    def named(self, name):
        return [event for event in self.events if type(event).__name__ == name]

    on_stream_started = on_request_finished = on_retry = on_page_accepted = on_stream_finished = (
        lambda self, event: self.events.append(event)
    )


@pytest.fixture
def session():
    """Opens a session with a sandbox of 500 calls."""
    sandbox = Sandbox(calls=500)
    with sandbox.serve() as url:

        def make(faults=None, **options):
            sandbox.faults = faults or Faults()
            return AsyncInsights("demo", "demo-key", base_url=url, **{"retry": FAST, **options})

        make.sandbox = sandbox
        yield make


@pytest.fixture
def log():
    """The package's logger, restored after the test."""
    logger = logging.getLogger("iovox_async")
    before = logger.level, list(logger.handlers), logger.propagate
    yield logger
    logger.level, logger.handlers[:], logger.propagate = before
    logger.setLevel(before[0])


# The observer.


async def test_an_observer_gets_all_events_of_a_stream(session):
    """Given an observer, when a stream is read, then its events agree with the stats and with the server's."""
    observer = RecordingObserver()
    async with session(observer=observer) as insights, insights.stream(START, END, page_size=100) as calls:
        delivered = await calls.collect()
        stats = calls.stats
    (started,), (finished,) = observer.named("StreamStarted"), observer.named("StreamFinished")
    requests, windows = observer.named("RequestFinished"), observer.named("PageAccepted")
    assert observer.events[0] is started
    assert observer.events[-1] is finished
    assert (started.start, started.end) == (datetime(2024, 1, 1), datetime(2024, 3, 31, 23, 59, 59))
    assert (started.paging, started.resumed, started.field_count) == ("windows", False, len(Fields.DEFAULT))
    assert (finished.outcome, finished.error) == ("complete", None)
    assert (finished.calls, finished.requests, finished.retries, finished.bytes) == (
        len(delivered),
        stats.requests,
        stats.retries,
        stats.bytes_received,
    )
    assert len(requests) == len(windows) == stats.requests == session.sandbox.stats.requests
    assert {(event.status, event.error, event.attempt) for event in requests} == {(200, None, 1)}
    assert sum(event.rows for event in requests) == sum(event.rows for event in windows) >= 500
    assert sum(event.bytes for event in requests) == stats.bytes_received
    assert all(event.duration > 0 and event.window and event.page == 1 for event in requests)
    assert {event.stream for event in observer.events} == {started.stream}


async def test_an_observer_gets_an_event_for_each_attempt(session):
    """Given a request that fails twice, when a page is requested, then there are three RequestFinished and two RetryScheduled."""
    observer = RecordingObserver()
    async with session(Faults(fail_first=2, kinds="500"), observer=observer) as insights:
        await insights.page(START, END)
    assert [(event.attempt, event.status, event.error) for event in observer.named("RequestFinished")] == [
        (1, 500, "ServerError"),
        (2, 500, "ServerError"),
        (3, 200, None),
    ]
    assert [(event.stream, event.attempt, event.error) for event in observer.named("RetryScheduled")] == [
        (None, 1, "ServerError"),
        (None, 2, "ServerError"),
    ]
    assert all(event.delay >= 0 for event in observer.named("RetryScheduled"))


@pytest.mark.parametrize("way", ["break", "error", "resume"])
async def test_an_observer_gets_the_outcome_of_a_stream(session, way):
    """Given a stream that is abandoned, fails or completes, when it ends, then the last event has its outcome."""
    observer = RecordingObserver()
    faults = Faults(fail_after=2) if way == "error" else None
    async with session(faults, observer=observer, retry=RetryPolicy(max_attempts=1)) as insights:
        if way == "error":
            with pytest.raises(ServerError):
                await insights.stream(START, END, page_size=100).collect()
        else:
            async with insights.stream(START, END, page_size=100) as calls:
                async for _ in calls:
                    break
                position = calls.position
        if way == "resume":
            observer.events.clear()
            await insights.stream(START, END, page_size=100, resume=position).collect()
    (started,), (finished,) = observer.named("StreamStarted"), observer.named("StreamFinished")
    assert observer.events[-1] is finished, "requests are reported before the end of their stream"
    assert started.resumed is (way == "resume")
    assert (finished.outcome, finished.error) == {
        "break": ("abandoned", None),
        "error": ("failed", "ServerError"),
        "resume": ("complete", None),
    }[way]


async def test_a_stream_without_requests_has_no_events(session):
    """Given a stream that is never read, when it is closed, then there are no events."""
    observer = RecordingObserver()
    async with session(observer=observer) as insights:
        async with insights.stream(START, END):
            pass
        assert await insights.stream(START, END, max_calls=0).collect() == []
    assert observer.events == []


async def test_a_cancelled_request_has_a_cancelled_event(session):
    """Given a request in flight, when it is cancelled, then its event has the error CancelledError and no status."""
    observer = RecordingObserver()
    async with session(Faults(fail_after=0, kinds="hang"), observer=observer) as insights:
        task = asyncio.create_task(insights.page(START, END))
        while not session.sandbox.stats.active_requests:
            await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.wait([task])
        while not observer.events:
            await asyncio.sleep(0.002)
    (event,) = observer.named("RequestFinished")
    assert (event.status, event.error) == (None, "CancelledError")


async def test_an_exception_in_an_observer_is_logged_once(session, caplog):
    """Given an observer that raises, when a stream is read, then it is complete, and the exception is logged once."""

    class Broken(BaseObserver):
        def on_request_finished(self, event):
            raise ZeroDivisionError

    async with session(observer=Broken()) as insights:
        calls = await insights.stream(START, END, page_size=50).collect()
    assert [call.id for call in calls] == session.sandbox.ids()
    assert caplog.text.count("the observer failed in") == 1
    assert "Broken.on_request_finished" in caplog.text


async def test_no_event_and_no_log_line_contains_a_filter_value_or_the_key(session, caplog):
    """Given filters and faults, when a stream is read, then no event and no log line contains their values or the key."""
    observer = RecordingObserver()
    caplog.set_level(logging.DEBUG, "iovox_async")
    faults = Faults(fail_first=3, kinds=["500", "reset", "garbage"])
    async with session(faults, observer=observer) as insights:
        await insights.stream(START, END, iovox_number=NUMBER, link_id="c-4711", page_size=100).collect()
    text = caplog.text + repr(observer.events)
    assert observer.named("RetryScheduled")
    for secret in (NUMBER, "demo-key", "c-4711"):
        assert secret not in text


def test_the_base_observer_ignores_all_events():
    """Given a BaseObserver, when it gets an event, then it does nothing."""
    for name in (
        "on_stream_started",
        "on_request_finished",
        "on_retry",
        "on_page_accepted",
        "on_stream_finished",
    ):
        assert getattr(BaseObserver(), name)(None) is None


async def test_without_an_observer_the_clock_is_not_read():
    """Given no observer, when a request is tracked, then the clock is not read."""

    def clock():
        raise AssertionError

    async def work():
        return "a page"

    watch = Telemetry(clock=clock)
    assert await watch.track_request(work()) == "a page"
    watch.retry_scheduled(1, 0.5, ServerError(500))
    watch.page_accepted("a .. b", 1, attempts=1, response=None)
    watch.stream_finished(None, complete=True, error=None)


# The log.


async def test_streams_are_logged_at_info_and_pages_at_debug(session, caplog):
    """Given the log level DEBUG, when a stream is read, then start, retries and end are at INFO, and pages at DEBUG."""
    caplog.set_level(logging.DEBUG, "iovox_async")
    async with session(Faults(fail_first=1), page_size=100) as insights:
        await insights.stream(START, END).collect()
    info = [record.message for record in caplog.records if record.levelno == logging.INFO]
    debug = [record.message for record in caplog.records if record.levelno == logging.DEBUG]
    assert (
        f"started: 2024-01-01 00:00:00 to 2024-03-31 23:59:59, {len(Fields.DEFAULT)} fields, paging by windows"
        in info[0]
    )
    assert info[1] == "retry 1 of 7: ServerError"
    assert "complete: 500 calls" in info[-1]
    assert len(info) == 3
    assert len(debug) == session.sandbox.stats.answered


@pytest.mark.parametrize(
    ("word", "level"),
    [("debug", 10), ("INFO", 20), (" warning ", 30), ("error", 40)],
    ids=["debug", "info", "warning", "error"],
)
def test_iovox_log_adds_one_handler(log, monkeypatch, capsys, word, level):
    """Given IOVOX_LOG, when several clients are created, then each line is written once, to the current stderr."""
    log.propagate = False
    monkeypatch.setenv("IOVOX_LOG", word)
    for _ in range(3):
        AsyncInsights("demo", "demo-key", base_url="https://rest.iovox.test/rest/v1")
    assert log.level == level
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    log.log(level, "a line")
    log.log(level - 5, "a line too low")
    assert stream.getvalue().count("iovox_async: a line\n") == 1
    assert "too low" not in stream.getvalue()


def test_iovox_log_adds_no_handler_to_a_program_with_its_own(log):
    """Given a program with a log handler, when IOVOX_LOG is set, then only the level changes."""
    log.addHandler(own := logging.NullHandler())
    enable_logging({"IOVOX_LOG": "debug"})
    assert log.handlers == [own]
    assert log.level == logging.DEBUG


def test_without_iovox_log_logging_is_unchanged(log):
    """Given no IOVOX_LOG, when logging is enabled, then level and handlers are unchanged."""
    level, handlers = log.level, list(log.handlers)
    enable_logging({})
    enable_logging({"IOVOX_LOG": " "})
    assert (log.level, log.handlers) == (level, handlers)


def test_an_invalid_iovox_log_is_rejected(log):
    """Given an invalid IOVOX_LOG, when logging is enabled, then the error names the levels."""
    with pytest.raises(ConfigurationError, match="IOVOX_LOG must be one of debug, info, warning, error"):
        enable_logging({"IOVOX_LOG": "verbose"})
