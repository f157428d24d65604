"""`Backfill`: what is missing is read, what is there is kept, and what is wrong is named."""

import contextlib
import csv
import itertools
import json
import re
from datetime import date, datetime, timedelta
from urllib.parse import parse_qsl

import anyio
import attrs
import duckdb
import fsspec
import httpx
import pandas as pd
import polars as pl
import pytest

from iovox_async import (
    BackfillError,
    BackfillLockedError,
    BackfillMismatchError,
    ConfigurationError,
    Fields,
    InsightsQuery,
    ManifestCorruptedError,
    QueryError,
    ServerError,
)
from iovox_async.backfill import Backfill
from iovox_async.backfill._job import Job, PartitionRange, needs, parts, stretches
from iovox_async.backfill._locks import FolderLock
from iovox_async.backfill._manifest import Manifest, ManifestEntry
from iovox_async.sandbox import Faults, Sandbox

LATER = datetime(2024, 6, 1)
QUERY = InsightsQuery(start_date="2024-01-01", end_date="2024-01-10")


def new_box():
    return Sandbox(calls=300, start="2024-01-01", end="2024-01-10", seed=4)


@pytest.fixture(scope="module")
def standing():
    """300 calls in ten days, for all tests that do not change them."""
    with contextlib.closing(new_box()) as sandbox:
        yield sandbox


@pytest.fixture
def box(request, standing):
    """The calls of a test; its own where it is marked to change them."""
    if request.node.get_closest_marker("usefixtures") is None:
        standing.faults = Faults()
        standing.reset_stats()
        yield standing
    else:
        with contextlib.closing(new_box()) as sandbox:
            yield sandbox


@pytest.fixture
def moving():
    """Marks a test that changes the calls."""


@pytest.fixture
async def insights(box, open_session):
    """A session with the sandbox, in this process."""
    async with open_session(transport=httpx.ASGITransport(box.app), page_size=60) as session:
        yield session


@pytest.fixture
def job(insights, tmp_path):
    """Makes backfills of the ten days into one folder."""

    def make(query=QUERY, *, now=LATER, directory=tmp_path / "out", **options):
        return Backfill(insights, query, directory, **{"format": "jsonl", "clock": lambda: now, **options})

    return make


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def ids_in(folder):
    """The ids in all files below a folder, as a reader of the table finds them."""
    files = sorted((folder / "calls").glob("*/*.jsonl"))
    return [json.loads(line)["id"] for file in files for line in file.read_text().splitlines()]


def asked_of(request):
    """The first and the last second that a request of the sandbox's log asked for."""
    asked = dict(parse_qsl(request.query))
    return datetime.fromisoformat(asked["start_date"]), datetime.fromisoformat(asked["end_date"])


class TestRuns:
    @pytest.mark.fault(67)
    async def test_a_range_becomes_one_file_a_day(self, job, box, out):
        """In the layout that readers of tables know, with a report in the folder."""
        report = await job().run()
        assert sorted(path.name for path in (out / "calls").iterdir()) == [
            f"date=2024-01-{day:02}" for day in range(1, 11)
        ]
        assert ids_in(out) == box.ids()
        assert (report.partitions, report.calls, report.total_calls, report.open_partitions) == (
            10,
            300,
            300,
            (),
        )
        assert json.loads((out / "report.json").read_text()) == report.to_dict()
        assert report.requests == box.stats.requests <= 10

    @pytest.mark.parametrize(
        ("start", "partition"), [("2024-01-05 18:00", "day"), ("2024-01-20", "month"), ("2024-03-01", "day")]
    )
    async def test_a_range_that_has_not_begun_yet_is_nothing_to_read(self, job, box, start, partition):
        """Also where the day or month of its start has: nothing is asked for, and the next run goes on from there."""
        query = InsightsQuery(start_date=start, end_date="2024-05-01")
        report = await job(query, partition=partition, now=datetime(2024, 1, 5, 12)).run()
        assert (report.partitions, report.requests, box.stats.requests) == (0, 0, 0)

    async def test_a_finished_job_run_again_sends_nothing(self, job, box, out):
        """And changes nothing; twice is once."""
        await job().run()
        before = (out / "manifest.jsonl").read_bytes()
        box.reset_stats()
        report = await job().run()
        assert (report.requests, report.partitions, report.partitions_skipped, report.total_calls) == (
            0,
            0,
            10,
            300,
        )
        assert box.stats.requests == 0
        assert (out / "manifest.jsonl").read_bytes() == before

    async def test_a_larger_range_reads_what_it_adds(self, job, box, out):
        """On both sides, and in the gaps, several at a time."""
        await job(attrs.evolve(QUERY, start_date="2024-01-03", end_date="2024-01-04")).run()
        await job(attrs.evolve(QUERY, start_date="2024-01-07", end_date="2024-01-08")).run()
        report = await job().run()
        assert (report.partitions, report.partitions_skipped) == (6, 4)
        assert ids_in(out) == box.ids()

    async def test_a_piece_of_a_day_is_completed_whole(self, job, box, out):
        """The file is replaced by one that holds both pieces."""
        await job(attrs.evolve(QUERY, start_date="2024-01-05 12:00", end_date="2024-01-05 13:00")).run()
        await job(attrs.evolve(QUERY, start_date="2024-01-05 18:00", end_date="2024-01-05 19:00")).run()
        assert ids_in(out) == box.ids("2024-01-05 12:00", "2024-01-05 19:00")
        await job().run()
        assert ids_in(out) == box.ids()

    async def test_months(self, job, box, out):
        """One file for each."""
        await job(partition="month").run()
        assert [path.name for path in (out / "calls").iterdir()] == ["month=2024-01"]
        assert ids_in(out) == box.ids()

    async def test_days_without_calls_have_no_file_and_are_not_read_again(self, job, box, out):
        """What is empty is known to be empty."""
        query = attrs.evolve(QUERY, start_date="2023-12-01", end_date="2023-12-31")
        report = await job(query).run()
        assert (report.partitions, report.calls) == (31, 0)
        assert not (out / "calls").exists()
        assert (await job(query).run()).requests == 0

    async def test_id_and_start_are_always_there(self, job, out):
        """Without them nothing can be placed or compared."""
        await job(attrs.evolve(QUERY, fields="call_result")).run()
        line = next((out / "calls").glob("*/*")).read_text().splitlines()[0]
        assert set(json.loads(line)) == {"id", "call_start", "call_result"}

    async def test_filters_are_sent(self, job, box, out):
        """And are part of the job."""
        await job(attrs.evolve(QUERY, call_result="ANSWERED")).run()
        assert ids_in(out) == box.ids(call_result="ANSWERED")

    async def test_yesterday(self, job, box, out):
        """The constant means the day before now."""
        await job(InsightsQuery(date_constant="YESTERDAY"), now=datetime(2024, 1, 6, 9)).run()
        assert ids_in(out) == box.ids("2024-01-05", "2024-01-05")

    async def test_progress_is_told_and_full_only_at_the_end(self, job):
        """It never goes back."""
        seen = []
        backfill = job(on_progress=seen.append)
        await backfill.run()
        shares = [one.progress for one in seen]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0.0, 1.0)
        assert max(shares[:-1]) < 1.0
        assert backfill.progress.calls == 300
        assert backfill.progress.last_partition == "2024-01-10"

    async def test_what_was_done_before_a_failure_stays(self, job, box, out):
        """The error comes bare, and the next run goes on."""
        box.faults = Faults(fail_after=4)
        with pytest.raises(ServerError):
            await job().run()
        box.faults = Faults()
        box.reset_stats()
        done = {path.name.removeprefix("date=") for path in (out / "calls").iterdir()}
        assert 0 < len(done) < 10
        report = await job().run()
        assert (report.partitions_skipped, report.partitions) == (len(done), 10 - len(done))
        # A request asks for the second after its window too: of the days that were done, for no more than that.
        for request in box.requests:
            days = {part.name for part in parts(*asked_of(request), "day")}
            assert not days & done, request
        assert ids_in(out) == box.ids()

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"format": "xml"}, ConfigurationError),
            ({"partition": "year"}, ConfigurationError),
            ({"finality_delay": -1}, ConfigurationError),
            ({"on_error": "ignore"}, QueryError),
            ({"query": attrs.evolve(QUERY, order="id_ASC")}, QueryError),
            ({"query": attrs.evolve(QUERY, page=2)}, QueryError),
            ({"directory": "nosuch://x"}, BackfillError),
        ],
        ids=["format", "partition", "finality_delay", "on_error", "order", "page", "directory"],
    )
    async def test_what_cannot_be_is_refused_at_once(self, job, options, error):
        """Before anything is written."""
        with pytest.raises(error):
            job(**options)


class TestTomorrow:
    @pytest.mark.usefixtures("moving")
    async def test_open_days_are_read_again_until_they_settle(self, job, box, out):
        """A call that came late and a transcript are there in the end."""
        query = InsightsQuery(start_date="2024-01-08")
        report = await job(query, now=datetime(2024, 1, 9, 1)).run()
        assert report.open_partitions == ("2024-01-08", "2024-01-09")
        (late,) = box.add([{"call_start": "2024-01-08 23:59:59"}])
        report = await job(query, now=datetime(2024, 1, 9, 2)).run()
        assert (report.partitions_skipped, report.open_partitions) == (0, ("2024-01-09",))
        assert late in ids_in(out)
        report = await job(query, now=datetime(2024, 1, 10, 12)).run()
        assert (report.partitions_skipped, report.open_partitions) == (1, ("2024-01-10",))
        assert ids_in(out) == box.ids("2024-01-08", "2024-01-10 12:00")
        assert (await job(query, now=datetime(2024, 1, 10, 12)).run()).requests <= 2

    @pytest.mark.usefixtures("moving")
    async def test_calls_that_vanish_from_an_open_day_leave_no_file_behind(self, job, box, out):
        """A day may become empty."""
        query = InsightsQuery(start_date="2024-01-10", end_date="2024-01-10")
        await job(query, now=datetime(2024, 1, 11)).run()
        box.remove(box.ids("2024-01-10"))
        report = await job(query, now=datetime(2024, 1, 12)).run()
        assert (report.calls, ids_in(out), list((out / "calls").iterdir())) == (0, [], [])

    async def test_without_a_start_the_folder_knows_it(self, job, box, out):
        """And a new folder begins with the month."""
        await job(InsightsQuery(start_date="2024-01-03"), now=datetime(2024, 1, 4)).run()
        await job(InsightsQuery(), now=datetime(2024, 2, 2)).run()
        assert ids_in(out) == box.ids("2024-01-03")
        await job(InsightsQuery(), now=datetime(2024, 1, 2, 1), directory=out / "new").run()
        assert ids_in(out / "new") == box.ids(end="2024-01-02 01:00")

    @pytest.mark.parametrize("known", [True, False], ids=["a folder with a start", "a new folder"])
    async def test_an_end_before_the_start_that_was_left_out_asks_for_a_start(self, known, job, box, out):
        """Nothing was swapped: there is one date only. With a start, the same folder takes it."""
        if known:
            await job(InsightsQuery(start_date="2024-01-03"), now=datetime(2024, 1, 4)).run()
        begins = "2024-01-03" if known else "2024-06-01"
        with pytest.raises(QueryError, match=rf"end_date: 2024-01-02 .* before {begins}.* give a start"):
            await job(InsightsQuery(end_date="2024-01-02")).run()
        await job(attrs.evolve(QUERY, end_date="2024-01-02")).run()
        assert set(box.ids(end="2024-01-02")) <= set(ids_in(out))

    async def test_what_lies_ahead_is_not_read(self, job, out):
        """An end in the future is now, so no empty day is taken for done."""
        report = await job(attrs.evolve(QUERY, end_date="2030-01-01"), now=datetime(2024, 1, 3, 12)).run()
        assert report.partitions == 3

    async def test_without_the_account_s_time_a_day_ends_when_it_has_ended_everywhere(
        self, insights, tmp_path
    ):
        """A machine may be ahead of its account by most of a day."""
        today = datetime.now()
        query = InsightsQuery(start_date=today - timedelta(days=4), end_date=today)
        report = await Backfill(insights, query, tmp_path, "jsonl").run()
        assert {f"{today - timedelta(hours=13):%Y-%m-%d}", f"{today:%Y-%m-%d}"} <= set(report.open_partitions)
        assert f"{today - timedelta(days=3):%Y-%m-%d}" not in report.open_partitions

    async def test_days_are_the_account_s(self, box, open_session, tmp_path):
        """With a time zone, records are aware, and partitions are local days all the same."""
        transport = httpx.ASGITransport(box.app)
        async with open_session(transport=transport, timezone="Asia/Tokyo") as session:
            await Backfill(session, QUERY, tmp_path, "parquet").run()
            with pytest.raises(BackfillMismatchError, match="format"):
                await Backfill(session, QUERY, tmp_path, "jsonl").run()
        table = pl.read_parquet(tmp_path / "calls/**/*.parquet", hive_partitioning=True)
        assert table["call_start"].dt.date().to_list() == table["date"].to_list()
        assert table["id"].to_list() == box.ids()


class TestOneJobAFolder:
    @pytest.mark.fault(59)
    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"query": attrs.evolve(QUERY, call_result="MISSED")}, r"filter call_result \(another value\)"),
            (
                {"query": attrs.evolve(QUERY, call_result=None, direction="IN")},
                r"only there\), filter direction \(only here",
            ),
            (
                {"query": attrs.evolve(QUERY, call_result="ANSWERED", fields="id,call_start,tag_text")},
                r"fields \(only there call_end, call_origin, iovox_number and 6 more; only here tag_text\)",
            ),
            (
                {"query": attrs.evolve(QUERY, call_result="ANSWERED", fields=Fields.ALL)},
                r"fields \(only here call_origin_location, call_time, call_time_seconds and 42 more\)",
            ),
            ({"format": "csv"}, r"format \(there jsonl, here csv\)"),
            ({"partition": "month"}, r"partition \(there day, here month\)"),
        ],
        ids=["value", "filter", "fields", "many fields", "format", "partition"],
    )
    async def test_another_job_is_refused_with_what_differs(self, job, options, told, out):
        """And nothing is touched."""
        await job(attrs.evolve(QUERY, call_result="ANSWERED")).run()
        before = ids_in(out)
        with pytest.raises(BackfillMismatchError, match=told):
            await job(**{"query": attrs.evolve(QUERY, call_result="ANSWERED"), **options}).run(repair=True)
        assert ids_in(out) == before

    async def test_a_run_that_failed_before_anything_was_there_does_not_claim_the_folder(self, job, box, out):
        """A wrong filter, put right, is another job; what is named, and be it a day without calls, is claimed."""
        box.faults = Faults(fail_after=0)
        with pytest.raises(ServerError):
            await job(format="csv", partition="month").run()
        box.faults = Faults()
        empty = attrs.evolve(QUERY, start_date="2023-12-30", end_date="2023-12-31")
        await job(empty).run()
        with pytest.raises(
            BackfillMismatchError, match=rf"{re.escape(str(out))} belongs to another job.*format"
        ):
            await job(format="csv").run()
        await job().run()
        assert ids_in(out) == box.ids()

    async def test_a_backfill_runs_once_at_a_time(self, job, box, out):
        """The figures of the one that is at work stay its own."""
        backfill = job()
        async with anyio.create_task_group() as group:
            group.start_soon(backfill.run)
            await anyio.lowlevel.checkpoint()
            with pytest.raises(BackfillLockedError, match="at work already"):
                await backfill.verify()
        assert backfill.progress.partitions == 10
        assert (await backfill.verify()).verified == 10
        assert ids_in(out) == box.ids()

    async def test_another_account_is_refused(self, job, box, open_session, out):
        """Two accounts' calls in one table are of no use."""
        await job().run()
        async with open_session(username="other", transport=httpx.ASGITransport(box.app)) as session:
            with pytest.raises(BackfillMismatchError, match=r"there demo at .*, here other at"):
                await Backfill(session, QUERY, out, "jsonl").run()

    async def test_no_filter_is_readable_in_the_folder(self, job, out):
        """It may be a phone number."""
        await job(attrs.evolve(QUERY, call_origin="447966111222")).run()
        with pytest.raises(BackfillMismatchError) as caught:
            await job(attrs.evolve(QUERY, call_origin="447966111333")).run()
        assert "447966" not in (out / "manifest.jsonl").read_text() + str(caught.value)

    @pytest.mark.fault(58)
    async def test_a_second_process_is_refused(self, job, out):
        """Until the first has ended; a failure gives the lock back too."""
        await job().run()
        lock = FolderLock(out)
        lock.take()
        with pytest.raises(BackfillLockedError):
            await job().run()
        with pytest.raises(BackfillLockedError):
            await job().verify()
        lock.release()
        await job().run()

    @pytest.mark.fault(59)
    async def test_a_newer_form_is_refused_with_a_cure(self, job, out):
        """Also by --repair: nothing is wrong with it."""
        await job().run()
        path = out / "manifest.jsonl"
        lines = path.read_bytes().split(b"\n")
        from iovox_async.backfill import manifest

        lines[0] = manifest._signed(manifest._Version(99), b"")
        path.write_bytes(b"\n".join(lines))
        with pytest.raises(BackfillError, match=r"newer version .* pip install --upgrade"):
            await job().run(repair=True)


def spoil_line(path, number):
    lines = path.read_bytes().split(b"\n")
    lines[number] = lines[number].replace(b"2024", b"2042", 1)
    path.write_bytes(b"\n".join(lines))


def cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "the manifest's first line": (lambda out: spoil_line(out / "manifest.jsonl", 0), "line 1", 0),
    "a line of the manifest": (lambda out: spoil_line(out / "manifest.jsonl", 3), "line 4", 1),
    "a manifest that was cut": (lambda out: cut(out / "manifest.jsonl"), "manifest.jsonl is damaged", 6),
    "an empty manifest": (lambda out: (out / "manifest.jsonl").write_bytes(b""), "line 1", 10),
    "no manifest": (
        lambda out: (out / "manifest.jsonl").unlink(),
        "holds calls/date=2024-01-01/.* and no",
        10,
    ),
    "a file that was cut": (
        lambda out: cut(out / "calls/date=2024-01-04/part-0.jsonl"),
        "date=2024-01-04.*instead of",
        1,
    ),
    "a missing file": (
        lambda out: (out / "calls/date=2024-01-05/part-0.jsonl").unlink(),
        "date=2024-01-05.*missing",
        1,
    ),
    "a flipped bit": (lambda out: flip(out / "calls/date=2024-01-06/part-0.jsonl"), None, 1),
}


class TestDamage:
    @pytest.mark.fault(59)
    @pytest.mark.parametrize("damage", DAMAGES)
    async def test_damage_is_named_and_repair_reads_just_what_it_covers(self, damage, job, box, out):
        """Never silently started over; what is whole is kept."""
        do, told, most = DAMAGES[damage]
        await job().run()
        do(out)
        if told is not None:
            with pytest.raises(ManifestCorruptedError, match=f"{told}.*--repair"):
                await job().run()
        report = await job().run(repair=True)
        assert (report.partitions <= most) if most else report.partitions == 0
        assert report.partitions + report.partitions_skipped == 10
        assert ids_in(out) == box.ids()
        assert (await job().run(repair=True)).requests == 0

    async def test_repair_mends_outside_of_the_range_too(self, job, box, out):
        """A damaged file is damaged whatever is asked for."""
        await job().run()
        flip(out / "calls/date=2024-01-06/part-0.jsonl")
        report = await job(attrs.evolve(QUERY, end_date="2024-01-02")).run(repair=True)
        assert (report.partitions, report.partitions_skipped) == (1, 2)
        assert ids_in(out) == box.ids()

    async def test_what_a_job_did_not_write_is_left_alone(self, job, out):
        """Only names that a job gives are swept."""
        mine = [out / "notes.txt", out / "calls/notes.tmp", out / "calls/date=2024-01-01/other.jsonl"]
        for path in mine:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
        await job().run()
        strays = [out / "calls/date=2019-01-01/part-0.jsonl", out / ".manifest.jsonl.tmp"]
        for path in strays:
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
        await job().run()
        assert all(path.exists() for path in mine)
        assert not any(path.exists() for path in strays)
        assert not strays[0].parent.exists()


class TestVerify:
    @pytest.mark.usefixtures("moving")
    async def test_what_differs_is_read_again_and_told(self, job, box, out):
        """A call that came late, one that was deleted, a file that was damaged; the rest by its ids alone."""
        await job().run()
        (late,) = box.add([{"call_start": "2024-01-02 10:00:00"}])
        box.remove(box.ids("2024-01-05", "2024-01-05")[:1])
        flip(out / "calls/date=2024-01-08/part-0.jsonl")
        box.reset_stats()
        report = await job().verify()
        assert report.mismatched_partitions == ("2024-01-02", "2024-01-05", "2024-01-08")
        assert (report.verified, report.partitions, report.total_calls) == (10, 3, 300)
        assert late in ids_in(out)
        assert ids_in(out) == box.ids()
        report = await job().verify()
        assert (report.verified, report.mismatched_partitions, report.partitions) == (10, (), 0)

    async def test_ids_cost_a_fraction_of_the_bytes(self, job):
        """Two fields of each call, whatever was asked for."""
        query = attrs.evolve(QUERY, fields=Fields.ALL)
        whole = await job(query).run()
        assert (await job(query).verify()).bytes < 0.1 * whole.bytes

    async def test_only_the_range_is_compared(self, job):
        """And only what is sealed: the rest is read again by any run."""
        await job(now=datetime(2024, 1, 10, 12)).run()
        assert (await job(now=datetime(2024, 1, 10, 12)).verify()).verified == 9
        query = attrs.evolve(QUERY, start_date="2024-01-02", end_date="2024-01-03")
        assert (await job(query).verify()).verified == 2

    async def test_a_damaged_file_is_read_again_wherever_it_lies(self, job, box, out):
        """All files are looked into: what was found is not kept quiet."""
        await job().run()
        flip(out / "calls/date=2024-01-08/part-0.jsonl")
        query = attrs.evolve(QUERY, start_date="2024-01-02", end_date="2024-01-03")
        report = await job(query).verify()
        assert (report.verified, report.partitions, report.mismatched_partitions) == (2, 1, ("2024-01-08",))
        assert ids_in(out) == box.ids()

    async def test_a_lock_is_kept_while_ids_are_compared(self, job, box, monkeypatch, tmp_path):
        """A long comparison is no reason to lose the folder; and who lost it writes nothing there."""
        from iovox_async.backfill import _storage_remote as remote

        guarded = remote._Guarded
        monkeypatch.setattr(remote, "_Guarded", lambda fs, path: guarded(fs, path, lease=0.0))
        await job(directory=f"file://{tmp_path}/out").run()
        box.reset_stats()

        def steal(_):
            if box.stats.requests:
                guarded(fsspec.filesystem("file"), str(tmp_path / "out/.lock"), lease=0.0).take()

        with pytest.raises(BackfillLockedError):
            await job(directory=f"file://{tmp_path}/out", on_progress=steal).verify()


class TestReaders:
    """DuckDB, polars and pandas read the folder as one table."""

    @pytest.fixture
    async def table(self, job, out):
        await job(attrs.evolve(QUERY, fields=Fields.ALL), format="parquet").run()
        return out / "calls"

    async def test_duckdb(self, table, box):
        """With the partition as a date."""
        query = f"from read_parquet('{table}/**/*.parquet', hive_partitioning=true)"
        assert [
            one for (one,) in duckdb.sql(f"select id {query} order by call_start, id").fetchall()
        ] == box.ids()
        assert duckdb.sql(f"select distinct date {query} order by 1").fetchall()[0] == (date(2024, 1, 1),)
        assert duckdb.sql(f"select count(*) {query} where date = call_start::date").fetchall() == [(300,)]

    async def test_polars(self, table, box):
        """Lazily too."""
        assert pl.read_parquet(table / "**/*.parquet", hive_partitioning=True)["id"].to_list() == box.ids()
        assert pl.scan_parquet(table).filter(pl.col("date") == date(2024, 1, 2)).collect().height == len(
            box.ids("2024-01-02", "2024-01-02")
        )

    async def test_pandas(self, table, box):
        """By the folder's name alone."""
        assert pd.read_parquet(table)["id"].to_list() == box.ids()

    @pytest.mark.parametrize("form", ["jsonl", "jsonl.zst", "csv"])
    async def test_duckdb_reads_the_texts_too(self, form, job, box, out):
        """Whole folders of them."""
        await job(format=form).run()
        reader = "read_csv" if form == "csv" else "read_json"
        found = duckdb.sql(
            f"select id from {reader}('{out}/calls/*/*.{form}') order by call_start, id"
        ).fetchall()
        assert [one for (one,) in found] == box.ids()

    async def test_csv_has_one_head_a_file(self, job, box, out):
        """And a row for each call."""
        await job(format="csv").run()
        rows = [
            row
            for file in (out / "calls").rglob("*.csv")
            for row in csv.reader(file.read_text().splitlines())
        ]
        assert len(rows) == 310
        assert sum(row[0] == "id" for row in rows) == 10


class TestRemote:
    @pytest.mark.parametrize("kind", ["memory", "file"])
    async def test_a_store_has_the_same_promises(self, kind, job, box, tmp_path):
        """Resume, damage, repair, verify, and days that are replaced."""
        fsspec.filesystem("memory").store.clear()
        url = f"file://{tmp_path}/out" if kind == "file" else "memory://bucket/out"
        fs, root = fsspec.core.url_to_fs(url)

        def ids():
            fs.invalidate_cache()
            return [
                json.loads(line)["id"]
                for path in sorted(fs.glob(f"{root}/calls/*/*.jsonl"))
                for line in fs.cat(path).splitlines()
            ]

        await job(directory=url, now=datetime(2024, 1, 10, 12)).run()
        assert ids() == box.ids(end="2024-01-10 12:00")
        report = await job(directory=url).run()
        assert (report.partitions, report.partitions_skipped) == (1, 9)
        assert ids() == box.ids()
        assert (await job(directory=url).run()).requests == 0
        fs.pipe(f"{root}/calls/date=2024-01-02/part-0.jsonl", b"{}")
        with pytest.raises(ManifestCorruptedError, match="date=2024-01-02"):
            await job(directory=url).run()
        assert (await job(directory=url).run(repair=True)).partitions == 1
        assert (await job(directory=url).verify()).mismatched_partitions == ()
        assert ids() == box.ids()
        assert not fs.exists(f"{root}/.lock")
        with pytest.raises(BackfillMismatchError):
            await job(directory=url, format="csv").run()

    async def test_a_lock_that_was_taken_over_ends_the_run(self, job, monkeypatch, tmp_path):
        """Two writers in one folder are worse than none."""
        from iovox_async.backfill import _storage_remote as remote

        guarded = remote._Guarded
        monkeypatch.setattr(remote, "_Guarded", lambda fs, path: guarded(fs, path, lease=0.0))

        def steal(progress):
            if progress.partitions:
                guarded(fsspec.filesystem("file"), str(tmp_path / "out/.lock"), lease=0.0).take()

        with pytest.raises(BackfillLockedError):
            await job(directory=f"file://{tmp_path}/out", on_progress=steal).run()


class TestValues:
    @pytest.mark.parametrize(
        ("lo", "hi", "unit", "names"),
        [
            ("2024-01-31", "2024-02-02", "day", ["2024-01-31", "2024-02-01"]),
            ("2024-01-31 23:59:59", "2024-02-01", "day", ["2024-01-31"]),
            ("2024-02-29", "2024-03-01 00:00:01", "month", ["2024-02", "2024-03"]),
            ("2023-12-31 23:59:59", "2024-01-01", "month", ["2023-12"]),
            ("2024-01-01", "2024-01-01", "day", []),
            ("2024-01-05 18:00", "2024-01-05 12:00", "day", []),
            ("0999-12-01", "1000-02-01", "month", ["0999-12", "1000-01"]),
        ],
    )
    def test_partitions_touch_the_range(self, lo, hi, unit, names):
        """Each second belongs to one."""
        found = list(parts(datetime.fromisoformat(lo), datetime.fromisoformat(hi), unit))
        assert [part.name for part in found] == names
        assert all(one.hi == other.lo for one, other in itertools.pairwise(found))

    def test_days_that_follow_on_each_other_are_one_stretch(self):
        """A year takes one stream, not 365."""
        day = [datetime(2024, 1, number) for number in range(1, 9)]
        known = {
            part.name: ManifestEntry(partition=part.name, lo=part.lo, hi=part.hi, sealed=True)
            for part in parts(day[2], day[4], "day")
        }
        wanted = needs(day[0], day[7], "day", known)
        assert [[need.name[-2:] for need in some] for some in stretches(wanted)] == [
            ["01", "02"],
            ["05", "06", "07"],
        ]
        assert needs(day[0], day[0], "day", known, ["2024-01-04"]) == [
            PartitionRange("2024-01-04", day[3], day[4])
        ]

    @pytest.mark.parametrize("share", [place / 40 for place in range(40)])
    def test_no_cut_manifest_is_taken_for_whole(self, share):
        """Wherever it was cut; and every entry that is still believed is one that was written."""
        job = Job(account="a", fields=("id",), filters={}, format="csv", partition="day", timezone=None)
        manifest = Manifest(job, LATER)
        for part in parts(datetime(2024, 1, 1), datetime(2024, 1, 5), "day"):
            manifest.entries[part.name] = ManifestEntry(
                partition=part.name, lo=part.lo, hi=part.hi, sealed=True
            )
        data = manifest.dump()
        found = Manifest.load(data[: int(len(data) * share)], job, LATER)
        assert found.damage
        assert found.entries.items() <= manifest.entries.items()
        whole = Manifest.load(data, job, LATER)
        assert (whole.damage, whole.entries) == ([], manifest.entries)


async def test_verify_stops_where_the_manifest_is_gone_and_removes_nothing(job, tmp_path):
    """It alone says what is in the files; they are left for --repair."""
    await job().run()
    (manifest,) = tmp_path.rglob("manifest*")
    before = sorted(tmp_path.rglob("*.parquet"))
    manifest.unlink()
    with pytest.raises(ManifestCorruptedError, match="no manifest"):
        await job().verify()
    assert sorted(tmp_path.rglob("*.parquet")) == before


async def test_a_settling_time_beyond_the_calendar_seals_nothing(insights, tmp_path):
    """It is as good as never."""
    backfill = Backfill(insights, QUERY, tmp_path, finality_delay=1e11, clock=lambda: LATER)
    assert (await backfill.run()).calls == 300
