"""Small calls and record batches for tests of chunks and file formats."""

from datetime import datetime, timedelta

import pyarrow as pa

from iovox_async import Call

FIRST_START = datetime(2024, 1, 31, 10)


def call(number, start=FIRST_START, **values):
    return Call(id=number, call_start=start, **values)


def batch(ids):
    """A record batch of calls with these ids, one per second."""
    starts = [FIRST_START + timedelta(seconds=second) for second in range(len(ids))]
    columns = [pa.array(ids, pa.int64()), pa.array(starts, pa.timestamp("us"))]
    return pa.record_batch(columns, ["id", "call_start"])
