"""Loads calls with dlt: a resource of Arrow tables, merged on `id` and incremental on `call_start`.

::

    import dlt
    from iovox_async.integrations import dlt as iovox

    pipeline = dlt.pipeline("iovox", destination="duckdb", dataset_name="telephony")
    pipeline.run(iovox.calls("2024-01-01", fields=Fields.ALL))

Invariants:

- The pipeline's state lists, for each account and each set of filters, the times whose calls are loaded. A run reads what its
  dates have beyond these.
- The time of a call that lies in the future does not count as loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from attrs import evolve

from .._paging import SECOND
from .._paging.spec import FINALITY_DELAY, to_local_time
from .._params.timezones import zone_of
from ..backfill._job import filter_checksums
from ..client import AsyncInsights
from ..errors import MissingExtraError, QueryError
from ..fields import Fields
from ..query import InsightsQuery
from ..retry import seconds
from ._nested import nested_to_json

try:
    import dlt
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as _error:
    raise MissingExtraError("iovox_async.integrations.dlt", "dlt") from _error

if TYPE_CHECKING:
    from dlt.extract import DltResource

__all__ = ["calls"]

#: The key of the pipeline's state that holds the loaded ranges.
LOADED_RANGES: Final = "loaded_ranges"
#: The options of a stream that are no filters.
_STREAM_OPTIONS: Final = frozenset({"query", "fields", "page_size", "max_calls", "on_error"})
_MAX_LOOKBACK: Final = timedelta(days=36_500)
_FIRST, _LAST = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001 - local times of the account

#: The first second whose calls are loaded, and the start of the latest call loaded; naive, local time of the account.
LoadedRange: TypeAlias = tuple[datetime, datetime]


def calls(
    start: str | date,
    end: str | date | None = None,
    *,
    lookback: float | timedelta = FINALITY_DELAY,
    name: str = "calls",
    session: Mapping[str, Any] | None = None,
    **stream_options: Any,
) -> DltResource:
    """A dlt resource with the calls of a date range.

    A later run starts `lookback` before the latest call that the pipeline has loaded, so that late calls and late
    transcripts are merged. An earlier start also loads what lies before. Each account and each set of filters counts by
    itself; other fields do not load again what is loaded.

    Durations are whole seconds. Nested fields become JSON, because dlt's tables have no such types. Dates have a time zone at
    the destination only if the session has one.

    Args:
        start: the first second.
        end: the last second, inclusive; None means now.
        lookback: seconds, or a timedelta, before the latest loaded call from which on each run reads again.
        name: the name of the resource and its table.
        session: arguments of `AsyncInsights`; None takes them from the environment.
        **stream_options: arguments of `AsyncInsights.stream`: fields, filters, page_size, ...

    Raises:
        QueryError: an option is unknown or would break the merge.
        ConfigurationError: the look-back or the time zone is invalid.
        MissingExtraError: dlt or pyarrow is not installed.
    """
    for option in ("order", "ordered", "resume", "paging"):
        if option in stream_options:
            raise QueryError(option, "must not be set for the dlt source")
    overlap = timedelta(seconds=min(seconds(lookback, "lookback"), _MAX_LOOKBACK.total_seconds()))
    timezone = zone_of((session or {}).get("timezone"))
    filters = {key: value for key, value in stream_options.items() if key not in _STREAM_OPTIONS}
    query = InsightsQuery.from_arguments(
        start,
        end,
        query=stream_options.get("query"),
        fields=stream_options.get("fields", Fields.DEFAULT),
        default_fields=Fields.DEFAULT,
        **filters,
    )
    fields = query.fields or Fields.DEFAULT
    if "id" not in fields or "call_start" not in fields:
        raise QueryError(
            "response_fields", "must include id and call_start: dlt merges on id, and continues by call_start"
        )
    query = to_local_time(query, timezone)
    first, last = query.start_date, query.end_date or _LAST
    if first is None:
        raise QueryError("start_date", "must be set for the dlt source")
    if query.order is not None:
        raise QueryError("order", "must not be set for the dlt source")
    range_query = evolve(query, start_date=None, end_date=None)
    options = {key: stream_options[key] for key in ("page_size", "on_error") if key in stream_options}
    max_calls: int | None = stream_options.get("max_calls")
    # Without a time zone, dates are local times of the account; dlt would take them for UTC.
    dates = ("call_start", "call_end") if timezone is None else ()
    hints: dict[str, Any] = {
        date_name: {"data_type": "timestamp", "timezone": False} for date_name in dates if date_name in fields
    }

    @dlt.resource(name=name, primary_key="id", write_disposition="merge", columns=hints)  # type: ignore[untyped-decorator]  # dlt's
    async def resource() -> AsyncIterator[pa.Table]:
        all_ranges = dlt.current.resource_state().setdefault(LOADED_RANGES, {})
        async with AsyncInsights(**(session or {})) as insights:
            key = _state_key(insights.account, query)
            loaded = [
                (datetime.fromisoformat(a), datetime.fromisoformat(b)) for a, b in all_ranges.get(key, ())
            ]

            def add(range_start: datetime, latest: datetime) -> None:
                if latest >= range_start:
                    loaded[:] = _merged([*loaded, (range_start, latest)])
                    all_ranges[key] = [[a.isoformat(), b.isoformat()] for a, b in loaded]

            remaining = max_calls
            for range_start, range_end, is_gap in _missing(first, last, [*loaded], overlap):
                stream = insights.stream(
                    range_start,
                    None if range_end == _LAST else range_end,
                    query=range_query,
                    fields=fields,
                    max_calls=remaining,
                    **options,
                )
                async with stream:
                    async for batch in stream.arrow():
                        if batch.num_rows:
                            latest = pc.max(batch.column("call_start")).as_py()
                            latest = latest if timezone is None else latest.astimezone(timezone)
                            # A start in the future must not move the next run past calls to come.
                            complete_until = stream.stats.complete_until
                            assert complete_until is not None
                            until = complete_until.replace(tzinfo=None) + FINALITY_DELAY
                            add(range_start, min(latest.replace(tzinfo=None), until))
                        yield _to_dlt_types(batch)
                if remaining is not None:
                    remaining -= stream.stats.calls
                    if remaining <= 0:
                        return
                if is_gap:
                    add(range_start, range_end + SECOND)

    return resource()


def _state_key(account: str, query: InsightsQuery) -> str:
    """Identifies an API user and a set of filters; the values of filters may be phone numbers."""
    user = account.rpartition(" at ")[0]
    return hashlib.sha256(json.dumps([user, filter_checksums(query)], sort_keys=True).encode()).hexdigest()[
        :16
    ]


def _missing(
    first: datetime, last: datetime, loaded: Iterable[LoadedRange], lookback: timedelta
) -> Iterator[tuple[datetime, datetime, bool]]:
    """What to read from `first` to `last`: first and last second, and whether a loaded range follows right after it."""
    for start, latest in loaded:
        read_from = (latest - min(lookback, latest - _FIRST)).replace(microsecond=0)
        if read_from <= max(first, start) or start > last:
            continue
        if start > first:
            yield first, start - SECOND, True
        first = max(first, read_from)
    if first <= last:
        yield first, last, False


def _merged(ranges: Iterable[LoadedRange]) -> list[LoadedRange]:
    """Ranges in order, those that touch as one."""
    merged: list[LoadedRange] = []
    for start, latest in sorted(ranges):
        if merged and start <= merged[-1][1] + SECOND:
            merged[-1] = merged[-1][0], max(latest, merged[-1][1])
        else:
            merged.append((start, latest))
    return merged


def _to_dlt_types(batch: pa.RecordBatch) -> pa.Table:
    table = nested_to_json(batch)
    # dlt warns of a primary key that is nullable.
    fields = [pa.field(field.name, field.type, nullable=field.name != "id") for field in table.schema]
    return table.cast(pa.schema(fields))
