"""The command line on a pseudo-terminal: progress bars, wrapping, colours."""

import re
import shlex

import pytest
from support.terminal import Terminal

from iovox_async import Field
from iovox_async.cli.commands.demo import PROGRAM

pytest.importorskip("pty", reason="there are no pseudo-terminals")

pytestmark = pytest.mark.subprocess

START, WEEK, END = "2024-01-01", "2024-01-07", "2024-01-31"
#: A run of many requests, one after the other.
SLOW_RUN = ("calls", START, END, "--page-size", 10, "--concurrency", 1)


def test_bar_is_drawn_and_erased(sandbox, faults, process_environment, tmp_path):
    """Given a terminal, when calls go to a file, then a bar shows the figures, never 100%, and a summary replaces it."""
    faults(latency=0.1, every_nth=3)
    args = ["calls", START, WEEK, "--page-size", 30, "--concurrency", 1, "-o", tmp_path / "calls.jsonl"]
    exit_code, output = Terminal(args, process_environment).finish()
    assert exit_code == 0
    assert re.search(r" \d+% [\d,]+ calls  [\d,]+/s  [\d.]+ [kM]B  \d+ retr", output)
    assert "100%" not in output
    count = len(sandbox.ids(START, WEEK))
    summary = rf"{count} calls, [\d,]+ per second, \d+ requests, \d+ retr"
    assert re.search(summary, output.rstrip().splitlines()[-1])


def test_resume_command_is_on_a_line_of_its_own(faults, process_environment):
    """Given a narrow terminal, when interrupted, then there was no bar over the data, and the command is not wrapped."""
    faults(latency=0.1)
    terminal = Terminal(SLOW_RUN, process_environment | {"COLUMNS": "50"})
    terminal.read_until('{"id":')
    terminal.press_ctrl_c()
    exit_code, output = terminal.finish()
    assert exit_code == 130
    assert "%" not in output
    note, command = output.rstrip().splitlines()[-2:]
    assert re.fullmatch(r"Interrupted\. [\d,]+ calls written\. Continue with:", note), "no ^C before it"
    assert shlex.split(command)[: len(SLOW_RUN) + 1] == ["iovox", *map(str, SLOW_RUN)]
    assert "--resume" in command


def test_ctrl_c_erases_the_bar(faults, process_environment, tmp_path):
    """Given a bar, when Ctrl-C is pressed, then the bar is erased, the note stays, and no file is left."""
    faults(latency=0.1)
    terminal = Terminal([*SLOW_RUN, "-o", tmp_path / "calls.jsonl"], process_environment)
    terminal.read_until(" calls ")
    terminal.press_ctrl_c()
    exit_code, output = terminal.finish()
    assert exit_code == 130
    assert " ".join(output.split()).endswith("was not written.")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("width", "has_presets"), [(40, False), pytest.param(80, True, marks=pytest.mark.slow)]
)
def test_table_of_fields_is_not_cut_off(process_environment, width, has_presets):
    """Given a narrow terminal, when the fields are listed, then a coloured table shows every name and path in full."""
    terminal = Terminal(["fields"], process_environment | {"COLUMNS": str(width)})
    exit_code, output = terminal.finish()
    assert exit_code == 0
    assert "\x1b[" in terminal.output
    assert "Yellow: has another name in responses." in " ".join(output.split())
    assert "\u2026" not in output
    assert [name for name in Field if not re.search(rf"^{name} ", output, re.MULTILINE)] == []
    assert ("Preset" in output) == has_presets


@pytest.mark.parametrize(("width", "shown"), [(60, 3), (10, 1), (200, 11)])
def test_table_of_calls_cuts_no_time_or_number(sandbox, process_environment, width, shown):
    """Given a terminal, when a table is written, then the columns that fit are complete, and a note counts the others."""
    args = ("calls", START, START, "--format", "table")
    exit_code, output = Terminal(args, process_environment | {"COLUMNS": str(width)}).finish()
    row = sandbox.rows(START, START)[0]
    first = [str(row["id"]), *row["call_start"].split(), *row["call_end"].split()]
    titles, line, *_ = output.splitlines()
    assert exit_code == 0
    assert len(titles.split()) == shown
    if width == 10:
        assert line == f"{first[0][:9]}\u2026"
    else:
        assert line.split()[:5] == first
    note = f"The terminal shows {shown} of 11 columns; --columns selects others."
    assert (note in " ".join(output.split())) == (shown < 11)


@pytest.mark.slow
@pytest.mark.parametrize("groups", ["node_name", "node_name,call_result"])
def test_summary_on_a_narrow_terminal_has_readable_groups_and_the_calls(process_environment, groups):
    """Given a narrow terminal, when calls are counted, then figures are left out before names get too short, but not the calls."""
    args = ("summary", START, START, "--by", groups, "--no-progress")
    exit_code, output = Terminal(args, process_environment | {"COLUMNS": "30"}).finish()
    titles, first, *_ = output.splitlines()
    assert exit_code == 0
    assert "calls" in titles.split()
    assert max(map(len, output.splitlines())) <= 30
    if groups == "node_name":
        assert titles.startswith("node_name")
        assert len(first.partition("  ")[0]) >= 12


def test_program_of_the_demo_is_not_cut_off(process_environment):
    """Given a narrow terminal, when the demo ends, then every line of its program is printed in full."""
    exit_code, output = Terminal(["demo", "--calls", 100], process_environment | {"COLUMNS": "50"}).finish()
    assert exit_code == 0
    lines = [line.rstrip() for line in output.splitlines()]
    assert [line for line in PROGRAM.splitlines() if line not in lines] == []
