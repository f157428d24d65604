"""The engines httpx, httpx2 and aiohttp side by side, and the cost and gain of gzip.

Gzip costs CPU on both sides and saves bytes, so it is measured on loopback, where bytes are free, and over a line of 10
megabytes a second. The server compresses each response once, before it is timed.
"""

from __future__ import annotations

from .harness import Comparison, Options, compare, keep, server
from .tables import COLUMNS, table

NAMES = ("stream", "stream_httpx2", "stream_aiohttp")


def run(options: Options) -> list[Comparison]:
    calls = min(options.calls, 100_000)
    line = 10.0
    cases = {
        "plain": {"gzip": 0, "bandwidth": 0.0},
        "gzip": {"gzip": 1, "bandwidth": 0.0},
        f"plain over {line:g} MB/s": {"gzip": 0, "bandwidth": line},
        f"gzip over {line:g} MB/s": {"gzip": 1, "bandwidth": line},
    }
    names = NAMES
    if options.smoke:
        cases, names = {"gzip": cases["gzip"]}, NAMES[1:]
    comparisons = []
    with server(calls) as service:
        for title, case in cases.items():
            settings = {"latency": options.latency, **case}
            if (
                case["gzip"] and not options.smoke
            ):  # an untimed run, so that all responses are compressed already
                compare(
                    service, title, NAMES, Options(runs=1, only=options.only), settings=settings, watch=False
                )
            comparison = compare(service, title, names, options, settings=settings)
            print(title)
            print(table(comparison, (*COLUMNS, ("bytes received", "bytes", "{:,.0f}"))))
            comparisons.append(comparison)
    keep("engines", {"comparisons": [one.to_dict() for one in comparisons]}, options)
    return comparisons
