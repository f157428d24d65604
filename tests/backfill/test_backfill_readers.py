"""Common readers open a backfill directory as one table, with the same values."""

import csv
import shutil
import sys
from datetime import date, datetime, timedelta, timezone

import attrs
import dask.dataframe as dd
import datafusion
import duckdb
import fastparquet
import httpx
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from support.backfill import LATER, QUERY

from iovox_async import Fields
from iovox_async.arrow import schema_for
from iovox_async.backfill import Backfill

#: Columns whose units and encodings readers have got wrong.
CALL_FIELDS = "id,call_start,call_end,talk_time,talk_time_seconds,call_time"


@pytest.fixture
async def table(job, out):
    """The directory of a finished backfill to Parquet with all fields."""
    await job(attrs.evolve(QUERY, fields=Fields.ALL), format="parquet").run()
    return out


async def test_duckdb_reads_parquet_with_the_partition_as_a_date(table, sandbox):
    """Given Parquet files, DuckDB finds every call once, and the column `date` from the paths."""
    query = f"from read_parquet('{table}/**/*.parquet', hive_partitioning=true)"
    ids = duckdb.sql(f"select id {query} order by call_start, id").fetchall()
    assert [row[0] for row in ids] == sandbox.ids()
    assert duckdb.sql(f"select distinct date {query} order by 1").fetchall()[0] == (date(2024, 1, 1),)
    assert duckdb.sql(f"select count(*) {query} where date = call_start::date").fetchall() == [(300,)]


async def test_polars_reads_parquet_eagerly_and_lazily(table, sandbox):
    """Given Parquet files, polars reads all calls, and those of one day by the partition column."""
    frame = pl.read_parquet(table / "**/*.parquet", hive_partitioning=True)
    assert frame["id"].to_list() == sandbox.ids()
    day = (
        pl.scan_parquet(table / "**/*.parquet", hive_partitioning=True)
        .filter(pl.col("date") == date(2024, 1, 2))
        .collect()
    )
    assert day.height == len(sandbox.ids("2024-01-02", "2024-01-02"))


async def test_polars_refuses_the_directory_without_a_glob(table):
    """Given the path of the directory, polars names the glob that it needs: it skips no folder whose name begins with `_`."""
    with pytest.raises(pl.exceptions.InvalidOperationError, match=r"glob pattern"):
        pl.scan_parquet(table).collect_schema()


async def test_files_do_not_need_the_packages_of_delta_tables(job, monkeypatch):
    """Given a machine without `deltalake` and `obstore`, a backfill to Parquet runs and verifies."""
    for name in ("deltalake", "obstore"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "iovox_async.backfill._delta", raising=False)
    await job(format="parquet").run()
    assert (await job(format="parquet").verify()).verified == 10
    assert "iovox_async.backfill._delta" not in sys.modules


async def test_pandas_reads_parquet_by_the_directory(table, sandbox):
    """Given the path of the directory, pandas reads all calls."""
    assert pd.read_parquet(table)["id"].to_list() == sandbox.ids()


@pytest.mark.parametrize("name", ["jsonl", "jsonl.zst", "csv"])
async def test_duckdb_reads_the_text_formats(name, job, sandbox, out):
    """Given text files, DuckDB reads all calls by a glob."""
    await job(format=name).run()
    reader = "read_csv" if name == "csv" else "read_json"
    ids = duckdb.sql(f"select id from {reader}('{out}/*/*.{name}') order by call_start, id").fetchall()
    assert [row[0] for row in ids] == sandbox.ids()


async def test_each_csv_file_has_one_header(job, out):
    """Given CSV files, each starts with the names of the columns, and has one row for each call."""
    await job(format="csv").run()
    rows = [row for file in out.rglob("*.csv") for row in csv.reader(file.read_text().splitlines())]
    assert len(rows) == 310
    assert sum(row[0] == "id" for row in rows) == 10


def row_of_call(row):
    """The columns of `CALL_FIELDS`, as the sandbox sends them."""
    hours, minutes, seconds = map(int, row["talk_time"].split(":"))
    assert hours * 3600 + minutes * 60 + seconds == row["talk_time_sec"]
    start, end = (datetime.fromisoformat(row[name]) for name in ("call_start", "call_end"))
    return row["id"], start, end, row["talk_time_sec"], row["talk_time_sec"], row["call_time_sec"]


def read_with_datafusion(path):
    context = datafusion.SessionContext()
    context.register_parquet("calls", path, table_partition_cols=[("date", pa.date32())])
    return context.sql("select * from calls order by call_start, id").to_pylist()


def read_with_spark(path):
    sql = pytest.importorskip("pyspark.sql", reason="Spark is not installed")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    builder = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    with builder.config("spark.sql.session.timeZone", "UTC").getOrCreate() as session:
        return session.read.parquet(path).toArrow().sort_by("call_start").to_pylist()


#: Reads the directory as it is.
READERS = {
    "pyarrow": lambda path: ds.dataset(path, partitioning="hive").to_table().to_pylist(),
    "pandas": lambda path: pd.read_parquet(path).to_dict("records"),
    "polars": lambda path: (
        pl.scan_parquet(f"{path}/**/*.parquet", hive_partitioning=True).collect().to_dicts()
    ),
    "duckdb": lambda path: (
        duckdb.sql(f"from '{path}/**/*.parquet' order by call_start").df().to_dict("records")
    ),
    "datafusion": read_with_datafusion,
    "dask": lambda path: dd.read_parquet(path).compute(scheduler="sync").to_dict("records"),
    "fastparquet": lambda path: fastparquet.ParquetFile(path).to_pandas().to_dict("records"),
    "spark": read_with_spark,
}
READER_PARAMETERS = [
    pytest.param(name, marks=pytest.mark.slow if name == "spark" else ()) for name in READERS
]


@pytest.mark.finding("A17")
@pytest.mark.finding("D4")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # the readers' own
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("reader", READER_PARAMETERS)
async def test_every_reader_finds_the_same_days_times_and_seconds(reader, job, sandbox, out):
    """Given a directory, when any common reader opens it as it is, then days and times are right and durations are seconds."""
    await job(attrs.evolve(QUERY, fields=CALL_FIELDS), format="parquet").run()
    rows = READERS[reader](str(out))
    names = CALL_FIELDS.replace("_seconds", "_sec").split(",")
    values = sorted(tuple(row[name] for name in names) for row in rows)
    assert values == sorted(row_of_call(row) for row in sandbox.rows())
    assert all(str(row["date"])[:10] == str(row["call_start"])[:10] for row in rows)


#: Reads the text formats by the globs of the guide.
TEXT_READERS = {
    ("duckdb", "jsonl"): lambda path: duckdb.sql(f"from '{path}/**/*.jsonl'").fetchall(),
    ("duckdb", "csv"): lambda path: duckdb.sql(f"from '{path}/**/*.csv'").fetchall(),
    ("polars", "jsonl"): lambda path: pl.scan_ndjson(f"{path}/**/*.jsonl").collect().rows(),
    ("polars", "csv"): lambda path: pl.scan_csv(f"{path}/**/*.csv").collect().rows(),
    ("pyarrow", "jsonl"): lambda path: (
        ds.dataset(path, format="json", partitioning="hive").to_table().to_pylist()
    ),
    ("pyarrow", "csv"): lambda path: (
        ds.dataset(path, format="csv", partitioning="hive").to_table().to_pylist()
    ),
    ("dask", "jsonl"): lambda path: (
        dd.read_json(f"{path}/**/*.jsonl", lines=True, dtype=False).compute().index
    ),
    ("dask", "csv"): lambda path: dd.read_csv(f"{path}/**/*.csv", dtype=str).compute().index,
}


@pytest.mark.sweep(3)
@pytest.mark.parametrize(("reader", "name"), TEXT_READERS)
async def test_common_readers_find_all_calls_in_the_text_formats(reader, name, job, out):
    """Given a directory in a text format, when a reader opens it by a glob, then it finds the calls and nothing else."""
    await job(format=name).run()
    assert len(TEXT_READERS[reader, name](str(out))) == 300


@pytest.mark.sweep(4)
@pytest.mark.finding("A17")
@pytest.mark.parametrize(
    "fields",
    [Fields.DEFAULT, "talk_time", "call_time,talk_time_seconds"],
    ids=["default", "one", "both forms"],
)
@pytest.mark.parametrize("name", ["parquet", "csv", "jsonl"])
async def test_no_column_is_empty_because_it_was_not_requested(name, fields, job, out):
    """Given some fields, when they are written in any format, then each column of the file was requested."""
    await job(attrs.evolve(QUERY, fields=fields), format=name).run()
    table = duckdb.sql(f"from '{out}/*/*.{name}'").df()
    assert [column for column in table.columns if table[column].isna().all()] in ([], ["extra"])


@pytest.mark.finding("A17")
async def test_delta_takes_the_batches_of_a_stream(insights, sandbox, tmp_path):
    """Given all fields, when their batches are written to a Delta table, then it has the calls and their seconds."""
    deltalake = pytest.importorskip("deltalake")
    async with insights.stream("2024-01-01", "2024-01-10", fields=Fields.ALL) as stream:
        batches = [batch async for batch in stream.arrow()]
    for batch in batches:
        deltalake.write_deltalake(str(tmp_path / "table"), batch, mode="append")
    table = deltalake.DeltaTable(str(tmp_path / "table")).to_pyarrow_table().sort_by("id")
    assert table["talk_time"].to_pylist() == [
        row["talk_time_sec"] for row in sorted(sandbox.rows(), key=lambda row: row["id"])
    ]


@pytest.mark.finding("D4")
@pytest.mark.parametrize(
    "zone",
    [timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=3)), "Asia/Kolkata"],
    ids=["+05:30", "-03:00", "IANA"],
)
async def test_times_of_an_account_with_a_zone_are_instants_for_every_reader(
    zone, sandbox, open_session, out
):
    """Given a time zone without an IANA name, when polars, DuckDB and pandas read the files, then the instants are right."""
    async with open_session(transport=httpx.ASGITransport(sandbox.app), timezone=zone) as insights:
        await Backfill._for_test(insights, QUERY, out, partition="month", local_now=lambda: LATER).run()
        calls = await insights.stream("2024-01-01", "2024-01-10").collect()
        stream = insights.stream("2024-01-01", "2024-01-10")
        streamed = [pl.from_arrow(batch) async for batch in stream.arrow()]
    path = out / "month=2024-01/part-0.parquet"
    instants = [call.call_start for call in calls]
    assert pl.read_parquet(path)["call_start"].to_list() == instants
    assert pl.concat(streamed)["call_start"].to_list() == instants
    assert pd.read_parquet(path)["call_start"].tolist() == instants
    seconds = duckdb.sql(f"select epoch(call_start) from '{path}'").fetchall()
    assert [second for (second,) in seconds] == [instant.timestamp() for instant in instants]


@pytest.mark.finding("D4")
async def test_an_empty_range_is_an_empty_table(insights):
    """Given a range without calls, when its batches become a table, then it has the columns and no rows."""
    for start, end in (("2023-01-01", "2023-01-02"), ("2023-01-01", "2023-12-31")):
        stream = insights.stream(start, end)
        table = pa.Table.from_batches([batch async for batch in stream.arrow()])
        assert (table.num_rows, table.schema) == (0, schema_for())
        assert stream.stats.calls == 0
