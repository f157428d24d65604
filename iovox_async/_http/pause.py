"""A pause of all requests of a session: `Pause`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import msgspec

from ..errors import RequestError, RequestTimeout, ResponseError, TransportError

if TYPE_CHECKING:
    from .failures import RetryableFailure


class Pause(msgspec.Struct, eq=False):
    """All requests wait, because of a fault that concerns them all: the server is unreachable, or limits requests.

    When the wait is over, one request is sent as a probe and the others wait for its result. If it fails in the same way, the
    pause goes on; after a response, two requests may be in flight, and one more with each response that follows.

    Attributes:
        began: when the first request failed.
        error: the latest error.
        unreachable: the server cannot be reached.
        refused: nothing listens at its address.
        until: when the next probe may be sent.
        failures: how many probes have failed, and the failure before them; after lost connections, since the last response.
        extended: when the latest of them failed.
        allowed: how many requests may be in flight.
        sending: how many are.
        changed: set when another request may be sent; replaced then.
    """

    began: float
    error: RequestError
    unreachable: bool
    until: float
    refused: bool = False
    failures: int = 1
    extended: float = 0.0
    allowed: int = 1
    sending: int = 0
    changed: anyio.Event = msgspec.field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        self.extended = self.began

    def extend(self, failure: RetryableFailure, now: float, until: float) -> None:
        """Continues the pause after a probe that failed."""
        self.error = failure.error
        self.unreachable, self.refused = failure.unreachable, failure.refused
        self.until = max(self.until, until)
        self.failures += 1
        self.extended = now
        self.allowed = 1

    def got_response(self) -> None:
        """Allows one more request. After lost connections, the next one is waited for as briefly as the first."""
        self.allowed += 1
        if not isinstance(self.error, ResponseError):
            self.failures = 0

    def request_ended(self) -> None:
        """A request of this pause is no longer in flight."""
        self.sending -= 1
        self.notify()

    def notify(self) -> None:
        """Lets all requests that wait look again whether they may be sent."""
        self.changed.set()
        self.changed = anyio.Event()

    def error_for(self, last_error: RequestError | None, now: float) -> RequestError:
        """The error for a request that can wait no longer."""
        if self.unreachable:
            kind = RequestTimeout if isinstance(self.error, RequestTimeout) else TransportError
            message = f"{self.error.args[0]}; it has been unreachable for {now - self.began:.0f} seconds"
            error = kind(message, hint=self.error.hint)
            error.__cause__ = self.error.__cause__
            return error
        return last_error or RequestTimeout(
            "the server paused all requests for longer than RetryPolicy.total_timeout"
        )
