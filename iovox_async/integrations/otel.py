"""OpenTelemetry: a span a stream, a span a request, and metrics of both.

The law of this room: it turns events into OpenTelemetry's words and keeps nothing but the spans that are open.

::

    from iovox_async.integrations.otel import OpenTelemetryObserver

    async with AsyncInsights(observer=OpenTelemetryObserver()) as insights: ...

Spans: `iovox.stream`, a child of what is current where the stream is first read, and `GET /calls/insights` below it.
Metrics: `iovox.request.duration` (s), `iovox.retries`, `iovox.windows`, `iovox.rows`, `iovox.response.size` (By),
`iovox.calls` (handed out), `iovox.stream.duration` (s), `iovox.streams` (open now).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iovox_async.errors import MissingExtraError, format_window

try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as _error:
    raise MissingExtraError("iovox_async.integrations.otel", "otel") from _error

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from iovox_async.events import (
        PageAccepted,
        RequestFinished,
        RetryScheduled,
        StreamFinished,
        StreamStarted,
    )

__all__ = ["OpenTelemetryObserver"]

NAME = "iovox_async"


class OpenTelemetryObserver:
    """An `Observer` that writes spans and metrics; one may serve several sessions.

    Args:
        tracer_provider: else the global one.
        meter_provider: else the global one.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(NAME, meter_provider=meter_provider)
        self._spans: dict[int, Span] = {}
        self._request_seconds = meter.create_histogram(
            "iovox.request.duration", "s", "How long an exchange took."
        )
        self._stream_seconds = meter.create_histogram(
            "iovox.stream.duration", "s", "How long a stream took, its reader's time included."
        )
        self._retries = meter.create_counter("iovox.retries", "{retry}", "Requests that were tried again.")
        self._windows = meter.create_counter(
            "iovox.windows", "{window}", "Answers that found their place in a stream."
        )
        self._rows = meter.create_counter("iovox.rows", "{call}", "Rows in answers.")
        self._bytes = meter.create_counter("iovox.response.size", "By", "Bytes of answers, over the wire.")
        self._calls = meter.create_counter("iovox.calls", "{call}", "Calls handed out by streams.")
        self._open = meter.create_up_down_counter("iovox.streams", "{stream}", "Streams open now.")

    def on_stream_started(self, event: StreamStarted) -> None:
        """Opens the stream's span."""
        self._open.add(1)
        self._spans[event.stream] = self._tracer.start_span(
            "iovox.stream",
            attributes={
                "iovox.start": event.start.isoformat(),
                "iovox.end": event.end.isoformat(),
                "iovox.paging": "windows" if event.paging else "pages",
                "iovox.fields": event.field_count,
                "iovox.resumed": event.resumed,
            },
        )

    def on_request_finished(self, event: RequestFinished) -> None:
        """Writes the request's span, its time and its size."""
        end = time.time_ns()
        labels: dict[str, str | int] = {"http.request.method": "GET"}
        if event.status is not None:
            labels["http.response.status_code"] = event.status
        if event.error is not None:
            labels["error.type"] = event.error
        self._request_seconds.record(event.duration, labels)
        self._rows.add(event.rows)
        self._bytes.add(event.bytes)
        attributes = {**labels, "iovox.rows": event.rows, "http.response.body.size": event.bytes}
        if event.attempt > 1:
            attributes["http.request.resend_count"] = event.attempt - 1
        if event.window is not None:
            attributes["iovox.window"] = format_window(event.window)
        if event.page is not None:
            attributes["iovox.page"] = event.page
        parent = self._spans.get(event.stream) if event.stream is not None else None
        # Its parent is the stream's span, which is nobody's current one: a reader's own work is no part of it.
        span = self._tracer.start_span(
            "GET /calls/insights",
            None if parent is None else trace.set_span_in_context(parent),
            SpanKind.CLIENT,
            attributes,
            start_time=end - int(event.duration * 1e9),
        )
        # What was given up on purpose is no fault.
        if event.error not in {None, "CancelledError"}:
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end(end)

    def on_retry(self, event: RetryScheduled) -> None:
        """Counts a retry, and notes it in the stream's span."""
        self._retries.add(1, {"error.type": event.error})
        if event.stream in self._spans:
            self._spans[event.stream].add_event(
                "retry",
                {
                    "error.type": event.error,
                    "iovox.attempt": event.attempt,
                    "iovox.delay": event.delay,
                    "iovox.window": format_window(event.window) if event.window else "",
                },
            )

    def on_page_accepted(self, event: PageAccepted) -> None:  # noqa: ARG002 - the observer's signature
        """Counts an answer that found its place."""
        self._windows.add(1)

    def on_stream_finished(self, event: StreamFinished) -> None:
        """Closes the stream's span."""
        self._open.add(-1)
        self._calls.add(event.calls)
        labels: dict[str, str] = {"iovox.outcome": event.outcome}
        if event.error is not None:
            labels["error.type"] = event.error
        self._stream_seconds.record(event.duration, labels)
        span = self._spans.pop(event.stream, None)
        if span is None:
            return
        span.set_attributes(
            {
                **labels,
                "iovox.calls": event.calls,
                "iovox.requests": event.requests,
                "iovox.retries": event.retries,
                "iovox.bytes": event.bytes,
            }
        )
        if event.error is not None:
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end()
