"""The client for programs without an event loop: scripts, notebooks, Airflow tasks.

::

    from iovox_async.blocking import Insights

    with Insights() as insights:
        for call in insights.stream("2024-01-01", "2024-03-31", call_result="ANSWERED"):
            print(call.id, call.call_start, call.talk_time)

The names and parameters are those of `AsyncInsights`, `CallStream`, `CallFollower` and `Backfill`, without `async` and
`await`. The same code does the work, in a thread with an event loop that each session starts; calls come from it in batches.
"""

from __future__ import annotations

from ._session import Backfill, Insights
from ._stream import CallFollower, CallStream

__all__ = ["Backfill", "CallFollower", "CallStream", "Insights"]
