"""Adds a web page to a sandbox that shows its calls in a browser, including those that are inserted while it is open.

The page is a client like any other: it reads the sandbox over HTTP, with an `AsyncInsights` client and the FastAPI
integration. Only the calls inserted for it are added to the sandbox directly.

::

    sandbox = Sandbox(calls=100_000)
    add_live_page(sandbox)
    async with sandbox.serve() as base_url:
        print(page_url(base_url))
"""

import asyncio
import contextlib
import importlib.resources
import ipaddress
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import anyio
import msgspec

from iovox_async._encoding import encode_json
from iovox_async.client import AsyncInsights
from iovox_async.errors import ConfigurationError, IovoxError, MissingExtraError
from iovox_async.fields import Fields
from iovox_async.follow import CallFollower
from iovox_async.models import Call
from iovox_async.sandbox import Sandbox
from iovox_async.stream import CallStream

from ...integrations._error_response import error_response
from ...integrations._streaming import HEADERS, NDJSON
from ...integrations.fastapi import (
    InsightsDep,
    NDJSONResponse,
    SSEResponse,
    get_insights,
    install_error_handlers,
)

try:
    from fastapi import APIRouter, Depends, FastAPI
    from starlette.requests import HTTPConnection
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Mount
    from starlette.types import Receive, Scope, Send
except ImportError as _error:
    raise MissingExtraError("iovox_async.sandbox.live.page", "fastapi") from _error

__all__ = ["add_live_page", "page_url"]

STATE: Final = "iovox_live"
#: The fields of a row of the list.
ROW_FIELDS: Final = (
    *("id", "call_start", "call_result", "call_origin", "call_origin_location", "direction"),
    *("node_name", "link_name", "talk_time_seconds", "has_recording"),
)
#: Maximum of requests in flight for all open pages together; the sandbox has other clients.
CONCURRENCY: Final = 4
#: Page size for counting: small, so that the chart grows steadily and the loop is not blocked.
COUNT_PAGE_SIZE: Final = 5_000
#: Maximum of seconds between the starts of two inserted calls, on the account's clock.
MAX_GAP: Final = 3600.0
DAY: Final = timedelta(days=1)
_DATE_FORMAT: Final = "%Y-%m-%d %H:%M:%S"
_PAGE_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class CallInserter:
    """Inserts calls after the range of the generated calls, each later than all before it, about as dense as its last day.

    So the calls of the range do not change for other clients, and a page that has counted all calls up to `latest` neither
    misses nor repeats one.
    """

    def __init__(self, sandbox: Sandbox, interval: float) -> None:
        self.interval = interval
        #: The latest second that may have a call.
        self.latest: datetime = datetime.fromisoformat(sandbox.end)
        self._sandbox = sandbox
        self._random = random.Random(sandbox.seed)  # noqa: S311 - test data
        self._lock = threading.Lock()
        last_day = sandbox.ids(self.latest - DAY, self.latest)
        self._mean_gap = min(DAY.total_seconds() / max(len(last_day), 1), MAX_GAP)

    @property
    def active(self) -> bool:
        """Whether calls are inserted: only up to one day ahead, since `follow` reads no further."""
        return self.interval > 0 and self.latest < datetime.now() + DAY - timedelta(minutes=1)  # noqa: DTZ005 - the account's clock has no zone

    def draw_delay(self) -> float:
        """Returns the seconds until the next call is inserted."""
        return self.interval * self._random.uniform(0.4, 1.6)

    def insert(self) -> None:
        """Inserts one call; may be called from any thread."""
        with self._lock:
            gap = timedelta(seconds=int(min(1 + self._random.expovariate(1 / self._mean_gap), MAX_GAP)))
            start = self.latest + gap
            if start > datetime.now():  # noqa: DTZ005 - as above
                start = self.latest + timedelta(seconds=1)
            self._sandbox.add([{"call_start": f"{start:{_DATE_FORMAT}}"}])
            # Set after the call is inserted, so whoever reads up to `latest` finds it.
            self.latest = start


class LiveState:
    """What the open pages of one server share: the client, and the insertion of calls while a page is open."""

    def __init__(self, sandbox: Sandbox, inserter: CallInserter, poll_interval: float) -> None:
        self.sandbox = sandbox
        self.inserter = inserter
        self.poll_interval = poll_interval
        self._client: AsyncInsights | None = None
        self._client_lock = asyncio.Lock()
        self._viewers = 0
        self._viewed = asyncio.Event()

    async def client(self, server: tuple[str, int]) -> AsyncInsights:
        """Returns the client; the first request creates it, since the server's address is unknown before."""
        async with self._client_lock:
            if self._client is None:
                host = server[0] if ipaddress.ip_address(server[0]).is_loopback else "127.0.0.1"
                address = f"http://{f'[{host}]' if ':' in host else host}:{server[1]}/rest/v1"
                self._client = AsyncInsights(
                    self.sandbox.username, self.sandbox.key, base_url=address, concurrency=CONCURRENCY
                )
                await self._client.__aenter__()
            return self._client

    @contextlib.contextmanager
    def viewing(self) -> Any:
        """Inserts calls as long as at least one page is inside this context."""
        self._viewers += 1
        self._viewed.set()
        try:
            yield
        finally:
            self._viewers -= 1
            if not self._viewers:
                self._viewed.clear()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the insertion of calls, and closes the client at the end."""
        task = asyncio.create_task(self._insert_calls()) if self.inserter.interval > 0 else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
            if self._client is not None:
                await self._client.aclose()

    async def _insert_calls(self) -> None:
        while True:
            await self._viewed.wait()
            await asyncio.sleep(self.inserter.draw_delay())
            if self._viewers and self.inserter.active:
                # In a thread, since the store may be locked by a request.
                await asyncio.to_thread(self.inserter.insert)


async def _follow_viewed(live: LiveState, follower: CallFollower) -> AsyncGenerator[Call, None]:
    """Yields the calls of a follower; while it is read, calls are inserted."""
    with live.viewing():
        async with follower:
            async for call in follower:
                yield call


class _CountsResponse(StreamingResponse):
    """JSON Lines; their generator is closed when the browser disconnects."""

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        super().__init__(lines, headers=HEADERS, media_type=NDJSON)
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as in ASGI
        async def end_with_connection() -> None:
            # Starlette does this only with servers of ASGI below 2.4. Others raise an OSError when the next line is sent.
            while (await receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        async with contextlib.aclosing(self._lines), anyio.create_task_group() as tasks:
            tasks.start_soon(end_with_connection)
            with contextlib.suppress(OSError):
                await self.stream_response(send)
            tasks.cancel_scope.cancel()


async def _get_live(connection: HTTPConnection) -> LiveState:
    live: LiveState = getattr(connection.state, STATE)
    return live


async def _get_client(connection: HTTPConnection) -> AsyncInsights:
    return await (await _get_live(connection)).client(connection.scope["server"])


_LiveDep = Annotated[LiveState, Depends(_get_live)]
_routes = APIRouter()


@_routes.get("/")
async def _page() -> Response:
    """Responds with the page: one file that loads nothing else."""
    content = importlib.resources.files(__package__ or "").joinpath("page.html").read_bytes()
    return Response(content, media_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)


@_routes.get("/live/counts")
async def _counts(insights: InsightsDep, live: _LiveDep) -> StreamingResponse:
    """Counts all calls by hour and result, newest first, and sends each page's counts at once.

    The first line has the range (calls after `until` are sent as events), later lines have `hours`, the last has `done` or
    `error`.
    """
    until = live.inserter.latest
    calls = insights.stream(
        live.sandbox.start,
        until,
        order="call_start_DESC",
        fields=("call_start", "call_result"),
        page_size=COUNT_PAGE_SIZE,
    )
    header = {
        "start": live.sandbox.start,
        "end": live.sandbox.end,
        "until": f"{until:{_DATE_FORMAT}}",
        "arriving": live.inserter.active,
    }
    return _CountsResponse(_count(header, calls))


async def _count(header: Mapping[str, object], stream: CallStream) -> AsyncGenerator[bytes, None]:
    started, count = time.perf_counter(), 0
    yield _line(header)
    try:
        async with stream, contextlib.aclosing(stream.pages()) as pages:  # type: ignore[type-var] # a generator
            async for page in pages:
                count += len(page.calls)
                hours: dict[str, Counter[str]] = {}
                for call in page.calls:
                    hour = hours.setdefault(str(call.call_start)[:13], Counter())
                    hour[call.call_result or ""] += 1
                stats = stream.stats
                yield _line({"hours": hours, "progress": stats.progress, "requests": stats.requests})
    except IovoxError as error:
        yield _line(error_response(error).body)
        return
    seconds = round(time.perf_counter() - started, 2)
    yield _line({"done": True, "calls": count, "requests": stream.stats.requests, "seconds": seconds})


def _line(data: object) -> bytes:
    return msgspec.json.encode(data) + b"\n"


@_routes.get("/live/calls")
async def _calls(insights: InsightsDep, start: str, end: str) -> NDJSONResponse:
    """Responds with the rows of a range, newest first."""
    return NDJSONResponse(insights.stream(start, end, order="call_start_DESC", fields=ROW_FIELDS))


@_routes.get("/live/calls/{call_id}")
async def _call(insights: InsightsDep, call_id: int) -> Response:
    """Responds with all fields of one call."""
    calls = await insights.get(call_id, fields=Fields.ALL)
    if not calls:
        body = {"error": "NotFound", "detail": "There is no such call; it may have been deleted."}
        return JSONResponse(body, 404, HEADERS)
    return Response(encode_json(calls[0]), media_type="application/json", headers=HEADERS)


@_routes.get("/live/events")
async def _events(insights: InsightsDep, live: _LiveDep, since: str) -> SSEResponse:
    """Sends inserted calls as server-sent events until the browser disconnects."""
    follower = insights.follow(since, interval=live.poll_interval, lookback=60, fields=ROW_FIELDS)
    return SSEResponse(_follow_viewed(live, follower))


def add_live_page(sandbox: Sandbox, *, arrival_interval: float = 2.0, poll_interval: float = 1.0) -> None:
    """Adds the live page at `/` to a sandbox that is not being served yet.

    While a page is open, calls are inserted after the range of the generated calls. The page's requests count in
    `sandbox.stats` and are subject to `sandbox.faults`, like those of any client.

    Args:
        sandbox: the sandbox whose calls are shown.
        arrival_interval: mean seconds between two inserted calls; 0 for none. None are inserted either if the range ends
            more than a day after the current time.
        poll_interval: seconds between two requests for new calls.

    Raises:
        ConfigurationError: the sandbox already has a live page, or an interval is out of range.
        MissingExtraError: starlette is not installed.
    """
    if arrival_interval < 0:
        raise ConfigurationError("arrival_interval", f"must be at least 0, got {arrival_interval}")
    if poll_interval <= 0:
        raise ConfigurationError("poll_interval", f"must be greater than 0, got {poll_interval}")
    router = sandbox.app.router
    if any(isinstance(route, Mount) and route.name == STATE for route in router.routes):
        raise ConfigurationError(None, "the sandbox already has a live page")
    inserter = CallInserter(sandbox, arrival_interval)
    inner = router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        live = LiveState(sandbox, inserter, poll_interval)
        async with live.running(), inner(app) as state:
            yield {**(state or {}), STATE: live}

    # FastAPI's own documentation pages would load scripts from other hosts.
    page = FastAPI(title="iovox sandbox", docs_url=None, redoc_url=None, openapi_url=None)
    install_error_handlers(page)
    page.dependency_overrides[get_insights] = _get_client
    page.include_router(_routes)
    # The lifespan of a mounted application is not run, so the sandbox's application holds the state.
    router.lifespan_context = lifespan
    router.routes.append(Mount("/", app=page, name=STATE))


def page_url(base_url: str) -> str:
    """Returns the address of the page, given the base URL that `sandbox.serve()` returns."""
    return base_url.removesuffix("/rest/v1") + "/"
