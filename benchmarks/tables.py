"""Formats figures as Markdown tables that are readable as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .harness import keep
from .programs import PROGRAMS

if TYPE_CHECKING:
    from .harness import Comparison, Goal, Options

Column = tuple[str, str, str]  # heading, measure, format

COLUMNS: tuple[Column, ...] = (
    ("CPU us/call", "cpu_us", "{:.2f}"),
    ("wall s", "wall", "{:.2f}"),
    ("peak MB", "peak_mb", "{:.0f}"),
    ("of it imports", "base_mb", "{:.0f}"),
    ("stall ms", "stall_ms", "{:.1f}"),
    ("own part ms", "stall_own_ms", "{:.1f}"),
    ("first record s", "first_record", "{:.3f}"),
    ("requests", "requests", "{:.0f}"),
    ("rows skipped", "skipped", "{:,.0f}"),
)


def table(comparison: Comparison, columns: tuple[Column, ...] = COLUMNS) -> str:
    """The medians of a comparison, a line a program, as a Markdown table that reads well as text too."""
    if not comparison.names:
        return "no program could run here"
    rows = [["", *(heading for heading, _, _ in columns)]]
    for name in comparison.names:
        cells = [PROGRAMS[name].label]
        for _, measure, form in columns:
            value = comparison.median(name, measure)
            cells.append("-" if value is None else form.format(value))
        rows.append(cells)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    lines.insert(
        1, "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    )
    return "\n".join(lines)


def _line(row: list[str], widths: list[int]) -> str:
    first, *rest = zip(row, widths, strict=True)
    cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
    return "| " + " | ".join(cells) + " |"


def verdicts(comparison: Comparison, goals: tuple[Goal, ...]) -> str:
    """One line for each goal: the ratio measured and the goal."""
    lines = []
    for judged in comparison.judged(goals):
        word = "met" if judged["met"] else "MISSED"
        floor = f"; latency alone: {judged['latency_alone']:.3f}" if "latency_alone" in judged else ""
        lines.append(
            f"{word:>6}  {judged['measure']} of {judged['ours']} is {judged['ratio']:.3f} of {judged['peer']} "
            f"(goal: at most {judged['most']:g}{floor})"
        )
    return "\n".join(lines)


def report(
    name: str,
    comparison: Comparison,
    goals: tuple[Goal, ...],
    options: Options,
    columns: tuple[Column, ...] = COLUMNS,
) -> Comparison:
    """Prints the figures of a comparison and its goals, and keeps both under the name of the benchmark."""
    print(table(comparison, columns))
    print(verdicts(comparison, goals))
    keep(name, comparison.to_dict(goals), options)
    return comparison
