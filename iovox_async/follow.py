"""Provides `CallFollower`, an endless async iterator over new calls.

Each poll reads again from the latest call's start minus a look-back, by windows, and delivers the calls that were not
delivered before. So calls that arrive late are delivered too, and memory is bounded by the look-back (where the account's
time zone is unknown, by 26 hours more).
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

import anyio
import msgspec
from attrs import define, field

from ._fetching.owner import current_task, end_with_current_task
from ._fetching.session import SessionBound
from .errors import TRANSIENT_ERRORS, RecordError, SessionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from ._fetching.owner import TaskReference
    from ._params.account_time import AccountTime
    from .models import Call
    from .stream import CallStream

__all__ = ["CallFollower"]

logger: logging.Logger = logging.getLogger("iovox_async")

#: The number of new calls that the account's local time is estimated from, by their median, and the tolerance added to it.
LEADS: Final = 9
LEAD_TOLERANCE: Final = timedelta(hours=1)
#: Fewer calls than this are not forgotten during a poll.
MIN_REMEMBERED: Final = 256


def _ended_error() -> SessionError:
    return SessionError("following has ended", hint="Call follow(since=latest_call_start) to continue.")


@define(eq=False)
class PollRange:
    """Decides from which second each poll reads, so that a start in the future moves nothing.

    Where the local time of the account is known, calls that start later are in the future. Where it is not (no time zone, or
    two clocks that differ), it is estimated: in most polls, by how far the starts of new calls are ahead of the earliest time
    it may be; and at least once in half a look-back, a poll reads from a look-back before that earliest time itself.

    Attributes:
        latest: the start of the latest call so far that is not in the future; `since` before the first.
    """

    time: AccountTime
    since: datetime
    lookback: timedelta
    latest: datetime = field(init=False)
    #: The earliest and the latest time it may have been in the account when the current poll began.
    _earliest_now: datetime = field(init=False)
    _latest_now: datetime = field(init=False)
    #: Monotonic seconds at which the latter was computed.
    _read_at: float = field(init=False)
    #: The earliest time, and monotonic seconds, at the beginning of the current poll.
    _began: tuple[datetime, float] = field(init=False)
    #: The same of the last complete poll that read from a look-back before it.
    _checked_until: datetime = field(default=datetime.min, init=False)  # noqa: DTZ901 - of the account
    _checked_at: float = field(init=False)
    _checks: bool = field(default=True, init=False)
    #: How far the latest new calls started after the earliest time it may have been.
    _leads: deque[timedelta] = field(factory=lambda: deque(maxlen=LEADS), init=False)

    def __attrs_post_init__(self) -> None:
        self.latest = self.since
        self._read_clocks()
        self._checked_until, self._checked_at = self._earliest_now, self._read_at

    def _read_clocks(self) -> None:
        reading = self.time.read()
        self._earliest_now = self.time.earliest_now(reading)
        self._latest_now = self.time.latest_now(reading, by=min)
        self._read_at = reading.seconds
        if self._checked_until > self._earliest_now:
            # That was the time of the machine's clock, which is ahead of the server's, as a response has shown since then.
            self._checked_until = self._earliest_now - timedelta(seconds=self._read_at - self._checked_at)
            self.latest = max(self.since, min(self.latest, self._latest_now))

    def begin_poll(self) -> datetime:
        """The first second of the poll that begins now."""
        self._read_clocks()
        self._began = self._earliest_now, self._read_at
        certain, position = min(self.latest, self._checked_until), min(self.latest, self._estimated_now())
        unchecked = self._earliest_now - self._checked_until
        is_due = not timedelta(0) <= unchecked <= self.lookback / 2
        # Where the two hardly differ, every poll checks.
        self._checks = is_due or position - certain <= self.lookback / 2
        return self._look_back(certain if self._checks else position)

    def end_poll(self) -> None:
        """Notes that the current poll is complete."""
        if self._checks:
            self._checked_until, self._checked_at = self._began

    def add(self, start: datetime, *, is_new: bool) -> None:
        """Notes the start of a call that a poll has read."""
        if start > self._latest_now and self.time.clock() - self._read_at >= 1:
            # The poll may have begun long ago.
            reading = self.time.read()
            self._latest_now, self._read_at = self.time.latest_now(reading, by=min), reading.seconds
        if start > self._latest_now:
            return
        self.latest = max(self.latest, start)
        if is_new:
            self._leads.append(start - self._earliest_now)

    def oldest_needed(self) -> datetime:
        """The first second that a later poll may read again."""
        # A response may have shown meanwhile that the machine's clock is ahead.
        self._read_clocks()
        return self._look_back(min(self.latest, self._checked_until))

    def _look_back(self, position: datetime) -> datetime:
        # Never before `since`, and never before the first date that datetime can express.
        return self.since if position - self.since <= self.lookback else position - self.lookback

    def _estimated_now(self) -> datetime:
        if len(self._leads) < LEADS:
            return self._earliest_now
        lead = max(timedelta(0), sorted(self._leads)[LEADS // 2] + LEAD_TOLERANCE)
        return min(self._latest_now, self._earliest_now + lead)


@define(eq=False)
class PollState:
    """The state between polls. It does not refer to its `CallFollower`, so that dropping the `CallFollower` ends it.

    Attributes:
        read: opens a stream from a second on.
        added_fields: sort keys that the caller did not request; they are removed before delivery.
        range: from which second polls read.
        delivered: start, content digest and last poll of the calls that a later poll may read again, by id.
        clock: seconds of a clock that never goes back.
        closed: nothing more is delivered.
        last_task: the task that made the latest step.
    """

    read: Callable[[datetime], CallStream]
    sleep: Callable[[float], Awaitable[None]]
    clock: Callable[[], float]
    range: PollRange
    interval: float
    max_retry_after: float
    include_updates: bool
    added_fields: tuple[str, ...]
    delivered: dict[int, tuple[datetime, bytes, int]] = field(factory=dict, init=False)
    polls: int = field(default=0, init=False)
    failed_polls: int = field(default=0, init=False)
    #: Polls that have begun, also those that ended with an error.
    _begun: int = field(default=0, init=False)
    closed: bool = field(default=False, init=False)
    last_task: TaskReference | None = field(default=None, init=False)
    _is_stepping: bool = field(default=False, init=False)
    #: What the current poll reads; None between polls.
    _stream: CallStream | None = field(default=None, init=False)
    #: The length of the pause that comes before the next poll, when it ends, and its scope, for another task to cancel.
    _pause: float = field(default=0.0, init=False)
    _pause_until: float | None = field(default=None, init=False)
    _pause_scope: anyio.CancelScope | None = field(default=None, init=False)
    _forget_at: int = field(default=MIN_REMEMBERED, init=False)

    def should_deliver(self, call: Call) -> bool:
        """Records a call, and returns whether it is new (or updated)."""
        start = call.call_start.replace(tzinfo=None)
        previous = self.delivered.get(call.id)
        self.range.add(start, is_new=previous is None and self.polls > 0)
        if previous is not None and previous[2] == self._begun:
            # A call that moves during a poll may be read twice, the older state last. The next poll reads what is true.
            self.delivered[call.id] = (max(start, previous[0]), *previous[1:])
            return False
        digest = _digest(call) if self.include_updates else b""
        self.delivered[call.id] = (start, digest, self._begun)
        if len(self.delivered) >= self._forget_at:
            self.forget_old_calls()
        return previous is None or previous[1] != digest

    def forget_old_calls(self) -> None:
        """Removes calls that no poll will read again."""
        start = self.range.oldest_needed()
        self.delivered = {call_id: entry for call_id, entry in self.delivered.items() if entry[0] >= start}
        # A quarter more may come before the next time, so that forgetting costs little.
        self._forget_at = max(MIN_REMEMBERED, len(self.delivered) * 5 // 4)

    def pause_after(self, error: Exception) -> float:
        """The seconds to pause after a poll that failed."""
        requested = getattr(error, "retry_after", None) or 0.0
        if requested > self.max_retry_after:
            logger.warning(
                "the server requests a pause of %g seconds (Retry-After), longer than RetryPolicy.max_retry_after: "
                "polling again after %g seconds",
                requested,
                max(self.interval, self.max_retry_after),
            )
        return max(self.interval, min(requested, self.max_retry_after))

    def check_open(self) -> None:
        """Raises `SessionError` if following has ended."""
        if self.closed:
            raise _ended_error()

    def take_ready(self) -> Call | None:
        """The next new call among those that are decoded already, if there is one."""
        if self._stream is None or self.closed:
            return None
        for call in self._stream._reader.ready:  # noqa: SLF001 - a step may run in a task of its own
            if self.should_deliver(call):
                for name in self.added_fields:
                    setattr(call, name, None)
                return call
        return None

    async def step(self) -> Call:
        """Returns the next new call. A cancelled step loses nothing: the next one continues, also within a pause.

        Raises:
            IovoxError: a poll has failed in a way that the next one would too.
            SessionError: following has ended, or another task is waiting for the next call.
        """
        self.check_open()
        if self._is_stepping:
            raise SessionError("another task is reading the calls", hint="One task at a time may read them.")
        self._is_stepping, self.last_task = True, current_task()
        try:
            return await self._next_call()
        finally:
            self._is_stepping = False

    async def _next_call(self) -> Call:
        while True:
            if self._stream is None:
                await self._rest()
                self._stream = self.read(self.range.begin_poll())
                self._begun += 1
            self._pause = self.interval
            try:
                self._stream._set_mode("calls")  # noqa: SLF001 - a step may run in a task of its own
                reader = self._stream._reader  # noqa: SLF001 - as above
                while True:
                    if (call := self.take_ready()) is not None:
                        return call
                    if await reader.step(reader.next_calls) is None:
                        break
                self.range.end_poll()
            except TRANSIENT_ERRORS as error:
                if isinstance(error, RecordError):
                    self._stream = None
                    raise
                self.failed_polls += 1
                self._pause = self.pause_after(error)
                logger.info("poll failed with %s; next poll in %g seconds", type(error).__name__, self._pause)
            except Exception:
                self._stream = None
                if self.closed:
                    raise _ended_error() from None
                raise
            self._stream = None
            self.polls += 1
            self.forget_old_calls()

    async def _rest(self) -> None:
        """Waits until the pause after the last poll is over."""
        if not self._pause:
            return
        now = self.clock()
        if self._pause_until is None:
            self._pause_until = now + self._pause
            remaining = self._pause
        else:  # an earlier step was cancelled in the pause
            remaining = max(0.0, self._pause_until - now)
        self._pause_scope = anyio.CancelScope()
        try:
            with self._pause_scope:
                await self.sleep(remaining)
        except Exception:
            self._pause, self._pause_until = 0.0, None
            raise
        if self.closed:
            raise _ended_error()
        self._pause, self._pause_until = 0.0, None

    def abandon(self) -> None:
        """Ends polling soon."""
        self.closed = True
        if self._pause_scope is not None:
            self._pause_scope.cancel()
        if self._stream is not None:
            self._stream._reader.abandon()  # noqa: SLF001 - as above

    async def close(self) -> None:
        """Ends polling, and returns when all requests have ended."""
        self.closed = True
        # A task that is waiting for a call gets a SessionError.
        if self._pause_scope is not None:
            self._pause_scope.cancel()
        if self._stream is not None:
            await self._stream.aclose()


def _digest(call: Call) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(call.to_dict()), digest_size=12).digest()


class _FollowIterator(SessionBound):
    """The calls that polls deliver."""

    __slots__ = ("__weakref__", "_state")

    def __init__(self, state: PollState) -> None:
        self._state = state

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Call:
        return await self._state.step()

    async def aclose(self) -> None:
        """Ends polling."""
        await self._state.close()


class CallFollower(SessionBound):
    """An endless async iterator over new calls.

    ::

        async with insights.follow(interval=60) as calls:
            async for call in calls:
                ...

    A step that is cancelled loses nothing; the next one continues. After `aclose`, also from another task, the next step
    raises `SessionError`. When the task that iterates is cancelled or fails, polling ends.
    """

    __slots__ = ("__weakref__", "_state")

    def __init__(self, state: PollState) -> None:
        self._state = state

    def __aiter__(self) -> AsyncIterator[Call]:
        self._state.check_open()
        end_with_current_task(self._state)
        return _FollowIterator(self._state)

    @property
    def latest_call_start(self) -> datetime:
        """The start of the latest call so far that is not in the future, in the account's local time.

        `follow(since=latest_call_start)` continues there.
        """
        return self._state.range.latest

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
        await self._state.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return (
            f"<CallFollower since {self._state.range.since}: {self.poll_count} polls, "
            f"latest call start {self.latest_call_start}>"
        )
