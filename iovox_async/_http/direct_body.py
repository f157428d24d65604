"""Bodies of responses that are taken from the connection as they are: `DirectBody`.

httpcore and h11 copy a body four times, which takes a tenth of the CPU time of a stream. A connection therefore shows the pool
the head of a response with the length 0, and the bytes of the body go to whoever reads the response. This applies to
responses that can have no other meaning: with status 200, one Content-Length and no Transfer-Encoding. Everything else
goes through the pool.

Invariants:
- A connection whose body was not read to its end is closed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .sockets import AsyncioStream

_STATUS: Final = b"HTTP/1.1 200 "
#: The end of a head, as h11 finds it.
_END: Final = re.compile(rb"\n\r?\n")
#: What decides about the length of a body, and lines that continue the one before.
_FRAMING: Final = re.compile(rb"\n(?:(?:content-length|transfer-encoding)[ \t]*:|[ \t])", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\ncontent-length:[ \t]*(\d{1,15})[ \t]*\r?\n", re.IGNORECASE)


def without_body(data: bytes) -> tuple[bytes, bytes, int]:
    """Splits the first bytes of a response.

    Returns:
        the head with the length 0, the bytes of the body received so far, and the length of the whole body; or all bytes, none, and
        0, if the pool must get everything.
    """
    end = _END.search(data) if data.startswith(_STATUS) else None
    if end is not None and len(_FRAMING.findall(data, 0, end.end())) == 1:
        match = _LENGTH.search(data, 0, end.end())
        if match is not None:
            head = data[: match.start(1)] + b"0" + data[match.end(1) : end.end()]
            return head, data[end.end() :], int(match[1])
    return data, b"", 0


class DirectBody:
    """The body of a response that its connection keeps from the pool.

    Args:
        connection: the connection.
        pooled: the body as the pool has it: empty.

    Attributes:
        space: returns the memory for the next block; None: it is the connection's.
    """

    space: Callable[[], memoryview | None] | None = None

    def __init__(self, connection: AsyncioStream, pooled: Any) -> None:
        self._connection = connection
        self._pooled = pooled

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        while self._connection.body_left:
            yield await self._connection.read_body(None if self.space is None else self.space())
        async for _ in self._pooled:
            pass  # so that the pool sees the end of the response

    async def aclose(self) -> None:
        """Ends the response; the connection is used again only if the body was read."""
        if self._connection.body_left:
            await self._connection.aclose()
        await self._pooled.aclose()
