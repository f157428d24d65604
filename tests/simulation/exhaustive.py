"""Runs every schedule of a small pull within bounds: deviations from first-in-first-out, faults and cancellations.

A schedule is a pull of at most 7 calls in 2 to 4 windows, in which at most two steps run another callback than the oldest, at most
one request fails, and the reader is cancelled at most once. Every schedule is run that has

- two deviations, or
- one deviation, and a fault at any request or a cancellation at any step, or
- a fault at any request and a cancellation at any step, and after that a stream that resumes.

The pulls are so small that each of them takes a few minutes of one core. `FULL_BOUNDS` has one deviation more wherever there is a fault
or a cancellation, and takes hours.
"""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .runner import run
from .schedule import Schedule, Use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .patches import Noise
    from .world import Violation

__all__ = ["BOUNDS", "FULL_BOUNDS", "PULLS", "QUICK_PULLS", "Report", "search"]

#: The faults that are put at every place.
FAULTS = ("500", "cut", "429-after")
#: The most deviations, whether a request fails, whether the reader is cancelled: the combinations that are run.
BOUNDS = ((2, False, False), (1, True, False), (1, False, True), (0, True, True))
FULL_BOUNDS = ((2, False, False), (2, True, False), (2, False, True), (1, True, True))
#: The small pulls.
PULLS = {
    "records, two windows": Schedule(starts=[0, 1, 2, 3, 5, 8], page_size=4, uses=[Use(end=9)]),
    "records, latest first, ties": Schedule(
        starts=[0, 2, 2, 2, 4, 6], page_size=4, end="exclusive", uses=[Use(end=6, order="call_start_DESC")]
    ),
    "records, in no order": Schedule(
        starts=[0, 1, 1, 4, 5, 9, 9], page_size=4, first_page=2, uses=[Use(end=9, ordered=False)]
    ),
    "a second fuller than a page": Schedule(
        starts=[1, 1, 1, 1, 1], page_size=3, concurrency=1, uses=[Use(end=2)]
    ),
    "page numbers": Schedule(starts=[0, 1, 2, 3, 4], page_size=2, uses=[Use(end=9, paging="pages")]),
    "pages of records": Schedule(starts=[0, 1, 2, 4, 6], page_size=3, uses=[Use(end=9, mode="pages")]),
    "two streams": Schedule(starts=[0, 2], page_size=2, concurrency=1, uses=[Use(end=2), Use(end=2)]),
}
#: Those that are searched in a minute or so.
QUICK_PULLS = ("records, latest first, ties", "page numbers")


@dataclass
class Report:
    """How many schedules were run, and which violated what."""

    number: int = 0
    failures: list[tuple[Schedule, Violation]] = field(default_factory=list)
    complete: bool = True

    def __str__(self) -> str:
        return f"{self.number} schedules{'' if self.complete else ', stopped before the end'}"


def _faulty(schedule: Schedule, requests: int) -> Iterator[Schedule]:
    for number in range(requests):
        for fault in FAULTS:
            changed = deepcopy(schedule)
            changed.faults = {number: fault}
            yield changed


def _cancelled(schedule: Schedule, steps: int, *, resume: bool) -> Iterator[Schedule]:
    for step in range(steps):
        changed = deepcopy(schedule)
        changed.uses[0].leave, changed.uses[0].leave_at, changed.uses[0].resume = "cancel", step, resume
        yield changed


class _Search:
    def __init__(self, noise: Noise, ends: float) -> None:
        self.noise, self.ends = noise, ends
        self.report = Report()

    def run(self, schedule: Schedule, deviations: int, after: int = -1) -> tuple[int, int]:
        """Runs a schedule, and all that deviate from it at later steps; gives its requests and steps."""
        report = self.report
        if time.monotonic() > self.ends:
            report.complete = False
            return 0, 0
        outcome = run(schedule, self.noise, widths=deviations > 0)
        report.number += 1
        kinds = {violation.kind for _, violation in report.failures}
        for violation in outcome.violations:
            if violation.kind not in kinds:
                report.failures.append((deepcopy(schedule), violation))
        if deviations:
            for step, width in enumerate(outcome.widths):
                if step > after:
                    for place in range(1, width):
                        schedule.deviations[step] = place
                        self.run(schedule, deviations - 1, step)
                        del schedule.deviations[step]
        return outcome.requests, outcome.steps


def search(
    schedule: Schedule,
    noise: Noise,
    *,
    bounds: tuple[tuple[int, bool, bool], ...] = BOUNDS,
    ends: float = float("inf"),
) -> Report:
    """Runs every schedule of a pull within the bounds."""
    searching = _Search(noise, ends)
    requests, steps = searching.run(deepcopy(schedule), 0)
    for deviations, fault, cancellation in bounds:
        faulty = list(_faulty(schedule, requests)) if fault else [schedule]
        for one in faulty:
            changed = _cancelled(one, steps, resume=not deviations) if cancellation else [deepcopy(one)]
            for candidate in changed:
                searching.run(candidate, deviations)
    return searching.report
