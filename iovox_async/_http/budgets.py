"""Limits over all requests of a session: `RetryBudget` for retries, `PageBudget` for the memory of pages."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Retries that a session may send before its first success.
BUDGET_RESERVE: Final = 20
#: Retries that each success adds.
BUDGET_SHARE: Final = 0.2
#: Retries that a session may have saved up, at most. A session with a million requests behind it must not meet the next outage
#: with 200,000 retries.
BUDGET_CAPACITY: Final = 100
#: Bytes of a page in the page budget of a session: a little more than a page of the default size.
BUDGET_PAGE_BYTES: Final = 4_000_000
#: Bytes that a stream may read ahead, for each request that it may have in flight: so much is on its way while the reader decodes
#: a page, and what waits longer is only memory.
STREAM_BYTES: Final = 3_250_000


class RetryBudget(msgspec.Struct):
    """A token bucket: a retry takes a token, a success adds a fifth of one (as in Finagle, linkerd and gRPC)."""

    #: Counted in fifths, which are exact.
    _fifths: int = 5 * BUDGET_RESERVE

    @property
    def available(self) -> int:
        """Retries that may be taken now."""
        return self._fifths // 5

    def take(self) -> bool:
        """Takes a retry; returns False if none is left."""
        if self._fifths < 5:
            return False
        self._fifths -= 5
        return True

    def record_success(self) -> None:
        """Adds a fifth of a retry, up to the capacity."""
        self._fifths = min(5 * BUDGET_CAPACITY, self._fifths + 1)


class PageBudget(msgspec.Struct, eq=False):
    """Counts the bytes of all pages of a session or a stream, expected and received.

    A page counts from the start of its request until nothing refers to it any more. A stream that waits for the budget may still
    request the page that its reader needs next, so every stream goes on however many there are.

    Args:
        limit: bytes above which no stream reads ahead.
    """

    limit: int
    used: int = 0
    #: By the id of the reference, which itself is compared and hashed like the page.
    _pages: dict[int, tuple[weakref.ref[Any], int]] = msgspec.field(default_factory=dict)
    _waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = msgspec.field(default_factory=dict)
    #: Pages may be dropped in any thread, and at any allocation.
    _lock: Any = msgspec.field(default_factory=threading.RLock)

    @classmethod
    def for_concurrency(cls, concurrency: int) -> PageBudget:
        """The budget of a session: what one stream of large pages may hold."""
        return cls((2 * concurrency + 1) * BUDGET_PAGE_BYTES)

    def has_room(self, wake: asyncio.Event) -> bool:
        """Whether a stream may read ahead. If not, `wake` is set when the budget may allow it again."""
        with self._lock:
            if self.used < self.limit:
                return True
            self._waiting[wake] = asyncio.get_running_loop()
            return False

    @contextmanager
    def expect(self, size: int) -> Iterator[None]:
        """Counts a page of about `size` bytes while it is being received."""
        self._add(size)
        try:
            yield
        finally:
            self._add(-size)

    def hold(self, page: Any, size: int) -> None:
        """Counts a page until nothing refers to it."""
        self._add(size)
        reference = weakref.ref(page, self._forget)
        self._pages[id(reference)] = reference, size

    def _forget(self, reference: weakref.ref[Any]) -> None:
        self._add(-self._pages.pop(id(reference))[1])

    def _add(self, size: int) -> None:
        with self._lock:
            self.used += size
            if self.used >= self.limit:
                return
            waiting, self._waiting = self._waiting, {}
        for event, loop in waiting.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(event.set)
