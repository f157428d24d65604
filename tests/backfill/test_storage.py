"""Formats and folders: files are whole or not there, and what is in them depends on the calls alone."""

import csv
import errno
import io
import json
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import fsspec
import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iovox_async import (
    BackfillError,
    BackfillLockedError,
    Call,
    ConfigurationError,
    Fields,
    MissingExtraError,
)
from iovox_async._encoding import csv_cell, escape_formula
from iovox_async.arrow import table_from_calls
from iovox_async.backfill._chunks import cut
from iovox_async.backfill._formats import FORMATS, ParquetWriter, _options
from iovox_async.backfill._locks import FolderLock, LeaseLock
from iovox_async.backfill._storage import (
    ArrowChunk,
    CallChunk,
    FileSystem,
    IdChecksum,
    LocalStorage,
    RemoteStorage,
    format_named,
    open_store,
)
from iovox_async.models import Comment, Tag

NAME = "calls/date=2024-01-31/part-0.jsonl"
FIRST = datetime(2024, 1, 31, 10)


def call(number, start=FIRST, **values):
    return Call(id=number, call_start=start, **values)


def batch(numbers, step=timedelta(seconds=1)):
    starts = pa.array([FIRST + place * step for place in range(len(numbers))], pa.timestamp("us"))
    return pa.record_batch([pa.array(numbers, pa.int64()), starts], ["id", "call_start"])


@pytest.fixture(params=["local", "memory", "file"])
def store(request, tmp_path):
    """A folder of each kind."""
    if request.param == "local":
        yield open_store(tmp_path / "out")
    elif request.param == "file":
        yield open_store(f"file://{tmp_path}/out")
    else:
        yield open_store("memory://out")
        fsspec.filesystem("memory").store.clear()


class TestStores:
    def test_a_file_is_there_when_it_is_committed_and_not_before(self, store):
        """Until then the folder's tables do not show it."""
        store.prepare()
        with store.draft(NAME) as draft:
            draft.write(b"one\n")
            draft.write(b"two\n")
            assert NAME not in store.listing()
            draft.commit()
        assert store.read(NAME) == b"one\ntwo\n"
        assert store.listing() == {NAME: 8}
        assert (draft.size, draft.digest) == (8, store.digest(NAME))

    def test_a_file_that_is_discarded_leaves_nothing(self, store):
        """Neither under its name nor under another."""
        store.prepare()
        with store.draft(NAME) as draft:
            draft.write(b"one\n")
        assert draft.write(b"late") == 4
        assert store.listing() == {}
        assert store.read(NAME) is None

    def test_a_file_is_replaced_whole(self, store):
        """The old bytes stay until the new ones are all there."""
        store.prepare()
        for text in (b"a long first version", b"second"):
            with store.draft(NAME) as draft:
                draft.write(text)
                draft.commit()
        assert store.read(NAME) == b"second"

    def test_what_is_removed_is_gone_and_may_be_gone_before(self, store):
        """To sweep twice is harmless."""
        store.prepare()
        with store.draft(NAME) as draft:
            draft.commit()
        store.remove(NAME)
        store.remove(NAME)
        assert store.listing() == {}

    def test_a_path_is_this_machine_s_and_a_url_is_a_store_s(self, tmp_path, monkeypatch):
        """Drives of Windows and relative folders are no URLs."""
        monkeypatch.chdir(tmp_path)
        assert open_store("out").root == tmp_path / "out"
        assert isinstance(open_store("C:/out"), LocalStorage)
        assert isinstance(open_store("memory://out"), RemoteStorage)
        with pytest.raises(BackfillError, match="nosuch://"):
            open_store("nosuch://bucket/out")

    def test_no_credential_of_a_url_is_shown(self):
        """What stands before an @ may be one."""
        assert str(RemoteStorage(None, "host/out", "sftp://user:secret@host/out")) == "sftp://host/out"

    def test_without_fsspec_a_url_names_the_extra(self, monkeypatch):
        """The message holds the line that installs it."""
        monkeypatch.setitem(sys.modules, "fsspec", None)
        with pytest.raises(MissingExtraError, match=r"iovox-async\[remote\]") as caught:
            open_store("memory://out")
        assert isinstance(caught.value.__cause__, ImportError)

    @pytest.mark.fault(57)
    @pytest.mark.parametrize("method", ["create", "write", "sync", "make_folder", "sync_folder", "rename"])
    def test_a_full_disk_is_an_error_of_ours_wherever_it_strikes(self, method, tmp_path):
        """It says what was done, why it failed, and what to do; and leaves nothing behind."""
        files = FileSystem()

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        setattr(files, method, full)
        store = LocalStorage(tmp_path, files)

        def write():
            with store.draft(NAME) as draft:
                draft.write(b"x")
                draft.commit()

        with pytest.raises(BackfillError, match=r"part-0\.jsonl: No space left.*run the same job again"):
            write()
        assert NAME not in store.listing() or method == "sync_folder"
        assert not [name for name in store.listing() if name.endswith(".tmp")]

    def test_a_store_that_fails_is_an_error_of_ours(self, tmp_path):
        """Stores raise what they like."""

        class Broken(type(fsspec.filesystem("file"))):
            cachable = False

            def put_file(self, *_, **__):
                raise RuntimeError("the bucket is gone")

        store = RemoteStorage(Broken(), str(tmp_path / "out"))
        with pytest.raises(BackfillError, match="the bucket is gone"), store.draft(NAME) as draft:
            draft.commit()
        assert store.listing() == {}

    def test_a_folder_that_is_a_file_is_refused(self, tmp_path):
        """With the reason."""
        (tmp_path / "out").write_bytes(b"")
        with pytest.raises(BackfillError, match="make the folder"):
            open_store(tmp_path / "out").prepare()


def taken_over(folder):
    """A lease, the one that took it over, and where they stand."""
    fs, path = fsspec.filesystem("file"), folder / ".lock"
    slow, other = (LeaseLock(fs, str(path), lease=0.0) for _ in range(2))
    slow.take()
    other.take()
    return slow, other, path


class TestLocks:
    def test_one_holder_at_a_time(self, store):
        """The second is told who is at work, and may come back."""
        store.prepare()
        first, second = store.lock(), store.lock()
        first.take()
        with pytest.raises(BackfillLockedError, match=r"process \d+ on .* is at work"):
            second.take()
        first.renew()
        first.release()
        first.release()
        second.take()
        second.release()

    @pytest.mark.fault(58)
    def test_a_lock_ends_with_its_process_however_that_ends(self, tmp_path):
        """After kill -9 the folder is free."""
        code = (
            "import sys, pathlib, time; from iovox_async.backfill._locks import FolderLock;"
            "FolderLock(pathlib.Path(sys.argv[1])).take(); print('held', flush=True); time.sleep(60)"
        )
        # The object must live as long as its lock.
        code = code.replace(
            "FolderLock(pathlib.Path(sys.argv[1])).take()",
            "x = FolderLock(pathlib.Path(sys.argv[1])); x.take()",
        )
        with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as holder:
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(BackfillLockedError, match=f"process {holder.pid} "):
                FolderLock(tmp_path).take()
            holder.kill()
        lock = FolderLock(tmp_path)
        lock.take()
        lock.release()

    @pytest.mark.parametrize(
        ("holder", "free"),
        [
            ({"host": "elsewhere", "pid": 1, "at": 0}, False),
            ({"host": "elsewhere", "pid": 1, "at": -3600}, True),
            ({"host": "elsewhere", "pid": 1, "at": 7200}, True),
            ({"pid": "dead", "at": 0}, True),
            (b"\x00 no lock", True),
        ],
        ids=["held", "not renewed", "from the future", "its process has ended", "unreadable"],
    )
    def test_a_lease_is_free_when_its_holder_is_gone(self, holder, free, tmp_path):
        """Where no system frees it: after a while without renewal, or when the process of this machine is gone."""
        if isinstance(holder, dict):
            if holder["pid"] == "dead":
                with subprocess.Popen([sys.executable, "-c", ""]) as ended:
                    holder = {"pid": ended.pid, "at": 0, "host": __import__("socket").gethostname()}
            holder = msgspec.json.encode(holder | {"at": time.time() + holder["at"], "token": "theirs"})
        path = tmp_path / ".lock"
        path.write_bytes(holder)
        lock = LeaseLock(fsspec.filesystem("file"), str(path))
        if free:
            lock.take()
            lock.release()
            assert not path.exists()
        else:
            with pytest.raises(BackfillLockedError, match="elsewhere"):
                lock.take()
            lock.release()
            assert path.exists()

    def test_a_lease_that_was_taken_over_is_noticed(self, tmp_path):
        """By whoever lost it, at its next renewal."""
        slow, _, path = taken_over(tmp_path)
        with pytest.raises(BackfillLockedError, match="is at work"):
            slow.renew()
        slow.release()
        assert path.exists()

    def test_a_lease_that_was_taken_over_and_given_back_is_noticed_too(self, tmp_path):
        """The other one has ended, and the folder is not what it was."""
        slow, other, path = taken_over(tmp_path)
        other.release()
        with pytest.raises(BackfillLockedError, match="is gone"):
            slow.renew()
        slow.release()
        assert not path.exists()

    def test_a_lease_is_written_anew_when_it_has_aged(self, tmp_path):
        """Sooner, a renewal is but a look."""
        path = tmp_path / ".lock"
        lock = LeaseLock(fsspec.filesystem("file"), str(path))
        lock.take()
        for age, anew in ((20, False), (40, True), (-40, True)):
            holder = msgspec.json.decode(path.read_bytes())
            aged = msgspec.json.encode(holder | {"at": time.time() - age})
            path.write_bytes(aged)
            lock.renew()
            assert (path.read_bytes() != aged) is anew
        lock.release()


class TestChunks:
    def test_sums_depend_on_the_ids_alone(self):
        """Not on their order, their form, or how they were cut."""
        ids = [random.Random(3).getrandbits(62) for _ in range(500)]
        known = IdChecksum.of(ids)
        calls, arrow = CallChunk([call(one) for one in ids]), ArrowChunk(batch(ids))
        assert str(calls.ids()) == str(arrow.ids()) == str(known) == str(IdChecksum.of(reversed(ids)))
        assert arrow.slice(0, 200).ids() + arrow.slice(200, 500).ids() == known
        assert calls.slice(0, 1).ids() + calls.slice(1, 500).ids() == known
        assert known.rows == 500
        assert str(IdChecksum.of([*ids[1:], ids[0] + 1])) != str(known)
        assert ArrowChunk(batch([])).ids() == IdChecksum()

    @pytest.mark.parametrize("top", [2**63 - 1, 2**62, 3_037_000_500, 1])
    def test_sums_wrap_alike_in_both_forms(self, top):
        """Ids near 2^63 overflow what a machine adds and multiplies, and no sum tells how they came."""
        ids = [top - place for place in range(min(top, 700))]
        assert (
            ArrowChunk(batch(ids)).ids() == CallChunk([call(one) for one in ids]).ids() == IdChecksum.of(ids)
        )
        assert ArrowChunk(batch(ids)).ids().squares < 1 << 64

    def test_a_part_of_a_batch_has_its_own_ids_and_starts(self):
        """However often it was cut: a part shares the memory of the whole, and begins somewhere in it."""
        ids = [place * 10**17 for place in range(50)]
        whole = batch(ids)
        for begin, end in [(0, 50), (0, 1), (7, 31), (49, 50), (50, 50), (13, 13)]:
            for chunk in (
                ArrowChunk(whole).slice(begin, end),
                ArrowChunk(whole.slice(begin, end - begin)),
                ArrowChunk(whole.slice(min(begin, 5))).slice(begin - min(begin, 5), end - min(begin, 5)),
            ):
                assert chunk.rows == end - begin
                assert chunk.ids() == IdChecksum.of(ids[begin:end])
                assert [chunk.start(row) for row in range(chunk.rows)] == [
                    FIRST + timedelta(seconds=place) for place in range(begin, end)
                ]
                for place in (begin, (begin + end) // 2, end):
                    assert cut(chunk, 0, FIRST + timedelta(seconds=place)) == place - begin

    @pytest.mark.parametrize(
        "empty",
        [
            batch([]),
            batch([1, 2]).slice(2),
            batch([1, 2]).filter(pa.array([False, False])),
            batch([1]).schema.empty_table().combine_chunks().to_batches(max_chunksize=1),
        ],
        ids=["made so", "the end of one", "filtered", "of a table"],
    )
    def test_an_empty_batch_is_no_calls(self, empty):
        """Wherever it comes from; there is nothing to look at."""
        for one in empty if isinstance(empty, list) else [empty]:
            assert ArrowChunk(one).ids() == IdChecksum()
            assert cut(ArrowChunk(one), 0, FIRST) == 0

    @pytest.mark.parametrize("form", [CallChunk, ArrowChunk])
    def test_a_chunk_is_cut_where_a_moment_begins(self, form):
        """The first row that does not begin before it."""
        starts = [FIRST + timedelta(seconds=place) for place in range(10)]
        chunk = (
            ArrowChunk(batch(list(range(10))))
            if form is ArrowChunk
            else CallChunk([call(place, start) for place, start in enumerate(starts)])
        )
        assert [cut(chunk, 0, FIRST + timedelta(seconds=place)) for place in (-1, 0, 3, 9, 10, 99)] == [
            0,
            0,
            3,
            9,
            10,
            10,
        ]
        assert cut(chunk, 5, FIRST) == 5

    def test_an_aware_start_is_wall_time(self):
        """Days are the account's days."""
        zone = ZoneInfo("America/New_York")
        start = datetime(2024, 1, 31, 23, 30, tzinfo=zone)
        shown_in_utc = pa.record_batch([pa.array([start], pa.timestamp("us", "UTC"))], ["call_start"])
        assert ArrowChunk(shown_in_utc, zone).start(0) == datetime(2024, 1, 31, 23, 30)
        assert CallChunk([call(1, start)]).start(0) == datetime(2024, 1, 31, 23, 30)

    @pytest.mark.parametrize(
        ("zone", "change", "walls"),
        [
            ("America/New_York", "2024-03-10 07:00", ["01:00", "01:59:59.999999", "03:00", "04:00"]),
            ("America/New_York", "2024-11-03 06:00", ["01:00", "01:59:59.999999", "01:00", "02:00"]),
            ("Europe/London", "2024-03-31 01:00", ["00:00", "00:59:59.999999", "02:00", "03:00"]),
            ("Australia/Lord_Howe", "2024-04-06 15:00", ["01:00", "01:59:59.999999", "01:30", "02:30"]),
        ],
        ids=["forward", "back", "forward in London", "back by half an hour"],
    )
    def test_both_sides_of_a_clock_change_have_their_own_wall_time(self, zone, change, walls):
        """An hour that comes twice is the same hour of the day both times; and days are cut at their own midnight."""
        zone = ZoneInfo(zone)
        moment = datetime.fromisoformat(change).replace(tzinfo=UTC)
        hour, tick = timedelta(hours=1), timedelta(microseconds=1)
        instants = [moment - hour, moment - tick, moment, moment + hour]
        column = pa.array(instants, pa.timestamp("us", str(zone)))
        chunk = ArrowChunk(pa.record_batch([column], ["call_start"]), zone)
        assert [chunk.start(row).time() for row in range(4)] == [
            time_of_day.fromisoformat(one) for one in walls
        ]
        assert [chunk.start(row) for row in range(4)] == [
            one.astimezone(zone).replace(tzinfo=None) for one in instants
        ]
        assert chunk.start(2) == CallChunk([call(1, moment.astimezone(zone))]).start(0)
        day = chunk.start(0).replace(hour=0, minute=0)
        assert cut(chunk, 0, day) == 0
        assert cut(chunk, 0, day + timedelta(days=1)) == 4

    def test_a_day_of_a_clock_change_is_cut_at_its_midnights(self):
        """It has 23 or 25 hours; none of its neighbours' are among them."""
        zone = ZoneInfo("America/New_York")
        for change, hours in ((datetime(2024, 3, 10), 23), (datetime(2024, 11, 3), 25)):
            first = change.replace(tzinfo=zone).astimezone(UTC) - timedelta(hours=24)
            instants = [first + timedelta(hours=place) for place in range(72)]
            column = pa.array(instants, pa.timestamp("us", str(zone)))
            chunk = ArrowChunk(pa.record_batch([column], ["call_start"]), zone)
            begin = cut(chunk, 0, change)
            assert (begin, cut(chunk, begin, change + timedelta(days=1)) - begin) == (24, hours)


class TestFormats:
    def written(self, name, data, fields=Fields.DEFAULT):
        file = io.BytesIO()
        writer = format_named(name).writer(file, tuple(map(str, fields)))
        for some in data:
            writer.write(some)
        writer.finish()
        return file.getvalue()

    def test_json_lines_are_the_endpoint_s_own_words(self):
        """One document a line."""
        calls = [call(1, call_result="ANSWERED"), call(2, has_recording=True)]
        assert [json.loads(line) for line in self.written("jsonl", [calls]).splitlines()] == [
            {"id": 1, "call_start": "2024-01-31 10:00:00", "call_result": "ANSWERED"},
            {"id": 2, "call_start": "2024-01-31 10:00:00", "has_recording": "TRUE"},
        ]

    def test_packed_lines_are_one_zstd_frame(self):
        """Any reader unpacks them to the same lines."""
        calls = [call(number) for number in range(2500)]
        packed = self.written("jsonl.zst", [calls[:1000], calls[1000:]])
        with pa.input_stream(io.BytesIO(packed), compression="zstd") as stream:
            assert stream.read() == self.written("jsonl", [calls])

    def test_csv_has_a_column_for_each_field_and_json_in_the_nested_ones(self):
        """In the answers' names, whatever a call holds."""
        calls = [call(1, comments=[Comment(text="a, b")]), call(2, call_result='say "hi"', extra={"new": 1})]
        text = self.written("csv", [calls], ("id", "call_start", "call_result", "comment_text")).decode()
        rows = list(csv.reader(io.StringIO(text)))
        assert rows == [
            ["id", "call_start", "call_result", "comments"],
            ["1", "2024-01-31 10:00:00", "", '[{"text":"a, b"}]'],
            ["2", "2024-01-31 10:00:00", 'say "hi"', ""],
        ]
        assert json.loads(rows[1][3]) == [{"text": "a, b"}]

    @pytest.mark.fault(68)
    @pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
    def test_no_cell_is_a_formula(self, sign):
        """A spreadsheet runs nothing of what callers and agents have written."""
        evil = f"{sign}HYPERLINK(1)"
        assert escape_formula(evil) == f"'{evil}"
        assert csv_cell([Tag(text=evil).to_dict()])[0] == "["

    @pytest.mark.parametrize("text", ["+441632960082", "-5", "-3.5", "plain", "", "'quoted"])
    def test_numbers_and_plain_texts_stay_as_they_are(self, text):
        """A phone number is no formula."""
        assert escape_formula(text) == text

    def test_parquet_has_zstd_and_says_how_it_is_sorted(self):
        """One row group for what fits into one, however it came."""
        data = self.written("parquet", [batch(list(range(10))), batch(list(range(10, 20)))])
        file = pq.ParquetFile(io.BytesIO(data))
        group = file.metadata.row_group(0)
        assert file.metadata.num_row_groups == 1
        assert group.column(0).compression == "ZSTD"
        assert [one.column_index for one in group.sorting_columns] == [1]
        assert file.read().column("id").to_pylist() == list(range(20))

    def all_columns(self, zone=None):
        """A batch of a stream with all fields, ids near 2^63 among them."""
        start = FIRST.replace(tzinfo=zone)
        calls = [
            call(
                2**63 - 1 - place,
                start + timedelta(hours=place),
                call_end=start + timedelta(hours=place, seconds=90),
                talk_time=timedelta(seconds=place),
                call_result="ANSWERED" if place % 3 else None,
                has_recording=place % 2 == 0,
                comments=[Comment(text=f"comment {place}")] * (place % 3),
            )
            for place in range(48)
        ]
        table = table_from_calls(calls, Fields.ALL, timezone=zone).combine_chunks()
        return table.to_batches()[0]

    def test_parquet_has_no_dictionaries_and_statistics_where_readers_look(self):
        """Row groups are left out by id and time; whole numbers and moments are written by their steps."""
        data = self.written("parquet", [self.all_columns()])
        group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0)
        columns = {
            group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)
        }
        assert not any(column.has_dictionary_page for column in columns.values())
        assert {column.compression for column in columns.values()} == {"ZSTD"}
        sought = {name for name, column in columns.items() if column.is_stats_set}
        assert sought == {"id", "call_start", "call_end"}
        ids, starts = columns["id"].statistics, columns["call_start"].statistics
        assert (ids.min, ids.max) == (2**63 - 48, 2**63 - 1)
        assert (starts.min, starts.max) == (FIRST, FIRST + timedelta(hours=47))
        by_steps = {name for name, column in columns.items() if "DELTA_BINARY_PACKED" in column.encodings}
        assert {"id", "call_start", "call_end", "talk_time"} <= by_steps
        assert not {"call_result", "has_recording"} & by_steps

    def test_parquet_says_how_it_is_sorted_only_where_it_is(self):
        """Each schema has its own options, though they are kept."""
        without = pa.record_batch([pa.array([2, 1], pa.int64())], ["id"])
        for data, sorting in ((batch([1]), 1), (without, None), (batch([1]), 1)):
            file = pq.ParquetFile(io.BytesIO(self.written("parquet", [data])))
            group = file.metadata.row_group(0)
            assert [one.column_index for one in group.sorting_columns or ()] == [sorting] * (
                sorting is not None
            )
        assert _options(batch([1]).schema) is _options(batch([2, 3]).schema)

    @pytest.mark.parametrize("zone", [None, ZoneInfo("America/New_York")], ids=["naive", "aware"])
    def test_duckdb_polars_and_pandas_read_what_was_written(self, zone, tmp_path):
        """The same ids, moments, durations, texts and lists, whatever the encodings; and they find single rows."""
        whole = self.all_columns(zone)
        path = tmp_path / "part-0.parquet"
        path.write_bytes(self.written("parquet", [whole.slice(0, 17), whole.slice(17)]))
        rows = whole.to_pylist()
        assert pq.read_table(path).to_pylist() == rows
        moment = rows[20]["call_start"]

        frame = pl.read_parquet(path)
        for column in (
            "id",
            "call_start",
            "call_end",
            "talk_time",
            "call_result",
            "has_recording",
            "comments",
        ):
            assert frame[column].to_list() == [row[column] for row in rows]
        found = pl.scan_parquet(path).filter(pl.col("call_start") == moment).collect()
        assert found["id"].to_list() == [rows[20]["id"]]

        read = pd.read_parquet(path)
        assert read["id"].to_list() == [row["id"] for row in rows]
        assert [one.to_pydatetime() for one in read["call_start"]] == [row["call_start"] for row in rows]
        assert [one.to_pytimedelta() for one in read["talk_time"]] == [row["talk_time"] for row in rows]
        few = pd.read_parquet(path, filters=[("id", ">=", rows[2]["id"])])
        assert few["id"].to_list() == [row["id"] for row in rows[:3]]

        with duckdb.connect() as base:
            base.execute("set TimeZone = 'UTC'")
            asked = f"select id, epoch_us(call_start), call_result, len(comments) from '{path}'"
            assert base.sql(asked).fetchall() == [
                (
                    row["id"],
                    int((row["call_start"] if zone else row["call_start"].replace(tzinfo=UTC)).timestamp())
                    * 10**6,
                    row["call_result"],
                    len(row["comments"]),
                )
                for row in rows
            ]
            found = base.execute(f"select id from '{path}' where call_start = ?", [moment]).fetchall()
            assert found == [(rows[20]["id"],)]

    def test_parquet_keeps_no_more_than_a_row_group(self, monkeypatch):
        """By rows, or by bytes where rows are large."""
        monkeypatch.setattr("iovox_async.backfill._formats.GROUP_ROWS", 30)
        monkeypatch.setattr("iovox_async.backfill._formats.GROUP_BYTES", 10_000)
        writer = ParquetWriter(io.BytesIO(), ())
        held = []
        for first in range(0, 100, 10):
            writer.write(batch(list(range(first, first + 10))))
            held.append(writer._rows)
        assert max(held) < 30
        writer.write(batch(list(range(700))))
        assert writer._rows == 0
        writer.finish()

    @pytest.mark.parametrize("name", ["jsonl", "csv", "parquet"])
    def test_a_file_without_calls_can_be_ended(self, name):
        """Nothing breaks."""
        self.written(name, [])

    def test_an_unknown_format_names_the_known_ones(self):
        """Before anything is read."""
        with pytest.raises(ConfigurationError, match=r"parquet, jsonl, jsonl\.zst, csv"):
            format_named("xml")

    @pytest.mark.parametrize("name", [form.name for form in FORMATS.values() if form.needs_arrow])
    def test_without_pyarrow_a_format_names_the_extra(self, name, monkeypatch):
        """The message holds the line that installs it."""
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(MissingExtraError, match=r"iovox-async\[arrow\]") as caught:
            format_named(name)
        assert isinstance(caught.value.__cause__, ImportError)

    def test_a_writer_that_is_thrown_away_writes_nothing_more(self, tmp_path):
        """Its file was discarded; the end it still writes goes nowhere."""
        store = LocalStorage(Path(tmp_path))
        with store.draft(NAME) as draft:
            buffer = io.BufferedWriter(draft)
            writer = ParquetWriter(buffer, ())
            writer.write(batch([1]))
            writer._flush()
        writer.finish()
        del writer, buffer
        assert store.listing() == {}
