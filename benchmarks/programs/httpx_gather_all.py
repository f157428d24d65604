"""Requests all pages concurrently and structures every field, transcriptions and phrases included, with cattrs."""

from __future__ import annotations

import httpx

from ..measure import HEADERS, Job, Probe
from ._records import InsightsCall, converter, count_calls, gather_pages


async def run(job: Job, probe: Probe) -> tuple[int, int]:
    async with httpx.AsyncClient(headers=HEADERS, timeout=60) as client:

        async def fetch(page: int) -> list[InsightsCall]:
            response = await client.get(job.url, params=job.parameters(page))
            response.raise_for_status()
            return converter.structure(response.json(), list[InsightsCall])

        calls = await gather_pages(fetch, job.concurrency, job.rows)
    return count_calls(calls, probe)
