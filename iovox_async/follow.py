"""`CallFollower`: new calls as they come, without end.

The law of this room: each poll reads again from the newest call less a look-back, by windows, and hands out what it
has not handed out before. So calls that arrive late come all the same, and memory is bounded by the look-back.
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

#: Seconds of the longest look-back: what a timedelta holds.
LONGEST: Final = timedelta.max // timedelta(seconds=1)
#: What may pass: an outage is waited out. Anything else would be the same at the next poll.
OUTAGE = (TransportError, ServerError, RateLimitError, DecodeError)


ENDED = "following has ended; call follow(since=latest_call_start) to go on"


@define(eq=False)
class PollState:
    """The state between polls; it never refers to the handle, so that this can be dropped.

    Attributes:
        read: a stream from a second on.
        now: the account's local time.
        sleep: waits for seconds.
        newest: when the newest call so far began, or where following began.
    """

    read: Callable[[datetime], CallStream]
    now: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    newest: datetime
    since: datetime
    interval: float
    lookback: timedelta
    include_updates: bool
    hidden: tuple[str, ...]
    seen: dict[int, tuple[datetime, bytes]] = field(factory=dict)
    polls: int = 0
    outages: int = 0
    #: What the poll under way reads, and the scope of the pause after it: another task may end either.
    calls: CallStream | None = None
    pause: anyio.CancelScope = field(factory=anyio.CancelScope)

    def lower(self) -> datetime:
        """The second from which the next poll reads."""
        # A look-back longer than there is to look back on reaches to the beginning, not before the calendar's.
        return self.newest - min(self.lookback, self.newest - self.since)

    def news(self, call: Call) -> bool:
        """Whether a call is to be handed out; it is remembered either way."""
        start = call.call_start.replace(tzinfo=None)
        digest = _digest(call) if self.include_updates else b""
        known = self.seen.get(call.id)
        self.seen[call.id] = (start, digest)
        # A start far in the future is a slip; it must not move the look-back beyond what is still to come.
        self.newest = max(self.newest, min(start, self.now() + timedelta(days=1)))
        return known is None or known[1] != digest

    def forget(self) -> None:
        """Drops what no poll will read again."""
        lower = self.lower()
        self.seen = {one: known for one, known in self.seen.items() if known[0] >= lower}


def _digest(call: Call) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(call.to_dict()), digest_size=12).digest()


async def _news(poller: PollState) -> AsyncGenerator[Call, None]:
    while True:
        pause = poller.interval
        try:
            async with poller.read(poller.lower()) as poller.calls:
                async for call in poller.calls:
                    if poller.news(call):
                        for name in poller.hidden:
                            setattr(call, name, None)
                        yield call
        except (RecordError, PagingError):
            raise
        except OUTAGE as error:
            poller.outages += 1
            pause = max(pause, getattr(error, "retry_after", None) or 0.0)
            logger.info("following pauses for %g seconds: %s", pause, type(error).__name__)
        poller.polls += 1
        poller.forget()
        poller.calls, poller.pause = None, anyio.CancelScope()
        with poller.pause:
            await poller.sleep(pause)
        if poller.pause.cancel_called:
            raise SessionError(ENDED)


class CallFollower:
    """New calls without end: an async iterator of `Call`.

    ::

        async with insights.follow(interval=60) as calls:
            async for call in calls:
                ...
    """

    __slots__ = ("__weakref__", "_closed", "_iterator", "_poller")

    def __init__(self, poller: PollState) -> None:
        self._poller = poller
        self._iterator: AsyncGenerator[Call, None] | None = None
        self._closed = False

    def __aiter__(self) -> AsyncIterator[Call]:
        if self._closed:
            raise SessionError(ENDED)
        # One that an error ended would end quietly for ever: a new one goes on where it stood.
        if getattr(self._iterator, "ag_frame", None) is None:
            self._iterator = _news(self._poller)
        assert self._iterator is not None
        return self._iterator

    @property
    def latest_call_start(self) -> datetime:
        """When the newest call so far began (account local): a later `follow(since=latest_call_start)` goes on from there."""
        return self._poller.newest

    @property
    def poll_count(self) -> int:
        """Polls that have ended."""
        return self._poller.polls

    @property
    def failed_polls(self) -> int:
        """Polls that failed and were waited out."""
        return self._poller.outages

    async def aclose(self) -> None:
        """Ends following."""
        self._closed = True
        if getattr(self._iterator, "ag_running", False):
            # Another task waits for a call: it gets a `SessionError`, for a generator cannot be closed while it runs.
            self._poller.pause.cancel()
            if self._poller.calls is not None:
                await self._poller.calls.aclose()
        elif self._iterator is not None:
            await self._iterator.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<CallFollower since {self._poller.since}: {self.poll_count} polls, latest call start {self.latest_call_start}>"
