"""Counts the requests of the window plan with and without evidence. Print the table: `PYTHONPATH=tests python -m support.evidence_costs`."""

from __future__ import annotations

import math
import random

from iovox_async._paging import WindowPlan

from .model_server import Server, at, pull
from .traffic import DAY, PATTERNS

#: Calls, days and rows per page.
READS = [(3_000, 7, 100), (3_000, 30, 300), (12_000, 90, 400), (20_000, 365, 1_000), (20_000, 14, 250)]


class BelievingPlan(WindowPlan):
    """The plan of version 0.1: it believes each page that claims to be the last."""

    def _is_doubtful(self, *_: object) -> bool:
        return False

    def next_request(self):
        self._evidence.overlap_seconds = lambda *_, **__: 0  # type: ignore[method-assign]
        self._evidence.seconds_of_tail = lambda *_: 0  # type: ignore[method-assign]
        return super().next_request()


def count(plan: type[WindowPlan], pattern, read: tuple[int, int, int], concurrency: int, seed: int) -> int:
    """The requests that a plan makes for one read."""
    calls, days, limit = read
    rng = random.Random(seed)
    server = Server(rng, days * DAY)
    server.fill(map(at, pattern(rng, calls, days)))
    result = pull(plan(at(0), at(days * DAY), limit=limit), server, concurrency=concurrency, patient=False)
    assert len(result.rows) == calls
    return result.requests


def main() -> None:
    """Prints the table."""
    for pattern in PATTERNS:
        for concurrency in (1, 8):
            for read in READS:
                before, after = (
                    sum(count(plan, pattern, read, concurrency, seed) for seed in range(5)) / 5
                    for plan in (BelievingPlan, WindowPlan)
                )
                ideal = math.ceil(read[0] / read[2])
                print(  # noqa: T201 - a program that prints
                    f"{pattern.__name__:8} {concurrency} at a time, {read}: {before:.1f} -> {after:.1f} requests, "
                    f"{after / ideal:.2f} x ideal"
                )


if __name__ == "__main__":
    main()
