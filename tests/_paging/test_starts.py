"""Starts that become datetimes only when they are asked for behave like a list of datetimes."""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovox_async._paging.starts import AscendingStarts, first_from
from iovox_async._paging.types import PageRequest, check_rows, fill_missing_starts
from iovox_async.errors import PagingError

np = pytest.importorskip("numpy")

TIMES = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1))


def ascending(times: list[datetime]) -> AscendingStarts:
    return AscendingStarts(np.array(times, "M8[us]").view("i8"))


@given(st.lists(TIMES, min_size=1, max_size=8), TIMES, st.integers(0, 8), st.slices(8))
def test_they_are_those_of_a_list(times: list[datetime], time: datetime, low: int, part: slice) -> None:
    times.sort()
    starts = ascending(times)
    assert [*starts] == times
    assert [starts[row] for row in range(-len(times), len(times))] == times * 2
    assert [*starts[part]] == times[part]
    low = min(low, len(times))
    for wanted in (time, *times):
        assert (
            first_from(starts, wanted, low)
            == first_from(times, wanted, low)
            == bisect_left(times, wanted, low)
        )


@pytest.mark.parametrize(("order", "is_refused"), [("call_start_ASC", False), ("call_start_DESC", True)])
def test_only_a_page_in_ascending_order_may_have_them(order: str, is_refused: bool) -> None:
    first = datetime(2024, 1, 1)
    times = [first + timedelta(hours=hour) for hour in range(3)]
    request = PageRequest(first, first + timedelta(days=1), order, limit=10)
    starts = fill_missing_starts(ascending(times), request)
    assert [*starts] == times
    if is_refused:
        with pytest.raises(PagingError, match="in the order call_start_DESC"):
            check_rows(starts, request)
    else:
        check_rows(starts, request)


def test_rows_outside_of_the_request_are_an_error() -> None:
    first = datetime(2024, 1, 1)
    starts = ascending([first - timedelta(seconds=2), first])
    with pytest.raises(PagingError, match="outside"):
        check_rows(starts, PageRequest(first, first + timedelta(days=1), "call_start_ASC", limit=10))
