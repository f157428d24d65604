"""A deadline for an attempt that covers the network only: `NetworkDeadline`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Self

import anyio

if TYPE_CHECKING:
    from types import TracebackType

#: What is not worth another timer: a share of the limit, at least these seconds.
_TOLERANCE: Final = 0.05
_SHORTEST: Final = 0.001


class NetworkDeadline:
    """A context manager that ends its block when the network has taken longer than `limit` seconds.

    Time in which this thread computes does not count, whatever it computes: a slow processor, or a program that keeps the event
    loop busy, must not look like a slow server. Time in which the loop was blocked until the timer could run does not count either.

    Attributes:
        expired: the block was ended.
        decoding: seconds spent decoding, which may be more than the processor's time if threads wait for each other.
    """

    def __init__(self, limit: float) -> None:
        self.expired = False
        self.decoding = 0.0
        self._limit = limit
        self._scope = anyio.CancelScope()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._computed = time.thread_time()
        self._scope.__enter__()
        self._set_timer(self._started + self._limit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.stop()
        return bool(self._scope.__exit__(kind, error, trace))

    def stop(self) -> None:
        """The network is done: from now on there is no limit."""
        self._timer.cancel()

    def _set_timer(self, when: float) -> None:
        self._planned = when
        self._timer = self._loop.call_at(when, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        computing = max(self.decoding, time.thread_time() - self._computed)
        blocked = now - self._planned
        left = max(self._limit - (now - self._started - computing), blocked)
        if left > max(_SHORTEST, _TOLERANCE * self._limit):
            self._set_timer(now + left)
        else:
            self.expired = True
            self._scope.cancel()
