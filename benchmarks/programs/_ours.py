"""Where the programs of this project get their session: the one place that knows how it is opened."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from iovox_async import AsyncInsights, CallStream, Fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..measure import Job, Probe


@asynccontextmanager
async def session(job: Job, **options: Any) -> AsyncIterator[AsyncInsights]:
    """A session as a program opens it.

    The benchmark server speaks plain HTTP, for which a session of ours loads no certificates, while an `httpx` client
    always does (25 to 60 ms); over HTTPS both load them once, ours in a thread.
    """
    async with AsyncInsights(**arguments(job), **options) as insights:
        yield insights


def arguments(job: Job) -> dict[str, Any]:
    """The arguments of a session."""
    return {
        "username": "bench",
        "secure_key": "bench-key",
        "base_url": job.base_url,
        "concurrency": job.concurrency,
        "page_size": job.page_size,
    }


def calls_of(insights: AsyncInsights, job: Job) -> CallStream:
    """The stream of the whole range."""
    return insights.stream(job.start, job.end, fields=getattr(Fields, job.fields))


async def count(insights: AsyncInsights, job: Job, probe: Probe) -> tuple[int, int]:
    """Stream the whole range, holding nothing."""
    calls = checksum = 0
    async with calls_of(insights, job) as stream:
        async for call in stream:
            if not calls:
                probe.first()
            calls += 1
            checksum += call.id
    return calls, checksum
