"""The range to Parquet, a file a day, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

# Imported before the clock starts, as the imports of the peers are.
import pyarrow.parquet  # noqa: F401

import iovox_async.arrow._batches  # noqa: F401
from iovox_async import InsightsQuery
from iovox_async.backfill import Backfill

from ._ours import session

if TYPE_CHECKING:
    from ..measure import Job, Probe


async def run(job: Job, probe: Probe) -> tuple[int, int]:  # noqa: ARG001  files have no first record
    query = InsightsQuery(start_date=job.start, end_date=job.end)
    async with session(job) as insights:
        await Backfill(insights, query, Path(job.folder), format="parquet").run()
    return -1, -1  # the harness counts the files
