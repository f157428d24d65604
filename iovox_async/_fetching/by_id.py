"""Reads calls by their ids.

A URL has at most 4 KiB. Ids that a page leaves out are requested again, at least once, and as long as each request returns
some: a server may return fewer rows per page than requested, or be wrong once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from .._paging import MAX_PAGE_ROWS
from .slices import decode_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._parsing.decoder import CallDecoder
    from ..fields import Field
    from ..models import Call
    from ..query import InsightsQuery
    from .connection import Connection

#: Bytes of ids in a query string. With the names of all fields the URL stays within 4 KiB, which every proxy accepts.
IDS_BYTES: Final = 2_600
#: Without dates the endpoint searches the current month only. No call is older than the service.
EARLIEST: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - the endpoint's dates have no zone


def flatten_ids(ids: Iterable[Any]) -> list[Any]:
    """Flattens ids that were passed one by one, in iterables, or both; `InsightsQuery` checks each of them."""
    # Bytes are iterable too, and their items are integers: they must not be taken for ids.
    scalars = (str, bytes, bytearray, memoryview)
    return [
        call_id
        for item in ids
        for call_id in (item if isinstance(item, Iterable) and not isinstance(item, scalars) else (item,))
    ]


async def fetch_by_id(
    query: InsightsQuery,
    fields: tuple[Field, ...],
    connection: Connection,
    decoder: CallDecoder,
    end: datetime,
) -> list[Call]:
    """Returns the calls with the ids of a query, in the order of the ids; ids that do not exist are left out.

    Args:
        query: the ids, and the fields to deliver.
        fields: the fields to request: those of the query, and the id.
        connection: sends the requests.
        decoder: decodes records that have ids.
        end: no call starts after it.
    """
    ids = query.ids or ()
    calls: dict[int, Call] = {}
    for batch in _batches(ids):
        missing = list(batch)
        requests = 0
        while missing:
            # Another limit than before, so that a cache does not answer the second request with the first response.
            limit = min(MAX_PAGE_ROWS, len(missing) + requests)
            request = evolve(
                query, start_date=EARLIEST, end_date=end, ids=missing, fields=fields, limit=limit
            )
            requests += 1
            page = await connection.get(request.to_query_string())
            calls.update((call.id, call) for call in await decode_page(decoder, page))
            still_missing = [call_id for call_id in missing if call_id not in calls]
            # An id does not exist if two responses leave it out.
            if len(still_missing) == len(missing) and requests > 1:
                break
            missing = still_missing
    result = [calls[call_id] for call_id in ids if call_id in calls]
    if query.fields is not None and "id" not in query.fields:
        for call in result:
            call.id = None  # type: ignore[assignment]  # a field that was not requested is None
    return result


def _batches(ids: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    start, size = 0, 0
    for index, call_id in enumerate(ids):
        id_bytes = len(str(call_id)) + 1
        size += id_bytes
        if size > IDS_BYTES:
            yield ids[start:index]
            start, size = index, id_bytes
    yield ids[start:]
