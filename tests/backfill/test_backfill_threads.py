"""What several threads of a backfill use at the same time: the counters, and a Delta table."""

import deltalake
import pyarrow as pa
import pytest
from support.waiting import start_meanwhile

from iovox_async.backfill._delta_table import DeltaCalls
from iovox_async.backfill.report import RunCounters
from iovox_async.results import StreamStats


def test_progress_can_be_read_in_any_thread():
    """Given a thread that reads the progress, when a stream is opened and another one ends meanwhile, then it is complete."""
    counters, threads = RunCounters(), []

    class Stream:
        def __init__(self, calls):
            self.stats = StreamStats(calls=calls)

    class StreamReadSlowly(Stream):
        def __getattribute__(self, name):
            if not threads:
                threads.append(start_meanwhile(counters.stream_opened, Stream(2), 5.0))
                threads.append(start_meanwhile(counters.stream_closed, first))
            return super().__getattribute__(name)

    first = Stream(1)
    counters.stream_opened(first, 5.0)
    counters.stream_opened(StreamReadSlowly(4), 5.0)
    assert counters.progress().calls == 5
    for thread in threads:
        thread.join()
    assert counters.progress().calls == 7


@pytest.fixture
def table(tmp_path):
    """A table of two days, of which one file is missing."""
    days = pa.array(["2024-01-01", "2024-01-02"]).cast(pa.date32())
    deltalake.write_deltalake(tmp_path, pa.table({"id": [1, 2], "date": days}), partition_by=["date"])
    next(tmp_path.glob("date=2024-01-02/*.parquet")).unlink()
    table = DeltaCalls(str(tmp_path))
    assert table.load()
    return table


def test_a_version_that_is_loaded_meanwhile_is_read(table, monkeypatch):
    """Given a table that one thread begins to read, when another one repairs it, then later reads see it repaired."""
    open_dataset, threads = deltalake.DeltaTable.to_pyarrow_dataset, []

    def open_slowly(version):
        dataset = open_dataset(version)
        if not threads:
            threads.append(start_meanwhile(table.forget_missing_files))
        return dataset

    monkeypatch.setattr(deltalake.DeltaTable, "to_pyarrow_dataset", open_slowly)
    assert table.read_day("2024-01-01").num_rows == 1
    threads[0].join()
    assert table.read_day("2024-01-02").num_rows == 0
