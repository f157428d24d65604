"""How long until the first record, beside one plain `httpx.get` of a 10,000-row page.

Latency alone hides what a page costs, so the question is asked of three servers: one that answers at once, one at a
distance, and one at a distance that also reads every row it answers from a database (20 microseconds each). At a
distance alone the latency is a floor under both, and no client can come below it.
"""

from __future__ import annotations

from .harness import Comparison, Goal, Options, compare, keep, server
from .tables import table, verdicts

NAMES = ("stream", "arrow", "httpx_page", "httpx_pages")
GOALS = (Goal("stream", "httpx_page", "first_record", 0.5),)
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
