"""Records of 7 KB in pages of 20,000, 140 MB each: the longest stall of the event loop, and memory.

The first half forces the page size; in the second half the session chooses pages of 2 to 2.5 MB. The stream decodes every phrase
of every transcription, while the peer keeps twelve fields, so the CPU of the two cannot be compared here.
"""

from __future__ import annotations

from .harness import Comparison, Options, compare, keep, server
from .tables import table

NAMES = ("stream", "arrow", "httpx_gather")
STALL_MS = 100.0


def run(options: Options) -> list[Comparison]:
    calls = 400 if options.smoke else 40_000
    free = {name: {"fields": "ALL"} for name in NAMES}
    forced = {name: {**free[name], "page_size": min(20_000, calls // 2), "concurrency": 2} for name in NAMES}
    cases = {"pages of 20,000, two in flight": forced, "pages as the program chooses": free}
    if options.smoke:
        cases.popitem()
    comparisons = []
    with server(calls, kind="insights") as service:
        for title, jobs in (
            ("pages of 20,000, two in flight", forced),
            ("pages as the program chooses", free),
        ):
            names = NAMES if jobs is forced and not options.smoke else NAMES[:2]
            settings = {"latency": options.latency}
            comparison = compare(service, title, names, options, settings=settings, jobs=jobs)
            print(title)
            print(table(comparison))
            comparisons.append(comparison)
    for name in NAMES[:2]:
        if (stall := comparisons[0].median(name, "stall_ms")) is not None:
            word = "met" if stall <= STALL_MS else "MISSED"
            print(f"{word:>6}  the longest stall of {name} is {stall:.0f} ms (goal: at most {STALL_MS:g})")
    keep("heavy", {"comparisons": [one.to_dict() for one in comparisons], "goal_ms": STALL_MS}, options)
    return comparisons
