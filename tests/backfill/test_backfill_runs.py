"""`Backfill.run`: which partitions it reads, and what it reports."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import attrs
import httpx
import polars as pl
import pytest
from support.backfill import QUERY, ids_in

from iovox_async import (
    AsyncInsights,
    BackfillError,
    BackfillMismatchError,
    ConfigurationError,
    InsightsQuery,
    QueryError,
    ServerError,
)
from iovox_async._runtime import Runtime, use_runtime
from iovox_async.backfill import Backfill
from iovox_async.backfill._partitions import partitions_in
from iovox_async.sandbox import Faults


class TestRange:
    @pytest.mark.fault(67)
    async def test_each_day_becomes_one_file(self, job, sandbox, out):
        """Given ten days of calls, a run writes one file per day, named after the day, and a report."""
        report = await job().run()
        assert sorted(path.name for path in out.glob("*=*")) == [
            f"date=2024-01-{day:02}" for day in range(1, 11)
        ]
        assert ids_in(out) == sandbox.ids()
        assert (report.partitions, report.calls, report.total_calls) == (10, 300, 300)
        assert report.open_partitions == ()
        assert json.loads((out / "_iovox/report.json").read_text()) == report.to_dict()
        assert report.requests == sandbox.stats.requests <= 10

    @pytest.mark.parametrize(
        ("start", "partition"), [("2024-01-05 18:00", "day"), ("2024-01-20", "month"), ("2024-03-01", "day")]
    )
    async def test_a_range_in_the_future_sends_no_request(self, job, sandbox, start, partition):
        """Given a start later than now, even within the current day or month, a run reads nothing."""
        query = InsightsQuery(start_date=start, end_date="2024-05-01")
        report = await job(query, partition=partition, now=datetime(2024, 1, 5, 12)).run()
        assert (report.partitions, report.requests, sandbox.stats.requests) == (0, 0, 0)

    async def test_a_finished_backfill_run_again_sends_no_request(self, job, sandbox, out):
        """Given a finished backfill, a second run skips all partitions and leaves the manifest as it is."""
        await job().run()
        manifest = (out / "_iovox/manifest").read_bytes()
        sandbox.reset_stats()
        report = await job().run()
        assert (report.requests, report.partitions) == (0, 0)
        assert (report.partitions_skipped, report.total_calls) == (10, 300)
        assert sandbox.stats.requests == 0
        assert (out / "_iovox/manifest").read_bytes() == manifest

    async def test_a_larger_range_reads_only_the_missing_days(self, job, sandbox, out):
        """Given two pairs of finished days, a run over ten days reads the six days around and between them."""
        await job(attrs.evolve(QUERY, start_date="2024-01-03", end_date="2024-01-04")).run()
        await job(attrs.evolve(QUERY, start_date="2024-01-07", end_date="2024-01-08")).run()
        report = await job().run()
        assert (report.partitions, report.partitions_skipped) == (6, 4)
        assert ids_in(out) == sandbox.ids()

    async def test_an_incomplete_day_is_read_again_as_a_whole(self, job, sandbox, out):
        """Given two hours of a day in the file, a run that needs more replaces the file."""
        await job(attrs.evolve(QUERY, start_date="2024-01-05 12:00", end_date="2024-01-05 13:00")).run()
        await job(attrs.evolve(QUERY, start_date="2024-01-05 18:00", end_date="2024-01-05 19:00")).run()
        assert ids_in(out) == sandbox.ids("2024-01-05 12:00", "2024-01-05 19:00")
        await job().run()
        assert ids_in(out) == sandbox.ids()

    async def test_partition_month_writes_one_file_per_month(self, job, sandbox, out):
        """Given partition="month", ten days of one month become one file."""
        await job(partition="month").run()
        assert [path.name for path in out.glob("*=*")] == ["month=2024-01"]
        assert ids_in(out) == sandbox.ids()

    async def test_days_without_calls_have_no_file_and_are_not_read_again(self, job, out):
        """Given a month without calls, its days are finished without files."""
        query = attrs.evolve(QUERY, start_date="2023-12-01", end_date="2023-12-31")
        report = await job(query).run()
        assert (report.partitions, report.calls) == (31, 0)
        assert not list(out.glob("*=*"))
        assert (await job(query).run()).requests == 0

    async def test_id_and_call_start_are_always_requested(self, job, out):
        """Given fields without them, the files contain both, because partitions and `verify` need them."""
        await job(attrs.evolve(QUERY, fields="call_result")).run()
        line = next(out.glob("*=*/*")).read_text().splitlines()[0]
        assert set(json.loads(line)) == {"id", "call_start", "call_result"}

    async def test_filters_are_sent_to_the_endpoint(self, job, sandbox, out):
        """Given a filter, the files hold only matching calls."""
        await job(attrs.evolve(QUERY, call_result="ANSWERED")).run()
        assert ids_in(out) == sandbox.ids(call_result="ANSWERED")

    async def test_date_constant_yesterday_is_the_day_before_now(self, job, sandbox, out):
        """Given date_constant="YESTERDAY" on 6 January, the run reads 5 January."""
        await job(InsightsQuery(date_constant="YESTERDAY"), now=datetime(2024, 1, 6, 9)).run()
        assert ids_in(out) == sandbox.ids("2024-01-05", "2024-01-05")

    async def test_progress_grows_and_is_1_only_at_the_end(self, job):
        """Given on_progress, each call reports at least the share before, and only the last one 1.0."""
        snapshots = []
        backfill = job(on_progress=snapshots.append)
        await backfill.run()
        shares = [snapshot.progress for snapshot in snapshots]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0.0, 1.0)
        assert max(shares[:-1]) < 1.0
        assert backfill.progress.calls == 300
        assert backfill.progress.last_partition == "2024-01-10"

    async def test_days_finished_before_a_failure_are_not_read_again(self, job, sandbox, out):
        """Given a run that failed after some days, the next run requests none of these days."""
        sandbox.faults = Faults(fail_after=4)
        with pytest.raises(ServerError):
            await job().run()
        sandbox.faults = Faults()
        sandbox.reset_stats()
        finished = {path.name.removeprefix("date=") for path in out.glob("*=*")}
        assert 0 < len(finished) < 10
        report = await job().run()
        assert (report.partitions_skipped, report.partitions) == (len(finished), 10 - len(finished))
        for request in sandbox.requests:
            arguments = dict(parse_qsl(request.query))
            # A window also requests a second or two on both sides of its own.
            start, stop = (datetime.fromisoformat(arguments[name]) for name in ("start_date", "end_date"))
            margin = timedelta(minutes=1)
            days = {day.name for day in partitions_in(start + margin, stop - margin, "day")}
            assert not days & finished, request
        assert ids_in(out) == sandbox.ids()

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"format": "xml"}, ConfigurationError, "format must be one of parquet, delta, jsonl.*got 'xml'"),
            ({"partition": "year"}, ConfigurationError, """partition must be "day" or "month", got 'year'"""),
            ({"finality_delay": -1}, ConfigurationError, "finality_delay"),
            ({"on_error": "ignore"}, QueryError, "on_error"),
            ({"query": attrs.evolve(QUERY, order="id_ASC")}, QueryError, "order must not be set.*id_ASC"),
            ({"query": attrs.evolve(QUERY, page=2)}, QueryError, "page must not be set.*got 2"),
            ({"query": {"call_result": "BUSY"}}, QueryError, "query must be an InsightsQuery, got dict"),
            ({"directory": "nosuch://x"}, BackfillError, "nosuch://"),
            ({"directory": 5}, ConfigurationError, "directory must be a path or URL, got int"),
        ],
    )
    async def test_an_invalid_argument_raises_in_the_constructor(self, job, options, error, message):
        """Given an invalid argument, the constructor raises an error that names it."""
        with pytest.raises(error, match=message):
            job(**options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"repair": "no"}, "repair must be True or False, got 'no'"),
            ({"refresh": 1}, "refresh must be True or False, got 1"),
            ({"drop_before": "2024-01-01"}, "drop_before must be a date, got str"),
        ],
    )
    async def test_an_invalid_argument_of_a_run_is_an_error(self, job, options, message):
        """Given an invalid argument of `run`, then an error that names it is raised, and nothing is written."""
        with pytest.raises(ConfigurationError, match=message):
            await job().run(**options)

    def test_something_else_than_a_session_is_refused(self, out):
        """Given no session of the async client, the constructor raises an error that names what it needs."""
        with pytest.raises(ConfigurationError, match="insights must be an AsyncInsights, got str"):
            Backfill("demo", QUERY, out)


class TestFinality:
    @pytest.mark.usefixtures("own_sandbox")
    async def test_days_are_read_again_until_they_are_final(self, job, sandbox, out):
        """Given a call that arrives late on an open day, the next run adds it; final days are not read again."""
        query = InsightsQuery(start_date="2024-01-08")
        report = await job(query, now=datetime(2024, 1, 9, 1)).run()
        assert report.open_partitions == ("2024-01-08", "2024-01-09")
        (late,) = sandbox.add([{"call_start": "2024-01-08 23:59:59"}])
        report = await job(query, now=datetime(2024, 1, 9, 2)).run()
        assert (report.partitions_skipped, report.open_partitions) == (0, ("2024-01-09",))
        assert late in ids_in(out)
        report = await job(query, now=datetime(2024, 1, 10, 12)).run()
        assert (report.partitions_skipped, report.open_partitions) == (1, ("2024-01-10",))
        assert ids_in(out) == sandbox.ids("2024-01-08", "2024-01-10 12:00")
        assert (await job(query, now=datetime(2024, 1, 10, 12)).run()).requests <= 2

    @pytest.mark.usefixtures("own_sandbox")
    async def test_the_file_of_an_open_day_is_removed_when_its_calls_are_deleted(self, job, sandbox, out):
        """Given an open day whose calls are all deleted at the endpoint, the next run removes its file."""
        query = InsightsQuery(start_date="2024-01-10", end_date="2024-01-10")
        await job(query, now=datetime(2024, 1, 11)).run()
        sandbox.remove(sandbox.ids("2024-01-10"))
        report = await job(query, now=datetime(2024, 1, 12)).run()
        assert (report.calls, ids_in(out), list(out.glob("*=*"))) == (0, [], [])

    async def test_a_query_without_start_continues_from_the_start_in_the_manifest(self, job, sandbox, out):
        """Given a query without a start, a run uses the directory's start, and in a new one the first of the month."""
        await job(InsightsQuery(start_date="2024-01-03"), now=datetime(2024, 1, 4)).run()
        await job(InsightsQuery(), now=datetime(2024, 2, 2)).run()
        assert ids_in(out) == sandbox.ids("2024-01-03")
        await job(InsightsQuery(), now=datetime(2024, 1, 2, 1), directory=out / "new").run()
        assert ids_in(out / "new") == sandbox.ids(end="2024-01-02 01:00")

    @pytest.mark.parametrize("has_start", [True, False], ids=["directory with a start", "new directory"])
    async def test_an_end_before_the_implied_start_raises_with_a_hint(self, has_start, job, sandbox, out):
        """Given an end before the start that the directory implies, the error names both and says to give a start."""
        if has_start:
            await job(InsightsQuery(start_date="2024-01-03"), now=datetime(2024, 1, 4)).run()
        implied = "2024-01-03" if has_start else "2024-06-01"
        with pytest.raises(
            QueryError, match=rf"end_date \(2024-01-02 .* is before {implied}.* Give start_date"
        ):
            await job(InsightsQuery(end_date="2024-01-02")).run()
        await job(attrs.evolve(QUERY, end_date="2024-01-02")).run()
        assert set(sandbox.ids(end="2024-01-02")) <= set(ids_in(out))

    async def test_an_end_in_the_future_is_cut_at_now(self, job):
        """Given an end in 2030, a run on 3 January reads three days and does not finish empty future days."""
        report = await job(attrs.evolve(QUERY, end_date="2030-01-01"), now=datetime(2024, 1, 3, 12)).run()
        assert report.partitions == 3

    async def test_without_a_time_zone_a_day_is_final_when_it_has_ended_everywhere(self, sandbox, tmp_path):
        """Given no time zone, days that may still be in progress somewhere on earth stay open."""
        utc = datetime(2024, 1, 9, 10, tzinfo=UTC)
        query = InsightsQuery(start_date="2024-01-06", end_date="2024-01-10")
        with use_runtime(Runtime(utcnow=lambda: utc)):
            insights = AsyncInsights("demo", "demo-key", transport=httpx.ASGITransport(sandbox.app))
        async with insights:
            report = await Backfill(insights, query, tmp_path, "jsonl").run()
        # Twelve hours behind UTC, and with a delay of two hours, 8 January may not be final yet; fourteen ahead it is the 10th.
        assert report.open_partitions == ("2024-01-08", "2024-01-09", "2024-01-10")

    async def test_a_finality_delay_beyond_the_calendar_leaves_everything_open(self, job):
        """Given a delay of three thousand years, a run works and no partition is final."""
        report = await job(finality_delay=1e11).run()
        assert (report.calls, len(report.open_partitions)) == (300, 10)

    async def test_with_a_time_zone_partitions_are_local_days(self, sandbox, open_session, tmp_path):
        """Given timezone="Asia/Tokyo", records are aware and each file holds the calls of a day in Tokyo."""
        transport = httpx.ASGITransport(sandbox.app)
        async with open_session(transport=transport, timezone="Asia/Tokyo") as insights:
            await Backfill(insights, QUERY, tmp_path, "parquet").run()
            with pytest.raises(BackfillMismatchError, match="format"):
                await Backfill(insights, QUERY, tmp_path, "jsonl").run()
        table = pl.read_parquet(tmp_path / "**/*.parquet", hive_partitioning=True)
        assert table["call_start"].dt.date().to_list() == table["date"].to_list()
        assert table["id"].to_list() == sandbox.ids()
