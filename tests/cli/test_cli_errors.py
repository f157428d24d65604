"""Errors: their wording, exit codes, credentials and the log."""

import re

import click
import pytest
from support.cli import parse_lines

from iovox_async import BackfillError, ConfigurationError, QueryError, RecordError, TransportError
from iovox_async._wording import Wording
from iovox_async.cli.app import load_command
from iovox_async.cli.errors import format_error
from iovox_async.sandbox import KEY, USERNAME

START, END = "2024-01-01", "2024-01-31"


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        ("calls", QueryError("start_date", "is wrong"), "START is wrong"),
        ("backfill", QueryError("start_date", "is wrong"), "START is wrong"),
        ("follow", QueryError("start_date", "is wrong"), "START is wrong"),
        ("calls", QueryError("end_date", "is wrong"), "END is wrong"),
        (
            "calls",
            QueryError("end_date", Wording("is before {start_date}"), "Swap."),
            "END is before START. Swap.",
        ),
        (
            "calls",
            QueryError("date_constant", Wording("excludes {start_date} or {end_date}")),
            "--date-constant excludes START or END",
        ),
        ("calls", QueryError("id", "is wrong"), "--id is wrong"),
        ("calls", QueryError("response_fields", "is wrong"), "--fields is wrong"),
        ("calls", QueryError("node_name", "is wrong"), "--node-name is wrong"),
        ("calls", QueryError("max_calls", "is wrong"), "--limit is wrong"),
        ("calls", ConfigurationError("base_url", "is wrong"), "IOVOX_URL is wrong"),
        ("calls", ConfigurationError("timezone", "is wrong"), "--timezone is wrong"),
        ("calls", ConfigurationError(None, "all is wrong"), "all is wrong"),
        ("calls", ConfigurationError("SSL_CERT_FILE", "is wrong"), "SSL_CERT_FILE is wrong"),
        (
            "calls",
            ConfigurationError(
                "verify", "is wrong", Wording("Pass {verify=system}, or {verify} with a path.")
            ),
            "--ca-bundle is wrong. Pass --ca-bundle system, or --ca-bundle with a path.",
        ),
        (
            "calls",
            ConfigurationError("base_url", "is wrong", Wording("Then set {allow_http=True}.")),
            "IOVOX_URL is wrong. Then set IOVOX_ALLOW_HTTP=1.",
        ),
        (
            "calls",
            QueryError("start_date", "has a time zone", Wording("Pass {timezone}.")),
            "START has a time zone. Pass --timezone.",
        ),
        (
            "backfill",
            BackfillError("x is damaged", hint=Wording("Repair it ({repair=True}).")),
            "x is damaged. Repair it (--repair).",
        ),
        (
            "calls",
            TransportError("no connection", hint=Wording("Check the address ({base_url}).")),
            "no connection. Check the address (IOVOX_URL).",
        ),
        (
            "calls",
            RecordError(3, "$[3].id", "is wrong"),
            "$[3].id: is wrong. Pass --on-error skip to skip and count such records.",
        ),
        ("calls", click.ClickException("is wrong"), "is wrong"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_name_what_was_typed(command, error, message):
    """Given an error about a Python argument, when a command prints it, then it names its own option or variable."""
    with click.Context(load_command(command)):
        assert format_error(error) == message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["calls", END, START], "END"),
        (["calls", "soon"], "START"),
        (["calls", "--start", "soon"], "--start "),
        (["calls", ""], "START must be a date, got ''"),
        (["calls", START, ""], "END must be a date, got ''"),
        (["calls", "--start", ""], "--start must be a date, got ''"),
        (["backfill", "soon", "--out", "never-made"], "START "),
        (["calls", START, "--start", START], "not both"),
        (["calls", f"{START}T00:00:00Z"], "START"),
        (["calls", START, "--tag-colour", "PINK"], "--tag-colour"),
        (["calls", START, "--iovox-number", "+44 1"], "--iovox-number"),
        (["calls", START, "--id", "x"], "--id"),
        (["calls", START, "--fields", "talk_tim"], "did you mean 'talk_time'"),
        (["calls", START, "--order", "talk_time"], "--order"),
        (["calls", START, "--resume", "x"], "--resume must be the position of an earlier run, got 'x'"),
        (["calls", START, "--timezone", "Mars/Olympus"], "--timezone "),
        (["calls", START, "--proxy", "ftp://x"], "--proxy "),
        (["calls", START, "--ca-bundle", "/no/such.pem"], "--ca-bundle "),
        (["calls", START, "--page-size", "20001"], "--page-size must be in the range 1<=x<=20000, got 20001"),
        (["calls", "--date-constant", "YESTERDY"], "--date-constant must be 'yesterday', got 'YESTERDY'"),
        (["calls", START, "--format", "xml"], "--format must be one of 'jsonl', 'csv', "),
        (["calls", START, "--limit", "447966111222x"], "--limit must be a whole number, got '…222x'"),
        (["calls", START, "--limit", "x is not y"], "--limit must be a whole number, got 'x is not y'"),
        (["summary", START, "--by", "x is not y"], "--by must be a group, got 'x is not y'"),
        (
            ["backfill", START, "--out", "x", "--drop-before", "tomorrow"],
            "--drop-before must be a day, got 'tomorrow'",
        ),
        (["backfill", START, "--out", "x", "--drop-before", ""], "--drop-before must be a day, got ''"),
        (["completion", "ksh"], "SHELL must be one of 'bash', "),
        (["docs", "nonsense"], "TOPIC must be one of api, "),
        (["follow", "--since", "soon"], "--since "),
        (["show", "x"], "ID"),
        (["show", "١٢"], "ID"),
        (["calls", START, "--limit", "1_000"], "--limit"),
        (["calls", START, "--concurrency", "٤"], "--concurrency"),
        (["calls", START, "--timeout", "inf"], "--timeout"),
        (["follow", "--interval", "nan"], "--interval"),
        (["sandbox", "--latency", "nan"], "--latency"),
        (["sandbox", "--latency", "-1"], "--latency"),
        (["sandbox", "--kind", "--gzip", "--port", "x"], "--kind"),
        (["sandbox", "--seed", " 5 "], "--seed"),
        (["sandbox", "--kind", "flood"], "--kind"),
        (
            ["sandbox", "--start", "2024-02-01", "--end", "2024-01-01"],
            "--end (2024-01-01",
        ),
        (["nonsense"], "nonsense"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_usage_errors_name_the_option(run, sandbox, args, message):
    """Given a wrong argument, when the command runs, then nothing is sent, and exit code 2 and a message name it."""
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not re.search(r"Traceback|tzinfo|datetime|[a-z_]=", result.stderr)
    assert sandbox.stats.requests == 0


@pytest.mark.finding("D9")
@pytest.mark.parametrize(
    ("args", "start"),
    [(["calls"], ""), (["backfill", "--out", "never-made"], "--start ")],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_start_in_the_future_is_named_as_such(run, sandbox, args, start):
    """Given a start that has not come yet, then the error says that it is in the future, and nothing is sent."""
    result = run(*args, *filter(None, [start.strip()]), "9000-01-01")
    message = " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())
    assert result.exit_code == 2
    assert f"{start or 'START '}(9000-01-01 00:00:00) is in the future" in message
    assert "Swap" not in message
    assert sandbox.stats.requests == 0


@pytest.mark.finding("D9")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["backfill", "--start", START, "--out", ""], "--out must not be empty"),
        (["calls", START, "-o", ""], "-o '' is a directory"),
        (["show", ""], "ID must be the id of one call, got ''"),
        (["show", "9" * 30], "ID item 1 must be an integer of at most 20 digits"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_empty_or_impossible_value_is_named(run, sandbox, args, message):
    """Given the value of an unset variable, or an impossible id, then the error names what was typed."""
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert sandbox.stats.requests == 0


def test_wrong_key_is_explained_and_not_shown(run):
    """Given a wrong key, when a command runs, then the error explains it and does not contain it."""
    result = run("calls", START, END, env={"IOVOX_SECURE_KEY": "canary-key"})
    assert result.exit_code == 4
    assert "IP addresses" in result.stderr
    assert "canary-key" not in result.output


def test_follow_says_that_its_start_is_in_the_future(run):
    """Given a start that has not come yet, when calls are followed, then a note says so; else none does."""
    for start, notes in (("9000-01-01", 1), (START, 0)):
        result = run("follow", start, env={"IOVOX_SECURE_KEY": "wrong"})
        assert result.stderr.count("The start (9000-01-01 00:00:00) is in the future") == notes


def test_errors_are_wrapped_between_words_on_a_narrow_terminal(run, monkeypatch):
    """Given a terminal of 50 columns, when an error is printed, then no line is longer and no word is broken."""
    monkeypatch.setattr("iovox_async.cli.console.is_terminal", lambda name: name == "stderr")
    result = run("calls", START, END, env={"IOVOX_SECURE_KEY": "another", "COLUMNS": "50"})
    lines = result.stderr.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 50
    assert "Check IOVOX_USERNAME and IOVOX_SECURE_KEY" in " ".join(map(str.strip, lines))


@pytest.mark.parametrize("command", [["calls"], ["follow"], ["show", "1"]], ids=lambda args: args[0])
def test_missing_credentials_without_a_terminal_are_an_error(run, command):
    """Given no credentials and no terminal, when a command runs, then it names both variables; exit code 4."""
    result = run(*command, env={"IOVOX_USERNAME": None, "IOVOX_SECURE_KEY": None})
    assert result.exit_code == 4
    assert "IOVOX_USERNAME and IOVOX_SECURE_KEY" in result.stderr


def test_missing_credentials_are_prompted_for(run, sandbox, monkeypatch):
    """Given no credentials and a terminal, when a command runs, then it prompts for both and hides the key."""
    monkeypatch.setattr("iovox_async.cli.options.is_terminal", lambda _: True)
    missing = {"IOVOX_USERNAME": None, "IOVOX_SECURE_KEY": None}
    result = run("show", sandbox.ids()[0], "--json", env=missing, input=f"{USERNAME}\n{KEY}\n")
    assert result.exit_code == 0
    assert parse_lines(result.stdout)[0]["id"] == sandbox.ids()[0]
    assert "Username: " in result.stderr
    assert "Secure key: " in result.stderr
    assert KEY not in result.output


def test_aborted_prompt_is_an_interruption(run, monkeypatch):
    """Given a prompt for the key, when it is aborted, then the exit code is 130, without a traceback."""
    monkeypatch.setattr("iovox_async.cli.options.is_terminal", lambda _: True)
    result = run("show", 1, env={"IOVOX_SECURE_KEY": None}, input="")
    assert result.exit_code == 130
    assert "Traceback" not in result.output


def test_log_is_written_to_stderr_on_request(run, faults):
    """Given a retry, when a log level is set by option or IOVOX_LOG, then stderr shows it, without phone numbers."""
    args = ("calls", START, START, "--call-origin", "447700900648")
    faults(fail_first=1)
    by_option = run("--log-level", "info", *args)
    assert by_option.exit_code == 0
    assert "info: retry 1" in by_option.stderr
    faults(fail_first=1)
    by_variable = run(*args, env={"IOVOX_LOG": "debug"})
    assert "retry 1" in by_variable.stderr
    assert "447700900648" not in by_option.stderr + by_variable.stderr
    faults(fail_first=1)
    after_the_command = run(*args, "--log-level", "info")
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4} info: retry 1", after_the_command.stderr, re.MULTILINE
    )
    faults(fail_first=1)
    assert run("calls", START, START).stderr == ""


def test_a_wrong_date_is_named_before_missing_credentials(run):
    """Given no credentials and no date, when run, then the date is refused first, in the form that was typed."""
    env = {"IOVOX_USERNAME": None, "IOVOX_SECURE_KEY": None}
    for arguments, name in ((("lastmonth",), "START"), (("--end", "soon"), "--end")):
        result = run("calls", *arguments, env=env)
        assert (result.exit_code, f"{name} must be a date, got" in result.stderr) == (2, True)
    assert run("calls", "last-month", env=env).exit_code == 4
