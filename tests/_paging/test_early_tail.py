"""The end of a long range is requested early, so that its check is over when the rest has come."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from support.model_server import Server, at, pull
from support.traffic import DAY, smooth

from iovox_async._paging import PageRequest, WindowPlan

CALLS, DAYS, PAGE = 6_000, 60, 100
LAST = CALLS // PAGE


def make(**options) -> tuple[WindowPlan, Server]:
    """Sixty pages of calls, and a plan to read them."""
    server = Server(random.Random(1), DAYS * DAY)
    server.fill(map(at, smooth(random.Random(1), CALLS, DAYS)))
    options = {"limit": PAGE, "early_page": True} | options
    return WindowPlan(at(0), at(DAYS * DAY), **options), server


def reaches_end(request: PageRequest, *, descending: bool) -> bool:
    """Whether a request is for the last day only."""
    if descending:
        return request.start < at(0) and request.stop <= at(2 * DAY)
    return request.stop >= at(DAYS * DAY) and request.start >= at((DAYS - 2) * DAY)


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
def test_the_end_is_requested_and_checked_before_the_rest(descending: bool):
    """Given a long range, when it is read with several requests at a time, then its end and the check of it are over before half of it is read."""
    plan, server = make(descending=descending)
    result = pull(plan, server, concurrency=4, patient=False)
    ends = [
        number
        for number, request in enumerate(result.requests_sent)
        if reaches_end(request, descending=descending)
    ]
    assert len(ends) == 2
    assert max(ends) < LAST / 2
    assert [row.id for row in result.rows] == [row.id for row in server.live[:: -1 if descending else 1]]


@pytest.mark.parametrize(
    ("concurrency", "options"),
    [
        pytest.param(1, {}, id="one request at a time"),
        pytest.param(4, {"limit": 400}, id="few pages"),
        pytest.param(4, {"early_tail": False}, id="not all calls are wanted"),
        pytest.param(4, {"expected_until": at((DAYS - 1) * DAY)}, id="calls may still arrive"),
    ],
)
def test_the_end_is_requested_last(concurrency: int, options: dict):
    """Given a read to which an early end is of no use, when it is read, then its windows are requested in order."""
    plan, server = make(**options)
    result = pull(plan, server, concurrency=concurrency, patient=False)
    ends = [
        number
        for number, request in enumerate(result.requests_sent)
        if number > 5 and reaches_end(request, descending=False)
    ]
    assert all(number > len(result.requests_sent) - 2 - concurrency for number in ends)
    assert len(result.rows) == CALLS


def test_an_end_with_more_calls_than_expected_is_read_last():
    """Given a last hour with most of the calls, when it does not fit into the early page, then what is left of it is read in order."""
    plan, server = make()
    server.fill(at(DAYS * DAY - 3600 + number % 3600) for number in range(20 * PAGE))
    result = pull(plan, server, concurrency=4, patient=False)
    assert len(result.rows) == CALLS + 20 * PAGE
    assert result.requests <= 1.35 * (LAST + 20) + 4
    assert result.peak <= 9


def test_an_end_that_fails_is_read_last():
    """Given an early end whose request keeps failing, when it is split, then all is read once."""
    plan, server = make()
    failed = []

    def serve(request: PageRequest, serve=server.serve):
        page = serve(request)
        if not failed and reaches_end(request, descending=False):
            failed.append(request)
        return page

    sent = [plan.next_request(), plan.next_request()]
    while not failed:
        plan.accept(sent[0], serve(sent.pop(0)))
        while not failed and len(sent) < 4 and plan.can_request(ahead=True):
            request = plan.next_request()
            if reaches_end(request, descending=False):
                failed.append(request)
            else:
                sent.append(request)
    plan.split(failed[0], 3)
    for request in sent:
        plan.accept(request, server.serve(request))
    rows = pull(plan, server, concurrency=4, patient=False).rows
    assert len(rows) == CALLS
    assert [row.start for row in rows] == sorted(row.start for row in rows)


@pytest.mark.finding("A2")
@pytest.mark.parametrize(
    "fault", [lambda rows: [], lambda rows: rows[: len(rows) // 2]], ids=["empty", "half"]
)
def test_an_early_end_is_always_checked(fault):
    """Given a wrong response to the early request for the end, when it is checked, then no call is missing."""
    plan, server = make()
    faults = []

    def change(_: int, rows: list) -> list:
        if not faults and len(server.served) > 2 and reaches_end(server.served[-1], descending=False):
            faults.append(len(rows))
            return fault(rows)
        return rows

    server.faults = change
    result = pull(plan, server, concurrency=4, patient=False)
    assert faults
    assert len(result.rows) == CALLS


def test_an_empty_end_does_not_change_what_is_expected_of_the_rest():
    """Given a range that ends with quiet days, when its end has come early, then the windows before it are sized as before."""
    plan, server = make()
    quiet = at((DAYS - 10) * DAY)
    server.live = [row for row in server.live if row.start < quiet]
    result = pull(plan, server, concurrency=4, patient=False)
    assert len(result.rows) == len(server.live)
    # Only a few of the last reach so far, to check the end of the calls.
    assert all(request.stop - request.start < timedelta(days=9) for request in result.requests_sent[15:-8])
    assert result.requests <= 1.4 * len(server.live) / PAGE + 4
