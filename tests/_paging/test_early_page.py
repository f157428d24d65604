"""The full page that is requested along with the first, small one."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from support.model_server import Pull, Server, at, pull
from support.traffic import DAY, daily

from iovox_async._paging import PageResult, WindowPlan


def make(calls: list[int], *, descending: bool = False, limit: int = 100) -> tuple[WindowPlan, Server]:
    server = Server(random.Random(1), 10 * DAY)
    server.fill(map(at, calls))
    plan = WindowPlan(
        at(0), at(10 * DAY), descending=descending, limit=limit, first_page_rows=10, early_page=True
    )
    return plan, server


def read(plan: WindowPlan, server: Server) -> Pull:
    """Reads the rest of a plan."""
    return pull(plan, server, concurrency=8, patient=False)


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("full_page_first", [False, True])
def test_a_full_page_is_requested_along_with_the_first(descending: bool, full_page_first: bool):
    """Given many calls, when a read begins, then two requests start at its first second, and no row of either is lost or repeated."""
    plan, server = make(list(range(0, 10 * DAY, 1000)), descending=descending)
    small, full = plan.next_request(), plan.next_request()
    assert (small.limit, full.limit) == (10, 100)
    assert (small.start, small.stop, small.order) == (full.start, full.stop, full.order)
    assert not plan.can_request(ahead=True)
    assert plan.in_flight == 2
    for request in (full, small) if full_page_first else (small, full):
        plan.accept(request, server.serve(request))
    slices = [plan.next_rows(), plan.next_rows()]
    # The last row of a truncated page is left to the next: more calls may have its second.
    assert [len(rows.rows) for rows in slices if rows] == [9, 90]
    delivered = [rows.body[row].start for rows in slices if rows for row in rows.rows]
    assert len(set(delivered)) == 99
    assert all((later < earlier) == descending for earlier, later in pairwise(delivered))
    assert plan.in_flight == 0
    result = read(plan, server)
    assert len(result.rows) == len(server.live) - 99


def test_the_ids_of_a_full_page_are_read_when_it_comes():
    """Given a full page that comes before the small one, when it is used later, then its ids are known although the page has forgotten them."""
    plan, server = make([second for second in range(0, 10 * DAY, 2000) for _ in range(3)])
    small, full = plan.next_request(), plan.next_request()
    page = server.serve(full)
    ids = page.ids()
    plan.accept(full, PageResult(page.starts, page.body, lambda: ids))
    expected = set(ids)
    ids = []
    plan.accept(small, server.serve(small))
    delivered = [rows.body[row].id for rows in iter(plan.next_rows, None) for row in rows.rows]
    assert len(set(delivered)) == len(delivered) >= 90
    assert expected >= set(delivered)


@pytest.mark.parametrize("full_page_first", [False, True])
def test_a_full_page_of_a_few_calls_is_of_no_use(full_page_first: bool):
    """Given fewer calls than the small page may have, when both pages have come, then the small one counts, and is checked."""
    plan, server = make([5, 50_000, 500_000])
    small, full = plan.next_request(), plan.next_request()
    for request in (full, small) if full_page_first else (small, full):
        plan.accept(request, server.serve(request))
    assert (plan.in_flight, plan.buffered) == (0, 1)
    result = read(plan, server)
    assert (len(result.rows), result.requests) == (3, 1)


def test_a_full_page_that_fails_is_replaced_by_another_check():
    """Given a small page that claims the end, when the full page fails, then a smaller request checks the claim."""
    plan, server = make([5, 6])
    plan.server_limit.record(1000, 1000)
    small, full = plan.next_request(), plan.next_request()
    plan.accept(small, server.serve(small))
    assert not plan.exhausted
    assert not plan.can_request(ahead=True)
    plan.split(full, 1)
    result = read(plan, server)
    assert (len(result.rows), plan.done) == (2, True)


def test_no_full_page_is_requested_later():
    """Given a first page that has come, when the rest is requested, then no second request has the same start."""
    plan, server = make(list(range(0, 10 * DAY, 1000)))
    small = plan.next_request()
    plan.accept(small, server.serve(small))
    starts = [plan.next_request().start for _ in range(4)]
    assert len(set(starts)) == 4


def test_no_full_page_is_requested_that_is_hardly_larger():
    """Given a limit near the rows of the first page, when a read begins, then one request is made."""
    plan, _ = make([5, 6], limit=15)
    plan.next_request()
    assert not plan.can_request(ahead=True)


@pytest.mark.parametrize("failing", ["small", "full"])
@pytest.mark.parametrize("other_first", [False, True])
def test_each_of_the_two_may_fail(failing: str, other_first: bool):
    """Given one of the two that keeps failing, when it is split, then a smaller one follows, and everything is delivered once."""
    plan, server = make(list(range(0, 10 * DAY, 1000)))
    requests = {"small": plan.next_request(), "full": plan.next_request()}
    failed = requests.pop(failing)
    (other,) = requests.values()
    if other_first:
        plan.accept(other, server.serve(other))
    if failed.limit == 100 and other_first:
        assert plan.splits_left(failed) > 0
    plan.split(failed, 3)
    if not other_first:
        plan.accept(other, server.serve(other))
    result = read(plan, server)
    assert len({row.id for row in result.rows}) == len(result.rows) == len(server.live)
    assert result.requests_sent[0].limit <= failed.limit // 2


def test_windows_are_sized_by_the_full_page():
    """Given daily traffic, when the full page has shown some days of it, then hardly more requests are made than there are pages."""
    rng = random.Random(1)
    calls = sorted(daily(rng, 6_000, 60))
    server = Server(rng, 60 * DAY)
    server.fill(map(at, calls))
    plan = WindowPlan(at(0), at(60 * DAY), limit=300, early_page=True)
    result = pull(plan, server, concurrency=8, patient=False)
    assert len(result.rows) == 6_000
    assert result.requests <= 1.35 * 6_000 / 300


def test_a_full_page_that_is_of_no_use_may_still_come_when_all_was_delivered():
    """Given a short range whose rows were all delivered, when a part of the full page arrives, then the plan knows its request."""
    plan, server = make([0, 5 * DAY, 10 * DAY - 1])
    small, full = plan.next_request(), plan.next_request()
    plan.accept(small, server.serve(small))
    while plan.can_request(ahead=True):
        request = plan.next_request()
        plan.accept(request, server.serve(request))
    rows = [plan.next_rows() for _ in range(3)]
    assert sum(len(one.rows) for one in rows if one) == 3
    assert plan.next_rows() is None
    assert plan.is_next(full)


@pytest.mark.parametrize("full_page_first", [False, True])
@pytest.mark.parametrize("calls", [[], [5, 50_000, 500_000]], ids=["no calls", "few calls"])
def test_a_full_page_checks_what_the_small_one_claims(calls: list[int], full_page_first: bool):
    """Given a small page that claims to be all, when the full page agrees, then no other request checks it."""
    plan, server = make(calls)
    plan.server_limit.largest_page = 100
    small, full = plan.next_request(), plan.next_request()
    for request in (full, small) if full_page_first else (small, full):
        plan.accept(request, server.serve(request))
    assert plan.exhausted
    assert sum(len(rows.rows) for rows in iter(plan.next_rows, None)) == len(calls)
    assert plan.done
