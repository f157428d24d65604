import contextlib
import json
import threading
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovox_async import Call, DecodeError, Field, Fields, RecordError
from iovox_async._parsing import compiled as fast
from iovox_async._parsing.decoder import LEARNED_KEYS, CallDecoder
from iovox_async._parsing.lenient import LenientConverter
from iovox_async.models import NO_EXTRA, NOT_REQUESTED, Categories, Phrase, Tag, types_of

DATA = Path(__file__).parents[1] / "data"
START = datetime(2024, 2, 26, 4, 39, 59)
LONDON = ZoneInfo("Europe/London")
TALK = {"talk_time": "00:02:05", "talk_time_sec": 99, "has_recording": "TRUE", "node_id": "2"}


def record(number=1, **fields):
    return {"id": number, "call_start": "2024-02-26 04:39:59", **fields}


def segment(*records):
    return json.dumps(records).encode()


def slow_ways(structurer):
    """Counts what goes the tolerant way."""
    gone = []
    tolerant = structurer._tolerant
    way = tolerant.record
    tolerant.record = lambda data, index: gone.append(index) or way(data, index)
    return gone


@pytest.fixture
def default():
    """A structurer for the default fields."""
    return CallDecoder(Fields.DEFAULT)


SAMPLES = {
    "example-default": Fields.DEFAULT,
    "example-1-call-fields": Fields.CALL,
    "example-2-categories": (Field.ID, Field.CALL_START, *Fields.DEFAULT[2:6], *Fields.CATEGORIES),
    "example-3-insights": Fields.ALL,
}


@pytest.mark.parametrize("fields", ["asked", "all", "none given"])
@pytest.mark.parametrize("name", SAMPLES)
def test_sample_answers_go_the_fast_way_and_round_trip_exactly(name, fields):
    """The endpoint's own samples, for the fields that were asked for and for a structurer that knows less."""
    raw = (DATA / f"{name}.json").read_bytes()
    asked = {"asked": SAMPLES[name], "all": Fields.ALL, "none given": None}[fields]
    structurer = CallDecoder(asked)
    gone = slow_ways(structurer)
    calls = structurer.batch(raw)
    assert [call.to_dict() for call in calls] == json.loads(raw)
    assert all(call.extra is NO_EXTRA for call in calls)
    assert gone == []
    assert (structurer.skipped, structurer.coerced) == (0, 0)


def test_a_record_made_the_fast_way_is_one_made_by_the_constructor(default):
    """Every field is set, and what was not asked for is shared."""
    (call,) = default.batch(segment(record(**TALK)))
    assert call == Call(
        1, START, talk_time=timedelta(seconds=125), talk_time_sec=99, has_recording=True, node_id="2"
    )
    assert call.tags is NOT_REQUESTED
    assert call.extra is NO_EXTRA
    assert type(call) is Call


def test_a_list_that_came_empty_or_null_is_a_list_of_its_own():
    """So it may be filled, unlike one that was not asked for."""
    one, two = CallDecoder(Fields.ALL).batch(segment(record(tags=[], tasks=None), record(tags=[])))
    one.tags.append(Tag("mine"))
    assert (two.tags, one.tasks, one.comments is NOT_REQUESTED) == ([], [], True)


def test_fields_that_were_not_asked_for_are_kept_and_learned(default):
    """The first such segment costs a look at a few records; from then on the fast way knows them."""
    gone = slow_ways(default)
    for _ in range(2):
        (call,) = default.batch(segment(record(node_name="Brighton", tags=[{"text": "a"}])))
        assert (call.node_name, call.tags, call.extra) == ("Brighton", [Tag("a")], {})
    assert gone == []


def test_a_key_the_endpoint_has_grown_is_learned(default):
    """It is kept in extra, and costs the fast way nothing from then on, also where it is missing again."""
    gone = slow_ways(default)
    before = default.row_type
    grown = segment(*(record(number, sentiment={"score": number}) for number in range(20)))
    for _ in range(2):
        calls = default.batch(grown)
        assert [call.extra for call in calls] == [{"sentiment": {"score": number}} for number in range(20)]
    assert default.row_type is not before
    (call, other) = default.batch(segment(record(sentiment=None), record(2)))
    assert call.extra == {"sentiment": None}
    assert other.extra is NO_EXTRA
    assert gone == []


def test_a_key_that_parts_have_grown_is_learned():
    """In phrases and categories as well."""
    structurer = CallDecoder(Fields.ALL)
    gone = slow_ways(structurer)
    data = record(
        transcriptions=[{"engine": "x", "phrases": [{"turn": 0, "confidence": 0.5}, {"confidence": 1}]}],
        categories={"deal_categories": [], "link_categories": [{"label": "a", "shade": "b"}]},
    )
    (call,) = structurer.batch(segment(data))
    assert call.to_dict() == data
    assert call.transcriptions[0].phrases == [
        Phrase(turn=0, extra={"confidence": 0.5}),
        Phrase(extra={"confidence": 1}),
    ]
    assert call.categories.link_categories[0].extra == {"shade": "b"}
    assert gone == []


def test_a_key_that_only_some_records_have_is_kept_the_tolerant_way(default):
    """It is not learned, and only its own record is slow."""
    gone = slow_ways(default)
    before = default.row_type
    calls = default.batch(segment(*(record(number) for number in range(7)), record(7, odd=1)), 100)
    assert [call.extra for call in calls] == [{}] * 7 + [{"odd": 1}]
    assert gone == [107]
    assert default.row_type is before
    assert default.coerced == 0


def test_keys_without_end_are_not_learned_without_end(default):
    """Keys that are data, not schema: what is learned is bounded, and nothing is lost."""
    for number in range(LEARNED_KEYS + 10):
        (call,) = default.batch(segment(record(**{f"key_{number}": number, f"other_{number}": 0})))
        assert call.extra == {f"key_{number}": number, f"other_{number}": 0}
    assert len(default._choice.learned) == LEARNED_KEYS


@pytest.mark.parametrize(
    "key", ['a"b', "a\\b", "a\nb", "ключ", "", "x" * 65, "more_0", "extra", "class", "a b"]
)
def test_a_key_of_any_name_is_kept(default, key):
    """Whether it can be learned or not."""
    for _ in range(2):
        (call,) = default.batch(segment(record(**{key: 5})))
        assert call.extra == {key: 5}


def test_a_field_answered_under_its_asked_name_is_learned_in_its_place(default):
    """`talk_time_seconds`, should the server follow its documentation one day."""
    gone = slow_ways(default)
    for number in range(2):
        (call,) = default.batch(segment(record(talk_time_seconds=number)))
        assert (call.talk_time_sec, call.extra) == (number, {})
    assert gone == []
    (call,) = default.batch(segment(record(talk_time_sec=5)))
    assert (call.talk_time_sec, call.extra) == (5, {})
    (call,) = default.batch(segment(record(talk_time_sec=5, talk_time_seconds=6)))
    assert (call.talk_time_sec, call.extra) == (5, {"talk_time_seconds": 6})


def test_both_names_of_a_field_are_kept(default):
    (call,) = default.batch(segment(record(talk_time_sec=5, talk_time_seconds=6)))
    assert (call.talk_time_sec, call.extra) == (5, {"talk_time_seconds": 6})


def test_parts_that_are_no_objects_do_not_hinder_learning(default):
    """What the record says elsewhere is out of the ordinary as well, and refused."""
    with pytest.raises(RecordError, match=r"\$\[0\]\.tags\[0\]"):
        default.batch(segment(record(grown=1, tags=["a"])))
    (call,) = default.batch(segment(record(grown=1, tags=[{"text": "a"}])))
    assert call.extra == {"grown": 1}


def test_an_unusual_record_slows_down_itself_only(default):
    """The rest of its segment stays fast; it is counted as bent once, however many values were."""
    gone = slow_ways(default)
    calls = default.batch(segment(record(1), record(2, node_id=5, talk_time_sec="7"), record(3)), 10)
    assert [(call.id, call.node_id, call.talk_time_sec) for call in calls] == [
        (1, None, None),
        (2, "5", 7),
        (3, None, None),
    ]
    assert gone == [11]
    assert default.coerced == 1


@pytest.mark.parametrize("talk_time", ["", "125", "0:2:5", "00:02:05.5", "00:60:00"], ids=repr)
def test_a_duration_in_another_form_is_left_to_the_tolerant_way(default, talk_time):
    """The fast way reads the endpoint's own form and nothing else."""
    gone = slow_ways(default)
    data = segment(record(talk_time=talk_time))
    if talk_time == "00:60:00":
        with pytest.raises(RecordError, match=r"\$\[0\]\.talk_time"):
            default.batch(data)
    else:
        default.batch(data)
    assert gone == [0]


def test_durations_are_remembered_within_bounds():
    """Equal ones share an object; however many there are, the memory is bounded."""
    fast._spans.clear()
    fast._spans[None] = None
    structurer = CallDecoder(Fields.DEFAULT)
    one, two = structurer.batch(segment(record(talk_time="00:02:05"), record(talk_time="00:02:05")))
    assert one.talk_time is two.talk_time
    many = [record(talk_time=f"{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}") for n in range(6000)]
    calls = structurer.batch(segment(*many))
    assert [call.talk_time for call in calls] == [timedelta(seconds=n) for n in range(6000)]
    assert len(fast._spans) <= fast._REMEMBERED


def test_the_first_bad_record_is_raised_with_its_place_in_the_page(default):
    """`first_index` is where the segment begins in its page."""
    with pytest.raises(RecordError) as caught:
        default.batch(segment(record(), record(2, call_end="soon")), 16)
    assert type(caught.value) is RecordError
    assert (caught.value.index, caught.value.path) == (17, "$[17].call_end")


def test_bad_records_are_skipped_and_counted_on_request():
    """The rest comes through in order."""
    structurer = CallDecoder(Fields.DEFAULT, on_error="skip")
    bad = [{}, 5, None, record("x"), record(call_end="soon"), {"id": 3, "call_start": None}]
    calls = structurer.batch(segment(record(1), *bad, record(2)))
    assert [call.id for call in calls] == [1, 2]
    assert (structurer.skipped, structurer.coerced) == (6, 0)


@pytest.mark.parametrize(
    "raw",
    [b'[{"id":1,"node_name":"\xff"}]', b'[{"id":1,"x":1e999}]', b'[{"id":1,"x":1' + b"0" * 5000 + b"}]"],
    ids=["latin-1", "1e999", "5,000 digits"],
)
def test_a_record_that_cannot_be_decoded_is_an_error_of_that_record(default, raw):
    """The page around it is sound; the error shows nothing of the bytes."""
    with pytest.raises(RecordError) as caught:
        default.batch(raw, 5)
    assert (caught.value.index, caught.value.path) == (5, "$[5]")
    assert caught.value.__suppress_context__
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
def test_what_is_no_list_of_json_is_a_decode_error(raw):
    """Also with `skip`, since it is no record that is wrong."""
    for on_error in ("raise", "skip"):
        with pytest.raises(DecodeError, match="not a JSON list") as caught:
            CallDecoder(Fields.DEFAULT, on_error=on_error).batch(raw)
        assert type(caught.value) is DecodeError


@pytest.mark.parametrize("odd", [{}, {"node_id": 5}], ids=["fast", "tolerant"])
def test_a_slice_of_a_segment_can_be_kept(odd):
    """Only its records are structured, and their places stay those of the page."""
    records = [record(number, **odd) for number in range(10)]
    structurer = CallDecoder(Fields.DEFAULT)
    assert [call.id for call in structurer.batch(segment(*records), 0, slice(2, 5))] == [2, 3, 4]
    assert [call.id for call in structurer.batch(segment(*records), 0, slice(-2, None))] == [8, 9]
    records[4]["call_end"] = "soon"
    assert len(structurer.batch(segment(*records), 0, slice(4))) == 4
    with pytest.raises(RecordError, match=r"\$\[104\]"):
        structurer.batch(segment(*records), 100, slice(3, None))


@pytest.mark.parametrize("odd", [{}, {"node_id": 5}], ids=["fast", "tolerant"])
def test_with_a_time_zone_every_date_is_aware(odd):
    """Those of the call and of its parts; the wall time stays."""
    structurer = CallDecoder(Fields.ALL, timezone="Europe/London")
    data = record(
        call_end="2024-07-01 10:00:00",
        comments=[{"created": "2024-07-01 10:00:00"}, {"text": "undated"}],
        tasks=[{"due_date": None}],
        **odd,
    )
    (call,) = structurer.batch(segment(data))
    summer = datetime(2024, 7, 1, 10, tzinfo=LONDON)
    assert (call.call_start, call.call_end, call.comments[0].created) == (
        START.replace(tzinfo=LONDON),
        summer,
        summer,
    )
    assert call.call_end.utcoffset() == timedelta(hours=1)
    assert (call.comments[1].created, call.tasks[0].due_date) == (None, None)
    assert call.to_dict() == {**data, "tasks": [{}], **({"node_id": "5"} if odd else {})}


# Fields without id or call_start.

HIDDEN = (Field.NODE_ID, Field.TALK_TIME)


@pytest.mark.parametrize("node", ["2", 2], ids=["fast", "tolerant"])
def test_keys_that_were_not_asked_for_are_not_handed_out(node):
    """Neither where the answer lacks them nor where it holds them all the same."""
    structurer = CallDecoder(HIDDEN)
    for data in ({"node_id": node}, record(node_id=node)):
        (call,) = structurer.batch(segment(data))
        assert call == Call(None, None, node_id="2")
        assert call.to_dict() == {"node_id": "2"}
    assert structurer.places is None


@pytest.mark.parametrize("node", ["2", 2], ids=["fast", "tolerant"])
@pytest.mark.parametrize(
    "fields", [HIDDEN, (Field.ID, *HIDDEN), (*HIDDEN, Field.CALL_START)], ids=["both", "start", "id"]
)
@pytest.mark.parametrize("zone", [None, LONDON], ids=["naive", "aware"])
def test_keys_that_are_read_for_order_come_beside_the_calls(node, fields, zone):
    """With `keys=True` the places of the last batch are kept, and the calls hold what was asked for."""
    structurer = CallDecoder(fields, timezone=zone, keys=True)
    start = START.replace(tzinfo=zone)
    for numbers in ((1, 2, 3), (4,)):
        calls = structurer.batch(segment(*(record(number, node_id=node) for number in numbers)))
        assert structurer.places == [(start, number) for number in numbers]
        assert [call.id for call in calls] == [number if Field.ID in fields else None for number in numbers]
        assert {call.call_start for call in calls} == {start if Field.CALL_START in fields else None}
    with pytest.raises(RecordError, match=r"\$\[0\]\.call_start: is missing"):
        structurer.batch(segment({"id": 1}))


def test_places_are_kept_for_the_records_that_are_handed_out():
    """Those skipped have none, whichever way they went."""
    structurer = CallDecoder(HIDDEN, on_error="skip", keys=True)
    calls = structurer.batch(segment(record(1), {"id": 2}, record(3, node_id=5), record(4)))
    assert [number for _, number in structurer.places] == [1, 3, 4]
    assert len(calls) == 3


def test_places_are_not_needed_where_nothing_is_hidden():
    assert CallDecoder(Fields.DEFAULT, keys=True).places is None


@pytest.mark.parametrize("missing", ["id", "call_start"])
def test_keys_that_were_asked_for_must_be_there(default, missing):
    data = record()
    del data[missing]
    with pytest.raises(RecordError, match="is missing") as caught:
        default.batch(segment(record(), data))
    assert caught.value.path == f"$[1].{missing}"


def test_layouts_are_made_once_for_each_choice():
    """Two streams of the same fields share their code."""
    assert CallDecoder(Fields.ALL).row_type is CallDecoder(Fields.ALL).row_type
    assert CallDecoder(Fields.ALL).row_type is not CallDecoder(Fields.CALL).row_type


@pytest.mark.parametrize(
    ("asked", "keys"),
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
def test_the_names_that_are_asked_for_lead_to_the_keys_of_answers(asked, keys):
    assert fast.response_keys(asked) == keys


def test_all_fields_lead_to_all_keys():
    assert set(fast.response_keys(Fields.ALL)) == set(types_of(Call))


def test_rows_and_records_need_no_garbage_collector_to_be_freed():
    """Rows are invisible to it; that is legal because they hold no cycles."""
    assert fast.Row.__struct_config__.gc is False
    assert CallDecoder(Fields.ALL).row_type.__struct_config__.gc is False


def test_structurers_of_several_threads_do_not_disturb_each_other():
    """Each stream has its own; what they share is written once."""
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


# Both ways give the same records.

texts = st.text(max_size=6)
moments = st.datetimes().map(lambda at: at.isoformat(" "))
spans = st.integers(-400_000, 400_000).map(
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
anything = (
    leaves
    | st.lists(leaves, max_size=2)
    | st.dictionaries(st.sampled_from(["text", "grown"]), leaves, max_size=2)
)


def usual(type_):
    """Values of one type, as the server writes them; null is one of them."""
    known = str(type_)
    if "list" in known:
        (item,) = type_.__args__
        return st.lists(leaves if "Any" in known else objects(item), max_size=2) | st.none()
    if "Categories" in known:
        return objects(Categories) | st.none()
    if "datetime.datetime" in known:
        return moments | st.none()
    if "timedelta" in known:
        return spans | st.none()
    if "bool" in known:
        return st.sampled_from(["TRUE", "FALSE", None])
    return (st.integers() if "int" in known else texts) | st.none()


def objects(kind):
    """Objects of one class of part, with any of its keys."""
    return st.fixed_dictionaries({}, optional={name: usual(type_) for name, type_ in types_of(kind).items()})


def places(data, path=()):
    """Every place in a record at which something else might stand."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))
    if isinstance(data, dict):
        yield from ((*path, key) for key in ("grown", "more", "talk_time_seconds", "extra"))


@st.composite
def some_calls(draw):
    """Records as the server writes them; in up to two places, of one or of all records, something else stands."""
    other = {name: usual(type_) for name, type_ in types_of(Call).items() if name not in {"id", "call_start"}}
    kept = draw(st.sets(st.sampled_from(sorted(other)), max_size=8))
    keys = {"id": st.integers(0, 2**63), "call_start": moments}
    records = draw(st.lists(st.fixed_dictionaries(keys | {name: other[name] for name in kept}), max_size=4))
    for _ in range(draw(st.integers(0, 2)) if records else 0):
        path = draw(st.sampled_from(list(places(records[0]))))
        value = draw(anything)
        for data in draw(st.sampled_from([records, records[:1]])):
            target = data
            with contextlib.suppress(LookupError, TypeError):
                for key in path[:-1]:
                    target = target[key]
                target[path[-1]] = value
    return records


@given(
    some_calls(),
    st.sampled_from([Fields.DEFAULT, Fields.ALL, Fields.CALL, ("id", "call_start"), None]),
    st.sampled_from([None, LONDON]),
)
def test_the_fast_way_gives_what_the_tolerant_way_gives(records, fields, zone):
    """Record by record: the same values, the same lists not asked for, the same extra; and the same are refused."""
    expected, skipped, coerced = [], 0, 0
    for data in records:
        tolerant = LenientConverter(zone)
        try:
            expected.append(tolerant.record(json.loads(json.dumps(data)), 0))
        except RecordError:
            skipped += 1
        else:
            coerced += tolerant.coerced > 0
    structurer = CallDecoder(fields, timezone=zone, on_error="skip")
    raw = segment(*records)
    for _ in range(2):  # the second time with what was learned in the first
        structurer.skipped = structurer.coerced = 0
        found = structurer.batch(raw)
        assert found == expected
        assert [call.to_dict() for call in found] == [call.to_dict() for call in expected]
        assert (structurer.skipped, structurer.coerced) == (skipped, coerced)


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda raw: b'[{"id":1,"x":"' + raw + b'"}]'))
def test_any_bytes_end_in_calls_or_in_an_error_of_ours(raw):
    """`RecordError` is a `DecodeError`."""
    with contextlib.suppress(DecodeError):
        CallDecoder(("id",)).batch(raw)
