"""dlt: a pipeline into DuckDB, run twice, holds each call once, including late calls and late transcripts."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovox_async import ConfigurationError, Fields, InsightsQuery, QueryError
from iovox_async.sandbox import Sandbox

dlt = pytest.importorskip("dlt")
pytest.importorskip("duckdb")

from iovox_async.integrations import dlt as iovox  # noqa: E402 - only where dlt is installed

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # dlt and its dependencies emit deprecation warnings
    pytest.mark.timeout(240),
]
START, END = "2024-01-01", "2024-01-10"


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "CRITICAL")
    monkeypatch.chdir(tmp_path)
    return dlt.pipeline(
        "calls_test",
        destination=dlt.destinations.duckdb(str(tmp_path / "calls.duckdb")),
        dataset_name="telephony",
        pipelines_dir=str(tmp_path / "pipelines"),
    )


def loaded_rows(pipeline, columns):
    with pipeline.sql_client() as client:
        return client.execute_sql(f"select {columns} from calls order by call_start, id")


async def test_a_second_run_merges_late_calls_and_reads_only_the_lookback(pipeline):
    """Given late calls and a changed call after a first run, a second run merges both and reads no more than it must."""
    sandbox = Sandbox(calls=1_500, start=START, end=END)
    async with sandbox.serve() as base_url:
        session = {"username": "demo", "secure_key": "demo-key", "base_url": base_url}

        def run():
            pipeline.run(iovox.calls(START, END, session=session, fields=Fields.ALL))

        await asyncio.to_thread(run)
        expected = sandbox.rows()
        assert loaded_rows(pipeline, "id, talk_time, node_name") == [
            (row["id"], row["talk_time_sec"], row["node_name"]) for row in expected
        ]

        rows_before = sandbox.stats.rows
        last = expected[-1]
        sandbox.add([{"call_start": last["call_start"]}] * 3)
        sandbox.update(last["id"], node_name="Late transcript")
        await asyncio.to_thread(run)
        rows = loaded_rows(pipeline, "id, node_name")
        assert [row[0] for row in rows] == sandbox.ids()
        assert dict(rows)[last["id"]] == "Late transcript"
        assert sandbox.stats.rows - rows_before < 300


@pytest.fixture
async def source():
    """Returns a function that loads calls of a sandbox into a pipeline, and returns how many rows were read for it."""
    sandbox = Sandbox(calls=900, start=START, end=END)
    async with sandbox.serve() as base_url:

        async def load(pipeline, start=START, end=END, *, username="demo", timezone=None, **options):
            session = {
                "username": username,
                "secure_key": "demo-key",
                "base_url": base_url,
                "timezone": timezone,
            }
            rows = sandbox.stats.rows
            await asyncio.to_thread(lambda: pipeline.run(iovox.calls(start, end, session=session, **options)))
            return sandbox.stats.rows - rows

        load.sandbox = sandbox
        yield load


def loaded_ids(pipeline):
    return [row[0] for row in loaded_rows(pipeline, "id")]


@pytest.mark.finding("A11")
class TestLoadedRanges:
    async def test_an_earlier_start_loads_the_gap_and_nothing_twice(self, pipeline, source):
        """Given a load from 6 January, when the start is 1 January, then the days before are loaded, and only these."""
        ids = source.sandbox.ids
        await source(pipeline, "2024-01-06")
        rows = await source(pipeline)
        assert loaded_ids(pipeline) == ids()
        assert rows < len(ids(end="2024-01-05")) + 60
        assert await source(pipeline) < 60

    @pytest.mark.slow
    async def test_ranges_that_do_not_touch_are_joined(self, pipeline, source):
        """Given loads of two ranges, the later one first, when a range covers both, then what lies between is loaded."""
        ids = source.sandbox.ids
        await source(pipeline, "2024-01-08", "2024-01-10")
        await source(pipeline, "2024-01-01", "2024-01-02")
        await source(pipeline, "2024-01-04", "2024-01-05")
        assert loaded_ids(pipeline) == ids(end="2024-01-02") + ids("2024-01-04", "2024-01-05") + ids(
            "2024-01-08"
        )
        rows = await source(pipeline)
        assert loaded_ids(pipeline) == ids()
        assert rows < len(ids("2024-01-03", "2024-01-03") + ids("2024-01-06", "2024-01-07")) + 120

    @pytest.mark.slow
    async def test_each_set_of_filters_counts_by_itself(self, pipeline, source):
        """Given a load with a filter, when it is dropped or changed, then all that matches is loaded; again, little is."""
        ids = source.sandbox.ids
        await source(pipeline, call_result="ANSWERED")
        await source(pipeline, direction="IN", query=InsightsQuery(call_result="MISSED"))
        expected = {*ids(call_result="ANSWERED"), *ids(call_result="MISSED", direction="IN")}
        assert {*loaded_ids(pipeline)} == expected
        await source(pipeline)
        assert loaded_ids(pipeline) == ids()
        assert await source(pipeline, call_result="ANSWERED") < 60
        assert await source(pipeline, fields=Fields.CALL) < 60

    @pytest.mark.slow
    async def test_each_account_counts_by_itself(self, pipeline, source):
        """Given a load of one user, when another user loads the same range, then it is read."""
        await source(pipeline)
        with pytest.raises(
            Exception, match="401"
        ):  # the sandbox has one user; the request shows that it was read
            await source(pipeline, username="other")

    @pytest.mark.slow
    async def test_a_call_in_the_future_does_not_move_the_mark(self, pipeline, source):
        """Given a call whose start is years ahead, when a range with a far end is loaded again, then new calls come."""
        sandbox = source.sandbox
        (ahead,) = sandbox.add([{"call_start": "2090-01-01 00:00:00"}])
        await source(pipeline, end="2099-12-31")
        now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
        (late,) = sandbox.add([{"call_start": str(now)}])
        await source(pipeline, end="2099-12-31", lookback=timedelta(days=2))
        assert {ahead, late} < {*loaded_ids(pipeline)}
        sandbox.remove([ahead, late])

    @pytest.mark.slow
    async def test_max_calls_goes_on_where_the_last_run_ended(self, pipeline, source):
        """Given max_calls, when runs repeat with an earlier start, then each loads the next calls until all are there."""
        await source(pipeline, "2024-01-07")
        for _ in range(4):
            await source(pipeline, max_calls=250, lookback=0)
        assert loaded_ids(pipeline) == source.sandbox.ids()

    @pytest.mark.slow
    async def test_a_range_without_calls_is_loaded_without_an_error(self, pipeline, source):
        """Given a range without calls, when it is loaded, then the table is empty, and an overlapping range loads its calls."""
        await source(pipeline, "2023-01-01", "2023-01-05")
        await source(pipeline, "2023-01-01", "2024-01-02")
        assert loaded_ids(pipeline) == source.sandbox.ids(end="2024-01-02")

    @pytest.mark.slow
    @pytest.mark.parametrize("lookback", [86_400, 86_400.0, timedelta(days=1)], ids=repr)
    async def test_the_lookback_takes_what_follow_takes(self, lookback, pipeline, source):
        """Given a look-back as a number or a timedelta, when a run repeats, then it reads a day again."""
        await source(pipeline, lookback=lookback)
        rows = await source(pipeline, lookback=lookback)
        assert 0 < rows <= len(source.sandbox.ids("2024-01-09")) + 1

    @pytest.mark.parametrize(
        "lookback", [-1, timedelta(seconds=-1), "2h", None, True, float("nan")], ids=repr
    )
    def test_an_invalid_lookback_is_refused_before_the_first_run(self, lookback):
        """Given a negative look-back, or none at all, when the source is made, then it raises."""
        with pytest.raises(ConfigurationError, match="lookback must be"):
            iovox.calls(START, END, lookback=lookback)

    @given(
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=5),
        st.integers(0, 60),
        st.integers(0, 60),
        st.integers(0, 25),
    )
    def test_what_is_missing_is_what_no_range_covers(self, ranges, first, length, lookback):
        """Given loaded ranges, then each second of a request is read once, unless a range covers it before its look-back."""
        epoch = datetime(2024, 1, 1)
        seconds = timedelta(seconds=1)
        loaded = iovox._merged((epoch + a * seconds, epoch + (a + length) * seconds) for a, length in ranges)
        missing = iovox._missing(
            epoch + first * seconds, epoch + (first + length) * seconds, loaded, lookback * seconds
        )
        read = [
            second
            for a, b, _ in missing
            for second in range(int((a - epoch) / seconds), int((b - epoch) / seconds) + 1)
        ]
        covered = {
            second
            for a, b in loaded
            for second in range(int((a - epoch) / seconds), int((b - epoch) / seconds) - lookback)
        }
        assert read == [second for second in range(first, first + length + 1) if second not in covered]


@pytest.mark.finding("A11")
class TestTimes:
    @pytest.mark.slow
    async def test_naive_times_stay_naive_at_the_destination(self, pipeline, source):
        """Given no time zone, when calls are loaded, then the destination has the local times of the responses."""
        await source(pipeline)
        types = {row[0] for row in loaded_rows(pipeline, "typeof(call_start)")}
        assert types == {"TIMESTAMP"}
        assert [row[0] for row in loaded_rows(pipeline, "call_start")] == [
            datetime.fromisoformat(row["call_start"]) for row in source.sandbox.rows()
        ]

    @pytest.mark.slow
    @pytest.mark.parametrize("zone", ["America/New_York", timezone(timedelta(hours=5, minutes=30))], ids=str)
    async def test_aware_times_are_instants_and_the_next_run_continues(self, zone, pipeline, source):
        """Given a time zone, when calls are loaded, then the destination has their instants; a second run reads little."""
        await source(pipeline, timezone=zone)
        zone = ZoneInfo(zone) if isinstance(zone, str) else zone
        assert {row[0] for row in loaded_rows(pipeline, "typeof(call_start)")} == {"TIMESTAMP WITH TIME ZONE"}
        assert [row[0] for row in loaded_rows(pipeline, "epoch(call_start)")] == [
            datetime.fromisoformat(row["call_start"]).replace(tzinfo=zone).timestamp()
            for row in source.sandbox.rows()
        ]
        assert 0 < await source(pipeline, timezone=zone) < 60


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"order": "id_ASC"}, "order"),
        ({"resume": "x"}, "resume"),
        ({"fields": ["id"]}, "response_fields"),
        ({"call_results": "ANSWERED"}, "call_results"),
    ],
)
def test_an_option_that_would_break_the_merge_raises(options, parameter):
    """Given an order, a position, or fields without call_start, the source raises before any request."""
    with pytest.raises(QueryError) as caught:
        iovox.calls(START, END, **options)
    assert caught.value.parameter == parameter
