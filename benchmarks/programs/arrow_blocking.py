"""Every call of the range, as Arrow record batches, by a program without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

# Imported before the clock starts, as the imports of the peers are.
import iovox_async.arrow._batches  # noqa: F401
from iovox_async import Fields
from iovox_async.blocking import Insights

from ._ours import arguments

if TYPE_CHECKING:
    from ..measure import Job, Probe


def run(job: Job, probe: Probe) -> tuple[int, int]:
    calls = checksum = 0
    with Insights(**arguments(job)) as insights:
        stream = insights.stream(job.start, job.end, fields=getattr(Fields, job.fields))
        for batch in pa.RecordBatchReader.from_stream(stream):
            if not calls:
                probe.first()
            calls += batch.num_rows
            checksum += pc.sum(batch["id"]).as_py() or 0
    return calls, checksum
