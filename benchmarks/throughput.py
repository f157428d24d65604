"""What a range costs: CPU, wall clock, memory, stalls, first record and requests, beside the peers."""

from __future__ import annotations

from .harness import Comparison, Goal, Options, compare, server
from .tables import report

NAMES = (
    *("stream", "arrow", "httpx_gather", "httpx_pages", "httpx2_gather", "aiohttp_gather", "aiohttp_msgspec"),
    "dlt_client",
)
GOALS = (
    Goal("stream", "httpx_gather", "cpu", 0.29),
    Goal("stream", "httpx_gather", "wall", 0.34),
    Goal("stream", "httpx_pages", "wall", 0.22),
    Goal("stream", "httpx_gather", "peak_mb", 0.22),
    Goal("stream", "httpx_gather", "stall_ms", 0.012),
    Goal("arrow", "httpx_gather", "cpu", 0.15),
)


def run(options: Options) -> Comparison:
    with server(options.calls) as service:
        comparison = compare(
            service,
            f"{options.calls:,} calls, {options.latency * 1000:g} ms latency",
            NAMES,
            options,
            settings={"latency": options.latency},
        )
    return report("throughput", comparison, GOALS, options)
