"""Tests of the OpenTelemetry observer with real streams."""

import importlib
import sys

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from iovox_async import (
    AsyncInsights,
    MissingExtraError,
    RetryPolicy,
    TransportError,
)
from iovox_async.events import RequestFinished, RetryScheduled, StreamFinished
from iovox_async.integrations.otel import OpenTelemetryObserver
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-03-31"
#: A number that the queries below filter by.
NUMBER = "447700900123"
FAST = RetryPolicy(max_attempts=8, initial_backoff=0.001)


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


class CollectedTelemetry:
    """The OpenTelemetry SDK with exporters in memory."""

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
    """The OpenTelemetry SDK with exporters in memory."""
    telemetry = CollectedTelemetry()
    yield telemetry
    telemetry.close()


async def test_a_stream_is_a_span_with_a_child_for_each_request(session, telemetry):
    """Given a tracer, when a stream is read, then its span is a child of the current one, and parent of its requests'."""
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


async def test_metrics_agree_with_the_server(session, telemetry):
    """Given a meter, when a stream is read, then requests, retries, calls, rows and bytes are those of the server."""
    async with session(Faults(every_nth=3), observer=telemetry.observer) as insights:
        async with insights.stream(START, END, page_size=100) as calls:
            async for _ in calls:
                break
            opened = telemetry.metrics()["iovox.streams"][0].value
            delivered = 1 + len(await calls.collect())
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
    assert totals["iovox.calls"] == delivered == 500
    assert totals["iovox.rows"] == server.rows
    assert totals["iovox.windows"] == server.answered
    assert totals["iovox.response.size"] == stats.bytes_received
    assert (opened, totals["iovox.streams"]) == (1, 0)
    assert [point.count for point in metrics["iovox.stream.duration"]] == [1]


async def test_a_failure_is_an_error_in_both_spans(session, telemetry):
    """Given a lasting fault, when a stream is read, then the spans of request and stream have the error, and the retry is an event."""
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


async def test_a_single_request_is_a_root_span(session, telemetry):
    """Given no stream, when a call is requested by id, then its span has no parent."""
    async with session(observer=telemetry.observer) as insights:
        await insights.get(session.sandbox.ids()[0])
    (request,) = telemetry.spans("GET /calls/insights")
    assert request.parent is None
    assert request.attributes["iovox.rows"] == 1
    assert telemetry.spans("iovox.stream") == []


def test_a_cancelled_request_is_not_an_error_span(telemetry):
    """Given a cancelled request, when its event is recorded, then the span's status is unset."""
    telemetry.observer.on_request_finished(RequestFinished(None, None, None, 1, 0.25, error="CancelledError"))
    (request,) = telemetry.spans("GET /calls/insights")
    assert request.status.status_code is StatusCode.UNSET
    assert request.attributes["error.type"] == "CancelledError"
    assert 0.24e9 < request.end_time - request.start_time < 0.26e9


def test_events_of_an_unknown_stream_are_only_counted(telemetry):
    """Given events of a stream whose start was missed, when they are recorded, then there is no span, and metrics count."""
    telemetry.observer.on_retry(RetryScheduled(-1, None, None, 1, 0.5, "RequestTimeout"))
    telemetry.observer.on_stream_finished(StreamFinished(-1, "abandoned", 1.0, 7, 2, 1, 100))
    assert telemetry.exporter.get_finished_spans() == ()
    assert telemetry.metrics()["iovox.calls"][0].value == 7


def test_without_opentelemetry_the_error_has_a_hint(monkeypatch):
    """Given no opentelemetry package, when the integration is imported, then the error names the command that installs it."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "iovox_async.integrations.otel")
    with pytest.raises(MissingExtraError, match=r'pip install "iovox-async\[otel\]"'):
        importlib.import_module("iovox_async.integrations.otel")


async def test_no_span_and_no_metric_contains_a_filter_value(session, telemetry):
    """Given a filter by phone number, when a stream is read, then no span and no metric contains it."""
    async with session(observer=telemetry.observer) as insights:
        await insights.stream(START, END, iovox_number=NUMBER).collect()
    text = "".join(span.to_json() for span in telemetry.exporter.get_finished_spans())
    text += telemetry.reader.get_metrics_data().to_json()
    assert "iovox.stream" in text
    assert NUMBER not in text
    assert "demo" not in text
