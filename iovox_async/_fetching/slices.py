"""Decodes whole pages in slices, so that the event loop stays responsive however large they are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from .._http.turns import DECODING, take_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._parsing.decoder import CallDecoder
    from .._parsing.page import RawPage
    from ..models import Call

#: Bytes of JSON that are joined in the event loop; more are joined in a thread.
MAX_JOINED: Final = 1 << 20


async def decode_page(decoder: CallDecoder, page: RawPage) -> list[Call]:
    """The calls of a page in the order of the response, decoded in slices, so that the event loop stays responsive.

    Raises:
        RecordError: a record is invalid, and the decoder does not skip it.
    """
    calls: list[Call] = []
    for block in page.pick(range(page.rows)):
        calls += decoder.batch(block.segment.data, block.index, block.rows)
        await asyncio.sleep(0)
        await take_turn(DECODING)
    return calls


async def raw_json(page: RawPage, rows: Sequence[int]) -> bytes:
    """These rows of a page as one JSON array."""
    if page.size <= MAX_JOINED:
        return page.raw(rows)
    return await to_thread.run_sync(page.raw, rows)
