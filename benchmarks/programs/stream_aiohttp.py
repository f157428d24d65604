"""As `stream`, with aiohttp as the engine below httpx."""

from __future__ import annotations

import aiohttp
from httpx_aiohttp import AiohttpTransport

from ..measure import Job, Probe
from ._ours import count, session


async def run(job: Job, probe: Probe) -> tuple[int, int]:
    async with session(job, transport=AiohttpTransport(client=aiohttp.ClientSession)) as insights:
        return await count(insights, job, probe)
