"""Starlette integration: clients for the application, streamed responses, and error handlers. FastAPI uses it too.

::

    from iovox_async.integrations.starlette import NDJSONResponse, get_insights, insights_lifespan, install_error_handlers

    async def calls(request: Request) -> NDJSONResponse:
        insights = await get_insights(request)
        return NDJSONResponse(insights.stream(request.query_params["start"], **get_filters(request)))

    app = Starlette(routes=[Route("/calls", calls)], lifespan=insights_lifespan())
    install_error_handlers(app)
"""

import contextlib
import functools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeAlias

from iovox_async import AsyncInsights
from iovox_async.errors import ConfigurationError, IovoxError, MissingExtraError
from iovox_async.models import Call
from iovox_async.query import Filters

from ._accounts import Makers, open_clients, select_client
from ._error_response import ErrorResponse, error_response, sent_name
from ._filters import filters_in
from ._streaming import HEADERS, NDJSON, SSE, Format, NDJSONFormat, SSEFormat, stream_calls

try:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.types import Receive, Scope, Send
except ImportError as _error:
    raise MissingExtraError("iovox_async.integrations.starlette", "starlette") from _error

__all__ = [
    "ErrorResponse",
    "NDJSONResponse",
    "SSEResponse",
    "error_response",
    "get_filters",
    "get_insights",
    "insights_for",
    "insights_lifespan",
    "install_error_handlers",
]

#: The name of the client in the application's state.
STATE = "iovox_insights"
#: nginx's status for a client that disconnected before the response.
CLIENT_CLOSED = 499
START, BODY = {"type": "http.response.start"}, {"type": "http.response.body"}
Lifespan: TypeAlias = Callable[[Any], contextlib.AbstractAsyncContextManager[Any]]


def insights_lifespan(make: Makers = AsyncInsights, *, inner: Lifespan | None = None) -> Lifespan:
    """Returns a lifespan that opens one client for the application, or one for each account, and closes them at the end.

    Args:
        make: creates the client when the application starts; the default uses IOVOX_USERNAME and IOVOX_SECURE_KEY. For
            several accounts, a dict of names and such functions; `insights_for(name)` finds the client of an account.
        inner: the application's own lifespan, run inside. Alternatively, use this one in your own:
            `async with insights_lifespan()(app) as state: yield {**state, "database": database}`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with open_clients(make) as clients, inner(app) if inner else contextlib.nullcontext() as state:
            yield {**(state or {}), STATE: clients}

    return lifespan


async def get_insights(connection: HTTPConnection) -> AsyncInsights:
    """Returns the application's only client; tests may replace it with `app.dependency_overrides[get_insights]`.

    Raises:
        ConfigurationError: the application has no client, or several.
    """
    return _select(connection, None)


@functools.cache
def insights_for(account: str) -> Callable[[HTTPConnection], Coroutine[Any, Any, AsyncInsights]]:
    """Returns a function as `get_insights` for one of several accounts, the same function for the same name.

    With FastAPI: `Annotated[AsyncInsights, Depends(insights_for("london"))]`.
    """

    async def get_insights_of_account(connection: HTTPConnection) -> AsyncInsights:
        return _select(connection, account)

    return get_insights_of_account


def get_filters(request: Request) -> Filters:
    """The endpoint's filters among the parameters of the query, as keyword arguments: `stream(start, end, **get_filters(request))`.

    A list is sent as `tag_colour=RED,BLUE` or as `tag_colour=RED&tag_colour=BLUE`. Other parameters are left to the endpoint.
    With FastAPI, use `CallFilters`.

    Raises:
        QueryError: a value is invalid; the handlers of `install_error_handlers` make it a 422.
    """
    return filters_in(request.query_params.multi_items())


def _select(connection: HTTPConnection, account: str | None) -> AsyncInsights:
    clients = getattr(connection.state, STATE, None)
    if clients is None:
        raise ConfigurationError(
            None,
            "the application has no AsyncInsights: its lifespan has not run",
            hint="Use FastAPI(lifespan=insights_lifespan()); in tests, enter it with `with TestClient(app) as client:`.",
        )
    return select_client(clients, account, "insights_for(name)")


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
    """Turns errors of this package, and `TimeoutError`, into responses with status 422, 500, 502, 503 or 504.

    The body has FastAPI's form: `{"detail": "..."}`, and for an invalid parameter (422)
    `{"detail": [{"type": "value_error", "loc": ["query", "start"], "msg": "...", "input": "..."}]}` with the name that the
    route has for it. A 503 has Retry-After.
    """

    async def handle(request: Request, error: Exception) -> JSONResponse:
        response = error_response(error)
        detail = _describe_parameter(request, response) if response.parameter else response.detail
        return JSONResponse({"detail": detail}, response.status, response.headers)

    app.add_exception_handler(IovoxError, handle)
    app.add_exception_handler(TimeoutError, handle)


def _describe_parameter(request: Request, response: ErrorResponse) -> list[dict[str, Any]]:
    """The detail of a 422 as FastAPI writes it."""
    sent = {
        "path": request.path_params,
        "query": request.query_params,
        "header": request.headers,
        "cookie": request.cookies,
    }
    declared = dict(_declared_parameters(getattr(request.scope.get("route"), "dependant", None)))
    names = dict.fromkeys(request.query_params, "query") | dict.fromkeys(request.path_params, "path")
    name, message = sent_name(response, {**declared, **names})
    place = names.get(name) or declared.get(name) or "query"
    problem = {"type": "value_error", "loc": [place, name], "msg": message}
    if not response.is_phone and (value := sent.get(place, {}).get(name)) is not None:
        problem["input"] = value
    return [problem]


def _declared_parameters(dependant: Any) -> Iterator[tuple[str, str]]:
    """The names of the parameters of a FastAPI route, and where each is sent; nothing for other routes."""
    if dependant is None:
        return
    for place in ("cookie", "header", "query", "path"):
        for field in getattr(dependant, f"{place}_params", ()):
            model = getattr(field.field_info.annotation, "model_fields", None)
            for name in (field.alias,) if model is None else model:
                yield name, place
    for dependency in getattr(dependant, "dependencies", ()):
        yield from _declared_parameters(dependency)
