"""What a checker must refuse: each line that is marked, for mypy with the code that the mark names, and no other line."""

# ruff: noqa: B018, F401 - lines that are wrong do nothing

from datetime import timedelta
from typing import assert_type

from iovox_async import (
    AsyncInsights,
    Call,
    Field,
    Fields,
    Filters,
    InsightsQuery,
    Page,
    RetryPolicy,
    StreamStats,
    blocking,
)
from iovox_async.backfill import Backfill
from iovox_async.events import BaseObserver, Observer, RequestFinished
from iovox_async.sandbox import Faults, Sandbox


def names() -> None:
    from iovox_async import AsyncInsight  # wrong: attr-defined
    from iovox_async.sandbox import Fault  # wrong: attr-defined


async def sessions() -> None:
    AsyncInsights("user", "key", 8)  # wrong: call-arg
    AsyncInsights(secret_key="key")  # wrong: call-arg
    AsyncInsights(concurrency="8")  # wrong: arg-type
    AsyncInsights(timeout="60")  # wrong: arg-type
    AsyncInsights(timezone=1)  # wrong: arg-type
    AsyncInsights(retry=5)  # wrong: arg-type
    AsyncInsights(transport="http")  # wrong: arg-type
    AsyncInsights(observer=print)  # wrong: arg-type
    RetryPolicy(tries=5)  # wrong: call-arg
    RetryPolicy(total_timeout="300")  # wrong: arg-type
    RetryPolicy().max_attempts = 7  # wrong: misc


async def streams(insights: AsyncInsights, query: InsightsQuery) -> None:
    insights.stream("2024-01-01", "2024-03-31", call_results="ANSWERED")  # wrong: call-arg
    insights.stream("2024-01-01", "2024-03-31", "ANSWERED")  # wrong: call-arg
    insights.stream(20240101)  # wrong: arg-type
    insights.stream(call_result=1)  # wrong: arg-type
    insights.stream(call_result=["ANSWERED", "MISSED"])  # wrong: arg-type
    insights.stream(ids=[1.5])  # wrong: list-item
    insights.stream(paging="window")  # wrong: arg-type
    insights.stream(on_error="ignore")  # wrong: arg-type
    insights.stream(fields=[1])  # wrong: list-item
    insights.stream(fields=Field.IDS)  # wrong: attr-defined
    insights.stream(fields=Fields.EVERYTHING)  # wrong: attr-defined
    insights.stream(page_size="5000")  # wrong: arg-type
    insights.stream(max_calls="all")  # wrong: arg-type
    insights.stream(ordered=None)  # wrong: arg-type
    insights.stream(resume=7)  # wrong: arg-type
    insights.stream(query="2024-01-01")  # wrong: arg-type
    await insights.stream(query=query)  # wrong: misc
    for _ in insights.stream():  # wrong: attr-defined
        pass
    async for one in insights.stream():
        assert_type(one, Page)  # wrong: assert-type
        one.talk_time.total_seconds()  # wrong: union-attr
        one.talk_times  # wrong: attr-defined
        one.id = "1"  # wrong: assignment
    insights.stream().position = "there"  # wrong: misc
    insights.stream().stats.calls = 0  # wrong: misc
    insights.stream().collect().sort()  # wrong: attr-defined


async def other_methods(insights: AsyncInsights) -> None:
    await insights.page(page="2")  # wrong: arg-type
    await insights.page(number=2)  # wrong: call-arg
    await insights.page(on_error="ignore")  # wrong: arg-type
    await insights.get(1.5)  # wrong: arg-type
    await insights.get(1, direction="IN")  # wrong: call-arg
    insights.follow(interval="60")  # wrong: arg-type
    insights.follow(until="2024-01-01")  # wrong: call-arg
    insights.follow(lookback=timedelta(hours=2), include_updates="yes")  # wrong: arg-type
    with insights.follow():  # wrong: attr-defined
        pass
    calls: list[Page] = await insights.get(1)  # wrong: assignment
    assert calls


def queries() -> None:
    InsightsQuery("2024-01-01")  # wrong: call-arg
    InsightsQuery(response_fields="id")  # wrong: call-arg
    InsightsQuery(page="1")  # wrong: arg-type
    InsightsQuery(node_name=1)  # wrong: arg-type
    InsightsQuery().limit = 5  # wrong: misc
    InsightsQuery().to_query_string(pages=1)  # wrong: call-arg
    InsightsQuery.from_arguments(color="RED")  # wrong: call-arg
    filters: Filters = {"call_results": "ANSWERED"}  # wrong: typeddict-unknown-key
    assert filters


async def other_types(insights: AsyncInsights, stats: StreamStats, call: Call) -> None:
    Backfill(insights, InsightsQuery(), "calls", partition="week")  # wrong: arg-type
    Backfill(insights, InsightsQuery(), "calls", on_error="ignore")  # wrong: arg-type
    Backfill(insights)  # wrong: call-arg
    Sandbox(calls="many")  # wrong: arg-type
    Faults(kinds="501")  # wrong: arg-type
    Faults(error_format="yaml")  # wrong: arg-type
    Faults(0.5)  # wrong: call-arg
    stats.progress.upper()  # wrong: attr-defined
    call.to_dict().id  # wrong: attr-defined
    watcher: Observer = Watcher()  # wrong: assignment
    assert watcher


class Watcher(BaseObserver):
    def on_retry(self, event: RequestFinished) -> None:  # wrong: override
        """Takes another event than `BaseObserver` does."""


def without_a_loop(insights: blocking.Insights, asynchronous: AsyncInsights, query: InsightsQuery) -> None:
    blocking.Insights(secret_key="key")  # wrong: call-arg
    blocking.Insights(concurrency="8")  # wrong: arg-type
    insights.page("2024-01-01", call_results="ANSWERED")  # wrong: call-arg
    insights.page(page="2")  # wrong: arg-type
    insights.stream(paging="window")  # wrong: arg-type
    insights.aclose()  # wrong: attr-defined
    blocking.Backfill(asynchronous, query, "calls")  # wrong: arg-type
    assert_type(insights.stream().collect(), list[int])  # wrong: assert-type
