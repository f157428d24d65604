"""Estimates how many calls a range has, from three small requests: the first rows, and two rows by their number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from ._paging import MAX_PAGE_ROWS, SECOND
from ._paging.spec import add_fields
from ._parsing.splitter import PAGE_BYTES

if TYPE_CHECKING:
    from datetime import datetime

    from .client import AsyncInsights
    from .query import InsightsQuery

#: Rows of the first request.
_SAMPLE: Final = 500
#: The requests of a stream as a multiple of those that full pages would need, and some more for each stream.
_OVERHEAD: Final = 1.2
_EXTRA_REQUESTS: Final = 2


@frozen
class Estimate:
    """What reading a range would take.

    Attributes:
        calls: the number of calls, as far as three requests show.
        low: at least as many.
        high: probably not more.
        bytes: bytes of their JSON.
        requests: requests.
        seconds: duration.
    """

    calls: int
    low: int
    high: int
    bytes: int
    requests: int
    seconds: float


async def estimate(insights: AsyncInsights, query: InsightsQuery) -> Estimate:
    """The estimate for a query with both dates, read with the client's options."""
    start, end = query.start_date, query.end_date
    assert start is not None
    assert end is not None
    fields, _ = add_fields(query.fields)
    query = evolve(query, fields=fields, order="call_start_ASC")
    connection, page_size = insights._connection, insights._page_size  # noqa: SLF001 - of this package
    clock = connection.runtime.clock
    began = clock()
    first = await insights.page(query, page_size=_SAMPLE)
    sample_seconds = clock() - began
    rows = len(first.calls)
    row_bytes = len(first.raw) / rows if rows else 0.0
    range_seconds = max((end - start) / SECOND, 1.0)
    low, high, calls = rows, float(rows), rows
    row_seconds = sample_seconds
    if rows == _SAMPLE:
        total, low, high = rows * range_seconds / _seconds(start, first.calls[-1].call_start), rows, math.inf
        for share in (0.8, 0.97):
            number = max(low + 1, int(min(total * share, high if high < math.inf else total)))
            if number >= high:
                number = low + max(1, int((high - low) / 2))
            began = clock()
            page = await insights.page(query, page=number, page_size=1)
            row_seconds = min(row_seconds, clock() - began)
            if page.calls:
                low = number
                total = min(number * range_seconds / _seconds(start, page.calls[0].call_start), high)
            else:
                high = number - 1
                total = min(total, (low + high) / 2)
        calls = max(low, round(total))
        high = min(high, round(calls + max(2 * (calls - low), 0.02 * calls)))
    page_rows = 1
    if rows:
        page_rows = page_size or max(1, min(MAX_PAGE_ROWS, int(PAGE_BYTES / row_bytes)))
    requests = math.ceil(calls / page_rows * _OVERHEAD) + _EXTRA_REQUESTS
    transfer = max(sample_seconds - row_seconds, 0.0) / max(rows, 1)
    seconds = requests * row_seconds / min(connection.throttle.concurrency, requests) + calls * transfer
    return Estimate(calls, int(low), int(high), round(calls * row_bytes), requests, seconds)


def _seconds(start: datetime, call_start: datetime | None) -> float:
    """Seconds from the start of the range to a call."""
    return max((call_start.replace(tzinfo=None) - start) / SECOND, 1.0) if call_start else 1.0
