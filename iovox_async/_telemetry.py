"""Logs requests and streams, and calls the observer."""

from __future__ import annotations

import inspect
import itertools
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Final, Literal, TextIO

from .errors import ConfigurationError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from ._parsing.page import RawPage
    from .errors import RequestError
    from .events import Observer, Outcome
    from .results import StreamStats

logger: logging.Logger = logging.getLogger("iovox_async")

LOG_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_stream_numbers = itertools.count(1)


def check_observer(observer: Observer | None) -> Observer | None:
    """Checks that an observer has methods for events, and returns it; one that lacks some of them is logged when it is called.

    Raises:
        ConfigurationError: it has none.
    """
    if observer is None:
        return None
    # The classes of events take milliseconds to make, and few programs use them.
    from .events import BaseObserver

    names = [name for name in vars(BaseObserver) if name.startswith("on_")]
    if not isinstance(observer, type) and any(callable(getattr(observer, name, None)) for name in names):
        return observer
    got = (
        f"the class {observer.__name__}"
        if isinstance(observer, type)
        else f"an object of {type(observer).__name__}"
    )
    raise ConfigurationError(
        "observer",
        f"must have methods such as {names[0]}, got {got}",
        hint="Pass an object of a class that derives from iovox_async.events.BaseObserver.",
    )


class Telemetry:
    """Reports one stream, or one single request, to the log and to an observer.

    Args:
        observer: the observer, or None.
        numbered: True for a stream, which gets a number.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        observer: Observer | None = None,
        *,
        numbered: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.observer = observer
        self.stream: int | None = next(_stream_numbers) if numbered else None
        self._clock = clock
        self._started: float | None = None
        self._attempts = 0
        self._observer_failed = False

    def stream_started(
        self,
        start: datetime,
        end: datetime,
        *,
        paging: Literal["windows", "pages"],
        field_count: int,
        resumed: bool,
    ) -> None:
        """Reports that the stream is about to send its first request."""
        assert self.stream is not None
        self._started = self._clock()
        logger.info(
            "stream %d %s: %s to %s, %d fields, paging by %s",
            self.stream,
            "resumed" if resumed else "started",
            start,
            end,
            field_count,
            paging,
        )
        if self.observer is not None:
            from .events import StreamStarted

            event = StreamStarted(self.stream, start, end, paging, field_count, resumed)
            self._notify("on_stream_started", event)

    async def track_request(
        self,
        request: Awaitable[RawPage],
        *,
        window: tuple[datetime, datetime] | None = None,
        page: int | None = None,
        attempt: int | None = None,
    ) -> RawPage:
        """Awaits one attempt and reports its result. Without `attempt`, calls are counted."""
        if self.observer is None:
            return await request
        from .events import RequestFinished

        self._attempts += 1
        attempt = self._attempts if attempt is None else attempt
        started = self._clock()
        try:
            response = await request
        except BaseException as exception:
            # A retryable failure carries the error.
            error = getattr(exception, "error", exception)
            status = error.status_code if isinstance(error, ResponseError) else None
            duration = self._clock() - started
            event = RequestFinished(
                self.stream, window, page, attempt, duration, status, error=type(error).__name__
            )
            self._notify("on_request_finished", event)
            raise
        duration = self._clock() - started
        event = RequestFinished(
            self.stream, window, page, attempt, duration, 200, response.rows, response.wire_bytes
        )
        self._notify("on_request_finished", event)
        return response

    def retry_scheduled(
        self,
        attempt: int,
        delay: float,
        error: RequestError,
        *,
        window: tuple[datetime, datetime] | None = None,
        page: int | None = None,
    ) -> None:
        """Reports that an attempt has failed and will be repeated."""
        if self.observer is not None:
            from .events import RetryScheduled

            event = RetryScheduled(self.stream, window, page, attempt, delay, type(error).__name__)
            self._notify("on_retry", event)

    def page_accepted(
        self, window: tuple[datetime, datetime], page: int, *, attempts: int, response: RawPage
    ) -> None:
        """Reports that a page has become part of the stream."""
        if self.observer is not None and self.stream is not None:
            from .events import PageAccepted

            event = PageAccepted(self.stream, window, page, attempts, response.rows, response.wire_bytes)
            self._notify("on_page_accepted", event)

    def stream_finished(self, stats: StreamStats, *, complete: bool, error: Exception | None) -> None:
        """Reports the end of the stream. Later calls do nothing."""
        if self._started is None or self.stream is None:
            return
        duration, self._started = self._clock() - self._started, None
        outcome: Outcome = "failed" if error is not None else "complete" if complete else "abandoned"
        error_name = None if error is None else type(error).__name__
        logger.info(
            "stream %d %s: %d calls, %d requests, %d retries, %.1f s%s",
            self.stream,
            outcome,
            stats.calls,
            stats.requests,
            stats.retries,
            duration,
            f" ({error_name})" if error_name else "",
        )
        if self.observer is not None:
            counts = stats.calls, stats.requests, stats.retries, stats.bytes_received
            from .events import StreamFinished

            event = StreamFinished(self.stream, outcome, duration, *counts, error_name)
            self._notify("on_stream_finished", event)

    def _notify(self, name: str, event: object) -> None:
        """Calls a method of the observer, whatever that may raise."""
        try:
            result = getattr(self.observer, name)(event)
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError(f"{name} must not be async")  # noqa: TRY301 - logged like every failure
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            if not self._observer_failed:
                self._observer_failed = True
                method = f"{type(self.observer).__qualname__}.{name}"
                logger.exception("the observer failed in %s; requests are not affected", method)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`, which programs and tests may replace."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def enable_logging(environ: Mapping[str, str] = os.environ) -> None:
    """Sets the log level to that of IOVOX_LOG, and adds a handler for stderr unless the program has handlers already.

    Raises:
        ConfigurationError: IOVOX_LOG is not one of debug, info, warning, error.
    """
    level = environ.get("IOVOX_LOG", "").strip().lower()
    if not level:
        return
    if level not in LOG_LEVELS:
        raise ConfigurationError("IOVOX_LOG", f"must be one of {', '.join(LOG_LEVELS)}, got {level[:20]!r}")
    logger.setLevel(LOG_LEVELS[level])
    if not logger.hasHandlers():
        logger.addHandler(_StderrHandler())
