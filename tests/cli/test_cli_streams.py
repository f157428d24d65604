"""Where output goes: special files, closed and full streams, and encodings that lack characters."""

import contextlib
import sys
from pathlib import Path

import pytest
from support.cli import TIMEOUT, call_ids

from iovox_async.cli.output import _find_descriptor
from iovox_async.sandbox import Sandbox

# Descriptors and special files are those of Unix.
fcntl = pytest.importorskip("fcntl")

pytestmark = pytest.mark.subprocess

START, END = "2024-01-01", "2024-01-31"
CALLS = ("calls", START, END)


def shell(start, script, *args):
    """Runs a script of bash; "$@" is the command with these arguments."""
    command = ["bash", "-c", script, "bash", sys.executable, "-m", "iovox_async.cli"]
    process = start(*args, command=command)
    out, err = process.communicate(timeout=TIMEOUT)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.sweep(2)
@pytest.mark.finding("D5")
@pytest.mark.parametrize(
    ("path", "script"),
    [
        ("/dev/stdout", '"$@" >> log'),
        ("/dev/stdout", '(echo before; "$@"; echo after) > log'),
        ("/proc/self/fd/1", '"$@" >> log'),
        ("link", '"$@" >> log'),
    ],
    ids=[">>", ">", "/proc", "a link"],
)
def test_a_log_that_is_stdout_is_appended_to(start, sandbox, tmp_path, monkeypatch, path, script):
    """Given stdout into a file with lines in it, when -o names stdout, then calls come after them; nothing is replaced."""
    if path.startswith("/proc") and not Path(path).exists():
        pytest.skip("this system has no /proc")
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("/dev/stdout")
    Path("log").write_text("before\n")
    assert shell(start, script, *CALLS, "-o", path) == (0, "", "")
    lines = Path("log").read_text().splitlines()
    assert lines[0] == "before"
    assert (lines[-1] == "after") == ("after" in script)
    assert call_ids("\n".join(line for line in lines if line[0] == "{")) == sandbox.ids()


@pytest.mark.sweep(3)
@pytest.mark.finding("D5")
@pytest.mark.parametrize(
    "script",
    ['"$@" -o /dev/stdout | cat', '"$@" -o >(cat) | cat', '"$@" -o /dev/fd/3 3>&1 >/dev/null | cat'],
    ids=["a pipe", "a process substitution", "a descriptor"],
)
def test_pipes_are_written_through(start, sandbox, script):
    """Given a pipe by one of its names, when calls are written to it, then its reader gets each."""
    exit_code, out, err = shell(start, script, *CALLS)
    assert (exit_code, err) == (0, "")
    assert call_ids(out) == sandbox.ids()


@pytest.mark.finding("D5")
def test_a_name_of_no_open_descriptor_is_an_error_of_one_line(start):
    """Given a descriptor that is not open, when -o names it, then one line says so; exit code 1."""
    process = start(*CALLS, "-o", "/dev/fd/99")
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert err.decode() == "Error: Cannot write /dev/fd/99: Bad file descriptor.\n"
    assert _find_descriptor("/dev/fd/99") == 99


@pytest.mark.sweep(3)
@pytest.mark.finding("D5")
@pytest.mark.parametrize("redirection", [">&-", "> /dev/full"], ids=["closed", "full"])
@pytest.mark.parametrize(
    "args",
    [
        CALLS,
        ("--help",),
        ("show", "ID"),
        ("sandbox", "--calls", 1),
        *(
            pytest.param(args, marks=pytest.mark.slow)
            for args in (
                ("fields",),
                ("calls", "--help"),
                ("--version",),
                ("show", "--json", "ID"),
                ("follow", "--since", START),
            )
        ),
    ],
    ids=lambda args: " ".join(map(str, args[:2])),
)
def test_stdout_that_cannot_be_written_is_an_error_of_one_line(start, sandbox, args, redirection):
    """Given a stdout that is closed or full, when a command writes to it, then the last line says so; exit code 1."""
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    args = [sandbox.ids()[0] if arg == "ID" else arg for arg in args]
    exit_code, out, err = shell(start, f'"$@" {redirection}', *args)
    assert (exit_code, out) == (1, "")
    *notes, last = err.splitlines()
    assert last.startswith("Error: Cannot write stdout: ")
    assert notes == [] or args[0] == "sandbox"
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("args", [("docs", "api"), ("help", "calls"), CALLS], ids=lambda args: args[0])
def test_a_disk_that_gets_full_in_the_middle_is_an_error_without_pythons_buffer_too(start, tmp_path, args):
    """Given PYTHONUNBUFFERED and a file that takes 4 kB, when a page is longer, then it is no success: exit code 1."""
    script = f'export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1; ulimit -f 4; trap "" XFSZ; "$@" > {tmp_path / "out"}'
    exit_code, out, err = shell(start, script, *args)
    assert (tmp_path / "out").stat().st_size == 4096
    assert (exit_code, out) == (1, "")
    assert err.splitlines()[-1].startswith("Error: Cannot write stdout: ")
    assert "Traceback" not in err


@pytest.mark.finding("D5")
def test_a_closed_stdout_does_not_matter_to_a_command_that_writes_a_file(start, sandbox, tmp_path):
    """Given closed streams, when calls are written to a file, then it has all of them and nothing else."""
    path = tmp_path / "calls.jsonl"
    assert shell(start, '"$@" <&- >&- 2>&-', *CALLS, "-o", path) == (0, "", "")
    assert call_ids(path.read_text()) == sandbox.ids()


@pytest.mark.finding("D5")
@pytest.mark.parametrize("encoding", ["cp1252", pytest.param("ascii", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "args", [("show", "ID"), ("calls", "Zoë→"), ("--help",), ("fields",)], ids=lambda args: args[0]
)
def test_characters_that_stdout_lacks_are_replaced(start, sandbox, process_environment, args, encoding):
    """Given a terminal or file of few characters, when a text has others, then they are replaced: no traceback."""
    (call,) = sandbox.add([{"call_start": f"{START} 10:00:00", "node_name": "北京 → Zoë ●"}])
    environment = process_environment | {"PYTHONIOENCODING": encoding}
    process = start(*(str(call) if arg == "ID" else arg for arg in args), env=environment)
    out, err = process.communicate(timeout=TIMEOUT)
    sandbox.remove([call])
    assert process.returncode == (2 if args[0] == "calls" else 0)
    assert b"Traceback" not in err
    out.decode(encoding)
    if args[0] == "show":
        assert "?? ? Zo" in out.decode(encoding)


@pytest.mark.finding("D5")
def test_readable_lines_of_new_calls_are_in_the_encoding_of_stdout(start, process_environment):
    """Given cp1252, when a new call is written as a line, then its name is in that encoding, with ? for what it lacks."""
    with contextlib.closing(Sandbox(calls=0, start=START, end=END)) as sandbox, sandbox.serve() as url:
        sandbox.add([{"call_start": f"{START} 10:00:00", "node_name": "Zoë 北"}])
        environment = process_environment | {"IOVOX_URL": url, "PYTHONIOENCODING": "cp1252"}
        options = ("--since", START, "--format", "line", "--fields", "call")
        process = start("follow", *options, env=environment)
        assert process.stdout.readline().decode("cp1252").endswith("Zoë ?\n")
