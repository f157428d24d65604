"""Lists the violations that the package is known to commit, by their row in the list of findings.

Rows that begin with S were found by the simulation.

The table must be empty once the findings are fixed: then each of these is a violation like any other. Until then each row has an
example, and a test that the example still violates an invariant, so that no row outlives its fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .schedule import Schedule
    from .world import Violation

__all__ = ["KNOWN", "Known", "finding_of"]


@dataclass(frozen=True)
class Known:
    """A fault of the package that the simulation finds again and again.

    Attributes:
        what: what goes wrong.
        example: a schedule that shows it, as JSON.
        matches: whether a violation of a schedule is an example of it.
    """

    what: str
    example: str
    matches: Callable[[Schedule, Violation], bool]


def _leaves(schedule: Schedule, *leaves: str) -> bool:
    return any(use.leave in leaves for use in schedule.uses)


KNOWN: dict[str, Known] = {
    "A2": Known(
        "One response is empty or short by mistake, or the cap sinks.",
        '{"seed": 266, "starts": [505, 528], "slip": "empty-first", "concurrency": 1, "uses": [{"start": 200, "end": 600}]}',
        lambda schedule, violation: (
            schedule.slip in {"empty-first", "empty-late", "short-late", "sink"}
            and violation.kind in {"lost", "lost-end", "blind", "verify"}
        ),
    ),
    "A8": Known(
        "The server reads the start of a range as exclusive.",
        '{"starts": [73523], "slip": "first-excluded", "concurrency": 1, "uses": [{"start": 73523, "end": 86399}]}',
        lambda schedule, violation: (
            schedule.slip == "first-excluded" and violation.kind in {"lost", "lost-end", "blind", "verify"}
        ),
    ),
    "S1": Known(
        "Read by page numbers, the last second of a range depends on how the server reads its end. Not in the list yet.",
        '{"starts": [1], "end": "exclusive", "concurrency": 1, "uses": [{"start": 1, "end": 1, "paging": "pages"}]}',
        lambda schedule, violation: (
            violation.kind == "lost-end" and schedule.end in {"exclusive", "inclusive"}
        ),
    ),
}


def finding_of(schedule: Schedule, violation: Violation) -> str | None:
    """Names the finding that a violation is an example of, or None."""
    return next((name for name, known in KNOWN.items() if known.matches(schedule, violation)), None)
