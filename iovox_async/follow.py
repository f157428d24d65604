"""Provides `CallFollower`, an endless async iterator over new calls.

Each poll reads again from the latest call's start minus a look-back, by windows, and delivers the calls that were not
delivered before. So calls that arrive late are delivered too, and memory is bounded by the look-back.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

import anyio
import msgspec
from attrs import define, field

from .errors import (
    DecodeError,
    PagingError,
    RateLimitError,
    RecordError,
    ServerError,
    SessionError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from .models import Call
    from .stream import CallStream

__all__ = ["CallFollower"]

logger: logging.Logger = logging.getLogger("iovox_async")

#: Errors after which polling continues. Any other error would occur again at the next poll.
TRANSIENT_ERRORS: Final = (TransportError, ServerError, RateLimitError, DecodeError)


def _ended_error() -> SessionError:
    return SessionError("following has ended", hint="Call follow(since=latest_call_start) to continue.")


@define(eq=False)
class PollState:
    """The state between polls. It does not refer to its `CallFollower`, so that dropping the `CallFollower` ends it.

    Attributes:
        read: opens a stream from a second on.
        added_fields: sort keys that the caller did not request; they are removed before delivery.
        latest: the start of the latest call so far; `since` before the first.
        delivered: start and content digest of the calls within the look-back, by id.
        stream: what the current poll reads, or None.
        pause: the scope of the pause after a poll, for another task to cancel.
    """

    read: Callable[[datetime], CallStream]
    now: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    since: datetime
    interval: float
    lookback: timedelta
    include_updates: bool
    added_fields: tuple[str, ...]
    latest: datetime = field(init=False)
    delivered: dict[int, tuple[datetime, bytes]] = field(factory=dict, init=False)
    polls: int = field(default=0, init=False)
    failed_polls: int = field(default=0, init=False)
    stream: CallStream | None = field(default=None, init=False)
    pause: anyio.CancelScope = field(factory=anyio.CancelScope, init=False)

    def __attrs_post_init__(self) -> None:
        self.latest = self.since

    def poll_start(self) -> datetime:
        """The second from which the next poll reads."""
        # Never before `since`, and never before the first date that datetime can express.
        return self.latest - min(self.lookback, self.latest - self.since)

    def should_deliver(self, call: Call) -> bool:
        """Records a call, and returns whether it is new (or updated)."""
        start = call.call_start.replace(tzinfo=None)
        digest = _digest(call) if self.include_updates else b""
        previous = self.delivered.get(call.id)
        self.delivered[call.id] = (start, digest)
        # A start far in the future is an error in the data. It must not move the look-back past calls to come.
        self.latest = max(self.latest, min(start, self.now() + timedelta(days=1)))
        return previous is None or previous[1] != digest

    def forget_old_calls(self) -> None:
        """Removes calls that no poll will read again."""
        start = self.poll_start()
        self.delivered = {call_id: entry for call_id, entry in self.delivered.items() if entry[0] >= start}


def _digest(call: Call) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(call.to_dict()), digest_size=12).digest()


async def _poll(state: PollState) -> AsyncGenerator[Call, None]:
    while True:
        pause = state.interval
        try:
            async with state.read(state.poll_start()) as state.stream:
                async for call in state.stream:
                    if state.should_deliver(call):
                        for name in state.added_fields:
                            setattr(call, name, None)
                        yield call
        except (RecordError, PagingError):
            raise
        except TRANSIENT_ERRORS as error:
            state.failed_polls += 1
            pause = max(pause, getattr(error, "retry_after", None) or 0.0)
            logger.info("poll failed with %s; next poll in %g seconds", type(error).__name__, pause)
        state.polls += 1
        state.forget_old_calls()
        state.stream, state.pause = None, anyio.CancelScope()
        with state.pause:
            await state.sleep(pause)
        if state.pause.cancel_called:
            raise _ended_error()


class CallFollower:
    """An endless async iterator over new calls.

    ::

        async with insights.follow(interval=60) as calls:
            async for call in calls:
                ...
    """

    __slots__ = ("__weakref__", "_closed", "_iterator", "_state")

    def __init__(self, state: PollState) -> None:
        self._state = state
        self._iterator: AsyncGenerator[Call, None] | None = None
        self._closed = False

    def __aiter__(self) -> AsyncIterator[Call]:
        if self._closed:
            raise _ended_error()
        # A generator that an error has ended would only stop quietly, so a new one continues from the same state.
        if getattr(self._iterator, "ag_frame", None) is None:
            self._iterator = _poll(self._state)
        assert self._iterator is not None
        return self._iterator

    @property
    def latest_call_start(self) -> datetime:
        """The start of the latest call so far, in the account's local time; `follow(since=latest_call_start)` continues there."""
        return self._state.latest

    @property
    def poll_count(self) -> int:
        """The number of polls that have ended."""
        return self._state.polls

    @property
    def failed_polls(self) -> int:
        """The number of polls that failed with an error that may be temporary."""
        return self._state.failed_polls

    async def aclose(self) -> None:
        """Ends polling."""
        self._closed = True
        if getattr(self._iterator, "ag_running", False):
            # Another task is waiting for a call. A running generator cannot be closed, so that task gets a SessionError.
            self._state.pause.cancel()
            if self._state.stream is not None:
                await self._state.stream.aclose()
        elif self._iterator is not None:
            await self._iterator.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return (
            f"<CallFollower since {self._state.since}: {self.poll_count} polls, "
            f"latest call start {self.latest_call_start}>"
        )
