import copy
import json
import pickle
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import attrs
import pytest

from iovox_async import Call, Field, make_converter
from iovox_async._parsing.compiled import response_keys
from iovox_async.models import (
    NO_EXTRA,
    NOT_REQUESTED,
    Categories,
    Category,
    Comment,
    Keyword,
    KeywordRule,
    Model,
    Phrase,
    Tag,
    Task,
    Transcription,
    types_of,
)

DATA = Path(__file__).parent / "data"
SAMPLES = sorted(path.stem for path in DATA.glob("example-*.json"))
START = datetime(2024, 2, 26, 4, 39, 59)


def full_call(tz=None):
    """A call with something in every field."""
    start = START.replace(tzinfo=tz)
    return Call(
        id=1,
        call_start=start,
        call_end=start,
        call_origin="447598455773",
        call_origin_location="MOBILE",
        iovox_number="441273083510",
        call_destination="442035447179",
        call_time=timedelta(seconds=136),
        call_time_sec=136,
        talk_time=timedelta(seconds=125),
        talk_time_sec=99,
        call_type="DIRECT",
        call_result="ANSWERED",
        rule_result="Forward call to: 442035447179",
        node_id="2",
        node_name="Brighton Motors",
        node_type="",
        link_id="53",
        link_name="Brighton Motors",
        link_type="default-type",
        has_recording=False,
        email_alert="TRUE",
        direction="IN",
        categories=Categories(link_categories=[Category("", "green1", "London")], call_categories=[]),
        comments=[Comment("c", start, "u", "en", "text")],
        call_outcomes=[{"outcome": "Sale"}, "plain"],
        transcriptions=[Transcription("t", "en", "hello", [Phrase("hello", "caller", 0, 10, 0)])],
        tags=[Tag("Test Drive", "GOLD", "insights_trigger")],
        keyword_rules=[KeywordRule("rule", [Keyword("BMW", 2)])],
        tasks=[Task("u", start, "v", start, "call back", "OPEN", start)],
        extra={"sentiment": {"score": 0.5}},
    )


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_answers_round_trip_exactly(name):
    """The endpoint's own samples are read completely, and `to_dict` gives back what came."""
    data = json.loads((DATA / f"{name}.json").read_text())
    calls = make_converter().structure(data, list[Call])
    assert [call.to_dict() for call in calls] == data
    assert all(part.extra is NO_EXTRA for call in calls for part in parts_of(call))


def parts_of(part):
    yield part
    for name in types_of(type(part)):
        value = getattr(part, name)
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Model):
                yield from parts_of(inner)


def test_the_samples_are_four():
    assert len(SAMPLES) == 4


def test_fields_have_the_types_of_the_contract():
    """Of each kind of value, one field."""
    call = make_converter().structure(json.loads((DATA / "example-default.json").read_text())[0], Call)
    assert call == Call(
        id=30683207599876,
        call_start=START,
        call_end=datetime(2024, 2, 26, 4, 42, 15),
        talk_time=timedelta(minutes=2, seconds=5),
        call_origin="447598455773",
        iovox_number="441273083510",
        call_destination="442035447179",
        talk_time_sec=99,
        call_result="ANSWERED",
        node_id="2",
        link_id="53",
        has_recording=True,
    )


@pytest.mark.parametrize("field", list(Field), ids=str)
def test_every_response_field_has_its_place_in_a_call(field):
    """What can be asked for can be answered."""
    (key, *_) = response_keys([field])
    assert key in types_of(Call)


@pytest.mark.parametrize("tz", [None, ZoneInfo("Europe/London")], ids=["naive", "aware"])
def test_a_full_call_round_trips_through_plain_json(tz):
    """Every field, nested and scalar, survives `to_dict` and back."""
    call = full_call(tz)
    data = json.loads(json.dumps(call.to_dict()))
    assert make_converter(tz).structure(data, Call) == call
    assert data["call_start"] == "2024-02-26 04:39:59"
    assert data["talk_time"] == "00:02:05"
    assert data["has_recording"] == "FALSE"
    assert data["sentiment"] == {"score": 0.5}


def test_to_dict_leaves_out_what_was_not_asked_for_and_keeps_what_was_empty():
    """None and NOT_REQUESTED are left out; an empty list that was asked for is not."""
    call = Call(1, START, tags=[], node_type="")
    assert call.to_dict() == {"id": 1, "call_start": "2024-02-26 04:39:59", "tags": [], "node_type": ""}


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(0), "00:00:00"),
        (timedelta(hours=30, seconds=1), "30:00:01"),
        (timedelta(hours=123), "123:00:00"),
        (timedelta(seconds=-5), "-00:00:05"),
        (timedelta(seconds=-3725), "-01:02:05"),
        (timedelta(seconds=1, milliseconds=500), "00:00:01.500000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_durations_are_written_as_the_endpoint_does(span, text):
    """Hours pass 24, a sign stands in front, and the text is read back to the same."""
    data = Call(1, START, talk_time=span).to_dict()
    assert data["talk_time"] == text
    assert make_converter().structure(data, Call).talk_time == span


def test_the_names_that_are_asked_for_can_be_read():
    call = full_call()
    assert (call.call_time_seconds, call.talk_time_seconds) == (136, 99)


def test_a_record_allocates_nothing_for_what_was_not_asked_for():
    """Lists and extra are one shared object each."""
    call = Call(1, START)
    lists = [getattr(call, name) for name in types_of(Call) if isinstance(getattr(call, name), list)]
    assert len(lists) == 6
    assert all(value is NOT_REQUESTED for value in lists)
    assert call.extra is NO_EXTRA
    assert call == Call(1, START, tags=[], extra={})


def test_not_asked_is_an_empty_list_in_all_but_name():
    assert NOT_REQUESTED == []
    assert not NOT_REQUESTED
    assert isinstance(NOT_REQUESTED, list)
    assert list(NOT_REQUESTED) == []
    assert NOT_REQUESTED + [1] == [1]  # noqa: RUF005 - the operator is what is tested
    assert json.dumps(NOT_REQUESTED) == "[]"
    assert json.dumps(NO_EXTRA) == "{}"
    assert NO_EXTRA == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.append(1),
        lambda x: x.extend([1]),
        lambda x: x.insert(0, 1),
        lambda x: x.remove(1),
        lambda x: x.pop(),
        lambda x: x.clear(),
        lambda x: x.sort(key=str),
        lambda x: x.reverse(),
        lambda x: x.__setitem__(slice(None), [1]),
        lambda x: x.__delitem__(slice(None)),
        lambda x: x.__iadd__([1]),
        lambda x: x.__imul__(2),
    ],
    ids=[
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "clear",
        "sort",
        "reverse",
        "setitem",
        "delitem",
        "iadd",
        "imul",
    ],
)
def test_a_list_that_was_not_asked_for_cannot_be_changed(change):
    """It says why, and what to do."""
    with pytest.raises(TypeError, match=r"not asked for.*fields="):
        change(Call(1, START).tags)
    assert NOT_REQUESTED == []


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.__setitem__("a", 1),
        lambda x: x.__delitem__("a"),
        lambda x: x.update(a=1),
        lambda x: x.setdefault("a", 1),
        lambda x: x.pop("a"),
        lambda x: x.popitem(),
        lambda x: x.clear(),
        lambda x: x.__ior__({"a": 1}),
    ],
    ids=["setitem", "delitem", "update", "setdefault", "pop", "popitem", "clear", "ior"],
)
def test_the_extra_of_a_record_without_any_cannot_be_changed(change):
    with pytest.raises(TypeError, match="no extra keys"):
        change(Call(1, START).extra)
    assert NO_EXTRA == {}


def test_records_can_be_changed_by_assignment():
    """They are the user's own; only what is shared is protected."""
    call = Call(1, START)
    call.tags = [Tag("a")]
    call.extra = {"mine": 1}
    call.node_name = "b"
    assert call.to_dict()["tags"] == [{"text": "a"}]
    assert call.to_dict()["mine"] == 1
    with pytest.raises(AttributeError):
        call.talk_tiem = 1


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        attrs.evolve,
        *(lambda x, p=p: pickle.loads(pickle.dumps(x, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
    ],
    ids=["copy", "deepcopy", "evolve", *(f"pickle {p}" for p in range(pickle.HIGHEST_PROTOCOL + 1))],
)
def test_copies_are_equal_and_share_what_is_shared(again):
    """A copy, also one from another process, still knows what was not asked for."""
    for call in (full_call(), Call(1, START)):
        other = again(call)
        assert other == call
        assert other is not call
        assert other.to_dict() == call.to_dict()
    assert other.tags is NOT_REQUESTED
    assert other.extra is NO_EXTRA
    assert copy.copy(NOT_REQUESTED) is NOT_REQUESTED
    assert copy.copy(NO_EXTRA) is NO_EXTRA


def test_no_phone_number_is_in_a_repr():
    """Neither the three numbers nor one in a text; the last three digits remain to tell calls apart."""
    call = full_call()
    call.comments[0].text = "call him back at +44 (20) 3544-7179 or 07598 455 773, order 12345"
    call.tags[0].text = "x" * 155 + "442035447179"
    shown = " ".join(map(repr, parts_of(call)))
    for number in ("447598455773", "441273083510", "442035447179", "3544", "455 773"):
        assert number not in shown
    assert "call_origin='…773'" in shown
    assert "rule_result='Forward call to: …179'" in shown
    assert "12345" in repr(Comment(text="order 12345"))
    assert repr(Call(1, START, call_origin="12345")).endswith("call_origin='…')")
    assert "call_origin='ANONYMOUS'" in repr(Call(1, START, call_origin="ANONYMOUS"))


def test_a_repr_is_short_whatever_was_said():
    """Texts are cut, lists are counted, extra shows its keys; what was not asked for is left out."""
    call = full_call()
    call.rule_result = "word " * 10_000
    call.transcriptions = [Transcription(text="long " * 10_000)] * 50
    assert len(repr(call)) < 1200
    assert "transcriptions=<50>" in repr(call)
    assert "extra=<sentiment>" in repr(call)
    assert len(repr(call.transcriptions[0])) < 100
    assert repr(Call(1, START)) == "Call(id=1, call_start='2024-02-26 04:39:59')"


def test_a_repr_is_plain_ascii_but_for_its_ellipsis():
    """Control and half characters of a transcript cannot upset a terminal or a log file."""
    shown = repr(Comment(text="\x1b[31m\ud800é", username=None))
    assert shown == r"Comment(text='\x1b[31m\ud800\xe9')"


def test_records_are_compared_by_value_and_have_no_hash():
    """As all mutable values."""
    assert full_call() == full_call()
    assert full_call() != attrs.evolve(full_call(), node_id="3")
    with pytest.raises(TypeError):
        hash(full_call())
