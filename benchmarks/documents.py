"""Writes the tables of figures in README.md and the guide to performance, from the one file of results.

A table stands between `<!-- figures: NAME -->` and `<!-- end of figures -->`; NAME is one of `TABLES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import iovox_async

from .harness import ROOT
from .programs import PROGRAMS
from .startup import PAIRS

__all__ = ["DOCUMENTS", "TABLES", "current", "write"]

DOCUMENTS: Final = (ROOT / "README.md", Path(iovox_async.__file__).with_name("docs") / "performance.md")
_MARKED: Final = re.compile(r"(?<=<!-- figures: )(\w+)( -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)
_MEASURES: Final = {
    "cpu": "CPU",
    "process_cpu": "CPU, whole process",
    "wall": "wall clock",
    "process_wall": "wall clock, whole process",
    "peak_mb": "peak memory",
    "stall_ms": "longest stall",
    "first_record": "first record",
    "requests": "requests",
}

Results = dict[str, Any]


def write(results: Results) -> None:
    """Writes the tables of these results into the documents."""
    for document in DOCUMENTS:
        document.write_text(current(document.read_text(), results))


def current(text: str, results: Results) -> str:
    """A document with the tables of these results."""
    return _MARKED.sub(lambda match: f"{match[1]}{match[2]}{TABLES[match[1]](results)}", text)


def _programs(results: Results) -> str:
    """One line for each program that reads the range."""
    result = results.get("throughput")
    if result is None:
        return _missing("throughput")
    calls = result["setting"]["calls"]
    rows = [
        (
            result["labels"][name],
            f"{calls / values['wall']:,.0f}",
            f"{values['bytes'] / values['wall'] / 1e6:.0f}",
            f"{values['cpu_us']:.2f}",
            f"{values['peak_mb']:.0f}",
            f"{values['first_record']:.2f}",
            f"{values['stall_ms']:.0f}" if "stall_ms" in values else "",
        )
        for name, values in result["medians"].items()
    ]
    heading = (
        "",
        "rows/s",
        "MB/s",
        "CPU us a call",
        "peak memory, MB",
        "first record, s",
        "longest stall, ms",
    )
    return f"{_setting(result)}\n\n{_table(heading, rows)}"


def _backfill(results: Results) -> str:
    result = results.get("backfill")
    if result is None:
        return _missing("backfill")
    rows = [
        (
            result["labels"][name],
            f"{values['process_cpu']:.2f}" if "process_cpu" in values else "",
            f"{values['process_wall']:.2f}" if "process_wall" in values else "",
            f"{values['peak_mb']:.0f}",
            f"{values['file_bytes'] / 1e6:.1f}",
        )
        for name, values in result["medians"].items()
    ]
    heading = ("", "CPU, s", "wall clock, s", "peak memory, MB", "files, MB")
    return f"{_setting(result)}\n\n{_table(heading, rows)}"


def _goals(results: Results) -> str:
    """Every ratio that has a goal."""
    rows = []
    for result in results.values():
        for title, goal in _judged(result):
            peer = PROGRAMS[goal["peer"]].label
            what = f"{_MEASURES[goal['measure']]} of {PROGRAMS[goal['ours']].label.removeprefix('iovox_async: ')}"
            floor = f" (latency alone: {goal['latency_alone']:.3g})" if "latency_alone" in goal else ""
            rows.append((what, f"{peer}{title}", f"{goal['ratio']:.3g}", f"{goal['most']:g}{floor}"))
    for pair in results.get("startup", {}).get("pairs", []):
        peer = next((one.peer_title for one in PAIRS if one.title == pair["title"]), "")
        rows.append((f"CPU of {pair['title']}", peer, f"{pair['ratio']:.2f}", f"{pair['goal']:g}"))
    return _table(("", "of", "ratio", "goal, at most"), rows)


def _judged(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for goal in result.get("goals", ()):
        yield "", goal
    for comparison in result.get("comparisons", ()):
        for goal in comparison["goals"]:
            yield f", {comparison['title']}", goal


def _growth(results: Results) -> str:
    """The peak of each size of range."""
    result = results.get("growth")
    if result is None:
        return _missing("growth")
    comparisons = result["comparisons"]
    labels = comparisons[-1]["labels"]
    heading = ("peak memory, MB", *(f"{one['setting']['calls']:,} calls" for one in comparisons))
    rows = [
        (label, *(f"{one['medians'][name]['peak_mb']:.0f}" for one in comparisons))
        for name, label in labels.items()
    ]
    return f"{_setting({**result, **comparisons[-1]}, with_calls=False)}\n\n{_table(heading, rows)}"


#: What makes each table of the results.
TABLES: Final[dict[str, Callable[[Results], str]]] = {
    "programs": _programs,
    "backfill": _backfill,
    "goals": _goals,
    "growth": _growth,
}


def _setting(result: dict[str, Any], *, with_calls: bool = True) -> str:
    setting, machine = result["setting"], result["machine"]
    parts = [
        *([f"{setting['calls']:,} calls"] if with_calls else []),
        f"{setting['latency'] * 1000:g} ms latency",
        f"{setting['concurrency']} requests in flight",
        f"median of {setting['runs']} runs" if setting["runs"] > 1 else "one run",
        f"one core, {machine['processor']}",
        f"Python {machine['python']}",
        f"version {machine['packages']['iovox-async']}",
    ]
    return f"{', '.join(parts)}:"


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heading, ("---", *("---" if name == "of" else "---:" for name in heading[1:])), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _missing(name: str) -> str:
    return f"(not measured: `python -m benchmarks --only {name}`)\n"
