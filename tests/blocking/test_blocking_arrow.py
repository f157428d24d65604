"""Streams as Arrow streams: DuckDB, polars, pandas and pyarrow read them; `table` of both clients."""

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support.sandbox import shared_sandbox

from iovox_async import AsyncInsights, RetryPolicy, ServerError, SessionError
from iovox_async.arrow import schema_for
from iovox_async.blocking import Insights
from iovox_async.sandbox import Faults

RANGE = ("2024-01-01", "2024-03-31")
FIELDS = "id,call_start,talk_time_seconds"


served, sandbox = shared_sandbox(calls=1_000)


@pytest.fixture
def insights(served, sandbox):
    with Insights("demo", "demo-key", base_url=served[1], retry=RetryPolicy(max_attempts=1)) as insights:
        yield insights


@pytest.fixture
def stream(insights):
    return insights.stream(*RANGE, fields=FIELDS, page_size=200)


def from_duckdb(stream):
    return duckdb.sql("select id, call_start from stream").to_arrow_table()["id"].to_pylist()


READERS = {
    "duckdb": from_duckdb,
    "polars": lambda stream: pl.DataFrame(stream)["id"].to_list(),
    "pandas": lambda stream: pd.DataFrame.from_arrow(stream)["id"].tolist(),
    "pyarrow.table": lambda stream: pa.table(stream)["id"].to_pylist(),
    "pyarrow reader": lambda stream: pa.RecordBatchReader.from_stream(stream).read_all()["id"].to_pylist(),
}
if not hasattr(pd.DataFrame, "from_arrow"):  # before pandas 3
    del READERS["pandas"]


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_given_a_stream_when_a_library_reads_it_then_it_has_every_call_once(read, stream, sandbox):
    """Given a range of several pages, when a library reads the stream, then all calls are there, and requests have ended."""
    assert read(stream) == sandbox.ids()
    assert stream.stats.calls == 1_000
    with pytest.raises(SessionError, match=r"Make another one for each query, or keep its table"):
        stream.__arrow_c_stream__()


def test_given_a_query_in_duckdb_when_it_is_run_twice_then_the_second_fails_and_is_not_empty(stream):
    """Given a registered stream, when a second query reads it, then it fails: it would find nothing, or only the rest."""
    with duckdb.connect() as database:
        database.register("calls", stream)
        assert stream.stats.requests == 0
        assert database.sql("select count(*) from calls").fetchall() == [(1_000,)]
        with pytest.raises(Exception, match="read or closed already"):
            database.sql("select count(*) from calls").fetchall()


def test_given_a_reader_that_stops_early_when_it_is_dropped_then_the_requests_end(insights):
    """Given a reader that takes one batch, when it is dropped, then nothing is in flight, and the rest is not read as all."""
    stream = insights.stream(*RANGE, page_size=20)
    reader = pa.RecordBatchReader.from_stream(stream)
    assert reader.read_next_batch().num_rows
    del reader
    assert not insights._insights._connection.throttle.in_flight
    with pytest.raises(SessionError, match="already"):
        pa.table(stream)


def test_given_a_requested_schema_when_exported_then_the_values_are_cast(stream, sandbox):
    """Given a consumer that asks for other types, when it reads, then it gets them."""
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("call_start", pa.timestamp("us")),
            ("talk_time_sec", pa.int64()),
            ("extra", pa.string()),
        ]
    )
    assert stream._stream._schema() == schema
    requested_schema = schema.set(1, pa.field("call_start", pa.timestamp("ns")))
    assert pa.table(stream, schema=requested_schema).schema == requested_schema


def test_given_a_failing_endpoint_when_read_by_arrow_then_the_message_is_ours(stream, sandbox, insights):
    """Given an error in the middle, when a library reads the stream, then its error has our message; `table` raises ours."""
    sandbox.faults = Faults(fail_after=2)
    with pytest.raises(pa.ArrowInvalid, match="HTTP 500"):
        pa.table(stream)
    with pytest.raises(ServerError):
        insights.stream(*RANGE, page_size=100).table()


@pytest.mark.parametrize("zone", [None, "Europe/London"])
async def test_given_a_range_when_table_is_called_then_both_clients_return_its_calls(served, sandbox, zone):
    """Given a range, also one without calls, when `table` is called, then it has the schema of the fields and all calls."""
    async with AsyncInsights("demo", "demo-key", base_url=served[1], timezone=zone) as insights:
        table = await insights.stream(*RANGE, fields=FIELDS).table()
        empty = await insights.stream("2020-01-01", "2020-01-02", fields=FIELDS).table()
        read = insights.stream(*RANGE, fields=FIELDS)
        assert [batch async for batch in read.arrow()]
        rest = await read.table()
    with Insights("demo", "demo-key", base_url=served[1], timezone=zone) as insights:
        assert insights.stream(*RANGE, fields=FIELDS).table() == table
    assert table["id"].to_pylist() == sandbox.ids()
    assert table.schema == empty.schema == rest.schema == schema_for(FIELDS, zone)
    assert (empty.num_rows, rest.num_rows) == (0, 0)
