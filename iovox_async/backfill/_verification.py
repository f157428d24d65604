"""Compares what a backfill has written with the endpoint: the certificates of final partitions.

A certificate says what was read of a partition: how many calls, their lowest and highest id, a checksum of the ids, when, and
by which version. It is part of the manifest's entry.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ._partitions import PartitionRange, adjacent_groups
from ._tasks import run_concurrently, run_in_thread
from .report import Certificate

if TYPE_CHECKING:
    from ._chunks import IdChecksum
    from ._manifest import ManifestEntry
    from ._reading import PartitionReader
    from ._runner import Directory


async def verify_partitions(
    reader: PartitionReader, directory: Directory, ranges: list[PartitionRange]
) -> list[Certificate]:
    """Compares final partitions with the endpoint and with their files.

    Args:
        reader: reads the ids that the endpoint has now, and counts them.
        directory: the directory, whose files have been checked.
        ranges: the partitions.

    Returns:
        The certificates of these partitions and of damaged ones, each with what differs.
    """
    entries, problems = directory.manifest.entries, dict(directory.damaged)

    def compare_files(group: list[PartitionRange]) -> None:
        for entry in (entries[part.name] for part in group if part.name not in problems):
            if problem := _compare_file(entry, directory.file_ids(entry)):
                problems[entry.partition] = problem

    async def compare(group: list[PartitionRange]) -> None:
        for name, ids in (await reader.fetch_id_checksums(group, directory.heartbeat)).items():
            if problem := _compare_endpoint(entries[name], ids):
                problems[name] = "; ".join(filter(None, (problem, problems.get(name))))
        await run_in_thread(partial(compare_files, group))

    reader.counters.add_partitions_to_read(ranges)
    await run_concurrently([partial(compare, group) for group in adjacent_groups(ranges)])
    names = sorted({part.name for part in ranges} | problems.keys())
    return [_certificate(entries[name], problems.get(name, "")) for name in names]


def _certificate(entry: ManifestEntry, problem: str) -> Certificate:
    """The certificate of a partition, with what is wrong with it."""
    return Certificate(
        partition=entry.partition,
        calls=entry.rows,
        skipped=entry.skipped,
        first_id=entry.first_id,
        last_id=entry.last_id,
        ids=entry.ids,
        read_at=entry.read_at,
        version=entry.version,
        problem=problem,
    )


def _compare_endpoint(entry: ManifestEntry, ids: IdChecksum) -> str:
    """How the ids that the endpoint has now differ from a partition's certificate; empty if they do not."""
    if str(ids) == entry.ids:
        return ""
    return _difference("the endpoint has", ids.rows, entry.rows + entry.skipped)


def _compare_file(entry: ManifestEntry, ids: IdChecksum) -> str:
    """How the ids in the partition's file differ from its certificate; empty if they do not."""
    if str(ids) == entry.file_ids:
        return ""
    return _difference("the file holds", ids.rows, entry.rows)


def _difference(subject: str, rows: int, certified: int) -> str:
    if rows == certified:
        return f"{subject} other calls than were read, the same number"
    return f"{subject} {rows:,} calls, {certified:,} were read"
