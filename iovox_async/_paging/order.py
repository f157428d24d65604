"""Puts the rows of a page in the order of delivery: the one rule for ties, duplicates and resuming, for every reader.

The rule works on the sort keys of rows, before any record is decoded:

1. Rows are ordered by the second of their start, and within a second by id. A row whose id cannot be read comes last in its
   second; decoding it reports the error.
2. Of a call that one response lists twice in a second, the last listed is kept, and the others are counted.
3. Rows up to the cursor that a stream continues from are left out.

The server has sorted the seconds, so only rows that share their second with a neighbour have their ids compared.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import compress, count, islice, repeat
from operator import attrgetter, eq
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from .types import SECOND, RowSlice

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from .types import PageResult

T = TypeVar("T")
#: Of a page its body, some of its rows, and their ids and, unless all are in one second, seconds.
RowsOfPage = tuple[Any, "Sequence[int]", "Sequence[int | None]", "Sequence[datetime]"]
_microsecond = attrgetter("microsecond")


class DeliveryOrder(msgspec.Struct):
    """The order of delivery of one stream.

    Attributes:
        descending: the latest calls come first.
        resume: second and id of the last call that an earlier stream delivered.
    """

    descending: bool = False
    resume: tuple[datetime, int] | None = None

    def slice(self, result: PageResult, starts: Sequence[datetime], rows: range) -> RowSlice:
        """These rows of a page, of which all start in the window; `starts` are those of the whole page."""
        if result.ids_ascend and not self.descending and self.resume is None:
            return RowSlice(result.body, rows)  # as most servers number calls
        seconds = starts[rows.start : rows.stop]
        if (result.ties is None or self.resume is not None) and any(map(_microsecond, seconds)):
            seconds = [start.replace(microsecond=0) for start in seconds]
        groups = _equal_neighbours(seconds) if result.ties is None else _tied(result.ties, rows)
        if self.resume is not None and self.resume[0] in seconds:
            first = seconds.index(self.resume[0])
            groups = sorted({*groups, (first, first + seconds.count(self.resume[0]))})
        if not groups:
            return RowSlice(result.body, rows)
        ids = result.ids()
        arranged = []
        in_order, duplicates = True, 0
        for first, end in groups:
            group, dropped = self._arrange(seconds[first], [(ids[row], row) for row in rows[first:end]])
            arranged.append(group)
            in_order = in_order and group == [*rows[first:end]]
            duplicates += dropped
        if in_order:
            return RowSlice(result.body, rows)
        ordered = array("l")
        done = 0
        for (first, end), group in zip(groups, arranged, strict=True):
            ordered.extend(rows[done:first])
            ordered.extend(group)
            done = end
        ordered.extend(rows[done:])
        return RowSlice(result.body, ordered, duplicates)

    def slices_of_second(self, second: datetime, pages: Sequence[RowsOfPage]) -> list[RowSlice]:
        """The rows of one second (or of an hour that is read like one) from several pages.

        The order of the server's pages is not relied on; a page may be in more than one of the slices.
        """
        items: dict[datetime, list[tuple[int | None, tuple[int, int]]]] = {}
        for index, (_, rows, ids, seconds) in enumerate(pages):
            for row, call_id, row_second in zip(rows, ids, seconds or repeat(second), strict=False):
                items.setdefault(row_second, []).append((call_id, (index, row)))
        slices: list[RowSlice] = []
        last_index, duplicates = -1, 0
        for row_second in sorted(items, reverse=self.descending):
            ordered, dropped = self._arrange(row_second, items[row_second])
            duplicates += dropped
            for index, row in ordered:
                if index != last_index:
                    slices.append(RowSlice(pages[index][0], array("l"), duplicates))
                    duplicates = 0
                slices[-1].rows.append(row)  # type: ignore[attr-defined]  # it is the array made here
                last_index = index
        return slices

    def _arrange(self, second: datetime, items: Sequence[tuple[int | None, T]]) -> tuple[list[T], int]:
        """The rows of one second in their order, and how many were duplicates; an item is an id and what stands for a row."""
        by_id: dict[int, T] = {}
        unreadable: list[T] = []
        for call_id, item in items:
            if call_id is None:
                unreadable.append(item)
            else:
                by_id[call_id] = item
        duplicates = len(items) - len(by_id) - len(unreadable)
        ids = sorted(by_id, reverse=self.descending)
        if self.resume is not None and second == self.resume[0]:
            last = self.resume[1]
            ids = [call_id for call_id in ids if (call_id < last if self.descending else call_id > last)]
        return [by_id[call_id] for call_id in ids] + unreadable, duplicates


def rows_of_page(
    result: PageResult, starts: Sequence[datetime], ids: Sequence[int | None], start: datetime, stop: datetime
) -> RowsOfPage:
    """The rows of a page that start in `[start, stop)`."""
    rows = [row for row, row_start in enumerate(starts) if start <= row_start < stop]
    seconds = [starts[row].replace(microsecond=0) for row in rows] if stop - start > SECOND else []
    return result.body, rows, [ids[row] for row in rows], seconds


def _equal_neighbours(seconds: Sequence[datetime]) -> list[tuple[int, int]]:
    """The first index and the one after the last of each run of equal values, for runs of two and more."""
    groups: list[tuple[int, int]] = []
    if not any(map(eq, seconds, islice(seconds, 1, None))):
        return groups  # without a number for each
    end = 0
    for first in compress(count(), map(eq, seconds, islice(seconds, 1, None))):
        if first >= end:
            end = first + 2
            while end < len(seconds) and seconds[end] == seconds[first]:
                end += 1
            groups.append((first, end))
    return groups


def _tied(ties: Sequence[int], rows: range) -> list[tuple[int, int]]:
    """The same for rows of a page, of which these start in the same second as the row before."""
    groups: list[tuple[int, int]] = []
    for tie in ties[bisect_right(ties, rows.start) : bisect_left(ties, rows.stop)]:
        row = tie - rows.start
        if groups and groups[-1][1] == row:
            groups[-1] = groups[-1][0], row + 1
        else:
            groups.append((row - 1, row + 1))
    return groups


def last_listed(ids: Sequence[int | None]) -> list[int]:
    """The rows of a page without those whose call is listed again after them; rows without an id are kept."""
    last = {call_id: row for row, call_id in enumerate(ids)}
    return [row for row, call_id in enumerate(ids) if call_id is None or last[call_id] == row]
