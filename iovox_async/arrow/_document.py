"""Segments of a page as one document for Arrow's JSON reader.

The law of this room: one object in one line of valid UTF-8, in memory that is used again; what cannot be that is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa

from .._parsing.compiled import UnsupportedByFastPath

__all__ = ["MOST_BYTES", "Document", "ReusableBuffer", "UnsupportedByFastPath", "check_text", "misfits"]

#: Arrow counts the bytes of a block in 31 bits.
MOST_BYTES: Final = 2**31 - 1024
#: Bytes of a document whose memory is kept for the next.
_KEPT_BYTES: Final = 8 * 1024 * 1024
_HEAD: Final = b'{"c":['
_TAIL: Final = b"]}"
_COMMA: Final = ord(",")


@contextlib.contextmanager
def misfits() -> Iterator[None]:
    """What Arrow cannot read is a misfit; that memory is short is not."""
    try:
        yield
    except RecursionError:
        raise UnsupportedByFastPath from None
    except pa.ArrowException as error:
        if isinstance(error, MemoryError):
            raise
        raise UnsupportedByFastPath from None


class ReusableBuffer:
    """Room for bytes, used again and again: fresh memory for each page would cost a fifth of what reading it does."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def room(self, size: int) -> bytearray:
        """At least so many bytes; what was put there before is lost."""
        if size > len(self._buffer):
            buffer = bytearray(size + size // 8)
            if size > _KEPT_BYTES:
                return buffer
            self._buffer = buffer
        return self._buffer


class Document:
    """The rows of some segments as one list in one object."""

    def __init__(self) -> None:
        self._memory = ReusableBuffer()

    def of(self, segments: Sequence[bytes]) -> memoryview:
        """The document; it holds until the next one is asked for."""
        size = len(_HEAD) + sum(map(len, segments)) + len(_TAIL)
        if size > MOST_BYTES:
            raise UnsupportedByFastPath
        buffer = self._memory.room(size)
        buffer[: len(_HEAD)] = _HEAD
        place = len(_HEAD)
        for segment in segments:
            check_text(segment)
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


def check_text(segment: bytes) -> None:
    """Refuses what is not UTF-8; Arrow's readers take any bytes for text."""
    if not segment.isascii():
        try:
            str(segment, "utf-8")
        except UnicodeDecodeError:
            raise UnsupportedByFastPath from None
