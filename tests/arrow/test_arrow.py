"""Arrow batches hold what the records hold, whichever way they were read, and in the same order."""

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from iovox_async import (
    AsyncInsights,
    Call,
    ConfigurationError,
    Fields,
    InsightsQuery,
    MissingExtraError,
    RecordError,
    SessionError,
)
from iovox_async._paging.spec import resolve
from iovox_async._parsing.compiled import UnsupportedByFastPath
from iovox_async._parsing.decoder import CallDecoder
from iovox_async._parsing.splitter import PageSplitter
from iovox_async.arrow import SCHEMA, BatchReader, _batches, require, schema_for, table_from_calls
from iovox_async.arrow._from_fixed_layout import FixedLayoutDecoder
from iovox_async.arrow._from_json import JsonColumnDecoder
from iovox_async.arrow._timezones import OffsetTable, microseconds
from iovox_async.arrow.schema import columns_for, shapes_of
from iovox_async.models import Model
from iovox_async.sandbox import Sandbox

DATA = Path(__file__).parents[1] / "data"
LONDON = ZoneInfo("Europe/London")
SAMPLES = {
    "example-default.json": Fields.DEFAULT,
    "example-1-call-fields.json": Fields.CALL,
    "example-2-categories.json": (*Fields.DEFAULT, *Fields.CATEGORIES),
    "example-3-insights.json": (*Fields.CALL, *Fields.INSIGHTS),
}
ROW = {
    "id": 7,
    "call_start": "2024-02-26 04:39:59",
    "call_end": "2024-02-26 04:42:15",
    "talk_time": "00:02:05",
    "talk_time_sec": 125,
    "call_result": "ANSWERED",
    "has_recording": "TRUE",
}


# What a record holds, and what a batch holds, as plain values that can be compared.


def held(value):
    """An attribute as a column should have it."""
    if isinstance(value, Model):
        members = {name: held(getattr(value, name)) for name in shapes_of(type(value))}
        return {**members, "extra": dict(value.extra) or None}
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return [held(item) for item in value] if isinstance(value, list | tuple) else value


def wanted(calls, schema):
    """Records as the rows of a batch with this schema."""
    names = [name for name in schema.names if name != "extra"]
    return [
        {**{name: held(getattr(call, name)) for name in names}, "extra": dict(call.extra) or None}
        for call in calls
    ]


def seen(value, name=None):
    """A value of a batch, with the JSON in it read."""
    if name in {"extra", "call_outcomes"} and isinstance(value, str):
        return json.loads(value)
    if isinstance(value, dict):
        return {key: seen(item, key) for key, item in value.items()}
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return [seen(item) for item in value] if isinstance(value, list) else value


def rows_of(*batches):
    return [seen(row) for batch in batches for row in batch.to_pylist()]


# Reading without a network.


def reading_of(fields=Fields.ALL, timezone=None, **options):
    asked = InsightsQuery.from_arguments(
        "2000-01-01", "2030-01-01", fields=fields, order=options.pop("order", None)
    )
    return resolve(asked, now=datetime(2030, 1, 1), timezone=timezone, **options)


def page_of(rows):
    reader = PageSplitter()
    reader.feed(rows if isinstance(rows, bytes) else json.dumps(rows, ensure_ascii=False).encode())
    return reader.close()


def read(page, fields=Fields.ALL, timezone=None, on_error="raise", whole=None, **options):
    """Everything that an Arrow reader makes of a page, or of its bytes, and the structurer that counted."""
    resolved = reading_of(fields, timezone, **options)
    structurer = CallDecoder(resolved.fields, timezone=timezone, on_error=on_error)
    reader = BatchReader(structurer, resolved, timezone)
    if whole is not None:
        page = reader._page([whole[:7], whole[7:]], len(whole))
        assert page.rows == len(page.starts) == len(page.ids())
    rest = reader.rest(page, range(page.rows))

    batches, more = [], True
    while more:
        batch, _, more = reader._next(rest, sum(one.num_rows for one in batches))
        batches.append(batch)
    return batches, structurer


def records(page, fields=Fields.ALL, timezone=None, on_error="raise"):
    structurer = CallDecoder(fields, timezone=timezone, on_error=on_error)
    return [
        call
        for index, segment in page.pick(range(page.rows))
        for call in structurer.batch(segment.data, index)
    ], structurer


def check(page, fields=Fields.ALL, timezone=None, on_error="raise"):
    """All ways make the same of a page: rows and counts, or the same error."""
    for whole in (None, page.raw(range(page.rows))):
        check_one(page, fields, timezone, on_error, whole)


def check_one(page, fields, timezone, on_error, whole):
    calls, counted, error = None, None, None
    try:
        calls, counted = records(page, fields, timezone, on_error)
    except RecordError as raised:
        error = raised
    if error is not None:
        with pytest.raises(RecordError) as caught:
            read(page, fields, timezone, on_error, whole)
        assert (caught.value.index, caught.value.path) == (error.index, error.path)
        return
    calls.sort(key=lambda call: (call.call_start.replace(microsecond=0), call.id))
    batches, structurer = read(page, fields, timezone, on_error, whole)
    schema = schema_for(fields, timezone)
    assert all(batch.schema.equals(schema) for batch in batches)
    for batch in batches:
        batch.validate(full=True)
    assert rows_of(*batches) == wanted(calls, schema)
    assert (structurer.coerced, structurer.skipped) == (counted.coerced, counted.skipped)


def fits_the_fast_way(page, fields=Fields.ALL, timezone=None):
    columns = columns_for(fields)
    data = [segment.data for segment in page.segments]
    try:
        JsonColumnDecoder(columns, ("id", "call_start"), timezone).table(data, page.rows)
    except UnsupportedByFastPath:
        return False
    return True


@pytest.mark.parametrize("timezone", [None, LONDON], ids=["naive", "aware"])
@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_of_the_documentation_are_read_the_fast_way_and_as_records_are(name, timezone):
    """The endpoint's own examples, as they stand, hold the records' values."""
    page = page_of((DATA / name).read_bytes())
    check(page, SAMPLES[name], timezone)
    check(page, Fields.ALL, timezone)
    assert fits_the_fast_way(page, SAMPLES[name], timezone)


NESTED = {
    "categories": {
        "link_categories": [{"category_id": "", "label": "a", "value": "b"}],
        "call_categories": [],
    },
    "comments": [{"comment_id": "1", "created": "2024-02-26 05:00:00", "text": "Grüße 🎉"}],
    "tags": [{"text": "Sale", "colour": "RED"}, {"text": "x"}],
    "tasks": [{"username": "a", "reminder_date": "", "due_date": None}],
    "keyword_rules": [{"keyword_rule": "r", "keywords": [{"keyword": "k", "count": 2}]}],
    "transcriptions": [
        {"text": "Hi", "phrases": [{"phrase": "Hi", "speaker": "caller", "start": 0, "end": 9}]}
    ],
}
ORDINARY = {
    "no rows": [],
    "all lists": [{**ROW, **NESTED}, ROW],
    "null lists": [{**ROW, **dict.fromkeys(NESTED)}],
    "empty lists": [{**ROW, **{name: [] for name in NESTED if name != "categories"}, "categories": {}}],
    "null lists within": [
        {
            **ROW,
            "categories": {"link_categories": None},
            "keyword_rules": [{"keywords": None}],
            "transcriptions": [{}],
        }
    ],
    "blank date": [{**ROW, "call_end": "", "id": 1}, {**ROW, "id": 2}],
    "blank dates only": [{**ROW, "call_end": ""}],
    "several blanks in a row": [
        {**ROW, "call_end": "", "talk_time": "", "has_recording": ""},
        {**ROW, "id": 8},
    ],
    "blank dates in two tasks": [ROW, {**ROW, "id": 8, "tasks": [{"created": ""}, {"due_date": ""}, {}]}],
    "a T in a date, and fractions": [
        {**ROW, "call_start": "2024-02-26T04:39:59.25", "call_end": "2024-02-26 04:42:15.123456"}
    ],
    "long and negative durations": [{**ROW, "talk_time": "123:45:06", "call_time": "-00:00:05"}],
    "durations of a day and less": [
        {**ROW, "talk_time": "23:59:59"},
        {**ROW, "id": 8, "talk_time": "24:00:00"},
    ],
    "no duration": [{**ROW, "talk_time": None}],
    "durations bent": [{**ROW, "talk_time": "125", "call_time": "0:2:5.5"}],
    "flags bent": [{**ROW, "has_recording": "true"}, {**ROW, "id": 8, "has_recording": "0"}],
    "null values": [{**dict.fromkeys(ROW), "id": 1, "call_start": "2024-02-26 04:39:59"}],
    "unknown keys": [
        {**ROW, "new": [{"a": "2024-01-01"}, {"b": 1.5}], "newer": None},
        {**ROW, "id": 8},
        {**ROW, "new": [], "id": 9},
    ],
    "an unknown key called extra": [{**ROW, "extra": "x"}],
    "unknown key out of ASCII": [{**ROW, "schlüssel": "ß", "": 0}],
    "call outcomes of one kind": [{**ROW, "call_outcomes": [{"outcome": "2024-01-01"}]}, {**ROW, "id": 8}],
    "no call outcomes": [{**ROW, "call_outcomes": []}, {**ROW, "call_outcomes": None, "id": 8}],
    "null among call outcomes": [{**ROW, "call_outcomes": [None]}],
    "escapes": [{**ROW, "call_result": '\0\x1f"\\/\u2028 😀 \n'}],
    "escaped pair": rb'[{"id": 1, "call_start": "2024-02-26 04:39:59", "call_result": "\ud83d\ude00\u0000"}]',
    "before 1970": [
        {**ROW, "call_end": "1969-12-31 23:59:59"},
        {**ROW, "id": 8, "call_end": "0001-01-02 00:00:00"},
    ],
}
UNUSUAL = {
    "call outcomes of several kinds": [
        {**ROW, "call_outcomes": ["Sale", {"a": 1.5}, None]},
        {**ROW, "call_outcomes": None, "id": 8},
    ],
    "unknown key that is no name": [{**ROW, "\x1f": 1}, {**ROW, "id": 8, '"': 2}],
    "number as text": [{**ROW, "id": "7"}],
    "text as number": [{**ROW, "call_result": 5}],
    "flag as boolean": [{**ROW, "has_recording": True}],
    "duration as number": [{**ROW, "talk_time": 125}],
    "duration without seconds": [{**ROW, "talk_time": "00:02+01"}, {**ROW, "id": 8, "talk_time": "00:02"}],
    "object for a list": [{**ROW, "tags": {"text": "a"}}],
    "list for an object": [{**ROW, "categories": []}],
    "blank list": [{**ROW, "tags": "", "categories": ""}],
    "date of zeros": [{**ROW, "call_end": "0000-00-00 00:00:00"}],
    "year 0": [{**ROW, "call_end": "0000-01-01 00:00:00"}],
    "short date": [{**ROW, "call_end": "2024-02-26"}],
    "date with minutes": [{**ROW, "call_end": "2024-02-26 04:39"}],
    "date with an offset": [{**ROW, "call_end": "2024-02-26 04:39+01"}],
    "date with Z": [{**ROW, "call_end": "2024-02-26 04:39:59Z"}],
    "date in blanks": [{**ROW, "call_end": " 2024-02-26 04:39:59 "}],
    "unknown key in a part": [{**ROW, "tags": [{"text": "a", "new": 1}]}],
    "name as asked": [{**ROW, "talk_time_seconds": 5, "call_time_seconds": 6}],
    "null in a list": [{**ROW, "tags": [None]}],
    "null among rows": [ROW, None],
    "no object": [ROW, 5],
    "no id": [{key: value for key, value in ROW.items() if key != "id"}],
    "null for the start": [ROW, {**ROW, "call_start": None}],
    "blank start": [ROW, {**ROW, "call_start": ""}],
    "big number of a part": [{**ROW, "transcriptions": [{"phrases": [{"start": "x"}]}]}],
    "outcomes that are no list": [{**ROW, "call_outcomes": {"a": 1}}, {**ROW, "id": 8, "call_outcomes": "x"}],
    "unknown key of two kinds": [{**ROW, "new": 1}, {**ROW, "id": 8, "new": "x"}],
    "very many unknown keys": [{**ROW, **{f"key{place}": place for place in range(70)}}],
    "keys that are data": [{**ROW, "id": place, "new": {f"key{place}": place}} for place in range(70)],
    "keys that are data, in a part": [
        {**ROW, "id": place, "tags": [{f"key{place}": place}]} for place in range(70)
    ],
    "duplicate key": b'[{"id": 1, "id": 2, "call_start": "2024-02-26 04:39:59"}]',
    "lone surrogate": b'[{"id": 1, "call_start": "2024-02-26 04:39:59", "new": "\xed\xa0\x80"}]',
    "no UTF-8": b'[{"id": 1, "call_start": "2024-02-26 04:39:59", "call_result": "\xff"}]',
    "huge exponent": b'[{"id": 1, "call_start": "2024-02-26 04:39:59", "new": 1e999}]',
}


@pytest.mark.parametrize("timezone", [None, LONDON], ids=["naive", "aware"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("name", [*ORDINARY, *UNUSUAL])
def test_rows_of_every_form_are_read_as_records_are(name, on_error, timezone):
    """Values, counts and errors are those of the records."""
    check(page_of({**ORDINARY, **UNUSUAL}[name]), Fields.ALL, timezone, on_error)


@pytest.mark.parametrize("name", ORDINARY)
def test_what_servers_do_every_day_stays_on_the_fast_way(name):
    """Blanks, null, unknown keys and call outcomes do not slow a page down."""
    assert fits_the_fast_way(page_of(ORDINARY[name]))


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_refused_by_the_fast_way_and_not_misread(name):
    """Arrow alone would drop, guess or convert these."""
    assert not fits_the_fast_way(page_of(UNUSUAL[name]))


texts = st.text(max_size=8)
dates = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)).map(
    lambda moment: str(moment.replace(microsecond=0))
)
numbers = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda kids: st.lists(kids, max_size=2) | st.dictionaries(texts, kids, max_size=2),
    max_leaves=4,
)
BENT = JSON | st.sampled_from(
    [
        "",
        "5",
        5,
        5.0,
        True,
        "true",
        "FALSE",
        "0000-00-00 00:00:00",
        "2024-02-26",
        "0:2:5",
        "00:00:01.5",
        [],
        {},
        None,
    ]
)
PROPER = {
    "text": texts,
    "whole": numbers,
    "flag": st.sampled_from(["TRUE", "FALSE"]),
    "moment": dates,
    "span": st.sampled_from(["00:02:05", "00:00:00", "99:59:59"]),
    "json": st.lists(texts, max_size=2),
}


def objects(part, bend):
    """JSON objects of a class of record; some keys missing, and as much bent as asked for."""

    def values(shape):
        if shape.tag == "list":
            proper = st.lists(objects(shape.part, bend), max_size=2)
        elif shape.tag == "struct":
            proper = objects(shape.part, bend)
        else:
            proper = PROPER[shape.tag]
        return st.one_of(proper, st.none(), BENT) if bend else st.one_of(proper, proper, st.none())

    keys = {name: values(shape) for name, shape in shapes_of(part).items()}
    return st.fixed_dictionaries({}, optional=keys)


def calls_of(*, bend):
    named = st.fixed_dictionaries({"id": numbers, "call_start": dates})
    extra = st.dictionaries(texts, JSON, max_size=1) if bend else st.just({})
    return st.builds(lambda row, keys, more: {**more, **row, **keys}, objects(Call, bend), named, extra)


zones = st.sampled_from(
    [None, LONDON, timezone(timedelta(hours=-3, minutes=-30)), ZoneInfo("Australia/Lord_Howe")]
)


@settings(max_examples=60)
@given(
    rows=st.lists(calls_of(bend=True), max_size=3), zone=zones, on_error=st.sampled_from(["raise", "skip"])
)
def test_bent_records_hold_the_same_values_as_records(rows, zone, on_error):
    """Whatever form values have, in any place."""
    check(page_of(rows), Fields.ALL, zone, on_error)


@settings(max_examples=40)
@given(rows=st.lists(calls_of(bend=False), min_size=1, max_size=4), zone=zones)
def test_proper_records_are_read_the_fast_way_and_hold_the_same_values(rows, zone):
    """What the documentation shows never needs the exact way."""
    page = page_of(rows)
    check(page, Fields.ALL, zone)
    assert fits_the_fast_way(page, Fields.ALL, zone)


@given(st.lists(calls_of(bend=True), max_size=4), st.sampled_from(["\n", "\r\n", " \t"]))
@settings(max_examples=15)
def test_blanks_between_values_do_not_matter(rows, blank):
    """A page that is written over many lines is the same page."""
    text = json.dumps(rows, indent=1).replace("\n", blank)
    check(page_of(text.encode()), on_error="skip")


# Time zones.

FOLDS = ["2024-03-31 00:59:59", "2024-03-31 01:00:00", "2024-03-31 01:30:00", "2024-03-31 02:00:00"]
FOLDS += ["2024-10-27 00:59:59", "2024-10-27 01:00:00", "2024-10-27 01:59:59", "2024-10-27 02:00:00"]


def test_wall_time_becomes_the_instant_that_records_have_where_the_clock_is_changed():
    """The first of the two hours, and the offset before a gap, in one batch with ordinary days."""
    moments = ["2024-01-01 12:00:00", *FOLDS, "2024-07-01 12:00:00"]
    page = page_of([{**ROW, "id": place, "call_start": moment} for place, moment in enumerate(moments)])
    check(page, Fields.DEFAULT, LONDON)
    assert fits_the_fast_way(page, Fields.DEFAULT, LONDON)
    (batch,), _ = read(page, Fields.DEFAULT, LONDON)
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
@given(walls=st.lists(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), max_size=8))
@example(
    walls=[
        datetime(1972, 1, 7, 0, 44, 29, 999999),
        datetime(1972, 1, 7, 0, 44, 30),
        datetime(2024, 4, 7, 1, 45),
    ]
)
@example(walls=[datetime(2024, 1, 15), datetime(2024, 10, 27, 2, 30), datetime(2024, 10, 27, 0, 30)])
@example(walls=[datetime(2000, 4, 1), datetime(2024, 4, 7, 2)])
@settings(max_examples=40)
def test_instants_are_those_of_python(zone, walls):
    """Any zone, any century."""
    found = (
        OffsetTable(zone)
        .instants(pa.array([microseconds(wall) for wall in walls] + [None], pa.int64()))
        .to_pylist()
    )
    offsets = [wall.replace(tzinfo=zone).utcoffset() for wall in walls]
    assert found == [
        microseconds(wall) - offset // timedelta(microseconds=1)
        for wall, offset in zip(walls, offsets, strict=True)
    ] + [None]


def test_a_zone_without_a_name_is_shown_in_utc_or_by_its_offset():
    """Arrow knows zones by name only; the instants are right all the same."""
    kinds = [
        schema_for("call_start", zone).field(0).type.tz
        for zone in (
            "Europe/London",
            UTC,
            timezone(-timedelta(hours=3, minutes=30)),
            timezone(timedelta(seconds=1)),
        )
    ]
    assert kinds == ["Europe/London", "+00:00", "-03:30", "UTC"]


# The schema.


def test_the_schema_has_a_column_for_every_attribute_of_a_call():
    """One fixed schema, from which the asked fields choose."""
    assert SCHEMA.names == [*shapes_of(Call), "extra"]
    assert SCHEMA.field("call_start").type == pa.timestamp("us")
    assert SCHEMA.field("talk_time").type == pa.duration("us")
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
    assert schema_for().names == [
        name for name in SCHEMA.names if name in {*Fields.DEFAULT, "talk_time_sec", "extra"}
    ]
    assert schema_for("tag_colour,talk_time_seconds").names == ["talk_time_sec", "tags", "extra"]


@pytest.mark.parametrize(("fields", "zone"), [("nonsense", None), ("id", "Europe/Nowhere")])
def test_a_schema_of_what_does_not_exist_is_refused(fields, zone):
    """With the name that is wrong."""
    with pytest.raises(ConfigurationError, match=r"nonsense|Nowhere"):
        schema_for(fields, zone)


# The order of a stream.


def ties(count, *, every=3, shuffled=True):
    """Rows in the order of their seconds, several in each, their ids in another order than they have."""
    start = datetime(2024, 1, 1)
    order = [place ^ 1 for place in range(count)] if shuffled else range(count)
    return [
        {**ROW, "id": number, "call_start": str(start + timedelta(seconds=place // every))}
        for place, number in enumerate(order)
    ]


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("chunk", [None, 1, 70_000], ids=["one chunk", "a segment a chunk", "some chunks"])
@pytest.mark.parametrize("every", [1, 3, 900])
def test_calls_of_one_second_come_by_id_however_a_piece_is_cut(monkeypatch, descending, chunk, every):
    """A second that lies in two chunks is not cut in two."""
    if chunk:
        monkeypatch.setattr(_batches, "CHUNK_BYTES", chunk)
    rows = ties(3_000, every=every)
    rows = rows[::-1] if descending else rows
    order = "call_start_DESC" if descending else "call_start_ASC"
    page = page_of(rows)
    batches, _ = read(page, Fields.DEFAULT, order=order)
    assert len(page.segments) > 3
    assert (len(batches) > 1) == bool(chunk)
    found = [
        (row["call_start"], row["id"])
        for batch in batches
        for row in batch.select(["call_start", "id"]).to_pylist()
    ]
    assert found == sorted(
        ((datetime.fromisoformat(row["call_start"]), row["id"]) for row in rows), reverse=descending
    )


def test_one_bent_record_slows_its_own_neighbours_only():
    """The rest of a piece stays on the fast way, and the order is kept."""
    rows = ties(3_000, shuffled=False)
    rows[1500] = {**rows[1500], "id": "1500", "call_result": 5}
    page = page_of(rows)
    check(page, Fields.DEFAULT)


def test_a_number_beyond_64_bits_is_an_error_of_its_record_and_can_be_skipped():
    """No column can hold it, so it is never shown as another."""
    rows = [ROW, {**ROW, "id": 8, "talk_time_sec": 2**64}, {**ROW, "id": 9}]
    with pytest.raises(RecordError, match="64 bits") as caught:
        read(page_of(rows))
    assert (caught.value.index, caught.value.path) == (1, "$[1].talk_time_sec")
    (batch,), structurer = read(page_of(rows), on_error="skip")
    assert (batch.column("id").to_pylist(), structurer.skipped) == ([7, 9], 1)


def test_known_keys_that_were_not_asked_for_are_left_out_and_checked():
    """A server that answers more than it was asked does not slow the stream down."""
    page = page_of([{**ROW, **NESTED, "call_outcomes": []}])
    check(page, ("id", "call_start", "call_result"))
    assert fits_the_fast_way(page, ("id", "call_start", "call_result"))
    with pytest.raises(RecordError):
        read(page_of([{**ROW, "node_name": []}]), "id,call_start")


async def test_the_work_is_done_in_another_thread():
    """Nothing of a piece is touched on the event loop's thread."""
    threads = set()

    def segments(page):
        for found in page.pick(range(page.rows)):
            threads.add(threading.get_ident())
            yield found

    resolved = reading_of(Fields.DEFAULT)
    reader = BatchReader(CallDecoder(resolved.fields), resolved, None)
    for rows in ([ROW], [{**ROW, "call_result": 5}]):
        batch, last, more = await reader.read(segments(page_of(rows)), 0)
        assert (batch.num_rows, last, more) == (1, (datetime(2024, 2, 26, 4, 39, 59), 7), False)
    assert threading.get_ident() not in threads


# Whole streams.


@pytest.fixture(scope="module")
def sandbox():
    """The endpoint in miniature, with ties in plenty."""
    return Sandbox(calls=1_500, start="2024-01-01 08:00:00", end="2024-01-01 08:20:00", seed=3)


@pytest.fixture
async def insights(sandbox):
    """A session with the sandbox."""
    async with sandbox.serve() as base_url, AsyncInsights("demo", "demo-key", base_url=base_url) as session:
        yield session


RANGE = ("2024-01-01", "2024-01-02")


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
async def test_a_stream_hands_out_the_same_calls_in_the_same_order_as_arrow(insights, options):
    """Batches, one after the other, are the records."""
    calls = await insights.stream(*RANGE, **options).collect()
    stream = insights.stream(*RANGE, **options)
    batches = [batch async for batch in stream.arrow()]
    fields = options.get("fields", Fields.DEFAULT)
    assert all(batch.num_rows and batch.schema.equals(schema_for(fields)) for batch in batches)
    found, meant = rows_of(*batches), wanted(calls, schema_for(fields))
    if not options.get("ordered", True):
        found, meant = (sorted(rows, key=lambda row: row["id"]) for rows in (found, meant))
    assert found == meant
    assert stream.stats.calls == len(calls)


@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
async def test_a_stream_goes_on_from_a_position_within_a_second(insights, order):
    """A position from either way is good for the other, and no call comes twice or is lost."""
    meant = [call.id for call in await insights.stream(*RANGE, order=order).collect()]
    for stop in (1, 500, 501, 502, 1_499):
        first = insights.stream(*RANGE, order=order, max_calls=stop)
        found = [number async for batch in first.arrow() for number in batch.column("id").to_pylist()]
        rest = insights.stream(*RANGE, order=order, resume=first.position)
        found += [number async for batch in rest.arrow() for number in batch.column("id").to_pylist()]
        assert found == meant
        again = insights.stream(*RANGE, order=order, resume=first.position)
        assert [call.id async for call in again] == meant[stop:]


async def test_a_stream_is_read_one_way_only(insights):
    """As records or as batches."""
    stream = insights.stream(*RANGE)
    async for _ in stream.arrow():
        break
    with pytest.raises(SessionError, match="arrow"):
        await stream.collect()
    await stream.aclose()


# Calls that are records already.


@pytest.mark.parametrize("zone", [None, "Europe/London"])
def test_a_table_of_calls_has_the_schema_of_the_stream(zone):
    """Naive dates are the zone's wall time; what was not asked for is left out."""
    page = page_of([{**ROW, **NESTED, "id": number, "new": number} for number in range(1_100)])
    calls, _ = records(page)
    table = table_from_calls(calls, Fields.ALL, zone)
    assert table.schema.equals(schema_for(Fields.ALL, zone))
    aware, _ = records(page, timezone=zone and ZoneInfo(zone))
    assert rows_of(table) == wanted(aware, table.schema)
    assert table_from_calls(iter(calls), "id").column_names == ["id", "extra"]
    assert table_from_calls([], Fields.ALL).num_rows == 0
    calls[1_099].id = 2**70
    with pytest.raises(RecordError, match=r"\$\[1099\].id"):
        table_from_calls(calls)


def test_dates_of_records_in_another_zone_are_the_same_instants():
    """An aware record keeps its instant; without a zone, its wall time."""
    call = Call(1, datetime(2024, 7, 1, 12, tzinfo=LONDON), tags=())
    assert table_from_calls([call], timezone="UTC")["call_start"][0].as_py() == call.call_start
    assert table_from_calls([call])["call_start"][0].as_py() == datetime(2024, 7, 1, 12)


# The recipes of the README.


async def test_recipe_for_pyarrow_and_parquet(insights, tmp_path):
    """A file that is written batch by batch, in flat memory."""
    path = tmp_path / "calls.parquet"
    stream = insights.stream(*RANGE, fields=Fields.ALL)
    with pq.ParquetWriter(path, schema_for(Fields.ALL)) as writer:
        async for batch in stream.arrow():
            writer.write_batch(batch)
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    assert rows_of(table) == wanted(await insights.stream(*RANGE, fields=Fields.ALL).collect(), SCHEMA)


async def test_recipe_for_polars(insights, sandbox):
    """A polars DataFrame."""
    polars = pytest.importorskip("polars")
    batches = [batch async for batch in insights.stream(*RANGE).arrow()]
    calls = polars.from_arrow(pa.Table.from_batches(batches, schema_for()))
    answered = calls.filter(polars.col("talk_time") > timedelta(0))
    assert answered["talk_time"].dtype == polars.Duration("us")
    assert calls["id"].to_list() == sandbox.ids()
    assert calls.group_by("call_result").agg(polars.len()).height > 1


async def test_recipe_for_pandas(insights, sandbox):
    """A pandas DataFrame with Arrow's own types, so that no value changes."""
    pandas = pytest.importorskip("pandas")
    batches = [batch async for batch in insights.stream(*RANGE).arrow()]
    calls = pa.Table.from_batches(batches, schema_for()).to_pandas(types_mapper=pandas.ArrowDtype)
    assert calls["id"].tolist() == sandbox.ids()
    assert calls.groupby(calls["call_start"].dt.hour)["talk_time"].sum().iloc[0] > pandas.Timedelta(0)


async def test_recipe_for_duckdb(insights, sandbox):
    """SQL over the calls, with nothing copied."""
    duckdb = pytest.importorskip("duckdb")
    batches = [batch async for batch in insights.stream(*RANGE, fields=Fields.ALL).arrow()]
    calls = pa.Table.from_batches(batches, schema_for(Fields.ALL))
    with duckdb.connect() as database:
        database.register("calls", calls)
        rows = database.sql(
            "SELECT call_result, count(*), sum(epoch(talk_time)) FROM calls GROUP BY ALL"
        ).fetchall()
        [(spoken,)] = database.sql(
            "SELECT count(*) FROM (SELECT unnest(transcriptions) AS t FROM calls) WHERE len(t.phrases) > 0"
        ).fetchall()
    assert sum(count for _, count, _ in rows) == len(sandbox.ids())
    assert spoken > 0


def test_without_pyarrow_the_line_that_installs_it_is_named(monkeypatch):
    """Whichever door is tried."""
    code = "import sys; sys.modules['pyarrow'] = None; from iovox_async.arrow import SCHEMA"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "iovox-async[arrow]"' in done.stderr
    require()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"iovox-async\[arrow\]"):
        require()


def test_pandas_is_not_imported_behind_the_readers_back():
    """Pyarrow imports it to convert a Python value: half a second and 50 MB, in the middle of a stream."""
    pytest.importorskip("pandas")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import test_arrow as tests
page = tests.page_of([{**tests.ROW, **tests.NESTED, "new": 1}] * 3)
bent = tests.page_of([{**tests.ROW, **tests.NESTED, "call_result": 5, "call_end": ""}] * 3)
odd = tests.page_of([{**tests.ROW, "call_end": "", "talk_time": "5", "has_recording": ""}] * 3)
for zone in (None, tests.LONDON):
    for order in ("call_start_ASC", "call_start_DESC"):
        for found in (page, bent, odd):
            tests.read(found, timezone=zone, order=order, max_calls=2)
tests.table_from_calls(tests.records(page)[0])
print("pandas" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parents[0])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_batches_do_not_share_memory_with_the_bytes_they_came_from():
    """The document's memory is used again for the next piece, and no batch changes when it is."""
    resolved = reading_of()
    reader = BatchReader(CallDecoder(resolved.fields), resolved, None)
    pages = [page_of([{**ROW, **NESTED, "node_name": mark * 40}] * 300) for mark in "abc"]
    batches = [reader._next(page.pick(range(page.rows)), 0)[0] for page in pages]
    assert [set(batch.column("node_name").to_pylist()) for batch in batches] == [
        {mark * 40} for mark in "abc"
    ]


def test_keys_that_are_data_make_a_stream_slower_and_nothing_worse():
    """Arrow would make a column of each; after the first such page, it is not asked to any more."""
    columns = columns_for(Fields.DEFAULT)
    fast = JsonColumnDecoder(columns, ("id", "call_start"), None)
    odd = page_of([{**ROW, "new": {f"key{place}": place}} for place in range(100)])
    plain = page_of([ROW])
    with pytest.raises(UnsupportedByFastPath):
        fast.table([segment.data for segment in odd.segments], odd.rows)
    with pytest.raises(UnsupportedByFastPath):
        fast.table([b'[{"id": 1, "call_start": "2024-01-01 00:00:00", "new": 1}]'], 1)
    assert fast.table([segment.data for segment in plain.segments], 1).rows == 1


def test_a_deeply_nested_unknown_value_is_kept_whole():
    """As deep as the page's own reader goes."""
    deep = "[" * 700 + "1" + "]" * 700
    page = page_of(f'[{{"id": 1, "call_start": "2024-01-01 00:00:00", "new": {deep}}}]'.encode())
    check(page)


# Rows that are all written alike.


def read_uniformly(text, rows):
    """What the uniform way makes of a page, or None where it leaves it to others."""
    return FixedLayoutDecoder(shapes_of(Call)).columns([text.encode()], rows)


@pytest.mark.parametrize("blank", ["", " ", "  "])
@pytest.mark.parametrize("name", ["example-default.json", "example-1-call-fields.json"])
def test_flat_rows_are_read_the_uniform_way(name, blank):
    """The documentation's examples, as a server that does not indent writes them."""
    rows = json.loads((DATA / name).read_bytes())
    text = json.dumps(rows, separators=("," + blank, ":" + blank))
    found = read_uniformly(text, len(rows))
    assert {key: column.to_pylist() for key, column in found.items()} == {
        key: [row[key] for row in rows] for key in rows[0]
    }
    check(page_of(text.encode()), SAMPLES[name])


TRAPS = {
    "braces in a text": [{"id": 1, "call_result": "a}, {b"}, {"id": 2, "call_result": "x"}],
    "a text like a row": [
        {"id": 1, "call_result": "}", "node_id": "{"},
        {"id": 2, "call_result": ", ", "node_id": ": "},
    ],
    "keys in another order": [{"node_id": "1", "link_id": "2"}, {"link_id": "2", "node_id": "1"}],
    "another key": [{"node_id": "1"}, {"link_id": "1"}],
    "a key less": [{"node_id": "1", "link_id": "2"}, {"node_id": "1"}],
    "a key twice": '[{"node_id": "1", "node_id": "2"}]',
    "an unknown key": [{"node_id": "1", "new": "2"}],
    "null": [{"node_id": "1", "link_id": "1"}, {"node_id": None, "link_id": "1"}],
    "a number where texts were": [{"node_id": "1"}, {"node_id": 1}],
    "a text where numbers were": [{"id": 1}, {"id": "1"}],
    "a fraction": [{"id": 1, "call_time_sec": 1}, {"id": 2, "call_time_sec": 1.5}],
    "no number": [{"id": 1, "call_time_sec": 1}, {"id": 2, "call_time_sec": True}],
    "too large a number": [{"id": 1}, {"id": 2**63}],
    "a list": [{"id": 1, "call_time_sec": 1}, {"id": 1, "call_time_sec": [1]}],
    "the same texts in an object": '[{"node_id": "a", "link_id": "b"}, {"node_id": {"a": ["link_id", "b"]}}]',
    "the same texts in a list": '[{"id": 1, "node_id": "a"}, {"id": ["node_id", "a"]}]',
    "an object and a number": '[{"id": 1, "node_id": "a"}, {"id": {"node_id": "a"}}]',
    "a text first": '["node_id", {"node_id": "a"}]',
    "a number first": '[5, {"node_id": "a"}]',
    "a number last": '[{"node_id": "a"}, 5]',
    "null between": '[{"node_id": "a"}, null, {"node_id": "b"}]',
    "a backslash": [{"node_id": "a\\"}, {"node_id": 'b"'}],
    "no text": [{"node_id": "1"}, {"node_id": "2"}, {}],
    "no keys": [{}, {}],
    "only lists": [[], []],
    "a date of zeros": [
        {"id": 1, "call_end": "2024-01-01 00:00:00"},
        {"id": 2, "call_end": "0000-00-00 00:00:00"},
    ],
    "lines": '[\n{"node_id": "a"},\n{"node_id": "b"}\n]',
    "a line within": '[{"node_id":\n"a"}, {"node_id": "b"}]',
    "no UTF-8": b'[{"node_id": "\xff"}]',
    "commas in texts": [{"id": 1, "call_result": "a, b"}, {"id": 2, "call_result": ",,"}],
    "a comma more and one less": [
        {"id": 1, "call_result": "a,b"},
        {"id": 2, "call_result": "c"},
        {"id": 3},
    ],
    "numbers at the end of rows": [
        {"node_id": "a,", "talk_time_sec": 5},
        {"node_id": "b", "talk_time_sec": 60},
    ],
    "a row twice as long and one of nothing": '[{"node_id": "1"}, {"node_id": "1", "node_id": "1"}, {}]',
    "more room in one row": '[{"id": 1, "node_id": "a"}, {"id":  1, "node_id": "a"}]',
    "less room in one row": '[{"id": 1, "node_id": "a"}, {"id":1, "node_id": "a"}]',
    "a key of the same length": [{"node_id": "a"}, {"link_id": "a"}],
    "room at both ends": ' [ {"node_id": "a"}, {"node_id": "b"} ] ',
}


@pytest.mark.parametrize("name", TRAPS)
def test_rows_that_only_look_alike_are_read_as_records_are(name):
    """Nothing that a reader of lines could be fooled by is read wrong."""
    trap = TRAPS[name]
    if not isinstance(trap, bytes):
        text = trap if isinstance(trap, str) else json.dumps(trap)
        start = '"call_start": "2024-02-26 04:39:59"'
        trap = text.encode()
        check(
            page_of(
                text.replace('{"node_id"', '{"id": 1, ' + start + ', "node_id"')
                .replace('{"id": 1,', '{"id": 1, ' + start + ",")
                .encode()
            ),
            FLAT,
            on_error="skip",
        )
    rows = len(page_of(trap).ids()) if trap.startswith(b"[") else 0
    found = FixedLayoutDecoder(shapes_of(Call)).columns([trap], rows)
    whole = FixedLayoutDecoder(shapes_of(Call)).page([trap])
    for columns in (found, whole and whole[0]):
        if columns:
            meant = json.loads(trap)
            assert {key: column.to_pylist() for key, column in columns.items()} == {
                key: [row[key] for row in meant] for key in meant[0]
            }


@pytest.mark.parametrize("name", ["commas in texts", "numbers at the end of rows", "room at both ends"])
def test_texts_may_hold_commas_and_braces(name):
    """Then quotes are counted instead, from that page on."""
    trap = TRAPS[name]
    text = trap if isinstance(trap, str) else json.dumps(trap)
    assert FixedLayoutDecoder(shapes_of(Call)).page([text.encode()]) is not None


def plain(*texts):
    return json.dumps(
        [
            {"id": 10 + row, "call_start": f"2024-02-26 04:39:5{row}", "node_id": text, "talk_time_sec": row}
            for row, text in enumerate(texts)
        ],
        ensure_ascii=False,
    ).encode()


@settings(max_examples=400)
@given(
    page=st.sampled_from([plain("a", "bc", "", "Grüße"), plain("a, b", "{c}", "")]),
    place=st.integers(0, 400),
    length=st.integers(0, 12),
    put=st.binary(max_size=3)
    | st.sampled_from([b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"\n", b"0", b"-", b" "]),
)
def test_bytes_that_are_no_json_are_not_taken_for_a_page(page, place, length, put):
    """Whatever is changed in a page: it is read as JSON says, or left to the reader that knows what is wrong with it."""
    damaged = page[:place] + put + page[place + length :]
    found = FixedLayoutDecoder(shapes_of(Call)).page([damaged])
    if found is not None:
        meant = json.loads(damaged.decode("utf-8-sig"))
        columns, rows = found
        assert rows == len(meant)
        assert {key: column.to_pylist() for key, column in columns.items()} == {
            key: [row[key] for row in meant] for key in meant[0]
        }


FLAT = tuple(field for field in Fields.CALL)
tricky = st.text(
    st.sampled_from(['"', "\\", "{", "}", "[", "]", ",", ":", " ", "a", "ß", "\n", "1"]), max_size=6
)
flat = {
    "node_id": tricky,
    "call_result": tricky,
    "talk_time_sec": st.integers(-5, 5),
    "call_end": dates,
    "talk_time": PROPER["span"],
    "has_recording": PROPER["flag"],
}


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"id": numbers, "call_start": dates, **flat}), min_size=1, max_size=4
    ),
    odd=st.none() | st.tuples(st.sampled_from(sorted(flat)), JSON),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (",", ": ")]),
)
def test_texts_full_of_punctuation_are_read_as_records_are(rows, odd, separators):
    """Texts that look like JSON, and one row that is written unlike the others."""
    if odd:
        rows[-1] = {**rows[-1], odd[0]: odd[1]}
    page = page_of(json.dumps(rows, ensure_ascii=False, separators=separators).encode())
    check(page, FLAT, on_error="skip")


def test_an_empty_page_says_nothing_about_the_next():
    """A night without calls does not slow down the day."""
    way = FixedLayoutDecoder(shapes_of(Call))
    for _ in range(5):
        assert way.page([b"[]"]) is None
    assert way.page([plain("a", "b")]) is not None


def test_after_a_page_that_was_not_uniform_some_are_not_tried():
    """Trying costs little, and nothing where it never helps; one uniform page makes up for all."""
    way = FixedLayoutDecoder(shapes_of(Call))
    odd, even = [b'[{"node_id": null}]'], [b'[{"node_id": "a"}]']
    assert [way.columns(odd, 1) for _ in range(3)] == [None] * 3
    tried = [way.columns(even, 1) is not None for _ in range(6)]
    assert tried == [False, False, False, True, True, True]
