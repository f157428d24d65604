"""A backfill that is killed, cut off from power or refused by the disk at any instant ends as an undisturbed one."""

import asyncio
import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
from datetime import datetime

import fsspec
import httpx
import pyarrow.parquet as pq
import pytest
from support.backfill import LATER, ids_in
from support.broken_disk import BrokenFileSystem, KilledError, UnsyncedFileSystem

from iovox_async import BackfillError, BackfillLockedError, InsightsQuery
from iovox_async.backfill import Backfill
from iovox_async.backfill._locks import DirectoryLock
from iovox_async.sandbox import Faults, Sandbox

QUERY = InsightsQuery(start_date="2024-01-02", end_date="2024-01-04")
#: Intervals between two versions of the manifest: after each partition, or after the first and at the end.
EACH, END = 0.0, math.inf
DISK_FAILURES = {
    "killed, manifest after each partition": ("kill", False, EACH),
    "killed, manifest at the end": ("kill", False, END),
    "power cut, manifest after each partition": ("power", False, EACH),
    "power cut, manifest at the end": ("power", False, END),
    "disk full once": (errno.ENOSPC, False, EACH),
    "disk full": (errno.ENOSPC, True, END),
    "I/O error once": (errno.EIO, False, END),
}


@pytest.fixture(scope="module")
def earlier_sandbox():
    """Calls in three days, one of which is empty in `sandbox`."""
    with contextlib.closing(Sandbox(calls=30, start="2024-01-02", end="2024-01-04", seed=4)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def sandbox():
    """Calls in two of three days."""
    with contextlib.closing(Sandbox(calls=30, start="2024-01-02", end="2024-01-04", seed=4)) as sandbox:
        sandbox.remove(sandbox.ids("2024-01-03", "2024-01-03"))
        yield sandbox


@pytest.fixture(params=[EACH, END], ids=["manifest after each partition", "manifest at the end"])
def manifest_interval(request):
    return request.param


def connect(sandbox, open_session):
    return open_session(transport=httpx.ASGITransport(sandbox.app), page_size=20)


def new_job(insights, directory, query, now, *, file_system=None, manifest_interval=EACH):
    if not str(directory).startswith("file:"):
        file_system = file_system or UnsyncedFileSystem()
    return Backfill._for_test(
        insights,
        query,
        directory,
        "jsonl",
        local_now=lambda: now,
        file_system=file_system,
        manifest_interval=manifest_interval,
    )


async def run(job, *, repair=False):
    """Runs a backfill whose disk may fail; returns whether it succeeded."""
    try:
        await job.run(repair=repair)
    except (KilledError, BackfillError):
        return False
    return True


def assert_final_partitions_are_intact(out):
    """Asserts that the files of final partitions match the manifest, and that no file has an incomplete line."""
    if (out / "_iovox/manifest").exists():
        for line in (out / "_iovox/manifest").read_bytes().splitlines()[1:-1]:
            entry = json.loads(line)
            if entry["final"] and entry["file"]:
                data = (out / entry["file"]).read_bytes()
                assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    ids_in(out)


def temporary_files(out):
    return [path for path in out.rglob("*") if path.name.endswith(".tmp")]


async def prepare(scene, insights, earlier, out):
    """Prepares the directory; returns the query and the local time of the run that is disturbed, and its dates."""
    if scene == "new directory":
        return QUERY, LATER, ("2024-01-02", "2024-01-04")
    if scene == "open day lost its calls":
        await run(new_job(earlier, out, QUERY, datetime(2024, 1, 4)))
        return QUERY, LATER, ("2024-01-02", "2024-01-04")
    if scene == "damaged files":  # two final files with other bytes, but the same size
        await run(new_job(insights, out, QUERY, LATER))
        for path in out.glob("*=*/*.jsonl"):
            path.write_bytes(path.read_bytes()[::-1])
        return QUERY, LATER, ("2024-01-02", "2024-01-04")
    if scene == "open day":
        query = InsightsQuery(start_date="2024-01-03")
        await run(new_job(insights, out, query, datetime(2024, 1, 4, 12)))
        return query, datetime(2024, 1, 4, 23, 59, 59), ("2024-01-03", "2024-01-04")
    # A part of a final day is there, and the rest is added.
    part = InsightsQuery(start_date="2024-01-02 10:00", end_date="2024-01-02 20:00")
    await run(new_job(insights, out, part, LATER))
    query = InsightsQuery(start_date="2024-01-02", end_date="2024-01-03")
    return query, LATER, ("2024-01-02", "2024-01-03")


SCENES = ["new directory", "open day", "part of a day", "open day lost its calls", "damaged files"]


@pytest.mark.sweep(6)
@pytest.mark.fault(56)
@pytest.mark.fault(57)
@pytest.mark.parametrize(
    "stride",
    [
        pytest.param(11, id="every eleventh change"),
        pytest.param(1, id="every change", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("failure", DISK_FAILURES)
async def test_a_failure_at_any_change_of_the_disk_loses_nothing(
    failure, scene, stride, sandbox, earlier_sandbox, open_session, tmp_path
):
    """Given a failure at the n-th write, sync, rename or removal, the next run ends as if nothing had happened.

    The slow sweep covers every n, the default one every eleventh, from another first n for each scene and failure.
    """
    kind, lasting, interval = DISK_FAILURES[failure]
    damaged = scene == "damaged files"  # the manifest calls them final until the repair begins
    first = (SCENES.index(scene) + list(DISK_FAILURES).index(failure)) % stride + 1
    async with (
        connect(sandbox, open_session) as insights,
        connect(earlier_sandbox, open_session) as earlier,
    ):
        for fail_at in itertools.count(first, stride):
            out = tmp_path / str(fail_at)
            query, now, dates = await prepare(scene, insights, earlier, out)

            async def run_with(file_system, query=query, now=now, out=out):
                options = {"file_system": file_system, "manifest_interval": interval}
                succeeded = await run(new_job(insights, out, query, now, **options), repair=damaged)
                if not damaged or succeeded:
                    assert_final_partitions_are_intact(out)
                return succeeded

            disk = BrokenFileSystem(fail_at, kind, lasting=lasting)
            succeeded = await run_with(disk)
            if disk.changes < fail_at:
                break
            if succeeded and lasting:  # only the reserve could not be removed
                assert ids_in(out) == sandbox.ids(*dates), f"at change {fail_at}"
            if kind in {"kill", "power"}:  # a second failure at another change
                await run_with(BrokenFileSystem(fail_at // 2 + 3, kind))
            assert await run_with(None)
            assert ids_in(out) == sandbox.ids(*dates), f"at change {fail_at}"
            assert not temporary_files(out)
            report = await new_job(insights, out, query, now, manifest_interval=interval).run(repair=True)
            assert report.requests <= (3 if scene == "open day" else 0)
        assert fail_at > 15


@pytest.mark.sweep(3)
@pytest.mark.parametrize("method", ["put_file", "makedirs", "cat_file", "find", "rm_file"])
async def test_a_failure_at_any_operation_of_a_store_loses_nothing(
    method, manifest_interval, sandbox, open_session, tmp_path
):
    """Given an object store whose n-th operation fails, for every n, the next run ends as if nothing had happened."""
    fs_type = type(fsspec.filesystem("file"))
    async with connect(sandbox, open_session) as insights:
        for fail_at in itertools.count(1):
            out = tmp_path / str(fail_at)
            count = 0

            class FailingStore(fs_type):
                cachable = False

            def fail(self, *args, fail_at=fail_at, **kwargs):
                nonlocal count
                count += 1
                if count == fail_at:
                    raise RuntimeError("the store is gone")
                return getattr(fs_type, method)(self, *args, **kwargs)

            setattr(FailingStore, method, fail)
            job = new_job(insights, f"file://{out}", QUERY, LATER, manifest_interval=manifest_interval)
            working_store = job._storage.fs
            job._storage.fs = FailingStore()
            await run(job)
            if count < fail_at:
                break
            job._storage.fs = working_store
            assert_final_partitions_are_intact(out)
            await job.run()
            assert ids_in(out) == sandbox.ids()
            assert_final_partitions_are_intact(out)
        assert fail_at > 1


@pytest.mark.fault(55)
@pytest.mark.parametrize("cancel_at", range(1, 12))
async def test_a_run_cancelled_at_any_request_leaves_nothing_behind(
    cancel_at, manifest_interval, sandbox, open_session, tmp_path
):
    """Given a run cancelled during its n-th request, no lock and no temporary file remains; the next run continues."""
    loop = asyncio.get_running_loop()
    requests = 0

    async def app(scope, receive, send):
        nonlocal requests
        requests += 1
        if requests == cancel_at:
            loop.call_soon(task.cancel)
            await asyncio.Event().wait()
        await sandbox.app(scope, receive, send)

    async with open_session(transport=httpx.ASGITransport(app), page_size=8) as insights:
        job = new_job(insights, tmp_path, QUERY, LATER, manifest_interval=manifest_interval)
        task = asyncio.ensure_future(job.run())
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert not temporary_files(tmp_path)
        await job.run()
    assert ids_in(tmp_path) == sandbox.ids()


@pytest.mark.parametrize("cancel_at", range(1, 8))
async def test_a_cancellation_waits_until_a_file_is_written(cancel_at, sandbox, open_session, tmp_path):
    """Given a native cancellation while the n-th file is written, the lock is released only after the write has ended."""
    loop = asyncio.get_running_loop()
    was_running = []

    async def run_callbacks():
        for _ in range(50):
            await asyncio.sleep(0)

    class Cancelling(UnsyncedFileSystem):
        created = 0

        def create(self, path):
            self.created += 1
            if self.created == cancel_at:
                loop.call_soon_threadsafe(task.cancel)
                asyncio.run_coroutine_threadsafe(run_callbacks(), loop).result()
                with pytest.raises(BackfillLockedError):
                    DirectoryLock(tmp_path).acquire()
                was_running.append(not task.done())
            return super().create(path)

    disk = Cancelling()
    async with connect(sandbox, open_session) as insights:
        job = new_job(insights, tmp_path, QUERY, LATER, file_system=disk, manifest_interval=END)
        task = asyncio.ensure_future(job.run())
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert was_running == [True] * (disk.created >= cancel_at)
        assert_final_partitions_are_intact(tmp_path)
        await new_job(insights, tmp_path, QUERY, LATER, manifest_interval=END).run()
    assert ids_in(tmp_path) == sandbox.ids()


class FullFromLastDay(UnsyncedFileSystem):
    """A disk that is full when the file of the last day is written; with `lasting`, also afterwards."""

    def __init__(self, *, lasting):
        self.lasting = lasting
        self.full = False

    def write(self, file, data):
        last_day = "2024-01-04" in file.name
        self.full = self.full or last_day
        if last_day or (self.full and self.lasting):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(file, data)


@pytest.mark.finding("B11")
@pytest.mark.parametrize(("lasting", "kept"), [(False, 2), (True, 1)], ids=["once", "lasting"])
async def test_a_full_disk_keeps_the_days_before_and_raises_the_first_error(
    lasting, kept, sandbox, open_session, tmp_path
):
    """Given a disk that is full at the last of three days, the error names that day, also if the manifest fails next.

    Days in the manifest are kept: both, or the first if the manifest could not be written again.
    """
    async with connect(sandbox, open_session) as insights:
        disk = FullFromLastDay(lasting=lasting)
        job = new_job(insights, tmp_path, QUERY, LATER, file_system=disk, manifest_interval=END)
        with pytest.raises(BackfillError, match="2024-01-04"):
            await job.run()
        assert job.progress.partitions == kept
        report = await new_job(insights, tmp_path, QUERY, LATER, manifest_interval=END).run()
    assert (report.partitions_skipped, report.partitions) == (kept, 3 - kept)
    assert ids_in(tmp_path) == sandbox.ids()


class SharedDisk(UnsyncedFileSystem):
    """A disk that another program fills up when the file of the last day is written: whatever is freed is gone, too.

    Only what the backfill itself removes afterwards is free for its next file.
    """

    def __init__(self):
        self.free = None

    def write(self, file, data):
        if self.free is None and "2024-01-04" not in file.name:
            return super().write(file, data)
        self.free = self.free or 0
        if len(data) > self.free:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.free -= len(data)
        return super().write(file, data)

    def unlink(self, path):
        if self.free is not None and path.name == "reserve":
            self.free += path.stat().st_size
        super().unlink(path)


@pytest.mark.finding("B11")
async def test_the_manifest_has_space_in_reserve_on_a_full_disk(sandbox, open_session, tmp_path):
    """Given a disk that another program has filled, the manifest and the report are still written, and the count is theirs."""
    async with connect(sandbox, open_session) as insights:
        disk = SharedDisk()
        job = new_job(insights, tmp_path, QUERY, LATER, file_system=disk, manifest_interval=END)
        with pytest.raises(BackfillError, match="2024-01-04"):
            await job.run()
        assert disk.free > 0
        assert job.progress.partitions == 2
        assert json.loads((tmp_path / "_iovox/report.json").read_bytes())["partitions"] == 2
        report = await new_job(insights, tmp_path, QUERY, LATER, manifest_interval=END).run()
    assert (report.partitions_skipped, report.partitions) == (2, 1)
    assert ids_in(tmp_path) == sandbox.ids()
    assert not (tmp_path / "_iovox/reserve").exists()


@pytest.mark.finding("B11")
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
async def test_the_count_after_a_full_disk_is_that_of_the_next_run(lasting, sandbox, open_session, tmp_path):
    """Given a disk that is full at any change, the count of finished partitions is the one that the next run finds."""
    async with connect(sandbox, open_session) as insights:
        for fail_at in range(1, 60):
            path = tmp_path / str(fail_at)
            disk = BrokenFileSystem(fail_at, errno.ENOSPC, lasting=lasting)
            job = new_job(insights, path, QUERY, LATER, file_system=disk, manifest_interval=END)
            try:
                await job.run()
            except BackfillError:
                counted = job.progress.partitions
                report = await new_job(insights, path, QUERY, LATER, manifest_interval=END).run()
                assert counted == report.partitions_skipped, fail_at
            if disk.changes < fail_at:
                break
        else:
            pytest.fail("the run never ended without a failure")


@pytest.mark.subprocess
@pytest.mark.fault(56)
@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
async def test_a_process_killed_again_and_again_ends_with_all_calls(kills, tmp_path):
    """Given `kill -9` of the command after a few requests, once or three times, the next run completes the directory."""
    out = tmp_path / "out"
    dates = ["--start", "2024-01-01", "--end", "2024-02-29"]
    options = ["--out", str(out), "--page-size", "60", "--concurrency", "2"]
    command = [sys.executable, "-m", "iovox_async.cli", "backfill", *dates, *options]
    faults = Faults(latency=0.02, every_nth=40)
    with contextlib.closing(
        Sandbox(calls=2000, start="2024-01-01", end="2024-02-29", faults=faults)
    ) as sandbox:
        async with sandbox.serve() as base_url:
            settings = {"IOVOX_URL": base_url, "IOVOX_USERNAME": "demo", "IOVOX_SECURE_KEY": "demo-key"}
            environment = os.environ | settings
            rng = random.Random(7)
            for _ in range(kills):
                kill_after = sandbox.stats.requests + rng.randrange(3, 15)
                with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
                    while process.poll() is None and sandbox.stats.requests < kill_after:
                        await asyncio.sleep(0.005)
                    process.send_signal(signal.SIGKILL)
                ids_in_parquet(out)
            result = await asyncio.to_thread(
                subprocess.run, command, env=environment, capture_output=True, text=True
            )
            assert result.returncode == 0, result.stderr
        assert ids_in_parquet(out) == sandbox.ids()


def ids_in_parquet(out):
    files = sorted(out.glob("*=*/*.parquet"))
    return [number for file in files for number in pq.ParquetFile(file).read(["id"])["id"].to_pylist()]
