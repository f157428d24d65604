"""One plain page with `httpx.get`: what the time to the first record is compared with."""

from __future__ import annotations

import httpx

from ..measure import HEADERS, Job, Probe


def run(job: Job, probe: Probe) -> tuple[int, int]:
    response = httpx.get(job.url, params=job.parameters(), headers=HEADERS, timeout=60)
    probe.first()  # decoding the JSON is not counted
    calls = response.json()
    return len(calls), sum(call["id"] for call in calls)
