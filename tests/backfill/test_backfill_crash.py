"""Killed, cut off from power, or refused by the disk at any instant, a backfill ends with what an undisturbed one has."""

import asyncio
import contextlib
import errno
import hashlib
import json
import math
import os
import random
import signal
import subprocess
import sys
from datetime import datetime

import httpx
import pytest

from iovox_async import BackfillError, BackfillLockedError, InsightsQuery, IovoxError
from iovox_async.backfill import Backfill
from iovox_async.backfill._locks import FolderLock
from iovox_async.backfill._manifest import Manifest, ManifestEntry
from iovox_async.backfill._storage import FileSystem
from iovox_async.sandbox import Faults, Sandbox

LATER = datetime(2024, 6, 1)
QUERY = InsightsQuery(start_date="2024-01-02", end_date="2024-01-04")


class KilledError(BaseException):
    """The process is no more."""


class Quick(FileSystem):
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
def fuller():
    """Calls in three days."""
    with contextlib.closing(Sandbox(calls=30, start="2024-01-02", end="2024-01-04", seed=4)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def box():
    """The same, but that one day has none any more."""
    with contextlib.closing(Sandbox(calls=30, start="2024-01-02", end="2024-01-04", seed=4)) as sandbox:
        sandbox.remove(sandbox.ids("2024-01-03", "2024-01-03"))
        yield sandbox


@pytest.fixture(params=[0.0, math.inf], ids=["named at once", "named at the end"])
def naming(request):
    """How often the manifest is written: after each partition, or after the first and at the end."""
    return request.param


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


def job(insights, out, query, now, files, naming):
    backfill = Backfill(insights, query, out, "jsonl", clock=lambda: now, files=files or Quick())
    backfill._store.rewrite_every = naming
    return backfill


async def disturbed(insights, out, query, now, files, naming=0.0, *, repair=False):
    """A run that may end in any way; whether it was let through."""
    try:
        await job(insights, out, query, now, files, naming).run(repair=repair)
    except (KilledError, BackfillError):
        return False
    return True


async def prepare(scene, insights, earlier, out):
    """What is in the folder before the disturbed run, and that run's query and time.

    `earlier` is a session with the endpoint as it was when the folder was begun.
    """
    if scene == "new":
        return QUERY, LATER
    if scene == "emptied":  # an open day has lost its calls, and the last one is new
        await disturbed(earlier, out, QUERY, datetime(2024, 1, 4), None)
        return QUERY, LATER
    if scene == "spoilt":  # two sealed files are not what they were, though as long
        await disturbed(insights, out, QUERY, LATER, None)
        for path in (out / "calls").glob("*/*.jsonl"):
            path.write_bytes(path.read_bytes()[::-1])
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


AT_ONCE, AT_THE_END = 0.0, math.inf
#: What happens, whether it lasts, and how often the manifest is written.
WAYS = {
    "kill, named at once": ("kill", False, AT_ONCE),
    "kill, named at the end": ("kill", False, AT_THE_END),
    "power, named at once": ("power", False, AT_ONCE),
    "power, named at the end": ("power", False, AT_THE_END),
    "full for a moment": (errno.ENOSPC, False, AT_ONCE),
    "full": (errno.ENOSPC, True, AT_THE_END),
    "broken for a moment": (errno.EIO, False, AT_THE_END),
}


@pytest.mark.fault(57)
@pytest.mark.parametrize("scene", ["new", "open", "piece", "emptied", "spoilt"])
@pytest.mark.parametrize("way", WAYS)
async def test_at_every_change_of_the_disk(way, scene, box, fuller, open_session, tmp_path):
    """Whatever happens at the n-th write, sync, rename or removal, for every n, the next run ends as if nothing had."""
    how, lasting, naming = WAYS[way]
    spoilt = scene == "spoilt"  # and repaired; what is spoilt is still called sealed until the repair begins
    async with session(box, open_session) as insights, session(fuller, open_session) as earlier:
        for at in range(1, 500):
            out = tmp_path / str(at)
            query, now = await prepare(scene, insights, earlier, out)
            files = Breaking(at, how, lasting=lasting)
            through = await disturbed(insights, out, query, now, files, naming, repair=spoilt)
            if files.changes < at:
                break
            assert not through or not lasting
            if not spoilt:
                assert_sealed_is_whole(out)
            if how in {"kill", "power"}:  # once more on the way, at some other place
                await disturbed(insights, out, query, now, Breaking(at // 2 + 3, how), naming, repair=spoilt)
                if not spoilt:
                    assert_sealed_is_whole(out)
            assert await disturbed(insights, out, query, now, None, naming, repair=spoilt)
            assert_sealed_is_whole(out)
            first = "2024-01-02" if scene == "piece" else query.start_date
            last = "2024-01-03 23:59:59" if scene == "piece" else min(now, datetime(2024, 1, 4, 23, 59, 59))
            assert ids_in(out) == box.ids(str(first), str(last)), f"at change {at}"
            assert not leftovers(out)
            report = await job(insights, out, query, now, None, naming).run(repair=True)
            assert report.requests <= (2 if scene == "open" else 0)
        assert at > 15


@pytest.mark.parametrize("method", ["put_file", "makedirs", "cat_file", "find", "rm_file"])
async def test_at_every_operation_of_a_store(method, naming, box, open_session, tmp_path):
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
            backfill = job(insights, f"file://{out}", QUERY, LATER, None, naming)
            good = backfill._store.fs
            backfill._store.fs = Failing()
            with contextlib.suppress(BackfillError):
                await backfill.run()
            if count < at:
                break
            backfill._store.fs = good
            assert_sealed_is_whole(out)
            await backfill.run()
            assert ids_in(out) == box.ids()
            assert_sealed_is_whole(out)
        assert at > 1


@pytest.mark.fault(55)
@pytest.mark.parametrize("at", range(1, 12))
async def test_cancelled_at_every_request(at, naming, box, open_session, tmp_path):
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
        backfill = job(insights, tmp_path, QUERY, LATER, None, naming)
        task = asyncio.ensure_future(backfill.run())
        began = loop.time()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert loop.time() - began < 1.0
        assert not leftovers(tmp_path)
        await backfill.run()
    assert ids_in(tmp_path) == box.ids()


@pytest.mark.parametrize("at", range(1, 8))
async def test_cancelled_while_the_manifest_is_written(at, box, open_session, tmp_path):
    """By the task itself, as Ctrl-C does: what is written is written to its end before the lock is given back."""
    loop = asyncio.get_running_loop()
    held = []

    async def turns():
        for _ in range(50):
            await asyncio.sleep(0)

    class Cancelling(Quick):
        created = 0

        def create(self, path):
            Cancelling.created += 1
            if Cancelling.created == at:
                loop.call_soon_threadsafe(task.cancel)
                asyncio.run_coroutine_threadsafe(turns(), loop).result()
                with pytest.raises(BackfillLockedError):
                    FolderLock(tmp_path).take()
                held.append(not task.done())
            return super().create(path)

    async with session(box, open_session) as insights:
        task = asyncio.ensure_future(job(insights, tmp_path, QUERY, LATER, Cancelling(), math.inf).run())
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert held == [True] * (Cancelling.created >= at)
        assert_sealed_is_whole(tmp_path)
        await job(insights, tmp_path, QUERY, LATER, None, math.inf).run()
    assert ids_in(tmp_path) == box.ids()


async def test_what_was_finished_when_the_disk_is_full_is_named(box, open_session, tmp_path):
    """Also of the calls of one page: its first days are kept, the error is of the last."""

    class Full(Quick):
        def write(self, file, data):
            if "2024-01-04" in file.name:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(file, data)

    async with session(box, open_session) as insights:
        backfill = job(insights, tmp_path, QUERY, LATER, Full(), math.inf)
        with pytest.raises(BackfillError, match="2024-01-04"):
            await backfill.run()
        assert backfill.progress.partitions == 2
        report = await job(insights, tmp_path, QUERY, LATER, None, math.inf).run()
    assert (report.partitions_skipped, report.partitions) == (2, 1)
    assert ids_in(tmp_path) == box.ids()


async def test_a_second_failure_does_not_hide_the_first(box, open_session, tmp_path):
    """The disk is full, and so the manifest cannot be written either: the file that could not be written is told."""

    class Full(Quick):
        full = False

        def write(self, file, data):
            self.full = self.full or "2024-01-04" in file.name
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(file, data)

    async with session(box, open_session) as insights:
        with pytest.raises(BackfillError, match="2024-01-04"):
            await job(insights, tmp_path, QUERY, LATER, Full(), math.inf).run()
        report = await job(insights, tmp_path, QUERY, LATER, None, math.inf).run()
    assert (report.partitions_skipped, report.partitions) == (1, 2)


@pytest.mark.fault(56)
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
    from iovox_async.backfill._job import Job

    job = Job(account="a", fields=(), filters={}, format="csv", partition="day", timezone=None)
    rng = random.Random(1)
    for _ in range(300):
        manifest = Manifest(
            job, LATER, {"2024-01-01": ManifestEntry(partition="2024-01-01", lo=LATER, hi=LATER, sealed=True)}
        )
        data = bytearray(manifest.dump())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            found = Manifest.load(bytes(data), job, LATER)
        except IovoxError:
            continue
        assert found.damage
