"""`iovox summary`: figures of groups, compared with the sandbox's own rows."""

import calendar
import collections
import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from contextlib import closing
from datetime import datetime
from urllib.parse import parse_qs

import pytest
from support.sandbox import reset

from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-31"


def expected(sandbox, key):
    """Calls, answered calls and seconds of talk time by `key(row)`, which gives the keys of a row."""
    groups = collections.defaultdict(lambda: [0, 0, 0])
    for row in sandbox.rows(START, END):
        for name in set(key(row)):
            figures = groups[name]
            figures[0] += 1
            figures[1] += row["call_result"] == "ANSWERED"
            figures[2] += row["talk_time_sec"]
    return dict(groups)


@pytest.mark.parametrize(
    ("group", "key"),
    [
        ("node_name", lambda row: [row["node_name"]]),
        ("call_result", lambda row: [row["call_result"]]),
        ("talk_time_seconds", lambda row: [str(row["talk_time_sec"])]),
        ("hour", lambda row: [row["call_start"][11:13]]),
        ("weekday", lambda row: [f"{datetime.fromisoformat(row['call_start']):%A}"]),
        ("day", lambda row: [row["call_start"][:10]]),
        ("month", lambda row: [row["call_start"][:7]]),
        ("tag", lambda row: [tag["text"] for tag in row["tags"]] or [""]),
        ("keyword_rule", lambda row: [rule["keyword_rule"] for rule in row["keyword_rules"]] or [""]),
        (
            "call_category",
            lambda row: [f"{c['label']}: {c['value']}" for c in row["categories"]["call_categories"]] or [""],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_figures_of_each_group(run, sandbox, group, key):
    """Given a group, when summarized in a pipe, then CSV has the calls, answers and talk time of each of its values."""
    result = run("summary", START, END, "--by", group)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    figures = {
        row[group]: [int(row["calls"]), int(row["answered"]), int(row["talk_time_sum"])] for row in rows
    }
    assert figures == expected(sandbox, key)


def test_times_and_flags_are_as_in_responses(run, sandbox):
    """Given a field that is a time or a flag, and a time zone, when summarized, then its values are spelled as in responses."""
    result = run(
        "summary", START, START, "--by", "call_start,has_recording", "--timezone", "America/New_York"
    )
    rows = {(row["call_start"], row["has_recording"]) for row in csv.DictReader(io.StringIO(result.stdout))}
    assert rows == {(row["call_start"], row["has_recording"]) for row in sandbox.rows(START, START)}


def test_two_lists_and_a_field_are_combined(run, sandbox):
    """Given three groups, of which two are lists, then a call counts once for each combination of its values."""
    result = run("summary", START, END, "--by", "tag,node_name,call_category", "--format", "json")
    figures = {
        (row["tag"], row["node_name"], row["call_category"]): row["calls"]
        for row in json.loads(result.stdout)
    }
    counted = collections.Counter()
    for row in sandbox.rows(START, END):
        tags = {tag["text"] for tag in row["tags"]} or {""}
        categories = {f"{c['label']}: {c['value']}" for c in row["categories"]["call_categories"]} or {""}
        counted.update((tag, row["node_name"], category) for tag in tags for category in categories)
    assert figures == counted


def test_only_needed_fields_are_requested(run, sandbox):
    """Given a group, when summarized, then only its field, the figures' and the sort keys are requested."""
    reset(sandbox, sandbox.url)
    run("summary", START, END, "--by", "node_name")
    (fields,) = {parse_qs(request.query)["response_fields"][0] for request in sandbox.requests}
    assert set(fields.split(",")) == {"node_name", "call_result", "talk_time", "id", "call_start"}


def test_sort_and_limit(run):
    """Given --sort missed and --limit, when summarized, then the groups with the most missed calls come first."""
    every = list(csv.DictReader(io.StringIO(run("summary", START, END, "--by", "node_name").stdout)))
    result = run("summary", START, END, "--by", "node_name", "--sort", "missed", "--limit", 3)
    missed = [int(row["missed"]) for row in csv.DictReader(io.StringIO(result.stdout))]
    assert missed == sorted((int(row["missed"]) for row in every), reverse=True)[:3]


@pytest.mark.parametrize(
    ("by", "sort", "show"),
    [
        ("node_name,week", None, lambda calls: str(len(calls))),
        ("weekday,node_name", "missed", lambda calls: str(sum(call != "ANSWERED" for call in calls))),
        (
            "node_name,week",
            "answered_share",
            lambda calls: f"{calls.count('ANSWERED') / len(calls):.0%}" if calls else "",
        ),
    ],
)
def test_a_group_and_a_time_are_side_by_side(run, sandbox, by, sort, show):
    """Given two groups of which one is a time, when shown as a table, then each time is a column of the figure of --sort."""
    time_format = "%A" if "weekday" in by else "%G-W%V"
    cells = collections.defaultdict(list)
    for row in sandbox.rows(START, END):
        start = datetime.fromisoformat(row["call_start"])
        cells[row["node_name"], f"{start:{time_format}}"].append(row["call_result"])
    arguments = ["--sort", sort] if sort else []
    result = run("summary", START, END, "--by", by, "--format", "table", *arguments)
    titles, *lines = result.stdout.split("\n\n", maxsplit=1)[0].splitlines()
    title, *columns = re.split(r"  +", titles)
    assert title == f"{(sort or 'calls').replace('_', ' ')} by {by.replace(',', ' and ')}"
    order = list(calendar.day_name) if "weekday" in by else sorted({time for _, time in cells})
    assert columns == order
    edges = [match.end() for match in re.finditer(r"\S+", titles)][-len(columns) :]
    for line in lines:
        name = re.split(r"  +", line)[0]
        shown = [line[edge - len(column) : edge].strip() for edge, column in zip(edges, columns, strict=True)]
        assert shown == [show(cells[name, column]) for column in columns]
    assert len(lines) == len({name for name, _ in cells})
    limited = run("summary", START, END, "--by", by, "--format", "table", "--limit", 2, *arguments)
    assert limited.stdout.splitlines()[:3] == [titles, *lines[:2]]


@pytest.mark.parametrize("by", ["node_name,month", "week,weekday", "week,node_name,call_result", "node_name"])
def test_other_groups_are_one_below_the_other(run, by):
    """Given one time only, or other groups, when shown as a table, then each combination is a row with all figures."""
    titles = run("summary", START, END, "--by", by, "--format", "table").stdout.splitlines()[0].split()
    assert titles == [*by.split(","), "calls", "missed", "answered", "talk", "time", "mean"]


def test_chart_is_svg(run, tmp_path):
    """Given --plot, when summarized, then the file is SVG with a label for each group; markup in names is escaped."""
    path = tmp_path / "chart.svg"
    with closing(Sandbox(calls=0, start=START, end=END)) as sandbox, sandbox.serve() as url:
        sandbox.add([{"call_start": f"{START} 10:00:00", "node_name": "<A> & \x1b[2J"}])
        result = run("summary", START, END, "--by", "node_name", "--plot", path, env={"IOVOX_URL": url})
    assert result.exit_code == 0
    texts = [element.text for element in ET.fromstring(path.read_text()).iter() if element.text]
    assert "<A> & \ufffd[2J" in texts
    assert run("summary", START, "--plot", tmp_path / "chart.png").exit_code == 2


@pytest.mark.parametrize("group", ["nod_name", "transcription_phrases", ""])
def test_unknown_groups_are_refused(run, sandbox, group):
    """Given no group, then a usage error lists the groups, and nothing is sent."""
    reset(sandbox, sandbox.url)
    result = run("summary", START, "--by", group)
    assert result.exit_code == 2
    assert "weekday" in result.stderr
    assert sandbox.stats.requests == 0


def test_too_many_groups_are_refused(run, monkeypatch):
    """Given more groups than fit in memory, when summarized, then a usage error says what to do."""
    monkeypatch.setattr("iovox_async.arrow._summary.MAX_GROUPS", 10)
    result = run("summary", START, END, "--by", "id")
    assert result.exit_code == 2
    assert "--by has more than 10 groups. Group by a field of fewer values" in result.stderr
