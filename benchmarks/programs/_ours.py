"""Where the programs of this project get their session: the one place that knows how it is opened."""

from __future__ import annotations

from typing import Any

from iovox_async import AsyncInsights

from ..measure import Job


def session(job: Job, **options: Any) -> AsyncInsights:
    return AsyncInsights(
        "bench",
        "bench-key",
        base_url=job.base_url,
        concurrency=job.concurrency,
        page_size=job.page_size,
        **options,
    )


async def count(insights: AsyncInsights, job: Job, probe) -> tuple[int, int]:
    """Stream the whole range, holding nothing."""
    calls = checksum = 0
    async with insights.stream(job.start, job.end) as stream:
        async for call in stream:
            if not calls:
                probe.first()
            calls += 1
            checksum += call.id
    return calls, checksum
