"""Lists what a backfill would read, without the directory's lock and without changing anything."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from attrs import field, frozen

from .._paging.types import SECOND
from ..errors import BackfillError
from ._directory import BackfillDirectory
from ._manifest import MANIFEST, Manifest
from ._partitions import partitions_in, partitions_to_read, requested_start, resolve_range
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
    share: float = field(default=1.0)


async def plan_backfill(job: Backfill) -> BackfillPlan:
    """What `job.run()` would read.

    Raises:
        BackfillError: the directory is of another backfill, or a Delta table.
    """
    time, query, timezone = job._time, job._query, job._timezone  # noqa: SLF001 - of this package
    directory = job._new_directory()  # noqa: SLF001 - as above
    if not isinstance(directory, BackfillDirectory):
        raise BackfillError(
            "a dry run cannot tell which days a Delta table has, as only the run itself may read that list",
            hint="iovox calls --dry-run estimates the whole range.",
        )
    reading = time.read()
    earliest, latest = time.earliest_now(reading), time.latest_now(reading)
    default = earliest.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    requested = requested_start(query, earliest, latest, timezone) or default
    data: list[bytes | None] = []
    await run_in_thread(partial(lambda: data.append(directory.storage.read(MANIFEST))))
    manifest = Manifest(job._job, requested)  # noqa: SLF001 - as above
    if data[0] is not None:
        manifest = Manifest.load(data[0], job._job, requested, location=directory.storage)  # noqa: SLF001 - as above
    first = requested_start(query, earliest, latest, timezone) or manifest.start
    start, stop = resolve_range(query, first, earliest, latest, timezone)
    to_read = partitions_to_read(start, stop, job._partitioning, manifest.entries)  # noqa: SLF001 - as above
    names = {part.name for part in to_read}
    final = [part.name for part in partitions_in(start, stop, job._partitioning) if part.name not in names]  # noqa: SLF001 - as above
    known = [name for name in sorted(names) if name in manifest.entries]
    missing = [name for name in sorted(names) if name not in manifest.entries]
    if not to_read:
        return BackfillPlan(tuple(final), (), ())
    begin, end = to_read[0].start, min(to_read[-1].stop, stop)
    seconds = sum((min(part.stop, stop) - part.start).total_seconds() for part in to_read)
    share = min(1.0, seconds / max(1.0, (end - begin).total_seconds()))
    return BackfillPlan(tuple(final), tuple(known), tuple(missing), begin, end - SECOND, share)
