"""Calls in the two forms they come in, with what a table needs to know of them: where they begin, and which they are.

The law of this room: a chunk holds calls in the order of their start, and its sums depend on the calls alone, not on their
form, their order, or how they were cut.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from attrs import frozen

if TYPE_CHECKING:
    from ..models import Call

__all__ = ["ArrowChunk", "CallChunk", "Chunk", "IdChecksum", "cut", "parted"]

_MASK: Final = (1 << 64) - 1
#: What a moment in a column is counted from; without a time zone, it is the account's wall that is.
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class IdChecksum:
    """Which calls some calls are, in 24 bytes: their number, and the sums of their ids and of the squares of these.

    Two sets of ids that differ have the same sums only by a coincidence of one in 2^64 and less.
    """

    rows: int = 0
    total: int = 0
    squares: int = 0

    @classmethod
    def of(cls, ids: Iterable[int]) -> Self:
        """The sums of these ids."""
        known = list(ids)
        return cls(len(known), sum(known) & _MASK, sum(one * one for one in known) & _MASK)

    def __add__(self, other: IdChecksum) -> IdChecksum:
        return IdChecksum(
            self.rows + other.rows,
            (self.total + other.total) & _MASK,
            (self.squares + other.squares) & _MASK,
        )

    def __str__(self) -> str:
        return f"{self.total:016x}{self.squares:016x}"


class Chunk(Protocol):
    """Some calls."""

    @property
    def rows(self) -> int:
        """How many."""

    @property
    def data(self) -> Any:
        """What a format's writer takes."""

    def start(self, row: int) -> datetime:
        """When one began, in the account's wall time."""

    def slice(self, begin: int, end: int) -> Chunk:
        """Some of them."""

    def ids(self) -> IdChecksum:
        """Which they are."""


@frozen
class CallChunk:
    """Calls as records."""

    data: Sequence[Call]

    @property
    def rows(self) -> int:
        return len(self.data)

    def start(self, row: int) -> datetime:
        return self.data[row].call_start.replace(tzinfo=None)

    def slice(self, begin: int, end: int) -> CallChunk:
        return CallChunk(self.data[begin:end])

    def ids(self) -> IdChecksum:
        return IdChecksum.of(call.id for call in self.data)


@frozen
class ArrowChunk:
    """Calls as a `pyarrow.RecordBatch`, of an account in this time zone."""

    data: Any
    zone: tzinfo | None = None

    @cached_property
    def _starts(self) -> memoryview:
        """The column's own memory: a value of Arrow's takes ten times as long, and a part is found by many looks."""
        column = self.data.column("call_start")
        return memoryview(column.buffers()[1]).cast("q")[column.offset :]

    @property
    def rows(self) -> int:
        rows: int = self.data.num_rows
        return rows

    def start(self, row: int) -> datetime:
        moment = _EPOCH + timedelta(microseconds=self._starts[row])
        return (moment if self.zone is None else moment.astimezone(self.zone)).replace(tzinfo=None)

    def slice(self, begin: int, end: int) -> ArrowChunk:
        return ArrowChunk(self.data.slice(begin, end - begin), self.zone)

    def ids(self) -> IdChecksum:
        import numpy as np

        column = self.data.column("id")
        ids = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + self.rows]
        # Both wrap at 64 bits, as the mask does.
        return IdChecksum(self.rows, int(ids.sum()) & _MASK, int((ids * ids).sum()) & _MASK)


def cut(chunk: Chunk, begin: int, before: datetime) -> int:
    """The first row from `begin` on that does not begin before this moment."""
    # Most chunks lie within one part, and a look at the last row says so.
    if not chunk.rows or chunk.start(chunk.rows - 1) < before:
        return chunk.rows
    return bisect_left(range(chunk.rows), before, begin, key=chunk.start)


def parted(chunk: Chunk, at: int, ends: Sequence[datetime]) -> Iterator[tuple[int, Chunk]]:
    """A chunk's calls by the parts they lie in, each with the number of its part.

    Args:
        chunk: the calls.
        at: the part that the first of them may lie in.
        ends: the moments at which parts end; the last part takes all that is left.
    """
    begin = 0
    while begin < chunk.rows:
        end = chunk.rows if at == len(ends) - 1 else cut(chunk, begin, ends[at])
        if end > begin:
            yield at, chunk.slice(begin, end) if end - begin < chunk.rows else chunk
        at += 1
        begin = end
