"""The number of requests that the window plan makes, for smooth and uneven data."""

from __future__ import annotations

import math
import random
from datetime import timedelta

import pytest
from support.model_server import Server, at, pull
from support.traffic import DAY, PATTERNS, daily, smooth

from iovox_async._paging import MAX_PAGE_ROWS, ServerPageLimit, WindowPlan
from iovox_async._paging.evidence import Evidence

# The number of requests.


@pytest.mark.sweep(7)
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("concurrency", [1, 4, 8, 16])
@pytest.mark.parametrize(("rows", "days", "size"), [(12_000, 90, 400), (6_000, 365, 500), (3_000, 7, 100)])
@pytest.mark.parametrize("shape", [smooth, daily])
def test_few_requests_are_needed(shape, rows: int, days: int, size: int, concurrency: int, descending: bool):
    """Given smooth or daily density, when a range is read, then at most 1.35 times the ideal requests plus the concurrency are sent."""
    rng = random.Random(rows + concurrency)
    server = Server(rng, days * DAY)
    server.fill(map(at, shape(rng, rows, days)))
    plan = WindowPlan(at(0), at(days * DAY), descending=descending, limit=size)
    result = pull(plan, server, concurrency=concurrency, patient=False)
    assert len(result.rows) == rows
    assert result.requests <= 1.35 * math.ceil(rows / size) + concurrency
    assert server.skipped == 0


@pytest.mark.sweep(3)
@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(("rows", "days", "size"), [(3_000, 30, 300), (10_000, 60, 500)])
@pytest.mark.parametrize("shape", PATTERNS)
def test_few_requests_are_needed_on_average(shape, rows: int, days: int, size: int, concurrency: int):
    """Given calls that come by the week or in bursts as well, when ranges are read, then the same holds for three of them on average."""
    requests = 0
    for seed in range(3):
        rng = random.Random(seed)
        server = Server(rng, days * DAY)
        server.fill(map(at, shape(rng, rows, days)))
        plan = WindowPlan(at(0), at(days * DAY), limit=size)
        requests += pull(plan, server, concurrency=concurrency, patient=False).requests
    assert requests / 3 <= 1.35 * math.ceil(rows / size) + concurrency


def every(step: int, begin: int = 0, end: int = 365 * DAY) -> list[int]:
    return list(range(begin, end, step))


@pytest.mark.sweep(7)
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(
    ("seconds", "size", "most"),
    [
        pytest.param([], 1000, 2, id="an empty year"),
        pytest.param([DAY], 1000, 8, id="one call in a year"),
        pytest.param([9 * DAY] * 900, MAX_PAGE_ROWS, 24, id="one burst in an otherwise empty year"),
        pytest.param([9 * DAY] * 900, 1000, 24, id="one burst that just fits a page"),
        pytest.param([9 * DAY] * 900 + [9 * DAY + 1] * 900, 1000, 26, id="two bursts side by side"),
        pytest.param([day * DAY for day in range(30)] * 100, 100, 30 * 20, id="bursts that fill a page each"),
        pytest.param([hour * 3600 for hour in range(240)] * 50, 1000, 35, id="bursts smaller than a page"),
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
    result = pull(plan, server, concurrency=concurrency, patient=False)
    assert len(result.rows) == len(seconds)
    assert result.requests <= most


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("size", [20, 250])
@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_last_second_that_nearly_fills_a_page_does_not_repeat_checks(
    missing: int, size: int, descending: bool
):
    """Given a second of one to three calls less than a page and none after it, when the end is checked, then the check proves it."""
    server = Server(random.Random(7), 90)
    seconds = [*range(30), *[30] * (size - missing)]
    server.fill(map(at, sorted(89 - second if descending else second for second in seconds)))
    plan = WindowPlan(at(0), at(90), descending=descending, limit=size)
    result = pull(plan, server, concurrency=1, patient=False)
    assert len(result.rows) == len(seconds)
    assert result.requests <= 15


@pytest.mark.parametrize("page_before", [0, 1, 500], ids=["new session", "saw one call", "saw many"])
def test_a_small_range_takes_one_or_two_requests(page_before: int):
    """Given a short first page, when the client has received longer ones before, then it is the last; else one more is requested."""
    server = Server(random.Random(1), 100)
    server.fill([at(10), at(20), at(30)])
    result = pull(WindowPlan(at(0), at(100), server_limit=ServerPageLimit(largest_page=page_before)), server)
    assert len(result.rows) == 3
    assert result.requests == (1 if page_before > 3 else 2)


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("calls", [1, 7])
def test_a_single_full_second_reuses_the_page_that_found_it(descending: bool, calls: int):
    """Given one second with calls, when it is read, then its first page is used."""
    server = Server(random.Random(1), 100)
    server.fill([at(30)] * calls)
    result = pull(WindowPlan(at(0), at(100), descending=descending), server)
    assert len(result.rows) == calls
    assert result.requests <= 7 + (calls < 3)


# The rules one by one.


def test_a_century_takes_few_windows():
    """Given a century with one full second, when it is read, then fewer than 30 requests are made."""
    plan = WindowPlan(at(0), at(0) + timedelta(days=36_500), limit=1000)
    server = Server(random.Random(0), 1)
    server.fill([at(5)] * 1000)
    result = pull(plan, server, concurrency=8)
    assert len(result.rows) == 1000
    assert result.requests < 30


def test_days_of_another_kind_do_not_make_the_others_uncertain():
    """Given quiet weekends that were not expected, when their days are known, then the next window has about one page."""
    page_rows, calls_a_day, days = 400, 300, 13
    limit = ServerPageLimit()
    limit.record(page_rows, page_rows)
    evidence = Evidence(limit, None)
    calls = [calls_a_day if day % 7 < 5 else calls_a_day // 5 for day in range(days)]
    starts = [
        at(day * DAY + number * (DAY // count)) for day, count in enumerate(calls) for number in range(count)
    ]
    for first in range(0, len(starts) - page_rows, page_rows):
        evidence.record(starts[first : first + page_rows], starts[first], starts[first + page_rows])
    window = evidence.seconds_of_window(page_rows, at(14 * DAY), at(84 * DAY))
    assert window < 1.5 * page_rows / calls_a_day * DAY
