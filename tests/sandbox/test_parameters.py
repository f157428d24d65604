"""The endpoint's table of parameters, row by row."""

import httpx
import pytest
from support.sandbox import CREDENTIALS, RANGE, ids, newest_first

from iovox_async.sandbox import Faults, Sandbox


def has_category(kind, *values):
    return lambda call: any(
        item["category_id"] in values for item in call["categories"][f"{kind}_categories"]
    )


def has_value(name, value):
    return lambda call: call[name] == value


def has_item(column, key, *values):
    return lambda call: any(item[key] in values for item in call[column])


#: Filter, value, and the calls that match it: every row of the endpoint's table except the dates.
FILTERS = {
    "node_id": ("3", has_value("node_id", "3")),
    "node_name": (None, lambda value: has_value("node_name", value)),
    "node_type": ("dealership", has_value("node_type", "dealership")),
    "link_id": ("53", has_value("link_id", "53")),
    "link_name": (None, lambda value: has_value("link_name", value)),
    "link_type": ("print", has_value("link_type", "print")),
    "call_result": ("BUSY", has_value("call_result", "BUSY")),
    "rule_result": ("Call to an Operator", has_value("rule_result", "Call to an Operator")),
    "call_origin": (None, lambda value: has_value("call_origin", value)),
    "call_origin_encoded": (None, lambda value: has_value("call_origin", value)),
    "iovox_number": (None, lambda value: has_value("iovox_number", value)),
    "call_destination": (None, lambda value: has_value("call_destination", value)),
    "direction": ("OUT", has_value("direction", "OUT")),
    "link_category_ids": ("101,103", has_category("link", "101", "103")),
    "call_category_ids": ("300, 302", has_category("call", "300", "302")),
    "node_category_ids": ("201", has_category("node", "201")),
    "contact_category_ids": ("400,402", has_category("contact", "400", "402")),
    "tag_text": ("Test Drive", has_item("tags", "text", "Test Drive")),
    "tag_colour": ("RED,BLUE", has_item("tags", "colour", "RED", "BLUE")),
    "keyword_rules": (
        "Test Drive discussed",
        has_item("keyword_rules", "keyword_rule", "Test Drive discussed"),
    ),
    "call_outcomes": ("Escalated", has_item("call_outcomes", "call_outcome", "Escalated")),
}


@pytest.mark.parametrize("name", FILTERS)
def test_given_a_filter_when_requested_then_exactly_the_matching_calls_are_returned(
    name, get_calls, all_rows, sandbox
):
    """Given a filter parameter, when it is requested, then all matching calls and no others are returned, newest first."""
    value, matches = FILTERS[name]
    if value is None:
        value = all_rows[len(all_rows) // 2][name.removesuffix("_encoded")]
        matches = matches(value)
    expected = [call for call in all_rows if matches(call)]
    assert 0 < len(expected) < len(all_rows)
    assert ids(get_calls(**RANGE, **{name: value})) == newest_first(expected)
    assert sandbox.ids(**{name: value}) == ids(expected)


def test_given_two_filters_when_requested_then_calls_match_both(get_calls, all_rows):
    """Given two filters, when they are requested, then the calls match both."""
    expected = [call for call in all_rows if call["call_result"] == "ANSWERED" and call["node_id"] == "2"]
    assert ids(get_calls(**RANGE, call_result="ANSWERED", node_id="2")) == newest_first(expected)


def test_given_a_list_of_ids_when_some_are_invalid_then_these_match_nothing(get_calls, all_rows):
    """Given a comma list of ids with spaces and message, when it is requested, then the valid ids are found."""
    selected = all_rows[5:12]
    assert ids(get_calls(**RANGE, id=", ".join(map(str, [*ids(selected), 17, "x"])))) == newest_first(
        selected
    )
    assert get_calls(**RANGE, id="nobody") == []


def test_given_an_id_when_no_dates_are_given_then_only_this_month_is_searched(get_calls, all_rows):
    """Given the id of an older call, when no dates are given, then nothing is found: only this month is searched."""
    assert get_calls(id=all_rows[0]["id"]) == []


def test_given_unknown_or_empty_parameters_when_requested_then_they_are_ignored(get_calls, all_rows):
    """Given parameters that are unknown or empty, when they are requested, then they are ignored."""
    assert len(
        get_calls(**RANGE, nonsense="1", node_id="", order="", page="", limit="", response_fields="")
    ) == len(all_rows)


@pytest.mark.parametrize(
    ("parameters", "first", "last"),
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
def test_given_dates_when_requested_then_both_ends_are_included(parameters, first, last, get_calls, all_rows):
    """Given dates, complete or not, when they are requested, then the calls between them are returned, both ends included."""
    expected = [call for call in all_rows if first <= call["call_start"] <= last]
    assert expected
    assert ids(get_calls(**parameters, limit=20_000)) == newest_first(expected)


def test_given_a_year_before_1000_when_requested_then_it_is_before_2024(get_calls, all_rows):
    """Given a year that Python may write without leading zeros, when it is a bound, then the order of dates is right."""
    for start in "0001-01-01", "0999-12-31 23":
        assert ids(get_calls(start_date=start, end_date="2024-03-31", limit=20_000)) == newest_first(all_rows)
    sandbox = Sandbox(calls=1, start="0999-12-31", end="0999-12-31")
    assert sandbox.ids("0999-12-31", "1000-01-01") == sandbox.ids() != []


def test_given_exclusive_end_when_requested_then_calls_of_the_last_second_are_left_out():
    """Given a range, when `exclusive_end` is set, then calls of its last second are left out, otherwise included."""
    sandbox = Sandbox(calls=0)
    sandbox.add([{"call_start": f"2024-01-05 10:00:0{second}", "id": second + 1} for second in range(3)])
    query = {"start_date": "2024-01-05 10:00:00", "end_date": "2024-01-05 10:00:01"}
    with (
        sandbox.serve() as base_url,
        httpx.Client(verify=False, base_url=base_url, headers=CREDENTIALS) as client,
    ):
        assert ids(client.get("/calls/insights", params=query).json()) == [2, 1]
        sandbox.faults = Faults(exclusive_end=True)
        assert ids(client.get("/calls/insights", params=query).json()) == [1]


def test_given_pages_when_read_in_order_then_they_are_the_complete_list(get_calls, all_rows):
    """Given a limit, when all pages are read, then they are the complete list, and the next page is empty."""
    pages = [get_calls(**RANGE, limit=600, page=page) for page in range(1, 6)]
    assert [len(page) for page in pages] == [600, 600, 600, 200, 0]
    assert [number for page in pages for number in ids(page)] == newest_first(all_rows)


def test_given_more_calls_than_a_page_when_requested_then_the_limit_is_10000_or_up_to_20000():
    """Given 20,100 calls, when no limit is given, then 10,000 are returned; 20,000 is the maximum."""
    sandbox = Sandbox(calls=20_100)
    with (
        sandbox.serve() as base_url,
        httpx.Client(verify=False, base_url=base_url, headers=CREDENTIALS) as client,
    ):
        for limit, rows in ({}, 10_000), ({"limit": 20_000}, 20_000), ({"limit": 1}, 1):
            response = client.get("/calls/insights", params={**RANGE, "response_fields": "id", **limit})
            assert len(response.json()) == rows
        assert client.get("/calls/insights", params={**RANGE, "limit": 20_001}).status_code == 400
