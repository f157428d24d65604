"""Fixtures of the tests of the command line: a sandbox, `run` for this process, and `start` for another one."""

import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest
from click.testing import CliRunner
from support.sandbox import reset

from iovox_async.cli.app import iovox, load_command
from iovox_async.cli.console import switched_off
from iovox_async.sandbox import KEY, USERNAME, Sandbox

START, END = "2024-01-01", "2024-01-31"
COMMAND = [sys.executable, "-m", "iovox_async.cli"]

# A command that is imported while a test has replaced a function of another module would keep the replacement.
for name in iovox.commands:
    load_command(name)


@pytest.fixture(autouse=True)
def _nothing_is_switched_off():
    """A command with --quiet in another test leaves notes and bars switched off in this process."""
    switched_off.clear()


@pytest.fixture(scope="session")
def _served():
    with closing(Sandbox(calls=600, start=START, end=END, seed=3)) as sandbox, sandbox.serve() as url:
        sandbox.url = url
        yield sandbox


@pytest.fixture
def sandbox(_served):
    """A month of calls on a loopback port, without faults; `url` is its address."""
    yield _served
    # At the end, so that no later test finds threads of its server either.
    reset(_served, _served.url)


@pytest.fixture
def faults(sandbox):
    """Sets the sandbox's faults and resets its counters."""

    def set_faults(**faults):
        reset(sandbox, sandbox.url, **faults)

    return set_faults


@pytest.fixture
def environment(sandbox):
    """The environment variables that point a command at the sandbox."""
    return {"IOVOX_USERNAME": USERNAME, "IOVOX_SECURE_KEY": KEY, "IOVOX_URL": sandbox.url}


@pytest.fixture
def run(environment, monkeypatch):
    """Runs the command in this process and returns click's result."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*args, env=(), **options):
        env = environment | dict(env)
        return CliRunner(env=env).invoke(iovox, [str(arg) for arg in args], prog_name="iovox", **options)

    return run


@pytest.fixture
def process_environment(environment):
    """All environment variables of a process with a plain terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IOVOX_")}
    return kept | environment | {"TERM": "xterm", "COLUMNS": "100"}


@pytest.fixture
def _interruptible():
    """SIGINT is handled here, because a child of a process that ignores it would ignore it, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start(process_environment, _interruptible):
    """Starts the command in another process, which is killed after the test if it is still running."""
    started = []

    def start(*args, command=COMMAND, **options):
        # Unbuffered, so that what a test has not read is still in the pipe for `communicate`.
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
        options = pipes | {"env": process_environment} | options
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
