"""What analysts and operators do, on a terminal and in a pipe: files for spreadsheets, comparisons, DuckDB, cron."""

import collections
import csv
import io
import json
import re
import subprocess
import sys
from contextlib import closing
from datetime import date, datetime, timedelta

import pytest
from support.cli import TIMEOUT, finish

from iovox_async.sandbox import KEY, USERNAME, Faults, Sandbox

pytest.importorskip("pty", reason="there are no pseudo-terminals")

from support.terminal import Terminal

pytestmark = pytest.mark.subprocess

#: Not ANSWERED: the sandbox's word for a call that nobody took.
MISSED = "NO ANSWER"


@pytest.fixture(scope="module")
def account():
    """An account whose calls end now, as those of `iovox sandbox` do."""
    now = datetime.now().replace(microsecond=0)
    with (
        closing(Sandbox(calls=1500, start=now - timedelta(days=90), end=now, seed=1)) as sandbox,
        sandbox.serve() as url,
    ):
        sandbox.url = url
        yield sandbox


@pytest.fixture
def environment(account):
    """The variables that `iovox sandbox` prints, on a terminal of 60 columns."""
    account.faults = Faults()
    return {"IOVOX_USERNAME": USERNAME, "IOVOX_SECURE_KEY": KEY, "IOVOX_URL": account.url}


@pytest.fixture
def on_terminal(process_environment):
    """Runs a command on a terminal of 60 columns; returns its exit code and output."""

    def run(*args, **env):
        return Terminal(args, process_environment | {"COLUMNS": "60", "TERM": "xterm"} | env).finish()

    return run


def last_month():
    last = date.today().replace(day=1) - timedelta(days=1)
    return last.replace(day=1).isoformat(), last.isoformat()


@pytest.mark.parametrize("place", ["terminal", "pipe"])
def test_missed_calls_of_last_month_in_a_file_for_a_spreadsheet(account, run, on_terminal, tmp_path, place):
    """Given last month, when its missed calls are written for a spreadsheet, then numbers are text and nothing is lost."""
    path = tmp_path / "missed.csv"
    args = ("calls", "last-month", "--call-result", MISSED, "--excel")
    if place == "terminal":
        exit_code, output = on_terminal(*args, "-o", path)
        assert exit_code == 0
        data = path.read_bytes()
    else:
        result = run(*args)
        assert result.exit_code == 0
        data, output = result.stdout_bytes, result.stderr
    start, end = last_month()
    assert f"From {start} 00:00:00 to {end} 23:59:59" in " ".join(output.split())
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    expected = account.rows(start, end, call_result=MISSED)
    assert [row["call_origin"] for row in rows] == [f'="{row["call_origin"]}"' for row in expected]
    assert expected


@pytest.mark.parametrize("place", ["terminal", "pipe"])
def test_which_node_misses_most_this_month_against_last(account, run, on_terminal, place):
    """Given two months, when summarized by node and month, then the first row is the node that missed most.

    On a terminal the months are side by side, with the difference.
    """
    missed = collections.Counter()
    start, _ = last_month()
    for row in account.rows(start, None):
        missed[row["node_name"], row["call_start"][:7]] += row["call_result"] != "ANSWERED"
    most = max(missed.values())
    args = ("summary", "last-month", "now", "--by", "node_name,month", "--sort", "missed")
    if place == "pipe":
        first = next(csv.DictReader(io.StringIO(run(*args).stdout)))
        assert int(first["missed"]) == most == missed[first["node_name"], first["month"]]
        return
    exit_code, output = on_terminal(*args, PYTHONIOENCODING="ascii")
    lines = output.splitlines()
    assert exit_code == 0
    assert max(map(len, lines)) <= 60
    titles = next(
        number for number, line in enumerate(lines) if line.startswith("missed by node_name and month")
    )
    _, *months, change = re.split(r"  +", lines[titles])
    assert (months, change) == (sorted({month for _, month in missed}), "change")
    name, *shown = re.split(r"  +", lines[titles + 1])
    first, last, difference = map(int, shown)
    totals = collections.Counter()
    for (node, _), count in missed.items():
        totals[node] += count
    assert difference == last - first
    assert first + last == max(totals.values())
    assert [first, last] in [
        [missed[node, month] for month in months] for node in totals if node.startswith(name.rstrip("~"))
    ]


def test_calls_of_yesterday_go_into_duckdb_by_a_pipe(account, start):
    """Given yesterday, when its calls are piped as Parquet to a program with DuckDB, then it has all of them."""
    yesterday = (date.today() - timedelta(days=1)).isoformat()
    program = (
        "import io, sys, duckdb, pyarrow.parquet as pq; calls = pq.read_table(io.BytesIO(sys.stdin.buffer.read())); "
        "print(duckdb.sql('select count(*), min(call_start)::date from calls').fetchall())"
    )
    process = start("calls", "yesterday", "--format", "parquet", "--quiet")
    reader = subprocess.run(
        [sys.executable, "-c", program],
        stdin=process.stdout,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert finish(process)[::2] == (0, "")
    count = len(account.ids(yesterday, yesterday))
    assert reader.stdout.startswith(f"[({count}, ")


def test_binary_data_is_not_written_to_a_terminal(on_terminal):
    """Given a terminal, when Parquet is to be written to it, then it is refused, and the error says what to do."""
    exit_code, output = on_terminal("calls", "yesterday", "--format", "parquet")
    assert exit_code == 2
    assert "Give -o FILE, or a pipe." in " ".join(output.split())
    assert "PAR1" not in output


def test_cron_of_two_accounts_is_silent_until_the_server_is_down(account, run, tmp_path):
    """Given two profiles, when backfilled quietly, then nothing is printed until the server fails; then all is said."""
    config = tmp_path / "iovox" / "config.toml"
    config.parent.mkdir()
    config.write_text(
        "".join(
            f'[profiles.{name}]\nusername = "{USERNAME}"\nurl = "{account.url}"\nsecure_key = "{KEY}"\n'
            for name in ("uk", "de")
        )
    )
    config.chmod(0o600)
    env = dict.fromkeys(("IOVOX_USERNAME", "IOVOX_SECURE_KEY", "IOVOX_URL")) | {
        "XDG_CONFIG_HOME": str(tmp_path)
    }
    start = (date.today() - timedelta(days=3)).isoformat()

    def hourly(name):
        return run(
            "backfill",
            start,
            "--out",
            tmp_path / name,
            "--quiet",
            "--timeout",
            0.5,
            "--profile",
            name,
            env=env,
        )

    for name in ("uk", "de"):
        result = hourly(name)
        assert (result.exit_code, result.output) == (0, "")
    account.faults = Faults(fail_after=0, kinds="404")
    first, second = hourly("de"), hourly("de")
    account.faults = Faults()
    report = json.loads((tmp_path / "de/_iovox/report.json").read_text())
    assert first.exit_code == second.exit_code == 1
    assert report["status"] == "failed"
    assert report["failing_since"] < report["started_at"] or report["failing_since"] == report["started_at"]
    assert re.search(
        rf"Account {USERNAME} at http://\S+, folder \S+/de: failing since \S+, exit code 1\.", second.stderr
    )
    assert hourly("uk").output == ""
