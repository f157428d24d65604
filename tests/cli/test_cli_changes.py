"""`iovox changes`: what a backfill has changed in a Delta table."""

from contextlib import closing

import msgspec

from iovox_async.sandbox import Sandbox


def test_changes_of_a_delta_table_are_printed(run, tmp_path):
    """Given a Delta table whose calls have changed, `iovox changes` prints a JSON document for each change."""
    out = str(tmp_path / "out")
    delta = ("backfill", "--start", "2024-01-01", "--end", "2024-01-05", "--out", out, "--format", "delta")
    with closing(Sandbox(calls=100, start="2024-01-01", end="2024-01-05", seed=3)) as sandbox:
        with sandbox.serve() as url:
            arguments = (*delta, "--finality-delay", 10**10)
            assert run(*arguments, env={"IOVOX_URL": url}).exit_code == 0
            deleted, *_ = sandbox.ids("2024-01-02", "2024-01-02")
            sandbox.remove([deleted])
            assert run(*arguments, env={"IOVOX_URL": url}).exit_code == 0
    everything = run("changes", out, "--since", "2024-01-01")
    assert everything.stderr == "100 inserted, 0 updated, 1 deleted\n"
    assert run("changes", out, "--since", "1h").stderr == everything.stderr
    result = run("changes", out, "--since", "99")
    assert (result.exit_code, "must be a date, got '99'. Write a date such as" in result.stderr) == (2, True)
    (line,) = run("changes", out, "--since-version", 2).stdout.splitlines()
    change = msgspec.json.decode(line)
    assert (change["change"], change["version"], change["call"]["id"]) == ("delete", 2, deleted)
    assert change["call"]["date"] == "2024-01-02"


def test_what_is_no_table_is_refused(run, tmp_path):
    """Given a directory without a table, or two ways to say since when, the command fails and says why."""
    result = run("changes", str(tmp_path))
    assert (result.exit_code, "is no Delta table" in result.stderr) == (1, True)
    assert run("changes", str(tmp_path), "--since", "2024-01-01", "--since-version", 2).exit_code == 2
