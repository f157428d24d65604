"""How many rows a request may ask for after failures."""

from __future__ import annotations

import random

import pytest
from support.model_server import Server, at, pull

from iovox_async._paging import MAX_PAGE_ROWS, WindowPlan
from iovox_async._paging.row_limit import MAX_PAGES, MIN_PAGES, RowLimit

PAGE = 1_000


def fill(limit: RowLimit, pages: int, page_rows: int = PAGE) -> None:
    """Records full pages."""
    for _ in range(pages):
        rows = min(page_rows, limit.rows)
        limit.record_page(rows, rows, page_rows)


def test_a_failed_page_halves_the_limit_once():
    """Given requests that were in flight together, when all fail, then the limit is halved once."""
    limit = RowLimit()
    assert [limit.record_failure(PAGE, PAGE) for _ in range(3)] == [True, True, True]
    assert (limit.rows, limit.is_reduced) == (PAGE // 2, True)


def test_a_failed_small_request_leaves_the_limit():
    """Given a small first page, or a check, when it fails, then later pages are as large as before."""
    limit = RowLimit()
    assert not limit.record_failure(PAGE // 4, PAGE)
    assert (limit.rows, limit.is_reduced) == (MAX_PAGE_ROWS, True)


def test_the_limit_is_doubled_after_full_pages():
    """Given a reduced limit, when full pages come, then it is doubled until it is that of the stream."""
    limit = RowLimit()
    limit.record_failure(PAGE, PAGE)
    limit.record_failure(PAGE // 2, PAGE)
    fill(limit, MIN_PAGES - 1)
    assert limit.rows == PAGE // 4
    fill(limit, 1)
    assert limit.rows == PAGE // 2
    fill(limit, MIN_PAGES)
    assert (limit.rows, limit.is_reduced) == (MAX_PAGE_ROWS, False)


@pytest.mark.parametrize(("rows", "limit_of_page"), [(0, PAGE), (PAGE // 4, PAGE // 2), (100, 100)])
def test_pages_that_show_nothing_do_not_count(rows: int, limit_of_page: int):
    """Given a reduced limit, when pages come that are not full, or were requested small, then it stays."""
    limit = RowLimit()
    limit.record_failure(PAGE, PAGE)
    for _ in range(2 * MAX_PAGES):
        limit.record_page(rows, limit_of_page, PAGE)
    assert limit.rows == PAGE // 2


def test_trials_that_fail_become_rare():
    """Given a server that fails at every page above a size, when many pages are read, then the size is tried seldom."""
    limit, failures = RowLimit(), 0
    for _ in range(2_000):
        if min(limit.rows, PAGE) > PAGE // 2:
            limit.record_failure(PAGE, PAGE)
            failures += 1
        else:
            fill(limit, 1)
    assert failures <= 8
    assert limit.rows == PAGE // 2


def test_a_trial_that_succeeds_makes_the_next_one_early_again():
    """Given a size that failed twice and then came, when it fails once more, then it is tried again as early as the first time."""
    limit = RowLimit()
    limit.record_failure(PAGE, PAGE)
    fill(limit, MIN_PAGES)
    limit.record_failure(PAGE, PAGE)
    fill(limit, 2 * MIN_PAGES)
    fill(limit, 1)
    limit.record_failure(PAGE, PAGE)
    fill(limit, MIN_PAGES)
    assert limit.rows == MAX_PAGE_ROWS


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("failing_requests", [1, 3])
def test_an_early_failure_does_not_slow_the_rest_of_a_read(concurrency: int, failing_requests: int):
    """Given a read whose first requests fail, when it goes on, then it takes hardly more requests than without failures."""

    def requests(failures: int) -> int:
        server = Server(random.Random(1), 1)
        server.fill([at(number * 10) for number in range(20_000)])
        plan = WindowPlan(at(0), at(200_000), limit=100, first_page_rows=10)
        for _ in range(failures):
            plan.split(plan.next_request(), 1)
            if plan.can_request(ahead=False):
                request = plan.next_request()
                plan.accept(request, server.serve(request))
        return pull(plan, server, concurrency=concurrency).requests

    assert requests(failing_requests) <= 1.2 * requests(0) + 2 * MIN_PAGES
