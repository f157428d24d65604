"""Prints what simulations found, for the command line."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

from .patches import patched
from .runner import run
from .schedule import Schedule
from .shrink import shrink

if TYPE_CHECKING:
    from .patches import Noise
    from .world import Violation

__all__ = ["exhaustive", "failure", "hunt", "many", "one", "replay", "say"]


def say(text: object) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _show(schedule: Schedule, noise: Noise) -> list[Violation]:
    """Prints the trace of a schedule."""
    outcome = run(schedule, noise, trace=True)
    say(f"schedule {schedule.to_json()}")
    say("\n".join(outcome.lines))
    say(f"{outcome.steps} steps, {outcome.requests} requests, {outcome.calls} calls")
    for violation in outcome.violations:
        say(f"{violation.kind}: {violation.text}")
    return outcome.violations


def one(seed: int) -> int:
    """Runs one seed, and prints its trace."""
    with patched() as noise:
        return bool(_show(Schedule.draw(seed), noise))


def replay(text: str) -> int:
    """Runs a schedule that was written down, and prints its trace."""
    with patched() as noise:
        return bool(_show(Schedule.from_json(text), noise))


def failure(schedule: Schedule, violation: Violation, noise: Noise) -> str:
    """Shrinks a failing schedule, and says how to run it again."""
    smaller = shrink(schedule, violation.kind, noise)
    outcome = run(smaller, noise, trace=True)
    again = [found.text for found in outcome.violations if found.kind == violation.kind] or [violation.text]
    trace = "\n".join(outcome.lines[-60:])
    return (
        f"seed {schedule.seed} violates {violation.kind!r}: {again[0]}\n"
        f"as drawn: python -m tests.simulation --seed {schedule.seed}\n"
        f"shrunk (--replay FILE with this line):\n{smaller.to_json()}\n{trace}"
    )


def many(seeds: range, ends: float, *, shrinking: bool = True) -> int:
    """Runs seeds one after the other until the time is up; prints each distinct violation once."""
    say(f"seeds from {seeds.start} on")
    found: dict[str, int] = {}
    number = steps = requests = 0
    began, used = time.monotonic(), time.process_time()
    with patched() as noise, contextlib.suppress(KeyboardInterrupt):
        for seed in seeds:
            if time.monotonic() > ends:
                break
            schedule = Schedule.draw(seed)
            outcome = run(schedule, noise)
            for violation in outcome.violations:
                found[violation.kind] = found.get(violation.kind, 0) + 1
                if found[violation.kind] == 1:
                    say(failure(schedule, violation, noise) if shrinking else f"seed {seed} {violation}")
            number, steps, requests = number + 1, steps + outcome.steps, requests + outcome.requests
    wall, used = time.monotonic() - began, time.process_time() - used
    say(
        f"{number} schedules, {steps} steps and {requests} requests in {wall:.0f} s "
        f"({number / wall:.0f} schedules a second, {number / used:.0f} a second of processor time)"
    )
    say(f"violations: {found or 'none'}")
    return bool(found)


def hunt(name: str, seeds: range, ends: float) -> int:
    """Runs seeds until one shows the planted mistake; 0 if one does before the time or the seeds are used up."""
    number = 0
    used = time.process_time()
    with patched() as noise:
        for seed in seeds:
            if time.monotonic() > ends:
                break
            number += 1
            schedule = Schedule.draw(seed)
            if violations := run(schedule, noise).violations:
                used = time.process_time() - used
                first = violations[0]
                say(
                    f"{name}: found by {number} schedules in {used:.1f} s of processor time: {first.kind}: {first.text}"
                )
                return 0
    say(f"{name}: not found in {number} schedules")
    return 1


def exhaustive(*, full: bool, seconds: float) -> int:
    """Runs every schedule within bounds, and prints how many that were."""
    from .exhaustive import BOUNDS, FULL_BOUNDS, PULLS, search

    total, found = 0, 0
    with patched() as noise:
        for name, schedule in PULLS.items():
            report = search(
                schedule,
                noise,
                bounds=FULL_BOUNDS if full else BOUNDS,
                ends=time.monotonic() + seconds,
            )
            total += report.number
            say(f"{name}: {report}")
            for candidate, violation in report.failures:
                found += 1
                say(f"  {violation.kind}: {violation.text}\n  {candidate.to_json()}")
    say(f"{total} schedules in all, {found} distinct violations")
    return bool(found)
