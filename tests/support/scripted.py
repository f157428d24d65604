"""Requests with scripted results, on an event loop whose clock jumps ahead instead of waiting."""

from __future__ import annotations

import asyncio
import random
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

from iovox_async._http.failures import RetryableFailure
from iovox_async._http.throttle import RequestThrottle
from iovox_async.errors import (
    RateLimitError,
    ServerError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class SkippingSelector(selectors.DefaultSelector):
    """Advances the loop's clock instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "all tasks wait for something that never happens"
            self.now += max(0.0, timeout)
        return ready


class SkippingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.skipping = SkippingSelector()
        super().__init__(self.skipping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.skipping.now


def run_skipping_time(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine on a loop that never waits."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


def new_throttle(concurrency: int = 8, seed: int = 0) -> RequestThrottle:
    return RequestThrottle(concurrency, clock=now, sleep=asyncio.sleep, random=random.Random(seed))


class Script:
    """Makes attempts with the given results in turn; the last one repeats."""

    def __init__(self, *results: object, duration: float = 0.0) -> None:
        self.results = list(results)
        self.duration = duration
        self.times: list[float] = []
        self.allowed: list[float] = []
        #: Start and end of each attempt that failed so that a retry may succeed.
        self.failures: list[tuple[float, float]] = []

    async def __call__(self, allowed: float) -> Any:
        self.times.append(now())
        self.allowed.append(allowed)
        if self.duration:
            await asyncio.sleep(self.duration)
        result = self.results[0] if len(self.results) == 1 else self.results.pop(0)
        if callable(result):
            result = result()
        if isinstance(result, RetryableFailure):
            self.failures.append((self.times[-1], now()))
        if isinstance(result, BaseException):
            raise result
        return result

    @property
    def waits(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


def overloaded() -> RetryableFailure:
    return RetryableFailure(ServerError(500, ("Retry later",)), overload=True, splittable=True)


def rate_limited(wait: float | None = None) -> RetryableFailure:
    return RetryableFailure(
        RateLimitError(429, retry_after=wait), overload=True, account_wide=True, retry_after=wait
    )


def broken() -> RetryableFailure:
    return RetryableFailure(TransportError("cut"))


def stale() -> RetryableFailure:
    return RetryableFailure(TransportError("closed"), stale_connection=True)
