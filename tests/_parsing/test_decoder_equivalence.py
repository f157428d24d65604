"""The compiled decoder gives the records that the lenient converter gives, whatever a page holds."""

import contextlib
import json
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.odd_values import (
    BROKEN_ROWS,
    BROKEN_TEXTS,
    COMMON_PAGES,
    INVALID_VALUES,
    NESTED,
    READABLE_VALUES,
    RECORD,
    ROW,
    UNUSUAL_PAGES,
    broken_page,
)

from iovox_async import Call, DecodeError, Fields, RecordError
from iovox_async._parsing.decoder import CallDecoder
from iovox_async._parsing.lenient import LenientConverter
from iovox_async._parsing.page import id_of
from iovox_async._parsing.splitter import PageSplitter, key_of
from iovox_async.models import Categories, item_type, types_of

LONDON = ZoneInfo("Europe/London")


def segment(*records):
    return json.dumps(records).encode()


def check_against_the_lenient_converter(raw, fields, zone=None):
    """Compares calls, counts and the first error with those of the lenient converter, record by record."""
    expected, skipped, coerced, first_error = [], 0, 0, None
    skipped_ids = set()
    for index, data in enumerate(json.loads(raw, strict=False)):
        converter = LenientConverter(zone)
        try:
            expected.append(converter.record(data, index))
        except RecordError as error:
            first_error = first_error or str(error)
            # One whose start cannot be read counts once, by its id.
            key = key_of(msgspec.Raw(json.dumps(data).encode()))
            call_id = None if key.call_start is not None else id_of(key.id)
            skipped += call_id is None or call_id not in skipped_ids
            skipped_ids.add(call_id)
        else:
            coerced += converter.coerced > 0
    decoder = CallDecoder(fields, timezone=zone, on_error="skip")
    calls = decoder.batch(raw)
    assert calls == expected
    assert [call.to_dict() for call in calls] == [call.to_dict() for call in expected]
    assert (decoder.skipped, decoder.coerced) == (skipped, coerced)
    if first_error is not None:
        with pytest.raises(RecordError) as caught:
            CallDecoder(fields, timezone=zone).batch(raw)
        assert str(caught.value) == first_error


@pytest.mark.sweep(7)
@pytest.mark.parametrize("zone", [None, LONDON], ids=["naive", "aware"])
@pytest.mark.parametrize("name", [*COMMON_PAGES, *UNUSUAL_PAGES])
def test_odd_pages_are_decoded_as_converted(name, zone):
    """Given a page with odd values, then calls, counts and errors are those of the lenient converter."""
    page = {**COMMON_PAGES, **UNUSUAL_PAGES}[name]
    if name == "huge exponent":
        with pytest.raises(RecordError, match="cannot be decoded"):
            CallDecoder(Fields.ALL, timezone=zone).batch(page)
        return
    raw = page if isinstance(page, bytes) else json.dumps(page).encode()
    for fields in (Fields.ALL, Fields.DEFAULT):
        check_against_the_lenient_converter(raw, fields, zone)


def split(page):
    """The only segment of a page."""
    splitter = PageSplitter()
    splitter.feed(page)
    (segment,) = splitter.build().segments
    return segment.data


@pytest.mark.finding("A12")
@pytest.mark.parametrize("fields", [Fields.ALL, Fields.DEFAULT], ids=["all", "default"])
@pytest.mark.parametrize(("members", "expected"), BROKEN_TEXTS.values(), ids=BROKEN_TEXTS)
def test_a_text_that_is_no_unicode_is_coerced(members, expected, fields):
    """Given half an emoji or the like in one row, then it is a replacement character, and the row counts as coerced."""
    decoder = CallDecoder(fields)
    calls = decoder.batch(split(broken_page(members)))
    assert [call.id for call in calls] == [7, 8, 9]
    assert calls[1].to_dict() == {**RECORD, "id": 8, **expected}
    assert calls[0].to_dict() == {**RECORD, "id": 7}
    assert (decoder.coerced, decoder.skipped) == (1, 0)


@pytest.mark.finding("A12")
@pytest.mark.parametrize("members", BROKEN_ROWS.values(), ids=BROKEN_ROWS)
def test_a_broken_row_is_an_error_of_that_row(members):
    """Given a row with NaN or the like, then it is skipped, or a `RecordError` names it; the others are read."""
    data = split(broken_page(members))
    decoder = CallDecoder(Fields.ALL, on_error="skip")
    assert [call.id for call in decoder.batch(data)] == [7, 9]
    assert (decoder.coerced, decoder.skipped) == (0, 1)
    with pytest.raises(RecordError) as caught:
        CallDecoder(Fields.ALL).batch(data, 10)
    assert caught.value.index == 11


@pytest.mark.finding("A16")
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_what_a_segment_gives_does_not_depend_on_earlier_ones(on_error):
    """Given segments in any order, read by one decoder, then each gives what it gives alone: calls, counts, errors."""

    def outcome(decoder, raw):
        decoder.coerced = decoder.skipped = 0
        try:
            return [call.to_dict() for call in decoder.batch(raw)], decoder.coerced, decoder.skipped
        except RecordError as error:
            return str(error)

    segments = [
        segment(ROW),
        segment({**ROW, "new": 1}),
        segment({**ROW, "new": 1, "node_name": "Leeds"}),
        segment({**ROW, "node_name": "Leeds"}),
        segment({**ROW, "node_name": 5}),
        segment({**ROW, "node_name": []}),
        segment({**ROW, "tags": [{"text": "a", "new": 1}]}),
        segment({**ROW, "tags": [{"text": []}]}),
        segment({**ROW, **{f"key_{number}": number for number in range(12)}}),
        segment({**ROW, "talk_time_seconds": 5}),
    ]
    alone = [outcome(CallDecoder(Fields.DEFAULT, on_error=on_error), raw) for raw in segments]
    for order in (1, -1):
        decoder = CallDecoder(Fields.DEFAULT, on_error=on_error)
        for _ in range(2):
            assert [outcome(decoder, raw) for raw in segments[::order]] == alone[::order]


@pytest.mark.sweep(4)
@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, value, *_ in READABLE_VALUES] + INVALID_VALUES,
    ids=lambda _: "",
)
def test_odd_values_are_decoded_as_converted(name, value):
    """Given an odd value between ordinary records, then calls, counts and errors are those of the lenient converter."""
    rows = [ROW, {**ROW, **NESTED, name: value}, ROW]
    try:
        raw = json.dumps(rows, allow_nan=False).encode()
    except ValueError:  # NaN and infinity are no JSON, and some numbers are too long to print
        return
    check_against_the_lenient_converter(raw, Fields.ALL)


texts = st.text(max_size=6)
dates = st.datetimes().map(lambda at: at.isoformat(" "))
durations = st.integers(-400_000, 400_000).map(
    lambda n: f"{'-' * (n < 0)}{abs(n) // 3600:02}:{abs(n) // 60 % 60:02}:{abs(n) % 60:02}"
)
leaves = st.sampled_from(
    [
        *(
            None,
            True,
            False,
            0,
            1,
            -1,
            1.0,
            1.5,
            2**63,
            10**30,
            "",
            " ",
            "2",
            "-7",
            "447598455773",
            "é",
            "TRUE",
            "true",
        ),
        *("00:02:05", "0:2:5", "125", "2024-02-26", "2024-02-26T04:39:59.5", "2024-02-26t04:39:59.1234567"),
        *(
            "0000-00-00 00:00:00",
            "2024-02-26 04:39:59Z",
            "2024-02-26 04:39:60",
            "9999-12-31 23:59:59.9999999",
        ),
    ]
)
odd_values = (
    leaves
    | st.lists(leaves, max_size=2)
    | st.dictionaries(st.sampled_from(["text", "unknown"]), leaves, max_size=2)
)


def documented_values(type_):
    """Values of one type in the documented form, or null."""
    type_name = str(type_)
    if item := item_type(type_):
        return st.lists(leaves if "Any" in str(item) else objects(item), max_size=2) | st.none()
    if "Categories" in type_name:
        return objects(Categories) | st.none()
    if "datetime.datetime" in type_name:
        return dates | st.none()
    if "timedelta" in type_name:
        return durations | st.none()
    if "bool" in type_name:
        return st.sampled_from(["TRUE", "FALSE", None])
    return (st.integers() if "int" in type_name else texts) | st.none()


def objects(kind):
    """Objects of one class, with any of its keys."""
    return st.fixed_dictionaries(
        {}, optional={name: documented_values(type_) for name, type_ in types_of(kind).items()}
    )


def paths(data, path=()):
    """The paths of all values in a record, and of keys that could be added."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from paths(value, (*path, key))
    if isinstance(data, dict):
        yield from ((*path, key) for key in ("unknown", "more", "talk_time_seconds", "extra"))


@st.composite
def pages(draw):
    """Records as documented, with an odd value in up to two paths of one or of all records."""
    other = {
        name: documented_values(type_)
        for name, type_ in types_of(Call).items()
        if name not in {"id", "call_start"}
    }
    kept = draw(st.sets(st.sampled_from(sorted(other)), max_size=8))
    keys = {"id": st.integers(0, 2**63), "call_start": dates}
    records = draw(st.lists(st.fixed_dictionaries(keys | {name: other[name] for name in kept}), max_size=4))
    for _ in range(draw(st.integers(0, 2)) if records else 0):
        path = draw(st.sampled_from(list(paths(records[0]))))
        value = draw(odd_values)
        for data in draw(st.sampled_from([records, records[:1]])):
            target = data
            with contextlib.suppress(LookupError, TypeError):
                for key in path[:-1]:
                    target = target[key]
                target[path[-1]] = value
    return records


@given(
    pages(),
    st.sampled_from([Fields.DEFAULT, Fields.ALL, Fields.CALL, ("id", "call_start")]),
    st.sampled_from([None, LONDON]),
)
def test_any_page_is_decoded_as_converted(records, fields, zone):
    """Given documented records with odd values, then calls, counts and errors are those of the lenient converter."""
    check_against_the_lenient_converter(segment(*records), fields, zone)


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda raw: b'[{"id":1,"x":"' + raw + b'"}]'))
def test_any_bytes_are_decoded_or_a_decode_error(raw):
    """Given any bytes, then there are calls or a `DecodeError` (such as `RecordError`), and no other error."""
    with contextlib.suppress(DecodeError):
        CallDecoder(("id",)).batch(raw)
