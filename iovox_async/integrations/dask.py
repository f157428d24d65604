"""Dask: calls as a DataFrame of many partitions, one a stretch of the range, read wherever the workers are.

The law of this room: the endpoint never sees more requests at a time than were asked for, whatever the number of
workers. A partition holds one lease while it reads, and reads with one request at a time; there are as many leases as
`concurrency`. On a cluster the leases are the scheduler's (`distributed.Semaphore`), elsewhere this process's.

::

    from iovox_async.integrations.dask import read_calls

    frame = read_calls("2024-01-01", "2024-12-31", npartitions=52)
    frame.groupby("call_result").talk_time_sec.sum().compute()
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .._paging.spec import to_local_time
from ..client import AsyncInsights
from ..errors import ConfigurationError, MissingExtraError, QueryError
from ..fields import Field, Fields
from ..query import InsightsQuery

try:
    import dask.dataframe as dd
    import pandas as pd
    import pyarrow as pa
    from dask.base import tokenize
except ImportError as _error:
    raise MissingExtraError("iovox_async.integrations.dask", "dask") from _error

from ..arrow import schema_for

if TYPE_CHECKING:
    from ..fields import AskedFields

__all__ = ["read_calls"]

SECOND = timedelta(seconds=1)


def read_calls(
    start: str | date,
    end: str | date,
    *,
    fields: AskedFields = Fields.DEFAULT,
    npartitions: int | None = None,
    concurrency: int = 8,
    session: Mapping[str, Any] | None = None,
    **stream_options: Any,
) -> dd.DataFrame:
    """The calls of a range as a Dask DataFrame, indexed by `call_start` with known divisions, Arrow-backed.

    Nothing is read until the frame is computed. Credentials are read from the environment where the partitions are read,
    so that no key travels through the scheduler, unless `session` holds them.

    Args:
        start: the first second, inclusive.
        end: the last second, inclusive.
        fields: what to ask for; `call_start` becomes the index.
        npartitions: stretches of equal time; None: one a day, at most 1,000.
        concurrency: requests in flight over all workers, at most.
        session: arguments of `AsyncInsights`; else the environment's.
        **stream_options: arguments of `AsyncInsights.stream`: filters, page_size, on_error, ...

    Raises:
        QueryError: an option that a stream does not take, or dates that a cluster could not agree on.
        ConfigurationError: a number out of range.
        MissingExtraError: dask, pandas or pyarrow is not installed.
    """
    for option in ("order", "ordered", "resume", "max_calls", "paging", "query"):
        if option in stream_options:
            raise QueryError(option, "the Dask reader chooses it; leave it out")
    if concurrency < 1:
        raise ConfigurationError(f"concurrency: a whole number from 1 is wanted, not {concurrency!r}")
    settings = dict(session or {})
    if settings.get("timezone") is not None:
        raise QueryError("timezone", "divisions are naive, account-local times; leave timezone= out")
    filters = {name: value for name, value in stream_options.items() if name not in {"page_size", "on_error"}}
    query = InsightsQuery.from_arguments(start, end, fields=fields, **filters)
    to_local_time(query, None)
    asked = query.fields or Fields.DEFAULT
    if Field.CALL_START not in asked:
        asked = (*asked, Field.CALL_START)
    assert query.start_date is not None
    assert query.end_date is not None
    edges = _edges(query.start_date, query.end_date + SECOND, npartitions)
    stretches = [(lo, hi - SECOND) for lo, hi in pairwise(edges)]
    options = {**stream_options, "fields": tuple(map(str, asked))}
    token = tokenize(edges, concurrency, sorted(options.items(), key=str))
    return dd.from_map(
        _read,
        stretches,
        options=options,
        session={**settings, "concurrency": 1},
        leases=(f"iovox-{token}", concurrency),
        meta=_frame(schema_for(asked).empty_table()),
        divisions=[*(pd.Timestamp(edge) for edge in edges[:-1]), pd.Timestamp(edges[-1] - SECOND)],
        label="read-calls",
    )


def _edges(lo: datetime, hi: datetime, npartitions: int | None) -> list[datetime]:
    """The seconds at which stretches begin, and the one after the last."""
    total = int((hi - lo) / SECOND)
    wanted = min(1_000, -(-total // 86_400)) if npartitions is None else npartitions
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise ConfigurationError(f"npartitions: a whole number from 1 is wanted, not {npartitions!r}")
    count = min(wanted, total)
    return [lo + (number * total // count) * SECOND for number in range(count + 1)]


def _read(
    stretch: tuple[datetime, datetime],
    *,
    options: dict[str, Any],
    session: dict[str, Any],
    leases: tuple[str, int],
) -> pd.DataFrame:
    """One partition, in whatever process and thread it is read."""

    async def pull() -> pa.Table:
        async with AsyncInsights(**session) as insights, insights.stream(*stretch, **options) as stream:
            batches = [batch async for batch in stream.arrow()]
        return pa.Table.from_batches(batches, schema_for(options["fields"]))

    with _lease(*leases):
        return _frame(asyncio.run(pull()))


def _frame(table: pa.Table) -> pd.DataFrame:
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    frame["call_start"] = frame["call_start"].astype("datetime64[us]")
    return frame.set_index("call_start")


_local: dict[tuple[str, int], threading.BoundedSemaphore] = {}
_guard = threading.Lock()


def _lease(name: str, count: int) -> AbstractContextManager[Any]:
    """The right to read: the scheduler's to give on a cluster, else this process's."""
    with contextlib.suppress(ImportError, ValueError):
        from distributed import Semaphore, get_worker

        get_worker()
        return Semaphore(max_leases=count, name=name)
    with _guard:
        return _local.setdefault((name, count), threading.BoundedSemaphore(count))
