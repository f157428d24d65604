"""Observability: the log, the observer, and OpenTelemetry, all told of real streams."""

import asyncio
import importlib
import io
import logging
import sys
from datetime import datetime

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from iovox_async import (
    AsyncInsights,
    ConfigurationError,
    Fields,
    MissingExtraError,
    RetryPolicy,
    ServerError,
    TransportError,
)
from iovox_async._telemetry import Telemetry, enable_logging
from iovox_async.events import BaseObserver, Observer, RequestFinished, RetryScheduled, StreamFinished
from iovox_async.integrations.otel import OpenTelemetryObserver
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-03-31"
#: A number that the queries below filter by.
NUMBER = "447700900123"
FAST = RetryPolicy(max_attempts=8, initial_backoff=0.001)


class Notes(BaseObserver):
    """Keeps every event."""

    def __init__(self):
        self.events = []

    def named(self, name):
        return [event for event in self.events if type(event).__name__ == name]

    on_stream_started = on_request_finished = retry = on_page_accepted = on_stream_finished = (
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
    """The package's logger, as it was before."""
    logger = logging.getLogger("iovox_async")
    before = logger.level, list(logger.handlers), logger.propagate
    yield logger
    logger.level, logger.handlers[:], logger.propagate = before
    logger.setLevel(before[0])


# The observer.


async def test_an_observer_is_told_of_a_whole_stream(session):
    """Begin, requests, windows and end add up to what the stream and the server counted."""
    notes = Notes()
    async with session(observer=notes) as insights, insights.stream(START, END, page_size=100) as calls:
        found = await calls.collect()
        stats = calls.stats
    (begun,), (done,) = notes.named("StreamStarted"), notes.named("StreamFinished")
    requests, windows = notes.named("RequestFinished"), notes.named("PageAccepted")
    assert notes.events[0] is begun
    assert notes.events[-1] is done
    assert (begun.start, begun.end) == (datetime(2024, 1, 1), datetime(2024, 3, 31, 23, 59, 59))
    assert (begun.windows, begun.resumed, begun.fields) == (True, False, len(Fields.DEFAULT))
    assert (done.outcome, done.error) == ("complete", None)
    assert (done.calls, done.requests, done.retries, done.bytes) == (
        len(found),
        stats.requests,
        stats.retries,
        stats.bytes_received,
    )
    assert len(requests) == len(windows) == stats.requests == session.sandbox.stats.requests
    assert {(event.status, event.error, event.attempt) for event in requests} == {(200, None, 1)}
    assert sum(event.rows for event in requests) == sum(event.rows for event in windows) >= 500
    assert sum(event.bytes for event in requests) == stats.bytes_received
    assert all(event.seconds > 0 and event.window and event.page == 1 for event in requests)
    assert {event.stream for event in notes.events} == {begun.stream}


async def test_an_observer_is_told_of_each_try(session):
    """A request that fails twice ends three times, and was tried again twice."""
    notes = Notes()
    async with session(Faults(fail_first=2, kinds="500"), observer=notes) as insights:
        await insights.page(START, END)
    assert [(event.attempt, event.status, event.error) for event in notes.named("RequestFinished")] == [
        (1, 500, "ServerError"),
        (2, 500, "ServerError"),
        (3, 200, None),
    ]
    assert [(event.stream, event.attempt, event.error) for event in notes.named("RetryScheduled")] == [
        (None, 1, "ServerError"),
        (None, 2, "ServerError"),
    ]
    assert all(event.delay >= 0 for event in notes.named("RetryScheduled"))


@pytest.mark.parametrize("way", ["break", "error", "resume"])
async def test_an_observer_is_told_how_a_stream_ended(session, way):
    """Left, failed or complete, once."""
    notes = Notes()
    faults = Faults(fail_after=2) if way == "error" else None
    async with session(faults, observer=notes, retry=RetryPolicy(max_attempts=1)) as insights:
        if way == "error":
            with pytest.raises(ServerError):
                await insights.stream(START, END, page_size=100).collect()
        else:
            async with insights.stream(START, END, page_size=100) as calls:
                async for _ in calls:
                    break
                position = calls.position
        if way == "resume":
            notes.events.clear()
            await insights.stream(START, END, page_size=100, resume=position).collect()
    (begun,), (done,) = notes.named("StreamStarted"), notes.named("StreamFinished")
    assert notes.events[-1] is done, "requests that are given up are told before the stream's end"
    assert begun.resumed is (way == "resume")
    assert (done.outcome, done.error) == {
        "break": ("left", None),
        "error": ("failed", "ServerError"),
        "resume": ("complete", None),
    }[way]


async def test_a_stream_that_asks_for_nothing_says_nothing(session):
    """No request, no event."""
    notes = Notes()
    async with session(observer=notes) as insights:
        async with insights.stream(START, END):
            pass
        assert await insights.stream(START, END, max_calls=0).collect() == []
    assert notes.events == []


async def test_a_request_that_is_given_up_is_told_as_such(session):
    """Cancellation ends a request, and is no fault of the server."""
    notes = Notes()
    async with session(Faults(fail_after=0, kinds="hang"), observer=notes) as insights:
        task = asyncio.create_task(insights.page(START, END))
        async with asyncio.timeout(5):
            while not session.sandbox.stats.active_requests:
                await asyncio.sleep(0.002)
            task.cancel()
            await asyncio.wait([task])
            while not notes.events:
                await asyncio.sleep(0.002)
    (event,) = notes.named("RequestFinished")
    assert (event.status, event.error) == (None, "CancelledError")


async def test_an_observer_that_fails_changes_nothing_and_is_reported_once(session, caplog):
    """A fault in the metrics must not cost data."""

    class Broken(BaseObserver):
        def on_request_finished(self, event):
            raise ZeroDivisionError

    async with session(observer=Broken()) as insights:
        calls = await insights.stream(START, END, page_size=50).collect()
    assert [call.id for call in calls] == session.sandbox.ids()
    assert caplog.text.count("the observer failed in") == 1
    assert "Broken.on_request_finished" in caplog.text


async def test_no_event_and_no_line_holds_a_phone_number_or_the_key(session, caplog):
    """Whatever is filtered by, whatever goes wrong, on every level."""
    notes = Notes()
    caplog.set_level(logging.DEBUG, "iovox_async")
    faults = Faults(fail_first=3, kinds=["500", "reset", "garbage"])
    async with session(faults, observer=notes) as insights:
        await insights.stream(START, END, iovox_number=NUMBER, link_id="c-4711", page_size=100).collect()
    said = caplog.text + repr(notes.events)
    assert notes.named("RetryScheduled")
    for secret in (NUMBER, "demo-key", "c-4711"):
        assert secret not in said


def test_the_null_observer_is_one():
    """So is whatever derives from it; what lacks a method is none."""
    assert isinstance(BaseObserver(), Observer)
    assert isinstance(OpenTelemetryObserver(), Observer)
    assert not isinstance(object(), Observer)
    for name in (
        "on_stream_started",
        "on_request_finished",
        "retry",
        "on_page_accepted",
        "on_stream_finished",
    ):
        assert getattr(BaseObserver(), name)(None) is None


async def test_without_an_observer_nothing_is_measured():
    """No observer, no clock."""

    def clock():
        raise AssertionError

    async def work():
        return "a page"

    watch = Telemetry(clock=clock)
    assert await watch.track_request(work()) == "a page"
    watch.retry_scheduled(1, 0.5, ServerError(500))
    watch.page_accepted("a .. b", 1, attempts=1, answer=None)
    watch.stream_finished(None, complete=True, error=None)


# The log.


async def test_a_run_is_told_at_info_and_its_pages_at_debug(session, caplog):
    """Begin, retries and end for who runs it; pages for who looks for a fault."""
    caplog.set_level(logging.DEBUG, "iovox_async")
    async with session(Faults(fail_first=1), page_size=100) as insights:
        await insights.stream(START, END).collect()
    info = [record.message for record in caplog.records if record.levelno == logging.INFO]
    debug = [record.message for record in caplog.records if record.levelno == logging.DEBUG]
    assert (
        f"begun: 2024-01-01 00:00:00 to 2024-03-31 23:59:59, {len(Fields.DEFAULT)} fields, by windows"
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
def test_iovox_log_shows_the_log_once(log, monkeypatch, capsys, word, level):
    """However many sessions a program makes, each line comes once, on stderr as it is at that moment."""
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


def test_iovox_log_adds_no_handler_to_a_program_that_has_its_own(log):
    """Each line would come twice."""
    log.addHandler(own := logging.NullHandler())
    enable_logging({"IOVOX_LOG": "debug"})
    assert log.handlers == [own]
    assert log.level == logging.DEBUG


def test_without_iovox_log_nothing_is_touched(log):
    """A library leaves the log to its program."""
    level, handlers = log.level, list(log.handlers)
    enable_logging({})
    enable_logging({"IOVOX_LOG": " "})
    assert (log.level, log.handlers) == (level, handlers)


def test_iovox_log_with_another_word_says_which_there_are(log):
    """A slip is found at once, and not when the log is needed."""
    with pytest.raises(ConfigurationError, match="IOVOX_LOG: one of debug, info, warning, error"):
        enable_logging({"IOVOX_LOG": "verbose"})


# OpenTelemetry.


class CollectedTelemetry:
    """The SDK, with everything kept in memory."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.observer = OpenTelemetryObserver(self.tracers, self.meters)

    def spans(self, name):
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def metrics(self):
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def close(self):
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def telemetry():
    """The SDK, with everything kept in memory."""
    telemetry = CollectedTelemetry()
    yield telemetry
    telemetry.close()


async def test_a_stream_is_a_span_and_so_is_each_of_its_requests(session, telemetry):
    """Requests hang below their stream, and the stream below what the reader was doing."""
    tracer = telemetry.tracers.get_tracer("a program")
    async with session(observer=telemetry.observer) as insights:
        with tracer.start_as_current_span("a report") as report:
            await insights.stream(START, END, page_size=100).collect()
    (stream,), requests = telemetry.spans("iovox.stream"), telemetry.spans("GET /calls/insights")
    assert stream.parent.span_id == report.get_span_context().span_id
    assert stream.attributes["iovox.outcome"] == "complete"
    assert stream.attributes["iovox.calls"] == 500
    assert stream.attributes["iovox.requests"] == len(requests) == session.sandbox.stats.requests
    assert {request.parent.span_id for request in requests} == {stream.context.span_id}
    assert {request.attributes["http.response.status_code"] for request in requests} == {200}
    # The two clocks may differ by a little.
    assert all(request.start_time >= stream.start_time - 5_000_000 for request in requests)
    assert all(request.start_time < request.end_time <= stream.end_time for request in requests)
    assert stream.status.status_code is StatusCode.UNSET


async def test_metrics_count_what_the_server_counted(session, telemetry):
    """Requests by status, retries by error, calls, rows, bytes, and how many streams are open."""
    async with session(Faults(every_nth=3), observer=telemetry.observer) as insights:
        async with insights.stream(START, END, page_size=100) as calls:
            async for _ in calls:
                break
            opened = telemetry.metrics()["iovox.streams"][0].value
            found = 1 + len(await calls.collect())
            stats = calls.stats
    metrics, server = telemetry.metrics(), session.sandbox.stats
    by_status = {
        point.attributes["http.response.status_code"]: point.count
        for point in metrics["iovox.request.duration"]
    }
    assert by_status == {200: server.answered, 500: server.failed}
    (retries,) = metrics["iovox.retries"]
    assert (retries.value, retries.attributes) == (stats.retries, {"error.type": "ServerError"})
    totals = {name: points[0].value for name, points in metrics.items() if hasattr(points[0], "value")}
    assert totals["iovox.calls"] == found == 500
    assert totals["iovox.rows"] == server.rows
    assert totals["iovox.windows"] == server.answered
    assert totals["iovox.response.size"] == stats.bytes_received
    assert (opened, totals["iovox.streams"]) == (1, 0)
    assert [point.count for point in metrics["iovox.stream.duration"]] == [1]


async def test_a_failure_is_an_error_in_both_spans_with_its_retries(session, telemetry):
    """A trace tells what was tried, and what it came to."""
    faults = Faults(fail_after=1, kinds="reset")
    async with session(faults, observer=telemetry.observer, retry=RetryPolicy(2, 0.001)) as insights:
        with pytest.raises(TransportError):
            await insights.stream(START, END, page_size=100).collect()
    (stream,) = telemetry.spans("iovox.stream")
    failed = [span for span in telemetry.spans("GET /calls/insights") if "error.type" in span.attributes]
    assert stream.status.status_code is StatusCode.ERROR
    assert stream.attributes["error.type"] == "TransportError"
    assert stream.attributes["iovox.outcome"] == "failed"
    assert stream.events[0].name == "retry"
    assert stream.events[0].attributes["error.type"] == "TransportError"
    errors = [span for span in failed if span.attributes["error.type"] == "TransportError"]
    assert {span.status.status_code for span in errors} == {StatusCode.ERROR}
    assert {span.attributes.get("http.request.resend_count") for span in errors} == {None, 1}


async def test_a_single_request_is_a_span_of_its_own(session, telemetry):
    """`page` and `get` belong to no stream."""
    async with session(observer=telemetry.observer) as insights:
        await insights.get(session.sandbox.ids()[0])
    (request,) = telemetry.spans("GET /calls/insights")
    assert request.parent is None
    assert request.attributes["iovox.rows"] == 1
    assert telemetry.spans("iovox.stream") == []


def test_what_was_given_up_is_no_error(telemetry):
    """A trace full of red for browsers that left would be read by nobody."""
    telemetry.observer.on_request_finished(RequestFinished(None, None, None, 1, 0.25, error="CancelledError"))
    (request,) = telemetry.spans("GET /calls/insights")
    assert request.status.status_code is StatusCode.UNSET
    assert request.attributes["error.type"] == "CancelledError"
    assert 0.24e9 < request.end_time - request.start_time < 0.26e9


def test_events_of_a_stream_whose_begin_was_missed_do_no_harm(telemetry):
    """They are counted, and belong to no span."""
    telemetry.observer.retry(RetryScheduled(-1, None, None, 1, 0.5, "RequestTimeout"))
    telemetry.observer.on_stream_finished(StreamFinished(-1, "left", 1.0, 7, 2, 1, 100))
    assert telemetry.exporter.get_finished_spans() == ()
    assert telemetry.metrics()["iovox.calls"][0].value == 7


def test_without_opentelemetry_the_message_holds_the_cure(monkeypatch):
    """One sentence, with the line that installs it."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "iovox_async.integrations.otel")
    with pytest.raises(MissingExtraError, match=r'pip install "iovox-async\[otel\]"'):
        importlib.import_module("iovox_async.integrations.otel")


async def test_no_span_and_no_metric_holds_a_phone_number(session, telemetry):
    """CollectedTelemetry leaves the house."""
    async with session(observer=telemetry.observer) as insights:
        await insights.stream(START, END, iovox_number=NUMBER).collect()
    said = "".join(span.to_json() for span in telemetry.exporter.get_finished_spans())
    said += telemetry.reader.get_metrics_data().to_json()
    assert "iovox.stream" in said
    assert NUMBER not in said
    assert "demo" not in said
