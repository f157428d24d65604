"""Gives records and Arrow batches one interface: how many calls, when they start, and a checksum of their ids.

Invariants:

- The calls of a chunk are in the order of their start.
- `ids()` depends on the ids alone, not on their order, their representation, or how they were sliced.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeGuard

import msgspec

if TYPE_CHECKING:
    from ..models import Call

_MASK: Final = (1 << 64) - 1
#: The origin of Arrow timestamps. Columns without a time zone count from it in the account's local time.
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class IdChecksum(msgspec.Struct, frozen=True):
    """A checksum of a set of ids: their number, sum and sum of squares, modulo 2^64.

    Different sets have the same checksum with a probability of at most 1 in 2^64.
    """

    rows: int = 0
    total: int = 0
    squares: int = 0
    #: The lowest and the highest id; None where there are no ids.
    lowest: int | None = None
    highest: int | None = None

    @classmethod
    def of(cls, ids: Iterable[int]) -> Self:
        ids = list(ids)
        squares = sum(number * number for number in ids)
        return cls(
            len(ids), sum(ids) & _MASK, squares & _MASK, min(ids, default=None), max(ids, default=None)
        )

    def __add__(self, other: IdChecksum) -> IdChecksum:
        return IdChecksum(
            self.rows + other.rows,
            (self.total + other.total) & _MASK,
            (self.squares + other.squares) & _MASK,
            min(filter(_is_id, (self.lowest, other.lowest)), default=None),
            max(filter(_is_id, (self.highest, other.highest)), default=None),
        )

    def __str__(self) -> str:
        return f"{self.total:016x}{self.squares:016x}"


def _is_id(number: int | None) -> TypeGuard[int]:
    return number is not None


class CallChunk(msgspec.Struct, frozen=True):
    """Calls as records. `ArrowChunk` has the same methods."""

    data: Sequence[Call]

    @property
    def rows(self) -> int:
        return len(self.data)

    def start(self, row: int) -> datetime:
        """When a call started, in the account's local time."""
        return self.data[row].call_start.replace(tzinfo=None)

    def slice(self, start: int, stop: int) -> CallChunk:
        return CallChunk(self.data[start:stop])

    def ids(self) -> IdChecksum:
        return IdChecksum.of(call.id for call in self.data)


class ArrowChunk(msgspec.Struct, frozen=True, dict=True):
    """Calls as a `pyarrow.RecordBatch`, of an account in this time zone."""

    data: Any
    timezone: tzinfo | None = None

    @cached_property
    def _starts(self) -> memoryview:
        # Reading the column's buffer takes a tenth of the time of reading Arrow scalars.
        column = self.data.column("call_start")
        return memoryview(column.buffers()[1]).cast("q")[column.offset :]

    @property
    def rows(self) -> int:
        rows: int = self.data.num_rows
        return rows

    def start(self, row: int) -> datetime:
        start = _EPOCH + timedelta(microseconds=self._starts[row])
        return (start if self.timezone is None else start.astimezone(self.timezone)).replace(tzinfo=None)

    def slice(self, start: int, stop: int) -> ArrowChunk:
        return ArrowChunk(self.data.slice(start, stop - start), self.timezone)

    def ids(self) -> IdChecksum:
        import numpy as np

        if not self.rows:
            return IdChecksum()
        column = self.data.column("id")
        ids = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + self.rows]
        # NumPy's sums wrap at 64 bits, as the mask does.
        return IdChecksum(
            self.rows, int(ids.sum()) & _MASK, int((ids * ids).sum()) & _MASK, int(ids.min()), int(ids.max())
        )


Chunk: TypeAlias = CallChunk | ArrowChunk


class SkippedIds:
    """The ids of skipped records by partition. They count as ids of the partition: the endpoint has them, the file does not.

    Args:
        stops: the end of each partition.
    """

    def __init__(self, stops: Sequence[datetime]) -> None:
        self._stops = stops
        self._ids: dict[int, set[int]] = {}

    def add(self, keys: Iterable[tuple[datetime, int]]) -> None:
        """Adds records by their start and id."""
        for start, call_id in keys:
            index = min(bisect_right(self._stops, start), len(self._stops) - 1)
            self._ids.setdefault(index, set()).add(call_id)

    def checksum(self, index: int) -> IdChecksum:
        """The checksum of the skipped ids of a partition."""
        return IdChecksum.of(self._ids.pop(index, ()))


def find_start(chunk: Chunk, row: int, time: datetime) -> int:
    """The first row, from `row` on, that starts at or after this time."""
    # Most chunks lie within one partition; the last row shows it without a search.
    if not chunk.rows or chunk.start(chunk.rows - 1) < time:
        return chunk.rows
    return bisect_left(range(chunk.rows), time, row, key=chunk.start)


def split_at(chunk: Chunk, index: int, stops: Sequence[datetime]) -> Iterator[tuple[int, Chunk]]:
    """Splits a chunk by partitions; yields the index of each partition with its calls.

    Args:
        chunk: the calls.
        index: the first partition that may hold any of them.
        stops: the end of each partition. The last partition takes all remaining calls.
    """
    row = 0
    while row < chunk.rows:
        end = chunk.rows if index == len(stops) - 1 else find_start(chunk, row, stops[index])
        if end > row:
            yield index, chunk.slice(row, end) if end - row < chunk.rows else chunk
        index += 1
        row = end
