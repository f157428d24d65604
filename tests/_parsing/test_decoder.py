import json
import linecache
import threading
import traceback
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from support.leaks import shown
from support.odd_values import RECORD, START

from iovox_async import Call, DecodeError, Field, Fields, RecordError
from iovox_async._parsing import compiled
from iovox_async._parsing.decoder import _MAX_EXTENDED_SPECS, CallDecoder
from iovox_async._parsing.lenient import LenientConverter
from iovox_async.models import Phrase, Tag, types_of

DATA = Path(__file__).parents[1] / "data"
LONDON = ZoneInfo("Europe/London")
TALK = {"talk_time": "00:02:05", "talk_time_sec": 99, "has_recording": "TRUE", "node_id": "2"}
SAMPLES = {
    "example-default": Fields.DEFAULT,
    "example-1-call-fields": Fields.CALL,
    "example-2-categories": (*Fields.DEFAULT, *Fields.CATEGORIES),
    "example-3-insights": Fields.ALL,
}


def record(number=1, **fields):
    return {**RECORD, "id": number, **fields}


def segment(*records):
    return json.dumps(records).encode()


@pytest.fixture
def default():
    """A decoder for the default fields."""
    return CallDecoder(Fields.DEFAULT)


@pytest.fixture
def converted(monkeypatch):
    """The indexes of the records that went through the lenient converter."""
    indexes = []
    record = LenientConverter.record
    monkeypatch.setattr(
        LenientConverter,
        "record",
        lambda self, data, index: indexes.append(index) or record(self, data, index),
    )
    return indexes


@pytest.mark.parametrize("fields", ["requested", "all"])
@pytest.mark.parametrize("name", SAMPLES)
def test_documented_examples_need_no_lenient_converter(name, fields, converted):
    """Given a documented response, when decoded, then it round-trips and nothing is coerced."""
    raw = (DATA / f"{name}.json").read_bytes()
    decoder = CallDecoder(SAMPLES[name] if fields == "requested" else Fields.ALL)
    calls = decoder.batch(raw)
    assert [call.to_dict() for call in calls] == json.loads(raw)
    assert all(call.extra == {} for call in calls)
    assert converted == []
    assert (decoder.skipped, decoder.coerced) == (0, 0)


def test_a_decoded_call_equals_one_of_the_constructor(default):
    """Given a record, when decoded, then the call equals one made by the constructor."""
    (call,) = default.batch(segment(record(**TALK)))
    assert call == Call(
        1, START, talk_time=timedelta(seconds=125), talk_time_sec=99, has_recording=True, node_id="2"
    )
    assert (call.tags, call.extra, type(call)) == ((), {}, Call)


def test_a_requested_list_is_a_list_and_one_that_was_not_sent_is_a_tuple():
    """Given empty and null lists, then each call has a list of its own, which may be changed."""
    one, two = CallDecoder(Fields.ALL).batch(segment(record(tags=[], tasks=None), record(tags=[])))
    one.tags.append(Tag("mine"))
    assert (two.tags, one.tasks, one.comments) == ([], [], ())
    assert type(one.tasks) is list


# Unknown keys.


def test_an_unknown_key_is_kept_in_extra(default, converted):
    """Given an unknown key in every record or in some, then `extra` keeps it and no record is converted."""
    calls = default.batch(segment(*(record(number, sentiment={"score": number}) for number in range(20))))
    assert [call.extra for call in calls] == [{"sentiment": {"score": number}} for number in range(20)]
    with_key, without_key = default.batch(segment(record(sentiment=None), record(2)))
    assert (with_key.extra, without_key.extra) == ({"sentiment": None}, {})
    assert converted == []


def test_an_unknown_key_in_parts_is_kept_in_their_extra(converted):
    """Given unknown keys in phrases, categories and transcriptions, then each part keeps its own."""
    data = record(
        transcriptions=[{"engine": "x", "phrases": [{"turn": 0, "confidence": 0.5}, {"confidence": 1}]}],
        categories={"deal_categories": [], "link_categories": [{"label": "a", "shade": "b"}]},
    )
    (call,) = CallDecoder(Fields.ALL).batch(segment(data))
    assert call.to_dict() == data
    assert call.transcriptions[0].phrases == [
        Phrase(turn=0, extra={"confidence": 0.5}),
        Phrase(extra={"confidence": 1}),
    ]
    assert call.categories.link_categories[0].extra == {"shade": "b"}
    assert converted == []


def test_a_field_that_was_not_requested_is_read_all_the_same(default, converted):
    """Given fields of a call that were not requested, then they are in their attributes."""
    (call,) = default.batch(segment(record(node_name="Brighton", tags=[{"text": "a"}])))
    assert (call.node_name, call.tags, call.extra) == ("Brighton", [Tag("a")], {})
    assert converted == []


def test_more_unknown_keys_than_decoders_are_compiled_for_are_converted(default, converted):
    """Given many unknown keys in a record, then `extra` keeps all of them, whatever the segments before held."""
    for number in range(30):
        keys = {f"key_{number}_{index}": index for index in range(10)}
        (call,) = default.batch(segment(record(**keys)))
        assert call.extra == keys
    assert len(converted) == 30
    assert len(default._extended_specs) == _MAX_EXTENDED_SPECS + 1


@pytest.mark.parametrize(
    "key",
    [
        'a"b',
        "a\\b",
        "a\nb",
        "a`b",
        "a` - at `$.tags",
        "ключ",
        "",
        "x" * 65,
        "unknown_0",
        "extra",
        "class",
        "a b",
    ],
)
def test_a_key_of_any_name_is_kept(default, key):
    """Given a key of any characters, then `extra` keeps it."""
    (call,) = default.batch(segment(record(**{key: 5})))
    assert call.extra == {key: 5}


@pytest.mark.parametrize(
    ("sent", "seconds", "extra"),
    [
        ({"talk_time_seconds": 6}, 6, {}),
        ({"talk_time_sec": 5}, 5, {}),
        ({"talk_time_sec": 5, "talk_time_seconds": 6}, 5, {"talk_time_seconds": 6}),
    ],
    ids=["request", "response", "both"],
)
def test_a_field_may_be_sent_under_its_name_in_requests(default, sent, seconds, extra):
    """Given `talk_time_seconds` in a response, then it is `talk_time_sec`, unless that was sent too."""
    (call,) = default.batch(segment(record(**sent)))
    assert (call.talk_time_sec, call.extra) == (seconds, extra)


def test_an_unknown_key_does_not_hide_an_invalid_value(default):
    """Given an unknown key and an invalid tag, then the error is about the tag."""
    with pytest.raises(RecordError, match=r"\$\[0\]\.tags\[0\]"):
        default.batch(segment(record(sentiment=1, tags=["a"])))


# Unusual and invalid records.


def test_an_unusual_record_does_not_slow_down_the_others(default, converted):
    """Given one unusual record, then only this one is converted, and it counts as coerced once."""
    calls = default.batch(segment(record(1), record(2, node_id=5, talk_time_sec="7"), record(3)), 10)
    assert [(call.id, call.node_id, call.talk_time_sec) for call in calls] == [
        (1, None, None),
        (2, "5", 7),
        (3, None, None),
    ]
    assert converted == [11]
    assert default.coerced == 1


def test_an_unusual_record_among_unknown_keys_does_not_slow_down_the_others(default, converted):
    """Given an unknown key in every record and one unusual record, then only this one is converted."""
    calls = default.batch(segment(record(1, new=1), record(2, new=1, node_id=5), record(3, new=1)))
    assert [call.extra for call in calls] == [{"new": 1}] * 3
    assert converted == [1]


@pytest.mark.parametrize("talk_time", ["", "125", "0:2:5", "00:02:05.5"], ids=repr)
def test_a_duration_in_another_form_is_converted(default, talk_time, converted):
    """Given a duration that is not HH:MM:SS, then the compiled decoder leaves it to the converter."""
    default.batch(segment(record(talk_time=talk_time)))
    assert converted == [0]


def test_the_cache_of_durations_is_bounded():
    """Given more durations than the cache holds, then all are right and the cache is full."""
    compiled._durations.clear()
    compiled._durations[None] = None
    decoder = CallDecoder(Fields.DEFAULT)
    one, two = decoder.batch(segment(record(talk_time="00:02:05"), record(talk_time="00:02:05")))
    assert one.talk_time is two.talk_time
    many = [record(talk_time=f"{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}") for n in range(6000)]
    assert [call.talk_time for call in decoder.batch(segment(*many))] == [
        timedelta(seconds=n) for n in range(6000)
    ]
    assert len(compiled._durations) <= compiled._CACHED_DURATIONS


def test_the_first_invalid_record_is_raised_with_its_index_in_the_page(default):
    """Given an invalid record in a segment that begins at index 16, then the error counts from there."""
    with pytest.raises(RecordError) as caught:
        default.batch(segment(record(), record(2, call_end="soon")), 16)
    assert type(caught.value) is RecordError
    assert (caught.value.index, caught.value.path) == (17, "$[17].call_end")


@pytest.mark.finding("C2")
@pytest.mark.parametrize("name", ["talk_time", "call_end", "has_recording", "tags", "new"])
def test_no_frame_of_an_error_shows_the_page(default, name):
    """Given a record that cannot be read, then no text, frame or other error reachable from its error shows a value."""
    number = str(447598455773)
    page = segment(record(1, call_origin=number), record(2, **{"talk_time_sec": "x", name: number}))
    with pytest.raises(RecordError) as caught:
        default.batch(page)
    assert number not in "".join(shown(caught.value, __file__))


def test_invalid_records_are_skipped_and_counted():
    """Given `on_error="skip"`, then the other records come in order, and the invalid ones are counted."""
    decoder = CallDecoder(Fields.DEFAULT, on_error="skip")
    invalid = [{}, 5, None, record("x"), record(call_end="soon"), {"id": 3, "call_start": None}]
    calls = decoder.batch(segment(record(1), *invalid, record(2)))
    assert [call.id for call in calls] == [1, 2]
    assert (decoder.skipped, decoder.coerced) == (6, 0)


@pytest.mark.parametrize(
    "raw",
    [b'[{"id":1,"x":1e999}]', b'[{"id":1,"x":1' + b"0" * 5000 + b"}]"],
    ids=["1e999", "5,000 digits"],
)
def test_a_record_that_is_no_json_is_an_error_of_that_record(default, raw):
    """Given undecodable bytes inside a record, then the error names the record and shows no bytes."""
    with pytest.raises(RecordError) as caught:
        default.batch(raw, 5)
    assert (caught.value.index, caught.value.path) == (5, "$[5]")
    assert caught.value.__context__ is caught.value.__cause__ is None
    skipping = CallDecoder(Fields.DEFAULT, on_error="skip")
    assert skipping.batch(raw) == []
    assert skipping.skipped == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"5",
        b"null",
        b"<html>",
        b"[{]",
        b"[{}",
        b"[{},]",
        b'[{"id":NaN}]',
        b"\xef\xbb\xbf[]",
        b'[{"id":"\\ud800"}]',
        b"[{" + b'"x":[' * 100_000,
        b'[{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_bytes_that_are_no_json_list_are_a_decode_error(raw):
    """Given bytes that are no JSON list, then a `DecodeError` is raised, also with `skip`."""
    for on_error in ("raise", "skip"):
        with pytest.raises(DecodeError, match="not a JSON list") as caught:
            CallDecoder(Fields.DEFAULT, on_error=on_error).batch(raw)
        assert type(caught.value) is DecodeError


@pytest.mark.parametrize("odd", [{}, {"node_id": 5}], ids=["compiled", "converted"])
def test_with_a_time_zone_every_date_is_aware(odd):
    """Given a time zone, then the dates of calls and parts are aware and keep their local time."""
    decoder = CallDecoder(Fields.ALL, timezone=LONDON)
    data = record(
        call_end="2024-07-01 10:00:00",
        comments=[{"created": "2024-07-01 10:00:00"}, {"text": "undated"}],
        tasks=[{"due_date": None}],
        **odd,
    )
    (call,) = decoder.batch(segment(data))
    summer = datetime(2024, 7, 1, 10, tzinfo=LONDON)
    assert (call.call_start, call.call_end, call.comments[0].created) == (
        START.replace(tzinfo=LONDON),
        summer,
        summer,
    )
    assert call.call_end.utcoffset() == timedelta(hours=1)
    assert (call.comments[1].created, call.tasks[0].due_date) == (None, None)
    assert call.to_dict() == {**data, "tasks": [{}], **({"node_id": "5"} if odd else {})}


@pytest.mark.parametrize("node", ["2", 2], ids=["compiled", "converted"])
@pytest.mark.parametrize(
    ("fields", "attributes"),
    [((), {}), (("id",), {"id": 7}), (("call_start",), {"call_start": START})],
    ids=["neither", "id", "call_start"],
)
def test_sort_keys_that_were_not_requested_are_left_out(node, fields, attributes, converted):
    """Given id and call_start in the response without being requested, then calls do not have them."""
    decoder = CallDecoder((*fields, Field.NODE_ID))
    (call,) = decoder.batch(segment(record(7, node_id=node)))
    assert call == Call(**{"id": None, "call_start": None, "node_id": "2", **attributes})
    assert len(converted) == (node == 2)
    (call,) = CallDecoder((Field.NODE_ID,)).batch(segment({"node_id": node}))
    assert call.to_dict() == {"node_id": "2"}


@pytest.mark.parametrize("missing", ["id", "call_start"])
def test_a_requested_sort_key_must_be_there(default, missing):
    """Given a record without a requested id or start, then the error names it."""
    data = record()
    del data[missing]
    with pytest.raises(RecordError, match="is missing") as caught:
        default.batch(segment(record(), data))
    assert caught.value.path == f"$[1].{missing}"


def test_decoders_are_compiled_once_for_each_choice_of_fields():
    """Given two decoders of the same fields, then they share their code."""
    one, two = CallDecoder(Fields.ALL), CallDecoder(Fields.ALL)
    assert compiled.compile_decoder(one._spec) is compiled.compile_decoder(two._spec)


def test_tracebacks_show_the_generated_code():
    """Given an error inside the generated function, then the traceback has its source line."""
    make = compiled.compile_decoder(CallDecoder(Fields.DEFAULT)._spec).make
    with pytest.raises(AttributeError) as caught:
        make([None], None)
    shown = "".join(traceback.format_exception(caught.value))
    assert "record.id = row.id" in shown
    linecache.checkcache()
    assert "record.id = row.id" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        (("id", "talk_time"), ("id", "talk_time", "talk_time_sec")),
        (("talk_time_seconds", "call_time_seconds"), ("talk_time_sec", "call_time_sec")),
        (("link_category_id", "node_category_label"), ("categories",)),
        (("tag_text", "task_status", "comment_id"), ("tags", "tasks", "comments")),
        (
            ("transcription_phrases", "keyword_rules", "call_outcomes"),
            ("transcriptions", "keyword_rules", "call_outcomes"),
        ),
        (("no_such_field",), ()),
    ],
)
def test_fields_have_their_response_keys(fields, keys):
    """Given requested fields, then `response_keys` gives the keys of their response."""
    assert compiled.response_keys(fields) == keys


def test_all_fields_have_all_keys():
    """Given all fields, then `response_keys` gives every attribute of `Call`."""
    assert set(compiled.response_keys(Fields.ALL)) == set(types_of(Call))


def test_decoders_of_several_threads_are_independent():
    """Given decoders in four threads, then each gives its own calls."""
    data = segment(*(record(number, **TALK) for number in range(300)))
    failures = []

    def run():
        try:
            for _ in range(20):
                assert [call.id for call in CallDecoder(Fields.DEFAULT).batch(data)] == list(range(300))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
