"""`--dry-run`, `iovox doctor`, `iovox help` and `iovox completion`."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from click.shell_completion import ShellComplete
from support.sandbox import reset

from iovox_async._diagnosis import Checks
from iovox_async._params.account_time import AccountTime
from iovox_async.cli import EXIT_CODES
from iovox_async.cli.app import COMMANDS, iovox, load_command

START, END = "2024-01-01", "2024-01-31"


def parse_table(text):
    return dict(line.split("\t", 1) for line in text.splitlines())


@pytest.mark.parametrize(
    "args",
    [
        ("calls", START, END),
        ("calls", "2024-01-10", "2024-01-20", "--direction", "IN"),
        ("calls", START, START),
    ],
)
def test_dry_run_estimates_from_three_small_requests(run, sandbox, args):
    """Given a range, when only estimated, then the true number is within the bounds, after three requests at most."""
    whole = len(run(*args).stdout.splitlines())
    reset(sandbox, sandbox.url)
    result = run(*args, "--dry-run")
    rows = parse_table(result.stdout)
    numbers = [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", rows["calls"])]
    assert min(numbers) <= whole <= max(numbers)
    assert set(rows) == {"range", "calls", "requests", "bytes", "time"}
    assert sandbox.stats.requests <= 3
    assert sum(request.rows for request in sandbox.requests) <= 502


def test_dry_run_of_a_backfill_lists_partitions_and_changes_nothing(run, sandbox, tmp_path):
    """Given a directory of some days, when only listed, then days are final, open or missing; nothing is written."""
    out = tmp_path / "out"
    empty = parse_table(run("backfill", START, "2024-01-04", "--out", out, "--dry-run").stdout)
    assert empty["missing"].startswith("4 partitions: 2024-01-01, ")
    assert not (out / "_iovox").exists()
    assert run("backfill", START, "2024-01-02", "--out", out).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    rows = parse_table(run("backfill", START, "2024-01-04", "--out", out, "--dry-run").stdout)
    assert rows["final"] == "2 partitions: 2024-01-01, 2024-01-02"
    assert rows["missing"] == "2 partitions: 2024-01-03, 2024-01-04"
    assert rows["calls"] == str(len(sandbox.ids("2024-01-03", "2024-01-04")))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    done = run("backfill", START, "2024-01-02", "--out", out, "--dry-run").stdout
    assert "Nothing to download." in done


def test_doctor_finds_nothing_wrong_with_the_sandbox(run, sandbox):
    """Given a sandbox, when checked, then every row is ok, except that no time zone is set; the exit code is 0."""
    result = run("doctor")
    rows = {line.split("\t")[1]: line.split("\t") for line in result.stdout.splitlines()}
    assert result.exit_code == 0
    assert {name for name, row in rows.items() if row[0] != "ok"} <= {"time zone", "latency"}
    expected = (
        "versions",
        "extras",
        "account",
        "proxy",
        "time zone",
        "address",
        "TLS",
        "credentials",
        "latency",
        "clock",
        "page cap",
    )
    assert set(rows) == set(expected)
    zoned = run("doctor", "--timezone", "Europe/London").stdout
    assert "ok\ttime zone\tEurope/London" in zoned


@pytest.mark.parametrize(
    ("seconds", "ok", "text"),
    [
        (0.2, True, "within 1 s of the server's"),
        (1.4, True, "within 1 s of the server's"),
        (4.5, True, "4 s ahead of the server's"),
        (-4.5, True, "5 s behind the server's"),
        (120.5, False, "120 s ahead of the server's: synchronize this machine's clock"),
    ],
)
def test_doctor_compares_clocks_to_the_second(seconds, ok, text):
    """Given the seconds between the clock and a Date header, whose fraction is cut off, then the row promises no more."""
    utc = datetime(2024, 1, 1, tzinfo=UTC)
    account_time = AccountTime(None, lambda: utc + timedelta(seconds=seconds), lambda: 0.0)
    account_time.observe(format_datetime(utc, usegmt=True))
    checks = Checks()
    checks._check_clock(account_time)
    assert checks.rows == [("clock", ok, text)]


@pytest.mark.parametrize(
    ("env", "exit_code", "row"),
    [
        ({"IOVOX_SECURE_KEY": "canary"}, 4, "FAIL\tcredentials\t"),
        ({"IOVOX_URL": "http://127.0.0.1:9/rest/v1"}, 1, "FAIL\taddress\t"),
    ],
    ids=["key", "address"],
)
def test_doctor_says_what_fails(run, env, exit_code, row):
    """Given a wrong key or address, when checked, then that row fails and says what to do, without the key."""
    result = run("doctor", env=env)
    assert result.exit_code == exit_code
    assert row in result.stdout
    assert "canary" not in result.output


def test_help_shows_topics_and_commands(run):
    """Given a topic or command, when help is asked for, then it is shown; an unknown one is refused with the list."""
    for code, meaning in EXIT_CODES.items():
        assert f"{code}  {meaning}\n" in run("help", "exit-codes").stdout
    assert "last-month" in run("help", "dates").stdout
    assert "IOVOX_PROFILE" in run("help", "environment").stdout
    assert "--excel" in run("help", "formats").stdout
    assert run("help", "calls").stdout == run("calls", "--help").stdout
    assert "Topics: dates" in run("help").stdout
    unknown = run("help", "date")
    assert unknown.exit_code == 2
    assert "did you mean 'dates'" in unknown.stderr


def test_help_on_the_environment_names_every_variable(run):
    """Given the options of all commands, when help on the environment is shown, then it names each of their variables."""
    text = run("help", "environment").stdout
    variables = {
        parameter.envvar for name in COMMANDS for parameter in load_command(name).params if parameter.envvar
    }
    assert {name for name in variables | {"IOVOX_URL", "IOVOX_LOG"} if name not in text} == set()


def test_dry_run_of_a_delta_table_lists_days_and_changes_nothing(run, tmp_path):
    """Given no table, or one with final and open days, when only listed, then its commits say which; nothing is written."""
    out = tmp_path / "out"
    command = ["backfill", START, "2024-01-04", "--out", out, "--format", "delta"]
    empty = parse_table(run(*command, "--dry-run").stdout)
    assert (empty["final"], empty["missing"][:12]) == ("0 partitions", "4 partitions")
    assert not out.exists()
    for arguments in (["--end", "2024-01-02"], ["--start", "2024-01-03", "--end", "2024-01-03"]):
        delay = ["--finality-delay", "1e9"] if "--start" in arguments else ["--start", START]
        assert run("backfill", *arguments, *delay, *command[3:]).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    rows = parse_table(run(*command, "--dry-run").stdout)
    assert rows["final"] == "2 partitions: 2024-01-01, 2024-01-02"
    assert rows["not final"] == "1 partition: 2024-01-03"
    assert rows["missing"] == "1 partition: 2024-01-04"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    refused = run("backfill", START, "--out", out, "--dry-run")
    assert (refused.exit_code, "is a Delta table" in refused.stderr) == (1, True)


def test_wrong_words_are_answered_with_the_right_ones(run):
    """Given a missing or a misspelt word, when run, then the message is one line with the possible words."""
    assert run("completion").stderr.endswith(" Choose from: bash, zsh, fish, powershell\n")
    assert (
        "--by must be a group, got 'node'; did you mean 'node_id'? Groups are hour, "
        in run("summary", "--by", "node").stderr
    )
    assert "--by must be a group, got 'qqq'. Groups are hour, " in run("summary", "--by", "qqq").stderr
    phrases = run("summary", "--by", "transcription_phrases").stderr
    assert "did you mean 'transcription_phrases'" not in phrases
    assert phrases.endswith("and the fields that iovox fields lists, except transcription_phrases.\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_prints_a_script(run, shell):
    """Given a shell, when its script is printed, then it calls iovox with the variable of completion."""
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"{shell}_complete" in result.stdout


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ("", "su", {"summary"}),
        ("calls", "--da", {"--date-constant"}),
        ("calls --fields", "id,call_st", {"id,call_start"}),
        ("calls --order", "talk_time_s", {"talk_time_seconds_ASC", "talk_time_seconds_DESC"}),
        ("calls --tag-colour", "g", {"GREEN", "GOLD"}),
        ("calls --timezone", "europe/lon", {"Europe/London"}),
        ("calls --format", "p", {"parquet"}),
        ("summary --by", "week", {"weekday", "week"}),
        ("help", "exit", {"exit-codes"}),
        ("docs", "ti", {"time"}),
    ],
)
def test_values_are_completed(words, incomplete, expected):
    """Given a half-typed word, when completed, then commands, options and values are offered."""
    completer = ShellComplete(iovox, {}, "iovox", "_IOVOX_COMPLETE")
    assert {item.value for item in completer.get_completions(words.split(), incomplete)} == expected
