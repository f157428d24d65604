"""`InsightsQuery` against the endpoint's tables of parameters and errors."""

from __future__ import annotations

import pickle
import subprocess
import sys
import typing
from datetime import UTC, date, datetime
from enum import Enum, IntEnum

import attrs
import pytest

from iovox_async.errors import QueryError
from iovox_async.query import Field, Fields, Filters, InsightsQuery


class Result(str, Enum):  # noqa: UP042 - as older code writes it: its str() is not its value
    ANSWERED = "ANSWERED"


class Page(IntEnum):
    SECOND = 2


class Index:
    """An integer that is no int, like numpy's."""

    def __index__(self):
        return 41


# The endpoint's table: (its name, our name, argument, attribute, query string).
PARAMETERS = [
    ("page", "page", 3, 3, "3"),
    ("limit", "limit", 20_000, 20_000, "20000"),
    ("order", "order", "call_start_DESC", "call_start_DESC", "call_start_DESC"),
    (
        "start_date",
        "start_date",
        "2022-01-01 13:45:15",
        datetime(2022, 1, 1, 13, 45, 15),
        "2022-01-01+13:45:15",
    ),
    ("end_date", "end_date", date(2022, 1, 11), datetime(2022, 1, 11, 23, 59, 59), "2022-01-11+23:59:59"),
    ("date_constant", "date_constant", "YESTERDAY", "YESTERDAY", "YESTERDAY"),
    ("id", "ids", [30683207599876, "7", 7], (30683207599876, 7), "30683207599876,7"),
    ("node_id", "node_id", 2, "2", "2"),
    ("node_name", "node_name", "Brighton Motors", "Brighton Motors", "Brighton+Motors"),
    ("node_type", "node_type", "a&b=c#d", "a&b=c#d", "a%26b%3Dc%23d"),
    ("link_id", "link_id", "53", "53", "53"),
    ("link_name", "link_name", "Zoë, Köln: 1+1", "Zoë, Köln: 1+1", "Zo%C3%AB,+K%C3%B6ln:+1%2B1"),
    ("link_type", "link_type", "default-type", "default-type", "default-type"),
    ("call_result", "call_result", Result.ANSWERED, "ANSWERED", "ANSWERED"),
    ("rule_result", "rule_result", "Call to an Operator", "Call to an Operator", "Call+to+an+Operator"),
    ("call_origin", "call_origin", 447966111222, "447966111222", "447966111222"),
    ("call_origin_encoded", "call_origin_encoded", "447966111222", "447966111222", "447966111222"),
    ("iovox_number", "iovox_number", "0448456111222", "0448456111222", "0448456111222"),
    ("call_destination", "call_destination", "+44 7966 123456", "+44 7966 123456", "%2B44+7966+123456"),
    ("direction", "direction", "IN", "IN", "IN"),
    ("link_category_ids", "link_category_ids", "1,2,3", ("1", "2", "3"), "1,2,3"),
    ("call_category_ids", "call_category_ids", (3, "2", 3), ("3", "2"), "3,2"),
    ("node_category_ids", "node_category_ids", 5, ("5",), "5"),
    ("contact_category_ids", "contact_category_ids", {"b", "a"}, ("a", "b"), "a,b"),
    ("tag_text", "tag_text", "100% sure?", "100% sure?", "100%25+sure%3F"),
    ("tag_colour", "tag_colour", ["gold", "RED", "Gold"], ("GOLD", "RED"), "GOLD,RED"),
    (
        "keyword_rules",
        "keyword_rules",
        "Test Drive discussed",
        "Test Drive discussed",
        "Test+Drive+discussed",
    ),
    ("call_outcomes", "call_outcomes", "Sale/made", "Sale/made", "Sale%2Fmade"),
    ("response_fields", "fields", [Field.ID, "call_start"], (Field.ID, Field.CALL_START), "id,call_start"),
]
NAMES = [row[1] for row in PARAMETERS]
#: Filters that are one text.
TEXTS = [n for n in NAMES[7:28] if not n.endswith("_ids") and n not in {"tag_colour", "iovox_number"}]
#: Comma lists of free texts.
LISTS = [n for n in NAMES if n.endswith("_category_ids")]
PHONES = ["call_origin", "call_origin_encoded", "iovox_number", "call_destination"]


@pytest.mark.parametrize(("endpoint_name", "name", "value", "stored", "sent"), PARAMETERS, ids=NAMES)
def test_every_parameter_is_sent_under_the_name_of_the_endpoint(endpoint_name, name, value, stored, sent):
    """Given a parameter of the table, then it is stored as a plain value and sent under the endpoint's name."""
    query = InsightsQuery(**{name: value})
    assert getattr(query, name) == stored
    assert type(getattr(query, name)) is type(stored)
    expected = f"page={sent}" if name == "page" else f"page=1&{endpoint_name}={sent}"
    assert query.to_query_string() == expected
    assert InsightsQuery().to_query_string(**{name: value}) == expected
    assert attrs.evolve(query) == query


def test_the_table_is_complete():
    """Given the 29 rows of the table, then they are the attributes in order; filters are `ids` to `call_outcomes`."""
    assert [field.name for field in attrs.fields(InsightsQuery)] == NAMES
    assert len(NAMES) == 29
    assert [*Filters.__annotations__] == NAMES[6:28]
    assert set(typing.get_type_hints(Filters)) == set(NAMES[6:28])


def test_all_parameters_are_optional():
    """Given no arguments, then only the page is sent."""
    assert InsightsQuery().to_query_string() == "page=1"
    assert InsightsQuery() == InsightsQuery(**dict.fromkeys(NAMES[1:]))
    assert InsightsQuery().active_filters() == {}


@pytest.mark.parametrize(
    ("arguments", "attribute", "stored"),
    [
        pytest.param({"ids": Index()}, "ids", (41,), id="single number like numpy's"),
        pytest.param({"ids": [Index(), "0041"]}, "ids", (41,), id="one id in two writings"),
        pytest.param({"ids": range(3)}, "ids", (0, 1, 2), id="range"),
        pytest.param({"ids": {10, 9}}, "ids", (10, 9), id="a set is sorted as text"),
        pytest.param({"node_id": Index()}, "node_id", "41", id="key like numpy's"),
        pytest.param({"node_id": "A-1"}, "node_id", "A-1", id="key of letters"),
        pytest.param({"page": Page.SECOND}, "page", 2, id="IntEnum"),
        pytest.param({"limit": 1}, "limit", 1, id="smallest page"),
        pytest.param(
            {"tag_colour": "blue,GOLD"}, "tag_colour", ("BLUE", "GOLD"), id="colours in small letters"
        ),
        pytest.param(
            {"date_constant": "yesterday"}, "date_constant", "YESTERDAY", id="constant in small letters"
        ),
        pytest.param({"tag_text": "👩‍👩‍👧 née"}, "tag_text", "👩‍👩‍👧 née", id="any script"),
    ],
)
def test_values_of_other_types_are_accepted(arguments, attribute, stored):
    """Given enumerations, numpy-like integers, sets and lower case, then they are converted."""
    value = getattr(InsightsQuery(**arguments), attribute)
    assert value == stored
    assert type(value) is type(stored)


class TestParams:
    def test_changes_apply_to_one_query_string_only(self):
        """Given changes, then they replace or remove parameters of the string, and the query stays the same."""
        query = InsightsQuery(
            start_date="2024-01-01", end_date="2024-01-02", limit=10, call_result="ANSWERED"
        )
        before = query.to_query_string()
        assert query.to_query_string(
            page=2, limit=None, end_date="2024-01-01 10", fields="id", ids=range(2)
        ) == (
            "page=2&start_date=2024-01-01+00:00:00&end_date=2024-01-01+10:59:59&id=0,1&call_result=ANSWERED"
            "&response_fields=id"
        )
        assert query.to_query_string() == before

    @pytest.mark.parametrize(
        ("changes", "parameter"),
        [
            ({"limit": 0}, "limit"),
            ({"page": "2"}, "page"),
            ({"fields": "x"}, "response_fields"),
            ({"end_date": "2023-01-01"}, "end_date"),
            ({"date_constant": "YESTERDAY"}, "date_constant"),
            ({"start_date": datetime(2024, 1, 1, tzinfo=UTC)}, "start_date"),
            ({"colour": "RED"}, "colour"),
        ],
        ids=str,
    )
    def test_changes_are_validated_as_at_construction(self, changes, parameter):
        """Given an invalid change, then a `QueryError` names its parameter."""
        with pytest.raises(QueryError) as caught:
            InsightsQuery(start_date="2024-01-01", end_date="2024-01-02").to_query_string(**changes)
        assert caught.value.parameter == parameter

    def test_an_unknown_change_suggests_the_nearest(self):
        """Given a misspelt change, then the error suggests the right name."""
        with pytest.raises(QueryError, match=r"^tag_color must be a parameter .*did you mean 'tag_colour'\?"):
            InsightsQuery().to_query_string(tag_color="RED")

    def test_an_aware_date_cannot_be_sent(self):
        """Given an aware date, then no query string is made, since the endpoint has no time zones."""
        with pytest.raises(QueryError, match=r"^end_date must not have a time zone.*timezone="):
            InsightsQuery(end_date=datetime(2024, 1, 1, tzinfo=UTC)).to_query_string()


class TestFingerprint:
    def test_depends_on_filters_order_and_fields_only(self):
        """Given other filters, order or fields, then the fingerprint differs; other dates and pages do not matter."""
        query = InsightsQuery(call_result="ANSWERED", ids=[1, 2], tag_colour="RED,BLUE")
        same = [
            {"page": 9},
            {"limit": 5},
            {"start_date": "2024-01-01"},
            {"end_date": "2024-01-01"},
            {"ids": "2,1"},
            {"tag_colour": {"blue", "red"}},
        ]
        other = [{"call_result": "MISSED"}, {"order": "id_ASC"}, {"fields": "id"}, {"ids": 1}, {"node_id": 1}]
        prints = {attrs.evolve(query, **change).fingerprint() for change in same}
        assert prints == {query.fingerprint()}
        assert len({attrs.evolve(query, **change).fingerprint() for change in other} | prints) == 6

    def test_is_the_same_in_every_process(self):
        """Given another process with another hash seed, then the fingerprint is the same."""
        code = (
            "from iovox_async.query import InsightsQuery;"
            "print(InsightsQuery(node_name='Zoë', tag_colour={'RED','GOLD'}, fields='id').fingerprint())"
        )
        printed = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, text=True
        ).stdout.strip()
        query = InsightsQuery(fields="id", tag_colour="GOLD,RED", node_name="Zoë")
        assert query.fingerprint() == printed
        assert len(printed) == 10
        assert int(printed, 16) >= 0


class TestFromArguments:
    def test_without_a_query_it_is_the_arguments(self):
        """Given arguments and defaults, then they make the query; None counts as not given."""
        made = InsightsQuery.from_arguments(
            "2024-01-01",
            "2024-01-31",
            default_order="call_start_ASC",
            default_fields="id",
            node_id=None,
            link_id=1,
        )
        assert made == InsightsQuery(
            start_date="2024-01-01", end_date="2024-01-31", order="call_start_ASC", fields="id", link_id="1"
        )

    def test_arguments_are_added_to_a_query(self):
        """Given a query and arguments it leaves open, then they are added; defaults never contradict the query."""
        query = InsightsQuery(
            page=3, limit=7, order="id_DESC", fields="id", start_date="2024-01-01", node_id=1
        )
        made = InsightsQuery.from_arguments(
            end="2024-01-31",
            query=query,
            order="call_start_ASC",
            default_order="call_start_ASC",
            fields=list(Fields.DEFAULT),
            default_fields=Fields.DEFAULT,
            link_id=2,
        )
        assert made == attrs.evolve(query, end_date="2024-01-31", link_id=2)

    def test_an_argument_may_repeat_the_query(self):
        """Given the same value in two forms, then it is no contradiction."""
        query = InsightsQuery(start_date="2024-01-01", ids=[1, 2], call_origin="447966111222")
        assert (
            InsightsQuery.from_arguments(date(2024, 1, 1), query=query, ids="1,2", call_origin=447966111222)
            == query
        )

    @pytest.mark.parametrize(
        ("arguments", "parameter", "message"),
        [
            pytest.param({"start": "2024-01-02"}, "start_date", "query= and start=", id="start"),
            pytest.param({"end": "2024-01-30"}, "end_date", "query= and end=", id="end"),
            pytest.param({"order": "id_ASC"}, "order", "query= and order=", id="order"),
            pytest.param({"fields": "call_end"}, "response_fields", "query= and fields=", id="fields"),
            pytest.param({"ids": "2"}, "id", "query= and ids=", id="ids"),
            pytest.param(
                {"call_origin": "447966111333"}, "call_origin", "query= and call_origin=", id="phone"
            ),
        ],
    )
    def test_a_contradiction_is_a_query_error(self, arguments, parameter, message):
        """Given an argument that contradicts the query, then the error names both places and shows no phone number."""
        query = InsightsQuery(
            start_date="2024-01-01",
            end_date="2024-01-31",
            order="id_DESC",
            fields="id",
            ids="1",
            call_origin="447966111222",
        )
        with pytest.raises(QueryError, match=message) as caught:
            InsightsQuery.from_arguments(query=query, **arguments)
        assert caught.value.parameter == parameter
        assert "447966111" not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("call_resul", r"did you mean 'call_result'\?"),
            ("tag_color", r"did you mean 'tag_colour'\?"),
            ("zzz", r"^zzz is not a filter\. iovox_async\.Filters lists all filters\.$"),
            ("id", "Pass ids="),
            ("response_fields", "Pass fields="),
            ("start_date", "Pass start,"),
            ("end_date", "Pass end,"),
            ("date_constant", "Pass start and end, or query="),
            ("page", "Use page"),
            ("limit", "page_size="),
        ],
    )
    def test_an_unknown_filter_is_a_query_error_with_a_hint(self, name, message):
        """Given a name that is no filter, then the error says what to pass in its place."""
        with pytest.raises(QueryError, match=message) as caught:
            InsightsQuery.from_arguments(**{name: None})
        assert caught.value.parameter == name

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"query": {"call_result": "BUSY"}}, "^query must be an InsightsQuery, got dict"),
            (
                {"start": InsightsQuery()},
                "^start_date must be a date, got an InsightsQuery. Pass it as query=.",
            ),
        ],
    )
    def test_a_query_in_another_form_or_place_is_a_query_error(self, arguments, message):
        """Given no InsightsQuery as the query, or one in the place of a date, then the error says what to pass."""
        with pytest.raises(QueryError, match=message):
            InsightsQuery.from_arguments(**arguments)

    def test_a_date_contradicts_a_date_constant(self):
        """Given a start and a query for `YESTERDAY`, then a `QueryError` is raised."""
        with pytest.raises(QueryError, match=r"^date_constant must not be combined"):
            InsightsQuery.from_arguments("2024-01-01", query=InsightsQuery(date_constant="YESTERDAY"))


class TestValue:
    def test_is_frozen_hashable_and_pickles(self):
        """Given a query, then it is immutable, hashable, and equal after pickling."""
        query = InsightsQuery(
            start_date=datetime(2024, 1, 1, tzinfo=UTC),
            ids=[1],
            fields=Fields.ALL,
            call_origin="447966111222",
        )
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            query.page = 2
        with pytest.raises((AttributeError, TypeError)):
            object.__setattr__(query, "extra", 1)
        twin = pickle.loads(pickle.dumps(query))
        assert twin == query
        assert {query: 1}[twin] == 1

    def test_positional_arguments_are_refused(self):
        """Given a positional argument, then a `TypeError` is raised."""
        with pytest.raises(TypeError):
            InsightsQuery(1)

    @pytest.mark.parametrize(
        ("arguments", "shown"),
        [
            pytest.param({}, "InsightsQuery()", id="nothing set"),
            pytest.param(
                {"end_date": "2024-01-31", "page": 2, "tag_colour": "red"},
                "InsightsQuery(page=2, end_date='2024-01-31 23:59:59', tag_colour='RED')",
                id="only what is set",
            ),
            pytest.param({"fields": Fields.ALL}, "InsightsQuery(fields=Fields.ALL)", id="preset"),
            pytest.param({"fields": "id,call_end"}, "InsightsQuery(fields='id,call_end')", id="fields"),
            pytest.param({"ids": range(10)}, "InsightsQuery(ids='0,1,2,3,4,5,6,7'… (10))", id="many ids"),
            pytest.param({"node_id": 447966111222}, "InsightsQuery(node_id='447966111222')", id="no phone"),
            pytest.param({"call_origin": "447966111222"}, "InsightsQuery(call_origin='…222')", id="phone"),
            pytest.param({"iovox_number": "1234"}, "InsightsQuery(iovox_number='…')", id="short phone"),
            pytest.param(
                {"rule_result": "Forward call to: 442035447179"},
                "InsightsQuery(rule_result='Forward call to: …179')",
                id="phone within a text",
            ),
            pytest.param(
                {"node_name": "Unit 12, +44 (0)20 3544-7179, 2nd floor"},
                "InsightsQuery(node_name='Unit 12, …179, 2nd floor')",
                id="phone within a name, as people write it",
            ),
        ],
    )
    def test_repr_shows_what_is_set_and_no_phone_number(self, arguments, shown):
        """Given any parameters, then the repr shows those that are set, and at most three digits of a phone number."""
        assert repr(InsightsQuery(**arguments)) == shown

    @pytest.mark.parametrize("name", PHONES)
    @pytest.mark.parametrize("form", ["{} ", "{}\n", "{}x\x00", " {}"], ids=repr)
    def test_no_error_shows_a_phone_number(self, name, form):
        """Given an invalid phone number, then the error does not show it."""
        with pytest.raises(QueryError) as caught:
            InsightsQuery(**{name: form.format("447966111222")})
        assert "7966" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    @pytest.mark.parametrize("name", PHONES)
    @pytest.mark.parametrize(
        "value", [[447966111222], 447966111222.0, ("447966111222",), -447966111222], ids=repr
    )
    def test_no_error_shows_a_phone_number_of_a_wrong_type(self, name, value):
        """Given a phone number in a list or as a float, then the error does not show it."""
        with pytest.raises(QueryError) as caught:
            InsightsQuery(**{name: value})
        assert "7966" not in str(caught.value)
