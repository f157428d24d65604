"""DuckDB, polars and pandas read a backfill directory as one table."""

import csv
from datetime import date

import attrs
import duckdb
import pandas as pd
import polars as pl
import pytest
from support.backfill import QUERY

from iovox_async import Fields


@pytest.fixture
async def table(job, out):
    """The directory of a finished backfill to Parquet with all fields."""
    await job(attrs.evolve(QUERY, fields=Fields.ALL), format="parquet").run()
    return out / "calls"


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
    day = pl.scan_parquet(table).filter(pl.col("date") == date(2024, 1, 2)).collect()
    assert day.height == len(sandbox.ids("2024-01-02", "2024-01-02"))


async def test_pandas_reads_parquet_by_the_directory(table, sandbox):
    """Given the path of the directory, pandas reads all calls."""
    assert pd.read_parquet(table)["id"].to_list() == sandbox.ids()


@pytest.mark.parametrize("name", ["jsonl", "jsonl.zst", "csv"])
async def test_duckdb_reads_the_text_formats(name, job, sandbox, out):
    """Given text files, DuckDB reads all calls by a glob."""
    await job(format=name).run()
    reader = "read_csv" if name == "csv" else "read_json"
    ids = duckdb.sql(f"select id from {reader}('{out}/calls/*/*.{name}') order by call_start, id").fetchall()
    assert [row[0] for row in ids] == sandbox.ids()


async def test_each_csv_file_has_one_header(job, out):
    """Given CSV files, each starts with the names of the columns, and has one row for each call."""
    await job(format="csv").run()
    rows = [
        row for file in (out / "calls").rglob("*.csv") for row in csv.reader(file.read_text().splitlines())
    ]
    assert len(rows) == 310
    assert sum(row[0] == "id" for row in rows) == 10
