"""`iovox show`, `iovox fields` and `iovox docs`."""

import re
from contextlib import closing

import pytest
from support.cli import parse_lines

from iovox_async import Field, Fields
from iovox_async.cli.commands.docs import guides
from iovox_async.cli.commands.fields import locate_field
from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-31"


def fullest_row(sandbox):
    """The row with the most kinds of lists."""
    lists = ("tags", "tasks", "comments", "keyword_rules", "transcriptions", "call_outcomes")
    return max(sandbox.rows(fields=Fields.ALL), key=lambda row: sum(bool(row[name]) for name in lists))


def test_show_prints_every_part_of_a_call(run, sandbox):
    """Given a call with all parts, when shown, then the output contains each of them, without trailing spaces."""
    call = fullest_row(sandbox)
    output = run("show", call["id"]).stdout
    texts = [
        call["call_start"], call["call_origin"], call["node_name"], "Transcript", "Tags", "Categories",
        *(phrase["phrase"] for phrase in call["transcriptions"][0]["phrases"]),
        *(tag["text"] for tag in call["tags"]),
        *(rule["keyword_rule"] for rule in call["keyword_rules"]),
        *(task["reminder_message"] for task in call["tasks"]),
        *(comment["text"] for comment in call["comments"]),
    ]  # fmt: skip
    assert [text for text in texts if text not in output] == []
    second = call["transcriptions"][0]["phrases"][-1]["start"] // 1000
    assert f"  {second // 60:02}:{second % 60:02}  " in output
    assert not any(line.endswith(" ") for line in output.splitlines())
    for name, value in (("Recording", call["has_recording"]), ("E-mail alert", call["email_alert"])):
        assert re.search(rf"^{name} +{'yes' if value == 'TRUE' else 'no'}$", output, re.MULTILINE)


def test_show_json_prints_the_whole_call(run, sandbox):
    """Given --json, when a call is shown, then stdout is one document with every field."""
    call = fullest_row(sandbox)
    assert parse_lines(run("show", call["id"], "--json").stdout) == [call]


def test_show_fails_for_an_unknown_id(run):
    """Given an id that no call has, when shown, then the exit code is 1 and stdout is empty."""
    result = run("show", 1)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no call 1" in result.stderr


def test_show_replaces_control_characters(run):
    """Given a name with control characters, when shown, then none of them reaches the terminal."""
    with closing(Sandbox(calls=0, start=START, end=END)) as sandbox, sandbox.serve() as url:
        (call_id,) = sandbox.add([{"call_start": f"{START} 10:00:00", "node_name": "a\x1b[2Jb\u202ec"}])
        output = run("show", call_id, env={"IOVOX_URL": url}).stdout
    assert "\x1b" not in output
    assert "\u202e" not in output
    assert "a\ufffd[2Jb\ufffdc" in output


def test_fields_prints_columns_between_tabs(run):
    """Given no terminal, when the fields are listed, then each is a line of four columns for `cut` and `grep`."""
    rows = [line.split("\t") for line in run("fields").stdout.splitlines()]
    assert [row[0] for row in rows] == list(Field)
    assert ["talk_time_seconds", "int", "talk_time_sec", "call"] in rows
    assert ["comment_text", "str", "comments[].text", "insights"] in rows
    assert ["link_category_id", "str", "categories.link_categories[].category_id", "categories"] in rows
    assert sum("default" in row[3] for row in rows) == len(Fields.DEFAULT)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("field", Field)
def test_field_is_at_its_path(sandbox, field):
    """Given one requested field, when the response is searched at the field's path, then there are values."""
    values = []
    for row in sandbox.rows(fields=[field]):
        items = [row]
        for step in locate_field(field)[0].split("."):
            items = [item[step.removesuffix("[]")] for item in items]
            if step.endswith("[]"):
                items = [member for item in items for member in item]
        values += items
    assert values


def test_docs_lists_the_guides_and_shows_one_as_it_is_in_a_pipe(run):
    """Given the installed guides, when `docs` runs, then it lists them by title; with a topic, the text is that of the file."""
    listed = dict(line.split("  ", 1) for line in run("docs").stdout.splitlines())
    topics = {topic.strip(): title.strip() for topic, title in listed.items()}
    assert topics == {
        name: page.read_text("utf-8").partition("\n")[0].removeprefix("# ") for name, page in guides().items()
    }
    assert run("docs", "Exactness.md").stdout == guides()["exactness"].read_text("utf-8")


def test_docs_names_the_topics_and_the_nearest_for_an_unknown_one(run):
    """Given a misspelled topic, when `docs` runs, then it is a usage error that names the similar one."""
    result = run("docs", "bakfill")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean 'backfill'" in result.stderr
