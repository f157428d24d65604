"""Every call of the range, as records, in order, by a program without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iovox_async import Fields
from iovox_async.blocking import Insights

from ._ours import arguments

if TYPE_CHECKING:
    from ..measure import Job, Probe


def run(job: Job, probe: Probe) -> tuple[int, int]:
    count = checksum = 0
    with (
        Insights(**arguments(job)) as insights,
        insights.stream(job.start, job.end, fields=getattr(Fields, job.fields)) as stream,
    ):
        for call in stream:
            if not count:
                probe.first()
            count += 1
            checksum += call.id
    return count, checksum
