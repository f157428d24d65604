"""Backfills on an S3 server: files and Delta tables, and leases by conditional puts."""

import threading

import attrs
import deltalake
import pytest
from support.backfill import QUERY

from iovox_async import BackfillLockedError
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
