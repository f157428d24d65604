import json
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.odd_values import INVALID_VALUES, READABLE_VALUES, RECORD, START

from iovox_async import Call, ConfigurationError, RecordError, make_converter
from iovox_async._parsing.lenient import LenientConverter
from iovox_async.models import Tag, types_of

structure = make_converter().structure


def read(**fields):
    """A call with these fields, and how many values were coerced."""
    converter = LenientConverter()
    return converter.record({**RECORD, **fields}, 0), converter.coerced


def outcome(data, kind):
    """The record made of data, or its `RecordError`; any other exception fails the test."""
    try:
        return structure(data, kind)
    except RecordError as error:
        return error


@pytest.mark.fault(42)
@pytest.mark.parametrize(("name", "value", "expected", "coerced"), READABLE_VALUES, ids=str)
def test_unusual_values_are_read_by_rule_and_counted(name, value, expected, coerced):
    """Given a value in an unusual form, when converted, then the record has its meaning, and the count is right."""
    call, count = read(**{name: value})
    assert getattr(call, name) == expected
    assert type(getattr(call, name)) is type(expected)
    assert count == coerced
    assert call.extra == {}


@pytest.mark.parametrize(
    ("path", "value"),
    INVALID_VALUES,
    ids=lambda value: str(value)[:30] if not isinstance(value, int) else "int",
)
def test_an_invalid_value_is_an_error_with_its_path(path, value):
    """Given a value that no record can hold, then a `RecordError` with index and path is raised, never another error."""
    with pytest.raises(RecordError) as caught:
        LenientConverter().record({**RECORD, path: value}, 17)
    assert type(caught.value) is RecordError
    assert caught.value.path == f"$[17].{path}"
    assert caught.value.index == 17
    assert str(caught.value).startswith(f"$[17].{path}: ")
    assert 'on_error="skip"' in str(caught.value)


@pytest.mark.parametrize(
    ("record", "path"),
    [
        (
            {"transcriptions": [{}, {"phrases": [{}, {}, {"start": 1.5}]}]},
            "transcriptions[1].phrases[2].start",
        ),
        ({"keyword_rules": {"keywords": [{"count": "x"}]}}, "keyword_rules.keywords[0].count"),
        ({"categories": {"link_categories": [5]}}, "categories.link_categories[0]"),
        ({"tags": [None]}, "tags[0]"),
        ({"comments": [{"created": "soon"}]}, "comments[0].created"),
        ({"talk_time_seconds": []}, "talk_time_sec"),
        # The float may stand for another number.
        ({"talk_time_seconds": 2.0**53}, "talk_time_sec"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_path_of_an_error_leads_into_parts(record, path):
    """Given an invalid value in a part, then the path leads to it, from a single call or from a list of calls."""
    with pytest.raises(RecordError) as caught:
        structure({**RECORD, **record}, Call)
    assert (caught.value.path, caught.value.index) == (f"$.{path}", 0)
    with pytest.raises(RecordError) as caught:
        structure([RECORD, RECORD, {**RECORD, **record}], list[Call])
    assert (caught.value.path, caught.value.index) == (f"$[2].{path}", 2)


@pytest.mark.finding("A12")
def test_half_an_emoji_of_the_standard_library_is_replaced():
    """Given data that `json` decoded, with half an emoji, then the text can be encoded, and counts as coerced."""
    call, coerced = read(node_name="a\ud83d", tags=[{"text": "\ude00b"}])
    assert (call.node_name, call.tags, coerced) == ("a\ufffd", [Tag("\ufffdb")], 2)


@pytest.mark.finding("A13")
def test_a_list_of_calls_with_gaps_is_a_list():
    """Given calls as an object of whole numbers, then they are a list in the order of the numbers."""
    rows = {"10": {**RECORD, "id": 3}, "2": {**RECORD, "id": 2}, "0": RECORD}
    assert [call.id for call in structure(rows, list[Call])] == [1, 2, 3]


@pytest.mark.finding("A13")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tags", {"data": [{"text": "a"}]}),
        ("comments", {"count": 0, "items": []}),
        ("keyword_rules", {"rule": {"keyword_rule": "a"}}),
        ("transcriptions", {"1": {"text": "a"}, "more": False}),
        ("categories", {"link_categories": {"category": [{"label": "a"}]}}),
    ],
    ids=str,
)
def test_an_object_that_is_no_part_is_an_error(field, value):
    """Given an object without a key of the part where a list is expected, then it is an error and no empty part."""
    with pytest.raises(RecordError, match="must be a list, got an object without any key of a"):
        read(**{field: value})


@pytest.mark.finding("C2")
@pytest.mark.parametrize(
    ("field", "value", "shape"),
    [
        ("call_end", "26/02/2024", "a text like '99/99/9999'"),
        ("call_end", "+44 7598 455 773", "a text like '+99 9999 999 999'"),
        ("talk_time", "Ann Smith's 5", "a text like 'aaa aaaaa?a 9'"),
        ("has_recording", "x" * 30, "a text like 'aaaaaaaaaaaaaaaaaaaaaaaa...'"),
        ("talk_time_sec", 1.25, "a number with a fraction"),
        ("has_recording", 447598455773, "a number"),
        ("call_end", [447598455773], "a list"),
        ("node_id", {"Ann": 1}, "an object"),
    ],
    ids=str,
)
def test_an_error_shows_the_shape_of_a_value_and_not_the_value(field, value, shape):
    """Given a value that cannot be read, then the error shows its form only, and nothing reachable from it the value."""
    with pytest.raises(RecordError) as caught:
        read(**{field: value})
    assert f"got {shape}. Pass" in str(caught.value)
    assert caught.value.__context__ is caught.value.__cause__ is None


@pytest.mark.parametrize("value", [None, 5, "a", [], True, 1.5, [RECORD]], ids=repr)
def test_a_record_that_is_no_object_is_an_error(value):
    """Given JSON that is no object, then a `RecordError` says so."""
    with pytest.raises(RecordError, match="must be an object, got") as caught:
        LenientConverter().record(value, 3)
    assert caught.value.path == "$[3]"


def test_a_value_that_is_not_json_is_an_error():
    """Given a Python datetime in the data, then a `RecordError` names its type."""
    with pytest.raises(RecordError, match="must be a date, got a datetime"):
        structure({**RECORD, "call_end": START}, Call)


def test_a_date_of_zeros_is_none_and_its_text_is_kept():
    """Given a date of zeros, then the field is None, `extra` keeps the text, and a later assignment replaces it."""
    call, coerced = read(call_end="0000-00-00 00:00:00", comments=[{"created": "0000-00-00"}])
    assert call.call_end is None
    assert call.extra == {"call_end": "0000-00-00 00:00:00"}
    assert call.comments[0].extra == {"created": "0000-00-00"}
    assert call.to_dict()["call_end"] == "0000-00-00 00:00:00"
    assert coerced == 2
    call.call_end = START
    assert call.to_dict()["call_end"] == "2024-02-26 04:39:59"


def test_unknown_keys_are_kept_in_extra_everywhere():
    """Given unknown keys in a call and its parts, then `extra` keeps them and `to_dict` returns them."""
    record = {
        **RECORD,
        "sentiment": {"score": [1, None]},
        "": 1,
        "categories": {"deal_categories": [1]},
        "transcriptions": [{"engine": "x", "phrases": [{"confidence": 0.5}]}],
    }
    call = structure(record, Call)
    assert call.extra == {"sentiment": {"score": [1, None]}, "": 1}
    assert call.categories.extra == {"deal_categories": [1]}
    assert call.transcriptions[0].extra == {"engine": "x"}
    assert call.transcriptions[0].phrases[0].extra == {"confidence": 0.5}
    assert call.to_dict() == record


def test_a_key_named_extra_is_an_unknown_key():
    """Given a key `extra`, then it is kept in `extra` like any other."""
    call = structure({**RECORD, "extra": 5}, Call)
    assert call.extra == {"extra": 5}
    assert call.to_dict() == {**RECORD, "extra": 5}


def test_fields_are_read_under_their_names_in_requests():
    """Given `talk_time_seconds`, then it is read as `talk_time_sec`, unless that has a value too."""
    call = structure({**RECORD, "talk_time_seconds": 5, "call_time_seconds": "6"}, Call)
    assert (call.talk_time_sec, call.call_time_sec, call.extra) == (5, 6, {})
    both = structure({**RECORD, "talk_time_seconds": 5, "talk_time_sec": 7}, Call)
    assert (both.talk_time_sec, both.extra) == (7, {"talk_time_seconds": 5})
    for blank in (None, "", " "):
        one = structure({**RECORD, "talk_time_seconds": 5, "talk_time_sec": blank}, Call)
        assert (one.talk_time_sec, one.extra) == (5, {})


def test_missing_fields_are_none_and_missing_lists_are_empty_tuples():
    """Given a record with an id only, then everything else counts as not requested."""
    call = structure({"id": 1}, Call)
    assert call.call_start is None
    assert call.tags == ()
    assert call.to_dict() == {"id": 1}


@pytest.mark.parametrize(
    ("required", "record", "path"),
    [
        (("id",), {}, "$.id"),
        (("id", "call_start"), {"id": 1}, "$.call_start"),
        (("call_start",), {"id": 1}, "$.call_start"),
        (("talk_time",), {"talk_time": ""}, "$.talk_time"),
    ],
)
def test_required_fields_must_have_a_value(required, record, path):
    """Given a required field that is missing or empty, then a `RecordError` names it."""
    with pytest.raises(RecordError, match="missing") as caught:
        make_converter(required=required).structure(record, Call)
    assert caught.value.path == path


def test_keys_that_are_not_required_may_be_empty():
    """Given a converter that requires no field, then an empty or missing id and start are None."""
    lenient = make_converter(required=()).structure
    assert lenient({"id": None, "call_start": ""}, Call) == Call(None, None)
    assert lenient({}, Call) == Call(None, None)


@pytest.mark.parametrize("value", [[], None, {}], ids=repr)
def test_an_empty_result_is_no_calls(value):
    """Given an empty list, null or an empty object, then the list of calls is empty."""
    assert structure(value, list[Call]) == []


def test_a_single_call_is_a_list_of_one():
    """Given an object where a list of calls is expected, then the list has this call."""
    assert structure(RECORD, list[Call]) == [Call(1, START)]


@pytest.mark.parametrize("zone", ["Europe/London", ZoneInfo("Europe/London")], ids=["name", "tzinfo"])
def test_with_a_time_zone_dates_are_aware(zone):
    """Given a time zone, then dates keep their local time, and dates with an offset are converted."""
    aware = make_converter(zone).structure
    call = aware({**RECORD, "call_end": "2024-07-01T10:00:00Z", "tasks": [{"due_date": "2024-07-01"}]}, Call)
    london = ZoneInfo("Europe/London")
    assert call.call_start == START.replace(tzinfo=london)
    assert call.call_end == datetime(2024, 7, 1, 10, tzinfo=timezone.utc)  # noqa: UP017 - any zone will do
    assert call.call_end.hour == 11
    assert call.tasks[0].due_date == datetime(2024, 7, 1, tzinfo=london)
    assert call.to_dict()["call_end"] == "2024-07-01 11:00:00"


@pytest.mark.parametrize("zone", ["Nowhere/Land", "", "../etc", "\0", "x" * 5000, "Europe"])
def test_a_time_zone_that_does_not_exist_is_a_configuration_error(zone):
    """Given a name that is no time zone, then a `ConfigurationError` is raised."""
    with pytest.raises(ConfigurationError, match="must be a time zone"):
        make_converter(zone)


def test_unstructure_is_to_dict():
    """Given calls and parts, then the converter unstructures them as `to_dict` does."""
    converter = make_converter()
    call = structure({**RECORD, "tags": [{"text": "a"}]}, Call)
    assert converter.unstructure([call]) == [call.to_dict()]
    assert converter.unstructure(call.tags[0]) == {"text": "a"}


def test_parts_can_be_structured_alone():
    """Given a list of parts, then the converter makes them, and errors are `RecordError` here too."""
    assert structure([{"text": "a"}], list[Tag]) == [Tag("a")]
    with pytest.raises(RecordError, match=r"^\$\[0\]\.text: must be a text, got a list"):
        structure([{"text": []}], list[Tag])


def test_no_phone_number_is_in_a_message():
    """Given a phone number in the wrong field, then the error does not show it."""
    for name in ("call_start", "talk_time", "has_recording", "tags"):
        for value in ("+44 7598 455773", 447598455773, "447598455773x"):
            problem = str(outcome({**RECORD, name: value}, Call))
            assert "4559" not in problem
            assert "598" not in problem


# Properties.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([*types_of(Call), "extra", "talk_time_seconds", "unheard_of"])
any_text = st.text(st.characters(), max_size=8)  # lone surrogates as well


@pytest.mark.fault(42)
@given(st.dictionaries(names, json_values | any_text, max_size=6))
def test_any_json_value_in_any_field_is_read_or_refused(record):
    """Given any JSON in any field, then there is a call that round-trips, or a `RecordError`."""
    call = outcome({**RECORD, **record}, Call)
    if isinstance(call, RecordError):
        assert call.path in str(call)
        return
    repr(call)
    again = structure(call.to_dict(), Call)
    assert json.dumps(again.to_dict()) == json.dumps(call.to_dict())


@given(json_values)
def test_any_json_value_as_a_record_is_read_or_refused(value):
    """Given any JSON as a page, then there are calls, or a `RecordError`."""
    assert isinstance(outcome(value, list[Call]), list | RecordError)


@given(
    st.sampled_from(["transcriptions", "keyword_rules", "tags", "comments", "tasks", "categories"]),
    st.recursive(
        json_values,
        lambda inner: st.dictionaries(
            st.sampled_from(
                [
                    "phrases",
                    "keywords",
                    "start",
                    "count",
                    "text",
                    "created",
                    "link_categories",
                    "label",
                    "due_date",
                    "transcription_id",
                ]
            ),
            inner | st.lists(inner, max_size=3),
            max_size=3,
        ),
        max_leaves=12,
    ),
)
def test_any_json_value_in_any_part_is_read_or_refused(name, value):
    """Given any JSON in any part, then there is a call that round-trips, or a `RecordError`."""
    call = outcome({**RECORD, name: value}, Call)
    if isinstance(call, RecordError):
        assert call.path.startswith("$.")
        return
    assert structure(call.to_dict(), Call).to_dict().keys() == call.to_dict().keys()
