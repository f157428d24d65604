"""`CallStream.arrow()`: order, resume and limits are those of the records; and the recipes of the guide."""

import sys
import threading
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.arrow_pages import expected_rows, page_of, read_batches, reader_of, rows_of
from support.odd_values import ROW

from iovox_async import AsyncInsights, Fields, MissingExtraError, SessionError
from iovox_async._parsing.page import Blocks, RawPage
from iovox_async.arrow import SCHEMA, _batches, schema_for
from iovox_async.sandbox import Sandbox

RANGE = ("2024-01-01", "2024-01-02")


def rows_with_ties(count, *, every):
    """Rows in the order of their seconds, `every` of them in each, their ids in another order."""
    start = datetime(2024, 1, 1)
    return [
        {**ROW, "id": number ^ 1, "call_start": str(start + timedelta(seconds=number // every))}
        for number in range(count)
    ]


@pytest.mark.sweep(7)
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize(
    "block_bytes", [None, 1, 70_000], ids=["one block", "a segment a block", "some blocks"]
)
@pytest.mark.parametrize("every", [1, 3, 900])
def test_calls_of_one_second_are_ordered_by_id_across_blocks(monkeypatch, descending, block_bytes, every):
    """Given seconds that reach over two blocks, when read, then all their calls are ordered by id."""
    if block_bytes:
        monkeypatch.setattr(_batches, "BLOCK_BYTES", block_bytes)
    rows = rows_with_ties(3_000, every=every)
    rows = rows[::-1] if descending else rows
    page = page_of(rows)
    batches, _ = read_batches(
        page, Fields.DEFAULT, order="call_start_DESC" if descending else "call_start_ASC"
    )
    assert len(page.segments) > 3
    assert (len(batches) > 1) == bool(block_bytes)
    keys = [
        (row["call_start"], row["id"])
        for batch in batches
        for row in batch.select(["call_start", "id"]).to_pylist()
    ]
    assert keys == sorted(
        ((datetime.fromisoformat(row["call_start"]), row["id"]) for row in rows), reverse=descending
    )


async def test_json_is_decoded_in_another_thread():
    """Given a page of JSON for each decoder, when read, then no segment is touched in the thread of the event loop."""
    threads = set()

    class WatchedPage(RawPage):
        def pick(self, rows):
            for block in super().pick(rows):
                threads.add(threading.get_ident())
                yield block

    reader, _ = reader_of(Fields.DEFAULT)
    for rows in ([ROW], [{**ROW, "call_result": 5}]):
        page = page_of(rows)
        page = WatchedPage(page.segments, page.starts, page.ids, page.size, page.wire_bytes)
        batch, key, more = await reader.read(Blocks(page, range(page.rows)), None)
        assert (batch.num_rows, key, more) == (1, (datetime(2024, 2, 26, 4, 39, 59), 7), False)
    assert threading.get_ident() not in threads


@pytest.fixture(scope="module")
def sandbox():
    """A sandbox with many calls in each second."""
    return Sandbox(calls=1_500, start="2024-01-01 08:00:00", end="2024-01-01 08:20:00", seed=3)


@pytest.fixture
async def insights(sandbox):
    """A client of the sandbox."""
    async with sandbox.serve() as base_url, AsyncInsights("demo", "demo-key", base_url=base_url) as insights:
        yield insights


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fields": Fields.ALL, "page_size": 200},
        {"order": "call_start_DESC", "page_size": 200},
        {"fields": "node_name,tag_text", "page_size": 200},
        {"fields": "node_name,call_start", "paging": "pages", "page_size": 400},
        {"order": "talk_time_ASC", "page_size": 400},
        {"max_calls": 777, "page_size": 200},
        {"max_calls": 0},
        {"call_result": "ANSWERED", "ordered": False},
    ],
    ids=str,
)
async def test_a_stream_gives_the_same_calls_in_the_same_order_as_arrow(insights, options):
    """Given the same arguments, when read as batches and as records, then the rows are equal."""
    calls = await insights.stream(*RANGE, **options).collect()
    stream = insights.stream(*RANGE, **options)
    batches = [batch async for batch in stream.arrow()]
    schema = schema_for(options.get("fields", Fields.DEFAULT))
    assert all(batch.schema.equals(schema) for batch in batches)
    assert all(batch.num_rows for batch in batches[1:])
    assert bool(batches[0].num_rows) == bool(calls)
    rows, expected = rows_of(*batches), expected_rows(calls, schema)
    if not options.get("ordered", True):
        rows, expected = (sorted(each, key=lambda row: row["id"]) for each in (rows, expected))
    assert rows == expected
    assert stream.stats.calls == len(calls)


@pytest.mark.slow
async def test_a_damaged_pyarrow_is_a_missing_extra(insights, monkeypatch):
    """Given a pyarrow that is found but cannot be imported, when a stream is read as batches, then the error names the extra and the cause."""
    monkeypatch.setitem(sys.modules, "iovox_async.arrow._batches", None)
    with pytest.raises(MissingExtraError, match="arrow") as caught:
        await anext(insights.stream(*RANGE).arrow())
    assert isinstance(caught.value.__cause__, ImportError)


@pytest.mark.slow
async def test_a_table_of_no_calls_needs_no_request(insights):
    """Given a stream of no calls, when it is read as a table, then the table has columns, and nothing was requested."""
    stream = insights.stream(*RANGE, max_calls=0)
    table = await stream.table()
    assert (table.num_rows, table.schema) == (0, schema_for(Fields.DEFAULT))
    assert stream.stats.requests == 0


@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
async def test_a_stream_resumes_within_a_second(insights, order):
    """Given a position within a second, when resumed as batches or as records, then no call is lost or repeated."""
    expected = [call.id for call in await insights.stream(*RANGE, order=order).collect()]
    for stop in (1, 500, 501, 502, 1_499):
        first = insights.stream(*RANGE, order=order, max_calls=stop)
        ids = [number async for batch in first.arrow() for number in batch.column("id").to_pylist()]
        rest = insights.stream(*RANGE, order=order, resume=first.position)
        ids += [number async for batch in rest.arrow() for number in batch.column("id").to_pylist()]
        assert ids == expected
        records = insights.stream(*RANGE, order=order, resume=first.position)
        assert [call.id async for call in records] == expected[stop:]


async def test_a_stream_is_read_in_one_form_only(insights):
    """Given a stream that is read as batches, when it is read as records too, then it raises."""
    stream = insights.stream(*RANGE)
    async for _ in stream.arrow():
        break
    with pytest.raises(SessionError, match="arrow"):
        await stream.collect()
    await stream.aclose()


# The recipes of the guide.


async def test_recipe_for_parquet(insights, tmp_path):
    """Given a stream, when its batches are written to Parquet, then the file has the values of the records."""
    path = tmp_path / "calls.parquet"
    stream = insights.stream(*RANGE, fields=Fields.ALL)
    with pq.ParquetWriter(path, schema_for(Fields.ALL)) as writer:
        async for batch in stream.arrow():
            writer.write_batch(batch)
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    calls = await insights.stream(*RANGE, fields=Fields.ALL).collect()
    assert rows_of(table) == expected_rows(calls, SCHEMA)


async def test_recipe_for_polars(insights, sandbox):
    """Given a stream, when a polars DataFrame is made of it, then it has the calls and can filter by seconds."""
    polars = pytest.importorskip("polars")
    batches = [batch async for batch in insights.stream(*RANGE).arrow()]
    calls = polars.from_arrow(pa.Table.from_batches(batches, schema_for()))
    answered = calls.filter(polars.col("talk_time") > 0)
    assert answered["talk_time"].dtype == polars.Int64
    assert calls["id"].to_list() == sandbox.ids()
    assert calls.group_by("call_result").agg(polars.len()).height > 1


async def test_recipe_for_pandas(insights, sandbox):
    """Given a stream, when a pandas DataFrame with Arrow types is made of it, then no value changes."""
    pandas = pytest.importorskip("pandas")
    batches = [batch async for batch in insights.stream(*RANGE).arrow()]
    calls = pa.Table.from_batches(batches, schema_for()).to_pandas(types_mapper=pandas.ArrowDtype)
    assert calls["id"].tolist() == sandbox.ids()
    assert calls.groupby(calls["call_start"].dt.hour)["talk_time"].sum().iloc[0] > 0


async def test_recipe_for_duckdb(insights, sandbox):
    """Given a stream, when DuckDB queries its batches, then it counts all calls and reads nested values."""
    duckdb = pytest.importorskip("duckdb")
    batches = [batch async for batch in insights.stream(*RANGE, fields=Fields.ALL).arrow()]
    with duckdb.connect() as database:
        database.register("calls", pa.Table.from_batches(batches, schema_for(Fields.ALL)))
        results = database.sql(
            "SELECT call_result, count(*), sum(talk_time) FROM calls GROUP BY ALL"
        ).fetchall()
        [(spoken,)] = database.sql(
            "SELECT count(*) FROM (SELECT unnest(transcriptions) AS t FROM calls) WHERE len(t.phrases) > 0"
        ).fetchall()
    assert sum(count for _, count, _ in results) == len(sandbox.ids())
    assert spoken > 0
