"""What a backfill has done: while it runs, and when it has ended.

The law of this room: figures only, and each is counted once. A share of 1 is told only when all is done.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from attrs import asdict, define, evolve, field, frozen

from ._job import PartitionRange, seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..stream import CallStream
    from ._manifest import ManifestEntry

__all__ = ["BackfillProgress", "BackfillReport", "RunCounters"]


@frozen
class BackfillProgress:
    """Where a run stands; a value that no longer changes.

    Attributes:
        progress: share of the dates to read that is done, 0..1; 1 only at the end.
        partitions: partitions that are done by this run.
        partitions_total: partitions that this run has to read.
        partitions_skipped: partitions of the range that were there before.
        last_partition: name of the partition that was done last.
        calls: calls received.
        bytes_received: bytes received, as they came over the wire.
        requests: requests sent, each attempt counted.
        retries: how many of them were repeats.
        window_splits: windows that were halved because they kept failing.
        skipped: records that could not be read (`on_error="skip"`).
        elapsed: how long it has been running.
    """

    progress: float = 0.0
    partitions: int = 0
    partitions_total: int = 0
    partitions_skipped: int = 0
    last_partition: str | None = None
    calls: int = 0
    bytes_received: int = 0
    requests: int = 0
    retries: int = 0
    window_splits: int = 0
    skipped: int = 0
    elapsed: float = 0.0


@frozen
class BackfillReport:
    """What a run has done, and what is in the folder now.

    Attributes:
        partitions: partitions written by this run.
        partitions_skipped: partitions of the range that were there before and were not read.
        calls: calls written.
        bytes_received: bytes received, as they came over the wire.
        requests: requests sent, each attempt counted.
        retries: how many of them were repeats.
        window_splits: windows that were halved because they kept failing.
        skipped: records left out because they could not be read (`on_error="skip"`).
        elapsed: how long it took.
        total_calls: calls in the folder.
        open_partitions: names of partitions that are read again by the next run over them, because calls may still arrive or change.
        verified: partitions that were compared with the endpoint (`verify()` only).
        mismatched_partitions: names of those that differed and were read again (`verify()` only).
    """

    partitions: int = 0
    partitions_skipped: int = 0
    calls: int = 0
    bytes_received: int = 0
    requests: int = 0
    retries: int = 0
    window_splits: int = 0
    skipped: int = 0
    elapsed: float = 0.0
    total_calls: int = 0
    open_partitions: tuple[str, ...] = ()
    verified: int = 0
    mismatched_partitions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, as `report.json` has it."""
        return {
            **asdict(self),
            "open_partitions": list(self.open_partitions),
            "mismatched_partitions": list(self.mismatched_partitions),
        }


@define
class RunCounters:
    """Counts while a run goes on."""

    began: float = field(factory=time.monotonic)
    partitions_total: int = 0
    partitions_skipped: int = 0
    seconds_to_read: float = 0.0
    #: Partitions done, calls in them, and the name of the last.
    partitions: int = 0
    written: int = 0
    last_partition: str | None = None
    ended: bool = False
    verified: int = 0
    _past: BackfillProgress = field(factory=BackfillProgress)
    _past_seconds: float = 0.0
    _live: dict[CallStream, float] = field(factory=dict)

    def expects(self, wanted: Iterable[PartitionRange]) -> None:
        """There is this much to read."""
        wanted = list(wanted)
        self.partitions_total += len(wanted)
        self.seconds_to_read += seconds_of(wanted)

    def opened(self, stream: CallStream, seconds: float) -> None:
        """A stream over so many seconds has begun."""
        self._live[stream] = seconds

    def closed(self, stream: CallStream) -> None:
        """A stream has ended."""
        self._past = self._with(self._past, stream)
        self._past_seconds += self._live.pop(stream) * stream.stats.progress

    def done(self, entries: Iterable[ManifestEntry]) -> None:
        """These partitions are in their place; the manifest names them now or soon."""
        for entry in entries:
            self.partitions += 1
            self.written += entry.rows
            self.last_partition = entry.partition

    def _with(self, known: BackfillProgress, stream: CallStream) -> BackfillProgress:
        stats = stream.stats
        return evolve(
            known,
            calls=known.calls + stats.calls,
            bytes_received=known.bytes_received + stats.bytes_received,
            requests=known.requests + stats.requests,
            retries=known.retries + stats.retries,
            window_splits=known.window_splits + stats.window_splits,
            skipped=known.skipped + stats.skipped,
        )

    def progress(self) -> BackfillProgress:
        """Where the run stands."""
        known, seconds = self._past, self._past_seconds
        for stream, length in self._live.items():
            known = self._with(known, stream)
            seconds += length * stream.stats.progress
        share = seconds / self.seconds_to_read if self.seconds_to_read else 0.0
        return evolve(
            known,
            # What is received is not yet on the disk.
            progress=1.0 if self.ended else min(0.999, share),
            partitions=self.partitions,
            partitions_total=self.partitions_total,
            partitions_skipped=self.partitions_skipped,
            last_partition=self.last_partition,
            elapsed=time.monotonic() - self.began,
        )

    def report(self, entries: Iterable[ManifestEntry], differing: tuple[str, ...] = ()) -> BackfillReport:
        """What the run has done, given what is in the folder now."""
        known, there = self.progress(), list(entries)
        return BackfillReport(
            partitions=self.partitions,
            partitions_skipped=self.partitions_skipped,
            calls=self.written,
            bytes_received=known.bytes_received,
            requests=known.requests,
            retries=known.retries,
            window_splits=known.window_splits,
            skipped=known.skipped,
            elapsed=round(known.elapsed, 3),
            total_calls=sum(entry.rows for entry in there),
            open_partitions=tuple(sorted(entry.partition for entry in there if not entry.sealed)),
            verified=self.verified,
            mismatched_partitions=differing,
        )
