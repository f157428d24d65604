"""Filters that take one value, and the command that continues: what is refused, and what is never printed."""

import re

import click
import pytest
from support.cli import parse_lines, resume_arguments

from iovox_async import Filters, InsightsQuery, QueryError
from iovox_async.cli import filters
from iovox_async.cli.app import load_command
from iovox_async.cli.base import ARGUMENTS_KEY
from iovox_async.cli.resume import resume_command, resume_preparation

START, END = "2024-01-01", "2024-01-31"


@pytest.mark.finding("A18")
@pytest.mark.parametrize(
    ("command", "typed"),
    [
        (["calls", START, END], "--call-result ANSWERED --call-result VOICEMAIL"),
        (["calls", START, END], "--call-result ANSWERED,VOICEMAIL"),
        (["calls", START, END], "--node-name Brighton --node-name Leeds"),
        (["follow"], "--direction IN --direction OUT"),
        (["follow"], "--node-id 1,2"),
        (["backfill", "--out", "never-made"], "--link-type A,B"),
        (["backfill", "--out", "never-made"], "--tag-text a --tag-text b"),
        (["show"], "30683207599876 30683207599877"),
        (["show"], "30683207599876,30683207599877"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_several_values_of_a_single_value_filter_are_a_usage_error(run, sandbox, command, typed):
    """Given a filter of one value with several, then nothing is sent, and the error repeats them and says what to do."""
    result = run(*command, *typed.split())
    assert result.exit_code == 2
    message = " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())
    assert typed in message
    assert f"Run iovox {command[0]} once for each" in message
    assert sandbox.stats.requests == 0


@pytest.mark.finding("A18")
def test_a_refused_number_is_masked(run):
    """Given two numbers for a filter of one, then the error shows the last digits of each only."""
    result = run("calls", START, "--call-origin", "447966111222", "--call-origin", "+44 7966 111 333")
    assert result.exit_code == 2
    assert "…222" in result.stderr
    assert "…333" in result.stderr
    assert "111" not in result.stderr


@pytest.mark.finding("A18")
def test_a_name_with_a_comma_is_one_name_and_a_note_says_so(run, sandbox):
    """Given a name with a comma, then it is sent as it is; where it looks like a list, a note says that it is none."""
    plain = run("calls", START, END, "--node-name", "Smith, Jones")
    list_like = run("calls", START, END, "--node-name", "Brighton,Leeds")
    assert (plain.exit_code, plain.stdout) == (0, "")
    assert "--node-name takes one text" not in plain.stderr
    assert (list_like.exit_code, list_like.stdout) == (0, "")
    assert "--node-name takes one text" in list_like.stderr


@pytest.mark.finding("A18")
def test_the_command_line_and_the_library_refuse_commas_of_the_same_filters():
    """Given each filter of one value, when its value has a comma, then both accept it or both refuse it."""
    single = [name for name, annotation in filters.FILTERS.items() if not filters.is_list(annotation)]
    accepting = set()
    for name in single:
        try:
            InsightsQuery(**{name: "1,2"})
        except QueryError:
            continue
        accepting.add(name)
    assert accepting == filters.TEXT_FILTERS
    assert set(single) < set(Filters.__annotations__)


@pytest.mark.finding("A18")
def test_fields_may_be_repeated(run, sandbox):
    """Given --fields twice, then the fields of both are written, not those of the last only."""
    result = run("calls", START, START, "--fields", "id,direction", "--fields", "call_start,id")
    assert parse_lines(result.stdout) == sandbox.rows(START, START, fields=["id", "direction", "call_start"])


# The command that continues.


@pytest.mark.finding("C3")
@pytest.mark.parametrize(
    ("typed", "printed", "variables"),
    [
        (["--proxy", "http://user:pw-canary@127.0.0.1:9"], "", ["IOVOX_PROXY"]),
        (["--proxy=socks5://pw-canary@127.0.0.1:9"], "", ["IOVOX_PROXY"]),
        (["--proxy", "http://127.0.0.1:9"], "--proxy http://127.0.0.1:9", []),
        (["--out", "s3://key:pw/can+ary@bucket/calls"], "", ["IOVOX_OUT"]),
        (["--out", "https://host/calls?sig=pw-canary"], "", ["IOVOX_OUT"]),
        (["--out", "abfs://container@account/calls"], "--out abfs://container@account/calls", []),
        (["--out=a directory"], "'--out=a directory'", []),
        (
            ["--call-origin", "+44 7966 111 canary"],
            '--call-origin "$IOVOX_CALL_ORIGIN"',
            ["IOVOX_CALL_ORIGIN"],
        ),
        (
            ["--tag-text=call 447966111222 canary"],
            '--tag-text "$IOVOX_TAG_TEXT"',
            ["IOVOX_TAG_TEXT"],
        ),
        (["--id", "30683207599876"], "--id 30683207599876", []),
        (["--node-id", "12345678"], "--node-id 12345678", []),
        (["--repair", "--node-name", "--proxy"], "--repair --node-name --proxy", []),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value else "",
)
def test_the_printed_command_contains_no_credential_and_no_number(typed, printed, variables):
    """Given a credential or phone number as a value, when the command is printed, then it names a variable instead."""
    context = click.Context(load_command("backfill"), info_name="backfill")
    context.meta[ARGUMENTS_KEY] = [*typed, "--start", START]
    command, preparation = resume_command(context, {}), resume_preparation(context)
    assert command == " ".join(filter(None, ["iovox backfill", printed, f"--start {START}"]))
    assert [name for name in variables if name not in preparation] == []
    assert bool(preparation) == bool(variables)
    assert "ary" not in command + preparation


@pytest.mark.slow
@pytest.mark.finding("C3")
def test_the_printed_command_runs_once_the_variable_is_set(run, sandbox, faults):
    """Given a filter by a number, when a run fails, then with the named variable the printed command writes the rest."""
    number = sandbox.rows(START, END, fields=["iovox_number"])[0]["iovox_number"]
    args = ("calls", START, END, "--iovox-number", number, "--page-size", 1, "--concurrency", 1)
    whole = run(*args)
    faults(fail_after=9, kinds="403")
    first = run(*args)
    faults()
    assert first.exit_code == 3
    assert number not in first.stderr
    rest = resume_arguments(first.stderr)
    assert run(*rest).exit_code == 2
    second = run(*rest, env={"IOVOX_IOVOX_NUMBER": number})
    assert first.stdout + second.stdout == whole.stdout


@pytest.mark.finding("C3")
def test_a_backfill_into_a_url_with_credentials_does_not_print_them(run, faults):
    """Given --out with a key, when a run fails and when it ends, then no output contains it and the rest can be read."""
    pytest.importorskip("fsspec")
    url = "memory://key:pw-canary@bucket/calls"
    args = ("backfill", "--start", START, "--end", "2024-01-05", "--page-size", 5, "--concurrency", 1)
    faults(fail_after=12, kinds="403")
    first = run(*args, "--out", url)
    faults()
    second = run(*resume_arguments(first.stderr), env={"IOVOX_OUT": url})
    third = run(*args, "--out", url, "--verify")
    mismatch = run(*args, "--out", url, "--partition", "month")
    assert [result.exit_code for result in (first, second, third, mismatch)] == [3, 0, 0, 1]
    assert "canary" not in "".join(result.output for result in (first, second, third, mismatch))
