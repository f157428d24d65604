"""A table or directory after `kill -9` at random instants, and after two writers at once, here and on an S3 server."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import deltalake
import fsspec
import pyarrow.parquet as pq
import pytest

from iovox_async.sandbox import Sandbox

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
]
#: Few rounds with the slow tests, and many by hand.
ROUNDS = [pytest.param(4, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.soak)]
WORKER = Path(__file__).parent.parent / "support" / "delta_worker.py"


class Worker:
    """The process that forks backfills, of one format."""

    def __init__(self, process, name):
        self._process = process
        self._name = name

    async def start(self, table, processes=1):
        """Starts backfills, and returns their process ids."""
        job = {"format": self._name, "table": table, "processes": processes}
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        return json.loads(await self._process.stdout.readline())

    async def wait(self):
        """Waits until they have ended, and returns their exit codes."""
        return json.loads(await self._process.stdout.readline())


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path):
    """The location of tables, and the file system of fsspec that copies them."""
    if request.param == "local":
        yield str(tmp_path), fsspec.filesystem("file")
        return
    yield request.getfixturevalue("s3")


@contextlib.asynccontextmanager
async def backfills(store, name, monkeypatch):
    """A sandbox whose calls have changed since the table `base` was loaded, and a worker."""
    location, fs = store
    with contextlib.closing(Sandbox(calls=300, start="2024-01-01", end="2024-01-10", seed=4)) as sandbox:
        async with sandbox.serve() as url:
            monkeypatch.setenv("IOVOX_URL", url)
            monkeypatch.setenv("IOVOX_USERNAME", "demo")
            monkeypatch.setenv("IOVOX_SECURE_KEY", "demo-key")
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(WORKER), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            worker = Worker(process, name)
            try:
                new = sandbox.ids("2024-01-07", "2024-01-10")
                later = [row for row in sandbox.rows() if row["id"] in new]
                sandbox.remove(new)
                await worker.start(f"{location}/base")
                assert await worker.wait() == [0]
                sandbox.add(later)
                ids = sandbox.ids()
                sandbox.remove(ids[::10])
                for number in ids[1::10]:
                    sandbox.update(number, call_result="BUSY")
                yield (
                    sandbox,
                    worker,
                    lambda table: fs.copy(
                        f"{location}/base".removeprefix("s3://"),
                        f"{location}/{table}".removeprefix("s3://"),
                        recursive=True,
                    ),
                )
            finally:
                process.stdin.close()
                await process.wait()


def check(table, name, fs, sandbox):
    """Asserts that the table or directory holds exactly the calls of the sandbox."""
    if name == "delta":
        rows = deltalake.DeltaTable(table).to_pyarrow_table().select(["id", "call_result"]).to_pylist()
    else:
        fs.invalidate_cache()
        paths = fs.glob(f"{table.removeprefix('s3://')}/date=*/*")
        rows = [row for path in paths for row in pq.read_table(path, filesystem=fs).to_pylist()]
    assert sorted((row["id"], row["call_result"]) for row in rows) == sorted(
        (row["id"], row["call_result"]) for row in sandbox.rows()
    )


@pytest.mark.parametrize("name", ["delta", "parquet"])
@pytest.mark.parametrize("rounds", ROUNDS)
async def test_a_killed_backfill_is_completed_by_the_next(rounds, name, store, monkeypatch):
    """Given `kill -9` at random instants, the next run ends with the table of an undisturbed one."""
    rng = random.Random(17)
    killed = 0
    async with backfills(store, name, monkeypatch) as (sandbox, worker, copy):
        copy("undisturbed")
        begun = time.monotonic()
        await worker.start(f"{store[0]}/undisturbed")
        assert await worker.wait() == [0]
        duration = time.monotonic() - begun
        check(f"{store[0]}/undisturbed", name, store[1], sandbox)
        for number in itertools.count():
            if killed == rounds:
                break
            assert number < 10 * rounds
            table = f"{store[0]}/{number}"
            # Half of the tables are new, so that their creation is hit, too.
            if number % 2:
                copy(str(number))
            (child,) = await worker.start(table)
            # A run that ended before is no round.
            await asyncio.sleep(rng.random() * duration)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            (code,) = await worker.wait()
            killed += code == -signal.SIGKILL
            begun = time.monotonic()
            await worker.start(table)
            assert await worker.wait() == [0]
            duration = time.monotonic() - begun
            check(table, name, store[1], sandbox)


@pytest.mark.parametrize("name", ["delta", "parquet"])
@pytest.mark.parametrize("rounds", ROUNDS)
async def test_two_writers_at_once_lose_and_double_nothing(rounds, name, store, monkeypatch):
    """Given two backfills into a table at the same time, one of them may stop; at the end the table is right."""
    refused = 0
    async with backfills(store, name, monkeypatch) as (sandbox, worker, copy):
        for number in range(rounds):
            table = f"{store[0]}/{number}"
            if number % 2:
                copy(str(number))
            await worker.start(table, processes=2)
            codes = await worker.wait()
            assert sorted(codes) in ([0, 0], [0, 1])
            refused += sum(codes)
            check(table, name, store[1], sandbox)
    assert refused > 0
