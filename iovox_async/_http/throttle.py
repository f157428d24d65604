"""When a request may start, and when it is tried again.

The law of this room: everything that waits, waits here, with a clock, a sleep and a random source that are
arguments. `RetryPolicy` says what is wanted; a `RequestThrottle`, one a session, holds what is going on: how many requests may
be in flight, whether all must pause, what retries are left, and whether the account is locked out.

Precedents for the numbers: at most 20 % of requests are retries, plus a reserve of 20, so that one request in seven
may fail and an outage is not answered with a storm (the budgets of Finagle and linkerd have this shape). Back-off
has full jitter, as AWS's SDKs have it. The limit on concurrency is halved on overload and grows by one after a full
round of successes, as TCP does.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Final, TypeVar

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
#: Seconds after a 401 or 403 in which nothing is sent, lest fifty workers have the account locked.
LOCKED_OUT: Final = 30.0


# One a setting, so that an error names it: type checkers follow converters only as plain functions.


class RetryableFailure(Exception):
    """Carries an error that may pass, between an exchange and the retries. Never leaves this package.

    Attributes:
        error: what is raised when no retry is left.
        overload: the server has too much to do: fewer requests at a time.
        shared: it concerns all requests of the account: all pause.
        retry_after: seconds for which the server asked to wait, or None.
        split: a smaller request may fare better.
        at_most: attempts after which it is taken as lasting, or None.
        stale: an idle connection was found closed: try again at once, and do not count it.
    """

    def __init__(
        self,
        error: RequestError,
        *,
        overload: bool = False,
        shared: bool = False,
        retry_after: float | None = None,
        split: bool = False,
        at_most: int | None = None,
        stale: bool = False,
    ) -> None:
        super().__init__(error)
        self.error = error
        self.overload = overload
        self.shared = shared
        self.retry_after = retry_after
        self.split = split
        self.at_most = at_most
        self.stale = stale


def is_splittable(error: RequestError) -> bool:
    """Whether a smaller request might succeed where this one failed."""
    return error._splittable  # noqa: SLF001 - private to this package


@define(eq=False)
class RequestThrottle:
    """What a session's requests share.

    Args:
        concurrency: requests in flight, at most.
        clock: seconds, monotonic.
        sleep: waits for seconds.
        random: the random source of the jitter.
    """

    concurrency: int
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True)
    sleep: Callable[[float], Awaitable[None]] = field(default=anyio.sleep, kw_only=True)
    random: Random = field(factory=Random, kw_only=True)
    limiter: anyio.CapacityLimiter = field(init=False)
    #: Requests, each counted once however often it was tried.
    requests: int = 0
    retries: int = 0
    _paused_until: float = -math.inf
    _halved_at: float = -math.inf
    _round: int = 0
    _refusal: ResponseError | None = None
    _refused_until: float = -math.inf

    def __attrs_post_init__(self) -> None:
        self.limiter = anyio.CapacityLimiter(self.concurrency)

    # Slots.

    async def acquire(self, holder: object) -> None:
        """Waits for a slot, first come first served; `release` gives it back.

        Raises:
            AuthenticationError, PermissionDeniedError: the account was refused a moment ago; nothing is sent.
        """
        self.raise_if_refused()
        await self.limiter.acquire_on_behalf_of(holder)

    def release(self, holder: object) -> None:
        """Gives a slot back."""
        self.limiter.release_on_behalf_of(holder)

    @property
    def in_flight(self) -> int:
        """Requests that hold a slot."""
        return self.limiter.borrowed_tokens

    def raise_if_refused(self) -> None:
        """Raises what refused the account, if that was a moment ago."""
        if self._refusal is not None and self.clock() < self._refused_until:
            raise type(self._refusal)(self._refusal.status_code, self._refusal.messages)

    def _refused(self, error: ResponseError) -> None:
        self._refusal = error
        self._refused_until = self.clock() + LOCKED_OUT

    # What answers teach.

    def _succeeded(self) -> None:
        tokens = int(self.limiter.total_tokens)
        self._round += 1
        if tokens < self.concurrency and self._round >= tokens:
            self._round = 0
            self.limiter.total_tokens = tokens + 1

    def _failed(self, failure: RetryableFailure, started: float) -> None:
        # Requests that flew together fail together: that is one overload, not many.
        if failure.overload and started > self._halved_at:
            self._round = 0
            self._halved_at = self.clock()
            self.limiter.total_tokens = max(1, int(self.limiter.total_tokens) // 2)

    # Retries.

    def consume_retry(self) -> bool:
        """Takes one retry from the budget; False when it is used up."""
        if self.retries + 1 > BUDGET_SHARE * self.requests + BUDGET_RESERVE:
            return False
        self.retries += 1
        return True

    async def run(
        self,
        exchange: Callable[[float], Awaitable[T]],
        policy: RetryPolicy,
        *,
        previous_attempts: int = 0,
        split_after: int | None = None,
        on_retry: Callable[[int, float, RequestError], None] | None = None,
    ) -> T:
        """Runs an exchange until it succeeds, fails for good, or nothing is left to try.

        Args:
            exchange: one attempt, given the seconds it may take at most; what may pass is raised as `RetryableFailure`.
            policy: how often and how long.
            previous_attempts: attempts that were made already in the place of this request, which then is not a new one.
            split_after: the attempt after which a failure that a smaller request may avoid is raised.
            on_retry: told of each retry: the attempt that failed, seconds until the next, the failure.

        Raises:
            IovoxError: the last failure, with the number of attempts.
        """
        self.requests += not previous_attempts
        began = self.clock()
        number = previous_attempts
        fresh = False
        last: RequestError | None = None

        def stop(state: RetryCallState) -> bool:
            assert state.outcome is not None
            failure = state.outcome.exception()
            assert isinstance(failure, RetryableFailure)
            tries = (
                policy.max_attempts if failure.at_most is None else min(policy.max_attempts, failure.at_most)
            )
            if failure.split and split_after is not None:
                tries = min(tries, split_after)
            if (failure.retry_after or 0) > policy.max_retry_after:
                return True
            if failure.shared:
                # Also when this request is given up: what it was told concerns all.
                self._paused_until = max(self._paused_until, self.clock() + state.upcoming_sleep)
            if number >= tries or self.clock() - began + state.upcoming_sleep >= policy.total_timeout:
                return True
            if not self.consume_retry():
                return True
            if on_retry is not None:
                on_retry(number, state.upcoming_sleep, failure.error)
            logger.info("retry %d of %d: %s", number, policy.max_attempts - 1, type(failure.error).__name__)
            return False

        def wait(state: RetryCallState) -> float:
            assert state.outcome is not None
            failure = state.outcome.exception()
            assert isinstance(failure, RetryableFailure)
            ceiling = min(policy.max_backoff, policy.initial_backoff * 2.0 ** min(number - 1, 64))
            return max(self.random.uniform(0, ceiling), failure.retry_after or 0)

        async def attempt() -> T:
            nonlocal number, fresh, last
            while True:
                if not await self._cool_down(began + policy.total_timeout):
                    raise last or RequestTimeout(
                        "the server asked all requests to pause, for longer than RetryPolicy.total_timeout allows one to take"
                    )
                self.raise_if_refused()
                number += 1
                started = self.clock()
                try:
                    result = await exchange(max(0.0, policy.total_timeout - (started - began)))
                except RetryableFailure as failure:
                    if failure.stale and not fresh:
                        fresh = True
                        number -= 1
                        continue
                    self._failed(failure, started)
                    last = failure.error
                    raise
                except (AuthenticationError, PermissionDeniedError) as error:
                    self._refused(error)
                    raise
                self._succeeded()
                return result

        retrying = AsyncRetrying(
            sleep=self.sleep,
            stop=stop,
            wait=wait,
            retry=retry_if_exception_type(RetryableFailure),
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except RetryableFailure as failure:
            lasting = failure
        except RequestError as error:
            error.attempts = max(1, number)
            raise
        # Out here, so that the error does not have its own wrapping as its context: the ring would defeat pickling where
        # causes are pickled too, as Dask does.
        lasting.error.attempts = number
        lasting.error._splittable = lasting.split  # noqa: SLF001 - private to this package
        raise lasting.error from lasting.error.__cause__

    async def _cool_down(self, deadline: float) -> bool:
        """Waits while all pause; False, at once, where that would go on beyond the deadline."""
        while (left := self._paused_until - self.clock()) > 0:
            if self._paused_until >= deadline:
                return False
            await self.sleep(left)
        return True
