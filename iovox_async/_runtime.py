"""Provides sessions and backfills with time and randomness, so that tests can replace both.

This is the one test seam of the package. A session or a backfill takes the current runtime when it is created and keeps it::

    with use_runtime(Runtime(clock=clock, sleep=clock.sleep, random=Random(7))):
        insights = AsyncInsights(...)   # its retries wait by `clock.sleep`, and their jitter repeats
"""

from __future__ import annotations

import random as _random
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


def _utcnow() -> datetime:
    return datetime.now(UTC)


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """The sources of time and randomness of a session or a backfill.

    Attributes:
        clock: returns monotonic seconds; deadlines, pauses and durations use it.
        sleep: waits for a number of seconds.
        random: the random source for the jitter of retries.
        utcnow: returns the current UTC time, aware.
    """

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: _random.Random = msgspec.field(default_factory=_random.Random)
    utcnow: Callable[[], datetime] = _utcnow


_replacement: Runtime | None = None


def current_runtime() -> Runtime:
    """Returns the runtime for what is created now: that of `use_runtime`, or a new one with the real clocks."""
    return _replacement or Runtime()


@contextmanager
def use_runtime(runtime: Runtime) -> Iterator[Runtime]:
    """Makes `runtime` the current one, in all threads, until the block ends."""
    global _replacement  # noqa: PLW0603 - tests replace it, and fixtures run in another context than tests
    previous, _replacement = _replacement, runtime
    try:
        yield runtime
    finally:
        _replacement = previous
