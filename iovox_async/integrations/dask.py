"""Reads calls as a Dask DataFrame: each partition covers a part of the date range and is read by the worker that needs it.

Invariant: the endpoint receives at most `concurrency` requests at a time for an account, whatever the number of workers and
frames. A partition sends one request at a time, and holds one of `concurrency` leases meanwhile: of the scheduler
(`distributed.Semaphore`) on a cluster, else of this machine, as locks on files, which the system frees with their process.

::

    from iovox_async.integrations.dask import read_calls

    frame = read_calls("2024-01-01", "2024-12-31", npartitions=52)
    frame.groupby("call_result").talk_time.sum().compute()
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import hashlib
import operator
import os
import pickle
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .._paging import SECOND
from .._paging.spec import add_fields, to_local_time
from .._platform import lock_file
from ..client import AsyncInsights
from ..errors import ConfigurationError, MissingExtraError, QueryError
from ..fields import Fields
from ..query import InsightsQuery
from ._nested import nested_to_json

try:
    import cloudpickle
    import dask.dataframe as dd
    import pandas as pd
    import pyarrow as pa
    from dask.base import tokenize
except ImportError as _error:
    raise MissingExtraError("iovox_async.integrations.dask", "dask") from _error

from ..arrow import schema_for

if TYPE_CHECKING:
    from ..fields import FieldNames

__all__ = ["read_calls"]

_MAX_DEFAULT_PARTITIONS: Final = 1_000
_DAY: Final = 86_400
#: Seconds between two tries to get a lease of this machine.
_LEASE_INTERVAL: Final = 0.02


def read_calls(
    start: str | date,
    end: str | date,
    *,
    fields: FieldNames = Fields.DEFAULT,
    npartitions: int | None = None,
    concurrency: int = 8,
    session: Mapping[str, Any] | None = None,
    **stream_options: Any,
) -> dd.DataFrame:
    """The calls of a date range as a Dask DataFrame, indexed by `call_start` with known divisions, Arrow-backed.

    Durations are whole seconds, and nested fields are JSON text, since pandas cannot read nested Arrow columns back from a
    Parquet file that it wrote.

    No request is sent until the frame is computed. Workers take the credentials from their environment, so that no key
    travels through the scheduler, unless `session` contains them. Then they are part of the graph, in a form that no repr,
    log, traceback or dashboard shows; it is not encrypted, so whoever can run code on the cluster can recover it.

    Args:
        start: the first second, inclusive.
        end: the last second, inclusive.
        fields: which fields to request; `call_start` is added as the index.
        npartitions: number of partitions, of equal duration; None means one per day, at most 1,000.
        concurrency: maximum number of requests in flight for the account, over all workers and all frames with the same
            value: of a cluster, or, without one, of the threads and processes of this user on this machine.
        session: arguments of `AsyncInsights`; None takes them from the environment.
        **stream_options: arguments of `AsyncInsights.stream`: filters, page_size, on_error, ...

    Raises:
        QueryError: an option is unknown or cannot be combined with partitions, or the dates are aware.
        ConfigurationError: npartitions or concurrency is not a positive integer.
        MissingExtraError: dask, pandas or pyarrow is not installed.
    """
    # The key leaves the local variables at once, so that a traceback that shows them cannot show it.
    arguments, session = _Private({**(session or {}), "concurrency": 1}), None
    for option in ("order", "ordered", "resume", "max_calls", "paging", "query"):
        if option in stream_options:
            raise QueryError(option, "must not be set for the Dask reader")
    _check_positive_integer("concurrency", concurrency)
    if arguments.reveal().get("timezone") is not None:
        raise QueryError("timezone", "must not be set for the Dask reader: divisions are naive local times")
    filters = {name: value for name, value in stream_options.items() if name not in {"page_size", "on_error"}}
    query = InsightsQuery.from_arguments(start, end, fields=fields, **filters)
    to_local_time(query, None)  # raises if a date is aware
    assert query.start_date is not None
    assert query.end_date is not None
    requested, _ = add_fields(query.fields, ("call_start",))
    edges = _split_range(query.start_date, query.end_date + SECOND, npartitions)
    options = {**stream_options, "fields": tuple(map(str, requested))}
    return dd.from_map(
        _read_partition,
        [(first, stop - SECOND) for first, stop in pairwise(edges)],
        options=_Private(options),
        session=arguments,
        concurrency=concurrency,
        meta=_to_frame(schema_for(requested).empty_table()),
        divisions=[*map(pd.Timestamp, edges[:-1]), pd.Timestamp(edges[-1] - SECOND)],
        label="read-calls",
    )


class _Private:
    """Keyword arguments, of which only the names are visible: values may be keys, passwords or phone numbers.

    Neither its repr nor its pickle contains a value in readable form.
    """

    __slots__ = ("reveal",)

    def __init__(self, values: dict[str, Any]) -> None:
        #: Returns the arguments; only its closure holds them.
        self.reveal: Callable[[], dict[str, Any]] = lambda: values

    def __repr__(self) -> str:
        return f"<{', '.join(sorted(self.reveal()))}>"

    def __reduce__(self) -> tuple[Any, ...]:
        data = cloudpickle.dumps(self.reveal())
        pad = secrets.token_bytes(len(data))
        return _unpickle_private, (pad, _xor(data, pad))

    def __dask_tokenize__(self) -> str:
        values = {name: value for name, value in self.reveal().items() if name not in {"secure_key", "proxy"}}
        token: str = tokenize(sorted(values.items(), key=str))
        return token


def _unpickle_private(pad: bytes, data: bytes) -> _Private:
    return _Private(pickle.loads(_xor(data, pad)))  # noqa: S301 - what this process or its client has pickled


def _xor(data: bytes, pad: bytes) -> bytes:
    return bytes(map(operator.xor, data, pad))


def _check_positive_integer(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(name, f"must be a positive integer, got {value!r}")


def _split_range(start: datetime, stop: datetime, npartitions: int | None) -> list[datetime]:
    """The first second of each partition, and the second after the last."""
    seconds = int((stop - start) / SECOND)
    if npartitions is None:
        npartitions = min(_MAX_DEFAULT_PARTITIONS, -(-seconds // _DAY))
    _check_positive_integer("npartitions", npartitions)
    count = min(npartitions, seconds)
    return [start + (index * seconds // count) * SECOND for index in range(count + 1)]


def _read_partition(
    dates: tuple[datetime, datetime],
    *,
    options: _Private,
    session: _Private,
    concurrency: int,
) -> pd.DataFrame:
    """Reads one partition, in any process and thread."""
    client = AsyncInsights(**session.reveal())

    async def read() -> pa.Table:
        async with client as insights, insights.stream(*dates, **options.reveal()) as stream:
            batches = [batch async for batch in stream.arrow()]
        return pa.Table.from_batches(batches, schema_for(options.reveal()["fields"]))

    with _lease(client.account, concurrency):
        return _to_frame(asyncio.run(read()))


def _to_frame(table: pa.Table) -> pd.DataFrame:
    frame = nested_to_json(table).to_pandas(types_mapper=pd.ArrowDtype)
    frame["call_start"] = frame["call_start"].astype("datetime64[us]")
    return frame.set_index("call_start")


def _lease(account: str, leases: int) -> AbstractContextManager[Any]:
    """One of the leases of an account: of the scheduler if this runs in a worker of a cluster, else of this machine."""
    name = f"iovox-{hashlib.sha256(account.encode()).hexdigest()[:16]}"
    with contextlib.suppress(ImportError, ValueError):
        from distributed import Semaphore, get_worker

        get_worker()
        return Semaphore(max_leases=leases, name=f"{name}-{leases}")
    return _machine_lease(name, leases)


#: The user of this process. In a container the number may have no name, and Windows has no numbers.
_user: Callable[[], object] = getattr(os, "getuid", getpass.getuser)


@contextlib.contextmanager
def _machine_lease(name: str, leases: int) -> Iterator[None]:
    """Holds a lock on one of `leases` files; waits until one is free."""
    directory = Path(tempfile.gettempdir(), f"{name}-{_user()}")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        problem = f"needs a directory for temporary files: cannot create {directory} ({error.strerror})"
        raise ConfigurationError("concurrency", problem) from error
    while True:
        for number in range(leases):
            with (directory / str(number)).open("ab") as file:
                try:
                    lock_file(file)
                except (BlockingIOError, PermissionError):
                    continue
                yield
                return
        time.sleep(_LEASE_INTERVAL)
