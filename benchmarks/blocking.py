"""What a call costs in the blocking client, beside the async one: records, and Arrow batches by the Arrow C stream."""

from __future__ import annotations

from .harness import Comparison, Goal, Options, compare, server
from .tables import report

NAMES = ("stream", "stream_blocking", "arrow", "arrow_blocking")
GOALS = (
    Goal("stream_blocking", "stream", "cpu", 1.1),
    Goal("arrow_blocking", "arrow", "cpu", 1.1),
)


def run(options: Options) -> Comparison:
    with server(options.calls) as service:
        comparison = compare(
            service,
            f"{options.calls:,} calls, {options.latency * 1000:g} ms latency",
            NAMES,
            options,
            settings={"latency": options.latency},
            watch=False,
        )
    return report("blocking", comparison, GOALS, options)
