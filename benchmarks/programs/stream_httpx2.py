"""As `stream`, with httpx2 as the library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._ours import count, session

if TYPE_CHECKING:
    from ..measure import Job, Probe


async def run(job: Job, probe: Probe) -> tuple[int, int]:
    async with session(job, engine="httpx2") as insights:
        return await count(insights, job, probe)
