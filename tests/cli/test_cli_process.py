"""The command line as a process: signals, pipes, terminals, exit codes."""

import contextlib
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iovox_async import Field
from iovox_async.cli.app import COMMANDS
from iovox_async.cli.commands.demo import PROGRAM
from iovox_async.sandbox import KEY, USERNAME, Faults, Sandbox

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals are those of Unix")

START, WEEK, END = "2024-01-01", "2024-01-07", "2024-01-31"
COMMAND = [sys.executable, "-m", "iovox_async.cli"]
#: Nothing here takes as long.
SECONDS = 30


@pytest.fixture(scope="module")
def box():
    """A month's calls on a loopback port, slow enough to be interrupted."""
    sandbox = Sandbox(calls=3000, start=START, end=END, seed=5)
    with sandbox.serve() as url:
        sandbox.url = url
        yield sandbox
    sandbox.close()


@pytest.fixture
def environment(box):
    """The environment of a process: the sandbox's account, and a plain terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IOVOX_")}
    return kept | {
        "IOVOX_USERNAME": USERNAME,
        "IOVOX_SECURE_KEY": KEY,
        "IOVOX_URL": box.url,
        "TERM": "xterm",
        "COLUMNS": "100",
    }


@pytest.fixture(autouse=True)
def interruptible():
    """A test run that was started in the background has SIGINT ignored, and would hand that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start(environment):
    """Starts the command; whatever a test leaves is ended."""
    started = []

    def start(*args, command=COMMAND, **options):
        # Without a buffer, what was not read yet is still in the pipe for `communicate`.
        options = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": environment,
            "bufsize": 0,
        } | options
        process = subprocess.Popen([*command, *map(str, args)], **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr, process.stdin):
            if stream is not None:
                stream.close()


def ended(process):
    out, told = process.communicate(timeout=SECONDS)
    return process.returncode, (out or b"").decode(), told.decode()


@contextlib.contextmanager
def slowly(box, **given):
    """A sandbox that takes its time."""
    box.reset_stats()
    box.faults = Faults(latency=0.1, **given)
    try:
        yield
    finally:
        box.faults = Faults()


SLOWLY = ("calls", START, END, "--page-size", 40, "--concurrency", 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_run_prints_the_command_that_writes_the_rest(box, start, number):
    """Exit code 130, and the two outputs together are the whole."""
    with slowly(box):
        process = start(*SLOWLY)
        first = process.stdout.readline()
        process.send_signal(number)
        code, rest, told = ended(process)
    written = first.decode() + rest
    assert code == 130
    assert "Traceback" not in told
    words = shlex.split(told.partition(" with: iovox ")[2])
    code, rest, _ = ended(start(*words))
    assert code == 0
    assert [json.loads(line)["id"] for line in (written + rest).splitlines()] == box.ids()


def test_an_interrupted_file_is_not_there(box, start, tmp_path):
    """No half file and no temporary one, and it says so."""
    # Under nohup the signal is ignored, and a child inherits that.
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with slowly(box):
        process = start(*SLOWLY, "-o", tmp_path / "calls.jsonl")
        while not [*tmp_path.iterdir()]:
            time.sleep(0.01)
        signal.signal(signal.SIGHUP, inherited)
        process.send_signal(signal.SIGHUP)
        code, _, told = ended(process)
    assert code == 130
    assert "was not written" in told
    assert [*tmp_path.iterdir()] == []


def test_an_interruption_does_not_wait_for_a_reader_that_sleeps(start):
    """A full pipe holds up neither the end nor the truth: what may be half written is not gone on from."""
    process = start("calls", START, END, "--fields", "all")
    process.stdout.read(1)
    select.select([], [], [], 0.5)  # by now the pipe is full
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 130
    told = process.stderr.read().decode()
    assert "Interrupted." in told
    assert "--resume" not in told


@pytest.mark.parametrize(
    "command",
    [("calls", START, END, "--fields", "all"), ("fields",), ("--help",)],
    ids=["calls", "fields", "help"],
)
def test_a_reader_that_leaves_ends_it_quietly(start, command):
    """`| head` is no failure."""
    process = start(*command)
    process.stdout.close()
    process.stdout = None
    code, _, told = ended(process)
    assert (code, told) == (0, "")


def test_a_full_disk_is_named(start):
    """What cannot be written is a failure that says why, in one line."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("wb") as full:
        process = start("calls", START, END, stdout=full)
        _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert told.decode() == "Error: Cannot write stdout: No space left on device.\n"


def test_a_named_pipe_is_written_in_place(start, tmp_path, box):
    """What is no regular file is not replaced by one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start("calls", START, END, "-o", pipe)
    with pipe.open() as reader:
        assert len(reader.readlines()) == 3000
    assert ended(process) == (0, "", "")


def test_the_demo_ends_with_its_table_and_a_program_that_runs(start, environment):
    """The first command of a newcomer, and what it tells to copy next."""
    code, out, told = ended(start("demo", "--calls", 3000, "--seed", 1))
    assert code == 0
    rows = dict(re.findall(r"│ (\S.*?) +│ +(\S.*?) │", out))
    assert rows["Calls"] == "3,000"
    assert int(rows["Retries"]) >= 1
    assert set(rows) == {
        *("Calls", "Calls a second", "Requests", "Retries", "Received"),
        *("Peak memory", "Time to the first call", "Time in all"),
    }
    assert "Streaming them from http://127.0.0.1:" in told
    program = out[out.index("import asyncio") : out.index("asyncio.run(main())")] + "asyncio.run(main())\n"
    assert program == PROGRAM
    code, printed, told = ended(start(command=[sys.executable, "-c", program]))
    assert (code, told) == (0, "")
    assert len(printed.splitlines()) == 3000


def test_the_sandbox_prints_the_lines_that_point_at_it(start, environment):
    """The lines are shell, the address answers, its faults are those that were asked for, and Ctrl-C ends it."""
    process = start(
        "sandbox", "--calls", 50, "--start", START, "--end", START, "--fail-first", 1, "--kind", 403
    )
    lines = [process.stdout.readline().decode().strip() for _ in range(3)]
    exports = dict(line.removeprefix("export ").split("=") for line in lines)
    assert list(exports) == ["IOVOX_URL", "IOVOX_USERNAME", "IOVOX_SECURE_KEY"]
    assert ended(start("calls", START, START, env=environment | exports))[0] == 1
    code, out, _ = ended(start("calls", START, START, env=environment | exports))
    assert (code, len(out.splitlines())) == (0, 50)
    process.send_signal(signal.SIGINT)
    code, out, told = ended(process)
    assert (code, out) == (130, "")
    assert exports["IOVOX_URL"] in told


def test_follow_writes_new_calls_as_they_come(start):
    """Each call once, at once; an outage is told and waited out; the end tells how to go on."""
    sandbox = Sandbox(calls=0, start=START, end=END)
    with sandbox.serve() as url:
        (one,) = sandbox.add([{"call_start": f"{START} 10:00:00"}])
        process = start(
            *("follow", "--since", START, "--every", 0.05),
            env=os.environ | {"IOVOX_URL": url, "IOVOX_USERNAME": USERNAME, "IOVOX_SECURE_KEY": KEY},
        )
        assert json.loads(process.stdout.readline())["id"] == one
        sandbox.faults = Faults(fail_after=0, kinds="garbage")
        assert process.stderr.readline().startswith(b"No answer")
        sandbox.faults = Faults()
        assert process.stderr.readline() == b"Answers are back.\n"
        (two,) = sandbox.add([{"call_start": f"{START} 11:00:00"}])
        assert json.loads(process.stdout.readline())["id"] == two
        process.send_signal(signal.SIGTERM)
        code, out, told = ended(process)
    assert (code, out) == (130, "")
    assert told == f"Interrupted. Go on with: iovox follow --every 0.05 --since '{START} 11:00:00'\n"


def test_without_its_extra_the_command_says_what_to_install(start):
    """One line and exit code 1."""
    code = "import sys; sys.modules['rich_click'] = None; from iovox_async.cli import main; main()"
    assert ended(start(command=[sys.executable, "-c", code])) == (
        1,
        "",
        'the command iovox needs the extra cli (rich-click, rich): pip install "iovox-async[cli]"\n',
    )


# How it starts.


def loaded(start, *args):
    """The modules that a call of the command loads."""
    code = (
        "import atexit, sys; from iovox_async.cli import main; "
        "atexit.register(lambda: print('modules', *sys.modules, file=sys.stderr)); main()"
    )
    code, _, told = ended(start(*args, command=[sys.executable, "-c", code]))
    assert code == 0
    return set(told.partition("modules ")[2].split())


@pytest.mark.parametrize(
    "args", [("--version",), ("--help",), ("fields",), *((name, "--help") for name in COMMANDS)], ids=" ".join
)
def test_a_call_loads_its_command_and_no_other_and_help_loads_no_session(start, args):
    """Nobody waits for what is not used."""
    modules = loaded(start, *args)
    room = "iovox_async.cli.commands"
    commands = {name.removeprefix(f"{room}.") for name in modules if name.startswith(f"{room}.")}
    assert commands == {args[0]} & COMMANDS.keys()
    assert not modules & {"httpx", "pyarrow", "uvicorn", "iovox_async.client", "iovox_async.backfill"}


@pytest.mark.parametrize(
    ("args", "module"),
    [
        (("--help",), "rich_click"),
        (("--help",), "rich_click.rich_help_rendering"),
        (("calls", START, END), "iovox_async.cli.commands.calls"),
        (("calls", START, END), "asyncio"),
        (("calls", START, END), "httpx"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_ctrl_c_while_it_starts_ends_it_quietly(start, args, module):
    """Wherever in its imports it comes: 130, and no traceback of modules that nobody asked for."""
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
    code, out, told = ended(start(*args, command=[sys.executable, "-c", code]))
    assert (code, out) == (130, "")
    assert told.strip() in {"", "Interrupted."}


# At a terminal.


class Terminal:
    """A process at a pseudo-terminal of its own."""

    def __init__(self, args, environment):
        import pty

        self.pid, self._handle = pty.fork()
        if not self.pid:
            os.execve(sys.executable, [*COMMAND, *map(str, args)], environment)
        self.shown = ""

    def until(self, words):
        """Reads until these words are shown, or to the end for None."""
        deadline = time.monotonic() + SECONDS
        while words is None or words not in self.shown:
            assert select.select([self._handle], [], [], deadline - time.monotonic())[0], self.shown
            try:
                data = os.read(self._handle, 65536)
            except OSError:  # how Linux says that the other end is closed
                data = b""
            if not data:
                assert words is None, self.shown
                break
            self.shown += data.decode(errors="replace")
        return self.shown

    def type(self, text):
        """Types a text."""
        os.write(self._handle, text.encode())

    def end(self):
        """Reads to the end; gives the exit code."""
        self.until(None)
        os.close(self._handle)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def plain(shown):
    """What was shown, without colours and moves."""
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)


def test_at_a_terminal_a_bar_is_drawn_and_wiped_off(box, environment, tmp_path):
    """Share, calls, rate, bytes, retries; then one line of what it took."""
    path = tmp_path / "calls.jsonl"
    with slowly(box, every_nth=5):
        terminal = Terminal(["calls", START, WEEK, "--page-size", 100, "-o", path], environment)
        assert terminal.end() == 0
    shown = plain(terminal.shown)
    assert re.search(r" \d+% [\d,]+ calls  [\d,]+/s  [\d.]+ [kM]B  \d+ retr", shown)
    assert "100%" not in shown
    last = shown.rstrip().splitlines()[-1]
    count = len(box.ids(START, WEEK))
    assert re.search(rf"{count} calls, [\d,]+ a second, \d+ requests, \d+ retries", last)


def test_at_a_terminal_data_is_not_drawn_over(box, environment):
    """Where the calls themselves go to the screen, there is no bar."""
    terminal = Terminal(["calls", START, START], environment)
    assert terminal.end() == 0
    assert "%" not in terminal.shown
    assert terminal.shown.count('{"id":') == len(box.ids(START, START))


def test_at_a_terminal_the_line_that_goes_on_stands_alone(box, environment):
    """It can be copied: no line break is in it, however narrow the terminal is."""
    environment["COLUMNS"] = "50"
    with slowly(box):
        terminal = Terminal(SLOWLY, environment)
        terminal.until('{"id":')
        terminal.type("\x03")
        assert terminal.end() == 130
    told, line = plain(terminal.shown).rstrip().splitlines()[-2:]
    assert re.fullmatch(r"Interrupted\. Go on after [\d,]+ calls with:", told), "not behind the ^C"
    assert shlex.split(line)[: len(SLOWLY) + 1] == ["iovox", *map(str, SLOWLY)]
    assert "--resume" in line


def test_at_a_narrow_terminal_lines_break_between_words(environment):
    """An error is read, not deciphered."""
    environment |= {"COLUMNS": "50", "IOVOX_SECURE_KEY": "another"}
    terminal = Terminal(["calls", START, START], environment)
    assert terminal.end() == 1
    lines = plain(terminal.shown).split("Error: ")[1].splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 50
    assert "the key works only from the IP addresses listed" in " ".join(map(str.strip, lines))


def test_ctrl_c_at_a_terminal_wipes_the_bar_off(box, environment, tmp_path):
    """The bar goes, the reason stays."""
    with slowly(box):
        terminal = Terminal([*SLOWLY, "-o", tmp_path / "calls.jsonl"], environment)
        terminal.until(" calls ")
        terminal.type("\x03")
        assert terminal.end() == 130
    assert " ".join(plain(terminal.shown).split()).endswith("was not written.")
    assert [*tmp_path.iterdir()] == []


def test_missing_credentials_are_asked_for_and_the_key_is_hidden(box, environment):
    """The key is typed blind."""
    del environment["IOVOX_USERNAME"], environment["IOVOX_SECURE_KEY"]
    terminal = Terminal(["show", box.ids()[0]], environment)
    terminal.until("Username: ")
    terminal.type(f"{USERNAME}\n")
    terminal.until("Secure key: ")
    terminal.type(f"{KEY}\n")
    assert terminal.end() == 0
    assert f"Call {box.ids()[0]}" in plain(terminal.shown)
    assert KEY not in terminal.shown


def test_ctrl_c_at_the_prompt_is_an_interruption(environment):
    """Exit code 130, at once."""
    del environment["IOVOX_SECURE_KEY"]
    terminal = Terminal(["show", "1"], environment)
    terminal.until("Secure key: ")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown


def test_at_a_terminal_the_table_of_fields_is_drawn_for_the_eye(environment):
    """Colours, a head and a legend."""
    terminal = Terminal(["fields"], environment)
    assert terminal.end() == 0
    assert "\x1b[" in terminal.shown
    assert "In the answer" in terminal.shown
    assert "Yellow: answered under another name." in plain(terminal.shown)


def test_at_a_narrow_terminal_the_demo_ends_with_its_whole_program(environment):
    """What is there to be copied is not cut off at the edge."""
    terminal = Terminal(["demo", "--calls", 100], environment | {"COLUMNS": "50"})
    assert terminal.end() == 0
    shown = [line.rstrip() for line in plain(terminal.shown).splitlines()]
    assert [line for line in PROGRAM.splitlines() if line not in shown] == []


def test_at_a_narrow_terminal_no_field_and_no_path_is_cut_short(environment):
    """What is too long for its column goes on below."""
    environment["COLUMNS"] = "60"
    terminal = Terminal(["fields"], environment)
    assert terminal.end() == 0
    shown = plain(terminal.shown)
    assert "\u2026" not in shown
    assert [name for name in Field if not re.search(rf"^{name} ", shown, re.MULTILINE)] == []
