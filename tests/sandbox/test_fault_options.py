"""Which requests fail, and faults of the list of calls."""

import time
from collections import Counter

import httpx
import pytest
from support.sandbox import CREDENTIALS, PATH, request_raw
from support.waiting import until_sync

from iovox_async.errors import ConfigurationError
from iovox_async.sandbox import Faults, Sandbox
from iovox_async.sandbox.faults import choose_delay, choose_fault

ALWAYS = {"fail_after": 0}


@pytest.mark.parametrize(
    ("options", "failing"),
    [
        pytest.param({}, [], id="none"),
        pytest.param({"fail_first": 3}, [1, 2, 3], id="first"),
        pytest.param({"every_nth": 4}, [4, 8, 12], id="every-nth"),
        pytest.param({"fail_at": [2, 9]}, [2, 9], id="at"),
        pytest.param({"fail_after": 10}, [11, 12], id="lasting"),
        pytest.param({"fail_first": 1, "every_nth": 6, "fail_after": 11}, [1, 6, 12], id="together"),
        pytest.param({"error_rate": 1}, list(range(1, 13)), id="always"),
    ],
)
def test_given_a_schedule_when_requests_are_sent_then_exactly_those_fail(
    options, failing, set_faults, fault_url, fault_sandbox
):
    """Given conditions by number, when 12 requests are sent, then exactly the expected ones fail."""
    set_faults(**options)
    with httpx.Client(verify=False, headers=CREDENTIALS, base_url=fault_url) as client:
        for _ in range(12):
            client.get(PATH)
    assert [request.number for request in fault_sandbox.requests if request.outcome == "500"] == failing


def test_given_an_error_rate_when_drawn_then_the_share_is_right_and_repeatable():
    """Given an error rate, when 3,000 requests are drawn, then the share is right, and the same for the same seed."""
    faults = Faults(error_rate=0.2, kinds=("500", "reset", "cut"))
    runs = [[choose_fault(faults, number, seed) for number in range(1, 3001)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    counts = Counter(runs[0])
    assert 2300 < counts.pop(None) < 2500
    assert set(counts) == {"500", "reset", "cut"}
    assert min(counts.values()) > 150


def test_given_fail_above_rows_when_a_page_has_more_rows_then_it_fails(set_faults, get):
    """Given `fail_above_rows`, when a page would have more rows, then it fails; a smaller one does not."""
    set_faults(fail_above_rows=20)
    assert get().status_code == 500
    assert len(get(PATH + "&limit=20").json()) == 20
    assert get(PATH + "&limit=21").status_code == 500


def test_given_a_fault_when_a_request_is_invalid_then_it_gets_its_own_error(set_faults, get, fault_url):
    """Given a fault for all requests, when one is invalid, then it gets 400 or 401 instead."""
    set_faults(kinds="503", **ALWAYS)
    assert get(PATH + "&page=x").status_code == 400
    assert httpx.get(fault_url + PATH, verify=False).status_code == 401


@pytest.mark.parametrize(
    "options",
    [
        {"kinds": "501"},
        {"kinds": ()},
        {"kinds": ("500", "explode")},
        {"latency": -1},
        {"error_rate": 1.1},
        {"max_page_rows": 0},
        {"inserts_per_request": -0.5},
        {"error_format": "yaml"},
    ],
    ids=str,
)
def test_given_an_invalid_argument_when_faults_are_created_then_the_error_names_it(options):
    """Given an argument out of range, when Faults is created, then ConfigurationError names it."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Faults(**options)


def test_given_latency_when_a_request_is_answered_then_it_takes_at_least_that_long(
    set_faults, get, fault_sandbox
):
    """Given latency and jitter, when requests are answered, then they take that long, repeatably."""
    set_faults(latency=0.05)
    began = time.monotonic()
    assert len(get().json()) == 50
    assert time.monotonic() - began >= 0.05
    delays = [choose_delay(Faults(latency=1, jitter=2), number, 0) for number in range(200)]
    assert 1 <= min(delays) < 1.2
    assert 2.8 < max(delays) <= 3


def test_given_latency_when_the_client_disconnects_then_the_request_counts_as_abandoned(
    set_faults, fault_url, fault_sandbox
):
    """Given a long latency, when the client disconnects, then the request ends and counts as abandoned."""
    set_faults(latency=60)
    assert request_raw(fault_url, silent_after=0)[2] == "timeout"
    until_sync(lambda: fault_sandbox.stats.abandoned)
    stats = fault_sandbox.stats
    assert (stats.requests, stats.abandoned, stats.answered, stats.failed, stats.rows) == (1, 1, 0, 0, 0)
    assert fault_sandbox.requests[0].outcome == "abandoned"


def test_given_max_page_rows_when_a_larger_limit_is_requested_then_pages_are_smaller(set_faults, get):
    """Given `max_page_rows`, when a larger limit is requested, then pages have that many rows, without an error."""
    set_faults(max_page_rows=20)
    pages = [get(f"{PATH}&limit=100&page={page}").json() for page in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [20, 20, 10, 0]
    assert len({call["id"] for page in pages for call in page}) == 50


def test_given_max_page_rows_after_when_so_many_requests_were_sent_then_pages_get_smaller(set_faults, get):
    """Given `max_page_rows_after`, when more requests are sent, then their pages are smaller."""
    set_faults(max_page_rows=7, max_page_rows_after=2)
    assert [len(get().json()) for _ in range(4)] == [50, 50, 7, 7]


def test_given_shuffle_ties_when_requested_again_then_only_ties_change_their_order(
    set_faults, get, fault_sandbox
):
    """Given calls with one start, when requested repeatedly, then only their order changes, repeatably."""
    set_faults(shuffle_ties=True)
    lists = [[call["id"] for call in get(PATH + "&order=call_start_ASC").json()] for _ in range(4)]
    assert len({tuple(order) for order in lists}) == 4
    starts = {row["id"]: row["call_start"] for row in fault_sandbox.rows()}
    assert all([starts[number] for number in order] == sorted(starts.values()) for order in lists)
    set_faults(shuffle_ties=True)
    assert [call["id"] for call in get(PATH + "&order=call_start_ASC").json()] == lists[0]


def test_given_ignore_page_when_another_page_is_requested_then_it_is_the_first(set_faults, get):
    """Given `ignore_page`, when page 3 is requested, then page 1 is returned."""
    set_faults(ignore_page=True)
    assert get(PATH + "&limit=5&page=3").json() == get(PATH + "&limit=5").json() != []


def test_given_ignore_dates_when_another_range_is_requested_then_all_calls_are_returned(set_faults, get):
    """Given `ignore_dates`, when an empty range is requested, then all calls are returned."""
    set_faults(ignore_dates=True)
    assert len(get("/calls/insights?start_date=2001-01-01&end_date=2001-01-02").json()) == 50


@pytest.mark.parametrize(
    ("on", "accepted", "encoding"),
    [(True, "gzip, deflate", "gzip"), (True, "identity", None), (False, "gzip", None)],
)
def test_given_gzip_when_the_client_accepts_it_then_the_body_is_compressed(
    on, accepted, encoding, set_faults, get, valid_body, fault_sandbox
):
    """Given `gzip`, when a client accepts gzip, then the body is compressed; otherwise it is not."""
    set_faults(gzip=on)
    response = get(**{"accept-encoding": accepted})
    assert response.headers.get("content-encoding") == encoding
    assert response.content == valid_body
    assert (fault_sandbox.stats.bytes < len(valid_body)) == (encoding == "gzip")


def test_given_keep_alive_when_a_connection_is_idle_for_longer_then_it_is_closed(
    set_faults, fault_url, fault_sandbox
):
    """Given `keep_alive`, when a connection is idle for longer, then it is closed."""
    set_faults(keep_alive=0.01)
    with httpx.Client(verify=False, headers=CREDENTIALS) as client:
        client.get(fault_url + PATH)
        until_sync(lambda: not fault_sandbox.stats.connections)


def test_given_inserts_and_deletes_when_requests_are_sent_then_calls_change_before_each():
    """Given inserts and deletes per request, when requests are sent, then calls change before each, repeatably."""
    outcomes = []
    for _ in range(2):
        faults = Faults(inserts_per_request=1.5, deletes_per_request=0.5, fail_at=[4])
        sandbox = Sandbox(calls=40, start="2024-01-01", end="2024-01-02", seed=3, faults=faults)
        before = sandbox.ids()
        with (
            sandbox.serve() as base_url,
            httpx.Client(verify=False, base_url=base_url, headers=CREDENTIALS) as client,
        ):
            responses = [client.get(PATH) for _ in range(8)]
        counts = [len(response.json()) if response.status_code == 200 else 0 for response in responses]
        assert counts == [41, 42, 43, 0, 45, 46, 47, 48]
        assert (len(sandbox.inserted_ids), len(sandbox.deleted_ids)) == (12, 4)
        assert set(sandbox.ids()) == (set(before) | sandbox.inserted_ids) - sandbox.deleted_ids
        assert sandbox.ids("2024-01-01", "2024-01-02") == sandbox.ids()
        outcomes.append(sandbox.ids())
    assert outcomes[0] == outcomes[1]
