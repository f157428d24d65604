"""The model answers as the endpoint's documentation says."""

import json
import random
from datetime import datetime

import pytest

from .endpoint import Endpoint, at
from .zones import AccountClock

NOW = datetime(2024, 1, 20, 12)


def endpoint_with(starts, **options):
    """A model with calls that began at these seconds."""
    endpoint = Endpoint(random.Random(1), **options)
    for second in starts:
        endpoint.insert(at(second))
    return endpoint


def starts(reply):
    """The seconds of a reply's calls."""
    return [(row.start - at(0)).total_seconds() for row in reply.rows]


def test_given_no_arguments_when_a_page_is_requested_then_the_month_comes_latest_first():
    endpoint = endpoint_with([5, -1, 7, 86_400 * 40])
    assert starts(endpoint.reply("", "1", NOW)) == [7, 5]


def test_given_a_limit_when_pages_are_requested_then_each_row_comes_on_one_page():
    endpoint = endpoint_with(range(5))
    pages = [
        starts(endpoint.reply(f"order=call_start_ASC&limit=2&page={page}", "1", NOW)) for page in (1, 2, 3, 4)
    ]
    assert pages == [[0, 1], [2, 3], [4], []]


def test_given_a_lower_cap_when_more_rows_are_requested_then_the_cap_holds():
    endpoint = endpoint_with(range(5), cap=2)
    assert starts(endpoint.reply("order=call_start_ASC&limit=4", "1", NOW)) == [0, 1]


@pytest.mark.parametrize(
    ("offset", "second_page"),
    [("limit", [4, 5]), ("cap", [2, 3])],
    ids=["counts the limit", "counts the cap"],
)
def test_given_a_lower_cap_when_the_second_page_is_requested_then_it_begins_as_the_server_counts(
    offset, second_page
):
    endpoint = endpoint_with(range(8), cap=2, offset=offset)
    assert starts(endpoint.reply("order=call_start_ASC&limit=4&page=2", "1", NOW)) == second_page


@pytest.mark.parametrize(
    ("end", "expected"), [("inclusive", [0, 1]), ("exclusive", [0]), ("second", [0, 1, 1.5])], ids=str
)
def test_given_an_end_when_it_is_read_in_each_way_then_its_second_is_in_or_out(end, expected):
    endpoint = endpoint_with([0, 1, 1.5, 2], end=end)
    query = "order=call_start_ASC&start_date=2024-01-01+00:00:00&end_date=2024-01-01+00:00:01"
    assert starts(endpoint.reply(query, "1", NOW)) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("order=speed_ASC", "Order Field Invalid"),
        ("order=call_start_UP", "Order Direction Invalid"),
        ("page=x", "Page number not an integer"),
        ("limit=x", "Limit not an integer"),
        ("limit=20001", "Limit must be between 1 and 20000"),
        ("limit=0", "Limit must be between 1 and 20000"),
        ("start_date=soon", "Start Date invalid"),
        ("end_date=later", "End Date invalid"),
        ("response_fields=id,speed", "Required fields invalid: speed"),
    ],
)
def test_given_a_wrong_argument_when_it_is_sent_then_the_documented_message_comes(query, message):
    reply = endpoint_with([1]).reply(query, "1", NOW)
    assert (reply.status, json.loads(reply.body)) == (400, {"error": message})


def test_given_requested_fields_when_a_page_comes_then_it_holds_these_alone():
    reply = endpoint_with([1]).reply("response_fields=id,call_origin", "77", NOW)
    assert json.loads(reply.body) == [{"id": reply.rows[0].id, "call_origin": "77"}]


def test_given_changes_when_a_call_moves_then_its_history_tells_when_each_version_lived():
    endpoint = endpoint_with([1])
    row = endpoint.rows[0]
    endpoint.move(row, at(9))
    old, new = endpoint.history[row.id]
    assert (old.start, new.start) == (at(1), at(9))
    assert old.died == endpoint.tick - 1
    assert new.born == endpoint.tick
    assert new.died is None


def test_given_a_single_call_when_it_is_shown_alone_then_it_is_no_list():
    reply = endpoint_with([1], lone=True).reply("response_fields=id", "1", NOW)
    assert json.loads(reply.body) == {"id": reply.rows[0].id}


def _paged(endpoint, first, last):
    query = f"page=1&limit=10&order=call_start_ASC&start_date={at(first)}&end_date={at(last)}".replace(
        " ", "+"
    )
    return [row.start for row in endpoint.reply(query, "1", NOW).rows]


@pytest.mark.parametrize(("folds", "number"), [((0, 0), 1), ((0, 1), 2), ((1, 1), 1), ((1, 0), 0)])
def test_given_a_clock_set_back_when_bounds_lie_in_the_hour_then_the_folds_decide(folds, number):
    endpoint = Endpoint(random.Random(1), clock=AccountClock(7_200, -3_600, folds))
    for fold in (0, 1):
        endpoint.insert(at(5_400).replace(fold=fold), number=fold)
    assert len(_paged(endpoint, 5_400, 5_400)) == number
    assert [row.start.fold for row in endpoint.rows] == [0, 1]


def test_given_a_clock_set_forward_when_a_call_is_inserted_then_it_begins_at_a_time_that_occurs():
    endpoint = Endpoint(random.Random(1), clock=AccountClock(7_200, 3_600, (0, 0)))
    assert endpoint.insert(at(9_000)).start in {at(5_400), at(12_600)}
    assert endpoint.insert(at(7_199)).start == at(7_199)


def test_given_a_replica_that_is_behind_when_it_answers_then_the_calls_are_those_of_that_moment():
    endpoint = Endpoint(random.Random(1))
    row = endpoint.insert(at(1))
    tick = endpoint.tick
    endpoint.delete(row)
    endpoint.insert(at(2))
    query = "page=1&limit=10&start_date=2024-01-01&end_date=2024-01-02"
    assert [row.start for row in endpoint.reply(query, "1", NOW, tick=tick).rows] == [at(1)]
    assert [row.start for row in endpoint.reply(query, "1", NOW).rows] == [at(2)]
