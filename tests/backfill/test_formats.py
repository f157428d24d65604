"""File formats: what a file holds depends on the calls alone, and other programs read it."""

import csv
import io
import json
import sys
from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.arrow_batches import FIRST_START, batch, call

from iovox_async import ConfigurationError, Fields, MissingExtraError
from iovox_async.arrow import table_from_calls
from iovox_async.backfill._formats import FORMATS, ParquetWriter, _parquet_options, get_format
from iovox_async.models import Comment


class Buffer(io.BytesIO):
    """A file in memory whose bytes can be read after a writer has closed it."""

    def close(self):
        pass


def write_file(name, data, fields=Fields.DEFAULT):
    """The bytes of a file in this format."""
    file = Buffer()
    writer = get_format(name).open_writer(file, tuple(map(str, fields)))
    for item in data:
        writer.write(item)
    writer.finish()
    return file.getvalue()


def all_fields_batch(timezone=None):
    """A batch of 48 calls with all fields, and ids near 2^63."""
    start = FIRST_START.replace(tzinfo=timezone)
    calls = [
        call(
            2**63 - 1 - hour,
            start + timedelta(hours=hour),
            call_end=start + timedelta(hours=hour, seconds=90),
            talk_time=timedelta(seconds=hour),
            call_result="ANSWERED" if hour % 3 else None,
            has_recording=hour % 2 == 0,
            comments=[Comment(text=f"comment {hour}")] * (hour % 3),
        )
        for hour in range(48)
    ]
    return table_from_calls(calls, Fields.ALL, timezone=timezone).combine_chunks().to_batches()[0]


class TestText:
    def test_json_lines_have_the_names_and_values_of_responses(self):
        """Given two calls, each is one JSON document on one line."""
        calls = [call(1, call_result="ANSWERED"), call(2, has_recording=True)]
        assert [json.loads(line) for line in write_file("jsonl", [calls]).splitlines()] == [
            {"id": 1, "call_start": "2024-01-31 10:00:00", "call_result": "ANSWERED"},
            {"id": 2, "call_start": "2024-01-31 10:00:00", "has_recording": "TRUE"},
        ]

    def test_compressed_json_lines_decompress_to_json_lines(self):
        """Given 2,500 calls in two writes, the file decompresses to the lines of the plain format."""
        calls = [call(number) for number in range(2500)]
        compressed = write_file("jsonl.zst", [calls[:1000], calls[1000:]])
        with pa.input_stream(io.BytesIO(compressed), compression="zstd") as stream:
            assert stream.read() == write_file("jsonl", [calls])

    def test_csv_has_a_column_for_each_field_with_nested_fields_as_json(self):
        """Given nested fields, unknown keys and missing values, the columns are those requested."""
        calls = [
            call(1, comments=[Comment(text="a, b")]),
            call(2, call_result='say "hi"', extra={"new": 1}),
        ]
        fields = ("id", "call_start", "call_result", "talk_time", "comment_text")
        rows = list(csv.reader(io.StringIO(write_file("csv", [calls], fields).decode())))
        assert rows == [
            ["id", "call_start", "call_result", "talk_time", "comments"],
            ["1", "2024-01-31 10:00:00", "", "", '[{"text":"a, b"}]'],
            ["2", "2024-01-31 10:00:00", 'say "hi"', "", ""],
        ]
        assert json.loads(rows[1][-1]) == [{"text": "a, b"}]


class TestParquet:
    def test_small_batches_become_one_sorted_compressed_row_group(self):
        """Given two batches, the file has one row group with zstd that declares its order."""
        data = write_file("parquet", [batch(list(range(10))), batch(list(range(10, 20)))])
        file = pq.ParquetFile(io.BytesIO(data))
        group = file.metadata.row_group(0)
        assert file.metadata.num_row_groups == 1
        assert group.column(0).compression == "ZSTD"
        assert [column.column_index for column in group.sorting_columns] == [1]
        assert file.read().column("id").to_pylist() == list(range(20))

    @pytest.mark.finding("D4")
    def test_statistics_are_written_where_they_help_and_encodings_are_plain(self):
        """Given all fields, id and times have statistics, and all values have the encoding that every reader knows."""
        group = pq.ParquetFile(io.BytesIO(write_file("parquet", [all_fields_batch()]))).metadata.row_group(0)
        columns = {
            group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)
        }
        assert not any(column.has_dictionary_page for column in columns.values())
        assert {column.compression for column in columns.values()} == {"ZSTD"}
        assert {name for name, column in columns.items() if column.is_stats_set} == {
            "id",
            "call_start",
            "call_end",
        }
        ids, starts = columns["id"].statistics, columns["call_start"].statistics
        assert (ids.min, ids.max) == (2**63 - 48, 2**63 - 1)
        assert (starts.min, starts.max) == (FIRST_START, FIRST_START + timedelta(hours=47))
        assert {encoding for column in columns.values() for encoding in column.encodings} <= {"PLAIN", "RLE"}

    def test_the_order_is_declared_only_with_call_start(self):
        """Given a schema without call_start, the file declares no order; options are cached per schema."""
        without = pa.record_batch([pa.array([2, 1], pa.int64())], ["id"])
        for data, expected in ((batch([1]), [1]), (without, []), (batch([1]), [1])):
            group = pq.ParquetFile(io.BytesIO(write_file("parquet", [data]))).metadata.row_group(0)
            assert [column.column_index for column in group.sorting_columns or ()] == expected
        assert _parquet_options(batch([1]).schema) is _parquet_options(batch([2, 3]).schema)

    @pytest.mark.parametrize("timezone", [None, ZoneInfo("America/New_York")], ids=["naive", "aware"])
    def test_duckdb_polars_and_pandas_read_the_same_values(self, timezone, tmp_path):
        """Given all fields, each program reads the values of the batch, and finds single rows by time or id."""
        expected = all_fields_batch(timezone)
        path = tmp_path / "part-0.parquet"
        path.write_bytes(write_file("parquet", [expected.slice(0, 17), expected.slice(17)]))
        rows = expected.to_pylist()
        assert pq.read_table(path).to_pylist() == rows
        start = rows[20]["call_start"]

        frame = pl.read_parquet(path)
        for name in (
            "id",
            "call_start",
            "call_end",
            "talk_time",
            "call_result",
            "has_recording",
            "comments",
        ):
            assert frame[name].to_list() == [row[name] for row in rows]
        by_start = pl.scan_parquet(path).filter(pl.col("call_start") == start).collect()
        assert by_start["id"].to_list() == [rows[20]["id"]]

        frame = pd.read_parquet(path)
        assert frame["id"].to_list() == [row["id"] for row in rows]
        assert [value.to_pydatetime() for value in frame["call_start"]] == [row["call_start"] for row in rows]
        assert frame["talk_time"].tolist() == [row["talk_time"] for row in rows]
        by_id = pd.read_parquet(path, filters=[("id", ">=", rows[2]["id"])])
        assert by_id["id"].to_list() == [row["id"] for row in rows[:3]]

        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            query = f"select id, epoch_us(call_start), call_result, len(comments) from '{path}'"

            def microseconds(value):
                return int((value if timezone else value.replace(tzinfo=UTC)).timestamp()) * 10**6

            assert connection.sql(query).fetchall() == [
                (row["id"], microseconds(row["call_start"]), row["call_result"], len(row["comments"]))
                for row in rows
            ]
            by_start = connection.execute(f"select id from '{path}' where call_start = ?", [start])
            assert by_start.fetchall() == [(rows[20]["id"],)]

    def test_at_most_one_row_group_is_buffered(self, monkeypatch):
        """Given small limits, a row group is written as soon as its rows or its bytes reach them."""
        monkeypatch.setattr("iovox_async.backfill._formats.ROW_GROUP_ROWS", 30)
        monkeypatch.setattr("iovox_async.backfill._formats.ROW_GROUP_BYTES", 10_000)
        writer = ParquetWriter(io.BytesIO(), ())
        buffered = []
        for first in range(0, 100, 10):
            writer.write(batch(list(range(first, first + 10))))
            buffered.append(writer._rows)
        assert max(buffered) < 30
        writer.write(batch(list(range(700))))
        assert writer._rows == 0
        writer.finish()


@pytest.mark.parametrize("name", ["jsonl", "csv", "parquet"])
def test_a_file_without_calls_can_be_finished(name):
    """Given no calls, the writer finishes without an error."""
    write_file(name, [])


def test_an_unknown_format_raises_and_lists_the_known_ones():
    """Given format "xml", the error lists all formats."""
    with pytest.raises(ConfigurationError, match=r"one of parquet, delta, jsonl, jsonl\.zst, csv, got 'xml'"):
        get_format("xml")


@pytest.mark.parametrize("name", [name for name, file_format in FORMATS.items() if file_format.needs_arrow])
def test_a_format_without_pyarrow_raises_with_the_command_that_installs_it(name, monkeypatch):
    """Given no pyarrow, the error names the extra."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"iovox-async\[arrow\]"):
        get_format(name)
