"""Reads the calls of adjacent partitions from the endpoint, as chunks or as checksums of their ids."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
from attrs import evolve

from .._paging import SECOND
from ..fields import Field
from ._chunks import ArrowChunk, CallChunk, Chunk, IdChecksum, SkippedIds, split_at
from ._partitions import PartitionRange, total_seconds
from ._tasks import run_in_thread

if TYPE_CHECKING:
    from .._parsing.decoder import OnError
    from ..client import AsyncInsights
    from ..query import InsightsQuery
    from .report import RunCounters

#: The fields that a backfill needs of every call.
KEYS: Final = (Field.ID, Field.CALL_START)


class PartitionReader(msgspec.Struct, frozen=True):
    """Reads partitions from the endpoint.

    Attributes:
        insights: the client.
        query: which calls; its dates are ignored.
        arrow: whether chunks are record batches; otherwise they are calls.
        on_error: what to do with records that cannot be decoded.
        counters: counts what is read.
        on_progress: called after each chunk.
    """

    insights: AsyncInsights
    query: InsightsQuery
    arrow: bool
    on_error: OnError
    counters: RunCounters
    on_progress: Callable[[], None]

    async def stream_chunks(
        self,
        group: list[PartitionRange],
        fields: Sequence[Field],
        consume: Callable[[Chunk], None],
        skipped: SkippedIds,
    ) -> None:
        """Reads the calls of adjacent partitions, and calls `consume` with each chunk of them in a thread.

        The ids of records that cannot be read are in `skipped` by then.
        """
        start, end = group[0].start, group[-1].stop - SECOND
        query = evolve(self.query, start_date=start, end_date=end, date_constant=None, fields=fields)
        stream = self.insights.stream(query=query, fields=fields, on_error=self.on_error)
        skipped_keys = stream._keep_skipped_keys()  # noqa: SLF001 - of this package
        source: AsyncIterator[Any] = stream.arrow() if self.arrow else stream.pages()
        timezone = self.insights.timezone
        self.counters.stream_opened(stream, total_seconds(group))
        try:
            async with stream:
                async for data in source:
                    chunk = ArrowChunk(data, timezone) if self.arrow else CallChunk(data.calls)
                    skipped.add(skipped_keys)
                    skipped_keys.clear()
                    await run_in_thread(partial(consume, chunk))
                    self.on_progress()
            skipped.add(skipped_keys)
        finally:
            self.counters.stream_closed(stream)

    async def fetch_id_checksums(
        self, group: list[PartitionRange], heartbeat: Callable[[], None]
    ) -> dict[str, IdChecksum]:
        """The checksum of the ids that the endpoint has now, for each partition of a group.

        Chunks are of the kind in which the partitions were written, so that both contain the same calls.
        """
        checksums = [IdChecksum() for _ in group]
        stops = [part.stop for part in group]
        skipped = SkippedIds(stops)
        last_index = 0

        def add(chunk: Chunk) -> None:
            nonlocal last_index
            heartbeat()
            for index, calls in split_at(chunk, last_index, stops):
                last_index = index
                checksums[index] += calls.ids()

        await self.stream_chunks(group, KEYS, add, skipped)
        return {
            part.name: ids + skipped.checksum(index)
            for index, (part, ids) in enumerate(zip(group, checksums, strict=True))
        }
