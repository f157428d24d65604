"""Draws the results: `python -m benchmarks.pictures` reads `results/results.json` and writes SVG files beside them.

Each chart has its own background and follows the colour scheme of the reader.
"""

from __future__ import annotations

import itertools
import sys
from math import ceil, log10
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from .harness import RESULTS, read_results

WIDTH = 760
_FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
_STYLE = f"""
  text {{ font: 13px {_FONT}; fill: #1f2328; }}
  .title {{ font-size: 17px; font-weight: 600; }}
  .small {{ font-size: 11.5px; fill: #59636e; }}
  .ours {{ font-weight: 600; }}
  .ground {{ fill: #ffffff; stroke: #d1d9e0; }}
  .grid {{ stroke: #d1d9e0; stroke-width: 1; }}
  .bar-ours, .dot-0 {{ fill: #0a7d5a; }} .bar-peer {{ fill: #8c959f; }}
  .dot-1 {{ fill: #0969da; }} .dot-2 {{ fill: #bc4c00; }} .dot-3 {{ fill: #8250df; }}
  .line {{ fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round; }}
  .line-0 {{ stroke: #0a7d5a; }} .line-1 {{ stroke: #0969da; }}
  .line-2 {{ stroke: #bc4c00; }} .line-3 {{ stroke: #8250df; }}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #f0f6fc; }}
    .small {{ fill: #9198a1; }}
    .ground {{ fill: #0d1117; stroke: #3d444d; }}
    .grid {{ stroke: #2a313c; }}
    .bar-ours, .dot-0 {{ fill: #3fb98a; }} .bar-peer {{ fill: #6e7681; }}
    .dot-1 {{ fill: #58a6ff; }} .dot-2 {{ fill: #f0883e; }} .dot-3 {{ fill: #bc8cff; }}
    .line-0 {{ stroke: #3fb98a; }} .line-1 {{ stroke: #58a6ff; }}
    .line-2 {{ stroke: #f0883e; }} .line-3 {{ stroke: #bc8cff; }}
  }}
"""


class Bar(NamedTuple):
    label: str
    value: float
    ours: bool


class Panel(NamedTuple):
    """One group of bars with its own scale."""

    heading: str
    unit: str
    bars: list[Bar]


class Series(NamedTuple):
    label: str
    points: list[tuple[float, float]]


def bars(title: str, note: str, panels: list[Panel]) -> str:
    """Horizontal bars in groups, ours in colour."""
    left, right, row = 262, 96, 26
    parts: list[str] = []
    top = 66
    for panel in panels:
        parts.append(_text(24, top + 12, f"{panel.heading}, {panel.unit}", "small"))
        top += 24
        most = max(bar.value for bar in panel.bars) or 1
        for bar in panel.bars:
            length = max(2.0, bar.value / most * (WIDTH - left - right))
            kind = "ours" if bar.ours else "peer"
            weight = "ours" if bar.ours else ""
            parts += [
                _text(left - 12, top + 17, bar.label, weight, anchor="end"),
                f'<rect class="bar-{kind}" x="{left}" y="{top + 4}" width="{length:.1f}" height="{row - 8}" rx="3"/>',
                _text(left + length + 8, top + 17, _number(bar.value), weight),
            ]
            top += row
        top += 12
    return _document(title, note, top + 8, parts)


def lines(title: str, note: str, x_unit: str, y_unit: str, series: list[Series]) -> str:
    """Lines over a logarithmic x axis and a linear y axis that begins at zero; each is named at its end."""
    left, right, top, bottom, height = 64, 250, 104, 52, 420
    xs = sorted({x for one in series for x, _ in one.points})
    highest = max(y for one in series for _, y in one.points)
    step = _step(highest)
    highest = step * ceil(highest / step)
    span = log10(xs[-1] / xs[0]) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + log10(x / xs[0]) / span * (WIDTH - left - right)
        return across, height - bottom - y / highest * (height - bottom - top)

    parts = [_text(24, top - 14, y_unit, "small")]
    for number in range(round(highest / step) + 1):
        _, y = place(xs[0], number * step)
        parts.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{WIDTH - right}" y2="{y:.1f}"/>')
        parts.append(_text(left - 8, y + 4, f"{number * step:,g}", "small", anchor="end"))
    below = height - bottom + 20
    parts += [_text(place(x, 0)[0], below, f"{x:,.0f}", "small", anchor="middle") for x in xs]
    parts.append(_text((left + WIDTH - right) / 2, height - bottom + 40, x_unit, "small", anchor="middle"))
    ends = _apart([place(*one.points[-1])[1] for one in series], 17)
    for number, one in enumerate(series):
        spots = [place(*point) for point in one.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline class="line line-{number % 4}" points="{path}"/>')
        parts += [f'<circle class="dot-{number % 4}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in spots]
        # The colour is repeated beside the name, so that no name hangs on its place alone.
        x, y = WIDTH - right + 14, ends[number]
        parts.append(f'<circle class="dot-{number % 4}" cx="{x}" cy="{y:.1f}" r="4"/>')
        weight = "ours" if one.label.startswith("iovox_async") else ""
        parts.append(_text(x + 10, y + 4, f"{_short(one.label)} {_number(one.points[-1][1])}", weight))
    return _document(title, note, height, parts)


def _document(title: str, note: str, height: float, parts: list[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img">\n<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n'
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="8"/>\n'
        f"{_text(24, 34, title, 'title')}\n{_text(24, 54, note, 'small')}\n{body}\n</svg>\n"
    )


def _text(x: float, y: float, text: str, kind: str = "", *, anchor: str = "start") -> str:
    kind = f' class="{kind}"' if kind else ""
    anchor = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}"{anchor}>{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _short(label: str) -> str:
    return label.removeprefix("iovox_async: ").replace(", one page at a time,", " one by one")


def _step(highest: float) -> float:
    """A round distance between grid lines, so that there are four to eight of them."""
    rough = highest / 5 or 1.0
    power = 10 ** int(log10(rough)) if rough >= 1 else 10 ** (int(log10(rough)) - 1)
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= rough)


def _apart(places: list[float], distance: float) -> list[float]:
    """The same heights, in the same order, moved upwards until no two names overlap."""
    order = sorted(range(len(places)), key=places.__getitem__, reverse=True)
    moved = list(places)
    for lower, upper in itertools.pairwise(order):
        moved[upper] = min(moved[upper], moved[lower] - distance)
    return moved


def _setting(result: dict[str, Any], machine: dict[str, Any]) -> str:
    setting = result["setting"]
    latency = setting["latency"] * 1000
    runs = f"median of {setting['runs']} runs" if setting["runs"] > 1 else "one run"
    return f"{latency:g} ms latency, {setting['concurrency']} in flight, one core, {runs}, Python {machine['python']}"


def _panel(result: dict[str, Any], heading: str, unit: str, measure: str) -> list[Panel]:
    charts = [
        Bar(result["labels"][name], values[measure], result["labels"][name].startswith("iovox_async"))
        for name, values in result["medians"].items()
        if measure in values
    ]
    charts.sort(key=lambda bar: bar.value)
    return [Panel(heading, unit, charts)] if charts else []


def _throughput(result: dict[str, Any]) -> dict[str, str]:
    note = _setting(result, result["machine"])
    calls = f"{result['setting']['calls']:,} calls"
    time = [
        *_panel(result, "Wall clock", "seconds", "wall"),
        *_panel(result, "CPU a call", "microseconds", "cpu_us"),
    ]
    turn = [
        *_panel(result, "Longest time the event loop stood still", "milliseconds", "stall_ms"),
        *_panel(result, "First record after", "seconds", "first_record"),
    ]
    charts = {"time.svg": (f"Reading {calls}", time), "responsiveness.svg": (f"While reading {calls}", turn)}
    return {file: bars(title, note, panels) for file, (title, panels) in charts.items() if panels}


def _growth(result: dict[str, Any]) -> dict[str, str]:
    comparisons = result["comparisons"]
    labels = comparisons[-1]["labels"]
    charts = {}
    for file, title, measure, unit in (
        ("memory.svg", "Peak memory against the range", "peak_mb", "MB, the interpreter included"),
        ("growth.svg", "Time against the range", "wall", "seconds"),
    ):
        series = [
            Series(
                label,
                [
                    (one["setting"]["calls"], one["medians"][name][measure])
                    for one in comparisons
                    if name in one["medians"]
                ],
            )
            for name, label in labels.items()
        ]
        note = _setting(comparisons[-1], result["machine"])
        charts[file] = lines(title, note, "calls in the range", unit, series)
    return charts


def _backfill(result: dict[str, Any]) -> dict[str, str]:
    panels = [
        *_panel(result, "Wall clock", "seconds", "wall"),
        *_panel(result, "CPU a call", "microseconds", "cpu_us"),
        *_panel(result, "Peak memory", "MB", "peak_mb"),
    ]
    title = f"{result['setting']['calls']:,} calls to Parquet"
    return {"backfill.svg": bars(title, _setting(result, result["machine"]), panels)}


_PICTURES = {"throughput": _throughput, "growth": _growth, "backfill": _backfill}


def draw(folder: Path) -> list[Path]:
    """Draw every picture whose results are in `folder`; returns the files written."""
    written = []
    results = read_results(folder)
    for name, make in _PICTURES.items():
        if name not in results:
            continue
        for file, picture in make(results[name]).items():
            (folder / file).write_text(picture)
            written.append(folder / file)
    return written


if __name__ == "__main__":
    for path in draw(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS):
        print(path)
