"""Delta tables in stores that speak the protocols of Azure and of Google: what they create by conditional puts."""

import asyncio

import deltalake
import obstore
import pytest

from iovox_async import BackfillLockedError
from iovox_async.backfill._delta_files import _open_store
from iovox_async.backfill._delta_table import DeltaCalls

pytestmark = [pytest.mark.slow, pytest.mark.subprocess, pytest.mark.timeout(300)]


def ids_in(url, options):
    return sorted(deltalake.DeltaTable(url, storage_options=options).to_pyarrow_table()["id"].to_pylist())


async def test_runs_refresh_verify_and_changes(blobs, job, sandbox):
    """Given a store, a table is loaded, read again, verified, and loses old days."""
    url, options = blobs
    backfill = job(directory=url, format="delta", storage_options=options)
    assert (await backfill.run()).total_calls == 300
    assert ids_in(url, options) == sorted(sandbox.ids())
    report = await backfill.run(refresh=True)
    assert (report.partitions, report.inserted, report.updated, report.deleted) == (10, 0, 0, 0)
    report = await backfill.verify()
    assert (report.verified, report.mismatched_partitions) == (10, ())
    await backfill.run(drop_before=backfill._query.end_date)
    assert ids_in(url, options) == sorted(sandbox.ids("2024-01-10"))


async def test_of_several_writers_one_commits(blobs, job, sandbox):
    """Given three backfills into a table at the same time, the store refuses commits of the same version; no day is doubled."""
    url, options = blobs
    refused = 0
    for number in range(5):
        table = f"{url}/{number}"
        backfills = [job(directory=table, format="delta", storage_options=options) for _ in range(3)]
        results = await asyncio.gather(*(backfill.run() for backfill in backfills), return_exceptions=True)
        errors = [result for result in results if isinstance(result, Exception)]
        assert {type(error) for error in errors} <= {BackfillLockedError}
        refused += len(errors)
        assert len(errors) < 3
        assert ids_in(table, options) == sorted(sandbox.ids())
        # Those that were refused have removed their files.
        calls = DeltaCalls(table, options)
        assert calls.load()
        store = _open_store(table, calls.options)
        files = [file["path"] for page in obstore.list(store) for file in page]
        assert len([path for path in files if path.endswith(".parquet")]) == len(calls.rows_by_day())
    assert refused > 0
