"""Makes a failing schedule smaller for as long as it still fails in the same way.

Each step tries one simplification (fewer uses, fewer calls, fewer faults, less motion, no shuffling, default arguments) and keeps it if
a violation of the same kind remains.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from .runner import run
from .schedule import Schedule, Use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .patches import Noise

__all__ = ["shrink"]

#: Runs that shrinking may take.
BUDGET = 300
#: The simplest value of each argument, in the order in which they are tried.
SIMPLE = {
    "outage": [],
    "slip": "",
    "cached": False,
    "motion": 0,
    "shuffle": 0.0,
    "lag": 0.0,
    "work": 0.0,
    "deviations": {},
    "latency": 0.0,
    "gzip": False,
    "lone": False,
    "shift": 0,
    "timezone": None,
    "log": False,
    "id_text": False,
    "empty": "[]",
    "cap": None,
    "offset": "limit",
    "shown": "second",
    "end": "inclusive",
    "timeout": 60.0,
    "attempts": 5,
    "concurrency": 1,
    "page_size": 4,
}


def _simpler(schedule: Schedule) -> Iterator[Schedule]:
    """Gives simpler schedules, the most simplified first."""

    def changed(**changes) -> Schedule:
        copy = deepcopy(schedule)
        for name, value in changes.items():
            setattr(copy, name, value)
        return copy

    if len(schedule.uses) > 1:
        for place in range(len(schedule.uses)):
            yield changed(uses=deepcopy(schedule.uses[:place] + schedule.uses[place + 1 :]))
    starts = schedule.starts
    size = len(starts) // 2
    while size:
        for begin in range(0, len(starts), size):
            yield changed(starts=starts[:begin] + starts[begin + size :])
        size //= 2
    for number in schedule.faults:
        yield changed(faults={other: kind for other, kind in schedule.faults.items() if other != number})
    for name, value in SIMPLE.items():
        if getattr(schedule, name) != value:
            yield changed(**{name: deepcopy(value)})
    if schedule.motion > 1:
        yield changed(motion=schedule.motion // 2)
        yield changed(motion=schedule.motion - 1)
    for motion in schedule.motions if len(schedule.motions) > 1 else []:
        yield changed(motions=[other for other in schedule.motions if other != motion])
    if schedule.concurrency > 2:
        yield changed(concurrency=2)
    whole = [float(int(start)) for start in starts]
    if whole != starts:
        yield changed(starts=whole)
    yield from _simpler_uses(schedule)


def _simpler_uses(schedule: Schedule) -> Iterator[Schedule]:
    plain = Use()
    for place, use in enumerate(schedule.uses):
        for name in (
            "mode",
            "order",
            "ordered",
            "paging",
            "fields",
            "max_calls",
            "filtered",
            "leave",
            "refresh",
            "crash_after",
            "crash",
            "format",
        ):
            if getattr(use, name) != getattr(plain, name):
                copy = deepcopy(schedule)
                setattr(copy.uses[place], name, getattr(plain, name))
                yield copy


def shrink(schedule: Schedule, kind: str, noise: Noise, *, budget: int = BUDGET) -> Schedule:
    """Gives a smaller schedule that violates the same invariant."""
    smallest = schedule
    progress = True
    while progress and budget > 0:
        progress = False
        for candidate in _simpler(smallest):
            budget -= 1
            if budget <= 0:
                break
            if any(violation.kind == kind for violation in run(candidate, noise).violations):
                smallest, progress = candidate, True
                break
    return smallest
