"""OpenTelemetry integration: spans and metrics for streams and requests.

::

    from iovox_async.integrations.otel import OpenTelemetryObserver

    async with AsyncInsights(observer=OpenTelemetryObserver()) as insights: ...

Spans: `iovox.stream`, a child of the span that is current where the stream is first read, and its child
`GET /calls/insights` for each request. Metrics: `iovox.request.duration` (s), `iovox.retries`, `iovox.windows`, `iovox.rows`,
`iovox.response.size` (By), `iovox.calls` (delivered), `iovox.stream.duration` (s), `iovox.streams` (open).
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
    """An `Observer` that records spans and metrics; several clients may share it.

    Args:
        tracer_provider: None for the global one.
        meter_provider: None for the global one.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(NAME, meter_provider=meter_provider)
        self._spans: dict[int, Span] = {}
        self._request_seconds = meter.create_histogram("iovox.request.duration", "s", "Duration of requests.")
        self._stream_seconds = meter.create_histogram(
            "iovox.stream.duration", "s", "Duration of streams, including the time of their reader."
        )
        self._retries = meter.create_counter("iovox.retries", "{retry}", "Retries of requests.")
        self._windows = meter.create_counter("iovox.windows", "{window}", "Pages accepted into a stream.")
        self._rows = meter.create_counter("iovox.rows", "{call}", "Rows in responses.")
        self._bytes = meter.create_counter(
            "iovox.response.size", "By", "Bytes of response bodies, as transferred."
        )
        self._calls = meter.create_counter("iovox.calls", "{call}", "Calls delivered by streams.")
        self._open = meter.create_up_down_counter("iovox.streams", "{stream}", "Open streams.")

    def on_stream_started(self, event: StreamStarted) -> None:
        """Starts the stream's span."""
        self._open.add(1)
        self._spans[event.stream] = self._tracer.start_span(
            "iovox.stream",
            attributes={
                "iovox.start": event.start.isoformat(),
                "iovox.end": event.end.isoformat(),
                "iovox.paging": event.paging,
                "iovox.fields": event.field_count,
                "iovox.resumed": event.resumed,
            },
        )

    def on_request_finished(self, event: RequestFinished) -> None:
        """Records the request's span, duration and size."""
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
        # The stream's span is passed explicitly: it is not the current one, so that the reader's own spans are no children of it.
        span = self._tracer.start_span(
            "GET /calls/insights",
            None if parent is None else trace.set_span_in_context(parent),
            SpanKind.CLIENT,
            attributes,
            start_time=end - int(event.duration * 1e9),
        )
        # A cancelled request is not an error.
        if event.error not in {None, "CancelledError"}:
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end(end)

    def on_retry(self, event: RetryScheduled) -> None:
        """Counts a retry, and adds an event to the stream's span."""
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
        """Counts an accepted page."""
        self._windows.add(1)

    def on_stream_finished(self, event: StreamFinished) -> None:
        """Ends the stream's span."""
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
