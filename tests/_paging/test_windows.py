"""The window plan against a simulated server whose data changes between any two requests."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.model_server import Motion, Pull, Row, Server, at, examples, pull

from iovox_async._paging import MAX_PAGE_ROWS, SECOND, PageRequest, PageResult, ServerPageLimit, WindowPlan
from iovox_async.errors import PagingError

DAY = 86_400


@dataclass(frozen=True)
class Case:
    """A server, a plan, and the order of events."""

    seed: int
    span: int
    rows: int
    layout: str
    fraction: bool
    cut: bool
    end: str
    cap: int | None
    cap_moves: bool
    offset: str
    motion: tuple[int, int, bool, bool]
    limit: int
    first: int
    resize: bool
    descending: bool
    ordered: bool
    concurrency: int
    failing: float
    patient: bool
    known: bool

    def server(self) -> Server:
        rng = random.Random(self.seed)
        server = Server(
            rng,
            self.span,
            end=self.end,  # type: ignore[arg-type]
            cap=self.cap,
            cap_moves=self.cap_moves,
            offset=self.offset,  # type: ignore[arg-type]
            cut=self.cut,
            motion=Motion(*self.motion),
            most=self.most,
        )
        server.fill(
            at(self._second(rng) + (rng.randrange(1000) / 1000 if self.fraction else 0))
            for _ in range(self.rows)
        )
        return server

    def _second(self, rng: random.Random) -> int:
        # Some lie just outside the range and must not be delivered.
        match self.layout:
            case "even":
                return rng.randrange(-2, self.span + 3)
            case "bunched":
                return int(rng.triangular(-1, self.span + 1, self.span * 0.6))
            case "bursts":
                return rng.choice((0, self.span // 3, self.span // 2, self.span - 1, self.span))
            case _:
                return self.span // 2

    @property
    def most(self) -> int:
        """The largest page that an earlier plan of the session received."""
        return (self.cap or 1) if self.known else 0

    def plan(self) -> WindowPlan:
        return WindowPlan(
            at(0),
            at(self.span),
            descending=self.descending,
            ordered=self.ordered,
            limit=self.limit,
            first_page_rows=self.first,
            server_limit=ServerPageLimit(largest_page=self.most),
        )

    def run(self) -> tuple[Server, Pull, set[Row]]:
        """Returns the server, the read, and the calls that existed during the whole read."""
        server, plan = self.server(), self.plan()

        def resize() -> None:
            if self.resize:
                plan.limit = server.rng.choice((1, 2, 5, 13, self.limit))

        before = server.within(at(0), at(self.span))
        found = pull(
            plan,
            server,
            concurrency=self.concurrency,
            failing=self.failing,
            patient=self.patient,
            before_request=resize,
        )
        return server, found, before & server.within(at(0), at(self.span))


still = st.just((0, 0, False, True))
growing = st.tuples(st.integers(1, 2), st.just(0), st.booleans(), st.just(True))
moving = st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans(), st.booleans())


def cases(motion: st.SearchStrategy[tuple[int, int, bool, bool]]) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        seed=st.integers(0, 2**32),
        span=st.sampled_from((1, 2, 3, 7, 30, 200, 5000)),
        rows=st.sampled_from((0, 1, 2, 3, 8, 25, 60)),
        layout=st.sampled_from(("even", "bunched", "bursts", "one second")),
        fraction=st.booleans(),
        cut=st.booleans(),
        end=st.sampled_from(("inclusive", "exclusive", "second")),
        cap=st.sampled_from((None, None, 1, 2, 3, 7, 20)),
        cap_moves=st.booleans(),
        offset=st.sampled_from(("limit", "cap")),
        motion=motion,
        limit=st.sampled_from((1, 2, 3, 5, 10, 40, MAX_PAGE_ROWS)),
        first=st.sampled_from((1, 2, 5, 250)),
        resize=st.booleans(),
        descending=st.booleans(),
        ordered=st.booleans(),
        concurrency=st.sampled_from((1, 2, 3, 8, 16)),
        failing=st.sampled_from((0.0, 0.0, 0.2)),
        patient=st.booleans(),
        known=st.booleans(),
    )


def check(case: Case, server: Server, found: Pull, stable: set[Row]) -> None:
    """Checks that a read delivered each stable call exactly once."""
    rows = found.rows
    twice = [number for number, times in Counter(row.id for row in rows).items() if times > 1]
    assert not twice, f"delivered twice: {twice}"
    assert stable <= set(rows), f"lost: {stable - set(rows)}"
    assert set(rows) <= server.ever
    assert all(at(0) <= row.start < at(case.span) for row in rows)
    if case.ordered:
        seconds = [row.second for row in rows]
        assert seconds == sorted(seconds, reverse=case.descending)


# Exactly once.


@pytest.mark.fault(32, 33, 36, 40)
@examples(1500)
@given(case=cases(moving))
def test_stable_calls_are_delivered_exactly_once_while_others_change(case: Case):
    """Given inserts, deletes, reordered ties, page limits and failures, when a range is read, then each stable call is delivered once."""
    try:
        server, found, stable = case.run()
    except PagingError:
        # Allowed only where a second changes faster than it can be read.
        assert case.motion[0] or case.motion[1]
        return
    check(case, server, found, stable)


@examples(600)
@given(case=cases(still))
def test_a_range_that_does_not_change_is_read_completely(case: Case):
    """Given data that does not change, when a range is read, then exactly its calls are delivered, however full a second is."""
    server, found, stable = case.run()
    check(case, server, found, stable)
    assert set(found.rows) == stable


@examples(500)
@given(case=cases(growing))
def test_a_second_that_only_grows_is_read_completely(case: Case):
    """Given calls that are inserted with growing ids, when a full second is read, then no error is raised."""
    server, found, stable = case.run()
    check(case, server, found, stable)


@examples(300)
@given(case=cases(moving))
def test_pages_in_flight_or_buffered_are_bounded(case: Case):
    """Given any server, when a range is read, then at most `2 * concurrency + 1` pages are in flight or buffered."""
    try:
        _, found, _ = case.run()
    except PagingError:
        return
    if not any(request.order == "id_ASC" for request in found.requests_sent):
        assert found.peak <= 2 * case.concurrency + 1


@examples(300)
@given(case=cases(still))
def test_page_numbers_are_used_only_for_a_second_that_fills_a_page(case: Case):
    """Given any server, when a page other than 1 is requested, then one second alone fills the largest page received."""
    server, found, _ = case.run()
    assert case.run()[0].served == server.served, "a run is not decided by its seed"
    counts = Counter(row.second for row in server.live)
    for request in found.requests_sent:
        assert request.page == 1 or counts[request.start] >= min(
            request.limit, max(1, request.largest_page)
        ), request
        assert request.page == 1 or request.stop - request.start == SECOND


@examples(300)
@given(case=cases(still), one=st.integers(1, 16), other=st.integers(1, 16))
def test_concurrency_and_page_size_do_not_change_the_calls(case: Case, one: int, other: int):
    """Given the same data, when it is read with other page sizes and concurrency, or as two ranges, then the calls are the same."""
    whole = Case(**{**vars(case), "concurrency": one}).run()[1]
    again = Case(**{**vars(case), "concurrency": other, "limit": other, "resize": False}).run()[1]
    assert {row.id for row in whole.rows} == {row.id for row in again.rows}
    server, middle = case.server(), case.span // 2
    halves = [
        pull(WindowPlan(start, stop, limit=case.limit), server, concurrency=one)
        for start, stop in ((at(0), at(middle)), (at(middle), at(case.span)))
    ]
    assert {row.id for half in halves for row in half.rows} == {row.id for row in whole.rows}


@examples(400)
@given(case=cases(moving))
@example(
    Case(
        seed=1, span=2, rows=60, layout="one second", fraction=False, cut=False, end="inclusive", cap=2,
        cap_moves=False, offset="limit", motion=(1, 2, True, False), limit=2, first=2, resize=False, descending=False,
        ordered=True, concurrency=1, failing=0.0, patient=False, known=False,
    )
)  # fmt: skip
def test_the_number_of_requests_is_bounded_while_data_changes(case: Case):
    """Given data that changes, when a range is read, then the requests are bounded by its seconds and calls."""
    try:
        server, found, _ = case.run()
    except PagingError:
        return
    seconds = len({row.second for row in server.ever})
    passes = 40 * seconds * math.ceil(len(server.ever) / max(1, min(case.limit, server.most or 1)))
    assert found.requests <= 2 * case.concurrency * (seconds + 2) + passes + 4 * found.failures


# The number of requests.


def smooth(rng: random.Random, rows: int, days: int) -> list[int]:
    return [rng.randrange(days * DAY) for _ in range(rows)]


def daily(rng: random.Random, rows: int, days: int) -> list[int]:
    """Opening hours with a little traffic at night: a thousand times as dense by day."""
    hours = (
        rng.random() * 24 if rng.random() < 0.02 else min(23.9, max(0, rng.gauss(13, 2.2)))
        for _ in range(rows)
    )
    return [rng.randrange(days) * DAY + int(hour * 3600) for hour in hours]


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("concurrency", [1, 4, 8, 16])
@pytest.mark.parametrize(("rows", "days", "size"), [(12_000, 90, 400), (6_000, 365, 500), (3_000, 7, 100)])
@pytest.mark.parametrize("shape", [smooth, daily])
def test_few_requests_are_needed(shape, rows: int, days: int, size: int, concurrency: int, descending: bool):
    """Given smooth or daily density, when a range is read, then at most 1.6 times the ideal requests plus the concurrency are sent."""
    rng = random.Random(rows + concurrency)
    server = Server(rng, days * DAY)
    server.fill(map(at, shape(rng, rows, days)))
    plan = WindowPlan(at(0), at(days * DAY), descending=descending, limit=size)
    found = pull(plan, server, concurrency=concurrency, patient=False)
    assert len(found.rows) == rows
    assert found.requests <= 1.6 * math.ceil(rows / size) + concurrency
    assert server.skipped == 0


def every(step: int, begin: int = 0, end: int = 365 * DAY) -> list[int]:
    return list(range(begin, end, step))


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(
    ("seconds", "size", "most"),
    [
        pytest.param([], 1000, 1, id="an empty year"),
        pytest.param([DAY], 1000, 8, id="one call in a year"),
        pytest.param([9 * DAY] * 900, MAX_PAGE_ROWS, 24, id="one burst in an otherwise empty year"),
        pytest.param([9 * DAY] * 900, 1000, 24, id="one burst that just fits a page"),
        pytest.param([9 * DAY] * 900 + [9 * DAY + 1] * 900, 1000, 26, id="two bursts side by side"),
        pytest.param([day * DAY for day in range(30)] * 100, 100, 30 * 20, id="bursts that fill a page each"),
        pytest.param([hour * 3600 for hour in range(240)] * 50, 1000, 30, id="bursts smaller than a page"),
        pytest.param(every(2500), 1000, 25, id="a call at the last second of each window"),
        pytest.param(every(2499), 1000, 25, id="a call at the last but one second of each window"),
        pytest.param([*range(10_000), *every(1000, 10_000, 40 * DAY)], 1000, 65, id="dense, then 1000 times sparser"),
        pytest.param([*every(1000, 0, 40 * DAY), *range(41 * DAY, 41 * DAY + 9000)], 1000, 45, id="sparse, then dense"),
        pytest.param(
            [day * DAY + second for day in range(20) for second in (range(3000) if day % 2 else (0, 40_000))],
            1000, 110, id="dense and sparse days in turn",
        ),
    ],
)  # fmt: skip
def test_bursts_and_gaps_do_not_multiply_requests(
    seconds: list[int], size: int, most: int, concurrency: int, descending: bool
):
    """Given bursts and jumps in density by a factor of 1000, when a year is read, then requests grow with the calls and not with time."""
    server = Server(random.Random(7), 365 * DAY)
    server.fill(map(at, sorted(seconds)))
    plan = WindowPlan(at(0), at(365 * DAY), descending=descending, limit=size)
    found = pull(plan, server, concurrency=concurrency, patient=False)
    assert len(found.rows) == len(seconds)
    assert found.requests <= most


@pytest.mark.parametrize("known", [0, 1, 500], ids=["new session", "saw one call", "saw many"])
def test_a_small_range_takes_one_or_two_requests(known: int):
    """Given a short first page, when the client has received longer ones before, then it is the last; else one more is requested."""
    server = Server(random.Random(1), 100)
    server.fill([at(10), at(20), at(30)])
    found = pull(WindowPlan(at(0), at(100), server_limit=ServerPageLimit(largest_page=known)), server)
    assert len(found.rows) == 3
    assert found.requests == (1 if known > 3 else 2)


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("calls", [1, 7])
def test_a_single_full_second_reuses_the_page_that_found_it(descending: bool, calls: int):
    """Given one second with calls, when it is read, then its first page is used; descending takes two requests more."""
    server = Server(random.Random(1), 100)
    server.fill([at(30)] * calls)
    found = pull(WindowPlan(at(0), at(100), descending=descending), server)
    assert len(found.rows) == calls
    assert found.requests == (6 if descending else 4)


# The rules one by one.


def test_the_server_limit_is_the_largest_page_received():
    """Given pages of several lengths, when they are recorded, then the largest counts, and one shorter than its limit may be capped."""
    server_limit = ServerPageLimit()
    assert server_limit.full_page(100) == 100
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
    assert plan.next_request() == PageRequest(at(0), at(1000), "call_start_ASC", 250)
    assert not plan.can_request(ahead=True)


def test_a_truncated_page_keeps_only_complete_seconds():
    """Given a page that may be truncated, when it is accepted, then its last second is requested again."""
    plan = WindowPlan(at(0), at(1000), first_page_rows=4)
    plan.accept(plan.next_request(), answer(3, 5, 9, 9))
    rows_slice = plan.next_rows()
    assert list(rows_slice.rows) == [0, 1]
    assert plan.next_request().start == at(9)


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
    found = pull(WindowPlan(at(0), at(100), descending=True, limit=10), server)
    assert len(found.rows) == 4
    assert found.requests <= 6


def test_the_rest_of_a_window_is_requested_before_later_windows():
    """Given windows in flight, when the first is truncated, then its rest is requested next."""
    plan = WindowPlan(at(0), at(1000), first_page_rows=4, limit=4)
    plan.accept(plan.next_request(), answer(0, 10, 20, 30))
    first, second = plan.next_request(), plan.next_request()
    assert second.start == first.stop
    plan.accept(first, answer(30, 31, 32, 33))
    third = plan.next_request()
    assert at(33) == third.start < third.stop <= first.stop


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
    assert plan.next_request().start == at(600)


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
    plan.accept(plan.next_request(), answer())
    assert plan.seconds_left == 0


def test_windows_are_sized_by_the_latest_density():
    """Given a page, when the next windows are made, then each has the seconds of two and a half pages."""
    plan = WindowPlan(at(0), at(100_000), first_page_rows=11, limit=20)
    plan.accept(plan.next_request(), answer(*range(500, 511)))
    request = plan.next_request()
    assert (request.start, request.limit) == (at(510), 20)
    # 11 rows in 10 seconds: 50 rows take 45.
    assert request.stop - request.start == timedelta(seconds=45)
    later = plan.next_request()
    assert (later.start, later.stop - later.start) == (request.stop, timedelta(seconds=45))


def test_after_an_empty_page_the_next_window_is_the_rest():
    """Given an empty page, when the next window is made, then it is the whole rest."""
    plan = WindowPlan(at(0), at(100_000), first_page_rows=11, limit=20)
    plan.accept(plan.next_request(), answer(*range(500, 511)))
    plan.accept(plan.next_request(), answer(510))
    plan.accept(plan.next_request(), answer())
    assert plan.next_request().stop == at(100_000)


def test_a_quiet_time_does_not_make_the_next_window_too_long():
    """Given a quiet window, when the next one is made, then it assumes at least three tenths of the average density."""
    plan = WindowPlan(at(0), at(100_000), first_page_rows=11, limit=20)
    plan.accept(plan.next_request(), answer(*range(11)))
    quiet = plan.next_request()
    assert (quiet.start, quiet.stop) == (at(10), at(55))
    plan.accept(quiet, answer(10))
    # 12 rows in 55 seconds; as if no sparser than three tenths of it, 50 rows take 763 seconds, and not 2250.
    following = plan.next_request()
    assert following.start == at(55)
    assert following.stop - following.start == timedelta(seconds=int(50 / (0.3 * 12 / 55)))


def test_a_small_rest_is_included_in_the_last_window():
    """Given a rest a fifth of a window long, when the window is made, then it includes the rest."""
    for span, stop in ((561, 561), (580, 555)):
        plan = WindowPlan(at(0), at(span), first_page_rows=11, limit=20)
        plan.accept(plan.next_request(), answer(*range(500, 511)))
        assert plan.next_request().stop == at(stop)


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
    assert (half.start, half.stop, half.limit, half.attempts) == (at(0), at(500), 50, 3)
    plan.split(half, 4)
    quarter = plan.next_request()
    assert (quarter.start, quarter.stop, quarter.limit, quarter.attempts) == (at(0), at(250), 25, 4)
    assert plan.splits_left(quarter) == 0
    plan.accept(quarter, answer())
    other = plan.next_request()
    assert (other.attempts, other.limit) == (0, 25), "the smaller size is remembered"
    assert plan.splits_left(other) == 2, "a success allows new splits"


def test_a_descending_window_is_split_in_order_of_delivery():
    """Given a descending window, when it is split, then its later half is requested first."""
    plan = WindowPlan(at(0), at(1000), descending=True)
    plan.split(plan.next_request(), 1)
    assert (plan.next_request().start, plan.next_request().stop) == (at(500), at(500))


def test_a_window_of_one_second_is_split_by_rows_only():
    """Given a window of one second, when it is split, then only its limit is halved, down to one row."""
    plan = WindowPlan(at(0), at(1), limit=2)
    plan.split(plan.next_request(), 1)
    request = plan.next_request()
    assert (request.start, request.stop, request.limit) == (at(0), at(1), 1)
    assert plan.splits_left(request) == 0


# Servers that do not do what was requested.


@pytest.mark.parametrize(
    ("seconds", "descending", "says"),
    [
        pytest.param((-1, 5), False, "filters by something other", id="a row before the window"),
        pytest.param(
            (5, 101), False, "filters by something other", id="a row behind the second after the window"
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
    assert list(plan.next_rows().rows) == [0, 1, 2, 3, 4]
    assert plan.done


def test_a_truncated_page_without_a_readable_start_is_an_error():
    """Given a page without a readable start, when it may be truncated, then a PagingError is raised; when it is the last, it is delivered."""
    plan = WindowPlan(at(0), at(100), first_page_rows=2)
    with pytest.raises(PagingError, match=r'call_start.*paging="pages"'):
        plan.accept(plan.next_request(), starts(None, None))
    plan = WindowPlan(at(0), at(100), server_limit=ServerPageLimit(largest_page=3))
    plan.accept(plan.next_request(), starts(None, None))
    assert list(plan.next_rows().rows) == [0, 1]


def test_a_window_of_one_second_needs_no_readable_start():
    """Given a page without a readable start, when its window is one second, then it is delivered; with two, a PagingError is raised."""
    plan = WindowPlan(at(0), at(2))
    with pytest.raises(PagingError, match="call_start"):
        plan.accept(plan.next_request(), starts(None))
    plan = WindowPlan(at(0), at(1))
    for reply in (starts(None), starts(), starts(None)):
        plan.accept(plan.next_request(), reply)
    assert list(plan.next_rows().rows) == [0]
    assert plan.done


def test_a_call_listed_twice_in_a_page_does_not_affect_others():
    """Given a call listed twice, when its page is accepted, then both rows are delivered (the reader drops one)."""
    plan = WindowPlan(at(0), at(100), first_page_rows=4)
    plan.accept(plan.next_request(), answer(3, 3, 8, 8))
    assert list(plan.next_rows().rows) == [0, 1]
    assert plan.next_request().start == at(8)


# Any sequence of events.


class Live(RuleBasedStateMachine):
    """A plan, a server and a reader, driven step by step in any order."""

    @initialize(
        seconds=st.lists(st.integers(0, 20), max_size=25),
        limit=st.integers(1, 8),
        cap=st.none() | st.integers(1, 8),
        end=st.sampled_from(("inclusive", "exclusive", "second")),
        descending=st.booleans(),
        ordered=st.booleans(),
    )
    def begin(self, seconds, limit, cap, end, descending, ordered):
        self.server = Server(random.Random(0), 20, end=end, cap=cap)
        self.server.fill(map(at, seconds))
        self.server_limit = ServerPageLimit()
        self.plan = WindowPlan(
            at(0),
            at(20),
            descending=descending,
            ordered=ordered,
            limit=limit,
            first_page_rows=3,
            server_limit=self.server_limit,
        )
        self.descending, self.ordered = descending, ordered
        self.stable = self.server.within(at(0), at(20))
        self.sent: list[PageRequest] = []
        self.answered: list[tuple[PageRequest, PageResult]] = []
        self.found: list[Row] = []

    @rule(second=st.integers(0, 20))
    def a_call_is_inserted(self, second):
        self.server.fill([at(second)])

    @precondition(lambda self: self.server.live)
    @rule(data=st.data())
    def a_call_is_deleted(self, data):
        row = data.draw(st.sampled_from(self.server.live))
        self.server._remove(row)
        self.stable.discard(row)

    @rule(extra=st.integers(0, 3))
    def the_cap_changes(self, extra):
        self.server.cap = max(1, self.server.most + extra)

    @rule(limit=st.integers(1, 8))
    def the_page_size_changes(self, limit):
        self.plan.limit = limit

    @precondition(lambda self: self.plan.can_request(ahead=True) and len(self.sent) < 4)
    @rule()
    def a_request_leaves(self):
        request = self.plan.next_request()
        assert at(0) <= request.start < request.stop <= at(20)
        assert 1 <= request.limit <= MAX_PAGE_ROWS
        self.sent.append(request)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def the_server_answers(self, data):
        request = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
        self.answered.append((request, self.server.serve(request)))

    @precondition(lambda self: self.answered)
    @rule(data=st.data())
    def an_answer_arrives(self, data):
        self._deliver(data.draw(st.integers(0, len(self.answered) - 1)))

    def _deliver(self, place: int) -> None:
        self.plan.accept(*self.answered.pop(place))

    @precondition(lambda self: self.answered)
    @rule(data=st.data())
    def a_request_fails_for_good(self, data):
        place = data.draw(st.integers(0, len(self.answered) - 1))
        request = self.answered[place][0]
        if self.plan.splits_left(request):
            self.plan.split(request, request.attempts + 1)
            del self.answered[place]

    @rule()
    def the_reader_takes_rows(self):
        rows_slice = self.plan.next_rows()
        if rows_slice is not None:
            rows = [rows_slice.body[row] for row in rows_slice.rows]
            assert rows
            assert all(at(0) <= row.start < at(20) for row in rows)
            self.found += rows

    @invariant()
    def nothing_overlaps(self):
        if hasattr(self, "plan"):
            assert len({row.id for row in self.found}) == len(self.found)
            assert self.plan.in_flight == len(self.sent) + len(self.answered)
            windows = self.plan._windows[:: -1 if self.descending else 1]
            assert all(one.stop <= other.start for one, other in pairwise(windows))
            if self.ordered:
                seconds = [row.second for row in self.found]
                assert seconds == sorted(seconds, reverse=self.descending)

    def teardown(self):
        """Reads to the end while nothing changes any more."""
        if not hasattr(self, "plan"):
            return
        for _ in range(2000):
            if self.plan.done:
                break
            if self.answered:
                self._deliver(0)
            elif self.sent:
                self.answered.append((self.sent[0], self.server.serve(self.sent.pop(0))))
            elif self.plan.can_request(ahead=True):
                self.sent.append(self.plan.next_request())
            while (rows_slice := self.plan.next_rows()) is not None:
                self.found += [rows_slice.body[row] for row in rows_slice.rows]
        assert self.plan.done
        self.nothing_overlaps()
        assert self.stable <= set(self.found)


TestLive = Live.TestCase
TestLive.settings = examples(150)


def test_a_century_takes_few_windows():
    """Given a century with one full second, when it is read, then fewer than 30 requests are made."""
    plan = WindowPlan(at(0), at(0) + timedelta(days=36_500), limit=1000)
    server = Server(random.Random(0), 1)
    server.fill([at(5)] * 1000)
    found = pull(plan, server, concurrency=8)
    assert len(found.rows) == 1000
    assert found.requests < 30
