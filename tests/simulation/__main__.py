"""Runs simulations from the command line.

::

    python -m tests.simulation --seconds 600        # seeds from a random one on; each distinct violation once
    python -m tests.simulation --seed 42            # one seed, with a trace of what happened
    python -m tests.simulation --replay FILE        # a schedule that was written down, with its trace
    python -m tests.simulation --mutation NAME      # with a planted mistake; exits with 0 if it is found
    python -m tests.simulation --exhaustive         # every schedule within the bounds of `exhaustive`
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Runs what the arguments say; gives the exit code, 1 for a violation."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description="Simulates the client from seeds."
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long to go on")
    parser.add_argument("--number", type=int, default=10**12, help="how many seeds to run at most")
    parser.add_argument("--first", type=int, help="the first seed; a random one if left out")
    parser.add_argument("--seed", type=int, help="run this seed alone, with a trace")
    parser.add_argument("--replay", type=Path, help="run the schedule in this JSON file, with a trace")
    parser.add_argument("--mutation", help="plant this mistake first, and stop when it is found")
    parser.add_argument("--exhaustive", action="store_true", help="run every schedule within bounds")
    parser.add_argument("--full", action="store_true", help="with --exhaustive: the larger bounds")
    parser.add_argument("--no-shrink", action="store_true", help="show a failing schedule as it was drawn")
    options = parser.parse_args(arguments)
    if options.mutation is not None:
        from .planting import plant

        # Before anything imports the package.
        plant(options.mutation)
    from . import reports

    if options.exhaustive:
        return reports.exhaustive(full=options.full, seconds=options.seconds)
    if options.replay is not None:
        return reports.replay(options.replay.read_text(encoding="utf-8"))
    if options.seed is not None:
        return reports.one(options.seed)
    first = (
        options.first if options.first is not None else random.SystemRandom().randrange(1, 1_000_000) * 1_000
    )
    ends = time.monotonic() + options.seconds
    if options.mutation is not None:
        return reports.hunt(options.mutation, range(first, first + options.number), ends)
    return reports.many(range(first, first + options.number), ends, shrinking=not options.no_shrink)


if __name__ == "__main__":
    sys.exit(main())
