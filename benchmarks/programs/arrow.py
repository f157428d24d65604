"""Every call of the range, as Arrow record batches."""

from __future__ import annotations

import pyarrow.compute as pc

from ..measure import Job, Probe
from ._ours import session


async def run(job: Job, probe: Probe) -> tuple[int, int]:
    calls = checksum = 0
    async with session(job) as insights, insights.stream(job.start, job.end) as stream:
        async for batch in stream.arrow():
            if not calls:
                probe.first()
            calls += batch.num_rows
            checksum += pc.sum(batch["id"]).as_py() or 0
    return calls, checksum
