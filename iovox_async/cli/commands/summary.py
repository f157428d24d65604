"""`iovox summary`: counts calls and talk time by groups, as a table with bars, CSV, JSON or a chart."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from iovox_async import Field
from iovox_async._summary import (
    FIGURES,
    group_names,
    make_group,
    side_by_side,
    sorted_rows,
    to_csv,
    to_json,
    to_svg,
)
from iovox_async._wording import format_count
from iovox_async.fields import did_you_mean

from .. import options
from ..base import command
from ..console import format_duration, is_terminal
from ..errors import run
from ..filters import filter_options, print_no_calls
from ..output import open_output, run_in_thread
from ..progress import show_progress
from ..tables import fit_columns, format_cell, format_table, stdout_is_unicode

if TYPE_CHECKING:
    from iovox_async._summary import Row
    from iovox_async.arrow._summary import Summary

_WHOLE: Final[Callable[[float], str]] = "{:,}".format
#: The figures of the table: their titles, and how they are shown.
_COLUMNS: Final[dict[str, tuple[str, Callable[[float], str]]]] = {
    "calls": ("calls", _WHOLE),
    "missed": ("missed", _WHOLE),
    "answered_share": ("answered", "{:.0%}".format),
    "talk_time_sum": ("talk time", format_duration),
    "talk_time_mean": ("mean", format_duration),
}
_MIN_BAR: Final = 8
#: Labels are not cut to less than this; some of the figures are left out instead.
_MIN_LABEL: Final = 12


def _parse_groups(_ctx: click.Context, _option: click.Parameter, values: Sequence[str]) -> list[str]:
    names = [name.lower().replace("-", "_") for name in options.split_commas(values)]
    for name in names:
        if name not in (groups := group_names()):
            suggestion = did_you_mean(name, groups)
            others = [group for group in groups if group not in [*Field]]
            raise click.BadParameter(
                f"must be a group, got {name!r}{suggestion or '.'} Groups are {', '.join(others)}, "
                "and the fields that iovox fields lists, except transcription_phrases."
            )
    return list(dict.fromkeys(names))


@command(
    (
        "which node misses most, this month against last",
        "iovox summary last-month now --by node_name,month --sort missed",
    ),
    ("the busy hours", "iovox summary 30d --by weekday,hour --plot hours.svg"),
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
    type=click.Choice(["group", *FIGURES]),
    help="Largest first by a figure, or by group. Default: calls; for a group of time, that group.",
)
@options.output_option("--limit", type=options.IntRange(min=1), help="Maximum number of groups to print.")
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
    """Runs `iovox summary`.

    Missed calls are those whose result is not ANSWERED. Talk time is in seconds; its mean is over all calls of a group. On a terminal it
    prints a table with bars, elsewhere CSV. Two groups of which one is a time are shown side by side, with the figure of --sort, if they
    fit the terminal.
    """
    if plot is not None and not plot.lower().endswith(".svg"):
        raise click.UsageError(f"--plot: the ending of FILE must be .svg, got {plot}.")

    async def summarize() -> Summary:
        from iovox_async.arrow import _require_pyarrow

        _require_pyarrow()
        from iovox_async.arrow._summary import Summary

        groups = [make_group(name) for name in by]
        needed = dict.fromkeys(field for _, fields in groups for field in fields)
        fields = tuple(dict.fromkeys((*needed, Field.CALL_RESULT, Field.TALK_TIME)))
        result = Summary([group for group, _ in groups])
        start, end = account.resolve(typed)
        async with (
            account.client() as insights,
            insights.stream(start, end, fields=fields, **filters) as stream,
        ):
            async with show_progress(lambda: stream.stats):
                async for batch in stream.arrow():
                    await run_in_thread(result.add, batch)
            if not result.all_calls.calls:
                print_no_calls(stream)
        return result

    result = run(summarize)
    every_row = sorted_rows(result, by, sort)
    rows = every_row[:limit]
    form = form or ("table" if is_terminal("stdout") else "csv")
    if form == "table":
        table = _side_by_side(by, every_row, sort, limit) or _table(by, rows)
        total = f"{format_count(result.all_calls.calls, 'call')}, {result.all_calls.answered:,} answered"
        click.echo(f"{table}\n\n{total}")
    else:
        click.echo((to_csv if form == "csv" else to_json)(by, rows), nl=False)
    if plot is not None:
        run(lambda: _write(plot, to_svg(by, rows).encode()))


async def _write(path: str, data: bytes) -> None:
    async with open_output(path) as output:
        await output.write(data)


def _side_by_side(by: Sequence[str], rows: Sequence[Row], sort: str | None, limit: int | None) -> str:
    """The table of one figure with a column for each time; empty if there is none, or it does not fit the terminal."""
    table = side_by_side(by, rows, sort)
    if table is None:
        return ""
    columns, lines = table
    figure = sort if sort in FIGURES else "calls"
    _, show = _COLUMNS.get(figure, (figure, _WHOLE))
    has_change = show is _WHOLE and len(columns) == len(by)
    cells = [
        [f"{figure.replace('_', ' ')} by {' and '.join(by)}", *map(_cell, columns), *["change"] * has_change]
    ]
    for label, values in lines[:limit]:
        change = (values[-1] or 0) - (values[0] or 0)
        shown = [show(value or 0) if value is not None or show is _WHOLE else "" for value in values]
        cells.append([_cell(label), *shown, *[f"{change:+,}"] * has_change])
    widths = fit_columns(cells, narrowest=max(map(len, columns)))
    if len(widths) < len(cells[0]):
        return ""
    return format_table(cells, widths, right=range(1, len(widths)))


def _cell(label: str) -> str:
    return format_cell(label) or "(none)"


def _table(by: Sequence[str], rows: Sequence[Row]) -> str:
    cells = [[*by, *(title for title, _ in _COLUMNS.values())]]
    for key, figures in rows:
        shown = [show(figures[name]) for name, (_, show) in _COLUMNS.items()]
        cells.append([*map(_cell, key), *shown])
    widths = fit_columns(cells, narrowest=_MIN_LABEL)
    if len(widths) <= len(by):  # not even the number of calls
        widths = fit_columns(cells)
    space = shutil.get_terminal_size().columns - sum(widths) - 2 * len(widths)
    bar_width = min(40, space) if is_terminal("stdout") else 0
    if bar_width >= _MIN_BAR:
        most = max((figures["calls"] for _, figures in rows), default=1)
        block = "\u2588" if stdout_is_unicode() else "#"
        widths.append(bar_width)
        for row, (_, figures) in zip(cells[1:], rows, strict=True):
            row.append(block * max(1, round(bar_width * figures["calls"] / most)))
    return format_table(cells, widths, right=range(len(by), len(by) + len(_COLUMNS)))
