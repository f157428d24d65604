"""Calls by their ids.

The law of this room: no URL grows past 4 KiB, and what an answer leaves out is asked again as long as that brings
anything, since a server may hold fewer rows a page than asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final

from attrs import evolve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import Any

    from .._parsing.decoder import CallDecoder
    from .._parsing.splitter import RawPage
    from ..fields import Field
    from ..models import Call
    from ..query import InsightsQuery

__all__ = ["flat", "lookup"]

#: Bytes of ids in a query string; with the names of all fields the URL stays within 4 KiB, which passes every proxy.
IDS_BYTES: Final = 2_600
#: The endpoint reads this month only unless told otherwise. No call is older than the service.
EARLIEST: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - the endpoint's dates have no zone


def flat(ids: Iterable[Any]) -> list[Any]:
    """Ids that came one by one, in lists, or both; what is no id is left for the query to refuse."""
    # Bytes are iterable too, and their items are whole numbers: these must not be taken for ids.
    single = (str, bytes, bytearray, memoryview)
    return [
        one
        for item in ids
        for one in (item if isinstance(item, Iterable) and not isinstance(item, single) else (item,))
    ]


async def lookup(
    asked: InsightsQuery,
    fields: tuple[Field, ...],
    request: Callable[[str], Awaitable[RawPage]],
    structurer: CallDecoder,
    latest: datetime,
) -> list[Call]:
    """The calls of a query's ids, in their order; those that do not exist are left out.

    Args:
        asked: ids, and fields to hand out.
        fields: the same, with the id.
        request: sends a query string.
        structurer: makes records that have ids.
        latest: no call begins after it.
    """
    wanted = asked.ids or ()
    found: dict[int, Call] = {}
    for some in _portions(wanted):
        left = list(some)
        while left:
            query = evolve(
                asked,
                start_date=EARLIEST,
                end_date=latest,
                ids=left,
                fields=fields,
                limit=len(left),
            )
            page = await request(query.to_query_string())
            for index, segment in page.pick(range(page.rows)):
                found.update((call.id, call) for call in structurer.batch(segment.data, index))
            still = [one for one in left if one not in found]
            if len(still) == len(left):
                break
            left = still
    calls = [found[one] for one in wanted if one in found]
    if asked.fields is not None and "id" not in asked.fields:
        for call in calls:
            call.id = None  # type: ignore[assignment]  # what was not asked for is None
    return calls


def _portions(ids: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    begin, size = 0, 0
    for place, one in enumerate(ids):
        size += len(str(one)) + 1
        if size > IDS_BYTES:
            yield ids[begin:place]
            begin, size = place, len(str(one)) + 1
    yield ids[begin:]
