"""Backfills on an S3 server: files and Delta tables, and leases by conditional puts."""

import asyncio
import itertools
import re
import threading

import attrs
import deltalake
import pyarrow.parquet as pq
import pytest
from support.backfill import QUERY

from iovox_async import BackfillError, BackfillLockedError
from iovox_async.backfill import BackfillReport
from iovox_async.backfill._locks import LeaseLock

pytestmark = [pytest.mark.slow, pytest.mark.subprocess, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", ["parquet", "jsonl", "delta"])
async def test_runs_verify_and_changes(name, s3, job, sandbox):
    """Given a bucket, a backfill of each kind completes, continues, verifies and drops old days."""
    url, fs = s3
    out = f"{url}/calls"
    await job(attrs.evolve(QUERY, end_date="2024-01-05"), directory=out, format=name).run()
    report = await job(directory=out, format=name).run()
    assert (report.partitions, report.partitions_skipped, report.total_calls) == (5, 5, 300)
    report = await job(directory=out, format=name).verify()
    assert (report.verified, report.mismatched_partitions) == (10, ())
    if name == "delta":
        assert sorted(deltalake.DeltaTable(out).to_pyarrow_table()["id"].to_pylist()) == sorted(sandbox.ids())
    else:
        assert len(fs.glob(f"{out.removeprefix('s3://')}/date=*/part-0.*")) == 10
    report = await job(directory=out, format=name).run(drop_before=QUERY.end_date)
    assert report.total_calls == len(sandbox.ids("2024-01-10"))


#: Options of each kind of store that make its client give up at the first 503.
NO_RETRIES = {
    "parquet": {"config_kwargs": {"retries": {"max_attempts": 0}}},
    "delta": {"max_retries": "0"},
}


def days_in(out, name, fs):
    """The ids of each day in a table or a directory of files."""
    if name == "delta":
        rows = deltalake.DeltaTable(out).to_pyarrow_table().select(["id", "call_start"]).to_pylist()
    else:
        paths = fs.glob(f"{out.removeprefix('s3://')}/date=*/part-0.parquet")
        rows = [row for path in paths for row in pq.read_table(path, filesystem=fs).to_pylist()]
    days = {}
    for row in rows:
        days.setdefault(str(row["call_start"].date()), []).append(row["id"])
    return {day: sorted(ids) for day, ids in days.items()}


@pytest.mark.parametrize("name", ["parquet", "delta"])
async def test_a_short_outage_of_the_store_is_waited_out(name, s3, outage, job, sandbox):
    """Given a store that answers two requests by 503, the backfill waits, and completes."""
    url, fs = s3
    outage(after=5, requests=2)
    report = await job(directory=f"{url}/calls", format=name).run()
    assert outage(requests=0) == 2
    assert report.total_calls == 300
    found = days_in(f"{url}/calls", name, fs).values()
    assert sorted(number for ids in found for number in ids) == sorted(sandbox.ids())


@pytest.mark.parametrize("name", NO_RETRIES)
async def test_an_outage_of_the_store_at_any_request_tears_nothing(
    name, s3, outage, job, sandbox, monkeypatch
):
    """Given a store that answers 503 from the n-th request on, the error says so, days are whole, and the next run completes."""
    url, fs = s3
    monkeypatch.setattr(type(fs), "retries", 1)
    days = {
        f"2024-01-{day:02}": sorted(sandbox.ids(f"2024-01-{day:02}", f"2024-01-{day:02}"))
        for day in range(1, 11)
    }
    for after in itertools.count(0, 4):
        out = f"{url}/{after}"
        fs.invalidate_cache()
        outage(after)
        backfill = job(directory=out, format=name, storage_options=NO_RETRIES[name])
        (result,) = await asyncio.gather(backfill.run(), return_exceptions=True)
        refused = outage(requests=0)
        if not refused:
            break
        # A run whose lease cannot be removed succeeds.
        if not isinstance(result, BackfillReport):
            assert isinstance(result, BackfillError)
            assert re.search("503|Unavailable|Reduce your request rate", str(result))
        exists = name != "delta" or deltalake.DeltaTable.is_deltatable(out)
        found = days_in(out, name, fs) if exists else {}
        assert found.items() <= days.items()
        report = await job(directory=out, format=name).run()
        # Of a commit whose response was lost, the first run knows nothing.
        assert report.partitions_skipped >= backfill.progress.partitions
        assert days_in(out, name, fs) == days
    assert after > 20


@pytest.mark.parametrize("expired", [False, True], ids=["new", "expired"])
def test_one_of_several_processes_gets_a_lease(expired, s3):
    """Given many processes that acquire a new or an expired lease at the same time, one succeeds each time."""
    url, fs = s3
    for number in range(10):
        path = f"{url.removeprefix('s3://')}/{number}/lock"
        if expired:
            fs.pipe_file(path, b'{"host":"elsewhere","pid":1,"token":"old","renewed_at":0.0}')
        barrier, outcomes = threading.Barrier(4), []

        def acquire(path=path, barrier=barrier, outcomes=outcomes):
            lease = LeaseLock(fs, path)
            barrier.wait()
            try:
                lease.acquire()
                outcomes.append(lease)
            except BackfillLockedError:
                outcomes.append(None)

        threads = [threading.Thread(target=acquire) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (lease,) = [lease for lease in outcomes if lease is not None]
        lease.renew()
        lease.release()
        assert fs.find(path.rpartition("/")[0]) == []
