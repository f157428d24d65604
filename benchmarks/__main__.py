"""Runs all benchmarks, or those named, and writes their results.

python -m benchmarks                            all benchmarks, five runs each
python -m benchmarks --only throughput,growth   two of them
python -m benchmarks --smoke                    a few thousand calls, no figures: checks that every program receives every call
python -m benchmarks --write-docs               measures nothing: writes the results into README and the guide once more
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from . import (
    all_fields,
    backfill,
    blocking,
    documents,
    engines,
    first_record,
    growth,
    heavy,
    pictures,
    startup,
    throughput,
)
from .harness import RESULTS, Options, ProgramError, read_results
from .programs import PROGRAMS

BENCHMARKS = {
    "throughput": throughput.run,
    "all_fields": all_fields.run,
    "first_record": first_record.run,
    "growth": growth.run,
    "heavy": heavy.run,
    "backfill": backfill.run,
    "blocking": blocking.run,
    "engines": engines.run,
    "startup": startup.run,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure iovox_async beside its peers."
    )
    parser.add_argument("--only", type=_names(BENCHMARKS), default=tuple(BENCHMARKS), metavar="BENCHMARK,...")
    parser.add_argument("--programs", type=_names(PROGRAMS), default=(), metavar="PROGRAM,...")
    parser.add_argument("--runs", type=int, default=5, help="rounds of a comparison (5)")
    parser.add_argument("--calls", type=int, default=300_000, help="calls in the range (300000)")
    parser.add_argument("--latency", type=float, default=0.1, help="seconds before a response (0.1)")
    parser.add_argument("--concurrency", type=int, default=8, help="requests in flight (8)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory for JSON and charts")
    parser.add_argument(
        "--smoke", action="store_true", help="small and quick; writes nothing and checks no figure"
    )
    parser.add_argument(
        "--write-docs", action="store_true", help="only write the results into README.md and the guide"
    )
    options_given = parser.parse_args(arguments)
    if options_given.write_docs:
        documents.write(read_results(options_given.results))
        return 0
    options = Options(
        runs=options_given.runs,
        calls=options_given.calls,
        latency=options_given.latency,
        concurrency=options_given.concurrency,
        only=frozenset(options_given.programs),
        results=options_given.results,
    )
    if options_given.smoke:
        options = replace(options, smoke=True, runs=1, calls=12_000, latency=0.005, results=None)
    for name in options_given.only:
        print(f"\n## {name}\n", flush=True)
        try:
            BENCHMARKS[name](options)
        except ProgramError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    if options.results is not None:
        pictures.draw(options.results)
    if options.results == RESULTS:
        documents.write(read_results())
    return 0


def _names(allowed):
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"name must be one of {', '.join(allowed)}, got {name}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
