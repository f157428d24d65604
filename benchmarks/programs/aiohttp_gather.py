"""Every page at once, as `httpx_gather`, over aiohttp."""

from __future__ import annotations

import aiohttp

from ..measure import HEADERS, Job, Probe
from ._records import Call, converter, count_calls, gather_pages


async def run(job: Job, probe: Probe) -> tuple[int, int]:
    async with aiohttp.ClientSession(headers=HEADERS, raise_for_status=True) as client:

        async def fetch(page: int) -> list[Call]:
            async with client.get(job.url, params=job.parameters(page)) as response:
                return converter.structure(await response.json(), list[Call])

        calls = await gather_pages(fetch, job.concurrency, job.rows)
    return count_calls(calls, probe)
