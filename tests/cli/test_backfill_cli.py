"""`iovox backfill`: what it tells, how it ends, and the line that goes on."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from iovox_async.backfill import BackfillProgress, BackfillReport
from iovox_async.cli.app import iovox
from iovox_async.cli.backfill_progress import RateEstimator, summary, told
from iovox_async.sandbox import Faults, Sandbox

RANGE = ["--start", "2024-01-01", "--end", "2024-01-05"]


@pytest.fixture
def box():
    with contextlib.closing(Sandbox(calls=100, start="2024-01-01", end="2024-01-05")) as sandbox:
        yield sandbox


@pytest.fixture
def environment(box):
    with box.serve() as base_url:
        yield {"IOVOX_URL": base_url, "IOVOX_USERNAME": "demo", "IOVOX_SECURE_KEY": "demo-key"}


@pytest.fixture
def run(environment, tmp_path):
    def invoke(*words):
        return CliRunner(env=environment).invoke(iovox, ["backfill", "--out", str(tmp_path / "out"), *words])

    return invoke


def test_a_run_ends_with_a_report(run, tmp_path):
    """On stderr; nothing is for stdout."""
    done = run(*RANGE, "--format", "jsonl")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    held = f"{tmp_path / 'out'} holds 100 calls"
    written, last = done.stderr.splitlines()
    assert re.fullmatch(r"5 partitions written: 100 calls, [\d.]+ kB in \d+ requests, \d+\.\d s", written)
    assert last == held
    again = run(*RANGE, "--format", "jsonl").stderr.splitlines()
    assert again == ["5 partitions there before, nothing left to read", held]


def test_verify_tells_what_differed(run, box):
    """And mends it."""
    run(*RANGE)
    box.add([{"call_start": "2024-01-02 10:00:00"}])
    done = run(*RANGE, "--verify")
    assert (
        "5 partitions compared with the endpoint, 1 differed and were read again: 2024-01-02" in done.stderr
    )
    before, compared, held = run(*RANGE, "--verify").stderr.splitlines()
    assert before == "5 partitions there before, nothing left to read"
    assert re.fullmatch(
        r"5 partitions compared with the endpoint, none differs \([\d.]+ kB in \d+ requests, \d+\.\d s\)",
        compared,
    )
    assert held.endswith(" holds 101 calls")


def test_json_lines(run):
    """Every line of stderr is a document."""
    done = run(*RANGE, "--log-format", "json", "--verify")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [one["event"] for one in events] == ["done", "verified"]
    assert events[0]["calls"] == 100


def test_filters_and_fields_are_passed_on(run, box, tmp_path):
    """As with every command."""
    assert (
        run(*RANGE, "--format", "csv", "--call-result", "ANSWERED", "--fields", "id,direction").exit_code == 0
    )
    lines = "".join(path.read_text() for path in (tmp_path / "out/calls").rglob("*.csv")).splitlines()
    assert lines[0] == "call_start,id,direction"
    assert len(set(lines)) - 1 == len(box.ids(call_result="ANSWERED"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--start", "yesterday"], 2, "--start: "),
        (["--start", "2024-02-01", "--end", "2024-01-01"], 2, "--end: "),
        (["--format", "xml"], 2, "xml"),
        (["--finality-delay", "-1"], 2, "finality"),
    ],
    ids=["start", "end", "format", "finality"],
)
def test_what_cannot_be_is_a_matter_of_usage(run, words, code, said):
    """Exit code 2, and the option's name."""
    done = run(*words)
    assert done.exit_code == code
    assert said in done.stderr


def test_another_job_fails_and_names_what_differs(run):
    """There is nothing to go on with."""
    run(*RANGE)
    done = run(*RANGE, "--partition", "month")
    assert done.exit_code == 1
    assert "partition (there day, here month)" in done.stderr
    assert "Go on" not in done.stderr


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_failure_that_may_pass_is_resumable(run, box, form):
    """Exit code 3, and the line that goes on."""
    box.faults = Faults(fail_after=0, kinds="404")
    assert run(*RANGE, "--log-format", form).exit_code == 1
    box.reset_stats()
    box.faults = Faults(fail_after=3, kinds="404")
    done = run(*RANGE, "--page-size", "20", "--concurrency", "1", "--log-format", form)
    assert done.exit_code == 3, done.stderr
    last = done.stderr.splitlines()[-1]
    line = json.loads(last)["resume_command"] if form == "json" else last.partition("Go on with: ")[2]
    box.faults = Faults()
    words = shlex.split(line)
    assert words[:2] == ["iovox", "backfill"]
    assert run(*words[2:]).exit_code == 0


@pytest.mark.fault(55)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_at_once_with_the_line_that_goes_on(number, box, environment, tmp_path):
    """Within a second, with exit code 3; SIGTERM does the same."""
    box.faults = Faults(latency=0.05)
    out = tmp_path / "a folder"
    words = ["backfill", *RANGE, "--out", str(out), "--page-size", "5", "--concurrency", "1"]
    command = [sys.executable, "-m", "iovox_async.cli", *words]
    with subprocess.Popen(
        command, env=os.environ | environment, stderr=subprocess.PIPE, text=True
    ) as process:
        while box.stats.requests < 8:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        late = threading.Timer(1.5, process.kill)  # a second, and the interpreter's own end
        late.start()
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait() == 3, said
        late.cancel()
    found = re.search(r"Interrupted\. .*Go on with: iovox (.*)", said)
    assert shlex.split(found[1]) == words
    assert not list(out.glob(".*.tmp"))
    box.faults = Faults()
    assert CliRunner(env=environment).invoke(iovox, shlex.split(found[1])).exit_code == 0
    assert json.loads((out / "report.json").read_text())["total_calls"] == 100


def test_ctrl_c_before_anything_is_done_counts_nothing(box, environment, tmp_path):
    """The line that goes on is told all the same."""
    box.reset_stats()
    box.faults = Faults(kinds="hang", fail_after=0)
    command = [sys.executable, "-m", "iovox_async.cli", "backfill", *RANGE, "--out", str(tmp_path / "calls")]
    with subprocess.Popen(
        command, env=os.environ | environment, stderr=subprocess.PIPE, text=True
    ) as process:
        while not box.stats.requests:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait() == 3, said
    assert said.startswith("Interrupted. Go on with: iovox backfill ")


class TestTelling:
    @pytest.fixture
    def slowly(self, box, run, monkeypatch):
        """A run of some tenths of a second, told of often."""
        monkeypatch.setattr("iovox_async.cli.backfill_progress._LINE", 0.02)
        monkeypatch.setattr("iovox_async.cli.backfill_progress._LOOK", 0.02)
        box.faults = Faults(latency=0.02)
        return lambda *words: run(*RANGE, "--page-size", "10", "--concurrency", "1", *words)

    def test_lines_where_there_is_no_terminal(self, slowly):
        """Share, date, calls, pace and bytes; 100 % only when the last day is on the disk."""
        lines = [line for line in slowly().stderr.splitlines() if "%" in line]
        assert len(lines) > 2
        assert all(re.fullmatch(r" *\d+%  .*\d calls  \d+/s  .*", line) for line in lines)
        shares = [int(line.partition("%")[0]) for line in lines]
        assert shares == sorted(shares)
        assert all("2024-01-05" in line for line in lines if "100%" in line)

    def test_documents_for_machines(self, slowly):
        """The same as JSON."""
        events = [json.loads(line) for line in slowly("--log-format", "json").stderr.splitlines()]
        told = [one for one in events if one["event"] == "progress"]
        assert len(told) > 2
        assert {"progress", "calls", "bytes", "retries", "calls_a_second", "seconds_left"} <= set(told[0])
        assert all(one["progress"] < 1 or one["partitions"] == 5 for one in told)

    def test_a_bar_at_a_terminal(self, slowly, monkeypatch):
        """Drawn in the loop's own thread, and wiped off in the end."""
        monkeypatch.setattr("iovox_async.cli.backfill_progress.can_draw", lambda: True)
        monkeypatch.setenv("FORCE_COLOR", "1")
        said = slowly().stderr
        assert re.search(r"\d%.*calls", said)
        assert "5 partitions written" in said

    def test_time_left_is_told_when_there_is_something_to_tell_it_by(self):
        """Not at once, and from the pace of late."""
        pace = RateEstimator()
        pace.saw(BackfillProgress(progress=0.0), 0.0)
        pace.saw(BackfillProgress(progress=0.1, calls=100), 1.0)
        assert pace.left is None
        pace.saw(BackfillProgress(progress=0.25, calls=1000), 5.0)
        assert (pace.left, pace.calls) == (15.0, 200.0)
        pace.saw(BackfillProgress(progress=0.25, calls=1000), 40.0)
        assert pace.left is None

    def test_figures_in_words(self):
        """Retries and bad records only where there are some."""
        pace = RateEstimator()
        for now, share in ((0.0, 0.0), (10.0, 0.5)):
            pace.saw(BackfillProgress(progress=share, calls=int(share * 2000)), now)
        progress = BackfillProgress(progress=0.5, calls=1000, bytes=2_000_000, last="2024-01-05")
        assert told(progress, pace) == "2024-01-05  1,000 calls  100/s  2.0 MB  00:10 left"
        progress = BackfillProgress(retries=1, skipped=2)
        assert "1 retry  2 bad records" in told(progress, pace)

    def test_a_report_tells_what_may_still_change(self):
        """And what was compared."""
        report = BackfillReport(
            total_calls=5, open=("2024-01-05",), verified=12, mismatched_partitions=tuple(map(str, range(12)))
        )
        assert "1 of its partitions may still change" in summary(report, "out")
        assert "12 differed and were read again: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more (" in summary(
            report, "out"
        )

    def test_a_report_tells_of_trouble_where_there_was_some(self):
        """Beside what it cost; and what was there before."""
        report = BackfillReport(
            partitions=1,
            kept=2,
            calls=3,
            bytes=4000,
            requests=6,
            retries=1,
            window_splits=2,
            skipped=1,
            seconds=0.5,
        )
        assert summary(report, "out", more=True) == (
            "1 partition written, 2 there before: 3 calls, 4.0 kB in 6 requests, 1 retry, 2 windows halved, "
            "1 bad record left out, 0.5 s"
        )
