"""Filters that take one value, and the command that continues: what is refused, and what is never printed."""

import re

import pytest

from iovox_async import Filters, InsightsQuery, QueryError
from iovox_async.cli import options

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
    assert (plain.exit_code, plain.stderr) == (0, "")
    assert (list_like.exit_code, list_like.stdout) == (0, "")
    assert "--node-name takes one text" in list_like.stderr


@pytest.mark.finding("A18")
def test_the_command_line_and_the_library_refuse_commas_of_the_same_filters():
    """Given each filter of one value, when its value has a comma, then both accept it or both refuse it."""
    single = [name for name, annotation in options._FILTERS.items() if not options._is_list(annotation)]
    accepting = set()
    for name in single:
        try:
            InsightsQuery(**{name: "1,2"})
        except QueryError:
            continue
        accepting.add(name)
    assert accepting == options._TEXT_FILTERS
    assert set(single) < set(Filters.__annotations__)
