"""What a session tells of itself: a log for people, events for machines.

The law of this room: it only listens. No event and no line holds a value of a filter, so no phone number gets out; and
an observer that fails is reported once and changes nothing.

The log is the standard one, under the name `iovox_async`: a run's begin and end and each retry at INFO, each page at
DEBUG. IOVOX_LOG=info (or debug, warning, error) shows it on stderr. An `Observer` gets the same as values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

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
        stream: its number in this process; the events that follow carry it.
        start: the first second of its range.
        end: the last.
        paging: "windows" or "pages": how it reads the range.
        field_count: how many fields it asks for.
        resumed: whether it goes on where another stream stood.
    """

    stream: int
    start: datetime
    end: datetime
    paging: Literal["windows", "pages"]
    field_count: int
    resumed: bool


@frozen
class RequestFinished:
    """One exchange has ended; a request that is tried three times ends three times.

    Attributes:
        stream: the stream it was for; None for `page` and `get`.
        window: the stretch of time that was asked for, as `start .. end`, or None.
        page: the number of the page that was asked for, or None.
        attempt: which try it was, from 1.
        duration: how long it took.
        status: the HTTP status; None if no answer came, or none that could be read.
        rows: the rows in the answer.
        bytes: the bytes of the answer, as they came over the wire.
        error: what went wrong, as the name of the error ("CancelledError" where it was given up); None if nothing did.
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
    """A request failed and will be tried again.

    Attributes:
        stream: the stream it is for; None for `page` and `get`.
        window: the stretch of time that is asked for, as `start .. end`, or None.
        page: the number of the page that is asked for, or None.
        attempt: how often it was tried so far.
        delay: seconds until it is tried again.
        error: what went wrong, as the name of the error.
    """

    stream: int | None
    window: tuple[datetime, datetime] | None
    page: int | None
    attempt: int
    delay: float
    error: str


@frozen
class PageAccepted:
    """An answer has found its place in a stream.

    Attributes:
        stream: the stream.
        window: the stretch of time that was asked for, as `start .. end`.
        page: the number of the page that was asked for.
        attempts: how often it was tried.
        rows: the rows in the answer.
        bytes: the bytes of the answer, as they came over the wire.
    """

    stream: int
    window: tuple[datetime, datetime]
    page: int
    attempts: int
    rows: int
    bytes: int


@frozen
class StreamFinished:
    """A stream has ended, and with it all its requests.

    Attributes:
        stream: its number.
        outcome: "complete", "abandoned" (its reader left early), or "failed".
        duration: how long it took, its reader's time included.
        calls: calls handed out.
        requests: requests sent, each attempt counted.
        retries: how many of them were repeats.
        bytes: bytes received, as they came over the wire.
        error: what ended it, as the name of the error, or None.
    """

    stream: int
    outcome: Outcome
    duration: float
    calls: int
    requests: int
    retries: int
    bytes: int
    error: str | None = None


@runtime_checkable
class Observer(Protocol):
    """What `AsyncInsights(observer=...)` takes. Called in the event loop: return quickly, and never block."""

    def on_stream_started(self, event: StreamStarted) -> None:
        """A stream is about to send its first request; called in the context of its reader."""

    def on_request_finished(self, event: RequestFinished) -> None:
        """One exchange has ended."""

    def on_retry(self, event: RetryScheduled) -> None:
        """A request failed and will be tried again."""

    def on_page_accepted(self, event: PageAccepted) -> None:
        """An answer has found its place in a stream."""

    def on_stream_finished(self, event: StreamFinished) -> None:
        """A stream has ended."""


class BaseObserver:
    """An observer that does nothing: derive from it, and write only the methods you need."""

    def on_stream_started(self, event: StreamStarted) -> None:
        """Does nothing."""

    def on_request_finished(self, event: RequestFinished) -> None:
        """Does nothing."""

    def on_retry(self, event: RetryScheduled) -> None:
        """Does nothing."""

    def on_page_accepted(self, event: PageAccepted) -> None:
        """Does nothing."""

    def on_stream_finished(self, event: StreamFinished) -> None:
        """Does nothing."""
