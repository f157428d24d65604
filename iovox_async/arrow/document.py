"""Segments of a page as one document for Arrow's JSON reader.

The law of this room: one object in one line of valid UTF-8, in memory that is used again; what cannot be that is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["Document", "MisfitError"]

#: Arrow counts the bytes of a block in 31 bits.
_MOST_BYTES: Final = 2**31 - 1024
#: Bytes of a document whose memory is kept for the next.
_KEPT_BYTES: Final = 8 * 1024 * 1024
_HEAD: Final = b'{"c":['
_TAIL: Final = b"]}"
_COMMA: Final = ord(",")


class MisfitError(Exception):
    """These bytes are not for the fast way."""


class Document:
    """The rows of some segments as one list in one object, in memory that is used again.

    Fresh memory for each would cost a fifth of what reading it does.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def of(self, segments: Sequence[bytes]) -> memoryview:
        """The document; it holds until the next one is asked for."""
        size = len(_HEAD) + sum(map(len, segments)) + len(_TAIL)
        if size > _MOST_BYTES:
            raise MisfitError
        buffer = self._buffer
        if size > len(buffer):
            buffer = bytearray(size + size // 8)
            buffer[: len(_HEAD)] = _HEAD
            if size <= _KEPT_BYTES:
                self._buffer = buffer
        place = len(_HEAD)
        for segment in segments:
            if not segment.isascii():
                _check_text(segment)
            inner = memoryview(segment)[1:-1]
            if b"\n" in segment or b"\r" in segment:
                # Within a text they are escaped, so these are between values. Arrow's reader would cut there.
                inner = memoryview(bytes(inner).replace(b"\n", b" ").replace(b"\r", b" "))
            buffer[place : place + len(inner)] = inner
            place += len(inner) + 1
            buffer[place - 1] = _COMMA
        # In the place of the last comma, where there is one.
        end = place - bool(segments)
        buffer[end : end + len(_TAIL)] = _TAIL
        return memoryview(buffer)[: end + len(_TAIL)]


def _check_text(segment: bytes) -> None:
    try:
        str(segment, "utf-8")
    except UnicodeDecodeError:
        raise MisfitError from None
