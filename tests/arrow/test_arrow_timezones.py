"""Local times become the instants that records have, in every time zone."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.arrow_pages import LONDON, check_equal_to_records, is_decoded_from_json, page_of, read_batches
from support.model_server import examples
from support.odd_values import ROW

from iovox_async import Fields
from iovox_async.arrow._timezones import OffsetTable, to_microseconds

CLOCK_CHANGES = [
    "2024-03-31 00:59:59",
    "2024-03-31 01:00:00",
    "2024-03-31 01:30:00",
    "2024-03-31 02:00:00",
    "2024-10-27 00:59:59",
    "2024-10-27 01:00:00",
    "2024-10-27 01:59:59",
    "2024-10-27 02:00:00",
]


def test_local_times_around_a_clock_change_are_the_instants_of_records():
    """Given times in a gap and a fold, when read, then the offset is that of the first hour, or before the gap."""
    dates = ["2024-01-01 12:00:00", *CLOCK_CHANGES, "2024-07-01 12:00:00"]
    page = page_of([{**ROW, "id": number, "call_start": date} for number, date in enumerate(dates)])
    check_equal_to_records(page, Fields.DEFAULT, LONDON)
    assert is_decoded_from_json(page, Fields.DEFAULT, LONDON)
    (batch,), _ = read_batches(page, Fields.DEFAULT, LONDON)
    assert batch.schema.field("call_start").type == pa.timestamp("us", tz="Europe/London")


@pytest.mark.parametrize(
    "zone",
    [
        LONDON,
        ZoneInfo("Australia/Lord_Howe"),
        ZoneInfo("Africa/Monrovia"),
        timezone(timedelta(hours=5, seconds=7)),
        UTC,
    ],
    ids=str,
)
@given(local_times=st.lists(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), max_size=8))
@example(
    local_times=[
        datetime(1972, 1, 7, 0, 44, 29, 999999),
        datetime(1972, 1, 7, 0, 44, 30),
        datetime(2024, 4, 7, 1, 45),
    ]
)
@example(local_times=[datetime(2024, 1, 15), datetime(2024, 10, 27, 2, 30), datetime(2024, 10, 27, 0, 30)])
@example(local_times=[datetime(2000, 4, 1), datetime(2024, 4, 7, 2)])
@examples(80)
def test_instants_are_those_of_python(zone, local_times):
    """Given local times of any century, when converted, then their offsets are those of Python."""
    values = [*map(to_microseconds, local_times), None]
    instants = OffsetTable(zone).to_instants(pa.array(values, pa.int64())).to_pylist()
    offsets = [local.replace(tzinfo=zone).utcoffset() for local in local_times]
    assert instants == [
        to_microseconds(local) - offset // timedelta(microseconds=1)
        for local, offset in zip(local_times, offsets, strict=True)
    ] + [None]
