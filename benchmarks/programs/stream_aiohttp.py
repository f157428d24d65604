"""As `stream`, with aiohttp as the engine below httpx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpx_aiohttp import AiohttpTransport

from ._ours import count, session

if TYPE_CHECKING:
    from ..measure import Job, Probe


async def run(job: Job, probe: Probe) -> tuple[int, int]:
    async with session(job, transport=AiohttpTransport(trust_env=False)) as insights:
        return await count(insights, job, probe)
