"""What the sandbox was made to do, counted.

The law of this room: counters are changed under one lock and shown as frozen values, so a test reads a moment and
never a half of one.
"""

from __future__ import annotations

import threading
from collections import deque

import attrs

#: Requests remembered one by one; older ones are forgotten, the counters are not.
REMEMBERED = 10_000


@attrs.frozen
class Request:
    """One request to the endpoint, as it ended."""

    #: Its number since the counters were last reset, from 1.
    number: int
    #: The query string as it came.
    query: str
    #: "200", another status, or the kind of fault it met.
    outcome: str
    #: Rows in the answer.
    rows: int = 0


@attrs.frozen
class SandboxStats:
    """The counters at one moment."""

    #: Requests to the endpoint that arrived, those that fail included.
    requests: int = 0
    #: Requests answered whole, with calls (or with an empty list).
    answered: int = 0
    #: Requests that were refused or met a fault.
    failed: int = 0
    #: Requests whose client left before it had the answer.
    abandoned: int = 0
    #: Calls in whole answers.
    rows: int = 0
    #: Calls the store walked over to reach a page (OFFSET).
    offset_rows: int = 0
    #: Bytes of answers' bodies that were handed to the network.
    bytes: int = 0
    #: Requests being answered now, and the most there were at a time.
    active_requests: int = 0
    peak_active_requests: int = 0
    #: Connections open now, the most there were at a time, and all that were accepted.
    connections: int = 0
    connections_peak: int = 0
    connections_made: int = 0


class RequestCounters:
    """The counters themselves; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = SandboxStats()
        self._log: deque[Request] = deque(maxlen=REMEMBERED)
        self._round = 0

    @property
    def now(self) -> SandboxStats:
        """The counters at this moment."""
        return self._now

    @property
    def log(self) -> tuple[Request, ...]:
        """The requests that ended, oldest first."""
        with self._lock:
            return tuple(self._log)

    def reset(self) -> None:
        """Back to zero; requests that are under way are only counted as such."""
        with self._lock:
            self._round += 1
            now = self._now
            self._log.clear()
            self._now = SandboxStats(
                active_requests=now.active_requests,
                peak_active_requests=now.active_requests,
                connections=now.connections,
                connections_peak=now.connections,
            )

    def count(self, **more: int) -> None:
        """Adds to the counters of these names."""
        with self._lock:
            self._add(more)

    def _add(self, more: dict[str, int]) -> None:
        self._now = attrs.evolve(
            self._now, **{name: getattr(self._now, name) + n for name, n in more.items()}
        )

    def arrive(self) -> tuple[int, int]:
        """A request begins; gives its number, and the round of counting it belongs to."""
        with self._lock:
            now = self._now
            here = now.active_requests + 1
            self._now = attrs.evolve(
                now,
                requests=now.requests + 1,
                active_requests=here,
                peak_active_requests=max(now.peak_active_requests, here),
            )
            return now.requests + 1, self._round

    def leave(self, request: Request, round_: int, **more: int) -> None:
        """A request ended, and this is what it adds to the counters if they are still those of its round."""
        with self._lock:
            self._add({"active_requests": -1})
            if round_ == self._round:
                self._add(more)
                self._log.append(request)

    def connect(self) -> None:
        """A connection was accepted."""
        with self._lock:
            now = self._now
            here = now.connections + 1
            self._now = attrs.evolve(
                now,
                connections=here,
                connections_peak=max(now.connections_peak, here),
                connections_made=now.connections_made + 1,
            )

    def disconnect(self) -> None:
        """A connection is gone."""
        self.count(connections=-1)
