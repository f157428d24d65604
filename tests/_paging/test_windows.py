"""The window plan, request by request: windows, truncated pages, density, splitting and errors."""

from __future__ import annotations

import random
from datetime import datetime
from itertools import pairwise

import pytest
from support.model_server import Row, Server, at, pull
from support.traffic import DAY

from iovox_async._paging import MAX_PAGE_ROWS, PageRequest, PageResult, ServerPageLimit, WindowPlan
from iovox_async.errors import PagingError


def test_the_server_limit_is_the_largest_page_received():
    """Given pages of several lengths, when they are recorded, then the largest counts, and two of equal length below their limit show a cap."""
    server_limit = ServerPageLimit()
    assert server_limit.full_page(100) == 100
    server_limit.record(50, 100)
    assert server_limit.full_page(100) == 100, "it may have been the last page"
    server_limit.record(50, 100)
    assert (server_limit.largest_page, server_limit.full_page(100), server_limit.full_page(20)) == (
        50,
        50,
        20,
    )
    server_limit.record(10, 100)
    assert (server_limit.largest_page, server_limit.full_page(100)) == (50, 50)
    server_limit.record(50, 50)
    assert server_limit.full_page(100) == 100, "a full answer is no sign of a cap"
    server_limit.record(60, 60)
    assert (server_limit.largest_page, server_limit.full_page(100)) == (60, 100)


def test_a_page_is_the_last_if_empty_or_shorter_than_limit_and_largest_page():
    """Given a request, when its page is empty or shorter than its limit and the largest page before, then it is the last."""
    request = PageRequest(at(0), at(9), "call_start_ASC", 100, largest_page=50)
    assert [request.is_last_page(rows) for rows in (0, 1, 49, 50, 99, 100)] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert PageRequest(at(0), at(9), "call_start_ASC", 30, largest_page=50).is_last_page(29)
    assert not PageRequest(at(0), at(9), "call_start_ASC", 30, largest_page=50).is_last_page(30)
    assert not PageRequest(at(0), at(9), "call_start_ASC", 20, largest_page=50).is_last_page(20)
    assert not PageRequest(at(0), at(9), "call_start_ASC", 100).is_last_page(1), "nothing is known yet"
    assert PageRequest(at(0), at(9), "call_start_ASC", 100).is_last_page(0)
    assert request.window == (at(0), at(9))


def rows_at(*seconds: float) -> list[Row]:
    return [Row(at(second), number) for number, second in enumerate(seconds)]


def answer(*seconds: float) -> PageResult:
    rows = rows_at(*seconds)
    return PageResult([row.start for row in rows], rows, lambda: [row.id for row in rows])


def test_the_first_request_covers_the_range_with_a_small_limit():
    """Given a new plan, when the first request is made, then it covers the range with a small limit, and nothing else may start."""
    plan = WindowPlan(at(0), at(1000))
    assert plan.next_request() == PageRequest(at(-1), at(1000), "call_start_ASC", 250)
    assert not plan.can_request(ahead=True)


def test_a_truncated_page_keeps_only_complete_seconds():
    """Given a page that may be truncated, when it is accepted, then its last second is requested again."""
    plan = WindowPlan(at(0), at(1000), first_page_rows=4)
    plan.accept(plan.next_request(), answer(3, 5, 9, 9))
    rows_slice = plan.next_rows()
    assert list(rows_slice.rows) == [0, 1]
    assert plan.next_request().start == at(8)


def test_a_truncated_descending_page_keeps_only_complete_seconds():
    """Given a descending page that may be truncated, when it is accepted, then its last second is requested again."""
    plan = WindowPlan(at(0), at(1000), descending=True, first_page_rows=4)
    plan.accept(plan.next_request(), answer(900, 800, 700, 700))
    rows_slice = plan.next_rows()
    assert list(rows_slice.rows) == [0, 1]
    assert plan.next_request().stop == at(701)


def test_rows_of_the_second_after_the_window_prove_it_complete():
    """Given rows of the second after the window, when they are accepted, then the window is complete and they are dropped."""
    plan = WindowPlan(at(0), at(10), first_page_rows=3)
    plan.accept(plan.next_request(), answer(2, 10, 10))
    assert [list(rows_slice.rows) for rows_slice in iter(plan.next_rows, None)] == [[0]]
    assert plan.done


def test_a_full_second_after_a_descending_window_does_not_block_it():
    """Given a page of nothing but the second after the window, when reading descending, then the window's last second is read alone."""
    server = Server(random.Random(3), 100)
    server.fill([at(100)] * 50 + [at(99)] * 3 + [at(5)])
    result = pull(WindowPlan(at(0), at(100), descending=True, limit=10), server)
    assert len(result.rows) == 4
    assert result.requests <= 6


def test_the_rest_of_a_window_is_requested_before_later_windows():
    """Given windows in flight, when the first is truncated, then its rest is requested next."""
    plan = WindowPlan(at(0), at(1000), first_page_rows=4, limit=4)
    plan.accept(plan.next_request(), answer(0, 10, 20, 30))
    first, second = plan.next_request(), plan.next_request()
    # One second more on each side, and some time after it, to see that a call follows.
    assert second.start < first.stop
    plan.accept(first, answer(30, 31, 32, 33))
    third = plan.next_request()
    assert at(32) == third.start < third.stop <= first.stop


def test_a_later_page_is_buffered_unless_unordered():
    """Given a later page, when the first is missing, then it is buffered if ordered, and delivered if not."""
    for ordered in (True, False):
        plan = WindowPlan(at(0), at(1000), first_page_rows=4, limit=4, ordered=ordered)
        plan.accept(plan.next_request(), answer(0, 10, 20, 30))
        assert plan.next_rows() is not None
        plan.next_request()
        later = plan.next_request()
        plan.accept(later, answer(*((later.start - at(0)).total_seconds() + extra for extra in (0, 1, 2, 3))))
        assert plan.buffered == 1
        assert (plan.next_rows() is None) is ordered


def test_only_the_next_page_may_start_when_the_buffer_is_full():
    """Given a full buffer, when a request may start, then it is only the one for the rows to deliver next."""
    plan = WindowPlan(at(0), at(1000), first_page_rows=4, limit=4)
    plan.accept(plan.next_request(), answer(0, 10, 20, 30))
    assert plan.can_request(ahead=True)
    assert not plan.can_request(ahead=False), "the reader has an answer to read"
    plan.next_rows()
    assert plan.can_request(ahead=False)
    plan.next_request()
    assert plan.can_request(ahead=True)
    assert not plan.can_request(ahead=False)


def test_a_page_is_not_judged_by_pages_received_after_its_request():
    """Given a larger page received in between, when an earlier request is answered, then its page does not count as the last."""
    server_limit = ServerPageLimit()
    plan = WindowPlan(at(0), at(1000), first_page_rows=2, limit=100, server_limit=server_limit)
    plan.accept(plan.next_request(), answer(0, 500))
    request = plan.next_request()
    server_limit.record(50, 100)  # another stream's answer, given after the server had lifted its cap
    plan.accept(request, answer(500, 600))
    assert not plan.done
    assert plan.next_request().start == at(599)


def test_an_empty_range_makes_no_request():
    """Given a range of no seconds, when a plan is made, then it is done and makes no request."""
    plan = WindowPlan(at(5), at(5))
    assert plan.done
    assert plan.exhausted
    assert not plan.can_request(ahead=True)
    assert plan.next_rows() is None
    assert plan.seconds_left == 0


def test_seconds_left_falls_as_rows_are_delivered():
    """Given a range, when rows are delivered, then `seconds_left` falls from its length to 0."""
    plan = WindowPlan(at(0), at(1000), first_page_rows=4)
    assert plan.seconds_left == 1000
    plan.accept(plan.next_request(), answer(3, 5, 9, 9))
    assert plan.seconds_left == 1000
    plan.next_rows()
    assert plan.seconds_left == 991
    plan.accept(plan.next_request(), answer(9, 9))
    plan.accept(plan.next_request(), answer(9, 9))
    plan.next_rows()
    assert plan.seconds_left == 0


def seconds(moment: datetime) -> float:
    return (moment - at(0)).total_seconds()


def test_windows_are_sized_by_the_traffic():
    """Given one page, when the next windows are made, then each has the seconds of three pages, and reaches to the end of the range."""
    plan = WindowPlan(at(0), at(100_000), first_page_rows=11, limit=20)
    plan.accept(plan.next_request(), answer(*range(500, 511)))
    request, following = plan.next_request(), plan.next_request()
    assert (request.start, request.limit) == (at(509), 20)
    # About a call a second, from the first call on; the empty time before it does not count.
    assert 54 <= seconds(following.start) + 1 - 510 <= 60
    assert request.stop == following.stop == at(100_000)


def test_windows_are_sized_by_the_hours_of_the_day():
    """Given calls from 8 to 18 o'clock, when a window reaches over nights, then it ends where its page is nearly full."""
    calls = [day * DAY + 8 * 3600 + number * 600 for day in range(40) for number in range(60)]
    plan = WindowPlan(at(0), at(40 * DAY), first_page_rows=200, limit=200)
    plan.accept(plan.next_request(), answer(*calls[:200]))
    plan.next_request()
    end = seconds(plan.next_request().start) + 1
    assert 160 <= sum(calls[199] <= call < end for call in calls) <= 190


def test_the_rest_of_a_window_is_requested_with_what_follows():
    """Given a full page in a window of three pages, when the rest is requested, then with as much of what follows as makes three pages again."""
    plan = WindowPlan(at(0), at(100_000), first_page_rows=11, limit=20)
    plan.accept(plan.next_request(), answer(*range(500, 511)))
    request = plan.next_request()
    plan.accept(request, answer(*range(509, 529)))
    rest, following = plan.next_request(), plan.next_request()
    assert rest.start == at(527)
    assert 54 <= seconds(following.start) + 1 - 528 <= 60


def test_after_an_empty_page_the_next_window_is_the_rest():
    """Given an empty page, when the next window is made, then it is the whole rest."""
    plan = WindowPlan(at(0), at(100_000), first_page_rows=11, limit=20)
    plan.accept(plan.next_request(), answer(*range(500, 511)))
    request = plan.next_request()
    plan.accept(request, answer(510, seconds(request.stop)))
    request = plan.next_request()
    plan.accept(request, answer(seconds(request.stop)))
    assert plan.next_request().stop == at(100_000)


def test_a_rest_is_divided_into_equal_windows():
    """Given a rest of up to three pages, then it is one window; of more, then windows of equal length."""
    for span, windows in ((525, 1), (560, 1), (575, 2), (640, 3)):
        plan = WindowPlan(at(0), at(span), first_page_rows=11, limit=20)
        plan.accept(plan.next_request(), answer(*range(500, 511)))
        starts = []
        while plan.can_request(ahead=True):
            starts.append(seconds(plan.next_request().start) + 1)
        assert len(starts) == windows
        lengths = [stop - start for start, stop in pairwise([*starts, span])]
        assert max(lengths) - min(lengths) <= 2


def test_by_default_pages_are_large_and_ordered():
    """Given a plan without options, when it is read, then pages have the largest limit and are delivered in order."""
    plan = WindowPlan(at(0), at(1000), server_limit=ServerPageLimit(largest_page=MAX_PAGE_ROWS))
    plan.accept(plan.next_request(), answer(*range(250)))
    first, second = plan.next_request(), plan.next_request() if plan.can_request(ahead=True) else None
    assert first.limit == MAX_PAGE_ROWS
    assert second is None
    plan = WindowPlan(at(0), at(100_000), first_page_rows=11, limit=20)
    plan.accept(plan.next_request(), answer(*range(11)))
    plan.next_rows()
    first, second = plan.next_request(), plan.next_request()
    plan.accept(second, answer())
    plan.accept(plan.next_request(), answer(*range(60_000, 60_020)))
    assert plan.next_rows() is None, "the reader waits for the first window"


# Splitting.


def test_a_failing_window_is_split_twice():
    """Given a window that keeps failing, when it is split twice without a success, then it is not split again; attempts are carried over."""
    plan = WindowPlan(at(0), at(1000), limit=100)
    request = plan.next_request()
    assert plan.splits_left(request) == 2
    plan.split(request, 3)
    half = plan.next_request()
    assert (half.start, half.stop, half.limit, half.attempts) == (at(-1), at(500), 50, 3)
    plan.split(half, 4)
    quarter = plan.next_request()
    assert (quarter.start, quarter.stop, quarter.limit, quarter.attempts) == (at(-1), at(250), 25, 4)
    assert plan.splits_left(quarter) == 0
    plan.accept(quarter, answer(250))
    other = plan.next_request()
    assert (other.attempts, other.limit) == (0, 25), "the smaller size is remembered"
    assert plan.splits_left(other) == 2, "a success allows new splits"


def test_a_descending_window_is_split_in_order_of_delivery():
    """Given a descending window, when it is split, then its later half is requested first."""
    plan = WindowPlan(at(0), at(1000), descending=True)
    plan.split(plan.next_request(), 1)
    assert (plan.next_request().start, plan.next_request().stop) == (at(499), at(500))


def test_a_window_of_one_second_is_split_by_rows_only():
    """Given a window of one second, when it is split, then only its limit is halved, down to one row."""
    plan = WindowPlan(at(0), at(1), limit=2)
    plan.split(plan.next_request(), 1)
    request = plan.next_request()
    assert (request.start, request.stop, request.limit) == (at(-1), at(1), 1)
    assert plan.splits_left(request) == 0


# Servers that do not do what was requested.


@pytest.mark.parametrize(
    ("seconds", "descending", "says"),
    [
        pytest.param((-3, 5), False, "filters by something other", id="a row before the window"),
        pytest.param(
            (5, 102), False, "filters by something other", id="a row behind the second after the window"
        ),
        pytest.param((9, 5), False, "order call_start_ASC", id="descending instead of ascending"),
        pytest.param((5, 9), True, "order call_start_DESC", id="ascending instead of descending"),
        pytest.param((5.2, 5.1), False, "order call_start_ASC", id="out of order within a second"),
    ],
)
def test_rows_outside_the_window_or_out_of_order_are_an_error(seconds, descending: bool, says: str):
    """Given rows outside the window or out of order, when they are accepted, then the PagingError names paging="pages"."""
    plan = WindowPlan(at(0), at(100), descending=descending)
    with pytest.raises(PagingError, match=says) as caught:
        plan.accept(plan.next_request(), answer(*seconds))
    assert 'paging="pages"' in str(caught.value)


@pytest.mark.fault(30)
@pytest.mark.parametrize("ignored", ["order", "filter"])
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
def test_a_server_that_ignores_order_or_dates_is_an_error(ignored: str, descending: bool):
    """Given a server that does not filter or order, when a range is read, then a PagingError is raised."""
    server = Server(random.Random(2), 1000, ignores=frozenset({ignored}))
    server.fill(at(second) for second in range(-500, 1500, 7))
    with pytest.raises(PagingError):
        pull(WindowPlan(at(0), at(1000), descending=descending, limit=50), server)


@pytest.mark.parametrize("rows", [1, 10, 25], ids=["one call", "a page", "more than a page"])
def test_a_server_that_ignores_the_page_number_is_an_error(rows: int):
    """Given a server that ignores page numbers, when a full second is read, then a PagingError is raised after a bounded number of requests."""
    server = Server(random.Random(2), 1000, cap=10, ignores=frozenset({"page"}))
    server.fill([at(500)] * rows)
    with pytest.raises(PagingError, match="ignores the page number"):
        pull(WindowPlan(at(0), at(1000), limit=10), server, most=60)


def starts(*seconds: float | None) -> PageResult:
    return PageResult(
        [None if second is None else at(second) for second in seconds],
        None,
        lambda: list(range(len(seconds))),
    )


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
def test_rows_with_an_unreadable_start_are_delivered_with_their_neighbours(descending: bool):
    """Given rows whose start cannot be read, when their page is accepted, then they are delivered, so that decoding reports them."""
    plan = WindowPlan(at(0), at(100), descending=descending, server_limit=ServerPageLimit(largest_page=50))
    seconds = (None, 5, None, 9, None)
    plan.accept(plan.next_request(), starts(*(seconds[::-1] if descending else seconds)))
    # By id within a second; a row takes the second of the row before it, and the first row that of the window's edge.
    assert list(plan.next_rows().rows) == ([0, 2, 1, 4, 3] if descending else [0, 1, 2, 3, 4])
    assert plan.done


def test_a_truncated_page_without_a_readable_start_is_an_error():
    """Given two pages without a readable start, when they may be truncated, then a PagingError is raised; if not, they are delivered."""
    plan = WindowPlan(at(0), at(100), first_page_rows=2)
    plan.accept(plan.next_request(), starts(None, None))
    with pytest.raises(PagingError, match=r'call_start.*paging="pages"'):
        plan.accept(plan.next_request(), starts(None, None))
    plan = WindowPlan(at(0), at(100), server_limit=ServerPageLimit(largest_page=3))
    plan.accept(plan.next_request(), starts(None, None))
    assert plan.next_rows() is None
    plan.accept(plan.next_request(), starts(None, None))
    assert list(plan.next_rows().rows) == [0, 1]


def test_a_window_of_one_second_needs_no_readable_start():
    """Given a page without a readable start, when its window is one second, then it is delivered; with two, a PagingError is raised."""
    plan = WindowPlan(at(0), at(2))
    plan.accept(plan.next_request(), starts(None))
    with pytest.raises(PagingError, match="call_start"):
        plan.accept(plan.next_request(), starts(None))
    plan = WindowPlan(at(0), at(1))
    for reply in (starts(None), starts(), starts(None), starts(None), starts()):
        plan.accept(plan.next_request(), reply)
    assert list(plan.next_rows().rows) == [0]
    assert plan.done


def test_a_list_of_errors_does_not_confirm_a_page_without_readable_starts():
    """Given a page without a readable start, when it is requested again and a shorter list of errors comes, then none of it is dropped."""
    plan = WindowPlan(at(0), at(100))
    plan.accept(plan.next_request(), starts(None, None, None))
    plan.accept(plan.next_request(), starts(None))
    with pytest.raises(PagingError, match="call_start"):
        plan.accept(plan.next_request(), starts(None, None, None))


def test_a_call_listed_twice_in_a_page_does_not_affect_others():
    """Given a call listed twice, when its page is accepted, then both rows are delivered (the reader drops one)."""
    plan = WindowPlan(at(0), at(100), first_page_rows=4)
    plan.accept(plan.next_request(), answer(3, 3, 8, 8))
    assert list(plan.next_rows().rows) == [0, 1]
    assert plan.next_request().start == at(7)
