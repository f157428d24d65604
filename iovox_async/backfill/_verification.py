"""Compares what a backfill has written with the endpoint: the certificates of final partitions.

A certificate says what was read of a partition: how many calls, their lowest and highest id, a checksum of the ids, when, and
by which version. It is part of the manifest's entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .report import Certificate

if TYPE_CHECKING:
    from ._chunks import IdChecksum
    from ._manifest import ManifestEntry

__all__ = ["certificate_of", "compare_endpoint", "compare_file"]


def certificate_of(entry: ManifestEntry, problem: str = "") -> Certificate:
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


def compare_endpoint(entry: ManifestEntry, ids: IdChecksum) -> str:
    """How the ids that the endpoint has now differ from a partition's certificate; empty if they do not."""
    if str(ids) == entry.ids:
        return ""
    return _difference("the endpoint has", ids.rows, entry.rows + entry.skipped)


def compare_file(entry: ManifestEntry, ids: IdChecksum) -> str:
    """How the ids in the partition's file differ from its certificate; empty if they do not."""
    if str(ids) == entry.file_ids:
        return ""
    return _difference("the file holds", ids.rows, entry.rows)


def _difference(subject: str, rows: int, certified: int) -> str:
    if rows == certified:
        return f"{subject} other calls than were read, the same number"
    return f"{subject} {rows:,} calls, {certified:,} were read"
