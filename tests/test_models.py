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
from iovox_async._parsing.decoder import CallDecoder
from iovox_async.models import (
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
    item_type,
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


def decoded():
    """A call made by the decoder, which leaves the slot of `extra` empty."""
    (call,) = CallDecoder(("id", "call_start")).batch(b'[{"id": 1, "call_start": "2024-02-26 04:39:59"}]')
    return call


@pytest.mark.parametrize("name", SAMPLES)
def test_documented_examples_round_trip(name):
    """Given a documented response, when it is converted and written with `to_dict`, then the data is the same."""
    data = json.loads((DATA / f"{name}.json").read_text())
    calls = make_converter().structure(data, list[Call])
    assert [call.to_dict() for call in calls] == data
    assert all(part.extra == {} for call in calls for part in parts_of(call))


def parts_of(part):
    yield part
    for name in types_of(type(part)):
        value = getattr(part, name)
        for inner in value if isinstance(value, list | tuple) else [value]:
            if isinstance(inner, Model):
                yield from parts_of(inner)


def test_there_are_four_documented_examples():
    """A missing data file fails here, not silently."""
    assert len(SAMPLES) == 4


def test_fields_have_python_types():
    """Given the documented default response, then each field has its documented type and value."""
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
def test_every_field_is_an_attribute_of_call(field):
    """Given any field that can be requested, then `Call` has an attribute for its response key."""
    (key, *_) = response_keys([field])
    assert key in types_of(Call)


@pytest.mark.parametrize("tz", [None, ZoneInfo("Europe/London")], ids=["naive", "aware"])
def test_a_call_with_every_field_round_trips(tz):
    """Given a value in every field, when converted to JSON and back, then the calls are equal."""
    call = full_call(tz)
    data = json.loads(json.dumps(call.to_dict()))
    assert make_converter(tz).structure(data, Call) == call
    assert data["call_start"] == "2024-02-26 04:39:59"
    assert data["talk_time"] == "00:02:05"
    assert data["has_recording"] == "FALSE"
    assert data["sentiment"] == {"score": 0.5}


def test_to_dict_leaves_out_what_was_not_requested():
    """Given None, an empty tuple and an empty list, then only the list is in the data."""
    call = Call(1, START, tags=[], tasks=(), node_type="", node_id=None)
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
def test_durations_are_written_in_the_form_of_the_endpoint(span, text):
    """Given any duration, then its text may exceed 24 hours and be negative, and is read back to the same."""
    data = Call(1, START, talk_time=span).to_dict()
    assert data["talk_time"] == text
    assert make_converter().structure(data, Call).talk_time == span


def test_seconds_are_available_under_their_names_in_requests():
    """Given a call, then `call_time_seconds` and `talk_time_seconds` are the response's `*_sec`."""
    call = full_call()
    assert (call.call_time_seconds, call.talk_time_seconds) == (136, 99)


def test_lists_that_were_not_requested_are_empty_tuples():
    """Given a call without lists, then they are `()`, equal to an empty list in comparisons of calls."""
    call = Call(1, START)
    lists = [name for name, annotation in types_of(Call).items() if item_type(annotation)]
    assert len(lists) == 6
    assert [getattr(call, name) for name in lists] == [()] * 6
    assert call == Call(1, START, tags=[], extra={})
    assert call != Call(1, START, tags=[Tag("a")])


@pytest.mark.parametrize("make", [lambda: Call(1, START), decoded], ids=["constructor", "decoder"])
def test_extra_is_a_dict_of_its_own(make):
    """Given two calls without unknown keys, when the extra of one is changed, then the other stays empty."""
    one, other = make(), make()
    assert one == other
    one.extra["mine"] = 1
    assert (one.extra, other.extra) == ({"mine": 1}, {})
    assert one != other
    assert one.to_dict()["mine"] == 1


def delete_extra(part):
    del part.extra


@pytest.mark.parametrize(
    "again", [delete_extra, lambda part: setattr(part, "extra", None)], ids=["deleted", "None"]
)
@pytest.mark.parametrize(
    "make", [lambda: Call(1, START), decoded, full_call], ids=["constructor", "decoder", "full"]
)
def test_an_extra_that_is_deleted_or_none_is_empty(make, again):
    """Given a call or a part, when its extra is deleted or set to None, once or twice, then it is an empty dict."""
    call = make()
    data = {key: value for key, value in call.to_dict().items() if key != "sentiment"}
    for part in [call, *parts_of(call)] * 2:
        again(part)
    assert call.to_dict() == data
    assert "extra" not in repr(call)
    assert all(part.extra == {} for part in parts_of(call))
    assert Call(1, START, extra=None) == Call(1, START)
    assert Tag("a", extra=None).to_dict() == {"text": "a"}


@pytest.mark.parametrize("name", ["talk_tiem", "_extra", "__deepcopy__"])
def test_an_unknown_attribute_is_an_attribute_error(name):
    """Given a misspelt name, when it is read or set, then the error names class and attribute."""
    with pytest.raises(AttributeError, match=f"'Call' object has no attribute '{name}'"):
        getattr(decoded(), name)
    with pytest.raises(AttributeError):
        setattr(decoded(), name, 1)


def test_records_are_mutable():
    """Given a call, when attributes are assigned, then `to_dict` has the new values."""
    call = Call(1, START)
    call.tags = [Tag("a")]
    call.extra = {"mine": 1}
    call.node_name = "b"
    assert call.to_dict()["tags"] == [{"text": "a"}]
    assert call.to_dict()["mine"] == 1


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
def test_copies_are_equal(again):
    """Given a call of the constructor or the decoder, when copied or pickled, then the copy is equal and independent."""
    for call in (full_call(), Call(1, START), decoded()):
        other = again(call)
        assert other == call
        assert other is not call
        assert other.to_dict() == call.to_dict()
    assert (other.tags, other.extra) == ((), {})


def test_asdict_of_attrs_has_every_field():
    """Given a decoded call, when `attrs.asdict` converts it, then `extra` and lists not requested are there."""
    data = attrs.asdict(decoded())
    assert data.keys() == {*types_of(Call), "extra"}
    assert (data["id"], data["tags"], data["extra"], data["node_id"]) == (1, (), {}, None)


def test_no_phone_number_is_in_a_repr():
    """Given phone numbers in fields and in texts, then a repr shows at most their last three digits."""
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


def test_a_repr_is_short():
    """Given long texts and lists, then a repr shortens texts, counts list items and leaves out what was not requested."""
    call = full_call()
    call.rule_result = "word " * 10_000
    call.transcriptions = [Transcription(text="long " * 10_000)] * 50
    assert len(repr(call)) < 1200
    assert "transcriptions=<50>" in repr(call)
    assert "extra=<sentiment>" in repr(call)
    assert len(repr(call.transcriptions[0])) < 100
    assert repr(Call(1, START)) == "Call(id=1, call_start='2024-02-26 04:39:59')"


def test_a_repr_escapes_all_but_ascii():
    """Given control characters and lone surrogates, then a repr escapes them."""
    shown = repr(Comment(text="\x1b[31m\ud800é", username=None))
    assert shown == r"Comment(text='\x1b[31m\ud800\xe9')"


def test_records_are_compared_by_value_and_have_no_hash():
    """Given equal and different calls, then `==` compares their fields; like other mutable values they have no hash."""
    assert full_call() == full_call()
    assert full_call() != attrs.evolve(full_call(), node_id="3")
    with pytest.raises(TypeError):
        hash(full_call())
