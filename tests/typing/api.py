"""The whole public surface as one typed program: checked by mypy and pyright in their strict modes, and never run."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, assert_type
from zoneinfo import ZoneInfo

import cattrs
import fastapi
import httpx
import pytest
from aiohttp import web
from fastapi.sse import EventSourceResponse, ServerSentEvent
from opentelemetry.metrics import get_meter_provider
from opentelemetry.trace import get_tracer_provider
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest

from iovox_async import (
    AsyncInsights,
    AuthenticationError,
    BackfillError,
    BackfillLockedError,
    BackfillMismatchError,
    BadRequestError,
    Call,
    CallStream,
    Categories,
    Category,
    Comment,
    ConfigurationError,
    DecodeError,
    Field,
    Fields,
    Filters,
    InsightsQuery,
    IovoxError,
    Keyword,
    KeywordRule,
    ManifestCorruptedError,
    MissingExtraError,
    Page,
    PagingError,
    PermissionDeniedError,
    Phrase,
    QueryError,
    RateLimitError,
    RecordError,
    RequestError,
    RequestTimeout,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionError,
    StreamStats,
    Tag,
    Task,
    TLSError,
    Transcription,
    TransportError,
    UnexpectedRedirectError,
    blocking,
    make_converter,
)
from iovox_async._telemetry import enable_logging
from iovox_async.backfill import (
    Backfill,
    BackfillProgress,
    BackfillReport,
    Certificate,
    PartitionChanges,
)
from iovox_async.events import (
    BaseObserver,
    Observer,
    PageAccepted,
    RequestFinished,
    RetryScheduled,
    StreamFinished,
    StreamStarted,
)
from iovox_async.integrations import aiohttp as for_aiohttp
from iovox_async.integrations import fastapi as for_fastapi
from iovox_async.integrations import starlette as for_starlette
from iovox_async.integrations.otel import OpenTelemetryObserver
from iovox_async.sandbox import FAULT_KINDS, KEY, USERNAME, FaultKind, Faults, Request, Sandbox, SandboxStats

# ------------------------------------------------------------------------------------------------- a session


class Counting:
    """An observer: any class with these methods."""

    def __init__(self) -> None:
        self.rows = 0
        self.outcomes: list[Literal["complete", "abandoned", "failed"]] = []

    def on_stream_started(self, event: StreamStarted) -> None:
        assert_type(event.stream, int)
        assert_type(event.start, datetime)
        assert_type(event.end, datetime)
        assert_type(event.paging, Literal["windows", "pages"])
        assert_type(event.field_count, int)
        assert_type(event.resumed, bool)

    def on_request_finished(self, event: RequestFinished) -> None:
        assert_type(event.stream, int | None)
        assert_type(event.window, tuple[datetime, datetime] | None)
        assert_type(event.page, int | None)
        assert_type(event.attempt, int)
        assert_type(event.duration, float)
        assert_type(event.status, int | None)
        assert_type(event.bytes, int)
        assert_type(event.error, str | None)
        self.rows += event.rows

    def on_retry(self, event: RetryScheduled) -> None:
        assert_type(event.stream, int | None)
        assert_type(event.window, tuple[datetime, datetime] | None)
        assert_type(event.page, int | None)
        assert_type(event.attempt, int)
        assert_type(event.delay, float)
        assert_type(event.error, str)

    def on_page_accepted(self, event: PageAccepted) -> None:
        assert_type(event.stream, int)
        assert_type(event.window, tuple[datetime, datetime])
        assert_type(event.page, int)
        assert_type(event.attempts, int)
        assert_type(event.rows, int)
        assert_type(event.bytes, int)

    def on_stream_finished(self, event: StreamFinished) -> None:
        assert_type(event.stream, int)
        assert_type(event.duration, float)
        assert_type(event.calls, int)
        assert_type(event.requests, int)
        assert_type(event.retries, int)
        assert_type(event.bytes, int)
        assert_type(event.error, str | None)
        self.outcomes.append(event.outcome)


class Slow(BaseObserver):
    """An observer that overrides one method."""

    def on_request_finished(self, event: RequestFinished) -> None:
        if event.duration > 1:
            logging.getLogger(__name__).warning("slow: %s", event.window)


def sessions() -> list[AsyncInsights]:
    retry = RetryPolicy(
        max_attempts=5,
        initial_backoff=0.5,
        max_backoff=30,
        total_timeout=timedelta(minutes=5),
        max_retry_after=120.0,
    )
    assert_type(retry.max_attempts, int)
    assert_type(retry.initial_backoff, float)
    assert_type(retry.max_backoff, float)
    assert_type(retry.total_timeout, float)
    assert_type(retry.max_retry_after, float)
    observers: list[Observer] = [
        Counting(),
        BaseObserver(),
        Slow(),
        OpenTelemetryObserver(get_tracer_provider(), get_meter_provider()),
    ]
    full = AsyncInsights(
        "user",
        "key",
        base_url="https://rest.iovox.com/rest/v1",
        concurrency=8,
        page_size=5_000,
        retry=retry,
        timeout=timedelta(minutes=1),
        timezone=ZoneInfo("Europe/London"),
        proxy="environment",
        transport=httpx.AsyncHTTPTransport(),
        observer=observers[0],
    )
    named = AsyncInsights(
        username="user", secure_key="key", timezone="Europe/London", timeout=60, page_size=None
    )
    enable_logging()
    assert_type(full.account, str)
    return [full, named, AsyncInsights()]


# ------------------------------------------------------------------------------------------------ queries

EVERY_FILTER: Filters = {
    "ids": [1, "2"],
    "node_id": "N1",
    "node_name": "north",
    "node_type": "shop",
    "link_id": 7,
    "link_name": "web",
    "link_type": "STANDARD",
    "call_result": "ANSWERED",
    "rule_result": "Forward call",
    "call_origin": 44,
    "call_origin_encoded": "44",
    "iovox_number": 44,
    "call_destination": "44",
    "direction": "IN",
    "link_category_ids": "A,B",
    "call_category_ids": ("A", 2),
    "node_category_ids": {"A"},
    "contact_category_ids": 3,
    "tag_text": "order",
    "tag_colour": ["BLUE"],
    "keyword_rules": "prices",
    "call_outcomes": None,
}


def questions() -> InsightsQuery:
    query = InsightsQuery(
        page=1,
        limit=10_000,
        order="call_start_DESC",
        start_date="2024-01-01",
        end_date=date(2024, 3, 31),
        date_constant=None,
        fields=Fields.CALL + Fields.CATEGORIES,
        **EVERY_FILTER,
    )
    assert_type(query.page, int)
    assert_type(query.limit, int | None)
    assert_type(query.order, str | None)
    assert_type(query.start_date, datetime | None)
    assert_type(query.end_date, datetime | None)
    assert_type(query.date_constant, str | None)
    assert_type(query.ids, tuple[int, ...] | None)
    assert_type(query.node_id, str | None)
    assert_type(query.iovox_number, str | None)
    assert_type(query.tag_colour, tuple[str, ...] | None)
    assert_type(query.link_category_ids, tuple[str, ...] | None)
    assert_type(query.fields, tuple[Field, ...] | None)
    assert_type(query.to_query_string(), str)
    assert_type(
        query.to_query_string(
            page=2, limit=None, start_date="2024-01-01", order=None, fields="id", direction="IN"
        ),
        str,
    )
    assert_type(query.active_filters(), dict[str, Any])
    assert_type(query.fingerprint(), str)
    assert_type(
        InsightsQuery.from_arguments("2024-01-01", query=query, order="id_ASC", fields=["id"]), InsightsQuery
    )
    presets: list[tuple[Field, ...]] = [
        Fields.DEFAULT,
        Fields.CALL,
        Fields.CATEGORIES,
        Fields.INSIGHTS,
        Fields.ALL,
    ]
    names: str = Field.TALK_TIME_SECONDS
    return InsightsQuery(date_constant="YESTERDAY", fields=[names, *presets[0], Field("id")])


# -------------------------------------------------------------------------------------------------- streams


async def reading(insights: AsyncInsights, query: InsightsQuery) -> str | None:
    stream = insights.stream(
        "2024-01-01",
        datetime(2024, 3, 31, tzinfo=UTC),
        query=query,
        order="call_start_ASC",
        fields=Fields.ALL,
        page_size=2_000,
        ordered=False,
        paging="windows",
        max_calls=100,
        resume=None,
        on_error="skip",
        **EVERY_FILTER,
    )
    assert_type(stream, CallStream)
    async with stream as calls:
        async for call in calls:
            assert_type(call, Call)
        assert_type(calls.stats, StreamStats)
    async for page in insights.stream(date(2024, 1, 1), paging="pages", order="talk_time_DESC").pages():
        assert_type(page, Page)
    async for call in insights.stream(paging="auto", call_result="ANSWERED", fields="id,call_start"):
        record(call)
    assert_type(await insights.stream(end="2024-01-01", tag_colour="RED").collect(), list[Call])
    await stream.aclose()
    counted(stream.stats)
    return stream.position


def counted(stats: StreamStats) -> None:
    assert_type(stats.requests, int)
    assert_type(stats.retries, int)
    assert_type(stats.calls, int)
    assert_type(stats.bytes_received, int)
    assert_type(stats.duplicates_dropped, int)
    assert_type(stats.skipped, int)
    assert_type(stats.coerced, int)
    assert_type(stats.window_splits, int)
    assert_type(stats.in_flight, int)
    assert_type(stats.buffered_pages, int)
    assert_type(stats.peak_buffered_pages, int)
    assert_type(stats.progress, float)
    assert_type(stats.complete_until, datetime | None)


async def single(insights: AsyncInsights, query: InsightsQuery) -> None:
    page = await insights.page(
        "2024-01-01",
        "2024-01-31",
        query=None,
        page=2,
        page_size=10_000,
        order="call_start_DESC",
        fields=Fields.DEFAULT,
        on_error="raise",
        **EVERY_FILTER,
    )
    assert_type(page.number, int)
    assert_type(page.calls, list[Call])
    assert_type(page.raw, bytes)
    assert_type(await insights.page(query), Page)
    assert_type(await insights.page(query=query, page=3), Page)
    assert_type(
        await insights.get(1, "2", [3, "4"], range(5), fields=Fields.ALL, on_error="skip"), list[Call]
    )


async def following(insights: AsyncInsights) -> None:
    async with insights.follow(
        since="2024-01-01",
        interval=timedelta(minutes=1),
        lookback=7_200,
        include_updates=True,
        fields=Fields.CALL,
        on_error="skip",
        **EVERY_FILTER,
    ) as calls:
        async for call in calls:
            assert_type(call, Call)
            break
        assert_type(calls.latest_call_start, datetime)
        assert_type(calls.poll_count, int)
        assert_type(calls.failed_polls, int)
    await insights.follow().aclose()


async def whole() -> None:
    async with AsyncInsights() as insights:
        assert_type(insights, AsyncInsights)
        await single(insights, questions())
        await following(insights)
        if position := await reading(insights, questions()):
            await insights.stream(resume=position).collect()
    await insights.aclose()


# ------------------------------------------------------------------------------------------------- blocking


def without_a_loop(query: InsightsQuery) -> str | None:
    with blocking.Insights("user", secure_key="key", concurrency=4, timezone="Europe/London") as insights:
        assert_type(insights, blocking.Insights)
        assert_type(insights.page("2024-01-01", page=2, query=query, **EVERY_FILTER), Page)
        assert_type(insights.get(1, "2", [3], fields=Fields.ALL), list[Call])
        assert_type(insights.now(), datetime)
        assert_type(insights.with_options(timeout=300), blocking.Insights)
        stream = insights.stream("2024-01-01", end=None, order="call_start_DESC", **EVERY_FILTER)
        assert_type(stream, blocking.CallStream)
        with stream as calls:
            for call in calls:
                assert_type(call, Call)
            assert_type(calls.stats, StreamStats)
        for page in insights.stream(direction="IN").pages():
            assert_type(page, Page)
        assert_type(insights.stream(call_result="ANSWERED").collect(), list[Call])
        follower = insights.follow("2024-01-01", interval=timedelta(minutes=1), include_updates=True)
        assert_type(follower, blocking.CallFollower)
        for call in follower:
            assert_type(call, Call)
            break
        assert_type(follower.latest_call_start, datetime)
        job = blocking.Backfill(insights, query, Path("calls"), format="jsonl", on_progress=print)
        assert_type(job.run(repair=True), BackfillReport)
        assert_type(job.verify(), BackfillReport)
        assert_type(job.progress, BackfillProgress)
    insights.close()
    return stream.position


# -------------------------------------------------------------------------------------------------- records


def record(call: Call) -> dict[str, Any]:
    assert_type(call.id, int)
    assert_type(call.call_start, datetime)
    assert_type(call.call_end, datetime | None)
    assert_type(call.call_origin, str | None)
    assert_type(call.call_origin_location, str | None)
    assert_type(call.iovox_number, str | None)
    assert_type(call.call_destination, str | None)
    assert_type(call.call_time, timedelta | None)
    assert_type(call.call_time_sec, int | None)
    assert_type(call.call_time_seconds, int | None)
    assert_type(call.talk_time, timedelta | None)
    assert_type(call.talk_time_sec, int | None)
    assert_type(call.talk_time_seconds, int | None)
    assert_type(call.call_type, str | None)
    assert_type(call.call_result, str | None)
    assert_type(call.rule_result, str | None)
    assert_type(call.node_id, str | None)
    assert_type(call.node_name, str | None)
    assert_type(call.node_type, str | None)
    assert_type(call.link_id, str | None)
    assert_type(call.link_name, str | None)
    assert_type(call.link_type, str | None)
    assert_type(call.has_recording, bool | None)
    assert_type(call.email_alert, str | None)
    assert_type(call.direction, str | None)
    assert_type(call.categories, Categories | None)
    assert_type(call.comments, Sequence[Comment])
    assert_type(call.call_outcomes, Sequence[Any])
    assert_type(call.transcriptions, Sequence[Transcription])
    assert_type(call.tags, Sequence[Tag])
    assert_type(call.keyword_rules, Sequence[KeywordRule])
    assert_type(call.tasks, Sequence[Task])
    assert_type(call.extra, dict[str, Any])
    return call.to_dict()


def parts(call: Call) -> None:
    if call.categories is not None:
        assert_type(call.categories.link_categories, Sequence[Category])
        assert_type(call.categories.call_categories, Sequence[Category])
        assert_type(call.categories.node_categories, Sequence[Category])
        assert_type(call.categories.contact_categories, Sequence[Category])
        for category in call.categories.link_categories:
            assert_type((category.category_id, category.label), tuple[str | None, str | None])
            assert_type(category.value, str | None)
    for comment in call.comments:
        assert_type((comment.comment_id, comment.username), tuple[str | None, str | None])
        assert_type((comment.language, comment.text), tuple[str | None, str | None])
        assert_type(comment.created, datetime | None)
    for transcription in call.transcriptions:
        assert_type((transcription.transcription_id, transcription.language), tuple[str | None, str | None])
        assert_type(transcription.text, str | None)
        assert_type(transcription.phrases, Sequence[Phrase])
        for phrase in transcription.phrases:
            assert_type((phrase.phrase, phrase.speaker), tuple[str | None, str | None])
            assert_type((phrase.start, phrase.end, phrase.turn), tuple[int | None, int | None, int | None])
    for tag in call.tags:
        assert_type((tag.text, tag.colour, tag.source_type), tuple[str | None, str | None, str | None])
    for rule in call.keyword_rules:
        assert_type(rule.keyword_rule, str | None)
        assert_type(rule.keywords, Sequence[Keyword])
        for keyword in rule.keywords:
            assert_type((keyword.keyword, keyword.count), tuple[str | None, int | None])
    for task in call.tasks:
        assert_type(
            (task.username, task.assigned_username, task.status), tuple[str | None, str | None, str | None]
        )
        assert_type(task.reminder_message, str | None)
        assert_type((task.created, task.due_date), tuple[datetime | None, datetime | None])
        assert_type(task.reminder_date, datetime | None)


def made() -> Call:
    call = Call(id=1, call_start=datetime(2024, 1, 1, tzinfo=UTC), tags=[Tag(text="order", colour="BLUE")])
    call.talk_time = timedelta(minutes=2)
    converter = make_converter("Europe/London", required=("id", "call_start"))
    assert_type(converter, cattrs.Converter)
    return converter.structure(call.to_dict(), Call)


# --------------------------------------------------------------------------------------------------- errors


async def failing(work: Callable[[], Awaitable[None]]) -> str | None:
    try:
        await work()
    except ConfigurationError as error:
        value_error: ValueError = error
        return str(value_error)
    except QueryError as error:
        assert_type(error.parameter, str)
        question: ValueError = error
        return str(question)
    except MissingExtraError as error:
        assert_type(error.extra, str)
        import_error: ImportError = error
        return str(import_error)
    except SessionError as error:
        runtime_error: RuntimeError = error
        return str(runtime_error)
    except BadRequestError as error:
        assert_type(error.parameter, str | None)
        assert_type(error.hint, str | None)
    except UnexpectedRedirectError as error:
        assert_type(error.location, str | None)
    except (AuthenticationError, PermissionDeniedError, RateLimitError, ServerError) as error:
        response_error: ResponseError = error
        assert_type(response_error.status_code, int)
    except ResponseError as error:
        assert_type(error.status_code, int)
        assert_type(error.messages, tuple[str, ...])
        assert_type(error.attempts, int)
        assert_type(error.window, tuple[datetime, datetime] | None)
        assert_type(error.page, int | None)
        assert_type(error.retry_after, float | None)
    except (RequestTimeout, TLSError) as error:
        transport_error: TransportError = error
        return transport_error.position
    except RecordError as error:
        decode_error: DecodeError = error
        assert_type(error.index, int)
        assert_type(error.path, str)
        assert_type(decode_error.window, tuple[datetime, datetime] | None)
    except RequestError as error:
        assert_type(error.attempts, int)
        assert_type(error.window, tuple[datetime, datetime] | None)
        assert_type(error.page, int | None)
    except (BackfillLockedError, BackfillMismatchError, ManifestCorruptedError) as error:
        backfill_error: BackfillError = error
        return backfill_error.position
    except PagingError as error:
        return error.position
    except IovoxError as error:
        assert_type(error.position, str | None)
    return None


# ------------------------------------------------------------------------------------------------- backfill


def show_progress(progress: BackfillProgress) -> None:
    assert_type(progress.progress, float)
    assert_type(
        (progress.partitions, progress.partitions_total, progress.partitions_skipped), tuple[int, int, int]
    )
    assert_type(progress.last_partition, str | None)
    assert_type((progress.calls, progress.bytes_received, progress.requests), tuple[int, int, int])
    assert_type((progress.retries, progress.window_splits, progress.skipped), tuple[int, int, int])
    assert_type(progress.elapsed, float)


async def filling(insights: AsyncInsights, query: InsightsQuery) -> dict[str, Any]:
    job = Backfill(
        insights,
        query,
        Path("calls"),
        format="parquet",
        partition="month",
        finality_delay=timedelta(hours=2),
        on_error="skip",
        on_progress=show_progress,
    )
    assert_type(job.progress, BackfillProgress)
    report = await job.run(repair=True)
    assert_type(report, BackfillReport)
    assert_type(report.certificates, tuple[Certificate, ...])
    assert_type(report.changes, tuple[PartitionChanges, ...])
    assert_type((report.partitions, report.partitions_skipped, report.calls), tuple[int, int, int])
    assert_type((report.bytes_received, report.requests, report.retries), tuple[int, int, int])
    assert_type((report.window_splits, report.skipped, report.total_calls), tuple[int, int, int])
    assert_type(report.elapsed, float)
    assert_type(report.open_partitions, tuple[str, ...])
    assert_type(report.verified, int)
    assert_type(report.mismatched_partitions, tuple[str, ...])
    assert_type(
        await Backfill(insights, query, "s3://bucket/calls", "jsonl.zst", "day").run(), BackfillReport
    )
    return (await job.verify()).to_dict()


# -------------------------------------------------------------------------------------------------- sandbox


async def playing() -> None:
    kind: FaultKind = FAULT_KINDS[0]
    faults = Faults(
        latency=0.1,
        jitter=0.1,
        error_rate=0.01,
        every_nth=7,
        fail_first=1,
        fail_at=(3, 5),
        fail_after=None,
        fail_above_rows=None,
        kinds=("500", kind),
        retry_after=1,
        location="https://elsewhere.example.com",
        drip_interval=0.05,
        error_format="json",
        max_page_rows=1_000,
        max_page_rows_after=0,
        shuffle_ties=True,
        exclusive_end=True,
        ignore_page=False,
        ignore_dates=False,
        inserts_per_request=0.5,
        deletes_per_request=0.5,
        gzip=True,
        keep_alive=75.0,
    )
    sandbox = Sandbox(
        1_000, "2024-01-01", date(2024, 3, 31), 7, faults, username=USERNAME, key=KEY, now=datetime.now
    )
    assert_type(sandbox.app, Starlette)
    async with sandbox.serve(host="127.0.0.1", port=0) as base_url:
        assert_type(base_url, str)
    with sandbox.serve() as base_url:
        assert_type(base_url, str)
    sandbox.faults = Faults(kinds="hang")
    assert_type((sandbox.start, sandbox.end), tuple[str, str])
    assert_type(sandbox.stats, SandboxStats)
    assert_type(
        (sandbox.stats.requests, sandbox.stats.rows, sandbox.stats.peak_active_requests), tuple[int, int, int]
    )
    assert_type(sandbox.requests, tuple[Request, ...])
    assert_type(sandbox.ids("2024-01-01", direction="IN"), list[int])
    assert_type(sandbox.rows(fields=Fields.ALL), list[dict[str, Any]])
    assert_type(sandbox.add(3), list[int])
    assert_type(sandbox.add([{"call_start": "2024-01-02 10:00:00"}]), list[int])
    assert_type(sandbox.remove([1]), int)
    sandbox.update(2, call_result="ANSWERED")
    assert_type((sandbox.inserted_ids, sandbox.deleted_ids), tuple[frozenset[int], frozenset[int]])
    sandbox.reset_stats()
    sandbox.close()


@pytest.mark.iovox(calls=500, faults={"every_nth": 3})
async def test_report(iovox_sandbox: Sandbox, iovox_insights: AsyncInsights, iovox_url: str) -> None:
    """The types of the fixtures of the pytest plugin."""
    assert iovox_url
    assert [call.id async for call in iovox_insights.stream("2024-01-01")] == iovox_sandbox.ids()


# --------------------------------------------------------------------------------------------- applications


def with_fastapi() -> fastapi.FastAPI:
    accounts = {"london": AsyncInsights, "paris": lambda: AsyncInsights("user", "key")}
    several = for_fastapi.insights_lifespan(accounts)
    app = fastapi.FastAPI(lifespan=several)
    app = fastapi.FastAPI(lifespan=for_fastapi.insights_lifespan(AsyncInsights, inner=None))
    for_fastapi.install_error_handlers(app)

    async def lines(insights: for_fastapi.InsightsDep, start: date) -> for_fastapi.NDJSONResponse:
        assert_type(insights, AsyncInsights)
        return for_fastapi.NDJSONResponse(insights.stream(start), headers={"x-what": "calls"})

    async def events(insights: for_fastapi.InsightsDep) -> for_fastapi.SSEResponse:
        return for_fastapi.SSEResponse(insights.follow(), status_code=200)

    async def filtered(
        insights: Annotated[AsyncInsights, fastapi.Depends(for_fastapi.insights_for("london"))],
        filters: Annotated[for_fastapi.CallFilters, fastapi.Query()],
    ) -> list[Call]:
        assert_type(filters.arguments(), Filters)
        return (await insights.page("2024-01-01", **filters.arguments())).calls

    async def own_events(
        insights: for_fastapi.InsightsDep, last_event_id: for_fastapi.LastEventID = None
    ) -> AsyncIterator[ServerSentEvent]:
        async for event in for_fastapi.server_sent_events(insights.stream(resume=last_event_id)):
            assert_type(event, ServerSentEvent)
            yield event

    async def another() -> AsyncInsights:
        return AsyncInsights(concurrency=2)

    app.add_api_route("/calls", lines)
    app.add_api_route("/filtered", filtered)
    app.add_api_route("/own", own_events, response_class=EventSourceResponse)
    app.add_api_route("/events", events)
    app.dependency_overrides[for_fastapi.get_insights] = another
    return app


def with_starlette() -> Starlette:
    async def lines(request: StarletteRequest) -> for_starlette.NDJSONResponse:
        insights = await for_starlette.get_insights(request)
        assert_type(insights, AsyncInsights)
        london = await for_starlette.insights_for("london")(request)
        return for_starlette.NDJSONResponse(london.stream(**for_starlette.get_filters(request)))

    def failed(error: Exception) -> dict[str, Any]:
        response: for_starlette.ErrorResponse = for_starlette.error_response(error)
        assert_type(response.status, int)
        assert_type(response.detail, str)
        assert_type(response.parameter, str | None)
        assert_type(response.headers, dict[str, str])
        return response.body

    app = Starlette(lifespan=for_starlette.insights_lifespan())
    for_starlette.install_error_handlers(app)
    app.add_route("/calls", lines)
    failed(IovoxError())
    return app


def with_aiohttp() -> web.Application:
    async def lines(request: web.Request) -> web.StreamResponse:
        insights = for_aiohttp.get_insights(request)
        assert_type(insights, AsyncInsights)
        return await for_aiohttp.ndjson_response(request, insights.stream(), headers={"x-what": "calls"})

    async def events(request: web.Request) -> web.StreamResponse:
        insights = request.app[for_aiohttp.INSIGHTS_KEY]
        assert_type(insights, AsyncInsights)
        paris = for_aiohttp.get_insights(request, "paris")
        assert_type(for_aiohttp.get_filters(request), Filters)
        assert_type(paris.stream(**for_aiohttp.get_filters(request)), CallStream)
        return await for_aiohttp.sse_response(request, insights.follow())

    async def generated(request: web.Request) -> web.StreamResponse:
        async def some() -> AsyncIterator[Call]:
            yield made()

        return await for_aiohttp.ndjson_response(request, some())

    app = web.Application(middlewares=[for_aiohttp.error_middleware])
    app.cleanup_ctx.append(for_aiohttp.insights_ctx(AsyncInsights))
    app.cleanup_ctx.append(for_aiohttp.insights_ctx({"paris": AsyncInsights}))
    app.router.add_get("/calls", lines)
    app.router.add_get("/events", events)
    app.router.add_get("/some", generated)
    return app


if __name__ == "__main__":
    sys.exit(asyncio.run(failing(whole)))
