"""Defines the progress and the report of a backfill, and the counters they are made from."""

from __future__ import annotations

import os
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen

from .._runtime import Runtime, current_runtime
from .._wording import format_bytes, format_count
from ._partitions import total_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..stream import CallStream
    from ._manifest import ManifestEntry
    from ._partitions import PartitionRange

__all__ = ["BackfillProgress", "BackfillReport", "Certificate", "PartitionChanges", "RunCounters"]


#: How many mismatched partitions `str(report)` names.
_MAX_NAMED = 10


@frozen
class BackfillProgress:
    """A snapshot of a running backfill.

    Attributes:
        progress: finished share of the dates to read, 0 to 1; it is 1 only when the run has ended.
        partitions: partitions finished by this run.
        partitions_total: partitions that this run has to read.
        partitions_skipped: partitions of the range that earlier runs had finished.
        last_partition: name of the partition finished last.
        calls: calls received.
        bytes_received: bytes received, before decompression.
        requests: requests sent, including retries.
        retries: requests that were retries.
        window_splits: windows split because they kept failing.
        skipped: records left out because they could not be decoded (`on_error="skip"`).
        elapsed: seconds since the run started.
        run_id: identifies the run, in logs and in its report.
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
    run_id: str = ""


@frozen
class Certificate:
    """What was read of a final partition, and whether `verify` found the same.

    Attributes:
        partition: its name.
        calls: number of calls in its file.
        skipped: records left out because they could not be decoded (`on_error="skip"`).
        first_id: the lowest id of the calls; None if there are none.
        last_id: the highest.
        ids: a checksum of the ids, those of skipped records included.
        read_at: when they were read, in UTC.
        version: the version of this package that read them.
        problem: what differs now; empty if nothing does.
    """

    partition: str
    calls: int
    skipped: int = 0
    first_id: int | None = None
    last_id: int | None = None
    ids: str = ""
    read_at: datetime | None = None
    version: str = ""
    problem: str = ""


@frozen
class PartitionChanges:
    """What a run has changed in a partition.

    Attributes:
        partition: its name.
        inserted: calls that were not there before.
        updated: calls that hold other values than before.
        deleted_ids: ids of calls that the endpoint no longer has.
    """

    partition: str
    inserted: int = 0
    updated: int = 0
    deleted_ids: tuple[int, ...] = ()

    @property
    def deleted(self) -> int:
        """Calls that the endpoint no longer has."""
        return len(self.deleted_ids)


@frozen
class BackfillReport:
    """What a run did, and what the directory now holds. `report.json` holds it, also after a run that failed.

    `str(report)` is one line: partitions, calls, bytes, requests, rare events and seconds.

    Attributes:
        partitions: partitions written by this run.
        partitions_skipped: partitions of the range that earlier runs had finished.
        calls: calls written by this run.
        bytes_received: bytes received, before decompression.
        requests: requests sent, including retries.
        retries: requests that were retries.
        window_splits: windows split because they kept failing.
        skipped: records left out because they could not be decoded (`on_error="skip"`).
        elapsed: seconds the run took.
        total_calls: calls in the directory.
        open_partitions: names of partitions whose calls may still change; the next run over them reads them again.
        verified: partitions compared with the endpoint (only `verify`).
        mismatched_partitions: names of partitions that differed and were read again (only `verify`).
        certificates: what was read of each partition before, and what differed (only `verify`).
        inserted: calls of this run that were not there before.
        updated: calls of this run that hold other values than before.
        deleted: calls that the endpoint no longer has.
        changes: the same for each partition, with the ids of deleted calls.
        status: "done", "failed" or "interrupted".
        error: the class and message of the error that ended a failed run.
        run_id: identifies the run, in logs and progress.
        started_at: when the run started, in UTC.
        finished_at: when it ended.
        account: the API user and the address of the service.
        folder: the directory.
        failing_since: when the first of several failed runs in a row started; None after a run that is done.
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
    certificates: tuple[Certificate, ...] = ()
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    changes: tuple[PartitionChanges, ...] = ()
    status: str = "done"
    error: str | None = None
    run_id: str = ""
    started_at: str = ""
    finished_at: str = ""
    account: str = ""
    folder: str = ""
    failing_since: str | None = None

    def __str__(self) -> str:
        if self.verified:
            names = self.mismatched_partitions
            more = f" and {len(names) - _MAX_NAMED:,} more" if len(names) > _MAX_NAMED else ""
            mismatches = format_count(len(names), "mismatch", "mismatches")
            again = f"{mismatches} downloaded again: {', '.join(names[:_MAX_NAMED])}{more}"
            result = again if names else "no mismatches"
            return f"{format_count(self.verified, 'partition')} verified, {result} ({self._cost})"
        if self.partitions_skipped and not self.partitions:
            return (
                f"{format_count(self.partitions_skipped, 'partition')} already complete, nothing to download"
            )
        written = format_count(self.partitions, "partition written", "partitions written")
        complete = f", {self.partitions_skipped:,} already complete" if self.partitions_skipped else ""
        return f"{written}{complete}: {format_count(self.calls, 'call')}, {self._cost}"

    @property
    def _cost(self) -> str:
        counts = (
            (self.retries, "retry", "retries"),
            (self.window_splits, "window split", "window splits"),
            (self.skipped, "record skipped", "records skipped"),
        )
        parts = [f"{format_bytes(self.bytes_received)} in {format_count(self.requests, 'request')}"]
        parts += [format_count(*count) for count in counts if count[0]]
        return ", ".join([*parts, f"{self.elapsed:.1f} s"])

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON data, as in `report.json`."""
        return asdict(self, value_serializer=_to_json)


#: The counters that progress and report add up over streams; `StreamStats` has the same names.
_STREAM_COUNTERS = ("calls", "bytes_received", "requests", "retries", "window_splits", "skipped")


class RunCounters:
    """The counters of a running backfill, which starts when they are made."""

    def __init__(self, runtime: Runtime | None = None) -> None:
        self.runtime: Runtime = runtime or current_runtime()
        self.started_at: float = self.runtime.clock()
        self.started: datetime = self.runtime.utcnow()
        self.run_id: str = os.urandom(4).hex()
        self.partitions_total: int = 0
        self.partitions_skipped: int = 0
        self.seconds_to_read: float = 0.0
        self.partitions: int = 0
        self.calls_written: int = 0
        self.last_partition: str | None = None
        self.finished: bool = False
        self.verified: int = 0
        self.certificates: list[Certificate] = []
        self.final_report: BackfillReport | None = None
        self._closed_streams = dict.fromkeys(_STREAM_COUNTERS, 0)
        self._closed_seconds = 0.0
        self._open_streams: dict[CallStream, float] = {}
        self._mutex = threading.Lock()

    def add_partitions_to_read(self, ranges: Sequence[PartitionRange]) -> None:
        self.partitions_total += len(ranges)
        self.seconds_to_read += total_seconds(ranges)

    def stream_opened(self, stream: CallStream, seconds: float) -> None:
        """Counts a stream over this many seconds of call time from now on."""
        with self._mutex:
            self._open_streams[stream] = seconds

    def stream_closed(self, stream: CallStream) -> None:
        with self._mutex:
            self._closed_seconds += self._open_streams.pop(stream) * stream.stats.progress
            _add_stats(self._closed_streams, stream)

    def partition_finished(self, entry: ManifestEntry) -> None:
        """Counts a partition that is in the directory; may be called in any thread."""
        with self._mutex:
            self.partitions += 1
            self.calls_written += entry.rows
            self.last_partition = entry.partition

    def partitions_lost(self, entries: Iterable[ManifestEntry]) -> None:
        """Takes back partitions that could not be added to the manifest: the next run reads them again."""
        for entry in entries:
            self.partitions -= 1
            self.calls_written -= entry.rows

    def progress(self) -> BackfillProgress:
        """A snapshot of the run; may be made in any thread."""
        with self._mutex:
            totals, seconds = dict(self._closed_streams), self._closed_seconds
            for stream, stream_seconds in self._open_streams.items():
                _add_stats(totals, stream)
                seconds += stream_seconds * stream.stats.progress
        share = seconds / self.seconds_to_read if self.seconds_to_read else 0.0
        return BackfillProgress(
            # Received calls are not on the disk yet.
            progress=1.0 if self.finished else min(0.999, share),
            partitions=self.partitions,
            partitions_total=self.partitions_total,
            partitions_skipped=self.partitions_skipped,
            last_partition=self.last_partition,
            elapsed=self.runtime.clock() - self.started_at,
            run_id=self.run_id,
            **totals,
        )

    def report(self, entries: Iterable[ManifestEntry], changes: Iterable[PartitionChanges]) -> BackfillReport:
        """The report of the run, given the entries of the manifest after it, and what it has changed."""
        changes = sorted(changes, key=lambda change: change.partition)
        progress, entries = self.progress(), list(entries)
        totals = {name: getattr(progress, name) for name in _STREAM_COUNTERS} | {"calls": self.calls_written}
        return BackfillReport(
            partitions=self.partitions,
            partitions_skipped=self.partitions_skipped,
            elapsed=round(progress.elapsed, 3),
            run_id=self.run_id,
            total_calls=sum(entry.rows for entry in entries),
            open_partitions=tuple(sorted(entry.partition for entry in entries if not entry.final)),
            verified=self.verified,
            mismatched_partitions=tuple(
                certificate.partition for certificate in self.certificates if certificate.problem
            ),
            certificates=tuple(self.certificates),
            inserted=sum(change.inserted for change in changes),
            updated=sum(change.updated for change in changes),
            deleted=sum(change.deleted for change in changes),
            changes=tuple(changes),
            **totals,
        )


def _to_json(_instance: object, _attribute: object, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def _add_stats(totals: dict[str, int], stream: CallStream) -> None:
    for name in totals:
        totals[name] += getattr(stream.stats, name)
