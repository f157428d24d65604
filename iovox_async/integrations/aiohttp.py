"""aiohttp integration: clients for the application, filters in the query, streamed responses, and an error middleware.

::

    from iovox_async.integrations.aiohttp import error_middleware, get_filters, get_insights, insights_ctx, ndjson_response

    async def calls(request: web.Request) -> web.StreamResponse:
        stream = get_insights(request).stream(request.query["start"], request.query["end"], **get_filters(request))
        return await ndjson_response(request, stream)

    app = web.Application(middlewares=[error_middleware])
    app.cleanup_ctx.append(insights_ctx())
    app.router.add_get("/calls", calls)
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from iovox_async import AsyncInsights
from iovox_async.errors import ConfigurationError, IovoxError, MissingExtraError
from iovox_async.models import Call
from iovox_async.query import Filters

from ._accounts import Clients, Makers, open_clients, select_client
from ._error_response import error_response, sent_name
from ._filters import filters_in
from ._streaming import HEADERS, NDJSON, SSE, Format, NDJSONFormat, SSEFormat, stream_calls

try:
    from aiohttp import web
except ImportError as _error:
    raise MissingExtraError("iovox_async.integrations.aiohttp", "aiohttp") from _error

__all__ = [
    "INSIGHTS_KEY",
    "error_middleware",
    "get_filters",
    "get_insights",
    "insights_ctx",
    "ndjson_response",
    "sse_response",
]

#: The key of an application's only client: `app[INSIGHTS_KEY]`; in a sub-application `request.config_dict[INSIGHTS_KEY]`.
INSIGHTS_KEY: Final = web.AppKey("INSIGHTS_KEY", AsyncInsights)
_CLIENTS_KEY: Final = web.AppKey[Clients]("_CLIENTS_KEY")
#: Seconds between two checks whether the client is still connected; aiohttp has no notification for it.
DISCONNECT_POLL: Final = 0.1


def insights_ctx(make: Makers = AsyncInsights) -> Callable[[web.Application], AsyncIterator[None]]:
    """Returns a context for `app.cleanup_ctx` that opens one client for the application, or one for each account.

    Args:
        make: creates the client when the application starts; the default uses IOVOX_USERNAME and IOVOX_SECURE_KEY. For
            several accounts, a dict of names and such functions; `get_insights(request, name)` returns the client of one.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with open_clients(make) as clients:
            app[_CLIENTS_KEY] = clients
            if None in clients:
                app[INSIGHTS_KEY] = clients[None]
            yield

    return context


def get_insights(request: web.Request, account: str | None = None) -> AsyncInsights:
    """Returns the client of the application or its parent: the only one, or that of an account.

    Raises:
        ConfigurationError: the application has no client, or not this one.
    """
    config = request.config_dict
    if account is None and INSIGHTS_KEY in config:
        return config[INSIGHTS_KEY]
    clients = config.get(_CLIENTS_KEY)
    if clients is None:
        raise ConfigurationError(
            None, "the application has no AsyncInsights", hint="Use app.cleanup_ctx.append(insights_ctx())."
        )
    return select_client(clients, account, "get_insights(request, name)")


def get_filters(request: web.Request) -> Filters:
    """The endpoint's filters among the parameters of the query, as keyword arguments: `stream(start, end, **get_filters(request))`.

    A list is sent as `tag_colour=RED,BLUE` or as `tag_colour=RED&tag_colour=BLUE`. Other parameters are left to the handler.

    Raises:
        QueryError: a value is invalid; `error_middleware` makes it a 422.
    """
    return filters_in(request.query.items())


async def ndjson_response(
    request: web.Request, calls: AsyncIterable[Call], *, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Streams a response with one line of JSON per call.

    An error before the first call is raised, so it becomes a response with its own status (`error_middleware`). After that
    the status is already sent: the last line is then `{"error": ..., "detail": ..., "position": ...}` (no call has a key
    `error`), and the connection is closed before the response is complete. `stream(..., resume=position)` continues after
    the last call that was sent.

    Args:
        request: the request to respond to.
        calls: a `CallStream`, a `CallFollower`, or any async iterable of calls; closed when all calls are sent or the
            client disconnects.
        headers: additional headers.
    """
    return await _stream(request, calls, NDJSONFormat(), NDJSON, headers)


async def sse_response(
    request: web.Request, calls: AsyncIterable[Call], *, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Streams a response with one server-sent event per call, whose `id` is the stream's position.

    The last event is `end`, or `failure` after an error. Pass the request header `Last-Event-ID` to `stream(resume=...)`,
    and a browser that reconnects continues after the last call it received. Arguments as in `ndjson_response`.
    """
    return await _stream(request, calls, SSEFormat(), SSE, headers)


async def _stream(
    request: web.Request,
    calls: AsyncIterable[Call],
    output_format: Format,
    media_type: str,
    headers: Mapping[str, str] | None,
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": media_type, **HEADERS, **(headers or {})})

    async def start() -> None:
        await response.prepare(request)

    async def write(chunk: bytes) -> None:
        await (response.write(chunk) if chunk else response.write_eof())

    async def wait_for_disconnect() -> None:
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - see DISCONNECT_POLL
            await asyncio.sleep(DISCONNECT_POLL)

    # If the client disconnected, the response is returned all the same: aiohttp ends it without a log line, while it would
    # log an error as the application's.
    await stream_calls(
        calls,
        output_format,
        start=start,
        write=write,
        wait_for_disconnect=wait_for_disconnect,
        head=request.method == "HEAD",
    )
    return response


@web.middleware
async def error_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turns errors of this package, and `TimeoutError`, into responses with status 422, 500, 502, 503 (with Retry-After) or 504.

    The body is `{"error": ..., "detail": ...}`, and for a 422 also `parameter`, under the name that the request has for it.
    """
    try:
        return await handler(request)
    except (IovoxError, TimeoutError) as error:
        if request.writer.output_size:
            # The response has started; aiohttp closes the connection.
            raise
        response = error_response(error)
        body = response.body
        if response.parameter is not None:
            body["parameter"], body["detail"] = sent_name(response, [*request.match_info, *request.query])
        return web.json_response(body, status=response.status, headers=response.headers)
