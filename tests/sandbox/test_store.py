"""Reading and changing the sandbox's calls directly, also while requests read them."""

import threading
from datetime import datetime, timedelta, timezone

import httpx
import pytest
from support.sandbox import CREDENTIALS, RANGE, ids

from iovox_async.errors import ConfigurationError, QueryError
from iovox_async.sandbox import Sandbox


def test_given_filters_when_rows_are_read_directly_then_they_are_those_of_the_endpoint(
    sandbox, all_rows, get_calls
):
    """Given dates, filters and fields, when `rows` and `ids` read them, then the results are those of the endpoint."""
    assert ids(sandbox.rows("2024-02-01", "2024-02-29")) == sandbox.ids(
        datetime(2024, 2, 1), datetime(2024, 2, 29, 23, 59, 59)
    )
    assert sandbox.ids(id=ids(all_rows[3:6])) == ids(all_rows[3:6])
    assert sandbox.ids(tag_colour=("RED", "BLUE")) == sandbox.ids(tag_colour="RED,BLUE")
    assert sandbox.rows(node_id=2, fields=["id"]) == [{"id": number} for number in sandbox.ids(node_id=2)]
    assert sandbox.ids() == ids(get_calls(**RANGE, order="call_start_ASC"))


@pytest.mark.parametrize("bound", ["2024-02-05", "2024-02-05 11", "2024-02-05 11:10", "2024-02-05 11:10:30"])
def test_given_an_incomplete_date_when_ids_are_read_directly_then_it_is_completed_as_by_the_endpoint(
    bound, sandbox, get_calls
):
    """Given a date without some parts, when it is a bound, then `ids` and the endpoint complete it alike."""
    query = {"limit": 20_000, "order": "call_start_ASC"}
    assert sandbox.ids("2024-01-01", bound) == ids(
        get_calls(start_date="2024-01-01", end_date=bound, **query)
    )
    assert sandbox.ids(bound, "2024-03-31") == ids(
        get_calls(start_date=bound, end_date="2024-03-31", **query)
    )


def test_given_a_time_zone_when_ids_are_read_directly_then_it_is_ignored(sandbox):
    """Given a bound with a time zone, when ids are read, then the local time counts."""
    naive = sandbox.ids("2024-02-05 10:00:00", "2024-02-06 10:00:00")
    assert sandbox.ids("2024-02-05T10:00:00+01:00", "2024-02-06 10:00:00+01:00") == naive != []
    zone = timezone(timedelta(hours=-5))
    assert sandbox.ids(datetime(2024, 2, 5, 10, tzinfo=zone), datetime(2024, 2, 6, 10, tzinfo=zone)) == naive


@pytest.mark.parametrize(
    "call_wrongly",
    [
        pytest.param(lambda sandbox: sandbox.ids(nodeid=3), id="filter"),
        pytest.param(lambda sandbox: sandbox.rows(fields=["talk_time_sec"]), id="field"),
        pytest.param(lambda sandbox: sandbox.ids("soon"), id="date"),
        pytest.param(lambda sandbox: sandbox.ids(2024), id="number-for-a-date"),
        pytest.param(lambda sandbox: sandbox.add([{"talktime": 3}]), id="name-of-a-value"),
        pytest.param(lambda sandbox: sandbox.add([{"talk_time": "long"}]), id="value"),
        pytest.param(lambda sandbox: sandbox.add([{"id": sandbox.ids()[0]}]), id="taken-id"),
        pytest.param(lambda sandbox: sandbox.add({"call_result": "BUSY"}), id="no-list"),
        pytest.param(lambda sandbox: sandbox.add("12"), id="text"),
        pytest.param(lambda sandbox: sandbox.add(None), id="none"),
        pytest.param(lambda sandbox: sandbox.add([1]), id="list-of-numbers"),
        pytest.param(lambda sandbox: sandbox.update(1, talk_time=3), id="no-such-call"),
        pytest.param(lambda sandbox: sandbox.update(sandbox.ids()[0], id=1), id="another-id"),
    ],
)
def test_given_an_unknown_name_or_invalid_value_when_used_then_it_is_an_error(call_wrongly, sandbox):
    """Given a typing mistake in a test, when the sandbox is called, then it raises QueryError and changes nothing."""
    before = sandbox.ids()
    with pytest.raises(QueryError):
        call_wrongly(sandbox)
    assert sandbox.ids() == before


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"start": "2024-02-01", "end": "2024-01-01"}, id="end-before-start"),
        pytest.param({"start": "then"}, id="no-date"),
        pytest.param({"end": 2024}, id="number-for-a-date"),
        pytest.param({"calls": "10"}, id="text-for-a-number"),
        pytest.param({"calls": 1.5}, id="fraction"),
        pytest.param({"calls": -1}, id="negative"),
    ],
)
def test_given_invalid_arguments_when_a_sandbox_is_created_then_it_is_an_error(options):
    """Given an invalid range or number, when a sandbox is created, then it raises ConfigurationError."""
    with pytest.raises(ConfigurationError, match=r"must (not )?be"):
        Sandbox(**options)


def test_given_values_when_a_call_is_added_then_other_values_are_generated():
    """Given some values of a call, when it is added, then it has them, and the other values are generated."""
    sandbox = Sandbox(calls=10)
    tags = [{"text": 'Äpfel "und" Birnen\n', "colour": "RED", "source_type": "user"}]
    values = {
        "id": 42,
        "call_start": datetime(2024, 1, 5, 10, 0, 0),
        "talk_time": timedelta(seconds=75),
        "call_time": "00:01:30",
        "node_name": 'Quote " and \\ Söhne',
        "has_recording": True,
        "call_origin": None,
        "tags": tags,
        "comments": [],
        "categories": {"call_categories": [{"category_id": "9", "label": "a", "value": "b"}]},
    }
    assert sandbox.add([values]) == [42]
    [row] = sandbox.rows(id=42)
    assert (row["call_start"], row["call_end"]) == ("2024-01-05 10:00:00", "2024-01-05 10:01:30")
    assert (row["talk_time"], row["talk_time_sec"], row["has_recording"]) == ("00:01:15", 75, "TRUE")
    assert (row["node_name"], row["call_origin"], row["tags"]) == (values["node_name"], "", tags)
    assert row["categories"]["call_categories"] == values["categories"]["call_categories"]
    assert row["link_name"] != ""
    assert sandbox.ids(tag_text=tags[0]["text"]) == sandbox.ids(call_category_ids="9") == [42]
    assert sandbox.inserted_ids == {42}


def test_given_a_number_or_one_second_when_calls_are_added_then_all_are_inserted():
    """Given a number of calls, or 1,500 in one second, when they are added, then all exist with their own ids."""
    sandbox = Sandbox(calls=0, start="2024-01-01", end="2024-01-31")
    assert len(set(sandbox.add(200))) == 200
    assert len({row["call_start"] for row in sandbox.rows()}) > 150
    burst = sandbox.add([{"call_start": "2024-01-15 12:00:00"}] * 1_500)
    assert sorted(burst) == sorted(
        set(sandbox.ids("2024-01-15 12:00:00", "2024-01-15 12:00:00")) & set(burst)
    )
    assert sandbox.inserted_ids == set(sandbox.ids())


def test_given_a_call_when_its_transcription_is_updated_then_all_requests_see_it():
    """Given a call, when its transcription is updated, then responses with all and with some fields have it."""
    sandbox = Sandbox(calls=20)
    number = next(row["id"] for row in sandbox.rows() if not row["transcriptions"])
    others = [row for row in sandbox.rows(fields=["id", "transcription_text"]) if row["id"] != number]
    transcriptions = [{"transcription_id": "t1", "language": "en", "text": "hello", "phrases": []}]
    sandbox.update(number, transcriptions=transcriptions, talk_time_sec=600)
    [row] = sandbox.rows(id=number)
    assert (row["transcriptions"], row["talk_time"]) == (transcriptions, "00:10:00")
    duration = datetime.fromisoformat(row["call_end"]) - datetime.fromisoformat(row["call_start"])
    assert duration == timedelta(seconds=row["call_time_sec"]) >= timedelta(seconds=600)
    [row] = sandbox.rows(fields=["id", "transcription_text"], id=number)
    assert row == {"id": number, "transcriptions": [{"text": "hello"}]}
    assert [row for row in sandbox.rows(fields=["id", "transcription_text"]) if row["id"] != number] == others


def test_given_an_object_in_the_place_of_a_list_when_read_then_it_stays_an_object():
    """Given an object in the place of a list, when some of its fields are requested, then an object with these is returned."""
    sandbox = Sandbox(calls=0)
    comment = {"comment_id": "c1", "created": "2024-01-02 10:00:00", "text": "Call back"}
    [number] = sandbox.add([{"comments": comment, "tags": None}])
    [row] = sandbox.rows(fields=["comment_text", "tag_text"], id=number)
    assert row == {"comments": {"text": "Call back"}, "tags": None}
    assert sandbox.rows(id=number)[0]["comments"] == comment


def test_given_a_call_when_its_start_is_updated_then_its_end_moves():
    """Given a call, when its start is updated, then its end moves along, unless it is updated too."""
    sandbox = Sandbox(calls=5)
    first = sandbox.ids()[0]
    call_time = sandbox.rows(id=first)[0]["call_time_sec"]
    sandbox.update(first, call_start="2024-03-31 22:00:00")
    [row] = sandbox.rows(id=first)
    assert row["call_end"] == str(datetime(2024, 3, 31, 22) + timedelta(seconds=call_time))
    assert sandbox.ids()[-1] == first
    sandbox.update(first, call_end="2024-03-31 22:00:01")
    assert sandbox.rows(id=first)[0]["call_end"] == "2024-03-31 22:00:01"


def test_given_calls_when_removed_then_they_are_counted_and_in_deleted_ids():
    """Given calls, when they are removed, then only existing ones are counted, and `deleted_ids` has them."""
    sandbox = Sandbox(calls=30)
    before = sandbox.ids()
    assert sandbox.remove([*before[:3], 17]) == 3
    assert sandbox.ids() == before[3:]
    assert sandbox.deleted_ids == set(before[:3])


def test_given_one_invalid_call_of_many_when_added_then_none_is_inserted():
    """Given two calls, one of them invalid, when they are added, then neither is inserted."""
    sandbox = Sandbox(calls=3)
    before = sandbox.ids()
    with pytest.raises(ValueError, match="nonsense"):
        sandbox.add([{"call_start": "2024-01-01"}, {"nonsense": 1}])
    assert (sandbox.ids(), sandbox.inserted_ids) == (before, frozenset())
    sandbox.add([{"tags": [{"text": "later", "colour": "RED", "source_type": "user"}]}])
    assert len(sandbox.ids(tag_text="later")) == 1


LONE_SURROGATE = "\ud800"
#: The invalid name, and values of a call that no response could have.
INVALID_VALUES = {
    "id-of-70-bits": ("id", {"id": 2**70}),
    "no-id": ("id", {"id": None}),
    "invalid-bool": ("has_recording", {"has_recording": "YES"}),
    "negative-duration": ("talk_time", {"talk_time": -5}),
    "negative-clock": ("talk_time", {"talk_time": "-00:00:05"}),
    "ninety-minutes": ("call_time", {"call_time": "00:90:00"}),
    "endless-duration": ("talk_time_sec", {"talk_time_sec": 2**70}),
    "beyond-the-calendar": ("call_time", {"call_time": 10**12}),
    "half-a-pair": ("node_name", {"node_name": LONE_SURROGATE}),
    "half-a-pair-in-a-list": ("tags", {"tags": [{"text": LONE_SURROGATE}]}),
    "no-json": ("comments", {"comments": [object()]}),
    "categories-without-names": ("categories", {"categories": [{"category_id": "9"}]}),
}


@pytest.mark.parametrize("case", INVALID_VALUES)
def test_given_an_invalid_value_when_added_or_updated_then_the_error_names_it_and_nothing_changes(case):
    """Given an invalid value, when a call is added or updated, then QueryError names it and later changes work."""
    name, values = INVALID_VALUES[case]
    sandbox = Sandbox(calls=3)
    before = sandbox.rows()
    tags = [{"text": "later", "colour": "RED", "source_type": "user"}]
    for invalid_change in (
        lambda: sandbox.add([{"tags": tags, **values}]),
        lambda: sandbox.update(before[0]["id"], **{"tags": tags, **values}),
    ):
        with pytest.raises(QueryError) as caught:
            invalid_change()
        assert caught.value.parameter == name
        assert sandbox.rows() == before
    sandbox.update(before[0]["id"], tags=tags)
    assert sandbox.rows(id=before[0]["id"])[0]["tags"] == tags


def test_given_an_id_beyond_64_bits_when_used_then_no_call_is_found():
    """Given an id that SQLite cannot store, when it is removed, read or updated, then no call is found."""
    sandbox = Sandbox(calls=3)
    assert sandbox.remove([2**70]) == len(sandbox.ids(id=2**70)) == 0
    with pytest.raises(QueryError, match="must be the id of a call"):
        sandbox.update(2**70, talk_time=3)


def test_given_a_writing_thread_when_requests_read_then_each_sees_whole_transactions():
    """Given calls added in pairs by a thread, when requests read meanwhile, then they see pairs only."""
    sandbox = Sandbox(calls=0)
    done = threading.Event()

    def insert_pairs():
        for _ in range(60):
            pair = sandbox.add([{"call_start": "2024-01-02"}, {"call_start": "2024-03-02"}])
            sandbox.remove(pair) if len(sandbox.inserted_ids) % 3 == 0 else None
        done.set()

    writer = threading.Thread(target=insert_pairs)
    with (
        sandbox.serve() as base_url,
        httpx.Client(verify=False, base_url=base_url, headers=CREDENTIALS) as client,
    ):
        writer.start()
        counts = []
        while not done.is_set():
            query = {"start_date": "2024-01-01", "end_date": "2024-03-31", "response_fields": "id,tag_text"}
            counts.append(len(client.get("/calls/insights", params=query).json()))
        writer.join()
    assert all(count % 2 == 0 for count in counts)
