"""Every call of the range, as records, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._ours import count, session

if TYPE_CHECKING:
    from ..measure import Job, Probe


async def run(job: Job, probe: Probe) -> tuple[int, int]:
    async with session(job) as insights:
        return await count(insights, job, probe)
