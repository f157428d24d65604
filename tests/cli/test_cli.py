"""The command line, run in this process: what it offers, what it says, what it writes."""

import csv
import inspect
import io
import json
import re
import shlex

import attrs
import msgspec
import pytest
import rich_click as click
from click.testing import CliRunner

from iovox_async import Field, Fields, Filters
from iovox_async.cli.app import iovox
from iovox_async.cli.commands.sandbox import FAULTS
from iovox_async.cli.field_places import place_of
from iovox_async.cli.filters import option_of
from iovox_async.cli.query_options import PRESETS
from iovox_async.sandbox import KEY, USERNAME, Faults, Sandbox

START, END = "2024-01-01", "2024-01-31"
COMMANDS = dict(iovox.commands.items())


@pytest.fixture(scope="module")
def box():
    """A month's calls on a loopback port."""
    sandbox = Sandbox(calls=600, start=START, end=END, seed=3)
    with sandbox.serve() as url:
        sandbox.url = url
        yield sandbox
    sandbox.close()


@pytest.fixture
def faults(box):
    """Sets what goes wrong, for one test."""

    def set_faults(**given):
        box.reset_stats()
        box.faults = Faults(**given)

    yield set_faults
    box.faults = Faults()


@pytest.fixture
def run(box, monkeypatch):
    """Runs the command with the sandbox's credentials; gives click's result."""
    monkeypatch.setenv("IOVOX_USERNAME", USERNAME)
    monkeypatch.setenv("IOVOX_SECURE_KEY", KEY)
    monkeypatch.setenv("IOVOX_URL", box.url)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("IOVOX_LOG", "IOVOX_PROXY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*args, **options):
        return CliRunner().invoke(iovox, [str(arg) for arg in args], prog_name="iovox", **options)

    return run


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def ids(result):
    return [call["id"] for call in lines(result)]


# What it offers.


def test_help_of_the_whole_names_every_command_the_credentials_and_the_exit_codes(run):
    """`iovox --help` is enough to begin."""
    told = run("--help").stdout
    for word in (
        *COMMANDS,
        "IOVOX_USERNAME",
        "IOVOX_SECURE_KEY",
        "IOVOX_URL",
        "130 interrupted",
        "iovox demo",
    ):
        assert word in told


def test_without_arguments_it_shows_its_help(run):
    """`iovox` alone is a question."""
    assert "Usage: iovox" in run().output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_has_the_sentence_that_a_command_begins_its_help_with(name):
    """It is written twice, so that the list loads no command."""
    listed = COMMANDS[name]
    first, _, _ = inspect.cleandoc(listed.loaded.help).partition("\n\n")
    assert listed.help == first.replace("\n", " ")
    assert listed.loaded.name == name


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_for_all_it_takes(run, name):
    """No option is left to be guessed."""
    told = run(name, "--help").stdout
    assert COMMANDS[name].params or name == "fields"
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name
        assert max(parameter.opts, key=len).lower() in told.lower()


@pytest.mark.parametrize("name", ["calls", "follow"])
def test_no_filter_is_missing(name):
    """Each member of Filters is an option."""
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {option_of(filter_) for filter_ in Filters.__annotations__} <= options


@pytest.mark.parametrize("name", ["fields", "on_error"])
def test_an_option_of_one_name_means_the_same_in_every_command_that_reads(name):
    """Type, default and the words it begins with."""
    found = [
        next(option for option in COMMANDS[command].params if option.name == name)
        for command in ("calls", "backfill", "follow")
    ]
    assert len({(str(option.to_info_dict()["type"]), option.default) for option in found}) == 1
    shortest = min((option.help.rstrip(".") for option in found), key=len)
    assert all(option.help.startswith(shortest) for option in found)


def test_no_fault_is_missing():
    """Each attribute of Faults is an option of the sandbox."""
    assert set(FAULTS) == {field.name for field in attrs.fields(Faults)}


def test_no_option_takes_the_key():
    """A key on a command line is in the history of the shell and in the list of processes."""
    names = {
        option for command in COMMANDS.values() for parameter in command.params for option in parameter.opts
    }
    assert not [name for name in names if re.search("key(?!word)|secret|password|token", name)]


def test_version(run):
    """The version stands alone on a line."""
    result = run("--version")
    assert result.stdout.startswith("iovox ")
    assert result.exit_code == 0


# Fields.


def test_fields_lists_all_of_them_in_columns_between_tabs(run):
    """One line a field, for `cut` and `grep`."""
    rows = [line.split("\t") for line in run("fields").stdout.splitlines()]
    assert [row[0] for row in rows] == list(Field)
    assert ["talk_time_seconds", "int", "talk_time_sec", "call"] in rows
    assert ["comment_text", "str", "comments[].text", "insights"] in rows
    assert ["link_category_id", "str", "categories.link_categories[].category_id", "categories"] in rows
    assert sum("default" in row[3] for row in rows) == len(Fields.DEFAULT)


@pytest.mark.parametrize("field", Field)
def test_each_field_is_where_the_table_says(box, field):
    """Asked for alone, it is answered at its path."""
    found = []
    for row in box.rows(fields=[field]):
        values = [row]
        for step in place_of(field).path.split("."):
            key = step.removesuffix("[]")
            values = [value[key] for value in values]
            if step.endswith("[]"):
                values = [item for value in values for item in value]
        found += values
    assert found


# Calls.


def test_calls_are_one_json_document_a_line(run, box):
    """All calls of the range, in order, as answers have them."""
    result = run("calls", START, END)
    assert result.exit_code == 0
    assert result.stderr == ""
    rows = box.rows(START, END, fields=[*Fields.DEFAULT])
    assert lines(result) == rows


@pytest.mark.parametrize(
    ("options", "truth"),
    [
        (["--call-result", "VOICEMAIL"], {"call_result": "VOICEMAIL"}),
        (["--tag-colour", "red,GOLD"], {"tag_colour": ["RED", "GOLD"]}),
        (["--tag-colour", "RED", "--tag-colour", "GOLD"], {"tag_colour": ["RED", "GOLD"]}),
        (["--node-id", "2", "--direction", "IN"], {"node_id": "2", "direction": "IN"}),
        (["--link-category-ids", "100,101"], {"link_category_ids": ["100", "101"]}),
    ],
    ids=["one", "list", "repeated", "two", "ids"],
)
def test_filters_reach_the_endpoint(run, box, options, truth):
    """An option filters as the endpoint does."""
    expected = box.ids(START, END, **truth)
    assert expected
    assert ids(run("calls", START, END, *options)) == expected


def test_calls_by_id_without_repeats(run, box):
    """`--id` takes ids between commas and repeated."""
    one, two, three = box.ids()[5:8]
    assert ids(run("calls", START, END, "--id", f"{one},{three}", "--id", two, "--id", one)) == [
        one,
        two,
        three,
    ]


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ("all", Fields.ALL),
        ("id,talk_time_seconds", ("id", "talk_time_seconds")),
        ("DEFAULT, transcription_text", (*Fields.DEFAULT, "transcription_text")),
        ("call,categories", Fields.CALL + Fields.CATEGORIES),
    ],
    ids=["preset", "names", "both", "two presets"],
)
def test_fields_are_names_and_presets(run, box, asked, fields):
    """What is asked for is answered, and nothing else."""
    result = run("calls", START, "2024-01-03", "--fields", asked)
    assert lines(result) == box.rows(START, "2024-01-03", fields=fields)


def test_order_and_max(run, box):
    """The latest three."""
    assert ids(run("calls", START, END, "--order", "call_start_DESC", "--max", 3)) == box.ids()[:-4:-1]


def test_date_constant_stands_for_both_dates(run, box):
    """Yesterday has no calls here, and that is no failure."""
    result = run("calls", "--date-constant", "yesterday")
    assert (result.exit_code, result.stdout) == (0, "")
    assert run("calls", START, "--date-constant", "YESTERDAY").exit_code == 2


def test_csv_has_the_asked_columns_under_the_answers_names(run, box):
    """Nested fields are one column of JSON each."""
    asked = "id,talk_time_seconds,has_recording,tag_text,tag_colour,link_category_label,call_outcomes"
    result = run("calls", START, END, "--format", "csv", "--fields", asked)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    truth = box.rows(START, END, fields=asked.split(","))
    assert list(rows[0]) == ["id", "talk_time_sec", "has_recording", "tags", "categories", "call_outcomes"]
    assert [int(row["id"]) for row in rows] == [row["id"] for row in truth]
    assert [row["talk_time_sec"] for row in rows] == [str(row["talk_time_sec"]) for row in truth]
    for name in ("tags", "categories", "call_outcomes"):
        assert [json.loads(row[name]) for row in rows] == [row[name] for row in truth]


def test_formulas_in_csv_are_made_harmless(run):
    """What an account's users typed is data in a spreadsheet, whatever it looks like."""
    sandbox = Sandbox(calls=0, start=START, end=END)
    sandbox.add([{"call_start": f"{START} 10:00:00", "node_name": "=1+1", "link_name": "plain"}])
    with sandbox.serve() as url:
        result = run(
            *("calls", START, END, "--format", "csv", "--fields", "node_name,link_name"),
            env={"IOVOX_URL": url},
        )
    assert result.stdout.splitlines() == ["node_name,link_name", "'=1+1,plain"]


# Files.


def test_a_file_is_written_whole(run, box, tmp_path):
    """The file holds what stdout would, and nothing else is left beside it."""
    path = tmp_path / "calls.jsonl"
    result = run("calls", START, END, "-o", path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == box.ids()
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_that_ends_in_csv_is_csv(run, tmp_path):
    """Unless another format is asked for."""
    path = tmp_path / "calls.csv"
    assert run("calls", START, START, "-o", path).exit_code == 0
    assert path.read_text().startswith("id,call_start,")
    assert run("calls", START, START, "-o", path, "--format", "jsonl").exit_code == 0
    assert path.read_text().startswith('{"id":')


def test_a_file_that_fails_leaves_what_was_there(run, faults, tmp_path):
    """No half file, no temporary one, and the old one as it was."""
    path = tmp_path / "calls.jsonl"
    path.write_text("yesterday's")
    faults(fail_after=2, kinds="403")
    result = run("calls", START, END, "-o", path, "--page-size", 50)
    assert result.exit_code == 1
    assert "was not written" in result.stderr
    assert "--resume" not in result.stderr
    assert path.read_text() == "yesterday's"
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_is_replaced_behind_its_link_with_its_mode(run, tmp_path):
    """A link stays a link, and private files stay private."""
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    real.write_text("")
    real.chmod(0o600)
    link.symlink_to(real)
    assert run("calls", START, START, "-o", link).exit_code == 0
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert real.stat().st_size


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [("no/such/folder/x", 1, "Cannot write"), (".", 2, "is a folder")],
    ids=["no folder", "a folder"],
)
def test_a_place_that_cannot_be_written_is_named(run, tmp_path, monkeypatch, path, code, words):
    """One line, without a traceback."""
    monkeypatch.chdir(tmp_path)
    result = run("calls", START, END, "-o", path)
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr


# Failures.


def going_on(result):
    """The words of the printed command, without `iovox`."""
    line = next(line for line in result.stderr.splitlines() if "--resume" in line)
    return shlex.split(line.partition(" with: iovox ")[2])


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
def test_a_failure_after_some_output_prints_the_command_that_writes_the_rest(run, faults, form, order):
    """The two outputs together are the whole, to the byte."""
    args = ("calls", START, END, "--format", form, "--order", order, "--direction", "IN", "--page-size", 40)
    whole = run(*args)
    faults(fail_after=5, kinds="403")
    first = run(*args)
    assert first.exit_code == 3
    assert len(first.stderr.splitlines()) == 2
    faults()
    rest = run(*going_on(first))
    assert rest.exit_code == 0
    assert first.stdout
    assert first.stdout + rest.stdout == whole.stdout


def test_the_rest_of_a_limited_run_is_limited_too(run, box, faults):
    """`--max` counts over both runs."""
    faults(fail_after=4, kinds="403")
    first = run("calls", START, END, "--max=400", "--page-size", 40)
    faults()
    rest = run(*going_on(first))
    assert ids(first) + ids(rest) == box.ids()[:400]


def test_a_failure_before_any_output_is_just_a_failure(run, faults):
    """Nothing to go on from: exit code 1 and one line."""
    faults(fail_after=0, kinds="403")
    result = run("calls", START, END)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1


def test_a_list_by_page_numbers_cannot_be_gone_on_from(run, faults):
    """Exit code 1 where what is left cannot be told."""
    faults(fail_after=3, kinds="403")
    result = run("calls", START, END, "--order", "talk_time_ASC", "--page-size", 40, "--concurrency", 1)
    assert result.exit_code == 1
    assert "--resume" not in result.stderr


def test_a_wrong_key_is_explained_and_not_shown(run):
    """401 names the variables and the list of addresses."""
    result = run("calls", START, END, env={"IOVOX_SECURE_KEY": "canary-key"})
    assert result.exit_code == 1
    assert "IP addresses" in result.stderr
    assert "canary-key" not in result.output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["calls", END, START], "END"),
        (["calls", "yesterday"], "START"),
        (["calls", START, "--tag-colour", "PINK"], "--tag-colour"),
        (["calls", START, "--iovox-number", "+44 1"], "--iovox-number"),
        (["calls", START, "--id", "x"], "--id"),
        (["calls", START, "--fields", "talk_tim"], "did you mean 'talk_time'"),
        (["calls", START, "--order", "talk_time"], "--order"),
        (["calls", START, "--resume", "x"], "--resume"),
        (["calls", START, "--timezone", "Mars/Olympus"], "--timezone"),
        (["calls", START, "--proxy", "ftp://x"], "--proxy"),
        (["calls", START, "--page-size", "20001"], "--page-size"),
        (["follow", "--since", "soon"], "--since: "),
        (["show", "x"], "ID"),
        (["sandbox", "--kind", "flood"], "--kind"),
        (["sandbox", "--start", "2024-02-01", "--end", "2024-01-01"], "end"),
        (["nonsense"], "nonsense"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_wrong_usage_names_the_option_and_ends_with_2(run, args, words):
    """Nothing is sent, and the message is in the words of the command line."""
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [["calls"], ["follow"], ["show", "1"]], ids=lambda args: args[0])
def test_without_credentials_and_without_a_terminal_it_says_what_to_set(run, command):
    """Both variables are named, and the exit code is that of usage."""
    result = run(*command, env={"IOVOX_USERNAME": None, "IOVOX_SECURE_KEY": None})
    assert result.exit_code == 2
    assert "IOVOX_USERNAME and IOVOX_SECURE_KEY" in result.stderr


def test_the_log_is_told_on_stderr_when_asked_for(run, faults):
    """`--log-level` and IOVOX_LOG show the work underneath, and no address with its filters."""
    faults(fail_first=1)
    result = run("--log-level", "info", "calls", START, START, "--call-origin", "447700900648")
    assert result.exit_code == 0
    assert "info: retry 1" in result.stderr
    faults(fail_first=1)
    other = run("calls", START, START, "--call-origin", "447700900648", env={"IOVOX_LOG": "debug"})
    assert "retry 1" in other.stderr
    assert "447700900648" not in result.stderr + other.stderr
    faults(fail_first=1)
    assert run("calls", START, START).stderr == ""


# Show.


def richest(box):
    rows = box.rows(fields=Fields.ALL)
    lists = ("tags", "tasks", "comments", "keyword_rules", "transcriptions", "call_outcomes")
    return max(rows, key=lambda row: sum(bool(row[name]) for name in lists))


def test_show_tells_all_of_a_call(run, box):
    """Who, when, the dialogue with its minutes, tags, rules, tasks, comments and categories."""
    call = richest(box)
    told = run("show", call["id"]).stdout
    wanted = [call["call_start"], call["call_origin"], call["node_name"], "Dialogue", "Tags", "Categories"]
    wanted += [phrase["phrase"] for phrase in call["transcriptions"][0]["phrases"]]
    wanted += [tag["text"] for tag in call["tags"]] + [rule["keyword_rule"] for rule in call["keyword_rules"]]
    wanted += [task["reminder_message"] for task in call["tasks"]] + [
        note["text"] for note in call["comments"]
    ]
    for part in wanted:
        assert part in told
    second = call["transcriptions"][0]["phrases"][-1]["start"] // 1000
    assert f"  {second // 60:02}:{second % 60:02}  " in told
    assert not any(line.endswith(" ") for line in told.splitlines())
    for name, said in (("Recording", call["has_recording"]), ("E-mail alert", call["email_alert"])):
        assert re.search(rf"^{name} +{'yes' if said == 'TRUE' else 'no'}$", told, re.MULTILINE)


def test_show_as_json_is_the_call_whole(run, box):
    """One document with every field."""
    call = richest(box)
    assert lines(run("show", call["id"], "--json")) == [call]


def test_show_of_a_call_that_is_not_there_fails(run):
    """Exit code 1, and nothing on stdout."""
    result = run("show", 1)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no call 1" in result.stderr


def test_show_obeys_no_control_characters(run):
    """What a caller said cannot move the cursor."""
    sandbox = Sandbox(calls=0, start=START, end=END)
    (one,) = sandbox.add([{"call_start": f"{START} 10:00:00", "node_name": "a\x1b[2Jb\u202ec"}])
    with sandbox.serve() as url:
        told = run("show", one, env={"IOVOX_URL": url}).stdout
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert "a\ufffd[2Jb\ufffdc" in told


def test_completion_knows_fields_and_presets():
    """The last item between commas is completed."""
    (fields,) = [parameter for parameter in COMMANDS["calls"].params if parameter.name == "fields"]
    context = click.Context(COMMANDS["calls"])
    offered = [item.value for item in fields.type.shell_complete(context, fields, "id,call_st")]
    assert offered == ["id,call_start"]
    assert [item.value for item in fields.type.shell_complete(context, fields, "in")] == ["insights"]
    assert set(PRESETS) == {"default", "call", "categories", "insights", "all"}


def test_json_lines_are_valid_utf_8_documents(run, box):
    """Each line is decoded by a strict decoder."""
    result = run("calls", START, END, "--fields", "all")
    decode = msgspec.json.Decoder(dict).decode
    assert len([decode(line) for line in result.stdout_bytes.splitlines()]) == 600
