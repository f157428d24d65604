"""Every call of the range, as Arrow record batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

# Imported before the clock starts, as the imports of the peers are.
import iovox_async.arrow._batches  # noqa: F401

from ._ours import calls_of, session

if TYPE_CHECKING:
    from ..measure import Job, Probe


async def run(job: Job, probe: Probe) -> tuple[int, int]:
    calls = checksum = 0
    async with session(job) as insights, calls_of(insights, job) as stream:
        async for batch in stream.arrow():
            if not calls:
                probe.first()
            calls += batch.num_rows
            checksum += pc.sum(batch["id"]).as_py() or 0
    return calls, checksum
