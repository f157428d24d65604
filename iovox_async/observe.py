"""What a session tells of itself: a log for people, events for machines.

The law of this room: it only listens. No event and no line holds a value of a filter, so no phone number gets out; and
an observer that fails is reported once and changes nothing.

The log is the standard one, under the name `iovox_async`: a run's begin and end and each retry at INFO, each page at
DEBUG. IOVOX_LOG=info (or debug, warning, error) shows it on stderr. An `Observer` gets the same as values.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Final, Literal, Protocol, TextIO, TypeVar, runtime_checkable

from attrs import frozen

from .errors import ConfigurationError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from .errors import ExchangeError

__all__ = [
    "Observer",
    "Quiet",
    "RequestDone",
    "Retry",
    "StreamBegun",
    "StreamDone",
    "Watch",
    "WindowDone",
    "show_log",
]

E = TypeVar("E")
A = TypeVar("A", bound="Answer")
logger: logging.Logger = logging.getLogger("iovox_async")

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
Outcome = Literal["complete", "left", "failed"]


@frozen
class StreamBegun:
    """A stream is about to send its first request.

    Attributes:
        stream: its number in this process; the events that follow carry it.
        start: the first second of its range.
        end: the last.
        windows: whether it reads by windows; else by page numbers.
        fields: how many fields it asks for.
        resumed: whether it goes on where another stream stood.
    """

    stream: int
    start: datetime
    end: datetime
    windows: bool
    fields: int
    resumed: bool


@frozen
class RequestDone:
    """One exchange has ended; a request that is tried three times ends three times.

    Attributes:
        stream: the stream it was for; None for `page` and `get`.
        window: the stretch of time that was asked for, as `start .. end`, or None.
        page: the number of the page that was asked for, or None.
        attempt: which try it was, from 1.
        seconds: how long it took.
        status: the HTTP status; None if no answer came, or none that could be read.
        rows: the rows in the answer.
        bytes: the bytes of the answer, as they came over the wire.
        error: what went wrong, as the name of the error ("CancelledError" where it was given up); None if nothing did.
    """

    stream: int | None
    window: str | None
    page: int | None
    attempt: int
    seconds: float
    status: int | None = None
    rows: int = 0
    bytes: int = 0
    error: str | None = None


@frozen
class Retry:
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
    window: str | None
    page: int | None
    attempt: int
    delay: float
    error: str


@frozen
class WindowDone:
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
    window: str
    page: int
    attempts: int
    rows: int
    bytes: int


@frozen
class StreamDone:
    """A stream has ended, and with it all its requests.

    Attributes:
        stream: its number.
        outcome: "complete", "left" (its reader left early), or "failed".
        seconds: how long it took, its reader's time included.
        calls: calls handed out.
        requests: requests sent, each attempt counted.
        retries: how many of them were repeats.
        bytes: bytes received, as they came over the wire.
        error: what ended it, as the name of the error, or None.
    """

    stream: int
    outcome: Outcome
    seconds: float
    calls: int
    requests: int
    retries: int
    bytes: int
    error: str | None = None


@runtime_checkable
class Observer(Protocol):
    """What `AsyncInsights(observer=...)` takes. Called in the event loop: return quickly, and never block."""

    def stream_begun(self, event: StreamBegun) -> None:
        """A stream is about to send its first request; called in the context of its reader."""

    def request_done(self, event: RequestDone) -> None:
        """One exchange has ended."""

    def retry(self, event: Retry) -> None:
        """A request failed and will be tried again."""

    def window_done(self, event: WindowDone) -> None:
        """An answer has found its place in a stream."""

    def stream_done(self, event: StreamDone) -> None:
        """A stream has ended."""


class Quiet:
    """An observer that does nothing: derive from it, and write only the methods you need."""

    def stream_begun(self, event: StreamBegun) -> None:
        """Does nothing."""

    def request_done(self, event: RequestDone) -> None:
        """Does nothing."""

    def retry(self, event: Retry) -> None:
        """Does nothing."""

    def window_done(self, event: WindowDone) -> None:
        """Does nothing."""

    def stream_done(self, event: StreamDone) -> None:
        """Does nothing."""


class Answer(Protocol):
    """What an exchange brought: its rows, and its bytes over the wire."""

    @property
    def rows(self) -> int: ...
    @property
    def wire(self) -> int: ...


class Counts(Protocol):
    """What a stream has counted; `StreamStats` is one."""

    @property
    def calls(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def retries(self) -> int: ...
    @property
    def bytes(self) -> int: ...


_numbers = itertools.count(1)


class Watch:
    """Tells the log and an observer, if there is one, of a stream, or of a session's single requests.

    Args:
        observer: who is told, or None.
        numbered: whether it is a stream's.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        observer: Observer | None = None,
        *,
        numbered: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.observer = observer
        self.stream: int | None = next(_numbers) if numbered else None
        self._clock = clock
        self._began: float | None = None
        self._tries = 0
        self._failed = False

    def begun(self, start: datetime, end: datetime, *, windows: bool, fields: int, resumed: bool) -> None:
        """The stream is about to send its first request."""
        assert self.stream is not None
        self._began = self._clock()
        how = "windows" if windows else "page numbers"
        logger.info(
            "stream %d %s: %s to %s, %d fields, by %s",
            self.stream,
            "resumed" if resumed else "begun",
            start,
            end,
            fields,
            how,
        )
        if self.observer is not None:
            event = StreamBegun(self.stream, start, end, windows, fields, resumed)
            self._tell(self.observer.stream_begun, event)

    async def exchange(
        self,
        work: Awaitable[A],
        *,
        window: str | None = None,
        page: int | None = None,
        attempt: int | None = None,
    ) -> A:
        """Awaits one exchange, and tells how it ended; without `attempt`, each is a try of the same request."""
        if self.observer is None:
            return await work
        self._tries += 1
        attempt = self._tries if attempt is None else attempt
        began = self._clock()
        try:
            answer = await work
        except BaseException as error:
            # What may pass travels in a wrapping of its own.
            cause = getattr(error, "error", error)
            status = cause.status if isinstance(cause, ResponseError) else None
            took = self._clock() - began
            event = RequestDone(self.stream, window, page, attempt, took, status, error=type(cause).__name__)
            self._tell(self.observer.request_done, event)
            raise
        took = self._clock() - began
        event = RequestDone(self.stream, window, page, attempt, took, 200, answer.rows, answer.wire)
        self._tell(self.observer.request_done, event)
        return answer

    def retry(
        self,
        attempt: int,
        delay: float,
        error: ExchangeError,
        *,
        window: str | None = None,
        page: int | None = None,
    ) -> None:
        """A request failed and will be tried again."""
        if self.observer is not None:
            event = Retry(self.stream, window, page, attempt, delay, type(error).__name__)
            self._tell(self.observer.retry, event)

    def window(self, window: str, page: int, *, attempts: int, answer: Answer) -> None:
        """An answer has found its place."""
        if self.observer is not None and self.stream is not None:
            event = WindowDone(self.stream, window, page, attempts, answer.rows, answer.wire)
            self._tell(self.observer.window_done, event)

    def done(self, counts: Counts, *, complete: bool, error: Exception | None) -> None:
        """The stream has ended; said again, it is not heard."""
        if self._began is None or self.stream is None:
            return
        took, self._began = self._clock() - self._began, None
        outcome: Outcome = "failed" if error is not None else "complete" if complete else "left"
        name = None if error is None else type(error).__name__
        logger.info(
            "stream %d %s: %d calls, %d requests, %d retries, %.1f s%s",
            self.stream,
            outcome,
            counts.calls,
            counts.requests,
            counts.retries,
            took,
            f" ({name})" if name else "",
        )
        if self.observer is not None:
            event = StreamDone(
                self.stream,
                outcome,
                took,
                counts.calls,
                counts.requests,
                counts.retries,
                counts.bytes,
                name,
            )
            self._tell(self.observer.stream_done, event)

    def _tell(self, method: Callable[[E], None], event: E) -> None:
        try:
            method(event)
        except Exception:
            if not self._failed:
                self._failed = True
                name = getattr(method, "__qualname__", repr(method))
                logger.exception("the observer failed in %s; nothing else is touched by that", name)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at that moment, as programs and tests replace it."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def show_log(environ: Mapping[str, str] = os.environ) -> None:
    """Does what IOVOX_LOG says; any number of times.

    The level is set, and unless the program has handlers of its own (each line would come twice), one for stderr is
    added.

    Raises:
        ConfigurationError: IOVOX_LOG is none of debug, info, warning, error.
    """
    word = environ.get("IOVOX_LOG", "").strip().lower()
    if not word:
        return
    if word not in LEVELS:
        raise ConfigurationError(f"IOVOX_LOG: one of {', '.join(LEVELS)} is wanted, not {word[:20]!r}")
    logger.setLevel(LEVELS[word])
    if not logger.hasHandlers():
        logger.addHandler(_Stderr())
