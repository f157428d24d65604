"""FastAPI: one session an application, calls as a streamed answer, errors as sensible ones.

The law of this room: the application's loop is never held up, and a browser that goes away takes its requests with it.

::

    from iovox_async.integrations.fastapi import Insights, NDJSONResponse, insights_lifespan, install_error_handlers

    app = FastAPI(lifespan=insights_lifespan())
    install_error_handlers(app)

    @app.get("/calls", response_class=NDJSONResponse)  # so that its documentation names the type
    async def calls(insights: Insights, start: date, end: date) -> NDJSONResponse:
        return NDJSONResponse(insights.stream(start, end))
"""

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from typing import Annotated, Any, TypeAlias

from iovox_async.client import AsyncInsights
from iovox_async.errors import ConfigurationError, IovoxError, MissingExtraError
from iovox_async.models import Call

from ._error_response import answer
from ._streaming import EVENTS, HEADERS, NDJSON, Events, Form, Lines, deliver

try:
    from fastapi import Depends
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.types import Receive, Scope, Send
except ImportError as _error:
    raise MissingExtraError("iovox_async.integrations.fastapi", "fastapi") from _error

__all__ = [
    "InsightsDep",
    "NDJSONResponse",
    "SSEResponse",
    "get_insights",
    "insights_lifespan",
    "install_error_handlers",
]

#: Under which name the state of an application holds its session.
STATE = "iovox_insights"
START, BODY = {"type": "http.response.start"}, {"type": "http.response.body"}
Lifespan: TypeAlias = Callable[[Any], contextlib.AbstractAsyncContextManager[Any]]


def insights_lifespan(
    make: Callable[[], AsyncInsights] = AsyncInsights, *, inner: Lifespan | None = None
) -> Lifespan:
    """A lifespan that opens one session for the application and closes it at the end.

    Args:
        make: makes the session when the application starts; by default from IOVOX_USERNAME and IOVOX_SECURE_KEY.
        inner: the application's own lifespan, run inside. The other way round works too, in a lifespan of your own:
            `async with insights_lifespan()(app) as state: yield {**state, "database": database}`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with make() as insights, inner(app) if inner else contextlib.nullcontext() as state:
            yield {**(state or {}), STATE: insights}

    return lifespan


async def get_insights(connection: HTTPConnection) -> AsyncInsights:
    """The application's session; in tests, `app.dependency_overrides[get_insights]` gives another.

    Raises:
        ConfigurationError: the application has no session.
    """
    insights = getattr(connection.state, STATE, None)
    if not isinstance(insights, AsyncInsights):
        raise ConfigurationError("the application has no session: FastAPI(lifespan=insights_lifespan())")
    return insights


#: A parameter `insights: InsightsDep` of an endpoint is the application's session.
InsightsDep: TypeAlias = Annotated[AsyncInsights, Depends(get_insights)]


class NDJSONResponse(StreamingResponse):
    """A `CallStream`, a `CallFollower` or any iterable of calls, as a line of JSON a call.

    An error before the first call is raised, and so becomes an answer with a status of its own. After that the status
    is sent: the last line is then `{"error": ..., "detail": ..., "position": ...}` (no call has a key `error`), and the
    connection is broken off (a `BaseHTTPMiddleware` ends it cleanly all the same), so that nobody takes what came for
    the whole. `stream(..., resume=position)` goes on behind the last call that was sent.

    Args:
        calls: closed when all is sent, or when the client goes away.
        status_code, headers, background: as with any response.
    """

    media_type = NDJSON
    form: Form = Lines()

    def __init__(
        self,
        calls: AsyncIterable[Call],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        super().__init__((), status_code, {**HEADERS, **(headers or {})}, background=background)
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        await deliver(
            self._calls,
            self.form,
            begin=lambda: send({**START, "status": self.status_code, "headers": self.raw_headers}),
            write=lambda chunk: send({**BODY, "body": chunk, "more_body": bool(chunk)}),
            gone=gone,
            head=scope["method"] == "HEAD",
        )
        if self.background is not None:
            await self.background()


class SSEResponse(NDJSONResponse):
    """The same as server-sent events: a call a message, its `id` the stream's position.

    After the last comes an event `end`; an answer that broke ends with an event `failure`. Pass the header
    `Last-Event-ID` on as `stream(resume=...)`, and a browser that reconnects goes on exactly where it was.
    """

    media_type = EVENTS
    form: Form = Events()


def install_error_handlers(app: Starlette) -> None:
    """Lets errors of this package become answers: 422, 502, 503 with Retry-After, 504, 500 (see `answers`)."""

    async def handle(_: Request, error: Exception) -> JSONResponse:
        given = answer(error)
        return JSONResponse(given.body, given.status, given.headers)

    app.add_exception_handler(IovoxError, handle)
