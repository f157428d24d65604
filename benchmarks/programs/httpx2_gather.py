"""Requests all pages concurrently and keeps them all, as `httpx_gather`, with httpx2."""

from __future__ import annotations

import httpx2

from ..measure import HEADERS, Job, Probe
from ._records import Call, converter, count_calls, gather_pages


async def run(job: Job, probe: Probe) -> tuple[int, int]:
    async with httpx2.AsyncClient(headers=HEADERS, timeout=60) as client:

        async def fetch(page: int) -> list[Call]:
            response = await client.get(job.url, params=job.parameters(page))
            response.raise_for_status()
            return converter.structure(response.json(), list[Call])

        calls = await gather_pages(fetch, job.concurrency, job.rows)
    return count_calls(calls, probe)
