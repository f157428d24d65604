"""Logs what a session does, and calls its observer."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Final, Literal, Protocol, TextIO, TypeVar

from .errors import ConfigurationError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from .errors import RequestError
from .events import (
    Observer,
    Outcome,
    PageAccepted,
    RequestFinished,
    RetryScheduled,
    StreamFinished,
    StreamStarted,
)

__all__ = ["LEVELS", "A", "Counts", "E", "ResponseCounts", "Telemetry", "logger", "show_log"]

E = TypeVar("E")


A = TypeVar("A", bound="ResponseCounts")


logger: logging.Logger = logging.getLogger("iovox_async")


LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class ResponseCounts(Protocol):
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
    def bytes_received(self) -> int: ...


_numbers = itertools.count(1)


class Telemetry:
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

    def stream_started(
        self,
        start: datetime,
        end: datetime,
        *,
        paging: Literal["windows", "pages"],
        field_count: int,
        resumed: bool,
    ) -> None:
        """The stream is about to send its first request."""
        assert self.stream is not None
        self._began = self._clock()
        how = "windows" if paging == "windows" else "page numbers"
        logger.info(
            "stream %d %s: %s to %s, %d fields, by %s",
            self.stream,
            "resumed" if resumed else "begun",
            start,
            end,
            field_count,
            how,
        )
        if self.observer is not None:
            event = StreamStarted(self.stream, start, end, paging, field_count, resumed)
            self._tell(self.observer.on_stream_started, event)

    async def track_request(
        self,
        work: Awaitable[A],
        *,
        window: tuple[datetime, datetime] | None = None,
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
            status = cause.status_code if isinstance(cause, ResponseError) else None
            took = self._clock() - began
            event = RequestFinished(
                self.stream, window, page, attempt, took, status, error=type(cause).__name__
            )
            self._tell(self.observer.on_request_finished, event)
            raise
        took = self._clock() - began
        event = RequestFinished(self.stream, window, page, attempt, took, 200, answer.rows, answer.wire)
        self._tell(self.observer.on_request_finished, event)
        return answer

    def retry_scheduled(
        self,
        attempt: int,
        delay: float,
        error: RequestError,
        *,
        window: tuple[datetime, datetime] | None = None,
        page: int | None = None,
    ) -> None:
        """A request failed and will be tried again."""
        if self.observer is not None:
            event = RetryScheduled(self.stream, window, page, attempt, delay, type(error).__name__)
            self._tell(self.observer.on_retry, event)

    def page_accepted(
        self, window: tuple[datetime, datetime], page: int, *, attempts: int, response: ResponseCounts
    ) -> None:
        """An answer has found its place."""
        if self.observer is not None and self.stream is not None:
            event = PageAccepted(self.stream, window, page, attempts, response.rows, response.wire)
            self._tell(self.observer.on_page_accepted, event)

    def stream_finished(self, counts: Counts, *, complete: bool, error: Exception | None) -> None:
        """The stream has ended; said again, it is not heard."""
        if self._began is None or self.stream is None:
            return
        took, self._began = self._clock() - self._began, None
        outcome: Outcome = "failed" if error is not None else "complete" if complete else "abandoned"
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
            event = StreamFinished(
                self.stream,
                outcome,
                took,
                counts.calls,
                counts.requests,
                counts.retries,
                counts.bytes_received,
                name,
            )
            self._tell(self.observer.on_stream_finished, event)

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
