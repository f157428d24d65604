"""`python -m benchmarks`: ask all questions, or those named, and keep the answers.

python -m benchmarks                            all questions, five runs each
python -m benchmarks --only throughput,growth   two of them
python -m benchmarks --smoke                    a few thousand calls, no figures: does every program still count right
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from . import backfill, engines, first_record, growth, heavy, pictures, throughput
from .harness import RESULTS, Options, ProgramError
from .programs import PROGRAMS

QUESTIONS = {
    "throughput": throughput.run,
    "first_record": first_record.run,
    "growth": growth.run,
    "heavy": heavy.run,
    "backfill": backfill.run,
    "engines": engines.run,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure iovox_async beside its peers."
    )
    parser.add_argument("--only", type=_names(QUESTIONS), default=tuple(QUESTIONS), metavar="QUESTION,...")
    parser.add_argument("--programs", type=_names(PROGRAMS), default=(), metavar="PROGRAM,...")
    parser.add_argument("--runs", type=int, default=5, help="rounds of a comparison (5)")
    parser.add_argument("--calls", type=int, default=300_000, help="calls in the range (300000)")
    parser.add_argument("--latency", type=float, default=0.1, help="seconds before an answer (0.1)")
    parser.add_argument("--concurrency", type=int, default=8, help="requests in flight (8)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for JSON and pictures")
    parser.add_argument("--smoke", action="store_true", help="small, quick, nothing kept, no figure judged")
    given = parser.parse_args(arguments)
    options = Options(
        runs=given.runs,
        calls=given.calls,
        latency=given.latency,
        concurrency=given.concurrency,
        only=frozenset(given.programs),
        results=given.results,
    )
    if given.smoke:
        options = replace(options, smoke=True, runs=1, calls=12_000, latency=0.005, results=None)
    for name in given.only:
        print(f"\n## {name}\n", flush=True)
        try:
            QUESTIONS[name](options)
        except ProgramError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    if options.results is not None:
        pictures.draw(options.results)
    return 0


def _names(known):
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
