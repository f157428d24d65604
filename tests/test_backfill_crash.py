"""Killed, cut off from power, or refused by the disk at any instant, a backfill ends with what an undisturbed one has."""

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from datetime import datetime

import httpx
import pytest

from iovox_async import BackfillError, InsightsQuery, IovoxError
from iovox_async.backfill import Backfill
from iovox_async.backfill.manifest import Entry, Manifest
from iovox_async.sandbox import Faults, Sandbox
from iovox_async.sinks import Files

LATER = datetime(2024, 6, 1)
QUERY = InsightsQuery(start_date="2024-01-02", end_date="2024-01-04")


class KilledError(BaseException):
    """The process is no more."""


class Quick(Files):
    """A file system that waits for no disk."""

    def sync(self, file):
        pass

    def sync_folder(self, path):
        pass


class Breaking(Quick):
    """A file system that fails at the n-th change, and knows what a power cut would take.

    What was not synced is lost with the power: the bytes of files, and the names in folders.

    Args:
        at: which change fails, from 1.
        how: "kill", "power", or the number of an error.
        lasting: all changes from then on fail, as on a disk that is full.
    """

    def __init__(self, at, how, *, lasting=False):
        self.at = at
        self.how = how
        self.lasting = lasting
        self.changes = 0
        self.dead = False
        self.bytes_in_doubt = set()
        self.names_in_doubt = {}

    def step(self):
        """Counts a change, or does not let it happen."""
        if self.dead:
            raise KilledError
        self.changes += 1
        if self.changes < self.at or (self.changes > self.at and not self.lasting):
            return
        if isinstance(self.how, int):
            raise OSError(self.how, os.strerror(self.how))
        self.dead = True
        if self.how == "power":
            self.cut_power()
        raise KilledError

    def cut_power(self):
        for undo in reversed([undo for undoes in self.names_in_doubt.values() for undo in undoes]):
            undo()
        for path in self.bytes_in_doubt:
            if path.exists():
                path.write_bytes(b"\0" * (path.stat().st_size // 2))

    def doubt(self, folder, undo):
        self.names_in_doubt.setdefault(folder, []).append(undo)

    def create(self, path):
        self.step()
        self.bytes_in_doubt.add(path)
        self.doubt(path.parent, lambda: path.unlink(missing_ok=True))
        return super().create(path)

    def write(self, file, data):
        if self.changes + 1 == self.at and not self.dead:
            file.write(data[: len(data) // 2])  # a torn write
        self.step()
        return super().write(file, data)

    def sync(self, file):
        self.step()
        super().sync(file)
        self.bytes_in_doubt = {path for path in self.bytes_in_doubt if str(path) != file.name}

    def rename(self, old, new):
        self.step()
        before = new.read_bytes() if new.exists() else None

        def undo():
            new.unlink(missing_ok=True)
            if before is not None:
                new.write_bytes(before)

        super().rename(old, new)
        self.bytes_in_doubt = {new if path == old else path for path in self.bytes_in_doubt}
        self.doubt(new.parent, undo)

    def unlink(self, path):
        self.step()
        before = path.read_bytes()
        super().unlink(path)
        self.doubt(path.parent, lambda: path.parent.exists() and path.write_bytes(before))

    def make_folder(self, path):
        self.step()
        super().make_folder(path)
        self.doubt(path.parent, lambda: path.rmdir() if not any(path.iterdir()) else None)

    def remove_folder(self, path):
        self.step()
        super().remove_folder(path)

    def sync_folder(self, path):
        self.step()
        super().sync_folder(path)
        self.names_in_doubt.pop(path, None)


@pytest.fixture(scope="module")
def box():
    """Calls in three days, one of which has none."""
    with contextlib.closing(Sandbox(calls=30, start="2024-01-02", end="2024-01-04", seed=4)) as sandbox:
        sandbox.remove(sandbox.ids("2024-01-03", "2024-01-03"))
        yield sandbox


def session(box, open_session):
    return open_session(transport=httpx.ASGITransport(box.app), page_size=20)


def ids_in(out):
    files = sorted((out / "calls").glob("*/*.jsonl"))
    return [json.loads(line)["id"] for file in files for line in file.read_text().splitlines()]


def assert_sealed_is_whole(out):
    """What the manifest calls sealed is there, whole; and no torn line is anywhere in the table."""
    if (out / "manifest.jsonl").exists():
        lines = (out / "manifest.jsonl").read_bytes().splitlines()
        for line in lines[1:-1]:
            entry = json.loads(line)
            if entry["sealed"] and entry["file"]:
                data = (out / entry["file"]).read_bytes()
                assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    ids_in(out)


def leftovers(out):
    return [path for path in out.rglob("*") if path.name.endswith(".tmp")]


async def disturbed(insights, out, query, now, files):
    """A run that may end in any way; whether it was let through."""
    try:
        await Backfill(insights, query, out, "jsonl", clock=lambda: now, files=files or Quick()).run()
    except (KilledError, BackfillError):
        return False
    return True


async def prepare(scene, insights, out):
    """What is in the folder before the disturbed run, and that run's query and time."""
    if scene == "new":
        return QUERY, LATER
    if scene == "open":  # the last day is replaced
        query = InsightsQuery(start_date="2024-01-03")
        await disturbed(insights, out, query, datetime(2024, 1, 4, 12), None)
        return query, datetime(2024, 1, 4, 23, 59, 59)
    # A sealed piece of a day is completed.
    await disturbed(
        insights, out, InsightsQuery(start_date="2024-01-02 10:00", end_date="2024-01-02 20:00"), LATER, None
    )
    return InsightsQuery(start_date="2024-01-02", end_date="2024-01-03"), LATER


WAYS = {
    "kill": ("kill", False),
    "power": ("power", False),
    "full for a moment": (errno.ENOSPC, False),
    "full": (errno.ENOSPC, True),
    "broken for a moment": (errno.EIO, False),
}


@pytest.mark.parametrize("scene", ["new", "open", "piece"])
@pytest.mark.parametrize("way", WAYS)
async def test_at_every_change_of_the_disk(way, scene, box, open_session, tmp_path):
    """Whatever happens at the n-th write, sync, rename or removal, for every n, the next run ends as if nothing had."""
    how, lasting = WAYS[way]
    async with session(box, open_session) as insights:
        for at in range(1, 500):
            out = tmp_path / str(at)
            query, now = await prepare(scene, insights, out)
            files = Breaking(at, how, lasting=lasting)
            through = await disturbed(insights, out, query, now, files)
            if files.changes < at:
                break
            assert not through or not lasting
            assert_sealed_is_whole(out)
            if how in {"kill", "power"}:  # once more on the way, at some other place
                await disturbed(insights, out, query, now, Breaking(at // 2 + 3, how))
                assert_sealed_is_whole(out)
            assert await disturbed(insights, out, query, now, None)
            first = "2024-01-02" if scene == "piece" else query.start_date
            last = "2024-01-03 23:59:59" if scene == "piece" else min(now, datetime(2024, 1, 4, 23, 59, 59))
            assert ids_in(out) == box.ids(str(first), str(last)), f"at change {at}"
            assert not leftovers(out)
            report = await Backfill(
                insights, query, out, "jsonl", clock=lambda now=now: now, files=Quick()
            ).run(repair=True)
            assert report.requests <= (2 if scene == "open" else 0)
        assert at > 15


@pytest.mark.parametrize("method", ["put_file", "makedirs", "cat_file", "find", "rm_file"])
async def test_at_every_operation_of_a_store(method, box, open_session, tmp_path):
    """The same for object stores: whatever their n-th operation raises."""
    fs_type = type(__import__("fsspec").filesystem("file"))
    async with session(box, open_session) as insights:
        for at in range(1, 60):
            out = tmp_path / str(at)
            count = 0

            class Failing(fs_type):
                cachable = False

            def fail(self, *args, at=at, **kwargs):
                nonlocal count
                count += 1
                if count == at:
                    raise RuntimeError("the store is gone")
                return getattr(fs_type, method)(self, *args, **kwargs)

            setattr(Failing, method, fail)
            backfill = Backfill(insights, QUERY, f"file://{out}", "jsonl", clock=lambda: LATER)
            good = backfill._store.fs
            backfill._store.fs = Failing()
            with contextlib.suppress(BackfillError):
                await backfill.run()
            if count < at:
                break
            backfill._store.fs = good
            await backfill.run()
            assert ids_in(out) == box.ids()
        assert at > 1


@pytest.mark.parametrize("at", range(1, 12))
async def test_cancelled_at_every_request(at, box, open_session, tmp_path):
    """Ctrl-C, or a deadline: no lock, no task and no torn file is left; the next run goes on."""
    loop = asyncio.get_running_loop()
    seen = 0

    async def app(scope, receive, send):
        nonlocal seen
        seen += 1
        if seen == at:
            loop.call_soon(task.cancel)
            await asyncio.sleep(3600)
        await box.app(scope, receive, send)

    async with open_session(transport=httpx.ASGITransport(app), page_size=8) as insights:
        backfill = Backfill(insights, QUERY, tmp_path, "jsonl", clock=lambda: LATER)
        task = asyncio.ensure_future(backfill.run())
        began = loop.time()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert loop.time() - began < 1.0
        assert not leftovers(tmp_path)
        await backfill.run()
    assert ids_in(tmp_path) == box.ids()


async def test_killed_at_random_times(tmp_path):
    """A `kill -9` of a real process, again and again, until one comes through."""
    out = tmp_path / "out"
    sandbox = Sandbox(
        calls=2000, start="2024-01-01", end="2024-02-29", faults=Faults(latency=0.02, every_nth=40)
    )
    with contextlib.closing(sandbox):
        async with sandbox.serve() as base_url:
            command = [
                *(
                    sys.executable,
                    "-m",
                    "iovox_async.cli",
                    "backfill",
                    "--start",
                    "2024-01-01",
                    "--end",
                    "2024-02-29",
                ),
                *("--out", str(out), "--page-size", "60", "--concurrency", "2"),
            ]
            environment = os.environ | {
                "IOVOX_URL": base_url,
                "IOVOX_USERNAME": "demo",
                "IOVOX_SECURE_KEY": "demo-key",
            }
            rng = random.Random(7)
            for _ in range(5):
                wanted = sandbox.stats.requests + rng.randrange(3, 15)
                with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
                    while process.poll() is None and sandbox.stats.requests < wanted:
                        await asyncio.sleep(0.005)
                    process.send_signal(signal.SIGKILL)
                read_parquet(out)
            done = await asyncio.to_thread(
                subprocess.run, command, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
        assert read_parquet(out) == sandbox.ids()


def read_parquet(out):
    import pyarrow.parquet as pq

    files = sorted((out / "calls").glob("*/*.parquet"))
    return [one for file in files for one in pq.ParquetFile(file).read(["id"])["id"].to_pylist()]


def test_a_torn_manifest_is_an_error_of_ours():
    """Whatever is in the file."""
    from iovox_async.backfill.job import Job

    job = Job(account="a", fields=(), filters={}, format="csv", partition="day", timezone=None)
    rng = random.Random(1)
    for _ in range(300):
        manifest = Manifest(
            job, LATER, {"2024-01-01": Entry(partition="2024-01-01", lo=LATER, hi=LATER, sealed=True)}
        )
        data = bytearray(manifest.dump())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            found = Manifest.load(bytes(data), job, LATER)
        except IovoxError:
            continue
        assert found.damage
