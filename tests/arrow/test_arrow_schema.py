"""The schemas of batches, tables of calls, and the imports of the package."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from support.arrow_pages import LONDON, expected_rows, page_of, read_records, rows_of
from support.odd_values import NESTED, ROW

from iovox_async import AsyncInsights, Call, ConfigurationError, Fields, MissingExtraError, RecordError
from iovox_async.arrow import SCHEMA, _from_records, schema_for, table_from_calls
from iovox_async.arrow.schema import column_types


def test_the_schema_has_a_column_for_every_attribute_of_a_call():
    """Given all fields, then the schema has all attributes of `Call`; given fewer, then those requested."""
    assert SCHEMA.names == [*column_types(Call), "extra"]
    assert SCHEMA.field("call_start").type == pa.timestamp("us")
    assert SCHEMA.field("talk_time").type == pa.int64()
    assert SCHEMA.field("has_recording").type == pa.bool_()
    phrase = SCHEMA.field("transcriptions").type.value_type.field("phrases").type.value_type
    assert [(member.name, member.type) for member in phrase] == [
        ("phrase", pa.string()),
        ("speaker", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("turn", pa.int64()),
        ("extra", pa.string()),
    ]
    assert schema_for().names == [name for name in SCHEMA.names if name in {*Fields.DEFAULT, "extra"}]
    assert schema_for("tag_colour,talk_time_seconds").names == ["talk_time_sec", "tags", "extra"]


@pytest.mark.parametrize(("fields", "zone"), [("nonsense", None), ("id", "Europe/Nowhere")])
def test_a_schema_of_what_does_not_exist_is_refused(fields, zone):
    """Given an unknown field or time zone, when a schema is made, then the error names it."""
    with pytest.raises(ConfigurationError, match=r"nonsense|Nowhere"):
        schema_for(fields, zone)


@pytest.mark.finding("D4")
def test_a_zone_without_an_iana_name_is_shown_in_utc():
    """Given zones without an IANA name, when a schema is made, then it has UTC, since some readers refuse offsets."""
    zones = ["Europe/London", UTC, timezone(-timedelta(hours=3, minutes=30)), timezone(timedelta(seconds=1))]
    names = [schema_for("call_start", zone).field(0).type.tz for zone in zones]
    assert names == ["Europe/London", "UTC", "UTC", "UTC"]


@pytest.mark.parametrize("zone", [None, "Europe/London"])
def test_a_table_of_calls_has_the_schema_of_the_stream(monkeypatch, zone):
    """Given naive records, when a table is made, then their dates are local times of the zone."""
    monkeypatch.setattr(_from_records, "_BATCH_ROWS", 10)
    page = page_of([{**ROW, **NESTED, "id": number, "new": number} for number in range(25)])
    calls, _ = read_records(page)
    table = table_from_calls(calls, Fields.ALL, zone)
    assert table.schema.equals(schema_for(Fields.ALL, zone))
    aware, _ = read_records(page, timezone=zone and ZoneInfo(zone))
    assert rows_of(table) == expected_rows(aware, table.schema)
    assert table_from_calls(iter(calls), "id").column_names == ["id", "extra"]
    assert table_from_calls([], Fields.ALL).num_rows == 0
    calls[24].id = 2**70
    with pytest.raises(RecordError, match=r"\$\[24\].id"):
        table_from_calls(calls)


def test_dates_of_records_in_another_zone_are_the_same_instants():
    """Given an aware record, when a table is made, then it has the same instant; without a zone, the local time."""
    call = Call(1, datetime(2024, 7, 1, 12, tzinfo=LONDON))
    assert table_from_calls([call], timezone="UTC")["call_start"][0].as_py() == call.call_start
    assert table_from_calls([call])["call_start"][0].as_py() == datetime(2024, 7, 1, 12)


@pytest.mark.subprocess
def test_without_pyarrow_the_error_names_the_command_that_installs_it():
    """Given a Python without pyarrow, when the schema is imported, then the error says how to install it."""
    code = "import sys; sys.modules['pyarrow'] = None; from iovox_async.arrow import SCHEMA"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "iovox-async[arrow]"' in done.stderr


async def test_without_pyarrow_a_stream_fails_at_once(monkeypatch):
    """Given a Python without pyarrow, when `arrow()` is called, then it raises before any request."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    async with AsyncInsights("demo", "demo-key", base_url="http://localhost:9") as insights:
        with pytest.raises(MissingExtraError, match=r"iovox-async\[arrow\]"):
            insights.stream("2024-01-01", "2024-01-02").arrow()


@pytest.mark.subprocess
def test_reading_does_not_import_pandas():
    """Given pandas is installed, when pages are read by every decoder, then it is not imported (500 ms, 50 MB).

    Nor is pyarrow.compute (30 ms, 9 MB), if rows are flat and written alike.
    """
    pytest.importorskip("pandas")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from support.arrow_pages import LONDON, page_of, read_batches, read_records
from support.odd_values import NESTED, ROW
from iovox_async import Fields
from iovox_async.arrow import table_from_calls
from_json = page_of([{**ROW, **NESTED, "call_outcomes": [{"a": "b"}]}] * 3)
from_records = page_of([{**ROW, **NESTED, "new": 1, "call_result": 5, "call_end": ""}] * 3)
coerced = page_of([{**ROW, "call_end": "", "talk_time": "5", "has_recording": ""}] * 3)
fixed = page_of([ROW] * 3)
for zone in (None, LONDON):
    read_batches(None, Fields.DEFAULT, timezone=zone, body=fixed.raw(range(3)))
print("pyarrow.compute" in sys.modules)
for zone in (None, LONDON):
    for order in ("call_start_ASC", "call_start_DESC"):
        for page in (from_json, from_records, coerced, fixed):
            read_batches(page, timezone=zone, order=order, max_calls=2)
        body = fixed.raw(range(3))
        read_batches(None, Fields.DEFAULT, timezone=zone, order=order, body=body)
table_from_calls(read_records(from_json)[0])
print("pandas" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parents[1])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]
