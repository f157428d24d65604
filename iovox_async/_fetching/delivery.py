"""Delivers the rows of a stream's pages: how many, in blocks of which none takes long, and after which row it stands.

The plan has put the rows in order, see `_paging.order`. Records, pages and Arrow take the same rows from here and differ
only in what they decode them to. A row that cannot be decoded and is skipped (`on_error="skip"`) does not count for
`max_calls`: the row after it is delivered in its place.
"""

from __future__ import annotations

import asyncio
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .._paging import RowSlice
    from .._parsing.decoder import CallDecoder
    from .._parsing.page import Block, RawPage
    from ..models import Call

__all__ = ["Blocks", "decode_page", "raw_json", "sort_key"]

#: Bytes of JSON that are joined in the event loop; more are joined in a thread.
_MAX_JOINED: Final = 1 << 20

#: The start and id of a call.
sort_key: attrgetter[tuple[Any, Any]] = attrgetter("call_start", "id")


class Blocks:
    """The rows of a slice that are not decoded yet.

    Attributes:
        page: the page of the rows.
    """

    def __init__(self, rows: RowSlice) -> None:
        self.page: RawPage = rows.body
        self._blocks: Iterator[Block] = self.page.pick(rows.rows)
        self._next: Block | None = None

    def take(self, limit: int | None) -> Block | None:
        """The next rows, of one segment and at most `limit`; None after the last, or for a limit of 0."""
        if limit == 0:
            return None
        block, self._next = self._next or next(self._blocks, None), None
        if block is not None and limit is not None and block.count > limit:
            block, self._next = block.split(limit)
        return block


async def decode_page(decoder: CallDecoder, page: RawPage) -> list[Call]:
    """The calls of a page in the order of the response, decoded in slices, so that the event loop stays responsive.

    Raises:
        RecordError: a record is invalid, and the decoder does not skip it.
    """
    calls: list[Call] = []
    for block in page.pick(range(page.rows)):
        calls += decoder.batch(block.segment.data, block.index, block.rows)
        await asyncio.sleep(0)
    return calls


async def raw_json(page: RawPage, rows: Sequence[int]) -> bytes:
    """These rows of a page as one JSON array."""
    if page.size <= _MAX_JOINED:
        return page.raw(rows)
    return await to_thread.run_sync(page.raw, rows)
