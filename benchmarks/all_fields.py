"""What calls with all fields cost: transcriptions, phrases and tags, 7 KB a call, beside gather and cattrs."""

from __future__ import annotations

from .harness import Comparison, Goal, Options, compare, server
from .tables import report

NAMES = ("stream", "arrow", "httpx_gather_all")
GOALS = (
    Goal("stream", "httpx_gather_all", "cpu", 0.45),
    Goal("arrow", "httpx_gather_all", "cpu", 0.30),
)


def run(options: Options) -> Comparison:
    calls = min(options.calls, 20_000)
    # Pages of 140 MB would measure the memory of the machine, so the peer requests 1,000 rows a page.
    jobs = {"stream": {"fields": "ALL"}, "arrow": {"fields": "ALL"}, "httpx_gather_all": {"page_size": 1_000}}
    with server(calls, kind="insights") as service:
        comparison = compare(
            service,
            f"{calls:,} calls with all fields, {options.latency * 1000:g} ms latency",
            NAMES,
            options,
            settings={"latency": options.latency},
            jobs=jobs,
        )
    return report("all_fields", comparison, GOALS, options)
