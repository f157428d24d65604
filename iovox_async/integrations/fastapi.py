"""FastAPI integration: one client per application, streamed responses, and error handlers.

::

    from iovox_async.integrations.fastapi import InsightsDep, NDJSONResponse, insights_lifespan, install_error_handlers

    app = FastAPI(lifespan=insights_lifespan())
    install_error_handlers(app)

    @app.get("/calls", response_class=NDJSONResponse)  # for the media type in the OpenAPI document
    async def calls(insights: InsightsDep, start: date, end: date) -> NDJSONResponse:
        return NDJSONResponse(insights.stream(start, end))
"""

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from typing import Annotated, Any, TypeAlias

from iovox_async.client import AsyncInsights
from iovox_async.errors import ConfigurationError, IovoxError, MissingExtraError
from iovox_async.models import Call, Model

from ._error_response import error_response
from ._streaming import HEADERS, NDJSON, SSE, Format, NDJSONFormat, SSEFormat, stream_calls

try:
    from fastapi import Depends
    from fastapi.encoders import ENCODERS_BY_TYPE
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.types import Receive, Scope, Send
except ImportError as _error:
    raise MissingExtraError("iovox_async.integrations.fastapi", "fastapi") from _error

# A route without a return annotation is encoded by class, not by pydantic's schema.
ENCODERS_BY_TYPE.update(dict.fromkeys((Model, *Model.__subclasses__()), Model.to_dict))

__all__ = [
    "InsightsDep",
    "NDJSONResponse",
    "SSEResponse",
    "get_insights",
    "insights_lifespan",
    "install_error_handlers",
]

#: The name of the client in the application's state.
STATE = "iovox_insights"
#: nginx's status for a client that disconnected before the response.
CLIENT_CLOSED = 499
START, BODY = {"type": "http.response.start"}, {"type": "http.response.body"}
Lifespan: TypeAlias = Callable[[Any], contextlib.AbstractAsyncContextManager[Any]]


def insights_lifespan(
    make: Callable[[], AsyncInsights] = AsyncInsights, *, inner: Lifespan | None = None
) -> Lifespan:
    """Returns a lifespan that opens one client for the application and closes it at the end.

    Args:
        make: creates the client when the application starts; the default uses IOVOX_USERNAME and IOVOX_SECURE_KEY.
        inner: the application's own lifespan, run inside. Alternatively, use this one in your own:
            `async with insights_lifespan()(app) as state: yield {**state, "database": database}`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with make() as insights, inner(app) if inner else contextlib.nullcontext() as state:
            yield {**(state or {}), STATE: insights}

    return lifespan


async def get_insights(connection: HTTPConnection) -> AsyncInsights:
    """Returns the application's client; tests may replace it with `app.dependency_overrides[get_insights]`.

    Raises:
        ConfigurationError: the application has no client.
    """
    insights = getattr(connection.state, STATE, None)
    if not isinstance(insights, AsyncInsights):
        raise ConfigurationError(
            None,
            "the application has no AsyncInsights: its lifespan has not run",
            hint="Use FastAPI(lifespan=insights_lifespan()); in tests, enter it with `with TestClient(app) as client:`.",
        )
    return insights


#: The type of an endpoint's parameter that receives the application's client.
InsightsDep: TypeAlias = Annotated[AsyncInsights, Depends(get_insights)]


class NDJSONResponse(StreamingResponse):
    """A streamed response with one line of JSON per call.

    An error before the first call is raised, so it becomes a response with its own status. After that the status is already
    sent: the last line is then `{"error": ..., "detail": ..., "position": ...}` (no call has a key `error`), and the
    connection is closed before the response is complete (a `BaseHTTPMiddleware` completes it nevertheless).
    `stream(..., resume=position)` continues after the last call that was sent.

    Args:
        calls: a `CallStream`, a `CallFollower`, or any async iterable of calls; closed when all calls are sent or the
            client disconnects.
        status_code, headers, background: as in other responses.
    """

    media_type = NDJSON
    output_format: Format = NDJSONFormat()

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
        async def wait_for_disconnect() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        started = False

        async def start() -> None:
            nonlocal started
            started = True
            await send({**START, "status": self.status_code, "headers": self.raw_headers})

        await stream_calls(
            self._calls,
            self.output_format,
            start=start,
            write=lambda chunk: send({**BODY, "body": chunk, "more_body": bool(chunk)}),
            wait_for_disconnect=wait_for_disconnect,
            head=scope["method"] == "HEAD",
        )
        if not started:
            # The client has disconnected, so this is sent to no one; a `BaseHTTPMiddleware` would report a missing response.
            await send({**START, "status": CLIENT_CLOSED, "headers": []})
            await send(BODY)
        if self.background is not None:
            await self.background()


class SSEResponse(NDJSONResponse):
    """A streamed response with one server-sent event per call, whose `id` is the stream's position.

    The last event is `end`, or `failure` after an error. Pass the request header `Last-Event-ID` to `stream(resume=...)`,
    and a browser that reconnects continues after the last call it received.
    """

    media_type = SSE
    output_format: Format = SSEFormat()


def install_error_handlers(app: Starlette) -> None:
    """Turns errors of this package into responses with status 422, 500, 502, 503 (with Retry-After) or 504."""

    async def handle(_: Request, error: Exception) -> JSONResponse:
        response = error_response(error)
        return JSONResponse(response.body, response.status, response.headers)

    app.add_exception_handler(IovoxError, handle)
