"""Backfills into a folder, is killed or cancelled at any step, and backfills again.

When a run has ended well, the folder holds every call that existed all the time exactly once, no temporary file, and
another run sends nothing.
"""

from __future__ import annotations

import asyncio
import csv
import json
import random
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from . import _names
from .checker import Pull, check_error, check_pull
from .disk import Disk, KilledError
from .endpoint import at

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from .schedule import Use
    from .uses import Program
    from .world import World

__all__ = ["backfill_use"]

#: Runs after which it counts as one that never ends.
RUNS = 8
FINALITY_DELAY = timedelta(hours=2)
#: How much later the range of a backfill without an end is read again.
LATER = timedelta(days=6)
FIELDS = ("id", "call_start", "call_origin", "call_destination")


def _rows(folder: Path, form: str) -> list[tuple[str, str]]:
    """Reads the destination and the origin of every call in the folder."""
    rows: list[tuple[str, str]] = []
    for path in sorted(folder.glob(f"*=*/*.{form}")):
        if form == "parquet":
            import pyarrow.parquet as pq

            table = pq.read_table(path, partitioning=None, columns=["call_destination", "call_origin"])
            rows += zip(*(column.to_pylist() for column in table.columns), strict=True)
        elif form == "csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows += [(row["call_destination"], row["call_origin"]) for row in csv.DictReader(file)]
        else:
            with path.open(encoding="utf-8") as file:
                documents = [json.loads(line) for line in file]
            rows += [(row["call_destination"], row["call_origin"]) for row in documents]
    return rows


async def backfill_use(program: Program, use: Use) -> None:
    """Backfills a range, through a crash or a cancellation."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="simulation", dir=memory if memory.is_dir() else None))
    try:
        await _backfill(program, use, folder)
    finally:
        shutil.rmtree(folder)


async def _backfill(program: Program, use: Use, folder: Path) -> None:
    from .uses import cancelled_at

    world = program.world
    rng = random.Random(f"disk {program.schedule.seed}")
    disk = Disk(use.crash_at if use.crash else 0, rng, power=use.crash == "power", after=use.crash_after)
    end = None if use.open else at(use.end)
    query = _names.InsightsQuery(start_date=at(use.start), end_date=end, fields=FIELDS)

    def job() -> Any:
        return _names.backfill(
            program.insights,
            query,
            folder,
            form=use.format,
            finality_delay=FINALITY_DELAY,
            file_system=disk,
        )

    pull = Pull(use, world.endpoint.tick)
    if use.open:
        pull.until = world.now() + timedelta(seconds=min(0.0, program.schedule.skew))
    for number in range(RUNS):
        step = use.leave_at if use.leave == "cancel" and not number else None
        how, error = await cancelled_at(program, job().run(), step)
        world.trace("backfill", f"{how} {type(error).__name__ if error else ''} after {disk.changes} changes")
        if how == "ended":
            pull.complete = True
            break
        if isinstance(error, KilledError):
            disk.revive()
        elif error is not None:
            check_error(world, error, "a backfill")
            if isinstance(error, _names.BackfillError):
                world.violated("folder", f"run {number + 1} cannot use the folder: {error}")
                return
            await asyncio.sleep(_names.LOCKED_OUT + 1)
    if not pull.complete:
        return
    pull.ended = world.endpoint.tick
    for destination, origin in _rows(folder, use.format):
        pull.take(world, destination, origin, None, None)
    check_pull(world, pull)
    if stray := [path.name for path in folder.rglob("*.tmp")]:
        world.violated("folder", f"temporary files are left: {stray[:3]}")
    disk.revive()
    sent = len(world.exchanges)
    how, error = await cancelled_at(program, job().run(), None)
    if error is not None:
        check_error(world, error, "a second backfill")
    if len(world.exchanges) > sent and end is not None and end < _final_before(world):
        world.violated("again", f"a run of a finished job sent {len(world.exchanges) - sent} requests")
    if program.rng.random() < 0.3:
        await _verify(program, job(), pull)
    if use.open:
        await _later(program, job, pull, folder)
    elif use.refresh:
        await _refresh(program, job, pull, folder, disk)


async def _refresh(program: Program, job: Callable[[], Any], before: Pull, folder: Path, disk: Disk) -> None:
    """Reads all again, is killed meanwhile, and goes on with the next run, whatever was replaced by then."""
    from .uses import cancelled_at

    world, use = program.world, before.use
    for day in range(0, use.end, 86_400):
        # Another file of each day.
        world.endpoint.insert(at(day + program.rng.randrange(86_400)))
    disk.revive(use.crash_at)
    pull = Pull(use, before.began)
    for refresh in (True, False):
        work = _names.refresh(job()) if refresh else job().run()
        how, error = await cancelled_at(program, work, None)
        world.trace("backfill", f"again: {how} {type(error).__name__ if error else ''}")
        if error is not None and not isinstance(error, KilledError):
            check_error(world, error, "a refresh")
            if isinstance(error, _names.BackfillError):
                world.violated("folder", f"a run after a refresh cannot use the folder: {error}")
            return
        disk.revive()
    pull.complete, pull.ended = True, world.endpoint.tick
    for destination, origin in _rows(folder, use.format):
        pull.take(world, destination, origin, None, None)
    check_pull(world, pull)


async def _later(program: Program, job: Callable[[], Any], before: Pull, folder: Path) -> None:
    """Runs again days later, when all calls must be there that have arrived in time meanwhile."""
    from .uses import cancelled_at

    world, use = program.world, before.use
    begin = world.now()
    world.stop_motion()
    arrived = set()
    for _ in range(8):
        start = begin + program.rng.random() * (LATER + FINALITY_DELAY) - FINALITY_DELAY
        arrived.add(world.endpoint.insert(start.replace(microsecond=0)).id)
    await asyncio.sleep(LATER.total_seconds())
    until = world.now() + timedelta(seconds=min(0.0, program.schedule.skew))
    pull = Pull(use, before.began, until=until)
    _how, error = await cancelled_at(program, job().run(), None)
    if error is not None:
        check_error(world, error, "a backfill days later")
        return
    pull.complete, pull.ended = True, world.endpoint.tick
    for destination, origin in _rows(folder, use.format):
        pull.take(world, destination, origin, None, None)
    check_pull(world, pull)
    due = {number for number in arrived if world.endpoint.history[number][0].start <= until}
    if missed := due - {one.id for one in pull.got}:
        world.violated("lost", f"{len(missed)} calls arrived in time and are missing: {sorted(missed)[:5]}")


def _final_before(world: World) -> datetime:
    """The time by the account's clock before which calls are final, as far as the client can know."""
    utc = min(world.utcnow(), world.machine_utc())
    zone = world.schedule.timezone
    local = utc.replace(tzinfo=None) - timedelta(hours=12) if zone is None else utc.astimezone(ZoneInfo(zone))
    return local.replace(tzinfo=None) - FINALITY_DELAY


async def _verify(program: Program, job: Any, pull: Pull) -> None:
    """Verifies the folder, which must agree with the endpoint where no data changed since the first run."""
    from .uses import cancelled_at

    reports = []

    async def verify() -> None:
        reports.append(await job.verify())

    _how, error = await cancelled_at(program, verify(), None)
    if error is not None:
        check_error(program.world, error, "a verification")
    if reports and program.world.endpoint.tick == pull.began and (names := _names.mismatched(reports[0])):
        program.world.violated("verify", f"partitions differ although nothing changed: {names}")
