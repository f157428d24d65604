"""Names every part of the package that the simulation touches, in one place.

The rest of the simulation imports the package through this module only, so a renamed argument, error or attribute is
a small edit here. Clocks and the random source are replaced by the test seam of the package, `iovox_async._runtime`.
"""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio

from iovox_async import AsyncInsights, InsightsQuery, IovoxError, RetryPolicy, SessionError
from iovox_async._fetching import fetcher
from iovox_async._paging import WindowPlan
from iovox_async._paging.evidence import Evidence
from iovox_async._runtime import Runtime, use_runtime
from iovox_async.backfill import Backfill
from iovox_async.backfill._storage_local import FileSystem
from iovox_async.errors import BackfillError, TransportError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from datetime import datetime, tzinfo

    import httpx

__all__ = [
    "BackfillError",
    "FileSystem",
    "InsightsQuery",
    "IovoxError",
    "SessionError",
    "TransportError",
]

#: The package's logger.
LOGGER = logging.getLogger("iovox_async")
#: Retries allowed to a session: a reserve, and this share of its successes, of which so many are saved up at most.
BUDGET_SHARE, BUDGET_RESERVE, BUDGET_CAPACITY = 0.2, 20, 100
#: Seconds for which a server is waited for that refuses connections and has never been reached.
FIRST_CONTACT = 10.0
#: Seconds after which a failure is forgotten.
FORGET = 60.0
#: Seconds after a 401 or 403 in which nothing is sent.
LOCKED_OUT = 30.0
#: Whether sessions have `with_options`.
HAS_WITH_OPTIONS = hasattr(AsyncInsights, "with_options")


@contextlib.contextmanager
def clocks(
    utcnow: Callable[[], datetime], monotonic: Callable[[], float], rng: random.Random
) -> Iterator[None]:
    """Lets what is made in the block read the clocks and the random source of the simulation."""
    with use_runtime(Runtime(clock=monotonic, sleep=anyio.sleep, random=rng, utcnow=utcnow)):
        yield


@contextlib.contextmanager
def first_page(rows: int) -> Iterator[None]:
    """Lets ranges begin with a page of so many rows and a full one at once, and their last third be read early, as in long ranges.

    0 changes nothing.
    """
    defaults, span = WindowPlan.__init__.__kwdefaults__, fetcher.EARLY_PAGE_RANGE
    usual, seconds_of_tail = defaults["first_page_rows"], Evidence.seconds_of_tail
    try:
        if rows:
            defaults["first_page_rows"], fetcher.EARLY_PAGE_RANGE = rows, timedelta(0)
            Evidence.seconds_of_tail = lambda _, _rows, start, stop: abs(stop - start) // timedelta(seconds=3)
        yield
    finally:
        defaults["first_page_rows"], fetcher.EARLY_PAGE_RANGE = usual, span
        Evidence.seconds_of_tail = seconds_of_tail


def open_session(
    transport: httpx.AsyncBaseTransport,
    *,
    key: str,
    concurrency: int,
    page_size: int | None,
    timeout: float,
    attempts: int,
    timezone: tzinfo | str | None,
) -> AsyncInsights:
    """Makes a session; its clocks are those of `clocks`."""
    return AsyncInsights(
        "user",
        key,
        base_url="https://rest.iovox.test/rest/v1",
        concurrency=concurrency,
        page_size=page_size,
        retry=RetryPolicy(max_attempts=attempts),
        timeout=timeout,
        timezone=timezone,
        transport=transport,
    )


def slots_in_use(insights: AsyncInsights) -> int:
    """Counts the requests that hold a slot of the session, as its repr shows it."""
    return int(repr(insights).partition(": ")[2].partition(" of ")[0].rpartition(" ")[2])


def pages_in_memory(insights: AsyncInsights) -> int:
    """Counts the pages that a session has received and that something still refers to."""
    return len(insights._connection.page_budget._pages)


def counts(stream: Any) -> dict[str, int]:
    """Reads the counts of a stream that the checker compares with its own."""
    stats = stream.stats
    return {
        "requests": stats.requests,
        "retries": stats.retries,
        "calls": stats.calls,
        "in_flight": stats.in_flight,
        "peak": stats.peak_buffered_pages,
        "splits": stats.window_splits,
    }


async def one_page(
    insights: AsyncInsights, start: datetime, end: datetime, *, page: int, page_size: int, **rest
):
    """Reads one page."""
    return await insights.page(start, end, page=page, page_size=page_size, **rest)


def follow(insights: AsyncInsights, since: datetime | None, *, interval: float, lookback: timedelta, **rest):
    """Starts to follow new calls."""
    return insights.follow(since, interval=interval, lookback=lookback, **rest)


def poll_counts(follower: Any) -> tuple[int, int]:
    """Counts the polls of a follower that ended, and those that failed."""
    return follower.poll_count, follower.failed_polls


def backfill(
    insights: AsyncInsights,
    query: InsightsQuery,
    directory: Any,
    *,
    form: str,
    finality_delay: timedelta,
    file_system: FileSystem,
) -> Backfill:
    """Makes a backfill that writes through the given file system; its clocks are those of `clocks`."""
    return Backfill._for_test(
        insights, query, directory, form, finality_delay=finality_delay, file_system=file_system
    )


def refresh(job: Backfill) -> Any:
    """Reads the final partitions of a backfill again."""
    return job.run(refresh=True)


def mismatched(report: Any) -> tuple[str, ...]:
    """Lists the partitions that a verification found to differ."""
    return report.mismatched_partitions
