"""Keeps which requests of a session wait for a slot: `SlotQueue`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

import msgspec

if TYPE_CHECKING:
    import asyncio

    from .throttle import RequestThrottle
    from .throttle_view import ThrottleView


class SlotQueue(msgspec.Struct, eq=False):
    """The requests that wait for a slot.

    A page whose reader is busy is not received, and its request holds a slot meanwhile. It is received after all when a request of
    another stream, or of `page` or `get`, waits for a slot: a reader may make such a request for each call, and otherwise each would
    wait for the other.
    """

    #: The stream of each, or the request itself.
    _owners: dict[object, object] = msgspec.field(default_factory=dict)
    #: Set when a request begins to wait.
    _events: WeakSet[asyncio.Event] = msgspec.field(default_factory=WeakSet)

    async def acquire(self, throttle: RequestThrottle | ThrottleView, holder: object, owner: object) -> None:
        """Waits for a slot of a throttle, as its `acquire`."""
        if not _is_full(throttle):
            await throttle.acquire(holder)
            return
        self._owners[holder] = owner
        events, self._events = self._events, WeakSet()
        for event in events:
            event.set()
        try:
            await throttle.acquire(holder)
        finally:
            del self._owners[holder]

    def has_others(self, owner: object, wake: asyncio.Event) -> bool:
        """Whether a request waits that is not of this owner. If not, `wake` is set when one may."""
        if any(other is not owner for other in self._owners.values()):
            return True
        self._events.add(wake)
        return False


def _is_full(throttle: RequestThrottle | ThrottleView | None) -> bool:
    """Whether a request has to wait for a slot of a throttle, or of one that it is a view of."""
    return throttle is not None and (
        throttle.limiter.available_tokens < 1 or _is_full(getattr(throttle, "throttle", None))
    )
