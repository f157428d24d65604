"""Decides when a request may start and whether a failed one is retried: `RequestThrottle`, one per session.

Everything that waits does so here, by the throttle's own clock, sleep and random source.

Retries are limited to 20 % of the recent requests plus a reserve of 20 (`RetryBudget`), so that one request in seven may fail, while
an outage does not multiply the load. A fault that hits several requests at once counts once: it starts a `Pause`. Back-off uses full
jitter and starts lower for faults that pass quickly than for a server that limits requests, like AWS's SDKs. The limit on concurrent
requests is halved on overload and grows by one after a full round of successes, like TCP's congestion window.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import anyio
import msgspec

from ..errors import AuthenticationError, DecodeError, PermissionDeniedError, RequestError, ResponseError
from .budgets import RetryBudget
from .failures import RetryableFailure
from .pause import Pause

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from ..retry import RetryPolicy

T = TypeVar("T")
logger: logging.Logger = logging.getLogger("iovox_async")

#: Seconds after a 401 or 403 during which nothing is sent: many rejected requests might get the account locked.
REFUSED_SECONDS: Final = 30.0
#: The first back-off after 429 and 503 is longer than that after other faults, by this factor.
THROTTLING_FACTOR: Final = 10
#: The shortest wait before an unreachable server is probed again.
PROBE_SECONDS: Final = 0.05
#: Seconds for which a session that has never had a response waits for a server at whose address nothing listens: the address is
#: more likely wrong than the server is starting.
FIRST_CONTACT_SECONDS: Final = 10.0
#: Seconds without a probe after which a pause is forgotten.
FORGET_SECONDS: Final = 60.0


class RequestThrottle:
    """Limits and retries the requests of a session.

    Args:
        concurrency: maximum number of requests in flight.
        clock: returns monotonic seconds.
        sleep: waits for a number of seconds.
        random: the random source of the jitter.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Random | None = None,
    ) -> None:
        self.concurrency: int = concurrency
        self.clock: Callable[[], float] = clock
        self.sleep: Callable[[float], Awaitable[None]] = sleep
        self.random: Random = random or Random()  # noqa: S311 - of the jitter
        self.limiter: anyio.CapacityLimiter = anyio.CapacityLimiter(concurrency)
        #: Requests, each counted once regardless of its attempts.
        self.requests: int = 0
        #: Retries taken from the budget.
        self.retries: int = 0
        self.budget: RetryBudget = RetryBudget()
        #: The current pause, or None.
        self.pause: Pause | None = None
        #: Whether the server has ever been reached.
        self._reached = False
        #: When a connection was last lost.
        self._lost_at = -math.inf
        self._limit_halved_at = -math.inf
        #: Successes since the limit last changed.
        self._successes = 0
        self._refusal: ResponseError | None = None
        self._refused_until = -math.inf

    # Slots.

    @property
    def in_flight(self) -> int:
        """Requests that hold a slot."""
        return self.limiter.borrowed_tokens

    async def acquire(self, holder: object) -> None:
        """Waits for a slot, first come, first served. `release` returns it.

        Raises:
            AuthenticationError, PermissionDeniedError: the account was rejected in the last 30 seconds.
        """
        self.raise_if_refused()
        await self.limiter.acquire_on_behalf_of(holder)

    def release(self, holder: object) -> None:
        """Returns a slot."""
        self.limiter.release_on_behalf_of(holder)

    def raise_if_refused(self) -> None:
        """Raises the error that rejected the account, if that was in the last 30 seconds."""
        if self._refusal is not None and self.clock() < self._refused_until:
            raise type(self._refusal)(self._refusal.status_code, self._refusal.messages)

    def _record_success(self) -> None:
        self.budget.record_success()
        limit = int(self.limiter.total_tokens)
        self._successes += 1
        if limit < self.concurrency and self._successes >= limit:
            self._successes = 0
            self.limiter.total_tokens = limit + 1

    def _record_overload(self, started: float) -> None:
        # Requests that were in flight together fail together: halve the limit once for all of them.
        if started > self._limit_halved_at:
            self._successes = 0
            self._limit_halved_at = self.clock()
            self.limiter.total_tokens = max(1, int(self.limiter.total_tokens) // 2)

    # Retries.

    def consume_retry(self) -> bool:
        """Takes one retry from the budget; returns False if none is left."""
        taken = self.budget.take()
        self.retries += taken
        return taken

    async def run(
        self,
        send: Callable[[float], Awaitable[T]],
        policy: RetryPolicy,
        *,
        previous_attempts: int = 0,
        split_after: int | None = None,
        on_retry: Callable[[int, float, RequestError], None] | None = None,
    ) -> T:
        """Sends a request until it succeeds, fails for good, or no retry is left.

        Args:
            send: makes one attempt within a number of seconds; raises `RetryableFailure` if a retry may succeed.
            policy: how often and for how long.
            previous_attempts: attempts already made for a larger request that this one replaces; it is then not counted as new.
            split_after: the attempt after which a splittable failure is raised.
            on_retry: called before each retry with the number of the failed attempt, the seconds until the retry, and the error.

        Raises:
            IovoxError: the last failure, with the number of attempts.
        """
        self.requests += not previous_attempts
        request = _Request(self, send, policy, previous_attempts, split_after, on_retry)
        try:
            with contextlib.suppress(RetryableFailure):
                return await request.attempt()
            from tenacity import AsyncRetrying, retry_if_exception_type  # a slow import; few requests need it

            retry = retry_if_exception_type(RetryableFailure)
            retrying = AsyncRetrying(
                sleep=self.sleep, stop=request.should_stop, wait=request.backoff, retry=retry, reraise=True
            )
            return await retrying(request.retry)
        except RetryableFailure as exception:
            failure = exception
        except RequestError as error:
            error.attempts = max(1, request.sent)
            raise
        # Raised outside the except block: with the failure as its context, the error would be part of a cycle, which cannot be
        # pickled by those who pickle contexts too, such as Dask.
        final = failure.error
        if failure.unreachable and self.pause is not None and request.sent > 1:
            final = self.pause.error_for(final, self.clock())
        final.attempts = request.sent
        final._splittable = failure.splittable  # noqa: SLF001 - private to this package
        raise final from failure.error.__cause__

    async def admit(self, request: _Request[Any]) -> Pause | None:
        """Waits until a request may be sent; returns the pause of which it is a probe, or None.

        Raises:
            RequestError: the account was rejected, or the pause lasts beyond the request's deadline.
            RetryableFailure: the budget has no retry left.
        """
        while True:
            self.raise_if_refused()
            pause, now = self.pause, self.clock()
            if pause is None:
                return None
            wait = max(0.0, pause.until - now)
            deadline = self.deadline_of(request, refused=pause.refused)
            if now + wait >= deadline:
                raise pause.error_for(request.last_error, now)
            if wait:
                await self.sleep(wait)
            elif not pause.sending and now - pause.until > FORGET_SECONDS:
                self._end_pause()
            elif pause.sending < pause.allowed:
                # A server that cannot be reached has no load from probes, so an empty budget does not prevent them.
                is_retry = pause.allowed == 1 and request.last_failure is not None
                if is_retry and not self.consume_retry() and not pause.unreachable:
                    request.exhausted = True
                    assert request.last_failure is not None
                    raise request.last_failure
                pause.sending += 1
                return pause
            else:
                changed = pause.changed
                with anyio.move_on_after(deadline - now):
                    await changed.wait()

    def deadline_of(self, request: _Request[Any], *, refused: bool) -> float:
        """Until when a request waits for a server that cannot be reached, or that requests a wait."""
        if refused and not self._reached:
            return min(request.deadline, request.began + FIRST_CONTACT_SECONDS)
        return request.deadline

    async def attempt(self, request: _Request[T], probe_of: Pause | None) -> T:
        """Makes one attempt, and adapts the limits and the pause to its result."""
        started = self.clock()
        try:
            result = await request.send(max(0.0, request.deadline - started))
        except RetryableFailure as failure:
            self._reached = self._reached or not failure.unreachable
            if failure.overload:
                self._record_overload(started)
            self._record_failure(request, failure, started, probe_of)
            raise
        except RequestError as error:
            if isinstance(error, AuthenticationError | PermissionDeniedError):
                self._refusal = error
                self._refused_until = self.clock() + REFUSED_SECONDS
            self._reached = True
            self._record_response(probe_of)
            raise
        else:
            self._reached = True
            self._record_success()
            self._record_response(probe_of)
            return result
        finally:
            if probe_of is not None:
                probe_of.request_ended()

    def _record_failure(
        self, request: _Request[Any], failure: RetryableFailure, started: float, probe_of: Pause | None
    ) -> None:
        """Sets the wait before the retry, and pauses all requests if the failure concerns them too."""
        now, pause, policy = self.clock(), self.pause, request.policy
        lost_together = False
        if failure.connection_lost:
            # Connections that were open together are lost together: from the second one on, one request at a time tries again.
            lost_together = started < self._lost_at or probe_of is not None
            self._lost_at = now
        shared = failure.unreachable or failure.account_wide or lost_together
        failures = pause.failures if shared and pause is not None else 0
        exponent = failures if failure.unreachable else max(request.attempts - 1, failures)
        initial = policy.initial_backoff * (THROTTLING_FACTOR if failure.account_wide else 1)
        limit = min(policy.max_backoff, initial * 2.0 ** min(exponent, 64))
        request.paused, request.delay = shared, self.random.uniform(0, limit)
        deadline = self.deadline_of(request, refused=failure.refused)
        if failure.unreachable:
            # The last probes before the deadline come closer together.
            delay = max(PROBE_SECONDS, limit / 2 + request.delay / 2)
            request.delay = min(delay, max(0.0, deadline - now) / 2)
        elif failure.retry_after is not None:
            request.delay = max(request.delay, failure.retry_after)
        if not shared:
            if isinstance(failure.error, ResponseError | DecodeError):
                self._record_response(probe_of)
            return
        if (failure.retry_after or 0) > policy.max_retry_after or (
            failure.unreachable and policy.max_attempts == 1
        ):
            return
        until = now + request.delay
        if pause is None:
            self.pause = Pause(now, failure.error, failure.unreachable, until, failure.refused)
            if failure.unreachable:
                seconds = deadline - request.began
                logger.warning("%s; trying again for up to %g seconds", failure.error.args[0], seconds)
            return
        if probe_of is pause and started >= pause.extended:
            pause.extend(failure, now, until)
        elif failure.retry_after:
            pause.until = max(pause.until, until)
            pause.allowed = 1
        request.delay = max(0.0, pause.until - now)

    def _record_response(self, probe_of: Pause | None) -> None:
        """Allows more requests after a probe got a response; ends the pause when all are allowed."""
        # A response says nothing of a wait that the server has requested meanwhile.
        if probe_of is not None and probe_of is self.pause and probe_of.until <= self.clock():
            probe_of.got_response()
            if probe_of.allowed > self.concurrency:
                self._end_pause()

    def _end_pause(self) -> None:
        if (pause := self.pause) is not None:
            self.pause = None
            pause.notify()
            if pause.unreachable:
                outage = self.clock() - pause.began
                logger.warning("the server can be reached again, after %.1f seconds", outage)


class _Request(msgspec.Struct, Generic[T], eq=False):
    """The attempts of one request; its methods are tenacity's hooks."""

    throttle: RequestThrottle
    send: Callable[[float], Awaitable[T]]
    policy: RetryPolicy
    #: Attempts that count: not those that found the server unreachable.
    attempts: int
    split_after: int | None
    on_retry: Callable[[int, float, RequestError], None] | None
    began: float = 0.0
    deadline: float = 0.0
    #: All attempts.
    sent: int = 0
    last_failure: RetryableFailure | None = None
    #: Seconds before the next attempt, and whether all requests wait.
    delay: float = 0.0
    paused: bool = False
    #: The budget had no retry left.
    exhausted: bool = False
    stale_connection_seen: bool = False
    #: tenacity has been given the failure of the first attempt.
    retrying: bool = False

    def __post_init__(self) -> None:
        self.sent = self.attempts
        self.began = self.throttle.clock()
        self.deadline = self.began + self.policy.total_timeout

    @property
    def last_error(self) -> RequestError | None:
        return None if self.last_failure is None else self.last_failure.error

    async def attempt(self) -> T:
        while True:
            probe_of = await self.throttle.admit(self)
            self.attempts += 1
            self.sent += 1
            try:
                result = await self.throttle.attempt(self, probe_of)
            except RetryableFailure as failure:
                if failure.unreachable:
                    self.attempts -= 1
                if not failure.stale_connection or self.stale_connection_seen:
                    self.last_failure = failure
                    raise
            else:
                # Its traceback refers to this request and to the frame that will hold the result: a cycle that would live on.
                self.last_failure = None
                return result
            self.stale_connection_seen = True
            self.attempts -= 1
            self.sent -= 1

    async def retry(self) -> T:
        """Raises the failure of the first attempt when called first, so that tenacity waits; then makes one attempt at each call."""
        if not self.retrying and self.last_failure is not None:
            self.retrying = True
            raise self.last_failure
        return await self.attempt()

    def backoff(self, _state: RetryCallState) -> float:
        return self.delay

    def should_stop(self, _state: RetryCallState) -> bool:
        failure, policy = self.last_failure, self.policy
        assert failure is not None
        if self.exhausted or (failure.retry_after or 0) > policy.max_retry_after:
            return True
        split_after = self.split_after if failure.splittable else None
        limits = [n for n in (policy.max_attempts, failure.max_attempts, split_after) if n is not None]
        if failure.unreachable:
            # Not by the wait, which is short too where the pause of an earlier failure is nearly over.
            deadline = self.throttle.deadline_of(self, refused=failure.refused)
            if policy.max_attempts == 1 or deadline - self.throttle.clock() < 2 * PROBE_SECONDS:
                return True
        elif self.attempts >= min(limits) or self.throttle.clock() + self.delay >= self.deadline:
            return True
        # Of the requests that one fault has hit, only the probe takes a retry from the budget, when it is sent.
        if not self.paused and not self.throttle.consume_retry():
            return True
        if self.on_retry is not None:
            self.on_retry(self.sent, self.delay, failure.error)
        if not failure.unreachable:
            kind = type(failure.error).__name__
            logger.info("retry %d of %d: %s", self.attempts, policy.max_attempts - 1, kind)
        return False
