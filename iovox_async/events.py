"""Events of requests and streams, for `AsyncInsights(observer=...)`.

The same events are logged under the name `iovox_async`: start and end of a stream and each retry at INFO, each page at DEBUG. The
environment variable `IOVOX_LOG=info` (or debug, warning, error) shows the log on stderr.

Invariants:

- No event and no log line contains the value of a filter, since it may be a phone number.
- An exception in an observer is logged once, and affects nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from datetime import datetime


__all__ = [
    "BaseObserver",
    "Observer",
    "PageAccepted",
    "RequestFinished",
    "RetryScheduled",
    "StreamFinished",
    "StreamStarted",
]


Outcome = Literal["complete", "abandoned", "failed"]


@frozen
class StreamStarted:
    """A stream is about to send its first request.

    Attributes:
        stream: the stream's number in this process; all its events have it.
        start: first second of the range.
        end: last second of the range.
        paging: "windows" or "pages".
        field_count: number of requested fields.
        resumed: the stream continues an earlier one.
    """

    stream: int
    start: datetime
    end: datetime
    paging: Literal["windows", "pages"]
    field_count: int
    resumed: bool


@frozen
class RequestFinished:
    """An attempt has ended. A request that is sent three times produces three events.

    Attributes:
        stream: the stream's number; None for `page` and `get`.
        window: first and last second requested; None for `page` and `get`.
        page: the page number requested; None for `page` and `get`.
        attempt: the number of the attempt, from 1.
        duration: seconds.
        status: the HTTP status; None if there is no response, or none that can be decoded.
        rows: rows in the response.
        bytes: size of the response as received, before decompression.
        error: the name of the error's class ("CancelledError" if the attempt was cancelled), or None.
    """

    stream: int | None
    window: tuple[datetime, datetime] | None
    page: int | None
    attempt: int
    duration: float
    status: int | None = None
    rows: int = 0
    bytes: int = 0
    error: str | None = None


@frozen
class RetryScheduled:
    """An attempt has failed and will be repeated.

    Attributes:
        stream: the stream's number; None for `page` and `get`.
        window: first and last second requested; None for `page` and `get`.
        page: the page number requested; None for `page` and `get`.
        attempt: the number of attempts so far.
        delay: seconds until the next attempt.
        error: the name of the error's class.
    """

    stream: int | None
    window: tuple[datetime, datetime] | None
    page: int | None
    attempt: int
    delay: float
    error: str


@frozen
class PageAccepted:
    """A stream has received a page and will deliver its calls.

    Attributes:
        stream: the stream's number.
        window: first and last second requested.
        page: the page number requested.
        attempts: how many times it was requested.
        rows: rows in the response.
        bytes: size of the response as received, before decompression.
    """

    stream: int
    window: tuple[datetime, datetime]
    page: int
    attempts: int
    rows: int
    bytes: int


@frozen
class StreamFinished:
    """A stream and all its requests have ended.

    Attributes:
        stream: the stream's number.
        outcome: "complete", "abandoned" (it was closed before its end) or "failed".
        duration: seconds, including the time spent by the code that reads the stream.
        calls: calls delivered.
        requests: attempts sent, retries included.
        retries: how many of them were retries.
        bytes: bytes received, before decompression.
        error: the name of the error's class, or None.
    """

    stream: int
    outcome: Outcome
    duration: float
    calls: int
    requests: int
    retries: int
    bytes: int
    error: str | None = None


class Observer(Protocol):
    """The type of `AsyncInsights(observer=...)`. Methods are called in the event loop, so they must not block."""

    def on_stream_started(self, event: StreamStarted) -> None: ...
    def on_request_finished(self, event: RequestFinished) -> None: ...
    def on_retry(self, event: RetryScheduled) -> None: ...
    def on_page_accepted(self, event: PageAccepted) -> None: ...
    def on_stream_finished(self, event: StreamFinished) -> None: ...


class BaseObserver:
    """An observer that does nothing: derive from it and override the methods you need."""

    def on_stream_started(self, event: StreamStarted) -> None:
        """Called in the context of the code that reads the stream."""

    def on_request_finished(self, event: RequestFinished) -> None:
        """Called after each attempt."""

    def on_retry(self, event: RetryScheduled) -> None:
        """Called before the wait for the next attempt."""

    def on_page_accepted(self, event: PageAccepted) -> None:
        """Called once for each page of a stream."""

    def on_stream_finished(self, event: StreamFinished) -> None:
        """Called after all requests of the stream have ended."""
