"""What `InsightsQuery` refuses: the endpoint's table of errors, and what the endpoint would misinterpret."""

from __future__ import annotations

import pytest

from iovox_async.errors import BAD_REQUEST_ERRORS, IovoxError, QueryError
from iovox_async.query import Filters, InsightsQuery

#: Comma lists of free texts.
LISTS = [name for name in Filters.__annotations__ if name.endswith("_category_ids")]
#: Filters that are one text.
TEXTS = [
    name for name in Filters.__annotations__ if name not in {*LISTS, "ids", "tag_colour", "iovox_number"}
]


# The endpoint's table of errors: (beginning of its message, parameter, arguments, our message).
REFUSED = [
    ("Order Field Invalid", "order", {"order": "required_fields_ASC"}, "field invalid"),
    ("Order Field Invalid", "order", {"order": "link_category_label_ASC"}, "Choose another field"),
    (
        "Order Direction Invalid",
        "order",
        {"order": "call_start_DOWN"},
        "direction invalid.*Write 'call_start_ASC'",
    ),
    ("Page number not an integer", "page", {"page": "1"}, "must be an integer, got str"),
    ("Page number not an integer", "page", {"page": True}, "must be an integer, got bool"),
    ("Page number not an integer", "page", {"page": 1.0}, "must be an integer, got float"),
    ("Page number not an integer", "page", {"page": None}, "must be an integer, got NoneType"),
    ("Page number not an integer", "page", {"page": 0}, "must be between 1 and .*, got 0"),
    ("Page number not an integer", "page", {"page": 10**5000}, "must be between 1 and"),
    ("Limit not an integer", "limit", {"limit": "ten"}, "must be an integer, got str"),
    ("Limit not an integer", "limit", {"limit": False}, "must be an integer, got bool"),
    ("Limit must be between", "limit", {"limit": 0}, "must be between 1 and 20000, got 0"),
    ("Limit must be between", "limit", {"limit": 20_001}, "must be between 1 and 20000, got 20001"),
    ("Limit must be between", "limit", {"limit": -1}, "must be between 1 and 20000, got -1"),
    ("Start Date invalid", "start_date", {"start_date": "01/02/2024"}, "Write YYYY-MM-DD HH:MM:SS"),
    (
        "Start Date invalid",
        "start_date",
        {"start_date": 20240101},
        "must be a str, date or datetime, got int",
    ),
    (
        "End Date invalid",
        "end_date",
        {"end_date": "2024-02-30"},
        "day is out of range",
    ),
    (
        "End Date invalid",
        "end_date",
        {"start_date": "2024-02-02", "end_date": "2024-02-01"},
        "is before start_date",
    ),
    ("Iovox Number not an integer", "iovox_number", {"iovox_number": "+448456111222"}, "must be digits only"),
    ("Iovox Number not an integer", "iovox_number", {"iovox_number": "٤٤٨"}, "must be digits only"),
    ("Iovox Number not an integer", "iovox_number", {"iovox_number": True}, "got bool"),
    ("Required fields", "response_fields", {"fields": "fieldone,fieldtwo"}, "'fieldone', 'fieldtwo'"),
]


@pytest.mark.fault(19)
@pytest.mark.parametrize(
    ("row", "parameter", "arguments", "message"),
    REFUSED,
    ids=[f"{number}-{row[0]}" for number, row in enumerate(REFUSED)],
)
def test_what_the_endpoint_refuses_is_a_query_error(row, parameter, arguments, message):
    """Given arguments that the endpoint refuses, then a `QueryError` names the same parameter before any request."""
    with pytest.raises(QueryError, match=message) as caught:
        InsightsQuery(**arguments)
    assert caught.value.parameter == parameter
    assert str(caught.value).startswith(f"{parameter} ")
    assert (row, parameter) in {(begins, blamed) for begins, blamed, _ in BAD_REQUEST_ERRORS}


def test_every_row_of_the_error_table_has_a_case():
    """Given the endpoint's table of errors, then every row about a parameter has a case above."""
    assert {row[0] for row in REFUSED} == {begins for begins, blamed, _ in BAD_REQUEST_ERRORS if blamed}


# What the endpoint would misinterpret without an error.
MISREAD = [
    pytest.param("date_constant", {"date_constant": "TODAY"}, "must be 'YESTERDAY'", id="another constant"),
    pytest.param(
        "date_constant",
        {"date_constant": "YESTERDAY", "start_date": "2024-01-01"},
        "must not be combined",
        id="and start",
    ),
    pytest.param(
        "date_constant",
        {"date_constant": "YESTERDAY", "end_date": "2024-01-01"},
        "must not be combined",
        id="and end",
    ),
    pytest.param("id", {"ids": []}, "is empty", id="no ids are not all calls"),
    pytest.param("id", {"ids": ""}, "is empty", id="empty str of ids"),
    pytest.param("id", {"ids": "1,,2"}, "item 2 is empty", id="empty item"),
    pytest.param("id", {"ids": "1,2,"}, "item 3 is empty", id="trailing comma"),
    pytest.param("id", {"ids": ["1,2"]}, "item 1 contains a comma", id="comma smuggled in"),
    pytest.param("id", {"ids": [1, "x"]}, "item 2 must be an integer", id="letters"),
    pytest.param("id", {"ids": "²"}, "item 1 must be an integer", id="a digit that is none"),
    pytest.param("id", {"ids": "1" * 21}, "at most 20 digits", id="too long"),
    pytest.param("id", {"ids": [10**5000]}, "too many digits", id="longer than Python prints"),
    pytest.param("id", {"ids": -1}, "must not be negative", id="negative"),
    pytest.param("id", {"ids": [True]}, "item 1 must be a str or an integer, got bool", id="bool item"),
    pytest.param("id", {"ids": True}, "must be ids of calls, one or several, got bool", id="bool"),
    pytest.param("id", {"ids": b"12"}, "got bytes", id="bytes are numbers when iterated"),
    pytest.param("id", {"ids": {1: 2}}, "got dict", id="mapping"),
    pytest.param("id", {"ids": [None]}, "item 1 must be a str", id="None inside"),
    pytest.param("id", {"ids": 1.5}, "got float", id="float"),
    pytest.param("tag_colour", {"tag_colour": "PINK"}, "must be BLUE, GREEN, GOLD or RED", id="colour"),
    pytest.param("tag_colour", {"tag_colour": "RED,,"}, "item 2 is empty", id="empty colour"),
    pytest.param("tag_colour", {"tag_colour": ["RED,BLUE"]}, "contains a comma", id="colours smuggled in"),
    pytest.param("tag_colour", {"tag_colour": "RED, BLUE"}, "item 2 begins or ends with a blank", id="blank"),
    pytest.param("node_name", {"node_name": 5}, "must be a str, got int", id="a name is no number"),
    pytest.param("node_id", {"node_id": True}, "must be a str or an integer, got bool", id="bool key"),
    pytest.param("node_id", {"node_id": 1.0}, "must be a str or an integer, got float", id="float key"),
    pytest.param("node_id", {"node_id": -1}, "must not be negative", id="negative key"),
    pytest.param("call_origin", {"call_origin": [447966111222]}, "got list", id="a single filter is no list"),
]


@pytest.mark.parametrize(("parameter", "arguments", "message"), MISREAD)
def test_what_the_endpoint_would_misinterpret_is_a_query_error(parameter, arguments, message):
    """Given arguments that the endpoint would take for something else, then a `QueryError` names the parameter."""
    with pytest.raises(QueryError, match=message) as caught:
        InsightsQuery(**arguments)
    assert caught.value.parameter == parameter
    assert isinstance(caught.value, IovoxError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.finding("A18")
@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("call_result", "ANSWERED,VOICEMAIL"),
        ("direction", "IN, OUT"),
        ("node_id", "1,2"),
        ("call_destination", "447966111222,447966111333"),
        ("iovox_number", "447966111222,447966111333"),
        ("call_result", ["ANSWERED", "VOICEMAIL"]),
        ("link_id", (1, 2)),
        ("node_name", {"Brighton", "Leeds"}),
    ],
)
def test_several_values_of_a_single_value_filter_are_refused_with_advice(parameter, value):
    """Given a list, as text or object, for a filter of one value, then the error says to read once for each value."""
    with pytest.raises(QueryError, match=f"^{parameter} must be ") as caught:
        InsightsQuery(**{parameter: value})
    assert "once for each value" in caught.value.hint
    assert "447966" not in str(caught.value)


@pytest.mark.finding("A18")
def test_a_comma_in_a_name_is_part_of_the_name():
    """Given a name or text with a comma, then it is sent as it is."""
    query = InsightsQuery(node_name="Smith, Jones and Co", tag_text="red,hot")
    assert query.active_filters() == {"node_name": "Smith, Jones and Co", "tag_text": "red,hot"}


@pytest.mark.parametrize("name", [*TEXTS, *LISTS])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param(" x", "blank", id="leading blank"),
        pytest.param("x\u00a0", "blank", id="trailing no-break space"),
        pytest.param("  ", "blank", id="only blanks"),
        pytest.param("a\nb", "control character.* position 2", id="newline"),
        pytest.param("a\x00", "control character.* position 2", id="NUL"),
        pytest.param("\x7f", "control character", id="DEL"),
        pytest.param("a\u2028b", "control character", id="line separator"),
        pytest.param("a\ud800", "surrogate at position 2", id="lone surrogate"),
    ],
)
def test_texts_are_refused_not_repaired(name, text, problem):
    """Given an empty text, outer blanks or control characters, then every text filter and list refuses it."""
    with pytest.raises(QueryError, match=problem) as caught:
        InsightsQuery(**{name: text if name in TEXTS else [text]})
    assert caught.value.parameter == name
