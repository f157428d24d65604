"""The endpoint's table of response fields, row by row."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from support.sandbox import RANGE, errors_of, ids

DATA = Path(__file__).parents[1] / "data"
DEFAULTS = [
    *("id", "call_start", "call_end", "call_origin", "iovox_number", "call_destination"),
    *("talk_time", "talk_time_sec", "call_result", "node_id", "link_id", "has_recording"),
]
PLAIN = (
    *("call_start", "call_end", "call_origin", "call_origin_location", "iovox_number", "call_destination"),
    *(
        "call_time",
        "talk_time",
        "call_type",
        "call_result",
        "rule_result",
        "node_id",
        "node_name",
        "node_type",
    ),
    *("link_id", "link_name", "link_type", "has_recording", "email_alert", "direction"),
)
TASK = (
    *("username", "created", "assigned_username"),
    *("reminder_date", "reminder_message", "status", "due_date"),
)


def _first(column, key):
    return lambda call: call[column][0][key] if call[column] else ""


def _category(kind, key):
    return lambda call: next((item[key] for item in call["categories"][f"{kind}_categories"]), "")


def _plain(key):
    return lambda call: call[key]


#: Asked name: where it stands in an response, and its kind. Every row of the endpoint's table of fields.
FIELDS = {
    **{name: (name, str, _plain(name)) for name in PLAIN},
    "id": ("id", int, _plain("id")),
    "call_time_seconds": ("call_time_sec", int, _plain("call_time_sec")),
    "talk_time_seconds": ("talk_time_sec", int, _plain("talk_time_sec")),
    **{
        f"{kind}_category_{name}": (f"categories.{kind}_categories[].{key}", str, _category(kind, key))
        for kind in ("link", "call", "node", "contact")
        for name, key in (("id", "category_id"), ("label", "label"), ("value", "value"))
    },
    **{
        f"tag_{key}": (f"tags[].{key}", str, _first("tags", key)) for key in ("text", "colour", "source_type")
    },
    "keyword_rules": ("keyword_rules[].keyword_rule", str, _first("keyword_rules", "keyword_rule")),
    **{f"task_{key}": (f"tasks[].{key}", str, _first("tasks", key)) for key in TASK},
    "comment_id": ("comments[].comment_id", str, _first("comments", "comment_id")),
    **{
        f"comment_{key}": (f"comments[].{key}", str, _first("comments", key))
        for key in ("created", "username", "language", "text")
    },
    "call_outcomes": ("call_outcomes[].call_outcome", str, _first("call_outcomes", "call_outcome")),
    "transcription_id": (
        "transcriptions[].transcription_id",
        str,
        _first("transcriptions", "transcription_id"),
    ),
    "transcription_language": ("transcriptions[].language", str, _first("transcriptions", "language")),
    "transcription_text": ("transcriptions[].text", str, _first("transcriptions", "text")),
    "transcription_phrases": ("transcriptions[].phrases", list, _first("transcriptions", "text")),
}
UNORDERED = ("link_category_id", "link_category_label", "link_category_value")


def values_at(call, path):
    """The values at the path `a.b[].c` of a call."""
    values = [call]
    for step in path.split("."):
        key = step.removesuffix("[]")
        assert all(set(value) == {key} or "keyword" in key for value in values), (
            "a field that was not requested"
        )
        values = [value[key] for value in values]
        if step.endswith("[]"):
            values = [item for value in values for item in value]
    return values


def test_given_the_table_of_fields_when_counted_then_it_has_56():
    """Given the table above, when it is counted, then it has as many fields as the documentation."""
    assert len(FIELDS) == 56


@pytest.mark.sweep(4)
@pytest.mark.parametrize("name", sorted(FIELDS))
def test_given_one_field_when_requested_then_only_it_is_returned_in_its_place(name, get_calls):
    """Given one field, when it is requested alone, then only it is returned, under its documented key and with its type."""
    path, kind, _ = FIELDS[name]
    values = [value for call in get_calls(**RANGE, response_fields=name) for value in values_at(call, path)]
    assert values
    assert all(type(value) is kind for value in values)


@pytest.mark.sweep(5)
@pytest.mark.parametrize("direction", ["ASC", "DESC"])
@pytest.mark.parametrize("name", sorted(set(FIELDS) - set(UNORDERED)))
def test_given_a_field_when_ordered_by_it_then_the_list_is_sorted(name, direction, get_calls, all_rows):
    """Given a field, when the list is ordered by it, then it is sorted; lists are ordered by their first item."""
    sort_key = FIELDS[name][2]
    order = {call["id"]: sort_key(call) for call in all_rows}
    keys = [
        order[number] for number in ids(get_calls(**RANGE, order=f"{name}_{direction}", response_fields="id"))
    ]
    # Calls without the list come first, like those with an empty value.
    assert keys == sorted(order.values(), reverse=direction == "DESC")


@pytest.mark.parametrize("name", UNORDERED)
def test_given_a_link_category_field_when_ordered_by_it_then_it_is_an_error(name, client):
    """Given one of the three documented exceptions, when it is the order, then the response is 400."""
    response = client.get("/calls/insights", params={**RANGE, "order": f"{name}_ASC"})
    assert (response.status_code, errors_of(response)) == (400, ["Order Field Invalid"])


def test_given_no_fields_when_requested_then_the_defaults_include_talk_time_sec(get_calls):
    """Given no `response_fields`, when requested, then `talk_time_sec` is returned, as in the documented sample."""
    assert list(get_calls(**RANGE, limit=1)[0]) == DEFAULTS
    requested = ",".join(name for name in DEFAULTS if name != "talk_time_sec")
    assert "talk_time_sec" not in get_calls(**RANGE, limit=1, response_fields=requested)[0]


def test_given_all_fields_when_requested_then_keys_and_types_are_those_of_the_samples(get_calls):
    """Given the documented samples, when all fields are requested, then each key of the samples is there with its type."""
    calls = get_calls(**RANGE, response_fields=",".join(FIELDS), limit=2000)
    places = shape_of(calls)
    for sample in sorted(DATA.glob("example-*.json")) or [None]:
        if sample is None:
            pytest.skip("the test data has no documented samples")
        for place, kinds in shape_of(json.loads(sample.read_text())).items():
            assert kinds <= places[place], f"{sample.name}: {place}"


def shape_of(value, place="$", values=None):
    """Every path of a JSON value, with the types of the values there."""
    values = {} if values is None else values
    values.setdefault(place, set()).add(type(value).__name__)
    if isinstance(value, dict):
        for key, inner in value.items():
            shape_of(inner, f"{place}.{key}", values)
    elif isinstance(value, list):
        for inner in value:
            shape_of(inner, f"{place}[]", values)
    return values


def test_given_all_calls_when_read_then_values_have_the_documented_forms(all_rows):
    """Given generated calls, when they are read, then dates, durations, ids and numbers have the documented forms."""
    for call in all_rows:
        assert type(call["id"]) is int
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", call["call_start"])
        assert call["has_recording"] in {"TRUE", "FALSE"}
        assert call["node_id"].isdigit()
        assert call["link_id"].isdigit()
        start, end = (datetime.fromisoformat(call[name]) for name in ("call_start", "call_end"))
        assert end - start == timedelta(seconds=call["call_time_sec"])
        assert call["talk_time_sec"] <= call["call_time_sec"]
        for name in ("talk_time", "call_time"):
            hours, minutes, seconds = map(int, call[name].split(":"))
            assert hours * 3600 + minutes * 60 + seconds == call[f"{name}_sec"]
