"""Tests of the rules of Windows and macOS, on any system: `_platform.system` and what these systems refuse are replaced."""

import ast
import asyncio
import importlib
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import httpx
import pytest
from support.backfill import LATER, QUERY, ids_in

import iovox_async
from iovox_async import BackfillLockedError, _platform
from iovox_async.backfill import Backfill
from iovox_async.sandbox import Sandbox

flock = pytest.importorskip("fcntl").flock
PACKAGE = Path(iovox_async.__file__).parent
#: Names that Windows does not allow. Source: "Naming Files, Paths, and Namespaces" of the Windows documentation.
FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)


def _is_open(path):
    """Whether this process has a file open."""
    links = Path("/proc/self/fd")
    return any(link.exists() and link.samefile(path) for link in links.iterdir()) if path.exists() else False


@pytest.fixture
def windows(monkeypatch):
    """Windows' rules: no fcntl, no open directories, no renaming of or over an open file."""

    def locking(descriptor, mode, _count):
        assert mode == 2
        try:
            flock(descriptor, 6)  # LOCK_EX | LOCK_NB
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None

    real_open, real_replace = os.open, Path.replace

    def open_file(path, *args, **options):
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *args, **options)

    def replace(path, target):
        if _is_open(path) or _is_open(target):
            raise PermissionError(13, "used by another process", str(path))
        return real_replace(path, target)

    monkeypatch.setattr(_platform, "system", "win32")
    monkeypatch.setattr(_platform, "REPLACE_DELAYS", (0, 0, 0))
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(Path, "replace", replace)


@pytest.fixture
def sandbox():
    return Sandbox(calls=120, start="2024-01-01", end="2024-01-10", seed=4)


async def test_a_backfill_follows_the_rules_of_windows(windows, sandbox, open_session, tmp_path):
    """Given the rules of Windows, when a backfill runs, resumes and verifies, then it works, with names that Windows allows."""
    out = tmp_path / "out"
    async with open_session(transport=httpx.ASGITransport(sandbox.app), page_size=60) as insights:

        def job():
            return Backfill._for_test(insights, QUERY, out, format="jsonl", local_now=lambda: LATER)

        first = await job().run()
        assert first.calls == 120
        assert ids_in(out) == sandbox.ids()
        sandbox.add([{"call_start": "2024-01-05 10:00:00"}])
        assert (await job().run()).partitions_skipped == 10
    names = [path.name for path in out.rglob("*")]
    assert [name for name in names if FORBIDDEN.search(name)] == []
    assert len({name.casefold() for name in names}) == len(set(names))
    assert max(len(str(path.relative_to(out))) for path in out.rglob("*")) < 120


async def test_a_lock_without_fcntl_excludes_another_backfill(windows, sandbox, open_session, tmp_path):
    """Given msvcrt only, when a second backfill starts during the first, then BackfillLockedError is raised; later it runs."""
    out = tmp_path / "out"
    async with open_session(transport=httpx.ASGITransport(sandbox.app), page_size=60) as insights:
        second = []

        async def start_another(_progress):
            if not second:
                second.append("started")
                with pytest.raises(BackfillLockedError):
                    await Backfill._for_test(
                        insights, QUERY, out, format="jsonl", local_now=lambda: LATER
                    ).run()

        def on_progress(progress):
            tasks.append(asyncio.ensure_future(start_another(progress)))

        tasks = []
        job = Backfill._for_test(
            insights, QUERY, out, format="jsonl", local_now=lambda: LATER, on_progress=on_progress
        )
        await job.run()
        await asyncio.gather(*tasks)
        assert second
        await Backfill._for_test(insights, QUERY, out, format="jsonl", local_now=lambda: LATER).run()


def test_a_file_that_another_program_has_open_is_replaced_when_it_is_closed(windows, monkeypatch, tmp_path):
    """Given a target that is open, when it is replaced, then it is tried again; if it stays open, PermissionError is raised."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("new text")
    new.write_text("old text")
    reader = new.open()
    with pytest.raises(PermissionError):
        _platform.replace_file(old, new)
    monkeypatch.setattr(_platform.time, "sleep", lambda _seconds: reader.close())
    _platform.replace_file(old, new)
    assert new.read_text() == "new text"
    assert not old.exists()


def test_directories_are_not_flushed_on_windows(windows, tmp_path):
    """Given Windows, when the names in a directory are flushed, then nothing is opened."""
    _platform.sync_directory(tmp_path)


def test_files_are_flushed_to_the_drive_on_macos(monkeypatch, tmp_path):
    """Given macOS, when a file is flushed, then by F_FULLFSYNC; where the drive refuses that, by fsync."""
    commands, flushed = [], []

    def fcntl(_descriptor, command):
        commands.append(command)
        if len(commands) == 2:
            raise OSError(45, "Operation not supported")

    monkeypatch.setattr(_platform, "system", "darwin")
    monkeypatch.setitem(sys.modules, "fcntl", types.SimpleNamespace(fcntl=fcntl, F_FULLFSYNC=51))
    monkeypatch.setattr(os, "fsync", flushed.append)
    with (tmp_path / "file").open("w") as file:
        _platform.sync_file(file.fileno())
        assert (commands, flushed) == ([51], [])
        _platform.sync_file(file.fileno())
        assert (commands, flushed) == ([51, 51], [file.fileno()])


async def test_signals_reach_the_loop_on_windows(windows):
    """Given a loop without signal handlers, when SIGTERM arrives, then the function is called in the loop."""
    arrived = asyncio.Event()
    before = signal.getsignal(signal.SIGTERM)
    try:
        _platform.add_signal_handler(asyncio.get_running_loop(), signal.SIGTERM, arrived.set)
        signal.raise_signal(signal.SIGTERM)
        await arrived.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_processes_and_memory_are_unknown_on_windows(windows):
    """Given Windows, when a process is looked for, then it counts as running, since os.kill would end it."""
    assert _platform.is_running(2**22 + 1)
    assert _platform.peak_memory() is None


def test_processes_and_memory_are_known_elsewhere(monkeypatch):
    """Given Linux, when this process and one that has ended are looked for, then only the first is running."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert _platform.is_running(os.getpid())
    assert not _platform.is_running(done.pid)
    peak = _platform.peak_memory()
    monkeypatch.setattr(_platform, "system", "freebsd")
    assert 0 < peak <= _platform.peak_memory() * 2


@pytest.mark.subprocess
@pytest.mark.parametrize("utf8", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_files_are_read_and_written_in_utf8_whatever_the_code_page_is(utf8, tmp_path):
    """Given a code page and UTF-8 mode on or off, when calls are exported, then the file is UTF-8 with its own line ends."""
    program = """
import asyncio, pathlib, sys
from iovox_async import AsyncInsights, InsightsQuery
from iovox_async.backfill import Backfill
from iovox_async.sandbox import Sandbox

async def main(out):
    sandbox = Sandbox(calls=0, start="2024-01-01", end="2024-01-02")
    sandbox.add([{"call_start": "2024-01-01 10:00:00", "node_name": "Zo\\u00eb \\u5317\\r\\nx"}])
    async with sandbox.serve() as url, AsyncInsights(sandbox.username, sandbox.key, base_url=url) as insights:
        for form in ("csv", "jsonl"):
            await Backfill(insights, InsightsQuery(start_date="2024-01-01", end_date="2024-01-02", fields=["node_name"]), out / form, format=form).run()

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""
    environment = {**os.environ, "PYTHONUTF8": utf8, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    options = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning:iovox_async"]
    done = subprocess.run(
        [sys.executable, *options, "-c", program, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    (table,) = tmp_path.glob("csv/*=*/*.csv")
    (lines,) = tmp_path.glob("jsonl/*=*/*.jsonl")
    assert "Zoë 北\r\nx" in table.read_bytes().decode()
    assert table.read_bytes().count(b"\r\n") == 1
    assert "Zoë 北\\r\\nx" in lines.read_bytes().decode()


def test_only_one_module_asks_for_the_system():
    """Given the sources, when they are searched, then no other module has a switch for a system."""
    switches = {("sys", "platform"), ("os", "name"), ("platform", "system")}
    places = [
        path.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in switches
    ]
    assert set(places) == {"_platform.py"}
    assert importlib.import_module("iovox_async._platform").system == sys.platform


def test_memory_is_shared_only_where_the_c_library_can(monkeypatch):
    """Given a C library without mallopt, or another system, then nothing happens."""
    loaded = []
    monkeypatch.setattr("ctypes.CDLL", lambda name: loaded.append(name) or types.SimpleNamespace())
    _platform.share_freed_memory()
    monkeypatch.setattr(_platform, "system", "darwin")
    _platform.share_freed_memory()
    assert len(loaded) == (sys.platform == "linux")
