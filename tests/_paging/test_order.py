"""The order of delivery: by second and id, each call once, after the cursor, whatever the order of the server's pages."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import at

from iovox_async._paging import PageResult
from iovox_async._paging.order import DeliveryOrder, last_listed


@pytest.mark.finding("A1")
@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.none() | st.integers(0, 9)), max_size=30),
    fraction=st.booleans(),
    descending=st.booleans(),
    resume=st.none() | st.tuples(st.integers(0, 6), st.integers(0, 9)),
    cut=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    compared=st.booleans(),
)
def test_rows_come_by_second_and_id_each_once_and_after_the_cursor(
    rows, fraction, descending, resume, cut, compared
):
    """Given a page sorted by second, when its rows are ordered, then they are those of a sort of all keys, without doubles."""
    rows = sorted(rows, key=lambda row: row[0], reverse=descending)
    starts = [
        at(second + (0.25 if fraction and number % 2 else 0)) for number, (second, _) in enumerate(rows)
    ]
    ids = [call_id for _, call_id in rows]
    part = range(min(cut), min(max(cut), len(rows)))
    order = DeliveryOrder(descending, None if resume is None else (at(resume[0]), resume[1]))
    ties = [row for row in range(1, len(rows)) if rows[row][0] == rows[row - 1][0]]
    page = PageResult(starts, "page", lambda: ids, ties if compared else None)
    result = order.slice(page, starts, part)

    last = {rows[row]: row for row in part if rows[row][1] is not None}
    kept = [row for row in part if rows[row][1] is None or last[rows[row]] == row]
    duplicates = len(part) - len(kept)
    sign = -1 if descending else 1

    def key(row):
        second, call_id = rows[row]
        return sign * second, call_id is None, row if call_id is None else sign * call_id

    if resume is not None:
        after = (sign * resume[0], sign * resume[1])
        kept = [
            row
            for row in kept
            if rows[row][1] is None
            or rows[row][0] != resume[0]
            or (sign * rows[row][0], sign * rows[row][1]) > after
        ]
    assert list(result.rows) == sorted(kept, key=key)
    assert (result.body, result.duplicates) == ("page", duplicates)


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=12),
    fraction=st.booleans(),
    descending=st.booleans(),
    resume=st.none() | st.tuples(st.integers(0, 6), st.integers(0, 20)),
    cut=st.tuples(st.integers(0, 12), st.integers(0, 12)),
)
def test_ascending_ids_change_nothing_but_the_work(rows, fraction, descending, resume, cut):
    """Given rows whose ids ascend, when it is known that they do, then the rows are the same as if they were compared."""
    seconds = sorted((second for second, _ in rows), reverse=descending)
    starts = [at(second + (0.25 if fraction and row % 2 else 0)) for row, second in enumerate(seconds)]
    ids = list(accumulate(step for _, step in rows))
    order = DeliveryOrder(descending, None if resume is None else (at(resume[0]), resume[1]))
    part = range(min(cut), min(max(cut), len(rows)))
    with_comparison, without = (
        order.slice(PageResult(starts, "page", lambda: ids, ids_ascend=ids_ascend), starts, part)
        for ids_ascend in (False, True)
    )
    assert (list(without.rows), without.duplicates) == (
        list(with_comparison.rows),
        with_comparison.duplicates,
    )


def test_rows_in_order_are_a_range():
    """Given ties that are in order, when ordered, then the rows stay a range, which costs no memory."""
    starts = [at(1), at(1), at(2), at(2)]
    result = DeliveryOrder().slice(PageResult(starts, "page", lambda: [1, 2, 5, 9]), starts, range(4))
    assert result.rows == range(4)


def test_ids_are_read_only_where_seconds_are_equal():
    """Given rows of different seconds, when ordered, then no id is read."""
    starts = [at(1), at(2), at(3)]
    result = DeliveryOrder().slice(PageResult(starts, "page", pytest.fail), starts, range(3))
    assert result.rows == range(3)


@pytest.mark.finding("A1")
@pytest.mark.parametrize("descending", [False, True])
def test_pages_of_one_second_in_another_order_are_merged(descending):
    """Given pages of one second that a server orders by text, when merged, then ids ascend, and a page may come in several slices."""
    pages = [("first", [0, 1], [1, 10], None), ("second", [0, 1, 2], [2, 9, 10], None)]
    slices = DeliveryOrder(descending).slices_of_second(at(1), pages)
    rows = [(rows_slice.body, row) for rows_slice in slices for row in rows_slice.rows]
    expected = [("first", 0), ("second", 0), ("second", 1), ("second", 2)]
    assert rows == (expected[::-1] if descending else expected)
    assert sum(rows_slice.duplicates for rows_slice in slices) == 1


def test_of_a_call_listed_twice_the_last_row_stays():
    """Given repeated ids, when the last listed are chosen, then rows without an id stay too."""
    assert last_listed([1, None, 2, 1, None, 2]) == [1, 3, 4, 5]
