"""Counts a sandbox's requests and connections.

Counters are changed under one lock and read as frozen values, so a reader sees one consistent state.
"""

from __future__ import annotations

import threading
from collections import deque

import attrs

__all__ = ["Request", "SandboxStats"]

#: Number of finished requests that are kept.
MAX_REQUESTS = 10_000


@attrs.frozen
class Request:
    """A finished request to the endpoint.

    Attributes:
        number: its number since the counters were reset, from 1.
        query: the query string, as received.
        outcome: the status, the kind of fault, or "abandoned" if the client closed the connection before the response.
        rows: number of calls in the response.
    """

    number: int
    query: str
    outcome: str
    rows: int = 0


@attrs.frozen
class SandboxStats:
    """The counters of a sandbox at one moment.

    Attributes:
        requests: requests received, including those that fail.
        answered: requests whose complete page was sent.
        failed: invalid requests, and requests that failed by a fault.
        abandoned: requests whose client closed the connection before the response was complete.
        rows: calls in complete pages.
        offset_rows: rows that the store skipped to reach a page (OFFSET).
        bytes: bytes of response bodies.
        active_requests: requests in progress.
        peak_active_requests: maximum of `active_requests`.
        connections: open connections.
        connections_peak: maximum of `connections`.
        connections_made: connections accepted.
    """

    requests: int = 0
    answered: int = 0
    failed: int = 0
    abandoned: int = 0
    rows: int = 0
    offset_rows: int = 0
    bytes: int = 0
    active_requests: int = 0
    peak_active_requests: int = 0
    connections: int = 0
    connections_peak: int = 0
    connections_made: int = 0


class RequestCounters:
    """The counters of a sandbox; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stats = SandboxStats()
        self._requests: deque[Request] = deque(maxlen=MAX_REQUESTS)
        self._generation = 0

    @property
    def stats(self) -> SandboxStats:
        """The current counters."""
        return self._stats

    @property
    def requests(self) -> tuple[Request, ...]:
        """The finished requests, oldest first."""
        with self._lock:
            return tuple(self._requests)

    def reset(self) -> None:
        """Sets the counters to zero; requests in progress remain counted as active, and in no other counter."""
        with self._lock:
            self._generation += 1
            self._requests.clear()
            active, connections = self._stats.active_requests, self._stats.connections
            self._stats = SandboxStats(
                active_requests=active,
                peak_active_requests=active,
                connections=connections,
                connections_peak=connections,
            )

    def _add(self, **increments: int) -> None:
        stats = attrs.evolve(
            self._stats, **{name: getattr(self._stats, name) + n for name, n in increments.items()}
        )
        self._stats = attrs.evolve(
            stats,
            peak_active_requests=max(stats.peak_active_requests, stats.active_requests),
            connections_peak=max(stats.connections_peak, stats.connections),
        )

    def start_request(self) -> tuple[int, int]:
        """Counts a new request; returns its number, and the generation of the counters for `finish_request`."""
        with self._lock:
            self._add(requests=1, active_requests=1)
            return self._stats.requests, self._generation

    def finish_request(self, request: Request, generation: int, **increments: int) -> None:
        """Counts a finished request; `increments` are left out if the counters were reset meanwhile."""
        with self._lock:
            if generation == self._generation:
                self._requests.append(request)
            else:
                increments = {}
            # In one step, since `stats` is read without the lock.
            self._add(active_requests=-1, **increments)

    def open_connection(self) -> None:
        """Counts an accepted connection."""
        with self._lock:
            self._add(connections=1, connections_made=1)

    def close_connection(self) -> None:
        """Counts a closed connection."""
        with self._lock:
            self._add(connections=-1)
