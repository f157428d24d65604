"""The command line in a process of its own: signals, pipes, imports, and the commands that serve or follow."""

import contextlib
import json
import re
import signal
import struct
import sys
import time
from pathlib import Path

import pytest
from support.cli import TIMEOUT, call_ids, finish, resume_arguments

from iovox_async.cli.app import COMMANDS
from iovox_async.cli.commands.demo import PROGRAM
from iovox_async.sandbox import KEY, USERNAME, Faults, Sandbox

# Signals and pipes are those of Unix.
fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")

pytestmark = pytest.mark.subprocess

START, END = "2024-01-01", "2024-01-31"
#: A run of many requests, one after the other.
SLOW_RUN = ("calls", START, END, "--page-size", 10, "--concurrency", 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_run_prints_the_command_that_writes_the_rest(sandbox, faults, start, run, number):
    """Given a run under way, when interrupted, then exit code 130, and with the printed command's output it is whole."""
    faults(latency=0.1)
    process = start(*SLOW_RUN)
    first = process.stdout.readline().decode()
    process.send_signal(number)
    exit_code, rest, stderr = finish(process)
    faults()
    assert exit_code == 130
    assert "Traceback" not in stderr
    result = run(*resume_arguments(stderr))
    assert result.exit_code == 0
    assert call_ids(first + rest + result.stdout) == sandbox.ids()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("summary", START, END), id="summary"),
        pytest.param(("doctor",), id="doctor", marks=pytest.mark.slow),
    ],
)
def test_other_commands_are_interrupted_with_one_line(sandbox, faults, start, command):
    """Given a command that waits for a response, when interrupted, then one line says so; exit code 130."""
    faults(latency=60)
    process = start(*command)
    while not sandbox.stats.requests:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    exit_code, out, stderr = finish(process)
    assert (exit_code, out, stderr) == (130, "", "Interrupted.\n")


def test_interrupted_file_is_removed(faults, start, tmp_path):
    """Given a run that writes a file, when interrupted by SIGHUP, then no file is left and a note says so."""
    faults(latency=0.1)
    # Under nohup the signal is ignored, and a child would inherit that.
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process = start(*SLOW_RUN, "-o", tmp_path / "calls.jsonl")
    signal.signal(signal.SIGHUP, inherited)
    while not [*tmp_path.iterdir()]:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    exit_code, _, stderr = finish(process)
    assert exit_code == 130
    assert "was not written" in stderr
    assert [*tmp_path.iterdir()] == []


def test_interruption_does_not_wait_for_a_blocked_write(start):
    """Given a pipe that nobody reads, when interrupted, then it exits, and prints no command, as a page is half written."""
    process = start("calls", START, END, "--fields", "all")
    size = 0
    while size < 60_000:  # of the pipe's 65,536 bytes
        assert process.poll() is None
        time.sleep(0.01)
        (size,) = struct.unpack("i", fcntl.ioctl(process.stdout, termios.FIONREAD, b"\0\0\0\0"))
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 130
    stderr = process.stderr.read().decode()
    assert "Interrupted." in stderr
    assert "--resume" not in stderr


@pytest.mark.parametrize(
    "command",
    [("calls", START, END, "--fields", "all"), ("fields",), ("--help",)],
    ids=["calls", "fields", "help"],
)
def test_closed_pipe_is_not_a_failure(start, command):
    """Given a reader that closes the pipe (`| head`), when a command writes, then it exits with 0 and no message."""
    process = start(*command)
    process.stdout.close()
    process.stdout = None
    exit_code, _, stderr = finish(process)
    assert (exit_code, stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_is_an_error_of_one_line(start):
    """Given a full disk behind stdout, when calls are written, then one line says so; exit code 1."""
    with Path("/dev/full").open("wb") as full:
        process = start("calls", START, END, stdout=full)
        _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert stderr.decode() == "Error: Cannot write stdout: No space left on device.\n"


def test_demo_prints_figures_and_a_program_that_runs(start, sandbox):
    """Given no account, when the demo runs, then it prints measured figures and a program; the program runs as it is."""
    exit_code, out, stderr = finish(start("demo", "--calls", 3000, "--seed", 1))
    assert exit_code == 0
    rows = dict(re.findall(r"│ (\S.*?) +│ +(\S.*?) │", out))
    assert rows["Calls"] == "3,000"
    assert int(rows["Retries"]) >= 1
    assert set(rows) == {
        *("Calls", "Calls per second", "Requests", "Retries", "Received"),
        *("Peak memory", "Time to the first call", "Total time"),
    }
    assert "Streaming them from http://127.0.0.1:" in stderr
    program = out[out.index("import asyncio") : out.index("asyncio.run(main())")] + "asyncio.run(main())\n"
    assert program == PROGRAM
    exit_code, out, stderr = finish(start(command=[sys.executable, "-c", program]))
    assert (exit_code, stderr) == (0, "")
    assert len(out.splitlines()) == len(sandbox.ids())


def test_sandbox_prints_the_variables_that_point_at_it(start, run):
    """Given `iovox sandbox`, when its variables are set, then commands reach it and meet its faults; Ctrl-C ends it."""
    process = start(
        *("sandbox", "--calls", 50, "--start", START, "--end", START, "--fail-first", 1, "--kind", 403)
    )
    lines = [process.stdout.readline().decode().strip() for _ in range(3)]
    variables = dict(line.removeprefix("export ").split("=") for line in lines)
    assert list(variables) == ["IOVOX_URL", "IOVOX_USERNAME", "IOVOX_SECURE_KEY"]
    assert run("calls", START, START, env=variables).exit_code == 1
    result = run("calls", START, START, env=variables)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 50)
    process.send_signal(signal.SIGINT)
    exit_code, out, stderr = finish(process)
    assert (exit_code, out) == (130, "")
    assert variables["IOVOX_URL"] in stderr


def test_follow_writes_new_calls_and_reports_outages(start, process_environment):
    """Given a follower, when calls arrive around an outage, then each is written once; at the end a command continues."""
    with contextlib.closing(Sandbox(calls=0, start=START, end=END)) as sandbox, sandbox.serve() as url:
        (first,) = sandbox.add([{"call_start": f"{START} 10:00:00"}])
        environment = {"IOVOX_URL": url, "IOVOX_USERNAME": USERNAME, "IOVOX_SECURE_KEY": KEY}
        process = start(
            *("follow", "--since", START, "--interval", 0.05), env=process_environment | environment
        )
        assert json.loads(process.stdout.readline())["id"] == first
        sandbox.faults = Faults(fail_after=0, kinds="garbage")
        assert process.stderr.readline() == b"A poll failed; polling again every 0.05 s.\n"
        sandbox.faults = Faults()
        assert process.stderr.readline() == b"Polls succeed again.\n"
        (second,) = sandbox.add([{"call_start": f"{START} 11:00:00"}])
        assert json.loads(process.stdout.readline())["id"] == second
        process.send_signal(signal.SIGTERM)
        exit_code, out, stderr = finish(process)
    assert (exit_code, out) == (130, "")
    assert stderr == (
        f"Interrupted. Continue with: iovox follow --interval 0.05 --since '{START} 11:00:00'\n"
    )


def test_missing_extra_is_named(start):
    """Given no rich-click, when the command runs, then one line says what to install; exit code 1."""
    code = "import sys; sys.modules['rich_click'] = None; from iovox_async.cli import main; main()"
    exit_code, out, stderr = finish(start(command=[sys.executable, "-c", code]))
    assert (exit_code, out, len(stderr.splitlines())) == (1, "", 1)
    assert 'pip install "iovox-async[cli]"' in stderr


def test_help_imports_its_command_and_no_client(start):
    """Given the root command, when help is printed, then only that command's module is imported, and no slow module."""
    code = f"""
import contextlib, io, sys
from iovox_async.cli.app import iovox

def call(*args):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        iovox(args, prog_name="iovox")
    prefix = "iovox_async.cli.commands."
    print(*sorted(name.removeprefix(prefix) for name in sys.modules if name.startswith(prefix)), sep=",")

for args in (["--version"], ["--help"], ["fields"], *([name, "--help"] for name in {[*COMMANDS]!r})):
    call(*args)
slow = {{"httpx", "pyarrow", "uvicorn", "iovox_async.client", "iovox_async.backfill"}}
print(*(slow & set(sys.modules)))
"""
    exit_code, out, stderr = finish(start(command=[sys.executable, "-c", code]))
    assert (exit_code, stderr) == (0, "")
    imported = [set(filter(None, line.split(","))) for line in out.splitlines()]
    expected, names = [set(), set(), {"fields"}], {"fields"}
    for name in COMMANDS:
        names = names | {name}
        expected.append(names)
    assert imported == [*expected, set()], out


@pytest.mark.parametrize(
    ("args", "module"),
    [
        (("--help",), "click"),
        (("calls", START, END), "iovox_async.cli.commands.calls"),
        (("calls", START, END), "httpx"),
    ],
    ids=["the command line", "the command", "the client"],
)
def test_ctrl_c_during_imports_is_quiet(start, args, module):
    """Given a command that starts, when Ctrl-C comes during an import, then exit code 130, without a traceback."""
    code = f"""
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

from iovox_async.cli import main
sys.meta_path.insert(0, Finder())
main()
"""
    exit_code, out, stderr = finish(start(*args, command=[sys.executable, "-c", code]))
    assert (exit_code, out) == (130, "")
    assert stderr.strip() in {"", "Interrupted."}
