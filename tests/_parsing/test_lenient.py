import json
import math
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovox_async import Call, ConfigurationError, RecordError, make_converter
from iovox_async._parsing.lenient import LenientConverter
from iovox_async.models import NO_EXTRA, NOT_REQUESTED, Categories, Phrase, Tag, Transcription, types_of

START = datetime(2024, 2, 26, 4, 39, 59)
RECORD = {"id": 1, "call_start": "2024-02-26 04:39:59"}
structure = make_converter().structure


def read(**fields):
    """A call with these fields, and how many values were bent."""
    tolerant = LenientConverter()
    return tolerant.record({**RECORD, **fields}, 0), tolerant.coerced


def outcome(data, kind):
    """What comes of data: a record, or its error; any other exception fails the test."""
    try:
        return structure(data, kind)
    except RecordError as error:
        return error


@pytest.mark.parametrize(
    ("name", "value", "meant", "coerced"),
    [
        ("node_id", "2", "2", 0),
        ("node_id", "", "", 0),
        ("node_id", None, None, 0),
        ("node_id", 2, "2", 1),
        ("node_id", -(10**30), "-1" + "0" * 30, 1),
        ("call_result", "A NEW RESULT", "A NEW RESULT", 0),
        ("email_alert", "TRUE", "TRUE", 0),
        ("email_alert", True, "TRUE", 1),
        ("email_alert", False, "FALSE", 1),
        ("talk_time_sec", 99, 99, 0),
        ("talk_time_sec", None, None, 0),
        ("talk_time_sec", "99", 99, 1),
        ("talk_time_sec", " -99 ", -99, 1),
        ("talk_time_sec", 99.0, 99, 1),
        ("talk_time_sec", "", None, 1),
        ("id", "30683207599876", 30683207599876, 1),
        ("has_recording", "TRUE", True, 0),
        ("has_recording", "FALSE", False, 0),
        ("has_recording", "true", True, 1),
        ("has_recording", True, True, 1),
        ("has_recording", False, False, 1),
        ("has_recording", 1, True, 1),
        ("has_recording", "0", False, 1),
        ("has_recording", "", None, 1),
        ("has_recording", None, None, 0),
        ("talk_time", "00:02:05", timedelta(seconds=125), 0),
        ("talk_time", "100:00:00", timedelta(hours=100), 0),
        ("talk_time", "-00:00:05", timedelta(seconds=-5), 0),
        ("talk_time", "0:2:5", timedelta(seconds=125), 0),
        ("talk_time", "00:00:01.5", timedelta(seconds=1.5), 0),
        ("talk_time", 125, timedelta(seconds=125), 1),
        ("talk_time", 1.5, timedelta(seconds=1.5), 1),
        ("talk_time", "125", timedelta(seconds=125), 1),
        ("talk_time", "-1.5", timedelta(seconds=-1.5), 1),
        ("talk_time", "", None, 1),
        ("talk_time", None, None, 0),
        ("call_end", "2024-02-26 04:39:59", START, 0),
        ("call_end", "2024-02-26T04:39:59", START, 0),
        ("call_end", "2024-02-26 04:39:59.25", START.replace(microsecond=250_000), 0),
        ("call_end", " 2024-02-26 04:39:59 ", START, 1),
        ("call_end", "2024-02-26 04:39", START.replace(second=0), 1),
        ("call_end", "2024-02-26 04", START.replace(minute=0, second=0), 1),
        ("call_end", "2024-02-26", datetime(2024, 2, 26), 1),
        ("call_end", "", None, 1),
        ("call_end", None, None, 0),
        ("categories", {}, Categories(), 0),
        ("categories", [], Categories(), 1),
        ("categories", None, None, 0),
        ("categories", "", None, 1),
        ("tags", [], [], 0),
        ("tags", None, [], 0),
        ("tags", "", [], 1),
        ("tags", {}, [], 1),
        ("tags", {"text": "a"}, [Tag("a")], 1),
        ("tags", [{"text": 5}], [Tag("5")], 1),
        ("call_outcomes", ["Sale", {"a": 1}, None, 5], ["Sale", {"a": 1}, None, 5], 0),
        ("call_outcomes", {"a": 1}, [{"a": 1}], 1),
        ("call_outcomes", "Sale", ["Sale"], 1),
        ("call_outcomes", 0, [0], 1),
        ("call_outcomes", "", [], 1),
        ("transcriptions", {"phrases": {"turn": "1"}}, [Transcription(phrases=[Phrase(turn=1)])], 3),
    ],
    ids=str,
)
def test_habits_of_the_server_are_read_by_rule_and_counted(name, value, meant, coerced):
    """A value in an unusual form is read as what it means."""
    call, count = read(**{name: value})
    assert getattr(call, name) == meant
    assert type(getattr(call, name)) is type(meant)
    assert count == coerced
    assert call.extra is NO_EXTRA


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", None),
        ("id", ""),
        ("id", "abc"),
        ("id", 1.5),
        ("id", True),
        ("id", {}),
        ("call_start", None),
        ("call_start", ""),
        ("call_start", "0000-00-00 00:00:00"),
        ("call_start", "yesterday"),
        ("call_start", 1708922399),
        ("call_start", "2024-02-30 00:00:00"),
        ("call_end", "2024-02-26 25:00:00"),
        ("call_end", "2024-02-26 04:39:59+01:00"),
        ("call_end", "9999-12-31 23:59:59-23:59"),
        ("call_end", "26/02/2024"),
        ("call_end", True),
        ("talk_time_sec", 1.5),
        ("talk_time_sec", math.nan),
        ("talk_time_sec", math.inf),
        ("talk_time_sec", 1e300),
        ("talk_time_sec", False),
        ("talk_time_sec", "1.5"),
        ("talk_time_sec", "9" * 5000),
        ("talk_time_sec", "٣"),
        ("talk_time", "02:05"),
        ("talk_time", "00:60:00"),
        ("talk_time", "00:00:99"),
        ("talk_time", True),
        ("talk_time", math.nan),
        ("talk_time", 1e300),
        ("talk_time", "PT5S"),
        ("has_recording", "MAYBE"),
        ("has_recording", 2),
        ("has_recording", []),
        ("node_id", 1.5),
        ("node_id", []),
        ("node_id", {}),
        ("node_id", 10**5000),
        ("categories", "a"),
        ("categories", [{"link_categories": []}]),
        ("categories", 5),
        ("tags", "a"),
        ("tags", 5),
        ("tags", False),
    ],
    ids=lambda value: str(value)[:30] if not isinstance(value, int) else "int",
)
def test_what_cannot_be_read_is_an_error_that_names_the_place(path, value):
    """Never a wrong value, and never another exception."""
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
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_path_of_an_error_leads_into_the_parts(record, path):
    """Through lists and objects, down to the value; a single call stands at the root, a list counts."""
    with pytest.raises(RecordError) as caught:
        structure({**RECORD, **record}, Call)
    assert (caught.value.path, caught.value.index) == (f"$.{path}", 0)
    with pytest.raises(RecordError) as caught:
        structure([RECORD, RECORD, {**RECORD, **record}], list[Call])
    assert (caught.value.path, caught.value.index) == (f"$[2].{path}", 2)


@pytest.mark.parametrize("value", [None, 5, "a", [], True, 1.5, [RECORD]], ids=repr)
def test_a_record_that_is_no_object_is_an_error(value):
    with pytest.raises(RecordError, match="where an object is meant") as caught:
        LenientConverter().record(value, 3)
    assert caught.value.path == "$[3]"


def test_what_is_not_json_is_an_error_too():
    """A converter reads what JSON decodes to; Python's own dates are made with the classes."""
    with pytest.raises(RecordError, match="is a datetime where a date is meant"):
        structure({**RECORD, "call_end": START}, Call)


def test_a_date_of_zeros_is_nothing_and_its_raw_form_is_kept():
    """So nothing is lost, and `to_dict` gives it back; a later assignment takes its place."""
    call, coerced = read(call_end="0000-00-00 00:00:00", comments=[{"created": "0000-00-00"}])
    assert call.call_end is None
    assert call.extra == {"call_end": "0000-00-00 00:00:00"}
    assert call.comments[0].extra == {"created": "0000-00-00"}
    assert call.to_dict()["call_end"] == "0000-00-00 00:00:00"
    assert coerced == 2
    call.call_end = START
    assert call.to_dict()["call_end"] == "2024-02-26 04:39:59"


def test_unknown_keys_are_kept_in_extra_everywhere():
    """In the call and in each part, as they came; `to_dict` gives them back."""
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
    call = structure({**RECORD, "extra": 5}, Call)
    assert call.extra == {"extra": 5}
    assert call.to_dict() == {**RECORD, "extra": 5}


def test_fields_may_be_answered_under_the_name_they_are_asked_by():
    """`talk_time_seconds` is `talk_time_sec`; where both have a value, the known one counts and the other is kept."""
    call = structure({**RECORD, "talk_time_seconds": 5, "call_time_seconds": "6"}, Call)
    assert (call.talk_time_sec, call.call_time_sec, call.extra) == (5, 6, {})
    both = structure({**RECORD, "talk_time_seconds": 5, "talk_time_sec": 7}, Call)
    assert (both.talk_time_sec, both.extra) == (7, {"talk_time_seconds": 5})
    for nothing in (None, "", " "):
        one = structure({**RECORD, "talk_time_seconds": 5, "talk_time_sec": nothing}, Call)
        assert (one.talk_time_sec, one.extra) == (5, {})


def test_missing_fields_are_none_and_missing_lists_are_not_asked():
    call = structure({"id": 1}, Call)
    assert call.call_start is None
    assert call.tags is NOT_REQUESTED
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
def test_required_fields_must_be_there(required, record, path):
    with pytest.raises(RecordError, match="missing") as caught:
        make_converter(required=required).structure(record, Call)
    assert caught.value.path == path


def test_keys_that_are_not_required_may_be_empty():
    """Where nobody asked for the id or the start, they are read if they are there."""
    lenient = make_converter(required=()).structure
    assert lenient({"id": None, "call_start": ""}, Call) == Call(None, None)
    assert lenient({}, Call) == Call(None, None)


@pytest.mark.parametrize("value", [[], None, {}], ids=repr)
def test_an_empty_result_is_no_calls(value):
    assert structure(value, list[Call]) == []


def test_a_single_call_is_a_list_of_one():
    assert structure(RECORD, list[Call]) == [Call(1, START)]


@pytest.mark.parametrize("zone", ["Europe/London", ZoneInfo("Europe/London")], ids=["name", "tzinfo"])
def test_with_a_time_zone_dates_are_aware(zone):
    """The wall time stays what the server said; a date with an offset is converted."""
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
    with pytest.raises(ConfigurationError, match="no time zone"):
        make_converter(zone)


def test_unstructure_is_to_dict():
    """A converter of ours goes both ways, for parts as well."""
    converter = make_converter()
    call = structure({**RECORD, "tags": [{"text": "a"}]}, Call)
    assert converter.unstructure([call]) == [call.to_dict()]
    assert converter.unstructure(call.tags[0]) == {"text": "a"}


def test_parts_can_be_structured_alone():
    assert structure([{"text": "a"}], list[Tag]) == [Tag("a")]
    with pytest.raises(RecordError, match=r"^\$\[0\]\.text: is a list where a text is meant"):
        structure([{"text": []}], list[Tag])


def test_no_phone_number_is_in_a_message():
    """What stands in the wrong place may be one."""
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


@given(st.dictionaries(names, json_values | any_text, max_size=6))
def test_any_json_value_in_any_field_is_read_or_refused(record):
    """A call or a `RecordError`, nothing else; and a call can be written, shown and read again."""
    call = outcome({**RECORD, **record}, Call)
    if isinstance(call, RecordError):
        assert call.path in str(call)
        return
    repr(call)
    again = structure(call.to_dict(), Call)
    assert json.dumps(again.to_dict()) == json.dumps(call.to_dict())


@given(json_values)
def test_any_json_value_as_a_record_is_read_or_refused(value):
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
    """Nested as deep as parts go."""
    call = outcome({**RECORD, name: value}, Call)
    if isinstance(call, RecordError):
        assert call.path.startswith("$.")
        return
    assert structure(call.to_dict(), Call).to_dict().keys() == call.to_dict().keys()
