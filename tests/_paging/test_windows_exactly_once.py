"""The window plan delivers each stable call exactly once, against a simulated server whose data changes between requests."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.model_server import Motion, Pull, Row, Server, at, examples, pull

from iovox_async._paging import MAX_PAGE_ROWS, SECOND, PageRequest, PageResult, ServerPageLimit, WindowPlan
from iovox_async.errors import PagingError


def request_tail(plan: WindowPlan, share: float) -> None:
    """Lets a plan request this share of what is left early, whatever traffic it has measured."""
    plan._evidence.seconds_of_tail = lambda _, start, stop: int(share * abs(stop - start) / SECOND)  # type: ignore[method-assign]


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
    early: bool
    tail: float

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
        plan = WindowPlan(
            at(0),
            at(self.span),
            descending=self.descending,
            ordered=self.ordered,
            limit=self.limit,
            first_page_rows=self.first,
            server_limit=ServerPageLimit(largest_page=self.most),
            early_page=self.early,
        )
        if self.tail:
            request_tail(plan, self.tail)
        return plan

    def run(self) -> tuple[Server, Pull, set[Row]]:
        """Returns the server, the read, and the calls that existed during the whole read."""
        server, plan = self.server(), self.plan()

        def resize() -> None:
            if self.resize:
                plan.limit = server.rng.choice((1, 2, 5, 13, self.limit))

        before = server.within(at(0), at(self.span))
        result = pull(
            plan,
            server,
            concurrency=self.concurrency,
            failing=self.failing,
            patient=self.patient,
            before_request=resize,
        )
        return server, result, before & server.within(at(0), at(self.span))


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
        early=st.booleans(),
        tail=st.sampled_from((0.0, 0.1, 0.5, 0.95)),
    )


def check(case: Case, server: Server, result: Pull, stable: set[Row]) -> None:
    """Checks that a read delivered each stable call exactly once."""
    rows = result.rows
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
        server, result, stable = case.run()
    except PagingError:
        # Allowed only where a second changes faster than it can be read.
        assert case.motion[0] or case.motion[1]
        return
    check(case, server, result, stable)


@examples(600)
@given(case=cases(still))
def test_a_range_that_does_not_change_is_read_completely(case: Case):
    """Given data that does not change, when a range is read, then exactly its calls are delivered, however full a second is."""
    server, result, stable = case.run()
    check(case, server, result, stable)
    assert set(result.rows) == stable


@examples(500)
@given(case=cases(growing))
def test_a_second_that_only_grows_is_read_completely(case: Case):
    """Given calls that are inserted with growing ids, when a full second is read, then no error is raised."""
    server, result, stable = case.run()
    check(case, server, result, stable)


@examples(300)
@given(case=cases(moving))
def test_pages_in_flight_or_buffered_are_bounded(case: Case):
    """Given any server, when a range is read, then at most `2 * concurrency + 1` pages are in flight or buffered."""
    try:
        _, result, _ = case.run()
    except PagingError:
        return
    if not any(request.order == "id_ASC" for request in result.requests_sent):
        assert result.peak <= 2 * case.concurrency + 1


@examples(300)
@given(case=cases(still))
def test_page_numbers_are_used_only_for_a_second_that_fills_a_page(case: Case):
    """Given any server, when a page other than 1 is requested, then a second and its neighbours fill the largest page received."""
    server, result, _ = case.run()
    assert case.run()[0].served == server.served, "a run is not decided by its seed"
    counts = Counter(row.second for row in server.live)
    for request in result.requests_sent:
        if request.page > 1:
            assert request.stop - request.start in {2 * SECOND, 3 * SECOND}
            rows = sum(counts[request.start + index * SECOND] for index in range(3))
            assert rows >= min(request.limit, max(1, request.largest_page)), request


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
        ordered=True, concurrency=1, failing=0.0, patient=False, known=False, early=False,
        tail=0.0,
    )
)  # fmt: skip
def test_the_number_of_requests_is_bounded_while_data_changes(case: Case):
    """Given data that changes, when a range is read, then the requests are bounded by its seconds and calls."""
    try:
        server, result, _ = case.run()
    except PagingError:
        return
    seconds = len({row.second for row in server.ever})
    passes = 40 * seconds * math.ceil(len(server.ever) / max(1, min(case.limit, server.most or 1)))
    assert result.requests <= 2 * case.concurrency * (seconds + 2) + passes + 4 * result.failures


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
        early=st.booleans(),
        tail=st.booleans(),
    )
    def begin(self, seconds, limit, cap, end, descending, ordered, early, tail):
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
            early_page=early,
        )
        if tail:
            request_tail(self.plan, 0.3)
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
        # The request that confirms page 1 of a full second reaches one second further than the others.
        assert at(-1) <= request.start < request.stop <= at(21)
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
            windows = self.plan._queue.windows[:: -1 if self.descending else 1]
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
