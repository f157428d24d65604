"""`Field` and `Fields` against the endpoint's table of response fields."""

from __future__ import annotations

import pytest

from iovox_async.errors import QueryError
from iovox_async.fields import Field, Fields
from iovox_async.query import InsightsQuery

# The endpoint's table: its left column, calls and then categories, and its right column.
CALL = (
    "id call_start call_end call_origin call_origin_location iovox_number call_destination call_time call_time_seconds "
    "talk_time talk_time_seconds call_type call_result rule_result node_id node_name node_type link_id link_name link_type "
    "has_recording email_alert direction"
)
CATEGORIES = (
    "link_category_id link_category_label link_category_value call_category_id call_category_label call_category_value "
    "node_category_id node_category_label node_category_value "
    "contact_category_id contact_category_label contact_category_value"
)
INSIGHTS = (
    "tag_text tag_colour tag_source_type keyword_rules task_username task_created task_assigned_username "
    "task_reminder_date task_reminder_message task_status task_due_date comment_id comment_created comment_username "
    "comment_language comment_text call_outcomes transcription_id transcription_language transcription_text "
    "transcription_phrases"
)
DEFAULT = (
    "id,call_start,call_end,call_origin,iovox_number,call_destination,talk_time,call_result,node_id,link_id,"
    "has_recording"
)
CALL, CATEGORIES, INSIGHTS = CALL.split(), CATEGORIES.split(), INSIGHTS.split()


def test_field_is_the_table():
    """Given the endpoint's table, then `Field` has its 56 names in the same order."""
    assert [field.value for field in Field] == CALL + CATEGORIES + INSIGHTS
    assert len(Field) == 56


@pytest.mark.parametrize(
    ("preset", "names", "count"),
    [
        pytest.param(Fields.DEFAULT, DEFAULT.split(","), 11, id="default"),
        pytest.param(Fields.CALL, CALL, 23, id="call"),
        pytest.param(Fields.CATEGORIES, CATEGORIES, 12, id="categories"),
        pytest.param(Fields.INSIGHTS, INSIGHTS, 21, id="insights"),
        pytest.param(Fields.ALL, CALL + CATEGORIES + INSIGHTS, 56, id="all"),
    ],
)
def test_presets_are_tuples_of_fields(preset, names, count):
    """Given a preset, then it is a tuple of `Field` with the documented names."""
    assert preset == tuple(names)
    assert len(preset) == count
    assert all(type(field) is Field for field in preset)


@pytest.mark.parametrize("name", CALL + CATEGORIES + INSIGHTS)
def test_every_field_can_be_requested(name):
    """Given a field by name or as `Field`, then it is sent under its name."""
    for fields in (name, [name], [Field(name)]):
        query = InsightsQuery(fields=fields)
        assert query.fields == (Field(name),)
        assert query.to_query_string() == f"page=1&response_fields={name}"


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
@pytest.mark.parametrize("name", CALL + CATEGORIES + INSIGHTS)
def test_every_field_but_three_can_be_the_order(name, direction):
    """Given a field and a direction, then it is a valid order, except for the three `link_category_*` fields."""
    order = f"{name}_{direction}"
    if name.startswith("link_category_"):
        with pytest.raises(QueryError, match=rf"^order must not be {name} \(field invalid\)"):
            InsightsQuery(order=order)
    else:
        assert InsightsQuery(order=order).to_query_string() == f"page=1&order={order}"


def test_fields_are_requested_once_in_the_order_given():
    """Given a str, an iterable or a sum of presets with repeats, then each field is requested once."""
    assert InsightsQuery(fields="call_start,id,call_start").fields == (Field.CALL_START, Field.ID)
    assert InsightsQuery(fields=(name for name in ("id", Field.ID))).fields == (Field.ID,)
    assert len(InsightsQuery(fields=Fields.DEFAULT + Fields.CALL).fields or ()) == 23


def test_presets_and_names_of_responses_are_understood():
    """Given the name of a preset, or a name as in responses, when used as a field or order, then it is understood."""
    assert InsightsQuery(fields="all").fields == Fields.ALL
    assert InsightsQuery(fields=["default", "tag_text"]).fields == (*Fields.DEFAULT, Field.TAG_TEXT)
    query = InsightsQuery(fields="talk_time_sec", order="call_time_sec_DESC")
    assert (query.fields, query.order) == ((Field.TALK_TIME_SECONDS,), "call_time_seconds_DESC")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        pytest.param("id,fieldone,fieldtwo", r"'fieldone', 'fieldtwo'", id="all unknown ones are named"),
        pytest.param("talk_time_secs", r"did you mean 'talk_time_seconds'\? Field", id="a misspelt name"),
        pytest.param(["ID"], r"did you mean 'id'\?", id="capitals"),
        pytest.param([f"x{i}" for i in range(9)], "and 4 more", id="many"),
        pytest.param("", "is empty", id="empty str"),
        pytest.param([], "is empty", id="empty list"),
        pytest.param("id, call_start", "item 2 begins or ends with a blank", id="blank"),
        pytest.param(["id,call_start"], "item 1 contains a comma", id="comma smuggled in"),
        pytest.param([None], "item 1 must be a str", id="None inside"),
        pytest.param(1.5, "must be the names of response fields", id="no list"),
    ],
)
def test_invalid_fields_are_refused(fields, problem):
    """Given invalid fields, then the error names `response_fields`, the invalid names and similar valid ones."""
    with pytest.raises(QueryError, match=problem) as caught:
        InsightsQuery(fields=fields)
    assert caught.value.parameter == "response_fields"


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        pytest.param(
            "call_start", "direction invalid.*, got 'call_start'. Write 'call_start_ASC'", id="none"
        ),
        pytest.param(
            "call_start_UP",
            "direction invalid.*, got 'call_start_UP'. Write 'call_start_ASC'",
            id="another word",
        ),
        pytest.param("call_start_desc", "direction invalid.*, got 'call_start_desc'", id="small letters"),
        pytest.param(
            "cal_start_ASC",
            r"field invalid.*, got 'cal_start_ASC'; did you mean 'call_start_ASC'\?",
            id="slip",
        ),
        pytest.param(
            "zzzz_ASC", "a response field and _ASC or _DESC.*field invalid.*'zzzz_ASC'$", id="unlike any"
        ),
        pytest.param(
            "call_strt", r"field invalid.*did you mean 'call_start_ASC'\?", id="field and direction"
        ),
        pytest.param("", "field invalid", id="empty"),
        pytest.param(
            "qqqq",
            "must be a response field and _ASC or _DESC, such as call_start_ASC .field invalid",
            id="no sense at all",
        ),
        pytest.param("_ASC", "field invalid", id="no field"),
        pytest.param(7, "must be a str such as 'call_start_ASC', got int", id="no str"),
    ],
)
def test_invalid_orders_are_refused(order, problem):
    """Given an invalid order, then the error says whether the field or the direction is invalid, as the endpoint does."""
    with pytest.raises(QueryError, match=f"^order .*{problem}") as caught:
        InsightsQuery(order=order)
    assert caught.value.parameter == "order"
