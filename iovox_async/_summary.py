"""Summaries of calls by groups: the groups by name, the rows of the result, and their forms as CSV, JSON and SVG."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from xml.sax.saxutils import escape

import msgspec

from ._encoding import escape_formula
from ._field_paths import locate_field
from .fields import Field

if TYPE_CHECKING:
    from .arrow._summary import Group, GroupTotals, Summary

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
#: The prefix of the fields of each list of categories.
_CATEGORIES: Final = {
    "call_category": "call_category",
    "node_category": "node_category",
    "link_category": "link_category",
    "contact_category": "contact_category",
    "category": "call_category",
}
FIGURES: Final = (
    "calls",
    "answered",
    "missed",
    "answered_share",
    "talk_time_sum",
    "talk_time_mean",
)
_PAIR: Final = 2
#: More groups than this do not fit a chart.
_CHART_ROWS: Final = 60


def group_names() -> list[str]:
    """Everything that calls can be grouped by: parts of a time, of lists, and all fields but the phrases of transcriptions."""
    fields = (str(field) for field in Field if field != Field.TRANSCRIPTION_PHRASES)
    return [*_TIMES, *_FIELDS, *_CATEGORIES, *fields]


def make_group(name: str) -> tuple[Group, tuple[Field, ...]]:
    """A group by its name, and the fields that it needs."""
    from .arrow._summary import Group

    if name in _TIMES:
        return Group(name, ("call_start",), time_format=_TIMES[name]), (Field.CALL_START,)
    if prefix := _CATEGORIES.get(name):
        needed = (Field(f"{prefix}_label"), Field(f"{prefix}_value"))
        *path_of_list, _ = locate_field(needed[0])[0].split(".")
        return Group(name, tuple(path_of_list), members=("label", "value")), needed
    needed_field = _FIELDS.get(name) or Field(name)
    path = tuple(locate_field(needed_field)[0].split("."))
    if needed_field == Field.KEYWORD_RULES:
        path = ("keyword_rules[]", "keyword_rule")
    return Group(name, path), (needed_field,)


Row: TypeAlias = tuple[tuple[str, ...], dict[str, Any]]


def sorted_rows(result: Summary, by: Sequence[str], sort: str | None) -> list[Row]:
    """The labels and figures of all groups, largest first by a figure, or in the order of the groups."""

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
        return dict(zip(FIGURES, values, strict=True))

    rows = [(key, figures(totals)) for key, totals in result.rows()]
    rows.sort(key=lambda row: tuple(value or "" for value in row[0]))
    sort = sort or ("group" if by[0] in _TIMES else "calls")
    if sort != "group":
        rows.sort(key=lambda row: row[1][sort], reverse=True)
    labels = [_labelling(name) for name in by]
    return [
        (tuple(label(value) if value else "" for label, value in zip(labels, key, strict=True)), values)
        for key, values in rows
    ]


def _labelling(group: str) -> Callable[[str], str]:
    """The function that makes the label of a group from Arrow's text of its value; fields are as in responses."""
    if group == "weekday":
        return lambda value: _WEEKDAYS[int(value) - 1]
    value_type = locate_field(Field(group))[1] if group in [*Field] else "str"
    if value_type == "datetime":
        # Without microseconds and the offset of the zone.
        return lambda value: value[: len("2024-01-31 09:30:00")]
    return str.upper if value_type == "bool" else str


def side_by_side(
    by: Sequence[str], rows: Sequence[Row], sort: str | None
) -> tuple[list[str], list[Any]] | None:
    """One figure of two groups, of which one is a time: the labels of the times, and for each of the other group a label and figures.

    None if the groups are others, or there is only one time. The figure is `sort`, or the number of calls; the largest are first.
    """
    times = [index for index, name in enumerate(by) if name in _TIMES]
    if len(by) != _PAIR or len(times) != 1:
        return None
    (time,) = times
    figure = sort if sort in FIGURES else "calls"
    columns = list(dict.fromkeys(sorted((key[time] for key, _ in rows), key=_time_order)))
    if len(columns) < _PAIR:
        return None
    lines: dict[str, dict[str, Any]] = {}
    for key, figures in rows:
        lines.setdefault(key[1 - time], {})[key[time]] = figures[figure]
    table = [(label, [values.get(column) for column in columns]) for label, values in lines.items()]
    table.sort(key=lambda line: line[0])
    if sort != "group":
        table.sort(key=lambda line: sum(filter(None, line[1])), reverse=True)
    return columns, table


def _time_order(label: str) -> tuple[int, str]:
    return (_WEEKDAYS.index(label) if label in _WEEKDAYS else 0), label


def to_csv(by: Sequence[str], rows: Sequence[Row]) -> str:
    """The rows as CSV with a header."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*by, *FIGURES])
    writer.writerows([*map(escape_formula, key), *figures.values()] for key, figures in rows)
    return text.getvalue()


def to_json(by: Sequence[str], rows: Sequence[Row]) -> str:
    """The rows as a JSON list of objects."""
    documents = [dict(zip(by, key, strict=True)) | figures for key, figures in rows]
    return msgspec.json.format(msgspec.json.encode(documents)).decode() + "\n"


def to_svg(by: Sequence[str], rows: Sequence[Row]) -> str:
    """An SVG with a bar for each group: answered calls, and the others after them."""
    rows = rows[:_CHART_ROWS]
    labels = [" · ".join(label or "(none)" for label in key) for key, _ in rows]
    labels = [
        "".join(character if character.isprintable() else "\ufffd" for character in label) for label in labels
    ]
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
            f'<text x="{left - 6}" y="{y + 14}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{left}" y="{y + 2}" width="{answered:.1f}" height="{height - 6}" fill="#2a7f62"/>',
            f'<rect x="{left + answered:.1f}" y="{y + 2}" width="{missed:.1f}" height="{height - 6}" fill="#c8553d"/>',
            f'<text x="{left + answered + missed + 6:.1f}" y="{y + 14}">{figures["calls"]:,}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
