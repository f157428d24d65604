"""Lists what a backfill would read, without the directory's lock and without changing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from .._paging.types import SECOND
from ..errors import BackfillError
from ._directory import BackfillDirectory
from ._manifest import MANIFEST, Manifest
from ._partitions import default_start, partitions_in, partitions_to_read, requested_start, resolve_range
from ._tasks import run_in_thread

if TYPE_CHECKING:
    from datetime import datetime

    from ._runner import Backfill

__all__ = ["BackfillPlan", "plan_backfill"]


@frozen
class BackfillPlan:
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


async def plan_backfill(job: Backfill) -> BackfillPlan:
    """What `job.run()` would read.

    Raises:
        BackfillError: the directory is of another backfill, or a Delta table.
    """
    time, query, timezone = job._time, job._query, job._timezone  # noqa: SLF001 - of this package
    directory = job._new_directory()  # noqa: SLF001 - as above
    if not isinstance(directory, BackfillDirectory):
        raise BackfillError(
            "a dry run cannot tell which days a Delta table has, because only a run reads them",
            hint="iovox calls --dry-run estimates the whole range.",
        )
    reading = time.read()
    earliest, latest = time.earliest_now(reading), time.latest_now(reading)
    requested = requested_start(query, earliest, latest, timezone)
    data = await run_in_thread(lambda: directory.storage.read(MANIFEST))
    manifest = Manifest(job._job, requested or default_start(earliest))  # noqa: SLF001 - as above
    if data is not None:
        manifest = Manifest.load(data, job._job, manifest.start, location=directory.storage)  # noqa: SLF001 - as above
    start, stop = resolve_range(query, requested or manifest.start, earliest, latest, timezone)
    to_read = partitions_to_read(start, stop, job._partitioning, manifest.entries)  # noqa: SLF001 - as above
    names = {part.name for part in to_read}
    partitions = partitions_in(start, stop, job._partitioning)  # noqa: SLF001 - as above
    plan = BackfillPlan(
        final=tuple(part.name for part in partitions if part.name not in names),
        open=tuple(part.name for part in to_read if part.name in manifest.entries),
        missing=tuple(part.name for part in to_read if part.name not in manifest.entries),
    )
    if not to_read:
        return plan
    begin, end = to_read[0].start, min(to_read[-1].stop, stop)
    seconds = sum((min(part.stop, stop) - part.start).total_seconds() for part in to_read)
    share = min(1.0, seconds / max(1.0, (end - begin).total_seconds()))
    return evolve(plan, start=begin, end=end - SECOND, share=share)
