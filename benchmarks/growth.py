"""Time and memory as the range grows from 10,000 to 1,000,000 calls: flat for a stream, proportional for `gather`."""

from __future__ import annotations

from .harness import Comparison, Options, compare, keep, server
from .tables import table

NAMES = ("stream", "arrow", "httpx_gather", "httpx_pages")
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
SMOKE = (1_000, 4_000)
SMOKE_NAMES = ("stream",)
#: Allowed peak of 1,000,000 calls above that of 100,000, in MB.
FLAT_MB = {"stream": 4.0, "arrow": 8.0}


def run(options: Options) -> list[Comparison]:
    latency = min(options.latency, 0.02)  # memory is measured, so a short latency is enough
    comparisons = []
    for calls in SMOKE if options.smoke else SIZES:
        with server(calls) as service:
            comparison = compare(
                service,
                f"{calls:,} calls",
                SMOKE_NAMES if options.smoke else NAMES,
                options,
                settings={"latency": latency},
                watch=False,
            )
        print(f"{calls:,} calls")
        print(table(comparison))
        comparisons.append(comparison)
    grown = _grown(comparisons)
    for name, megabytes in grown.items():
        word = "met" if megabytes <= FLAT_MB[name] else "MISSED"
        print(
            f"{word:>6}  {name} peaks {megabytes:+.1f} MB above 100,000 calls at 1,000,000 (goal: {FLAT_MB[name]:g})"
        )
    result = {"comparisons": [one.to_dict() for one in comparisons], "grown_mb": grown, "goal_mb": FLAT_MB}
    keep("growth", result, options)
    return comparisons


def _grown(comparisons: list[Comparison]) -> dict[str, float]:
    sizes = {one.setting["calls"]: one for one in comparisons}
    if not {100_000, 1_000_000} <= sizes.keys():
        return {}
    grown = {}
    for name in FLAT_MB:
        small, large = sizes[100_000].median(name, "peak_mb"), sizes[1_000_000].median(name, "peak_mb")
        if small is not None and large is not None:
            grown[name] = large - small
    return grown
