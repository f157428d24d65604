"""dlt: a pipeline into DuckDB, run twice, holds each call once, including late calls and late transcripts."""

import asyncio

import pytest

from iovox_async import Fields, QueryError
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


@pytest.mark.parametrize(
    ("options", "parameter"),
    [({"order": "id_ASC"}, "order"), ({"resume": "x"}, "resume"), ({"fields": ["id"]}, "response_fields")],
)
def test_an_option_that_would_break_the_merge_raises(options, parameter):
    """Given an order, a position, or fields without call_start, the source raises before any request."""
    with pytest.raises(QueryError) as caught:
        iovox.calls(START, END, **options)
    assert caught.value.parameter == parameter
