"""Running a backfill for years: retention, refresh, several accounts, changed fields and filters, a deleted day."""

from datetime import date, datetime

import attrs
import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest
from support.backfill import QUERY, ids_in

from iovox_async import BackfillMismatchError, ManifestCorruptedError


class TestDropBefore:
    @pytest.mark.parametrize("partition", ["day", pytest.param("month", marks=pytest.mark.slow)])
    async def test_old_partitions_are_removed_and_stay_away(self, partition, job, sandbox, out):
        """Given drop_before, partitions that ended before it are removed; no later run, repair or verify brings them back."""
        options = {"partition": partition}
        await job(**options).run()
        report = await job(**options).run(drop_before=date(2024, 1, 4))
        kept = sandbox.ids("2024-01-04" if partition == "day" else "2024-01-01")
        assert (report.partitions, report.total_calls) == (0, len(kept))
        assert ids_in(out) == kept
        assert (await job(**options).run()).requests == 0
        assert (await job(**options).run(repair=True)).requests == 0
        assert (await job(**options).verify()).mismatched_partitions == ()
        assert (await job(**options).run(refresh=True)).partitions == (7 if partition == "day" else 1)
        assert ids_in(out) == kept

    async def test_what_would_be_dropped_is_not_downloaded(self, job, sandbox, out):
        """Given a new directory and drop_before, the days before are not read."""
        report = await job().run(drop_before=datetime(2024, 1, 9))
        assert report.partitions == 2
        assert (await job().run()).requests == 0
        assert ids_in(out) == sandbox.ids("2024-01-09")

    async def test_partition_that_was_read_in_part_is_dropped_as_a_whole(self, job, sandbox, out):
        """Given a month of which the first days were read, drop_before within it keeps it, and after it drops it for good."""
        first = job(attrs.evolve(QUERY, end_date="2024-01-03 12:00"), partition="month")
        await first.run(drop_before=date(2024, 1, 20))
        assert ids_in(out) == sandbox.ids(end="2024-01-03 12:00")
        await first.run(drop_before=date(2024, 2, 1))
        assert (await job(partition="month").run()).requests == 0
        assert ids_in(out) == []

    @pytest.mark.slow
    async def test_everything_may_be_dropped(self, job, out):
        """Given drop_before after the range, the directory is empty, which is no damage."""
        await job().run()
        await job().run(drop_before=date(2025, 1, 1))
        assert ids_in(out) == []
        assert (await job().run()).requests == 0


@pytest.mark.usefixtures("own_sandbox")
async def test_refresh_reads_final_partitions_of_the_range_again(job, sandbox, out):
    """Given a call that a final day lost, refresh of that day counts and removes it, and leaves other days alone."""
    await job().run()
    sandbox.remove([sandbox.ids("2024-01-03")[0], sandbox.ids("2024-01-07")[0]])
    query = attrs.evolve(QUERY, start_date="2024-01-03", end_date="2024-01-03")
    report = await job(query).run(refresh=True)
    assert (report.partitions, report.deleted) == (1, 1)
    assert (await job().run(refresh=True)).deleted == 1
    assert ids_in(out) == sandbox.ids()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": "id,call_start,direction"}, r"fields \(only stored.*only requested: direction"),
        ({"call_result": "ANSWERED"}, "filter only requested: call_result"),
    ],
    ids=["fields", "filter"],
)
async def test_files_of_other_fields_or_filters_are_refused_by_name(change, message, job):
    """Given a directory of files, other fields or another filter raise an error that says what differs."""
    await job().run()
    with pytest.raises(BackfillMismatchError, match=message):
        await job(attrs.evolve(QUERY, **change)).run()


async def test_a_day_deleted_by_hand_is_read_again_by_a_repair(job, sandbox, out):
    """Given the file of one day deleted, a run raises, and a repair downloads this day only."""
    await job().run()
    (out / "date=2024-01-05/part-0.jsonl").unlink()
    with pytest.raises(ManifestCorruptedError, match=r"date=2024-01-05.*missing"):
        await job().run()
    assert (await job().run(repair=True)).partitions == 1
    assert ids_in(out) == sandbox.ids()


async def test_several_accounts_are_one_table_with_an_account_column(job, sandbox, tmp_path):
    """Given directories `account=uk` and `account=fr` side by side, readers of their parent find a column `account`."""
    for account in ("uk", "fr"):
        await job(directory=tmp_path / f"account={account}", format="parquet").run()
    paths = f"{tmp_path}/**/*.parquet"
    counts = {
        "pandas": pd.read_parquet(tmp_path).groupby("account", observed=True).size().to_dict(),
        "pyarrow": ds.dataset(tmp_path, partitioning="hive")
        .to_table()
        .to_pandas()
        .groupby("account")
        .size()
        .to_dict(),
        "polars": dict(
            pl.scan_parquet(paths, hive_partitioning=True).group_by("account").len().collect().iter_rows()
        ),
        "duckdb": dict(duckdb.sql(f"select account, count(*) from '{paths}' group by account").fetchall()),
    }
    assert all(found == {"uk": 300, "fr": 300} for found in counts.values()), counts
