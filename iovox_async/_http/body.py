"""The body of a response: `ResponseBody`, and checks of what a transport of the user's gives."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from itertools import count
from typing import TYPE_CHECKING, Final

from .._parsing.gzip import GzipDecoder
from .._wording import Wording
from ..errors import DecodeError, TransportError
from .direct_body import DirectBody
from .engines import describe_type
from .turns import RECEIVING, take_turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    import httpx

    from .deadline import NetworkDeadline
    from .engines import Engine

#: Blocks that are smaller are joined before they are decoded, up to so many: a server may send chunks of single bytes.
_SMALL_BLOCK: Final = 4 * 1024
_MOST_JOINED: Final = 64
#: Numbers responses in the order in which they begin.
_numbers: Final = count()


def check_response(response: object, engine: Engine) -> None:
    """Checks what a transport of the user's has returned."""
    stream = getattr(response, "stream", None)
    is_response = isinstance(response, engine.library.Response)
    if not (is_response and hasattr(stream, "__aiter__") and hasattr(stream, "aclose")):
        kind = describe_type(stream if is_response else response)
        raise TransportError(
            f"the transport must return an {engine.name}.Response with an async stream, got {kind}"
        )


class ResponseBody:
    """The body of a response, decompressed.

    Args:
        response: the response.
        max_bytes: the largest size accepted.
        deadline: the deadline of the attempt.
        wait_for_room: awaited before each block is decoded; returns whether a reader waits for it.

    Attributes:
        deadline: the deadline of the attempt.
        received: bytes received so far.
        reading: the transport is being read, so that an exception comes from there.
        too_large: reading was stopped, because the received or decoded size exceeds the limit.
    """

    def __init__(
        self,
        response: httpx.Response,
        *,
        max_bytes: int,
        deadline: NetworkDeadline,
        wait_for_room: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self.deadline = deadline
        self._wait_for_room = wait_for_room
        self._number = next(_numbers)
        self.received = 0
        self.reading = False
        self.too_large = False
        self._headers = response.headers
        self._stream = response.stream
        self._gzip = GzipDecoder() if "gzip" in response.headers.get("content-encoding", "").lower() else None
        self._max_bytes = max_bytes
        self._decoded = 0

    def decode(self, work: Callable[[bytes | memoryview], object], block: bytes | memoryview) -> None:
        """Calls a decoder; the time it takes does not count as the network's."""
        started = time.perf_counter()
        work(block)
        self.deadline.decoding += time.perf_counter() - started

    def receive_into(self, space: Callable[[], memoryview | None]) -> None:
        """Has blocks received right into the memory that `space` returns; if that is not possible, they are anywhere."""
        if self._gzip is None and isinstance(self._stream, DirectBody):
            self._stream.space = space

    async def take_turn(self) -> None:
        """Waits for the turn to decode a block; the wait does not count as the network's either."""
        started = time.perf_counter()
        is_urgent = self._wait_for_room is not None and await self._wait_for_room()
        priority = RECEIVING if is_urgent else RECEIVING + self._number
        await take_turn(priority)
        self.deadline.decoding += time.perf_counter() - started

    async def blocks(self) -> AsyncGenerator[bytes | memoryview]:
        """Reads and decompresses the body block by block; a block is valid until the next one is read.

        Raises:
            DecodeError: it is truncated, damaged or too large.
        """
        length = self._headers.get("content-length", "")
        # More digits than any size has: not checked, since Python refuses to convert thousands of them.
        if length.isascii() and length.isdigit() and len(length) < 20:
            self._check_size(int(length))
        self.reading = True
        async for data in self._stream:  # type: ignore[union-attr]  # async, as the transport is
            self.reading = False
            self.received += len(data)
            self._check_size(self.received)
            if self._gzip is None:
                yield data
            else:
                for block in self._gzip.feed(data):
                    self._decoded += len(block)
                    self._check_size(self._decoded)
                    yield block
                    await asyncio.sleep(0)
            self.reading = True
        self.reading = False
        if self._gzip is not None:
            self._gzip.finish()

    async def joined_blocks(self) -> AsyncGenerator[bytes | memoryview]:
        """The same, with small blocks joined."""
        small: list[bytes] = []
        async with aclosing(self.blocks()) as blocks:
            async for block in blocks:
                if len(block) >= _SMALL_BLOCK and not small:
                    yield block
                    continue
                small.append(bytes(block))
                if len(block) >= _SMALL_BLOCK or len(small) >= _MOST_JOINED:
                    yield b"".join(small)
                    small.clear()
        if small:
            yield b"".join(small)

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            self.too_large = True
            raise DecodeError(
                f"the page is larger than {self._max_bytes} bytes (max_page_bytes)",
                hint=Wording(
                    "Request smaller pages with {page_size}; AsyncInsights also takes a larger {max_page_bytes}."
                ),
            )
