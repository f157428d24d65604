"""The public surface that hands out Arrow: checked as `api.py` is, but for what pyarrow, which is untyped, leaves unknown."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false, reportUnknownArgumentType=false

from collections.abc import AsyncIterator
from typing import assert_type
from zoneinfo import ZoneInfo

import pyarrow as pa

from iovox_async import AsyncInsights, Call, Field, Fields, blocking
from iovox_async.arrow import SCHEMA, schema_for, table_from_calls
from iovox_async.backfill import read_changes


async def batches(insights: AsyncInsights) -> AsyncIterator[pa.RecordBatch]:
    async with insights.stream("2024-01-01", fields=Fields.ALL, direction="IN") as calls:
        async for batch in calls.arrow():
            assert_type(batch, pa.RecordBatch)
            yield batch


async def table(insights: AsyncInsights) -> pa.Table:
    return await insights.stream("2024-01-01").table()


def without_a_loop(insights: blocking.Insights) -> pa.Table:
    for batch in insights.stream("2024-01-01").arrow():
        assert_type(batch, pa.RecordBatch)
    return insights.stream("2024-01-01").table()


def tables(calls: list[Call]) -> pa.Table:
    schemas: list[pa.Schema] = [SCHEMA, schema_for([Field.ID, "call_start"], ZoneInfo("Europe/London"))]
    assert schemas
    return table_from_calls(calls, Fields.ALL, "Europe/London")


def changes() -> pa.Table:
    return read_changes("calls", since=3, storage_options={"region": "eu-west-2"}).read_all()
