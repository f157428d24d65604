"""A throttle with a lower limit than that of its session: `ThrottleView`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .throttle import RequestThrottle

T = TypeVar("T")


class ThrottleView:
    """Lets fewer requests at a time through to another throttle, which limits and retries them together with all others.

    Args:
        throttle: the throttle of the session, or another view of it.
        concurrency: maximum number of requests in flight through this view.
    """

    def __init__(self, throttle: RequestThrottle | ThrottleView, concurrency: int) -> None:
        self.throttle: RequestThrottle | ThrottleView = throttle
        self.concurrency: int = concurrency
        self.limiter: anyio.CapacityLimiter = anyio.CapacityLimiter(concurrency)

    @property
    def in_flight(self) -> int:
        """Requests that hold a slot of this view."""
        return self.limiter.borrowed_tokens

    async def acquire(self, holder: object) -> None:
        """Waits for a slot of this view and one of the session."""
        await self.limiter.acquire_on_behalf_of(holder)
        try:
            await self.throttle.acquire(holder)
        except BaseException:
            self.limiter.release_on_behalf_of(holder)
            raise

    def release(self, holder: object) -> None:
        """Returns both slots."""
        self.throttle.release(holder)
        self.limiter.release_on_behalf_of(holder)

    def consume_retry(self) -> bool:
        """Takes one retry from the budget of the session."""
        return self.throttle.consume_retry()

    async def run(self, send: Callable[[float], Awaitable[T]], *args: Any, **options: Any) -> T:
        """Sends a request as `RequestThrottle.run` does."""
        return await self.throttle.run(send, *args, **options)
