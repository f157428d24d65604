"""dlt: calls as a resource of Arrow batches, merged on `id`, incremental on `call_start`.

The law of this room: what a pipeline has loaded is its state's business; a run reads from the newest call it loaded less
a look-back, so that late calls and late transcripts are merged over what is there.

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

NEWEST: Final = "newest_call_start"


def calls(
    start: str | date,
    end: str | date | None = None,
    *,
    lookback: timedelta = FINALITY_DELAY,
    name: str = "calls",
    session: Mapping[str, Any] | None = None,
    **stream_options: Any,
) -> DltResource:
    """A resource of the calls of a range; run again, it goes on where the pipeline's last load ended.

    Durations become whole seconds and nested fields JSON, since that is what dlt's tables know.

    Args:
        start: the first second of the first run.
        end: the last second, inclusive; None: now.
        lookback: how far before the newest loaded call each run reads again.
        name: of the resource, and so of the table.
        session: arguments of `AsyncInsights`; else the environment's.
        **stream_options: arguments of `AsyncInsights.stream`: fields, filters, page_size, ...

    Raises:
        QueryError: an option that a stream does not take, or that would break the merge.
        MissingExtraError: dlt or pyarrow is not installed.
    """
    for option in ("order", "ordered", "resume", "paging"):
        if option in stream_options:
            raise QueryError(option, "the dlt source chooses it; leave it out")
    fields = InsightsQuery(fields=stream_options.get("fields", Fields.DEFAULT)).fields or Fields.DEFAULT
    if "id" not in fields or "call_start" not in fields:
        raise QueryError("response_fields", "the dlt source merges on id and goes on by call_start; add both")
    InsightsQuery(start_date=start, end_date=end)
    zone = zone_of((session or {}).get("timezone"))

    @dlt.resource(name=name, primary_key="id", write_disposition="merge")  # type: ignore[untyped-decorator]  # dlt's
    async def resource() -> AsyncIterator[pa.Table]:
        state = dlt.current.resource_state()
        loaded = datetime.fromisoformat(state[NEWEST]) if NEWEST in state else None
        async with AsyncInsights(**(session or {})) as insights:
            begin: str | date = start
            if loaded is not None:
                first = to_local_time(InsightsQuery(start_date=start), zone).start_date
                assert first is not None
                begin = max(first, loaded - lookback)
            async with insights.stream(begin, end, **stream_options) as stream:
                async for batch in stream.arrow():
                    newest = pc.max(batch.column("call_start")).as_py().replace(tzinfo=None)
                    state[NEWEST] = max(newest.isoformat(), state.get(NEWEST, ""))
                    yield _loadable(batch)

    return resource()


def _loadable(batch: pa.RecordBatch) -> pa.Table:
    """The batch in types that dlt's tables know."""
    columns, fields = [], []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_duration(field.type):
            column = pc.divide(column.cast(pa.int64()), 1_000_000)  # noqa: PLW2901 - the same column, in seconds
        elif pa.types.is_nested(field.type):
            column = pa.array(_json(column), pa.string())  # noqa: PLW2901 - the same column, as JSON
        columns.append(column)
        # dlt takes what it merges on for filled, and warns of a batch that says otherwise.
        fields.append(pa.field(field.name, column.type, nullable=field.name != "id"))
    return pa.table(columns, schema=pa.schema(fields))


def _json(column: pa.Array) -> list[str | None]:
    return [None if value is None else msgspec.json.encode(value).decode() for value in column.to_pylist()]
