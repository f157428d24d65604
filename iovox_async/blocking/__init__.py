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

import importlib
from typing import TYPE_CHECKING, Any

from ._session import Insights
from ._stream import CallFollower, CallStream

if TYPE_CHECKING:
    from ._backfill import Backfill
else:
    # Imported when it is used, since it needs as much time as the rest. Hidden from type checkers, which would accept any name.

    def __getattr__(name: str) -> Any:
        if name != "Backfill":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = importlib.import_module("._backfill", __name__).Backfill
        return globals()[name]


__all__ = ["Backfill", "CallFollower", "CallStream", "Insights"]
