"""The page plan: exact while the data stands still, bounded in what it wastes, and shown losing rows when it moves."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import Motion, Row, Server, at, examples, pull

from iovox_async._paging import MAX_PAGE_ROWS, PagePlan, PageRequest, PageResult, ServerPageLimit, WindowPlan
from iovox_async.errors import PagingError


def plan_of(limit: int, ahead: int, *, span: int = 1000, order: str = "id_ASC", most: int = 0) -> PagePlan:
    return PagePlan(
        at(0),
        at(span - 1),
        order=order,
        limit=limit,
        max_ahead=ahead,
        server_limit=ServerPageLimit(largest_page=most),
    )


@examples(800)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(0, 120),
    limit=st.sampled_from((1, 2, 3, 7, 20, 50, MAX_PAGE_ROWS)),
    cap=st.none() | st.integers(1, 60),
    offset=st.sampled_from(("limit", "cap")),
    concurrency=st.integers(1, 16),
    patient=st.booleans(),
    known=st.booleans(),
)
def test_every_record_comes_once_and_in_order(seed, rows, limit, cap, offset, concurrency, patient, known):
    """For any number of records, page size, cap, reading of page numbers, concurrency and order of arrival."""
    server = Server(random.Random(seed), 1000, cap=cap, offset=offset)
    server.fill(at(server.rng.randrange(1000)) for _ in range(rows))
    most = min(cap or MAX_PAGE_ROWS, 10) if known else 0
    plan = plan_of(limit, concurrency, most=most)
    found = pull(plan, server, concurrency=concurrency, patient=patient)
    assert [row.id for row in found.rows] == [1000 + number for number in range(rows)]
    assert plan.duplicates == 0
    assert plan.done
    assert plan.seconds_left == 0

    # What is needed: the pages that hold something, one more where the last of them does not prove the end.
    size = min(limit, cap or limit)
    needed = max(1, math.ceil(rows / size))
    unproven = rows > 0 and (rows % size == 0 or (rows < size and rows >= most))
    assert found.requests <= needed + unproven + concurrency - 1
    assert found.peak <= 2 * concurrency + 1


@pytest.mark.parametrize("concurrency", [1, 2, 8])
@pytest.mark.parametrize(
    ("rows", "requests"), [(0, 1), (1, 2), (9, 2), (10, 2), (11, 2), (19, 2), (20, 3), (95, 10), (100, 11)]
)
def test_requests_are_counted_precisely(rows: int, requests: int, concurrency: int):
    """What is needed and the proof of the end, and at most `concurrency - 1` beyond."""
    server = Server(random.Random(1), 1000)
    server.fill(map(at, range(rows)))
    found = pull(plan_of(10, concurrency), server, concurrency=concurrency, patient=False)
    assert len(found.rows) == rows
    assert requests <= found.requests <= requests + concurrency - 1
    if concurrency == 1:
        assert found.requests == requests


def test_the_first_page_goes_alone_and_sets_the_size():
    """A short first page may be a cap; from there on the limit is what it held."""
    plan = plan_of(100, 8)
    request = plan.next_request()
    assert request == PageRequest(at(0), at(999), "id_ASC", 100, page=1)
    assert not plan.can_request(ahead=True)
    plan.accept(request, page(*range(40)))
    assert plan.limit == 40
    second = plan.next_request()
    assert (second.page, second.limit) == (2, 40)
    assert not plan.can_request(ahead=True), "whether there is a second page is not known yet"
    plan.accept(second, page(*range(40, 80)))
    assert [plan.next_request().page for _ in range(3)] == [3, 4, 5]


def page(*ids: int | None) -> PageResult:
    rows = [Row(at(0), number) for number in ids]  # type: ignore[arg-type]
    return PageResult([at(0)] * len(ids), rows, lambda: list(ids))


def test_pages_beyond_the_end_are_forgotten():
    """Answers that come later than the proof of the end change nothing."""
    plan = plan_of(2, 4)
    plan.accept(plan.next_request(), page(1, 2))
    requests_sent = [plan.next_request() for _ in range(4)]
    assert plan.in_flight == 4
    plan.accept(requests_sent[2], page())
    plan.accept(requests_sent[1], page(5))
    plan.accept(requests_sent[0], page(3, 4))
    assert plan.exhausted
    assert not plan.can_request(ahead=True)
    plan.accept(requests_sent[3], page(9, 9))
    rows = []
    while (rows_slice := plan.next_rows()) is not None:
        rows += [rows_slice.body[row].id for row in rows_slice.rows]
    assert rows == [1, 2, 3, 4, 5]
    assert plan.done
    assert plan.buffered == plan.in_flight == 0


def test_without_room_only_the_page_that_the_reader_waits_for_may_be_asked():
    """So later pages can never starve it."""
    plan = plan_of(1, 2)
    assert plan.can_request(ahead=False)
    plan.accept(plan.next_request(), page(1))
    assert not plan.can_request(ahead=False), "the reader has a page to read"
    assert plan.can_request(ahead=True)
    assert plan.next_rows() is not None
    assert plan.can_request(ahead=False)
    plan.next_request()
    assert not plan.can_request(ahead=False)
    assert plan.can_request(ahead=True)
    plan.next_request()
    assert not plan.can_request(ahead=True), "two ahead are enough"


@pytest.mark.fault(29)
@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("rows", [3, 5, 50])
def test_a_server_that_ignores_page_is_found_out(rows: int, concurrency: int):
    """An identical page twice is an error that names the way out, not an endless loop."""
    server = Server(random.Random(1), 1000, cap=5, ignores=frozenset({"page"}))
    server.fill(map(at, range(rows)))
    with pytest.raises(PagingError, match=r"pages 1 and \d are the same.*paging=\"windows\""):
        pull(plan_of(5, concurrency), server, concurrency=concurrency, most=30)


@pytest.mark.fault(38)
def test_pages_without_ids_are_not_taken_for_one_another():
    """Where no ids were asked for, rows cannot be told apart, and all are handed out."""
    plan = plan_of(2, 1)
    for _ in range(3):
        plan.accept(plan.next_request(), page(None, None))
        assert len(plan.next_rows().rows) == 2
    plan.accept(plan.next_request(), page())
    assert plan.next_rows().rows == []
    assert plan.done
    assert plan.duplicates == 0


def test_ids_that_come_twice_are_dropped_and_counted():
    """A call that an insert pushed onto the next page is handed out once."""
    plan = plan_of(3, 2)
    plan.accept(plan.next_request(), page(1, 2, 3))
    plan.accept(plan.next_request(), page(3, 4, 4))
    plan.accept(plan.next_request(), page(5))
    rows = []
    while (rows_slice := plan.next_rows()) is not None:
        rows += [rows_slice.body[row].id for row in rows_slice.rows]
    assert rows == [1, 2, 3, 4, 5]
    assert plan.duplicates == 2


def test_a_page_is_never_halved():
    """A smaller page would be another place in the list."""
    plan = plan_of(3, 2)
    request = plan.next_request()
    assert plan.splits_left(request) == 0
    assert not plan.split(request, 5)


def test_progress_is_all_or_nothing():
    """How many pages there are is not known until the last."""
    plan = plan_of(3, 2, span=60)
    assert plan.seconds_left == 60
    plan.accept(plan.next_request(), page())
    assert plan.seconds_left == 60
    plan.next_rows()
    assert plan.seconds_left == 0


# What moving data does to page numbers, and not to windows.

PULLS, ROWS, SIZE, WORKERS, SPAN = 100, 3_000, 200, 8, 200_000


def moving_server(seed: int) -> Server:
    """A call arrives before every second request, somewhere in the range, and as many vanish."""
    server = Server(random.Random(seed), SPAN, motion=Motion(inserts=1, deletes=1, left=10_000))
    server.fill(at(server.rng.randrange(SPAN)) for _ in range(ROWS))
    return server


@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
def test_page_numbers_lose_calls_while_the_list_moves_and_windows_lose_none(order: str):
    """Of 100 pulls of a live list by page numbers nearly all lose calls that were there all the time; by windows none.

    This is the figure that the README and `paging=` quote.
    """
    lossy = {"pages": 0, "windows": 0}
    lost = {"pages": 0, "windows": 0}
    for seed in range(PULLS):
        plans = {
            "pages": PagePlan(at(0), at(SPAN - 1), order=order, limit=SIZE, max_ahead=WORKERS),
            "windows": WindowPlan(at(0), at(SPAN), descending=order.endswith("DESC"), limit=SIZE),
        }
        for name, plan in plans.items():
            server = moving_server(seed)
            before = server.within(at(0), at(SPAN))
            found = pull(plan, server, concurrency=WORKERS)
            missing = (before & server.within(at(0), at(SPAN))) - set(found.rows)
            lossy[name] += bool(missing)
            lost[name] += len(missing)
            assert len({row.id for row in found.rows}) == len(found.rows)
    assert lossy["windows"] == lost["windows"] == 0
    assert lossy["pages"] >= 90, lossy
    assert lost["pages"] >= 3 * PULLS, lost
