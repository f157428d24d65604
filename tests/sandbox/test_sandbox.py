"""The endpoint's own tables, row by row, against the sandbox: parameters, response fields, errors."""

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import pytest

from iovox_async.errors import ConfigurationError, QueryError
from iovox_async.sandbox import Faults, Sandbox

DATA = Path(__file__).parents[1] / "data"
#: A Wednesday in the middle of the range.
NOW = datetime(2024, 2, 14, 15, 30)
KNOWN = {"username": "demo", "secureKey": "demo-key"}
RANGE = {"start_date": "2024-01-01", "end_date": "2024-03-31"}
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


@pytest.fixture(scope="module")
def sandbox():
    """2,000 calls of a quarter, and a clock that stands still."""
    made = Sandbox(calls=2_000, now=lambda: NOW)
    yield made
    made.close()


@pytest.fixture(scope="module")
def truth(sandbox):
    """All its calls, as dictionaries."""
    return sandbox.rows()


@pytest.fixture(scope="module")
def client(sandbox):
    """A plain client, connected to the sandbox on a real port."""
    with sandbox.serve() as base_url, httpx.Client(base_url=base_url, headers=KNOWN) as made:
        yield made


@pytest.fixture
def ask(client):
    """The calls that a query finds."""

    def get(**params):
        answer = client.get("/calls/insights", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return get


def ids(calls):
    return [call["id"] for call in calls]


def newest_first(calls):
    return ids(sorted(calls, key=lambda call: (call["call_start"], call["id"]), reverse=True))


def categorised(kind, *wanted):
    return lambda call: any(
        item["category_id"] in wanted for item in call["categories"][f"{kind}_categories"]
    )


def equal(name, value):
    return lambda call: call[name] == value


def listed(column, key, *wanted):
    return lambda call: any(item[key] in wanted for item in call[column])


# ---------------------------------------------------------------------------------------------- parameters

#: Parameter, value, what it must find; every row of the endpoint's table that chooses calls, dates apart.
CHOICES = {
    "node_id": ("3", equal("node_id", "3")),
    "node_name": (None, lambda value: equal("node_name", value)),
    "node_type": ("dealership", equal("node_type", "dealership")),
    "link_id": ("53", equal("link_id", "53")),
    "link_name": (None, lambda value: equal("link_name", value)),
    "link_type": ("print", equal("link_type", "print")),
    "call_result": ("BUSY", equal("call_result", "BUSY")),
    "rule_result": ("Call to an Operator", equal("rule_result", "Call to an Operator")),
    "call_origin": (None, lambda value: equal("call_origin", value)),
    "call_origin_encoded": (None, lambda value: equal("call_origin", value)),
    "iovox_number": (None, lambda value: equal("iovox_number", value)),
    "call_destination": (None, lambda value: equal("call_destination", value)),
    "direction": ("OUT", equal("direction", "OUT")),
    "link_category_ids": ("101,103", categorised("link", "101", "103")),
    "call_category_ids": ("300, 302", categorised("call", "300", "302")),
    "node_category_ids": ("201", categorised("node", "201")),
    "contact_category_ids": ("400,402", categorised("contact", "400", "402")),
    "tag_text": ("Test Drive", listed("tags", "text", "Test Drive")),
    "tag_colour": ("RED,BLUE", listed("tags", "colour", "RED", "BLUE")),
    "keyword_rules": (
        "Test Drive discussed",
        listed("keyword_rules", "keyword_rule", "Test Drive discussed"),
    ),
    "call_outcomes": ("Escalated", listed("call_outcomes", "call_outcome", "Escalated")),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_parameter_chooses_calls(name, ask, truth, sandbox):
    """Each finds all the calls that it describes and no other, newest first."""
    value, fits = CHOICES[name]
    if value is None:
        value = truth[len(truth) // 2][name.removesuffix("_encoded")]
        fits = fits(value)
    wanted = [call for call in truth if fits(call)]
    assert 0 < len(wanted) < len(truth)
    assert ids(ask(**RANGE, **{name: value})) == newest_first(wanted)
    assert sandbox.ids(**{name: value}) == ids(wanted)


def test_parameters_narrow_each_other(ask, truth):
    """Two filters find what meets both."""
    wanted = [call for call in truth if call["call_result"] == "ANSWERED" and call["node_id"] == "2"]
    assert ids(ask(**RANGE, call_result="ANSWERED", node_id="2")) == newest_first(wanted)


def test_ids_are_a_comma_list(ask, truth):
    """Blanks and words in the list find nothing and harm nothing."""
    some = truth[5:12]
    assert ids(ask(**RANGE, id=", ".join(map(str, [*ids(some), 17, "x"])))) == newest_first(some)
    assert ask(**RANGE, id="nobody") == []


def test_ids_do_not_widen_the_dates(ask, truth):
    """Without dates only this month is looked at, whatever the id: the default that bites."""
    assert ask(id=truth[0]["id"]) == []


def test_an_unknown_or_empty_parameter_is_not_there(ask, truth):
    """As forms send them."""
    assert len(
        ask(**RANGE, nonsense="1", node_id="", order="", page="", limit="", response_fields="")
    ) == len(truth)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        pytest.param({}, "2024-02-01 00:00:00", "2024-02-14 23:59:59", id="no-dates-this-month-up-to-today"),
        pytest.param(
            {"start_date": "2024-01-30"},
            "2024-01-30 00:00:00",
            "2024-02-14 23:59:59",
            id="no-end-up-to-today",
        ),
        pytest.param(
            {"end_date": "2024-02-03"}, "2024-02-01 00:00:00", "2024-02-03 23:59:59", id="no-start-this-month"
        ),
        pytest.param(
            {"start_date": "2024-02-05", "end_date": "2024-02-05"},
            "2024-02-05 00:00:00",
            "2024-02-05 23:59:59",
            id="a-day-is-whole",
        ),
        pytest.param(
            {"start_date": "2024-02-05 11", "end_date": "2024-02-05 14"},
            "2024-02-05 11:00:00",
            "2024-02-05 14:59:59",
            id="hours",
        ),
        pytest.param(
            {"start_date": "2024-02-05 11:10", "end_date": "2024-02-05 14:20"},
            "2024-02-05 11:10:00",
            "2024-02-05 14:20:59",
            id="minutes",
        ),
        pytest.param(
            {"start_date": "2024-02-05 11:10:30", "end_date": "2024-02-05 14:20:15"},
            "2024-02-05 11:10:30",
            "2024-02-05 14:20:15",
            id="seconds",
        ),
        pytest.param(
            {"date_constant": "YESTERDAY"}, "2024-02-13 00:00:00", "2024-02-13 23:59:59", id="yesterday"
        ),
        pytest.param(
            {"date_constant": "TOMORROW", "end_date": "2024-02-02"},
            "2024-02-01 00:00:00",
            "2024-02-02 23:59:59",
            id="no-such-constant",
        ),
    ],
)
def test_dates_choose_calls(asked, first, last, ask, truth):
    """Both ends belong to the range, and what is left out means what the table says."""
    wanted = [call for call in truth if first <= call["call_start"] <= last]
    assert wanted
    assert ids(ask(**asked, limit=20_000)) == newest_first(wanted)


def test_the_first_of_all_days_is_a_bound_like_any_other(ask, truth):
    """A year keeps its four digits, so `0999` is before 2024."""
    for start in "0001-01-01", "0999-12-31 23":
        assert ids(ask(start_date=start, end_date="2024-03-31", limit=20_000)) == newest_first(truth)
    sandbox = Sandbox(calls=1, start="0999-12-31", end="0999-12-31")
    assert sandbox.ids("0999-12-31", "1000-01-01") == sandbox.ids() != []


def test_the_end_is_inclusive_unless_asked_otherwise():
    """The very second of the end, under both readings."""
    sandbox = Sandbox(calls=0)
    sandbox.add([{"call_start": f"2024-01-05 10:00:0{second}", "id": second + 1} for second in range(3)])
    query = {"start_date": "2024-01-05 10:00:00", "end_date": "2024-01-05 10:00:01"}
    with sandbox.serve() as base_url, httpx.Client(base_url=base_url, headers=KNOWN) as client:
        assert ids(client.get("/calls/insights", params=query).json()) == [2, 1]
        sandbox.faults = Faults(exclusive_end=True)
        assert ids(client.get("/calls/insights", params=query).json()) == [1]


def test_pages_make_one_list(ask, truth):
    """Pages of a limit, and an empty one after the last."""
    pages = [ask(**RANGE, limit=600, page=page) for page in range(1, 6)]
    assert [len(page) for page in pages] == [600, 600, 600, 200, 0]
    assert [number for page in pages for number in ids(page)] == newest_first(truth)


def test_the_limit_is_10000_unless_asked_and_20000_at_most():
    """The defaults that bite, on more calls than either."""
    sandbox = Sandbox(calls=20_100)
    with sandbox.serve() as base_url, httpx.Client(base_url=base_url, headers=KNOWN) as client:
        for limit, rows in ({}, 10_000), ({"limit": 20_000}, 20_000), ({"limit": 1}, 1):
            answer = client.get("/calls/insights", params={**RANGE, "response_fields": "id", **limit})
            assert len(answer.json()) == rows
        assert client.get("/calls/insights", params={**RANGE, "limit": 20_001}).status_code == 400


# ------------------------------------------------------------------------------------------ response fields


def _first(column, key):
    return lambda call: call[column][0][key] if call[column] else ""


def _category(kind, key):
    return lambda call: next((item[key] for item in call["categories"][f"{kind}_categories"]), "")


def _plain(key):
    return lambda call: call[key]


#: Asked name: where it stands in an answer, and its kind. Every row of the endpoint's table of fields.
FIELDS = {
    **{name: (name, str, _plain(name)) for name in PLAIN},
    "id": ("id", int, _plain("id")),
    "call_time_seconds": ("call_time_sec", int, _plain("call_time_sec")),
    "talk_time_seconds": ("talk_time_sec", int, _plain("talk_time_sec")),
    **{
        f"{kind}_category_{asked}": (f"categories.{kind}_categories[].{key}", str, _category(kind, key))
        for kind in ("link", "call", "node", "contact")
        for asked, key in (("id", "category_id"), ("label", "label"), ("value", "value"))
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
    """The values that stand at `a.b[].c` in an answer."""
    found = [call]
    for step in path.split("."):
        key = step.removesuffix("[]")
        assert all(set(value) == {key} or "keyword" in key for value in found), (
            "something that was not asked for"
        )
        found = [value[key] for value in found]
        if step.endswith("[]"):
            found = [item for value in found for item in value]
    return found


def test_the_table_has_56_fields():
    """As many as the documentation's."""
    assert len(FIELDS) == 56


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_field_is_answered_where_the_samples_have_it(name, ask):
    """Asked alone, it comes alone, under its answered name, with its kind of value."""
    path, kind, _ = FIELDS[name]
    found = [value for call in ask(**RANGE, response_fields=name) for value in values_at(call, path)]
    assert found
    assert all(type(value) is kind for value in found)


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
@pytest.mark.parametrize("name", sorted(set(FIELDS) - set(UNORDERED)))
def test_the_list_is_ordered_by_a_field(name, direction, ask, truth):
    """By any but the three; a list counts by its first item."""
    rank = FIELDS[name][2]
    order = {call["id"]: rank(call) for call in truth}
    got = [order[number] for number in ids(ask(**RANGE, order=f"{name}_{direction}", response_fields="id"))]
    # What has no list at all is before everything, like what is empty.
    assert got == sorted(order.values(), reverse=direction == "DESC")


@pytest.mark.parametrize("name", UNORDERED)
def test_three_fields_order_nothing(name, client):
    """Documented so."""
    answer = client.get("/calls/insights", params={**RANGE, "order": f"{name}_ASC"})
    assert (answer.status_code, errors_of(answer)) == (400, ["Order Field Invalid"])


def test_the_default_fields_come_with_the_seconds_of_talk(ask):
    """The sample of the defaults holds `talk_time_sec`, the list of the defaults does not."""
    assert list(ask(**RANGE, limit=1)[0]) == DEFAULTS
    asked = ",".join(name for name in DEFAULTS if name != "talk_time_sec")
    assert "talk_time_sec" not in ask(**RANGE, limit=1, response_fields=asked)[0]


def test_all_fields_together_have_the_shape_of_the_samples(ask):
    """Keys of every object in the documentation's own answers are keys of ours, with the same kinds of values."""
    calls = ask(**RANGE, response_fields=",".join(FIELDS), limit=2000)
    known = shape_of(calls)
    for sample in sorted(DATA.glob("example-*.json")) or [None]:
        if sample is None:
            pytest.skip("the documentation's samples are not among the test data")
        for place, kinds in shape_of(json.loads(sample.read_text())).items():
            assert kinds <= known[place], f"{sample.name}: {place}"


def shape_of(value, place="$", found=None):
    """Every place of a JSON value, with the kinds of values there."""
    found = {} if found is None else found
    found.setdefault(place, set()).add(type(value).__name__)
    if isinstance(value, dict):
        for key, inner in value.items():
            shape_of(inner, f"{place}.{key}", found)
    elif isinstance(value, list):
        for inner in value:
            shape_of(inner, f"{place}[]", found)
    return found


def test_values_are_written_as_the_samples_write_them(truth):
    """Dates, durations, truth, ids, numbers."""
    for call in truth:
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


# --------------------------------------------------------------------------------------------------- errors


def errors_of(answer):
    """The messages of an XML error body, whose statuses are those of the answer."""
    assert answer.headers["content-type"] == "application/xml"
    errors = ET.fromstring(answer.content)
    assert errors.tag == "errors"
    assert {error.get("status") for error in errors} == {str(answer.status_code)}
    return [error.text for error in errors]


#: Every row of the endpoint's table of errors: the request, the words.
ERRORS = {
    "method-post": ("POST", {}, "Request Method must be GET. POST attempted"),
    "method-put": ("PUT", {}, "Request Method must be GET. PUT attempted"),
    "method-delete": ("DELETE", {}, "Request Method must be GET. DELETE attempted"),
    "order-field": ("GET", {"order": "nothing_DESC"}, "Order Field Invalid"),
    "order-field-answered-name": ("GET", {"order": "talk_time_sec_DESC"}, "Order Field Invalid"),
    "order-direction": ("GET", {"order": "call_start_UP"}, "Order Direction Invalid"),
    "order-direction-missing": ("GET", {"order": "call_start"}, "Order Direction Invalid"),
    "order-direction-small": ("GET", {"order": "call_start_desc"}, "Order Direction Invalid"),
    "page-word": ("GET", {"page": "two"}, "Page number not an integer"),
    "page-fraction": ("GET", {"page": "1.5"}, "Page number not an integer"),
    "page-negative": ("GET", {"page": "-1"}, "Page number not an integer"),
    "limit-word": ("GET", {"limit": "all"}, "Limit not an integer"),
    "limit-zero": ("GET", {"limit": "0"}, "Limit must be between 1 and 20000"),
    "limit-high": ("GET", {"limit": "20001"}, "Limit must be between 1 and 20000"),
    "start-word": ("GET", {"start_date": "yesterday"}, "Start Date invalid"),
    "start-impossible": ("GET", {"start_date": "2024-02-30"}, "Start Date invalid"),
    "start-iso": ("GET", {"start_date": "2024-02-01T10:00:00"}, "Start Date invalid"),
    "end-order": ("GET", {"end_date": "31-01-2024"}, "End Date invalid"),
    "end-impossible": ("GET", {"end_date": "2024-01-31 24:00:00"}, "End Date invalid"),
    "iovox-number": ("GET", {"iovox_number": "+44 800"}, "Iovox Number not an integer"),
    "fields": (
        "GET",
        {"response_fields": "id,fieldone,call_start,fieldtwo"},
        "Required fields olvalid: fieldone, fieldtwo",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_has_its_code_and_words(case, client):
    """As the table has them, its slips included."""
    method, params, words = ERRORS[case]
    answer = client.request(method, "/calls/insights", params=params)
    assert (answer.status_code, errors_of(answer)) == (400, [words])


def test_several_errors_come_together(client):
    """One body tells all that is wrong."""
    answer = client.get("/calls/insights", params={"page": "x", "limit": "y", "order": "z_DOWN"})
    assert errors_of(answer) == [
        "Page number not an integer",
        "Limit not an integer",
        "Order Direction Invalid",
        "Order Field Invalid",
    ]


def test_an_internal_error_has_its_words(client, sandbox):
    """The table's last row."""
    sandbox.faults = Faults(fail_after=0)
    try:
        answer = client.get("/calls/insights")
    finally:
        sandbox.faults = Faults()
    assert (answer.status_code, errors_of(answer)) == (500, ["Internal Server Error"])


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"username": "demo"}, id="no-key"),
        pytest.param({"secureKey": "demo-key"}, id="no-user"),
        pytest.param({"username": "demo", "secureKey": "demo"}, id="wrong-key"),
        pytest.param({"username": "Demo", "secureKey": "demo-key"}, id="wrong-user"),
        pytest.param({"authorization": "Basic ZGVtbzpkZW1vLWtleQ=="}, id="another-scheme"),
        pytest.param({"username": "demo", "secureKey": "caf\u00e9".encode()}, id="beyond-ascii"),
    ],
)
def test_without_the_right_headers_it_is_401(headers, client):
    """Missing or wrong, and whatever else is wrong too."""
    answer = httpx.post(str(client.base_url) + "calls/insights", headers=headers, params={"page": "x"})
    assert (answer.status_code, errors_of(answer)) == (401, ["HTTP 401: Unauthorized"])


@pytest.mark.parametrize(
    ("form", "mime", "body"),
    [
        ("json", "application/json", b'{"errors": [{"status": 400, "error": "Limit not an integer"}]}'),
        ("text", "text/plain", b"Limit not an integer"),
    ],
)
def test_errors_can_be_written_in_another_form(form, mime, body, client, sandbox):
    """JSON and text, for who asks."""
    sandbox.faults = Faults(error_format=form)
    try:
        answer = client.get("/calls/insights", params={"limit": "x"})
    finally:
        sandbox.faults = Faults()
    assert (answer.content, answer.headers["content-type"].partition(";")[0]) == (body, mime)


def test_elsewhere_there_is_nothing(client):
    """Another path is 404, and a method HEAD is no GET."""
    assert client.get("/calls").status_code == 404
    assert client.head("/calls/insights").status_code == 400


def test_its_own_user_and_key_can_be_chosen():
    """Credentials are the sandbox's, and its repr does not show the key."""
    sandbox = Sandbox(calls=3, username="anna", key="s3cret-canary")
    with sandbox.serve() as base_url:
        for key, status in ("s3cret-canary", 200), ("demo-key", 401):
            answer = httpx.get(f"{base_url}/calls/insights", headers={"username": "anna", "secureKey": key})
            assert answer.status_code == status
    assert "canary" not in repr(sandbox)


# ------------------------------------------------------------------------------------------------ the truth


def test_the_truth_is_asked_like_the_endpoint(sandbox, truth, ask):
    """Dates of any kind, filters of any kind, chosen fields."""
    assert ids(sandbox.rows("2024-02-01", "2024-02-29")) == sandbox.ids(
        datetime(2024, 2, 1), datetime(2024, 2, 29, 23, 59, 59)
    )
    assert sandbox.ids(id=ids(truth[3:6])) == ids(truth[3:6])
    assert sandbox.ids(tag_colour=("RED", "BLUE")) == sandbox.ids(tag_colour="RED,BLUE")
    assert sandbox.rows(node_id=2, fields=["id"]) == [{"id": number} for number in sandbox.ids(node_id=2)]
    assert sandbox.ids() == ids(ask(**RANGE, order="call_start_ASC"))


@pytest.mark.parametrize("bound", ["2024-02-05", "2024-02-05 11", "2024-02-05 11:10", "2024-02-05 11:10:30"])
def test_the_truth_completes_dates_as_the_endpoint_does(bound, sandbox, ask):
    """Hours, minutes and seconds are optional; an end without them is the last second it can mean."""
    query = {"limit": 20_000, "order": "call_start_ASC"}
    assert sandbox.ids("2024-01-01", bound) == ids(ask(start_date="2024-01-01", end_date=bound, **query))
    assert sandbox.ids(bound, "2024-03-31") == ids(ask(start_date=bound, end_date="2024-03-31", **query))


def test_a_zone_is_the_accounts_own(sandbox):
    """What the clock on the account's wall shows is meant, in a text as in a datetime."""
    naive = sandbox.ids("2024-02-05 10:00:00", "2024-02-06 10:00:00")
    assert sandbox.ids("2024-02-05T10:00:00+01:00", "2024-02-06 10:00:00+01:00") == naive != []
    zone = timezone(timedelta(hours=-5))
    assert sandbox.ids(datetime(2024, 2, 5, 10, tzinfo=zone), datetime(2024, 2, 6, 10, tzinfo=zone)) == naive


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda sandbox: sandbox.ids(nodeid=3), id="filter"),
        pytest.param(lambda sandbox: sandbox.rows(fields=["talk_time_sec"]), id="field"),
        pytest.param(lambda sandbox: sandbox.ids("soon"), id="date"),
        pytest.param(lambda sandbox: sandbox.ids(2024), id="number-for-a-date"),
        pytest.param(lambda sandbox: sandbox.add([{"talktime": 3}]), id="name-of-a-value"),
        pytest.param(lambda sandbox: sandbox.add([{"talk_time": "long"}]), id="value"),
        pytest.param(lambda sandbox: sandbox.add([{"id": sandbox.ids()[0]}]), id="taken-id"),
        pytest.param(lambda sandbox: sandbox.update(1, talk_time=3), id="no-such-call"),
        pytest.param(lambda sandbox: sandbox.update(sandbox.ids()[0], id=1), id="another-id"),
    ],
)
def test_a_question_that_proves_nothing_is_refused(wrong, sandbox):
    """A typo in a test would otherwise pass it, and it changes nothing."""
    before = sandbox.ids()
    with pytest.raises(QueryError):
        wrong(sandbox)
    assert sandbox.ids() == before


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"start": "2024-02-01", "end": "2024-01-01"}, id="end-before-start"),
        pytest.param({"start": "then"}, id="no-date"),
        pytest.param({"end": 2024}, id="number-for-a-date"),
        pytest.param({"calls": -1}, id="negative"),
    ],
)
def test_a_sandbox_that_cannot_be_is_refused(wrong):
    """At once, with what is wrong."""
    with pytest.raises(ConfigurationError, match=r"must be|is before"):
        Sandbox(**wrong)
