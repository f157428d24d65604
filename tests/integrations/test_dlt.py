"""dlt: a pipeline into DuckDB, run twice, holds one set of rows, late calls and late transcripts included."""

import asyncio

import pytest

from iovox_async import Fields, QueryError
from iovox_async.sandbox import Sandbox

dlt = pytest.importorskip("dlt")
duckdb = pytest.importorskip("duckdb")

from iovox_async.integrations import dlt as iovox  # noqa: E402 - only where dlt is

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # dlt and what it brings warn about themselves
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


def rows(pipeline, columns):
    with pipeline.sql_client() as client:
        return client.execute_sql(f"select {columns} from calls order by call_start, id")


async def test_a_pipeline_run_twice_holds_one_set_of_rows(pipeline):
    """The second run looks back, merges what is late, and repeats nothing."""
    sandbox = Sandbox(calls=1_500, start=START, end=END)
    async with sandbox.serve() as base_url:
        session = {"username": "demo", "secure_key": "demo-key", "base_url": base_url}

        def run():
            pipeline.run(iovox.calls(START, END, session=session, fields=Fields.ALL))

        await asyncio.to_thread(run)
        first = rows(pipeline, "id, talk_time, node_name")
        truth = sandbox.rows()
        assert [row[0] for row in first] == [row["id"] for row in truth]
        assert [row[1] for row in first] == [row["talk_time_sec"] for row in truth]
        assert [row[2] for row in first] == [row["node_name"] for row in truth]

        before = sandbox.stats
        last = truth[-1]
        sandbox.add([{"call_start": last["call_start"]}] * 3)
        sandbox.update(last["id"], node_name="Late transcript")
        await asyncio.to_thread(run)
        second = rows(pipeline, "id, node_name")
        assert [row[0] for row in second] == sandbox.ids()
        assert dict(second)[last["id"]] == "Late transcript"
        # Only the look-back was read again.
        assert sandbox.stats.rows - before.rows < 300


@pytest.mark.parametrize(
    ("options", "named"),
    [({"order": "id_ASC"}, "order"), ({"resume": "x"}, "resume"), ({"fields": ["id"]}, "response_fields")],
)
def test_options_that_would_break_the_merge_are_refused(options, named):
    """Before anything runs."""
    with pytest.raises(QueryError, match=named):
        iovox.calls(START, END, **options)
