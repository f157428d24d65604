"""A page that wrongly claims to be the last loses no call: the window plan and the page plan against a server that is wrong."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.evidence_costs import READS, BelievingPlan, count
from support.model_server import Motion, Row, Server, at, examples, pull
from support.traffic import DAY, PATTERNS, smooth

from iovox_async._paging import PagePlan, ServerPageLimit, WindowPlan
from iovox_async.errors import PagingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CALLS = 3_000


def server_of(seconds: Iterable[float], seed: int = 0, **options) -> Server:
    server = Server(random.Random(seed), 1, **options)
    server.fill(map(at, seconds))
    return server


def read(server: Server, days: int, *, limit: int = 100, concurrency: int = 1, **options) -> set[int] | None:
    """The ids delivered, or None if the read ended with a PagingError; every call is delivered at most once."""
    plan = WindowPlan(at(0), at(days * DAY), limit=limit, **options)
    try:
        rows = pull(plan, server, concurrency=concurrency, patient=False).rows
    except PagingError:
        return None
    ids = [row.id for row in rows]
    assert len(set(ids)) == len(ids)
    return set(ids)


def once(number: int, change: Callable[[list[Row]], list[Row]]) -> Callable[[int, list[Row]], list[Row]]:
    """A fault of one response."""
    return lambda request, rows: change(rows) if request == number else rows


def remember_responses(server: Server) -> None:
    """Puts a cache before a server, which returns the first response to equal requests for ever."""
    serve, responses = server.serve, {}

    def cached(request):
        key = (request.start, request.stop, request.order, request.limit, request.page)
        if key not in responses:
            responses[key] = serve(request)
        return responses[key]

    server.serve = cached  # type: ignore[method-assign]


FAULTS = {
    "empty": lambda rows: [],
    "three quarters": lambda rows: rows[: len(rows) * 3 // 4],
    "half": lambda rows: rows[: len(rows) // 2],
    "one call": lambda rows: rows[:1],
}


@pytest.mark.sweep(3)
@pytest.mark.finding("A2")
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("concurrency", [pytest.param(1, marks=pytest.mark.slow), 8])
@pytest.mark.parametrize("fault", FAULTS)
def test_one_short_response_loses_no_call(fault: str, concurrency: int, descending: bool):
    """Given one response that is empty or cut, whichever it is, when 3,000 calls are read, then all are delivered."""
    seconds = smooth(random.Random(1), CALLS, 30)
    number, total = 0, 1
    while number < total:
        number += 1
        server = server_of(seconds, faults=once(number, FAULTS[fault]))
        ids = read(server, 30, concurrency=concurrency, descending=descending)
        assert ids is not None
        # The last response of a read may hide a few calls: see exactness.md.
        assert CALLS - len(ids) <= 1, (number, len(ids))
        total = len(server.served)
    assert total >= 30


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("rows", [1, 30])
def test_one_list_of_errors_instead_of_calls_loses_no_call(rows: int, descending: bool):
    """Given one response that lists errors, whichever it is, when calls are read, then all are delivered, and no error."""
    seconds = smooth(random.Random(1), 600, 30)
    number, total = 0, 1
    while number < total:
        number += 1
        server = server_of(seconds, faults=once(number, lambda _: [Row(None, -1)] * rows))  # type: ignore[arg-type]
        assert read(server, 30, descending=descending) == {row.id for row in server.live}, number
        total = len(server.served)


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("wrong", [[], [Row(None, -1)]], ids=["empty", "errors"])  # type: ignore[arg-type]
@pytest.mark.parametrize("calls", [1, 3, 9, 300])
def test_a_server_that_contradicts_itself_for_ever_is_given_up(
    calls: int, wrong: list[Row], descending: bool
):
    """Given a server of which each second response is wrong, when its calls are read, then all are delivered, or a PagingError ends the read."""
    for first in (0, 1):
        server = server_of(
            smooth(random.Random(1), calls, 30),
            faults=lambda request, rows, first=first: wrong if request % 2 == first else rows,
        )
        ids = read(server, 30, descending=descending)
        assert ids is None or {row.id for row in server.live} <= ids
        assert len(server.served) < 120


@pytest.mark.parametrize("fault", ["empty", pytest.param("half", marks=pytest.mark.slow)])
def test_one_short_response_loses_no_recent_call(fault: str):
    """Given a read of the latest calls first, of which most are so recent that others may still arrive, when a response is empty or cut, then all are delivered."""
    seconds = smooth(random.Random(1), 600, 30)
    for number in range(1, 9):
        server = server_of(seconds, faults=once(number, FAULTS[fault]))
        ids = read(server, 30, concurrency=4, descending=True, expected_until=at(5 * DAY))
        assert ids is not None
        assert len(ids) == 600, number


@pytest.mark.sweep(4)
@pytest.mark.finding("A2")
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("fault", ["empty", "three quarters"])
def test_one_short_response_loses_no_call_in_uneven_traffic(fault: str, pattern):
    """Given one response that is empty or cut, when uneven traffic is read, then fewer calls are missing than can be told from a pause."""
    seconds = pattern(random.Random(2), CALLS, 28)
    for number in range(1, 45, 3):
        server = server_of(seconds, faults=once(number, FAULTS[fault]))
        ids = read(server, 28, concurrency=4)
        assert ids is not None
        assert CALLS - len(ids) <= 30, (number, len(ids))


@pytest.mark.sweep(32)
@pytest.mark.finding("A2")
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("limit", [4, 10, 20])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("fault", FAULTS)
def test_one_short_response_loses_no_call_of_small_pages(
    fault: str, pattern, limit: int, concurrency: int, descending: bool
):
    """Given pages of few rows, one of them empty or cut, when uneven traffic is read, then only the last response may hide a few calls."""
    calls = 60 if limit == 4 else 150
    seconds = pattern(random.Random(2), calls, 28)
    number, total = 0, 1
    while number < total:
        number += 1
        server = server_of(seconds, faults=once(number, FAULTS[fault]))
        ids = read(server, 28, limit=limit, concurrency=concurrency, descending=descending)
        total = len(server.served)
        assert ids is not None
        missing = [index for index, row in enumerate(server.live) if row.id not in ids]
        # The last of the range.
        assert missing in ([*range(calls - len(missing), calls)], [*range(len(missing))]), number
        assert len(missing) <= 5, number


@pytest.mark.finding("A2")
@pytest.mark.parametrize("concurrency", [pytest.param(1, marks=pytest.mark.slow), 8])
@pytest.mark.parametrize("sinks_after", [1, 5, 12, 28])
def test_a_page_limit_that_sinks_loses_no_call(sinks_after: int, concurrency: int):
    """Given a server that limits pages to 100 rows and then to 60, when 3,000 calls are read, then all are delivered."""

    def cap(request: int, rows: list[Row]) -> list[Row]:
        return rows[: 100 if request <= sinks_after else 60]

    server = server_of(smooth(random.Random(3), CALLS, 30), faults=cap)
    assert read(server, 30, limit=200, concurrency=concurrency) == {row.id for row in server.live}


@pytest.mark.finding("A2")
@pytest.mark.parametrize(("seed", "sinks_after"), [(39, 4), (45, 3), (101, 2), (142, 3)])
def test_the_end_of_a_short_read_is_checked_while_another_page_is_in_doubt(seed: int, sinks_after: int):
    """Given a page limit that sinks during a short read, when a page in doubt came before that of the end, then that is checked, too."""
    rng = random.Random(seed)
    seconds = [rng.uniform(0, 3_945) for _ in range(340)] + [rng.uniform(3_950, 3_999) for _ in range(12)]
    server = server_of(
        sorted(seconds[:340]) + seconds[340:],
        seed,
        faults=lambda n, rows: rows[: 60 if n <= sinks_after else 45],
    )
    rows = pull(WindowPlan(at(0), at(4_000), limit=60), server, concurrency=8, patient=False).rows
    assert {row.id for row in rows} == {row.id for row in server.live}


@pytest.mark.finding("A2")
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("busy", [90, 150])
def test_a_page_limit_that_sinks_below_the_calls_of_a_second_loses_no_call(busy: int, descending: bool):
    """Given a page limit that sinks below the calls of one second while they are read, whenever it does, then all are delivered."""
    seconds = sorted([*smooth(random.Random(3), 300, 30), *[15 * DAY] * busy])
    for sinks_after in range(1, 12):
        cap = lambda request, rows, last=sinks_after: rows[: 100 if request <= last else 60]  # noqa: E731
        server = server_of(seconds, faults=cap)
        assert read(server, 30, limit=200, descending=descending) == {row.id for row in server.live}


@pytest.mark.finding("A2")
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("concurrency", [2, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "sinks_after", [*range(1, 12, 5), *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 40, 3))]
)
def test_a_page_limit_that_sinks_to_the_calls_of_each_second_loses_no_call(
    sinks_after: int, concurrency: int, descending: bool
):
    """Given 17 calls a second and a page limit that sinks from 40 to 20, when several pages are read at a time, then all come."""
    seconds = sorted(random.Random(5).choices(range(16), k=16 * 17))
    cap = lambda request, rows: rows[: 40 if request <= sinks_after else 20]  # noqa: E731
    server = server_of(seconds, faults=cap)
    plan = WindowPlan(at(0), at(16), limit=1_000, descending=descending)
    ids = [row.id for row in pull(plan, server, concurrency=concurrency, patient=False).rows]
    assert sorted(ids) == sorted(row.id for row in server.live)


@pytest.mark.finding("A2")
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("after", [1, 2, 3_000])
def test_a_page_limit_that_is_the_number_of_calls_of_a_second_loses_no_call(after: int, descending: bool):
    """Given 20 calls in a second, and others later, when pages are limited to these 20, then the others are delivered, too."""
    seconds = [10] * 20 + [10 + after] * 3
    server = server_of([13 - s for s in seconds] if descending else seconds, faults=lambda _, rows: rows[:20])
    start, stop = (at(-5_000), at(5_000))
    plan = WindowPlan(start, stop, limit=100, descending=descending, server_limit=ServerPageLimit(40))
    rows = pull(plan, server, concurrency=1).rows
    assert sorted(row.id for row in rows) == sorted(row.id for row in server.live)


@pytest.mark.finding("A2")
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("limit", [20, 25])
def test_what_follows_a_full_second_is_complete_if_bounds_are_exclusive(limit: int, descending: bool):
    """Given about 21 calls a second and bounds that are exclusive, when the pages are as short, then all are delivered."""
    for seed in range(6):
        seconds = sorted(random.Random(seed).choices(range(8), k=8 * 21))
        server = server_of(seconds, seed, begin="exclusive", end="exclusive")
        plan = WindowPlan(at(0), at(8), limit=limit, descending=descending)
        rows = pull(plan, server, concurrency=1).rows
        assert sorted(row.id for row in rows) == sorted(row.id for row in server.live)


@pytest.mark.finding("A2")
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_full_first_second_that_is_cut_once_is_complete(fault: str, descending: bool):
    """Given a full second before the range, when any response for its first second, read from the other side, is cut, then all come."""
    bounds = ("exclusive", "inclusive") if descending else ("inclusive", "exclusive")
    seconds = [second for second in range(6) for _ in range(30)]
    for number in range(1, 7):
        server = server_of(seconds, begin=bounds[0], end=bounds[1], faults=once(number, FAULTS[fault]))
        plan = WindowPlan(at(1), at(5), limit=20, descending=descending)
        rows = pull(plan, server, concurrency=1).rows
        assert sorted(row.id for row in rows) == sorted(row.id for row in server.within(at(1), at(5))), number


@pytest.mark.finding("A2")
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("own", [0, 1, 5])
def test_a_first_page_that_is_cut_after_the_second_before_the_range_is_no_end(own: int, descending: bool):
    """Given 20 rows, nearly all of the second before the range, when a page limit of 20 cuts there, then no call is lost."""
    start, beside = (11, 10) if not descending else (10, 11)
    server = server_of([beside] * (20 - own) + [21 - beside] * 80, faults=lambda _, rows: rows[:20])
    plan = WindowPlan(
        at(start), at(start + 1), limit=100, descending=descending, server_limit=ServerPageLimit(40)
    )
    rows = pull(plan, server, patient=False).rows
    assert sum(row.start == at(start) for row in rows) == len(rows) == 80


@pytest.mark.slow
@pytest.mark.finding("A2")
@pytest.mark.parametrize("busy", [5, 17, 20, 21, 60])
@pytest.mark.parametrize("span", [2, 5, 40, DAY])
def test_any_page_limit_of_20_rows_or_more_loses_no_call(span: int, busy: int):
    """Given seconds as full as a page, when the page limit sinks while calls change, then all that stay come once, or an error does."""
    for seed in range(30):
        rng = random.Random(f"{span} {busy} {seed}")
        low = rng.choice((20, 20, 25, 40))
        high, sinks_after = low + rng.choice((0, 1, 5, 20, 400)), rng.randrange(60)
        begin, end = rng.choice(("inclusive", "exclusive")), rng.choice(("inclusive", "exclusive", "second"))
        server = server_of([], seed, begin=begin, end=end, offset=rng.choice(("limit", "cap")))
        server.span = span
        server.motion = Motion(rng.randrange(2), rng.randrange(2), near=rng.random() < 0.7, left=20)
        bursts = range(span) if span < DAY else [rng.randrange(span) for _ in range(30)]
        server.fill(at(second) for second in bursts for _ in range(rng.randint(1, 2 * busy)))
        before = set(server.live)

        def sink(server: Server = server, low: int = low, high: int = high, last: int = sinks_after) -> None:
            server.cap = high if len(server.served) < last else low

        descending, limit = rng.random() < 0.5, rng.choice((low, high, 50, 1_000))
        plan = WindowPlan(at(0), at(span), limit=limit, descending=descending)
        concurrency = rng.choice((1, 2, 8))
        try:
            rows = pull(plan, server, concurrency=concurrency, before_request=sink).rows
        except PagingError:
            continue
        assert len(set(rows)) == len(rows), seed
        assert before & set(server.live) <= set(rows), seed


@pytest.mark.finding("A2")
@pytest.mark.parametrize("concurrency", [pytest.param(1, marks=pytest.mark.slow), 8])
@pytest.mark.parametrize("fewest", [90, 50])
def test_a_page_limit_in_bytes_loses_no_call(fewest: int, concurrency: int):
    """Given pages of 90 to 100 rows, as many as fit into some bytes, when 3,000 calls are read, then all are delivered."""
    rng = random.Random(4)
    server = server_of(
        smooth(random.Random(3), CALLS, 30), faults=lambda _, rows: rows[: rng.randint(fewest, 100)]
    )
    assert read(server, 30, limit=1000, concurrency=concurrency) == {row.id for row in server.live}


@pytest.mark.finding("A2")
@pytest.mark.parametrize("concurrency", [pytest.param(1, marks=pytest.mark.slow), 8])
@pytest.mark.parametrize(("largest", "fallback"), [(300, 100), (500, 250)])
def test_a_limit_that_is_taken_as_a_smaller_one_loses_no_call(largest: int, fallback: int, concurrency: int):
    """Given a server that takes a limit above 300 as 100, when 6,000 calls are read, then all are delivered."""
    server = server_of(smooth(random.Random(5), 2 * CALLS, 30))

    def clamp(_: int, rows: list[Row]) -> list[Row]:
        limit = server.served[-1].limit
        return rows[: fallback if limit > largest else limit]

    server.faults = clamp
    assert read(server, 30, limit=2000, concurrency=concurrency) == {row.id for row in server.live}


@pytest.mark.finding("A2")
@pytest.mark.parametrize("share", [pytest.param(0.2, marks=pytest.mark.slow), 0.5])
def test_a_server_that_keeps_contradicting_itself_is_an_error(share: float):
    """Given a server whose responses are often empty, when a range is read, then a PagingError is raised, or all calls are delivered."""
    outcomes = []
    for seed in range(10):
        rng = random.Random(seed)
        last = [False]

        def empty(_: int, rows: list[Row], rng=rng, last=last) -> list[Row]:
            last[0] = not last[0] and rng.random() < share  # never twice in a row
            return [] if last[0] else rows

        server = server_of(smooth(rng, 20_000, 30), faults=empty)
        outcomes.append(read(server, 30))
        assert outcomes[-1] in (None, {row.id for row in server.live})
    assert None in outcomes


@pytest.mark.finding("A2")
def test_an_empty_range_is_requested_twice_with_another_limit():
    """Given an empty range, when it is read, then it is requested twice, and a cache cannot answer the second request with the first response."""
    server = server_of([])
    assert read(server, 30) == set()
    first, second = server.served
    assert (first.start, first.stop) == (second.start, second.stop)
    assert first.limit != second.limit


@pytest.mark.sweep(2)
@pytest.mark.finding("A9")
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
def test_a_cache_cannot_confirm_what_it_hides(descending: bool):
    """Given a cache that returns the first response to equal requests for ever, when a fault was cached, then no call is lost."""
    seconds = smooth(random.Random(6), CALLS, 30)
    for number in range(1, 30):
        server = server_of(seconds, faults=once(number, FAULTS["empty"]))
        remember_responses(server)
        ids = read(server, 30, concurrency=4, descending=descending)
        assert ids is not None
        assert CALLS - len(ids) <= 1


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("calls", [1, 2, 5])
def test_a_cached_empty_response_of_few_calls_is_not_requested_twice(calls: int, descending: bool):
    """Given a cache that keeps a wrongly empty response, when few calls are read in pages as small, then all are delivered."""
    for limit in range(1, calls + 2):
        for number in range(1, 4 * calls):
            server = server_of(range(0, 10 * calls, 10), faults=once(number, FAULTS["empty"]))
            remember_responses(server)
            ids = read(server, 1, limit=limit, descending=descending)
            assert ids == {row.id for row in server.live}, (limit, number)
            assert len(server.served) < 60


@pytest.mark.finding("A9")
@pytest.mark.parametrize("calls", [100, 101, 150, 250])
@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=() if number < 5 else pytest.mark.slow) for number in range(1, 12)]
)
def test_a_full_second_is_complete_although_one_response_is_empty(calls: int, number: int):
    """Given a second with more calls than a page, when one response is empty, then all its calls are delivered."""
    server = server_of([50] * calls, cap=100, faults=once(number, FAULTS["empty"]))
    plan = WindowPlan(at(0), at(100), limit=100)
    try:
        rows = pull(plan, server, concurrency=1, patient=False).rows
    except PagingError:
        return
    assert len(rows) == calls


@pytest.mark.finding("A2")
@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [pytest.param(1, marks=pytest.mark.slow), 8])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_evidence_costs_few_requests(pattern, concurrency: int):
    """Given a healthy server, when reads of several sizes are made, then evidence costs at most 5 % more requests than believing."""
    before, after = (
        sum(count(plan, pattern, size, concurrency, seed) for size in READS for seed in range(4))
        for plan in (BelievingPlan, WindowPlan)
    )
    assert after <= 1.05 * before


# Bounds.


@pytest.mark.sweep(5)
@pytest.mark.finding("A8")
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("fraction", [False, True], ids=["whole seconds", "milliseconds"])
@pytest.mark.parametrize("end", ["inclusive", "exclusive", "second"])
@pytest.mark.parametrize("begin", ["inclusive", "exclusive"])
def test_bounds_may_be_inclusive_or_not(begin: str, end: str, fraction: bool, descending: bool):
    """Given a server with any kind of bounds, when a dense range is read, then its calls are delivered once."""
    rng = random.Random(7)
    span = 2_000
    seconds = [
        rng.randrange(-5, span + 5) + (rng.randrange(1000) / 1000 if fraction else 0) for _ in range(CALLS)
    ]
    server = server_of(seconds, begin=begin, end=end)
    plan = WindowPlan(at(0), at(span), limit=100, descending=descending)
    rows = pull(plan, server, concurrency=4, patient=False).rows
    assert sorted(row.id for row in rows) == sorted(row.id for row in server.within(at(0), at(span)))


@pytest.mark.finding("A8")
@pytest.mark.parametrize("end", ["inclusive", "exclusive", "second"])
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
def test_starts_may_be_shown_rounded(end: str, descending: bool):
    """Given a server that shows starts rounded to the second but compares them exactly, when a range is read, then each call is delivered once."""
    rng = random.Random(8)
    span = 2_000
    server = server_of(
        (rng.randrange(1, span - 1) + rng.randrange(1000) / 1000 for _ in range(CALLS)), rounds=True, end=end
    )
    plan = WindowPlan(at(0), at(span), limit=100, descending=descending)
    rows = pull(plan, server, concurrency=4, patient=False).rows
    assert sorted(row.id for row in rows) == sorted(row.id for row in server.live)


@pytest.mark.finding("A8")
@examples(300)
@given(
    seed=st.integers(0, 2**32),
    span=st.sampled_from((1, 2, 3, 7, 30)),
    rows=st.sampled_from((0, 1, 2, 8, 25, 60)),
    limit=st.sampled_from((1, 2, 3, 5, 10, 40)),
    cap=st.sampled_from((None, 1, 3, 7)),
    begin=st.sampled_from(("inclusive", "exclusive")),
    end=st.sampled_from(("inclusive", "exclusive", "second")),
    descending=st.booleans(),
    concurrency=st.sampled_from((1, 4)),
)
def test_seconds_fuller_than_a_page_are_complete_with_any_bounds(
    seed, span, rows, limit, cap, begin, end, descending, concurrency
):
    """Given seconds fuller than a page and a server with any kind of bounds, when a range is read, then its calls are delivered once."""
    rng = random.Random(seed)
    server = server_of(
        (rng.randrange(-1, span + 1) for _ in range(rows)), seed, begin=begin, end=end, cap=cap
    )
    plan = WindowPlan(at(0), at(span), limit=limit, descending=descending)
    pulled_rows = pull(plan, server, concurrency=concurrency).rows
    assert sorted(row.id for row in pulled_rows) == sorted(row.id for row in server.within(at(0), at(span)))


# Pages that list a call twice.


def listed_twice(seed: int, share: float) -> Callable[[int, list[Row]], list[Row]]:
    """A server that cuts its pages first, and then lists a call twice in this share of them."""
    rng = random.Random(seed)
    return lambda request, rows: rows[:1] + rows if rng.random() < share else rows


@pytest.mark.finding("A1")
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
def test_a_call_that_is_listed_twice_does_not_hide_the_page_limit(descending: bool):
    """Given pages of at most 50 calls, some with a call listed twice, when calls are read, then all are delivered."""
    for seed in range(40):
        rng = random.Random(seed)
        seconds = (rng.randrange(DAY) for _ in range(150))
        server = server_of(seconds, seed, cap=50, faults=listed_twice(seed, 0.5))
        ids = read(server, 1, limit=250, descending=descending)
        assert ids == {row.id for row in server.live}, seed


@pytest.mark.finding("A1")
@pytest.mark.parametrize("calls", [19, 20, 21, 22, 39, 40, 41, 45])
def test_calls_of_a_full_second_may_be_listed_twice(calls: int):
    """Given a second with about as many calls as pages of 20, each page with a call listed twice, when it is read, then all are delivered."""
    server = server_of([5] * calls, faults=listed_twice(0, 1))
    assert read(server, 1, limit=20) == {row.id for row in server.live}


# Page numbers.


def read_pages(server: Server, span: int, *, limit: int = 100, concurrency: int = 4) -> list[int] | None:
    plan = PagePlan(at(0), at(span - 1), order="id_ASC", limit=limit, max_ahead=concurrency)
    try:
        return [row.id for row in pull(plan, server, concurrency=concurrency, patient=False).rows]
    except PagingError:
        return None


@pytest.mark.sweep(2)
@pytest.mark.finding("A2")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("concurrency", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_one_short_page_loses_no_call_by_page_numbers(fault: str, concurrency: int):
    """Given one page that is empty or cut, when 3,000 calls are read by page numbers, then all are delivered, or a PagingError is raised."""
    for number in range(1, 34):
        server = server_of(range(CALLS), faults=once(number, FAULTS[fault]))
        ids = read_pages(server, CALLS, concurrency=concurrency)
        assert ids is None or ids == sorted(row.id for row in server.live), number


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("rows", [1, 30])
def test_one_list_of_errors_loses_no_call_by_page_numbers(rows: int, concurrency: int):
    """Given one page that lists errors, when calls are read by page numbers, then all are delivered, or a PagingError is raised."""
    for number in range(1, 10):
        server = server_of(range(600), faults=once(number, lambda _: [Row(None, -1)] * rows))  # type: ignore[arg-type]
        ids = read_pages(server, 600, concurrency=concurrency)
        assert ids is not None
        assert sorted(set(ids) - {-1}) == sorted(row.id for row in server.live), number


@pytest.mark.finding("A2")
def test_a_page_limit_that_sinks_is_an_error_by_page_numbers():
    """Given a page limit that sinks, when calls are read by page numbers, then a PagingError is raised: the numbers have lost their meaning."""
    server = server_of(range(CALLS), faults=lambda request, rows: rows[: 100 if request < 9 else 60])
    assert read_pages(server, CALLS) is None


@pytest.mark.finding("S1")
@pytest.mark.parametrize("begin", ["inclusive", "exclusive"])
@pytest.mark.parametrize("end", ["inclusive", "exclusive", "second"])
@pytest.mark.parametrize("fraction", [0, 0.412])
def test_page_numbers_read_the_first_and_the_last_second(begin: str, end: str, fraction: float):
    """Given a server with any kind of bounds, when a range is read by page numbers, then its first and last second are included."""
    server = server_of([second + fraction for second in range(-3, 40)], begin=begin, end=end)
    ids = read_pages(server, 30, limit=7)
    assert ids == sorted(row.id for row in server.within(at(0), at(30)))
