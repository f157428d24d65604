"""A process that forks backfills into a table or a directory, so that each begins at once and can be killed at any instant.

Reads a JSON document a line from stdin: the format, the table, and how many processes write to it. Prints their ids, waits for them, and prints
their exit codes: 0, or 1 if another backfill was writing.
"""

import asyncio
import json
import os
import sys
import traceback

import deltalake  # noqa: F401 - imported before the processes are forked
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet  # noqa: F401 - as above

from iovox_async import AsyncInsights, BackfillLockedError, InsightsQuery
from iovox_async.backfill import Backfill, _delta


async def run(table, name):
    async with AsyncInsights(timezone="UTC", page_size=100) as insights:
        query = InsightsQuery(start_date="2024-01-01", end_date="2024-01-10")
        # No day is final, so that days are merged or replaced; a commit for each hundred calls.
        await Backfill(insights, query, table, name, finality_delay=10**10).run()


def main():
    _delta.COMMIT_CALLS = 100
    for line in sys.stdin:
        job = json.loads(line)
        children = []
        for _ in range(job["processes"]):
            child = os.fork()
            if not child:
                try:
                    asyncio.run(run(job["table"], job["format"]))
                    os._exit(0)
                except BackfillLockedError:
                    os._exit(1)
                except BaseException:  # noqa: BLE001 - printed; a forked process must not return
                    traceback.print_exc()
                    sys.stderr.flush()
                    os._exit(2)
            children.append(child)
        sys.stdout.write(json.dumps(children) + "\n")
        sys.stdout.flush()
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        sys.stdout.write(json.dumps(codes) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
