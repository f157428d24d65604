"""Loads calls with dlt: a resource of Arrow tables, merged on `id` and incremental on `call_start`.

::

    import dlt
    from iovox_async.integrations import dlt as iovox

    pipeline = dlt.pipeline("iovox", destination="duckdb", dataset_name="telephony")
    pipeline.run(iovox.calls("2024-01-01", fields=Fields.ALL))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .._paging.spec import FINALITY_DELAY, to_local_time
from .._params.timezones import zone_of
from ..client import AsyncInsights
from ..errors import MissingExtraError, QueryError
from ..fields import Fields
from ..query import InsightsQuery

try:
    import dlt
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as _error:
    raise MissingExtraError("iovox_async.integrations.dlt", "dlt") from _error

if TYPE_CHECKING:
    from dlt.extract import DltResource

__all__ = ["calls"]

#: The key of the pipeline's state that holds the latest `call_start` it has loaded.
LATEST_CALL_START: Final = "latest_call_start"


def calls(
    start: str | date,
    end: str | date | None = None,
    *,
    lookback: timedelta = FINALITY_DELAY,
    name: str = "calls",
    session: Mapping[str, Any] | None = None,
    **stream_options: Any,
) -> DltResource:
    """A dlt resource with the calls of a date range.

    A later run starts `lookback` before the latest call that the pipeline has loaded, so that late calls and late
    transcripts are merged. Durations become whole seconds and nested fields JSON, because dlt's tables have no such types.

    Args:
        start: the first second of the first run.
        end: the last second, inclusive; None means now.
        lookback: how far before the latest loaded call each run starts.
        name: the name of the resource and its table.
        session: arguments of `AsyncInsights`; None takes them from the environment.
        **stream_options: arguments of `AsyncInsights.stream`: fields, filters, page_size, ...

    Raises:
        QueryError: an option is unknown or would break the merge.
        MissingExtraError: dlt or pyarrow is not installed.
    """
    for option in ("order", "ordered", "resume", "paging"):
        if option in stream_options:
            raise QueryError(option, "must not be set for the dlt source")
    fields = InsightsQuery(fields=stream_options.get("fields", Fields.DEFAULT)).fields or Fields.DEFAULT
    if "id" not in fields or "call_start" not in fields:
        raise QueryError(
            "response_fields", "must include id and call_start: dlt merges on id, and continues by call_start"
        )
    InsightsQuery(start_date=start, end_date=end)  # raises if a date is invalid
    timezone = zone_of((session or {}).get("timezone"))

    @dlt.resource(name=name, primary_key="id", write_disposition="merge")  # type: ignore[untyped-decorator]  # dlt's
    async def resource() -> AsyncIterator[pa.Table]:
        state = dlt.current.resource_state()
        first: str | date = start
        if LATEST_CALL_START in state:
            range_start = to_local_time(InsightsQuery(start_date=start), timezone).start_date
            assert range_start is not None
            first = max(range_start, datetime.fromisoformat(state[LATEST_CALL_START]) - lookback)
        async with (
            AsyncInsights(**(session or {})) as insights,
            insights.stream(first, end, **stream_options) as stream,
        ):
            async for batch in stream.arrow():
                latest = pc.max(batch.column("call_start")).as_py().replace(tzinfo=None).isoformat()
                state[LATEST_CALL_START] = max(latest, state.get(LATEST_CALL_START, ""))
                yield _to_dlt_types(batch)

    return resource()


def _to_dlt_types(batch: pa.RecordBatch) -> pa.Table:
    columns, fields = [], []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_nested(field.type):
            column = pa.array(map(_to_json, column.to_pylist()), pa.string())  # noqa: PLW2901 - the same column as JSON
        columns.append(column)
        # dlt warns of a primary key that is nullable.
        fields.append(pa.field(field.name, column.type, nullable=field.name != "id"))
    return pa.table(columns, schema=pa.schema(fields))


def _to_json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
