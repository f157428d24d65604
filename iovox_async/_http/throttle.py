"""Decides when a request may start and whether a failed one is retried: `RequestThrottle`, one per session.

Everything that waits does so here, by the throttle's own clock, sleep and random source.

Retries are limited to 20 % of all requests plus a reserve of 20, so that one request in seven may fail, while an outage does not
multiply the load (Finagle and linkerd limit retries in the same way). Back-off uses full jitter, like AWS's SDKs. The limit on
concurrent requests is halved on overload and grows by one after a full round of successes, like TCP's congestion window.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import anyio
from attrs import define, field
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from ..errors import (
    AuthenticationError,
    PermissionDeniedError,
    RequestError,
    RequestTimeout,
    ResponseError,
)

if TYPE_CHECKING:
    from ..retry import RetryPolicy

T = TypeVar("T")
logger: logging.Logger = logging.getLogger("iovox_async")

__all__ = ["RequestThrottle", "RetryableFailure", "is_splittable"]

#: Retries allowed over all requests of a session: this share of them, plus a reserve.
BUDGET_SHARE: Final = 0.2
BUDGET_RESERVE: Final = 20
#: Seconds after a 401 or 403 during which nothing is sent: many rejected requests might get the account locked.
REFUSED_SECONDS: Final = 30.0


class RetryableFailure(Exception):
    """Carries an error that a retry may avoid, from `Endpoint` to `RequestThrottle`. Never leaves this package.

    Attributes:
        error: raised when no retry is left.
        overload: the server is overloaded; send fewer requests at a time.
        account_wide: the failure concerns all requests of the account; all of them pause.
        retry_after: seconds from the server's `Retry-After` header, or None.
        splittable: a smaller request may succeed.
        max_attempts: attempts after which a retry is pointless, or None.
        stale_connection: an idle connection was found closed; retry at once, and do not count the attempt.
    """

    def __init__(
        self,
        error: RequestError,
        *,
        overload: bool = False,
        account_wide: bool = False,
        retry_after: float | None = None,
        splittable: bool = False,
        max_attempts: int | None = None,
        stale_connection: bool = False,
    ) -> None:
        super().__init__(error)
        self.error = error
        self.overload = overload
        self.account_wide = account_wide
        self.retry_after = retry_after
        self.splittable = splittable
        self.max_attempts = max_attempts
        self.stale_connection = stale_connection


def is_splittable(error: RequestError) -> bool:
    """Whether a smaller request might succeed where this one failed."""
    return error._splittable  # noqa: SLF001 - private to this package


@define(eq=False)
class RequestThrottle:
    """Limits and retries the requests of a session.

    Args:
        concurrency: maximum number of requests in flight.
        clock: returns monotonic seconds.
        sleep: waits for a number of seconds.
        random: the random source of the jitter.
    """

    concurrency: int
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True)
    sleep: Callable[[float], Awaitable[None]] = field(default=anyio.sleep, kw_only=True)
    random: Random = field(factory=Random, kw_only=True)
    limiter: anyio.CapacityLimiter = field(init=False)
    #: Requests, each counted once regardless of its attempts.
    requests: int = field(default=0, init=False)
    retries: int = field(default=0, init=False)
    _paused_until: float = field(default=-math.inf, init=False)
    _limit_halved_at: float = field(default=-math.inf, init=False)
    #: Successes since the limit last changed.
    _successes: int = field(default=0, init=False)
    _refusal: ResponseError | None = field(default=None, init=False)
    _refused_until: float = field(default=-math.inf, init=False)

    def __attrs_post_init__(self) -> None:
        self.limiter = anyio.CapacityLimiter(self.concurrency)

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
        if self.retries + 1 > BUDGET_SHARE * self.requests + BUDGET_RESERVE:
            return False
        self.retries += 1
        return True

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
        retrying = AsyncRetrying(
            sleep=self.sleep,
            stop=request.should_stop,
            wait=request.backoff,
            retry=retry_if_exception_type(RetryableFailure),
            reraise=True,
        )
        try:
            return await retrying(request.attempt)
        except RetryableFailure as exception:
            failure = exception
        except RequestError as error:
            error.attempts = max(1, request.attempts)
            raise
        # Raised outside the except block: with the failure as its context, the error would be part of a cycle, which cannot be
        # pickled by those who pickle contexts too, such as Dask.
        failure.error.attempts = request.attempts
        failure.error._splittable = failure.splittable  # noqa: SLF001 - private to this package
        raise failure.error from failure.error.__cause__

    async def wait_for_pause(self, deadline: float) -> bool:
        """Waits until no pause is in effect; returns False at once if the pause lasts beyond the deadline."""
        while (remaining := self._paused_until - self.clock()) > 0:
            if self._paused_until >= deadline:
                return False
            await self.sleep(remaining)
        return True

    def pause(self, duration: float) -> None:
        """Pauses all requests for a number of seconds."""
        self._paused_until = max(self._paused_until, self.clock() + duration)

    async def attempt(self, send: Callable[[float], Awaitable[T]], deadline: float) -> T:
        """Makes one attempt, and adapts the limits to its result."""
        started = self.clock()
        try:
            result = await send(max(0.0, deadline - started))
        except RetryableFailure as failure:
            if failure.overload:
                self._record_overload(started)
            raise
        except (AuthenticationError, PermissionDeniedError) as error:
            self._refusal = error
            self._refused_until = self.clock() + REFUSED_SECONDS
            raise
        self._record_success()
        return result


@define
class _Request(Generic[T]):
    """The attempts of one request; its methods are tenacity's hooks."""

    throttle: RequestThrottle
    send: Callable[[float], Awaitable[T]]
    policy: RetryPolicy
    attempts: int
    split_after: int | None
    on_retry: Callable[[int, float, RequestError], None] | None
    deadline: float = field(init=False)
    last_error: RequestError | None = None
    stale_connection_seen: bool = False

    def __attrs_post_init__(self) -> None:
        self.deadline = self.throttle.clock() + self.policy.total_timeout

    async def attempt(self) -> T:
        while True:
            if not await self.throttle.wait_for_pause(self.deadline):
                raise self.last_error or RequestTimeout(
                    "the server paused all requests for longer than RetryPolicy.total_timeout"
                )
            self.throttle.raise_if_refused()
            self.attempts += 1
            try:
                return await self.throttle.attempt(self.send, self.deadline)
            except RetryableFailure as failure:
                if not failure.stale_connection or self.stale_connection_seen:
                    self.last_error = failure.error
                    raise
            self.stale_connection_seen = True
            self.attempts -= 1

    def backoff(self, state: RetryCallState) -> float:
        limit = min(self.policy.max_backoff, self.policy.initial_backoff * 2.0 ** min(self.attempts - 1, 64))
        return max(self.throttle.random.uniform(0, limit), _failure(state).retry_after or 0)

    def should_stop(self, state: RetryCallState) -> bool:
        failure, policy, delay = _failure(state), self.policy, state.upcoming_sleep
        if (failure.retry_after or 0) > policy.max_retry_after:
            return True
        if failure.account_wide:
            # Even if this request is not retried: the failure concerns the others too.
            self.throttle.pause(delay)
        limits = [policy.max_attempts]
        if failure.max_attempts is not None:
            limits.append(failure.max_attempts)
        if failure.splittable and self.split_after is not None:
            limits.append(self.split_after)
        if self.attempts >= min(limits) or self.throttle.clock() + delay >= self.deadline:
            return True
        if not self.throttle.consume_retry():
            return True
        if self.on_retry is not None:
            self.on_retry(self.attempts, delay, failure.error)
        logger.info(
            "retry %d of %d: %s", self.attempts, policy.max_attempts - 1, type(failure.error).__name__
        )
        return False


def _failure(state: RetryCallState) -> RetryableFailure:
    assert state.outcome is not None
    failure = state.outcome.exception()
    assert isinstance(failure, RetryableFailure)
    return failure
