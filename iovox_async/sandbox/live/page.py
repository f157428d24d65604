"""The live page: a sandbox's calls in a browser, as they arrive.

The law of this room: the page is a client like any other. It reads the sandbox over HTTP, through an `AsyncInsights`
session and the FastAPI integration; only the arrivals that it is there to show are made in the sandbox itself.

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

import msgspec

from iovox_async.client import AsyncInsights
from iovox_async.errors import ConfigurationError, IovoxError, MissingExtraError
from iovox_async.fields import Fields
from iovox_async.follow import CallFollower
from iovox_async.models import Call
from iovox_async.sandbox import Sandbox
from iovox_async.stream import CallStream

from ...integrations._error_response import answer
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
#: What a row of the list shows.
ROW: Final = (
    *("id", "call_start", "call_result", "call_origin", "call_origin_location", "direction"),
    *("node_name", "link_name", "talk_time_seconds", "has_recording"),
)
#: Requests in flight, at most, for all open pages: the sandbox is there for its other clients too.
CONCURRENCY: Final = 4
#: Calls that are counted at a time: few enough for a chart that grows, and for the loop that serves it.
COUNTED: Final = 5_000
#: The longest time between two calls that arrive, on the account's clock.
GAP_MAXIMUM: Final = 3600.0
DAY: Final = timedelta(days=1)
_MOMENT: Final = "%Y-%m-%d %H:%M:%S"
_PAGE_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Arrivals:
    """Calls that arrive after those that were drawn: each later than all before it, about as dense as the last day.

    So what other clients read of the range that was drawn stays as it is, and a page that has counted up to `newest`
    misses nothing and sees nothing twice.
    """

    def __init__(self, box: Sandbox, every: float) -> None:
        self.every = every
        #: The newest second that may hold a call.
        self.newest: datetime = datetime.fromisoformat(box.end)
        self._box = box
        self._random = random.Random(box.seed)  # noqa: S311 - a timetable, and the same for the same seed
        self._lock = threading.Lock()
        day = box.ids(self.newest - DAY, self.newest)
        self._gap = min(DAY.total_seconds() / max(len(day), 1), GAP_MAXIMUM)

    @property
    def possible(self) -> bool:
        """Whether calls arrive: who follows an account looks one day ahead, at most."""
        return self.every > 0 and self.newest < datetime.now() + DAY - timedelta(minutes=1)  # noqa: DTZ005 - the account's clock has no zone

    def pause(self) -> float:
        """Seconds until the next call arrives."""
        return self.every * self._random.uniform(0.4, 1.6)

    def arrive(self) -> None:
        """Lets one call arrive; from any thread."""
        with self._lock:
            natural = timedelta(seconds=int(min(1 + self._random.expovariate(1 / self._gap), GAP_MAXIMUM)))
            second = self.newest + natural
            if second > datetime.now():  # noqa: DTZ005 - as above
                second = self.newest + timedelta(seconds=1)
            self._box.add([{"call_start": f"{second:{_MOMENT}}"}])
            # Only now: whoever has read up to `newest` has read all of it.
            self.newest = second


class Live:
    """What the open pages of one server share: the session, and the arrivals that they watch."""

    def __init__(self, box: Sandbox, arrivals: Arrivals, poll: float) -> None:
        self.box = box
        self.arrivals = arrivals
        self.poll = poll
        self._session: AsyncInsights | None = None
        self._opening = asyncio.Lock()
        self._watchers = 0
        self._watched = asyncio.Event()

    async def session(self, server: tuple[str, int]) -> AsyncInsights:
        """The session; opened at the first request, which is the first to tell the server's own address."""
        async with self._opening:
            if self._session is None:
                host = server[0] if ipaddress.ip_address(server[0]).is_loopback else "127.0.0.1"
                address = f"http://{f'[{host}]' if ':' in host else host}:{server[1]}/rest/v1"
                self._session = AsyncInsights(
                    self.box.username, self.box.key, base_url=address, concurrency=CONCURRENCY
                )
                await self._session.__aenter__()
            return self._session

    @contextlib.contextmanager
    def watching(self) -> Any:
        """While this lasts, calls arrive."""
        self._watchers += 1
        self._watched.set()
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._watched.clear()

    @property
    def watchers(self) -> int:
        """Pages that are open now."""
        return self._watchers

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Lets calls arrive while a page is open; closes the session at the end."""
        task = asyncio.create_task(self._arrive()) if self.arrivals.every > 0 else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
            if self._session is not None:
                await self._session.aclose()

    async def _arrive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._watched.wait()
            await asyncio.sleep(self.arrivals.pause())
            if self._watchers and self.arrivals.possible:
                # The store may be at work on a page; the loop does not wait for it.
                await loop.run_in_executor(self.box.workers, self.arrivals.arrive)


class Watched:
    """A `CallFollower` that keeps calls arriving while somebody reads it."""

    def __init__(self, live: Live, follow: CallFollower) -> None:
        self._live = live
        self._follow = follow
        self._calls = self._read()

    async def _read(self) -> AsyncGenerator[Call, None]:
        with self._live.watching():
            async for call in self._follow:
                yield call

    def __aiter__(self) -> AsyncIterator[Call]:
        return self._calls

    async def aclose(self) -> None:
        """Ends following."""
        await self._calls.aclose()
        await self._follow.aclose()


class _Lines(StreamingResponse):
    """Lines of JSON; what they are made of is closed when the browser goes away."""

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        super().__init__(lines, headers=HEADERS, media_type=NDJSON)
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(self._lines):
            await super().__call__(scope, receive, send)


async def _live(connection: HTTPConnection) -> Live:
    live: Live = getattr(connection.state, STATE)
    return live


async def _session(connection: HTTPConnection) -> AsyncInsights:
    return await (await _live(connection)).session(connection.scope["server"])


_Live = Annotated[Live, Depends(_live)]
_routes = APIRouter()


@_routes.get("/")
async def _page() -> Response:
    """The page: one file that loads nothing else."""
    text = importlib.resources.files(__package__ or "").joinpath("page.html").read_bytes()
    return Response(text, media_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)


@_routes.get("/live/counts")
async def _counts(insights: InsightsDep, live: _Live) -> StreamingResponse:
    """All calls, counted by hour and result, newest first; a line as soon as more is known.

    First a line of the range (`until`: what is later comes as an event), then lines with `hours`, then `done` or `error`.
    """
    until = live.arrivals.newest
    calls = insights.stream(
        live.box.start,
        until,
        order="call_start_DESC",
        fields=("call_start", "call_result"),
        page_size=COUNTED,
    )
    head = {
        "start": live.box.start,
        "end": live.box.end,
        "until": f"{until:{_MOMENT}}",
        "arriving": live.arrivals.possible,
    }
    return _Lines(_counted(head, calls))


async def _counted(head: Mapping[str, object], stream: CallStream) -> AsyncGenerator[bytes, None]:
    began, counted = time.perf_counter(), 0
    yield _line(head)
    try:
        async with stream, contextlib.aclosing(stream.pages()) as pages:  # type: ignore[type-var] # a generator
            async for page in pages:
                counted += len(page.calls)
                hours: dict[str, Counter[str]] = {}
                for call in page.calls:
                    hour = hours.setdefault(str(call.call_start)[:13], Counter())
                    hour[call.call_result or ""] += 1
                stats = stream.stats
                yield _line({"hours": hours, "progress": stats.progress, "requests": stats.requests})
    except IovoxError as error:
        yield _line(answer(error).body)
        return
    seconds = round(time.perf_counter() - began, 2)
    yield _line({"done": True, "calls": counted, "requests": stream.stats.requests, "seconds": seconds})


def _line(data: object) -> bytes:
    return msgspec.json.encode(data) + b"\n"


@_routes.get("/live/calls")
async def _calls(insights: InsightsDep, start: str, end: str) -> NDJSONResponse:
    """The rows of a stretch, newest first."""
    return NDJSONResponse(insights.stream(start, end, order="call_start_DESC", fields=ROW))


@_routes.get("/live/calls/{call_id}")
async def _call(insights: InsightsDep, call_id: int) -> Response:
    """One call, whole, with its dialogue."""
    found = await insights.get(call_id, fields=Fields.ALL)
    if not found:
        gone = {"error": "NotFound", "detail": "There is no such call; it may have been removed."}
        return JSONResponse(gone, 404, HEADERS)
    return Response(msgspec.json.encode(found[0].to_dict()), media_type="application/json", headers=HEADERS)


@_routes.get("/live/events")
async def _events(insights: InsightsDep, live: _Live, since: str) -> SSEResponse:
    """Calls that arrive, as server-sent events, until the browser leaves."""
    return SSEResponse(Watched(live, insights.follow(since, interval=live.poll, lookback=60, fields=ROW)))


def add_live_page(sandbox: Sandbox, *, every: float = 2.0, poll: float = 1.0) -> None:
    """Puts the live page at `/` of a sandbox that is not served yet.

    While a page is open, a call arrives every now and then, after the end of the range that was drawn. An open page asks the
    sandbox as any client does, so it counts in `sandbox.stats` and meets `sandbox.faults`.

    Args:
        sandbox: whose calls are shown.
        every: seconds between two arrivals, on average; 0: none arrive. A range that ends more than a day ahead of this
            machine's clock gets none either.
        poll: seconds between two looks for new calls.

    Raises:
        ConfigurationError: the sandbox has a live page already, or a number is out of range.
        MissingExtraError: starlette is not installed.
    """
    if every < 0 or poll <= 0:
        raise ConfigurationError("add_live_page(every=..., poll=...): seconds, poll above 0, every 0 or more")
    router = sandbox.app.router
    if any(isinstance(route, Mount) and route.name == STATE for route in router.routes):
        raise ConfigurationError("add_live_page(): this sandbox has a live page already")
    arrivals = Arrivals(sandbox, every)
    inner = router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        live = Live(sandbox, arrivals, poll)
        async with live.running(), inner(app) as state:
            yield {**(state or {}), STATE: live}

    # Its own pages of documentation would load scripts from elsewhere.
    page = FastAPI(title="iovox sandbox", docs_url=None, redoc_url=None, openapi_url=None)
    install_error_handlers(page)
    page.dependency_overrides[get_insights] = _session
    page.include_router(_routes)
    # A mounted application has no lifespan of its own, so the sandbox's holds what it needs.
    router.lifespan_context = lifespan
    router.routes.append(Mount("/", app=page, name=STATE))


def page_url(base_url: str) -> str:
    """Where the page is, given what `sandbox.serve()` gives."""
    return base_url.removesuffix("/rest/v1") + "/"
