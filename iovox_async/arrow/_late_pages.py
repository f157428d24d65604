"""Builds the first pages of a stream while their decoder is imported, so that its first requests need not wait for that."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from .._http.turns import DECODING, take_turn
from .._parsing.page import PageFormat
from ..errors import MissingExtraError

if TYPE_CHECKING:
    from datetime import tzinfo

    from .._paging.spec import ReadSpec
    from .._parsing.decoder import CallDecoder
    from .._parsing.page import PageBuilder, RawPage
    from ._batches import BatchReader

#: Bytes of JSON to aim at in a page, more than for records: each request costs the event loop a millisecond or two, and columns take
#: a third of the memory of their JSON.
PAGE_BYTES: Final = 6_000_000
#: Seconds after which the first request has been sent. An import delays whatever else the program does.
_SENT_SECONDS: Final = 0.004


class LatePages:
    """The pages of a stream whose `BatchReader` is not made yet.

    Attributes:
        page_format: how they are built.
        loaded: the reader is there.
    """

    def __init__(self) -> None:
        self.page_format = PageFormat(partial(_LatePageBuilder, self), PAGE_BYTES)
        self.loaded = asyncio.Event()
        self._reader: BatchReader | None = None

    async def load(self, decoder: CallDecoder, spec: ReadSpec, timezone: tzinfo | None) -> BatchReader:
        """Makes the reader, in a thread since it may import pyarrow."""
        if "pyarrow" not in sys.modules:
            await asyncio.sleep(_SENT_SECONDS)
        self._reader = await to_thread.run_sync(_new_batch_reader, decoder, spec, timezone)
        self.loaded.set()
        return self._reader

    def new_builder(self) -> PageBuilder:
        """A builder of the reader, once that is loaded."""
        assert self._reader is not None
        return self._reader.page_format.new_builder()


class _LatePageBuilder:
    """Keeps the bytes of a page until they can be decoded."""

    def __init__(self, pages: LatePages) -> None:
        self._pages = pages
        self._blocks: deque[bytes] = deque()
        self._builder: PageBuilder | None = None

    @property
    def _can_decode(self) -> bool:
        return self._pages.loaded.is_set() and not self._blocks

    def space(self) -> memoryview | None:
        return self._build().space() if self._can_decode else None

    def feed(self, data: bytes | memoryview) -> None:
        if self._can_decode:
            self._build().feed(data)
            return
        self._blocks.append(bytes(data))
        if self._pages.loaded.is_set():
            # One new block and one that was kept, not all of them at once, so that the event loop is not blocked.
            for _ in range(min(2, len(self._blocks))):
                self._decode_block()

    async def finish(self, wire_bytes: int) -> RawPage:
        await self._pages.loaded.wait()
        while self._blocks:
            await take_turn(DECODING)
            self._decode_block()
        return await self._build().finish(wire_bytes)

    def _decode_block(self) -> None:
        self._build().feed(self._blocks.popleft())

    def _build(self) -> PageBuilder:
        if self._builder is None:
            self._builder = self._pages.new_builder()
        return self._builder


def _new_batch_reader(decoder: CallDecoder, spec: ReadSpec, timezone: tzinfo | None) -> BatchReader:
    try:
        from ._batches import BatchReader
    except ImportError as error:  # it is installed, but not completely, or not for this machine
        raise MissingExtraError("Arrow", "arrow") from error
    return BatchReader(decoder, spec, timezone)
