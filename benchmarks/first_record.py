"""How long until the first record, beside one plain `httpx.get` of a 10,000-row page, and beside one such page made into records.

Three servers: one that responds at once, one with latency, and one with latency that also takes 20 microseconds for each row, as
if it read them from a database. No client can be faster than the latency itself, so its own ratio is beside each goal.
"""

from __future__ import annotations

from .harness import Comparison, Goal, Options, compare, keep, server
from .tables import table, verdicts

NAMES = ("stream", "arrow", "httpx_page", "httpx_pages")
GOALS = (
    Goal("stream", "httpx_page", "first_record", 0.5),
    Goal("stream", "httpx_pages", "first_record", 0.20),
)
COLUMNS = (("first record s", "first_record", "{:.3f}"), ("requests", "requests", "{:.0f}"))


def run(options: Options) -> list[Comparison]:
    # Programs read on to the end, so that their count is checked; a range of a few pages keeps that short.
    calls = min(options.calls, 40_000)
    servers = {
        "at once": {"latency": 0.0, "row_us": 0.0},
        "at a distance": {"latency": options.latency, "row_us": 0.0},
        "at a distance, from a database": {"latency": options.latency, "row_us": 20.0},
    }
    names = NAMES
    if options.smoke:  # the other programs and servers differ in figures, not in paths
        servers, names = {"at a distance": servers["at a distance"]}, ("httpx_page",)
    comparisons = []
    with server(calls) as service:
        for title, settings in servers.items():
            comparison = compare(service, title, names, options, settings=settings, watch=False)
            print(f"{title}: {settings}")
            print(table(comparison, COLUMNS))
            print(verdicts(comparison, GOALS))
            comparisons.append(comparison)
    keep("first_record", {"comparisons": [one.to_dict(GOALS) for one in comparisons]}, options)
    return comparisons
