"""`iovox backfill`: reports, progress, exit codes, and the command that continues."""

import contextlib
import json
import re
import shlex
import signal
import time

import pytest
from click.testing import CliRunner
from support.cli import TIMEOUT, finish, parse_lines, resume_arguments
from support.sandbox import reset

from iovox_async.cli.app import iovox
from iovox_async.sandbox import KEY, USERNAME, Faults, Sandbox

RANGE = ["--start", "2024-01-01", "--end", "2024-01-05"]


@pytest.fixture
def sandbox():
    """Five days of calls, for each test anew."""
    with contextlib.closing(Sandbox(calls=100, start="2024-01-01", end="2024-01-05")) as sandbox:
        yield sandbox


@pytest.fixture
def environment(sandbox):
    with sandbox.serve() as url:
        yield {"IOVOX_URL": url, "IOVOX_USERNAME": USERNAME, "IOVOX_SECURE_KEY": KEY}


@pytest.fixture
def run(environment, tmp_path):
    def invoke(*args):
        return CliRunner(env=environment).invoke(iovox, ["backfill", "--out", str(tmp_path / "out"), *args])

    return invoke


def test_run_ends_with_a_report_on_stderr(run, tmp_path):
    """Given a range, when downloaded twice, then each run reports what it did, and stdout is empty."""
    first = run(*RANGE, "--format", "jsonl")
    assert (first.exit_code, first.stdout) == (0, "")
    total = f"{tmp_path / 'out'} contains 100 calls"
    written, last = first.stderr.splitlines()
    assert re.fullmatch(r"5 partitions written: 100 calls, [\d.]+ kB in \d+ requests, \d+\.\d s", written)
    assert last == total
    second = run(*RANGE, "--format", "jsonl").stderr.splitlines()
    assert second == ["5 partitions already complete, nothing to download", total]


def test_drop_before_deletes_old_days_and_says_so(run, tmp_path):
    """Given days of a directory, when old ones are dropped, then their files are gone, and the last line says it."""
    run(*RANGE, "--format", "jsonl")
    notes = run(*RANGE, "--format", "jsonl", "--drop-before", "2024-01-04").stderr.splitlines()
    assert notes[-1] == "the partitions that ended before 2024-01-04 are deleted"
    assert sorted(path.name for path in (tmp_path / "out").glob("date=*")) == [
        "date=2024-01-04",
        "date=2024-01-05",
    ]


def test_verify_reports_and_repairs_mismatches(run, sandbox):
    """Given a call that arrived later, when verified, then its partition is downloaded again and named."""
    run(*RANGE)
    sandbox.add([{"call_start": "2024-01-02 10:00:00"}])
    output = run(*RANGE, "--verify").stderr
    assert "5 partitions verified, 1 mismatch downloaded again: 2024-01-02 (" in output
    complete, verified, total = run(*RANGE, "--verify").stderr.splitlines()
    assert complete == "5 partitions already complete, nothing to download"
    assert re.fullmatch(
        r"5 partitions verified, no mismatches \([\d.]+ kB in \d+ requests, \d+\.\d s\)", verified
    )
    assert total.endswith(" contains 101 calls")


def test_json_log_has_a_document_per_line(run):
    """Given --log-format json, when a run is verified, then each line of stderr is a document."""
    events = parse_lines(run(*RANGE, "--log-format", "json", "--verify").stderr)
    assert [event["event"] for event in events] == ["done", "verified"]
    assert events[0]["calls"] == 100


def test_verify_prints_a_table_and_fails_where_a_day_differs(run, sandbox):
    """Given a call deleted after the download, --verify says which day and why, and exits with 1; again, with 0."""
    assert run(*RANGE).exit_code == 0
    calls = sandbox.ids("2024-01-02", "2024-01-02")
    sandbox.remove(calls[:1])
    result = run(*RANGE, "--verify")
    assert result.exit_code == 1
    header, *rows = result.stdout.splitlines()
    assert header.split("  ")[0] == "partition"
    (row,) = [row for row in rows if not row.endswith("ok")]
    assert row.startswith("2024-01-02")
    assert row.endswith(f"the endpoint has {len(calls) - 1} calls, {len(calls)} were read")
    result = run(*RANGE, "--verify", "--log-format", "json")
    assert (result.exit_code, result.stdout) == (0, "")
    report = parse_lines(result.stderr)[-1]
    assert [one["problem"] for one in report["certificates"]] == [""] * len(rows)


def test_filters_and_fields_are_passed_on(run, sandbox, tmp_path):
    """Given a filter and fields, when downloaded as CSV, then the files contain the selected calls and fields."""
    options = ("--format", "csv", "--call-result", "ANSWERED", "--fields", "id,direction")
    assert run(*RANGE, *options).exit_code == 0
    lines = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.csv")).splitlines()
    assert lines[0] == "call_start,id,direction"
    assert len(set(lines)) - 1 == len(sandbox.ids(call_result="ANSWERED"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--start", "soon"], "--start "),
        (["--start", "2024-02-01", "--end", "2024-01-01"], "--end "),
        (["--format", "xml"], "xml"),
        (["--finality-delay", "-1"], "--finality-delay"),
    ],
    ids=["start", "end", "format", "finality delay"],
)
def test_wrong_arguments_are_usage_errors(run, args, message):
    """Given a wrong argument, when the command runs, then the exit code is 2 and the option is named."""
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.stderr


def test_directory_of_another_backfill_is_refused(run):
    """Given a directory partitioned by day, when run by month, then it fails, names both, and cannot be continued."""
    run(*RANGE)
    result = run(*RANGE, "--partition", "month")
    assert result.exit_code == 1
    assert re.search(r"partition \(.*day.*month.*\)", result.stderr)
    assert "Continue with" not in result.stderr


@pytest.mark.parametrize("form", ["text", "json"])
def test_failed_run_prints_the_command_that_continues(run, sandbox, environment, form):
    """Given a failure, when something was finished, then exit code 3 and the printed command continues; else 1."""
    sandbox.faults = Faults(fail_after=0, kinds="404")
    assert run(*RANGE, "--log-format", form).exit_code == 1
    reset(sandbox, environment["IOVOX_URL"], fail_after=5, kinds="404")
    result = run(*RANGE, "--page-size", "20", "--concurrency", "1", "--log-format", form)
    assert result.exit_code == 3, result.stderr
    last = result.stderr.splitlines()[-1]
    command = json.loads(last)["resume_command"] if form == "json" else last.partition("Continue with: ")[2]
    sandbox.faults = Faults()
    arguments = shlex.split(command)
    assert arguments[:2] == ["iovox", "backfill"]
    assert run(*arguments[2:]).exit_code == 0


@pytest.mark.subprocess
@pytest.mark.fault(55)
@pytest.mark.parametrize(
    ("number", "faults", "requests", "start_of_note"),
    [
        (signal.SIGINT, Faults(latency=0.05), 8, "Interrupted. "),
        (signal.SIGTERM, Faults(kinds="hang", fail_after=0), 1, "Interrupted. Continue with: "),
    ],
    ids=["SIGINT", "SIGTERM before anything is finished"],
)
def test_interrupted_run_can_be_continued(
    number, faults, requests, start_of_note, sandbox, start, environment, tmp_path
):
    """Given a running backfill, when interrupted, then the exit code is 3, and the printed command finishes it."""
    out = tmp_path / "a directory"
    arguments = ["backfill", *RANGE, "--out", str(out), "--page-size", "5", "--concurrency", "1"]
    sandbox.faults = faults
    process = start(*arguments)
    while sandbox.stats.requests < requests:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(number)
    assert process.wait(TIMEOUT) == 3
    _, _, stderr = finish(process)
    assert stderr.startswith(start_of_note) or "\nInterrupted. " in stderr
    assert resume_arguments(stderr) == arguments
    assert not list(out.rglob("*.tmp"))
    sandbox.faults = Faults()
    assert CliRunner(env=environment).invoke(iovox, arguments).exit_code == 0
    assert json.loads((out / "_iovox/report.json").read_text())["total_calls"] == 100


@pytest.mark.parametrize("kinds", ["404", "reset"])
def test_quiet_runs_are_silent_until_something_fails(run, sandbox, tmp_path, kinds):
    """Given --quiet, when runs succeed, then they print nothing; failures name account, folder, since when, exit code."""
    report = tmp_path / "out/_iovox/report.json"
    assert run(*RANGE, "--quiet").output == ""
    done = json.loads(report.read_text())
    assert (done["status"], done["error"], done["failing_since"]) == ("done", None, None)
    sandbox.add([{"call_start": "2024-01-02 10:00:00"}])
    sandbox.faults = Faults(fail_after=0, kinds=kinds)
    options = ("--start", "2024-01-01", "--end", "2024-01-06", "--quiet", "--timeout", "0.1")
    failures = []
    for _ in range(2):
        result = run(*options)
        assert result.exit_code == (1 if kinds == "404" else 3)
        failures.append(json.loads(report.read_text()))
    assert failures[0]["failing_since"] == failures[1]["failing_since"] == failures[0]["started_at"]
    assert failures[0]["run_id"] != failures[1]["run_id"]
    account = f"demo at {failures[0]['account'].rpartition(' at ')[2]}"
    assert f"Account {account}, folder {tmp_path / 'out'}: failing since " in result.stderr
    assert f"exit code {result.exit_code}." in result.stderr
    assert failures[1]["status"] == "failed"
    assert failures[1]["folder"] == str(tmp_path / "out")
    assert failures[1]["total_calls"] == 100
    sandbox.faults = Faults()
    assert run(*options).output == ""
    assert json.loads(report.read_text())["status"] == "done"


def test_json_events_say_when_where_and_who(run, sandbox, tmp_path):
    """Given --log-format json, when a run fails, then its event has time, account, folder, run id and exit code."""
    sandbox.faults = Faults(fail_after=0, kinds="401")
    result = run(*RANGE, "--log-format", "json")
    (event,) = parse_lines(result.stderr)
    assert result.exit_code == event["exit_code"] == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", event["time"])
    assert event["account"].startswith("demo at http://127.0.0.1:")
    assert event["folder"] == str(tmp_path / "out")
    assert event["run_id"] == json.loads((tmp_path / "out/_iovox/report.json").read_text())["run_id"]


def test_a_directory_that_another_run_has_locked_is_exit_code_5(run, tmp_path):
    """Given a running backfill, when another one starts in its directory, then exit code 5; its report is left alone."""
    from iovox_async.backfill._storage import open_storage

    assert run(*RANGE).exit_code == 0
    before = (tmp_path / "out/_iovox/report.json").read_text()
    lock = open_storage(tmp_path / "out").lock()
    lock.acquire()
    try:
        assert run(*RANGE).exit_code == 5
    finally:
        lock.release()
    assert (tmp_path / "out/_iovox/report.json").read_text() == before


def test_both_forms_of_the_range_are_the_same(run):
    """Given START and END as arguments, when a backfill has run, then the one with options has nothing left to do."""
    assert run(RANGE[1], RANGE[3]).exit_code == 0
    assert "nothing to download" in run(*RANGE).stderr


class TestProgress:
    @pytest.fixture
    def run_slowly(self, sandbox, run, monkeypatch):
        """A run that takes many intervals of progress."""
        monkeypatch.setattr("iovox_async.cli.commands.backfill._LINE_INTERVAL", 0.02)
        monkeypatch.setattr("iovox_async.cli.progress.REFRESH_INTERVAL", 0.02)
        sandbox.faults = Faults(latency=0.02)
        return lambda *args: run(*RANGE, "--page-size", "10", "--concurrency", "1", *args)

    def test_lines_without_a_terminal(self, run_slowly):
        """Given no terminal, when a backfill runs, then lines show growing percentages, calls, rate and bytes."""
        lines = [line for line in run_slowly().stderr.splitlines() if "%" in line]
        assert len(lines) > 2
        assert all(re.fullmatch(r"[\d:]{8} +\d+%  .*\d calls?  [\d,]+/s  .*", line) for line in lines)
        shares = [int(line.partition("%")[0].split()[1]) for line in lines]
        assert shares == sorted(shares)
        assert max(shares) < 100

    def test_json_documents(self, run_slowly):
        """Given --log-format json, when a backfill runs, then documents show the figures and the rate."""
        events = parse_lines(run_slowly("--log-format", "json").stderr)
        events = [event for event in events if event["event"] == "progress"]
        assert len(events) > 2
        keys = {"progress", "calls", "bytes_received", "retries", "calls_per_second", "seconds_left"}
        assert keys <= set(events[0])
        assert all(event["progress"] < 1 or event["partitions"] == 5 for event in events)

    def test_bar_on_a_terminal(self, run_slowly, monkeypatch):
        """Given a terminal, when a backfill runs, then a bar is drawn, and the report follows."""
        monkeypatch.setattr("iovox_async.cli.progress.can_draw_bar", lambda **_: True)
        monkeypatch.setenv("FORCE_COLOR", "1")
        stderr = run_slowly().stderr
        assert re.search(r"\d%.*calls", stderr)
        assert "5 partitions written" in stderr
