"""Lists what a backfill would read, without the directory's lock and without changing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from .._paging.types import SECOND
from ._partitions import Partitioning, RequestedDates, partitions_in, partitions_to_read, total_seconds

if TYPE_CHECKING:
    from datetime import datetime

    from ._runner import Directory


class BackfillPlan(Struct, frozen=True):
    """What a backfill would read.

    Attributes:
        final: names of partitions that are there and no longer change.
        open: names of partitions that are there and would be read again.
        missing: names of partitions that are not there.
        start: the first second to read; None if there is nothing to read.
        end: the last second to read.
        share: the share of the seconds in between that would be read.
    """

    final: tuple[str, ...]
    open: tuple[str, ...]
    missing: tuple[str, ...]
    start: datetime | None = None
    end: datetime | None = None
    share: float = 1.0


def plan_run(directory: Directory, dates: RequestedDates, partitioning: Partitioning) -> BackfillPlan:
    """What a run would read; blocks.

    Raises:
        BackfillError: the directory is of another backfill, or cannot be read.
        QueryError: the end of the range is before its start.
    """
    manifest, held = directory.preview(dates.start, dates.default_start)
    start, stop = dates.resolve(dates.start or manifest.start)
    to_read = partitions_to_read(start, stop, partitioning, manifest.entries)
    names = {part.name for part in to_read}
    plan = BackfillPlan(
        final=tuple(part.name for part in partitions_in(start, stop, partitioning) if part.name not in names),
        open=tuple(part.name for part in to_read if part.name in held),
        missing=tuple(part.name for part in to_read if part.name not in held),
    )
    if not to_read:
        return plan
    begin, end = to_read[0].start, min(to_read[-1].stop, stop)
    clipped = [replace(part, stop=min(part.stop, stop)) for part in to_read]
    share = min(1.0, total_seconds(clipped) / max(1.0, (end - begin).total_seconds()))
    return replace(plan, start=begin, end=end - SECOND, share=share)
