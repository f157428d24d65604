"""Memory for the rows of a page that arrive, in which they are decoded: `RowBuffer`."""

from __future__ import annotations

from typing import Final

from ._row_values import MARGIN, PageBytes

#: Bytes before and after the rows: space for their neighbours, and a margin before and after those.
_SURROUNDINGS: Final = 2 * MARGIN


class RowBuffer:
    """The bytes of rows, with space before and after them, in memory that is used again for the next ones.

    The memory is taken with the first bytes, since many pages may wait for theirs.

    Args:
        size: bytes of rows at most.

    Attributes:
        memory: the memory.
        start: where the bytes start in it.
        end: where they end.
    """

    start: Final = _SURROUNDINGS

    def __init__(self, size: int) -> None:
        self.memory = bytearray()
        self.end = self.start
        self._size = size
        self._view = memoryview(self.memory)
        self._replaced: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def data(self) -> memoryview:
        """The bytes; valid until the next change."""
        return self._view[self.start : self.end]

    @property
    def free_bytes(self) -> int:
        """How many bytes may be added."""
        return self._size - len(self)

    @property
    def space(self) -> memoryview | None:
        """The memory for the bytes that are added next; None: it was not taken yet."""
        return self._view[self.end : -_SURROUNDINGS] if self.memory else None

    def add(self, data: bytes | memoryview) -> None:
        """Adds these bytes, which may be in `space` already."""
        if not self.memory:
            self.memory = bytearray(self._size + 2 * _SURROUNDINGS)
            self._view = memoryview(self.memory)
        end = self.end + len(data)
        if not (isinstance(data, memoryview) and data.obj is self.memory):
            self._view[self.end : end] = data
        self.end = end

    def surround(self, start: int, stop: int, before: bytes, after: bytes) -> PageBytes:
        """The bytes between two offsets with others before and after them, which replace what is there until `restore`."""
        first, end = start - len(before), stop + len(after)
        self._replaced = [(first, bytes(self._view[first:start])), (stop, bytes(self._view[stop:end]))]
        self._view[first:start] = before
        self._view[stop:end] = after
        return PageBytes(self._view, first, end)

    def restore(self) -> None:
        """Puts the bytes back that `surround` has replaced."""
        for offset, data in self._replaced:
            self._view[offset : offset + len(data)] = data
        self._replaced = []

    def drop_before(self, offset: int) -> None:
        """Keeps only the bytes from this offset on."""
        rest = bytes(self._view[offset : self.end])
        self.end = self.start
        self.add(rest)
