"""A backfill into a Delta table: commits, merges, state, changes, and what is refused."""

import asyncio
import contextlib
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import attrs
import deltalake
import duckdb
import httpx
import polars as pl
import pyarrow as pa
import pytest
from support.backfill import QUERY
from support.rewriting import RewritingTransport

from iovox_async import (
    BackfillError,
    BackfillLockedError,
    BackfillMismatchError,
    ConfigurationError,
    Fields,
    InsightsQuery,
)
from iovox_async.arrow import schema_for
from iovox_async.backfill import Backfill, PartitionChanges, read_changes
from iovox_async.backfill._delta_files import DeltaFiles
from iovox_async.backfill._delta_table import DeltaCalls

#: Noon of the last day of the sandbox's calls: nine days are final, and one is open.
NOON = datetime(2024, 1, 10, 12)
OPEN_DAY = "2024-01-10"


@pytest.fixture
def delta(job):
    """Returns a function that makes a backfill of the ten days into a Delta table, at noon of the last one."""
    return lambda query=QUERY, **options: job(query, **{"format": "delta", "now": NOON, **options})


def ids_in_table(out):
    return sorted(deltalake.DeltaTable(out).to_pyarrow_table()["id"].to_pylist())


def ids_until_noon(sandbox):
    return sorted(sandbox.ids("2024-01-01", "2024-01-10 12:00:00"))


def latest_version(out):
    return deltalake.DeltaTable(out).version()


class TestCommits:
    async def test_the_first_load_is_one_commit_of_all_days(self, delta, sandbox, out, monkeypatch):
        """Given a new table, ten days are one commit after that of the creation, partitioned by date, with a change feed."""
        lookups, transaction = [], DeltaCalls.transaction
        monkeypatch.setattr(
            DeltaCalls, "transaction", lambda table, name: lookups.append(name) or transaction(table, name)
        )
        report = await delta().run()
        # Each reads the log, so their number does not depend on that of the days.
        assert len(lookups) <= 4
        assert report.folder == str(out)
        table = deltalake.DeltaTable(out)
        assert ids_in_table(out) == ids_until_noon(sandbox)
        assert (report.partitions, report.open_partitions) == (10, (OPEN_DAY,))
        assert report.inserted == report.calls == report.total_calls == table.count()
        assert [entry["operation"] for entry in table.history()] == ["WRITE", "CREATE TABLE"]
        assert table.metadata().partition_columns == ["date"]
        assert table.metadata().configuration["delta.enableChangeDataFeed"] == "true"
        assert all(
            row["date"] == row["call_start"].date()
            for row in table.to_pyarrow_table().select(["date", "call_start"]).to_pylist()
        )

    async def test_nothing_is_committed_where_nothing_changed(self, delta, out):
        """Given a loaded table, a second run reads the open day only, and commits nothing."""
        await delta().run()
        before = latest_version(out)
        report = await delta().run()
        assert (report.partitions, report.partitions_skipped, latest_version(out)) == (1, 9, before)
        assert (report.inserted, report.updated, report.deleted) == (0, 0, 0)

    @pytest.mark.usefixtures("own_sandbox")
    async def test_an_open_day_is_merged(self, delta, sandbox, out):
        """Given a call deleted, one changed and one new, the change feed and the report list exactly these."""
        query = attrs.evolve(QUERY, fields=Fields.ALL)
        await delta(query).run()
        deleted, updated, *_ = sandbox.ids(OPEN_DAY, f"{OPEN_DAY} 12:00:00")
        sandbox.remove([deleted])
        sandbox.update(updated, call_result="BUSY")
        (inserted,) = sandbox.add([{"call_start": f"{OPEN_DAY} 09:00:00"}])
        report = await delta(query).run()
        assert report.changes == (PartitionChanges(OPEN_DAY, 1, 1, (deleted,)),)
        assert (report.inserted, report.updated, report.deleted) == (1, 1, 1)
        rows = pa.table(read_changes(out, latest_version(out)))
        read_back = set(zip(rows["id"].to_pylist(), rows["_change_type"].to_pylist(), strict=True))
        assert read_back == {
            (deleted, "delete"),
            (updated, "update_preimage"),
            (updated, "update_postimage"),
            (inserted, "insert"),
        }
        assert ids_in_table(out) == ids_until_noon(sandbox)

    @pytest.mark.usefixtures("own_sandbox")
    async def test_a_day_becomes_final_without_its_calls_being_written_again(self, delta, sandbox, out):
        """Given an open day whose calls are complete, when it has become final, then only its state is committed."""
        await delta(now=datetime(2024, 1, 11)).run()
        files = deltalake.DeltaTable(out).file_uris()
        report = await delta(now=datetime(2024, 6, 1)).run()
        assert (report.partitions, report.inserted, report.updated) == (1, 0, 0)
        assert deltalake.DeltaTable(out).file_uris() == files
        assert (await delta(now=datetime(2024, 6, 1)).run()).requests == 0

    async def test_a_partial_day_keeps_what_was_not_read(self, delta, sandbox, out):
        """Given a table, a run that begins at ten o'clock of the open day leaves the earlier calls of that day alone."""
        await delta().run()
        later = attrs.evolve(QUERY, start_date=f"{OPEN_DAY} 10:00:00")
        report = await delta(later).run()
        assert (report.inserted, report.updated, report.deleted) == (0, 0, 0)
        assert ids_in_table(out) == ids_until_noon(sandbox)

    async def test_an_earlier_start_loads_what_is_missing(self, delta, sandbox, out):
        """Given a table that begins within a day, an earlier start adds the calls before, and later runs need no start."""
        await delta(attrs.evolve(QUERY, start_date="2024-01-05 12:00:00")).run()
        assert ids_in_table(out) == sorted(sandbox.ids("2024-01-05 12:00:00", f"{OPEN_DAY} 12:00:00"))
        await delta().run()
        assert ids_in_table(out) == ids_until_noon(sandbox)
        report = await delta(InsightsQuery(end_date="2024-01-10")).run()
        assert report.partitions_skipped == 9

    @pytest.mark.slow
    async def test_days_read_in_part_are_read_again(self, delta, sandbox, out):
        """Given runs that begin within days in any order, a run of the whole range adds what they left out."""
        for start, end in [("08", "08"), ("05", "06"), ("03", "03"), ("07", "07")]:
            query = InsightsQuery(start_date=f"2024-01-{start} 12:00:00", end_date=f"2024-01-{end}")
            await delta(query).run()
        await delta().run()
        assert ids_in_table(out) == ids_until_noon(sandbox)
        assert (await delta().verify()).mismatched_partitions == ()
        assert (await delta().run()).partitions == 1

    @pytest.mark.slow
    async def test_large_loads_are_committed_by_number_of_calls(self, delta, sandbox, out, monkeypatch):
        """Given a limit of a hundred calls a commit, a load has several commits, and ends with all calls."""
        monkeypatch.setattr("iovox_async.backfill._delta.COMMIT_CALLS", 100)
        await delta().run()
        assert latest_version(out) == 3
        assert ids_in_table(out) == ids_until_noon(sandbox)


class TestState:
    @pytest.mark.slow
    async def test_a_second_writer_is_refused(self, delta, sandbox, out, monkeypatch):
        """Given two backfills at the same time, one raises, and no call is lost or doubled."""
        monkeypatch.setattr("iovox_async.backfill._delta.COMMIT_CALLS", 1)
        results = await asyncio.gather(delta().run(), delta().run(), return_exceptions=True)
        errors = [error for error in results if isinstance(error, Exception)]
        assert [type(error) for error in errors] in ([], [BackfillLockedError])
        await delta().run()
        assert ids_in_table(out) == ids_until_noon(sandbox)

    async def test_other_programs_may_change_the_table(self, delta, sandbox, out, monkeypatch):
        """Given a compaction between loading and merging, the merge is tried again."""
        await delta().run()
        day = sandbox.ids(OPEN_DAY, f"{OPEN_DAY} 12:00:00")
        deltalake.DeltaTable(out).delete(f"id = {day[0]}")
        merge = DeltaCalls.merge
        calls = []

        def merge_after_another(self, rows, transactions):
            if not calls:
                deltalake.DeltaTable(out).delete(f"id = {day[1]}")
            calls.append(transactions)
            merge(self, rows, transactions)

        monkeypatch.setattr(DeltaCalls, "merge", merge_after_another)
        report = await delta().run()
        assert (len(calls), report.inserted) == (2, 2)
        assert ids_in_table(out) == ids_until_noon(sandbox)

    async def test_the_log_is_read_once_for_all_transactions(self, delta, out):
        """Given commits before and after a checkpoint, the numbers read at once are those looked up one by one."""
        await delta().run()
        deltalake.DeltaTable(out).create_checkpoint()
        await delta(now=datetime(2024, 6, 1)).run()
        calls = DeltaCalls(str(out))
        assert calls.load()
        numbers = calls.transactions().__self__
        assert len(numbers) == 2 + 10 * 10
        assert numbers == {name: calls.transaction(name) for name in numbers}
        assert calls.transactions()("iovox_async/2024-02-01/calls") is None

    @pytest.mark.slow
    async def test_a_log_of_another_form_is_looked_up(self, delta, out):
        """Given a checkpoint of a form that is not known, final days and certificates are found all the same."""
        await delta().run()
        deltalake.DeltaTable(out).create_checkpoint()
        path = out / "_delta_log" / "_last_checkpoint"
        path.write_text(path.read_text().replace('"version":', '"v":'))
        calls = DeltaCalls(str(out))
        assert calls.load()
        assert calls.transactions() == calls.transaction
        report = await delta().verify()
        assert (report.verified, report.mismatched_partitions) == (9, ())

    async def test_another_filter_is_refused_by_name(self, delta):
        """Given a table, another filter raises an error that names it."""
        await delta().run()
        with pytest.raises(BackfillMismatchError, match="filter only requested: call_result"):
            await delta(attrs.evolve(QUERY, call_result="ANSWERED")).run()

    async def test_formats_do_not_share_a_directory(self, delta, job, tmp_path):
        """Given a Delta table, a directory of files, and a table of somebody else, each other kind is refused."""
        table, files, other = tmp_path / "table", tmp_path / "files", tmp_path / "other"
        await delta(directory=table).run()
        await job(directory=files).run()
        deltalake.write_deltalake(other, pa.table({"id": [1]}))
        with pytest.raises(BackfillMismatchError, match="is a Delta table"):
            await job(directory=table).run()
        with pytest.raises(BackfillMismatchError, match="differs in format"):
            await delta(directory=files).run()
        with pytest.raises(BackfillMismatchError, match="no backfill has written"):
            await delta(directory=other).run()

    async def test_months_are_refused(self, delta):
        """Given partition="month", the error says that a Delta table has days."""
        with pytest.raises(ConfigurationError, match='partition must be "day"'):
            delta(partition="month")

    async def test_new_fields_are_null_until_a_refresh(self, delta, sandbox, out):
        """Given another field, open days have it at once, and final days after a refresh; a removed field stays."""
        await delta(attrs.evolve(QUERY, fields="id,call_start,call_result")).run()
        query = attrs.evolve(QUERY, fields="id,call_start,direction")
        await delta(query).run()
        final = pl.read_delta(out).filter(pl.col("date") < date(2024, 1, 10))
        today = pl.read_delta(out).filter(pl.col("date") == date(2024, 1, 10))
        assert final["direction"].null_count() == final.height
        assert today["direction"].null_count() == 0
        report = await delta(query).run(refresh=True)
        assert (report.partitions, report.updated, report.inserted) == (10, final.height, 0)
        calls = {row["id"]: row for row in sandbox.rows()}
        for row in pl.read_delta(out).to_dicts():
            assert row["direction"] == calls[row["id"]]["direction"]
            assert row["call_result"] == calls[row["id"]]["call_result"]

    async def test_dropped_days_are_deleted_and_stay_away(self, delta, sandbox, out):
        """Given drop_before, the days before it leave the table; later runs and verifications do not bring them back."""
        await delta().run(drop_before=date(2024, 1, 4))
        kept = sorted(sandbox.ids("2024-01-04", f"{OPEN_DAY} 12:00:00"))
        assert ids_in_table(out) == kept
        assert (await delta().run()).partitions == 1
        assert (await delta().run(refresh=True)).partitions == 7
        assert (await delta().verify()).verified == 6
        assert ids_in_table(out) == kept

    async def test_days_dropped_before_there_is_a_table_stay_away(self, delta, out):
        """Given a new table and drop_before after the range, then no later run reads the range."""
        await delta().run(drop_before=date(2025, 1, 1))
        assert (await delta().run()).requests == 0
        assert ids_in_table(out) == []

    def test_days_written_at_a_time_are_staged_in_one_folder(self, out, monkeypatch):
        """Given two threads that stage their first files at the same time, both files are in the folder that is kept."""
        both_are_here = threading.Barrier(2)

        class SlowDirectory(tempfile.TemporaryDirectory):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                with contextlib.suppress(threading.BrokenBarrierError):
                    both_are_here.wait(0.2)  # the second one never comes

        monkeypatch.setattr(tempfile, "TemporaryDirectory", SlowDirectory)
        files = DeltaFiles(DeltaCalls(str(out), {}))
        files.days = {"2024-01-01", "2024-01-02"}
        with ThreadPoolExecutor(2) as threads:
            paths = [f"date={day}/part-0.parquet" for day in sorted(files.days)]
            first, second = threads.map(files.create, paths)
        assert first.local_path.parent == second.local_path.parent
        assert first.local_path.parent.is_dir()
        first.discard()
        second.discard()
        files.close()


class TestVerify:
    @pytest.mark.usefixtures("own_sandbox")
    async def test_certificates_are_compared_with_endpoint_and_table(self, delta, sandbox, out):
        """Given a late call, a row deleted from the table and a missing file, verify says which day, and converges."""
        await delta().run()
        ids = {day: sandbox.ids(f"2024-01-{day:02}", f"2024-01-{day:02}") for day in range(1, 11)}
        sandbox.add([{"call_start": "2024-01-02 10:00:00"}])
        deltalake.DeltaTable(out).delete(f"id = {ids[3][0]}")
        (uri,) = [uri for uri in deltalake.DeltaTable(out).file_uris() if "2024-01-05" in uri]
        Path(uri).unlink()
        report = await delta().verify()
        first = report.certificates[0]
        assert (first.calls, first.first_id, first.last_id) == (len(ids[1]), min(ids[1]), max(ids[1]))
        assert first.version == version("iovox-async")
        assert timedelta(0) <= datetime.now(UTC) - first.read_at < timedelta(minutes=5)
        assert {one.partition[-2:]: one.problem for one in report.certificates if one.problem} == {
            "02": f"the endpoint has {len(ids[2]) + 1} calls, {len(ids[2])} were read",
            "03": f"the file holds {len(ids[3]) - 1} calls, {len(ids[3])} were read",
            "05": f"the file holds 0 calls, {len(ids[5])} were read",
        }
        assert (await delta().verify()).mismatched_partitions == ()
        assert ids_in_table(out) == ids_until_noon(sandbox)

    @pytest.mark.slow
    async def test_repair_reads_days_again_that_lost_calls(self, delta, sandbox, out):
        """Given a row deleted from a final day of the table, repair=True brings it back."""
        await delta().run()
        deltalake.DeltaTable(out).delete(f"id = {sandbox.ids()[0]}")
        report = await delta().run(repair=True)
        assert (report.partitions, report.inserted) == (2, 1)
        assert ids_in_table(out) == ids_until_noon(sandbox)

    @pytest.mark.slow
    async def test_skipped_records_count_by_their_ids(self, sandbox, open_session, out):
        """Given records that cannot be read and on_error="skip", verify finds no difference."""

        def spoil(row):
            return row | ({"talk_time": "soon"} if row["id"] % 7 == 0 and "talk_time" in row else {})

        transport = RewritingTransport(sandbox.app, spoil)
        async with open_session(transport=transport, page_size=60) as insights:
            for _ in range(2):
                backfill = Backfill._for_test(
                    insights, QUERY, out, "delta", on_error="skip", local_now=lambda: NOON
                )
                report = await backfill.run()
                assert report.skipped > 0
                assert (await backfill.verify()).mismatched_partitions == ()


class TestReaders:
    @pytest.mark.parametrize("zone", [pytest.param(None, marks=pytest.mark.slow), "Asia/Kolkata"])
    async def test_polars_pandas_and_duckdb_read_the_table(self, zone, sandbox, open_session, out):
        """Given an account with or without a time zone, readers find all calls, days by local time, and right instants."""
        async with open_session(transport=httpx.ASGITransport(sandbox.app), timezone=zone) as insights:
            query = attrs.evolve(QUERY, fields=Fields.ALL)
            await Backfill(insights, query, out, "delta").run()
            calls = {call.id: call async for call in insights.stream("2024-01-01", "2024-01-10")}
        table = deltalake.DeltaTable(out)
        dataset = table.to_pyarrow_dataset()
        rows = {
            "polars": pl.read_delta(out).select("id", "call_start", "date").rows(),
            "pandas": table.to_pandas()[["id", "call_start", "date"]].itertuples(index=False),
            "duckdb": duckdb.sql("select id, call_start, date from dataset").pl().rows(),
        }
        for reader_rows in rows.values():
            read_back = {row[0]: row[1:] for row in reader_rows}
            assert read_back.keys() == calls.keys()
            for number, (start, day) in read_back.items():
                assert start == calls[number].call_start
                assert str(day)[:10] == str(calls[number].call_start.date())
        zone_name = None if zone is None else "UTC"
        assert (
            dataset.schema.field("call_start").type == schema_for(timezone=zone_name).field("call_start").type
        )


class TestChanges:
    async def test_changes_since_a_time(self, delta, sandbox, out):
        """Given a table, changes since yesterday are its calls, since tomorrow none; a naive time is UTC."""
        await delta().run()
        now = datetime.now(UTC)
        for since in (None, now - timedelta(days=1), (now - timedelta(days=1)).replace(tzinfo=None), 1):
            assert pa.table(read_changes(out, since)).num_rows == len(ids_until_noon(sandbox))
        assert pa.table(read_changes(out, now + timedelta(days=1))).num_rows == 0

    async def test_changes_of_anything_else_are_refused(self, job, out):
        """Given a directory of files, or a since of another type, the error says what is needed."""
        await job().run()
        with pytest.raises(BackfillError, match="is no Delta table"):
            read_changes(out)

    async def test_backfill_changes_yields_batches(self, delta, sandbox, out):
        """Given a backfill, `changes` yields the same batches as `read_changes`."""
        backfill = delta()
        await backfill.run()
        rows = [row async for batch in backfill.changes() for row in batch.to_pylist()]
        assert sorted(row["id"] for row in rows) == ids_until_noon(sandbox)
        with pytest.raises(ConfigurationError, match="since must be"):
            [batch async for batch in backfill.changes("yesterday")]
