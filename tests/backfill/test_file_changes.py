"""What a run inserts, updates and deletes in a directory of files, by partition."""

import json
from datetime import datetime

import attrs
import pyarrow as pa
import pytest
from support.backfill import QUERY

from iovox_async import Fields
from iovox_async.backfill import PartitionChanges
from iovox_async.backfill._changes import compare_tables

NOON = datetime(2024, 1, 10, 12)
OPEN_DAY = "2024-01-10"


@pytest.mark.usefixtures("own_sandbox")
class TestChanges:
    @pytest.mark.parametrize(
        ("name", "partition", "block"),
        [
            ("parquet", "day", 100_000),
            ("parquet", "month", 60),
            pytest.param("jsonl", "day", 100_000, marks=pytest.mark.slow),
            pytest.param("jsonl.zst", "month", 100_000, marks=pytest.mark.slow),
            ("csv", "day", 100_000),
        ],
    )
    async def test_changes_are_counted_by_partition(
        self, name, partition, block, job, sandbox, out, monkeypatch
    ):
        """Given calls inserted, updated, moved within a partition and deleted, the report counts them and names the deleted."""
        monkeypatch.setattr("iovox_async.backfill._file_changes._BLOCK_ROWS", block)
        query = attrs.evolve(QUERY, fields=Fields.ALL)
        options = {"format": name, "partition": partition, "now": NOON}
        first = await job(query, **options).run()
        assert (first.inserted, first.updated, first.deleted) == (first.calls, 0, 0)
        part = OPEN_DAY if partition == "day" else OPEN_DAY[:7]
        deleted, updated, moved, *_ = sandbox.ids(OPEN_DAY, f"{OPEN_DAY} 12:00:00")
        sandbox.remove([deleted])
        sandbox.update(updated, call_result="BUSY")
        sandbox.update(moved, call_start=f"{OPEN_DAY} 11:59:59")
        sandbox.add([{"call_start": f"{OPEN_DAY} 09:00:00"}])
        report = await job(query, **options).run()
        assert report.changes == (PartitionChanges(part, 1, 2, (deleted,)),)
        assert (report.inserted, report.updated, report.deleted) == (1, 2, 1)
        stored = json.loads((out / "_iovox/report.json").read_text())
        changes = {"partition": part, "inserted": 1, "updated": 2, "deleted_ids": [deleted]}
        assert stored["changes"] == [changes]
        assert (await job(query, **options).run()).changes == (PartitionChanges(part),)

    @pytest.mark.parametrize("name", ["parquet", pytest.param("csv", marks=pytest.mark.slow)])
    async def test_a_partition_that_loses_all_calls(self, name, job, sandbox, out):
        """Given an open day whose calls are all deleted, their ids are reported and the file is removed."""
        await job(format=name, now=NOON).run()
        ids = sandbox.ids(OPEN_DAY, OPEN_DAY)
        sandbox.remove(ids)
        before_noon = (await job(format=name, now=NOON).run()).changes[0].deleted_ids
        assert set(before_noon) < set(ids)
        assert not list(out.glob(f"date={OPEN_DAY}/*"))

    async def test_an_unreadable_file_counts_as_empty(self, job, out):
        """Given a damaged file of an open day, all of its calls count as inserted, and the run repairs it."""
        first = await job(format="parquet", now=NOON).run()
        (path,) = out.glob(f"date={OPEN_DAY}/*")
        path.write_bytes(b"")
        report = await job(format="parquet", now=NOON).run()
        assert report.inserted == first.changes[-1].inserted > 0
        assert (await job(format="parquet", now=NOON).run()).inserted == 0

    @pytest.mark.parametrize("zone", ["Europe/London", pytest.param("UTC", marks=pytest.mark.slow)])
    async def test_an_object_store_and_a_time_zone(self, zone, sandbox, open_session, tmp_path):
        """Given aware times in a store of fsspec, changes are counted, too."""
        import httpx

        from iovox_async.backfill import Backfill

        async with open_session(transport=httpx.ASGITransport(sandbox.app), timezone=zone) as insights:
            backfill = Backfill(insights, QUERY, f"file://{tmp_path}/out", finality_delay=1e10)
            await backfill.run()
            sandbox.remove(sandbox.ids()[:1])
            assert (await backfill.run()).deleted == 1


def test_tables_are_compared_by_id_in_their_common_columns():
    """Given tables in other orders and with other columns, rows are matched by id, and nested values are compared."""
    tags = pa.list_(pa.struct([("text", pa.string())]))
    schema = pa.schema([("id", pa.int64()), ("tags", tags)])
    old = pa.Table.from_pylist(
        [{"id": 1, "tags": [{"text": "a"}]}, {"id": 2, "tags": []}, {"id": 3, "tags": None}], schema
    ).append_column("gone", [[1, 2, 3]])
    new = pa.Table.from_pylist(
        [{"id": 4, "tags": []}, {"id": 2, "tags": []}, {"id": 1, "tags": [{"text": "b"}]}], schema
    ).append_column("new", [[1, 2, 3]])
    changes = compare_tables(old, new)
    assert changes.inserted.tolist() == [0]
    assert changes.updated.tolist() == [2]
    assert changes.deleted_ids.tolist() == [3]
    same = compare_tables(new, new)
    assert (len(same.inserted), len(same.updated), len(same.deleted_ids)) == (0, 0, 0)
