"""`iovox summary`: counts calls and talk time by groups, as a table with bars, CSV, JSON or a chart."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape

import msgspec
import rich_click as click

from iovox_async import Field
from iovox_async._encoding import escape_formula
from iovox_async.fields import did_you_mean

from .. import options
from ..app import COMMANDS
from ..base import Command
from ..console import escape_controls, format_count, format_duration, is_terminal, print_note, with_examples
from ..errors import run
from ..filters import describe_filters, filter_options
from ..formats import fit_cell, fit_columns, terminal_width
from ..output import open_output, run_in_thread
from ..progress import can_draw_bar, show_progress
from ..ranges import IntRange
from .fields import locate_field

if TYPE_CHECKING:
    from iovox_async.arrow._summary import Group, GroupTotals, Summary

#: Parts of the start of a call; those with names are shown by them.
_TIMES: Final = {
    "hour": "%H",
    "weekday": "%u",
    "day": "%Y-%m-%d",
    "week": "%G-W%V",
    "month": "%Y-%m",
    "year": "%Y",
}
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_FIELDS: Final = {"tag": Field.TAG_TEXT, "keyword_rule": Field.KEYWORD_RULES}
_CATEGORIES: Final = {
    f"{kind}_category": f"{kind}_category" for kind in ("call", "node", "link", "contact")
} | {"category": "call_category"}
_FIGURES: Final = (
    "calls",
    "answered",
    "missed",
    "answered_share",
    "talk_time_sum",
    "talk_time_mean",
)
_TITLES: Final = ("calls", "missed", "answered", "talk time", "mean")
_MIN_BAR, _CHART_ROWS = 8, 60


def group_names() -> list[str]:
    """Everything that calls can be grouped by."""
    return [*_TIMES, *_FIELDS, *_CATEGORIES, *map(str, Field)]


def _parse_groups(_ctx: click.Context, _option: click.Parameter, values: Sequence[str]) -> list[str]:
    names = [name.strip().lower().replace("-", "_") for value in values for name in value.split(",")]
    for name in names:
        if name not in group_names() or (
            name in tuple(Field) and locate_field(Field(name))[1].startswith("list of P")
        ):
            suggestion = did_you_mean(name, group_names())
            raise click.BadParameter(
                f"{name!r} is not a group{suggestion}. Groups are response fields (iovox fields), "
                f"{', '.join((*_TIMES, *_FIELDS, *_CATEGORIES))}."
            )
    return list(dict.fromkeys(names))


def _make_group(name: str) -> tuple[Group, tuple[Field, ...]]:
    """A group by its name, and the fields that it needs."""
    from iovox_async.arrow._summary import Group

    if name in _TIMES:
        return Group(name, ("call_start",), time_format=_TIMES[name]), (Field.CALL_START,)
    if kind := _CATEGORIES.get(name):
        needed = (Field(f"{kind}_label"), Field(f"{kind}_value"))
        return Group(
            name, ("categories", f"{kind.removesuffix('y')}ies[]"), members=("label", "value")
        ), needed
    needed_field = _FIELDS.get(name) or Field(name)
    path = tuple(locate_field(needed_field)[0].split("."))
    if needed_field == Field.KEYWORD_RULES:
        path = ("keyword_rules[]", "keyword_rule")
    return Group(name, path), (needed_field,)


@click.command(
    cls=Command,
    help=with_examples(
        f"""{COMMANDS["summary"]}

        Missed calls are those whose result is not ANSWERED. Talk time is in seconds; its mean is over all calls of a group. On a terminal it
        prints a table with bars, elsewhere CSV.
        """,
        (
            "which node misses most, this month against last",
            "iovox summary last-month now --by node_name,month --sort missed",
        ),
        ("the busy hours", "iovox summary 30d --by weekday,hour --plot hours.svg"),
    ),
)
@options.range_options("the first of this month")
@options.read_option(
    "--by",
    metavar="GROUPS",
    multiple=True,
    default=("call_result",),
    callback=_parse_groups,
    shell_complete=options.complete(group_names),
    help="Groups, separated by commas: any response field, hour, weekday, day, week, month, year, tag, keyword_rule, "
    "call_category, node_category, link_category, contact_category.",
)
@options.output_option(
    "--sort",
    type=click.Choice(["group", *_FIGURES]),
    help="Largest first by a figure, or by group. Default: calls; for a group of time, that group.",
)
@options.output_option(
    "--limit", metavar="N", type=IntRange(min=1), help="Maximum number of groups to print."
)
@options.output_option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    help="Default: table on a terminal, else csv.",
)
@options.output_option("--plot", metavar="FILE.svg", help="Write a bar chart to this file, too.")
@filter_options
@options.account_options
def summary(
    *,
    account: options.Account,
    filters: dict[str, Any],
    typed: options.TypedRange,
    by: list[str],
    sort: str | None,
    limit: int | None,
    form: str | None,
    plot: str | None,
) -> None:
    """Runs `iovox summary`."""
    if plot is not None and not plot.lower().endswith(".svg"):
        raise click.UsageError(
            f"--plot: the ending of FILE must be .svg, got {plot}.", click.get_current_context()
        )

    async def summarize() -> Summary:
        from iovox_async.arrow import _require_pyarrow

        _require_pyarrow()
        from iovox_async.arrow._summary import Summary

        groups = [_make_group(name) for name in by]
        needed = dict.fromkeys(field for _, fields in groups for field in fields)
        fields = tuple(dict.fromkeys((*needed, Field.CALL_RESULT, Field.TALK_TIME)))
        result = Summary([group for group, _ in groups])
        start, end = account.resolve(typed)
        async with (
            account.client() as insights,
            insights.stream(start, end, fields=fields, **filters) as stream,
        ):
            async with show_progress(lambda: stream.stats, "bar" if can_draw_bar() else None):
                async for batch in stream.arrow():
                    await run_in_thread(result.add, batch)
            if not result.all_calls.calls:
                query = stream._reader.spec.query  # noqa: SLF001 - of this package; the resolved dates
                shown, _ = describe_filters(query.active_filters())
                print_note(f"0 calls between {query.start_date} and {query.end_date}{shown}.")
        return result

    result = run(summarize)
    rows = _sorted_rows(result, by, sort)[:limit]
    form = form or ("table" if is_terminal("stdout") else "csv")
    text = {"table": _table, "csv": _csv, "json": _json}[form](by, rows, result.all_calls)
    click.echo(text, nl=False)
    if plot is not None:
        chart = _chart(by, rows[:_CHART_ROWS]).encode()

        async def write() -> None:
            async with open_output(plot) as output:
                await output.write(chart)

        run(write)


_Row = tuple[tuple[str, ...], dict[str, Any]]


def _sorted_rows(result: Summary, by: Sequence[str], sort: str | None) -> list[_Row]:
    def figures(totals: GroupTotals) -> dict[str, Any]:
        shares = (totals.answered / totals.calls, totals.talk_time / totals.calls)
        missed = totals.calls - totals.answered
        values = (
            totals.calls,
            totals.answered,
            missed,
            round(shares[0], 4),
            totals.talk_time,
            round(shares[1], 1),
        )
        return dict(zip(_FIGURES, values, strict=True))

    rows = [(key, figures(totals)) for key, totals in result.rows()]
    rows.sort(key=lambda row: tuple(value or "" for value in row[0]))
    sort = sort or ("group" if by[0] in _TIMES else "calls")
    if sort != "group":
        rows.sort(key=lambda row: row[1][sort], reverse=True)
    return [(tuple(map(_label, by, key)), values) for key, values in rows]


def _label(name: str, value: str | None) -> str:
    return _WEEKDAYS[int(value) - 1] if name == "weekday" and value else value or ""


def _csv(by: Sequence[str], rows: Sequence[_Row], _all_calls: GroupTotals) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*by, *_FIGURES])
    writer.writerows([*map(escape_formula, key), *figures.values()] for key, figures in rows)
    return text.getvalue()


def _json(by: Sequence[str], rows: Sequence[_Row], _all_calls: GroupTotals) -> str:
    documents = [dict(zip(by, key, strict=True)) | figures for key, figures in rows]
    return msgspec.json.format(msgspec.json.encode(documents)).decode() + "\n"


def _table(by: Sequence[str], rows: Sequence[_Row], all_calls: GroupTotals) -> str:
    cells = [[*by, *_TITLES]]
    for key, figures in rows:
        shown = [escape_controls(label).replace("\n", " ") or "(none)" for label in key]
        share = f"{figures['answered_share']:.0%}"
        times = (figures["talk_time_sum"], figures["talk_time_mean"])
        cells.append(
            [*shown, f"{figures['calls']:,}", f"{figures['missed']:,}", share, *map(format_duration, times)]
        )
    widths = fit_columns(cells)
    bar_width = min(40, terminal_width() - sum(widths) - 2 * len(widths)) if is_terminal("stdout") else 0
    most = max((figures["calls"] for _, figures in rows), default=1)
    block = "\u2588" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    lines = []
    for number, row in enumerate(cells):
        aligned = [
            fit_cell(cell, width) if column < len(by) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        bar = block * max(1, round(bar_width * rows[number - 1][1]["calls"] / most)) if number else ""
        lines.append("  ".join([*aligned, *([bar] if bar_width >= _MIN_BAR else [])]).rstrip())
    lines.append(f"\n{format_count(all_calls.calls, 'call')}, {all_calls.answered:,} answered")
    return "\n".join(lines) + "\n"


def _chart(by: Sequence[str], rows: Sequence[_Row]) -> str:
    """An SVG with a bar for each group: answered calls, and the others after them."""
    labels = [" · ".join(label or "(none)" for label in key) for key, _ in rows]
    left, width, height = 12 + 7 * max(map(len, labels), default=0), 480, 22
    most = max((figures["calls"] for _, figures in rows), default=1)
    total_width, total_height = left + width + 80, 40 + height * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_width} {total_height}">',
        "<style>text { font: 12px sans-serif }</style>",
        f"<title>Calls by {escape(', '.join(by))}</title>",
        f'<rect width="{total_width}" height="{total_height}" fill="#ffffff"/>',
        f'<text x="{left}" y="18" fill="#2a7f62">answered</text>',
        f'<text x="{left + 70}" y="18" fill="#c8553d">not answered</text>',
    ]
    for number, (label, (_, figures)) in enumerate(zip(labels, rows, strict=True)):
        y = 30 + height * number
        answered, missed = (width * figures[name] / most for name in ("answered", "missed"))
        parts += [
            f'<text x="{left - 6}" y="{y + 14}" text-anchor="end">{escape(escape_controls(label))}</text>',
            f'<rect x="{left}" y="{y + 2}" width="{answered:.1f}" height="{height - 6}" fill="#2a7f62"/>',
            f'<rect x="{left + answered:.1f}" y="{y + 2}" width="{missed:.1f}" height="{height - 6}" fill="#c8553d"/>',
            f'<text x="{left + answered + missed + 6:.1f}" y="{y + 14}">{figures["calls"]:,}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
