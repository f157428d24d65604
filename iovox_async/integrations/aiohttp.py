"""aiohttp: one session an application, calls as a streamed answer, errors as sensible ones.

The law of this room: the application's loop is never held up, and a client that goes away takes its requests with it.

::

    from iovox_async.integrations.aiohttp import error_middleware, insights_ctx, get_insights, ndjson_response

    async def calls(request: web.Request) -> web.StreamResponse:
        return await ndjson_response(request, get_insights(request).stream("2024-01-01", "2024-01-31"))

    app = web.Application(middlewares=[error_middleware])
    app.cleanup_ctx.append(insights_ctx())
    app.router.add_get("/calls", calls)
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from iovox_async.client import AsyncInsights
from iovox_async.errors import ConfigurationError, IovoxError, MissingExtraError
from iovox_async.models import Call

from ._error_response import answer
from ._streaming import EVENTS, HEADERS, NDJSON, Events, Form, Lines, deliver

try:
    from aiohttp import web
except ImportError as _error:
    raise MissingExtraError("iovox_async.integrations.aiohttp", "aiohttp") from _error

__all__ = [
    "INSIGHTS_KEY",
    "error_middleware",
    "get_insights",
    "insights_ctx",
    "ndjson_response",
    "sse_response",
]

#: The key of the session: `app[INSIGHTS_KEY]`; in a sub-application `request.config_dict[INSIGHTS_KEY]`.
INSIGHTS_KEY: Final = web.AppKey("INSIGHTS_KEY", AsyncInsights)
#: Seconds between looks at whether the client is still there; aiohttp tells nobody of it.
LOOK: Final = 0.1


def insights_ctx(
    make: Callable[[], AsyncInsights] = AsyncInsights,
) -> Callable[[web.Application], AsyncIterator[None]]:
    """For `app.cleanup_ctx`: opens one session for the application and closes it at the end.

    Args:
        make: makes the session when the application starts; by default from IOVOX_USERNAME and IOVOX_SECURE_KEY.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with make() as insights:
            app[INSIGHTS_KEY] = insights
            yield

    return context


def get_insights(request: web.Request) -> AsyncInsights:
    """The application's session, also in a sub-application.

    Raises:
        ConfigurationError: the application has no session.
    """
    try:
        return request.config_dict[INSIGHTS_KEY]
    except KeyError as error:
        raise ConfigurationError(
            "the application has no session: app.cleanup_ctx.append(insights_ctx())"
        ) from error


async def ndjson_response(
    request: web.Request, calls: AsyncIterable[Call], *, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Answers with a line of JSON a call.

    An error before the first call is raised, and so becomes an answer with a status of its own (`error_middleware`).
    After that the status is sent: the last line is then `{"error": ..., "detail": ..., "position": ...}` (no call has a
    key `error`), and the connection is broken off, so that no client can take what it got for the whole.
    `stream(..., resume=position)` goes on behind the last call that was sent.

    Args:
        request: the request to answer.
        calls: a `CallStream`, a `CallFollower` or any iterable of calls; closed when all is sent, or when the client goes away.
        headers: more headers.
    """
    return await _stream(request, calls, Lines(), NDJSON, headers)


async def sse_response(
    request: web.Request, calls: AsyncIterable[Call], *, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """The same as server-sent events: a call a message, its `id` the stream's position; `end` after the last.

    An answer that broke ends with an event `failure`. Pass the header `Last-Event-ID` on as `stream(resume=...)`, and
    a browser that reconnects goes on exactly after the last call it got.
    """
    return await _stream(request, calls, Events(), EVENTS, headers)


async def _stream(
    request: web.Request, calls: AsyncIterable[Call], form: Form, kind: str, headers: Mapping[str, str] | None
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": kind, **HEADERS, **(headers or {})})

    async def begin() -> None:
        await response.prepare(request)

    async def write(chunk: bytes) -> None:
        await (response.write(chunk) if chunk else response.write_eof())

    async def gone() -> None:
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - as LOOK says
            await asyncio.sleep(LOOK)

    head = request.method == "HEAD"
    # Where the client is gone, aiohttp finds it so as it ends the response, and says nothing: an error would be logged as
    # the application's own.
    await deliver(calls, form, begin=begin, write=write, gone=gone, head=head)
    return response


@web.middleware
async def error_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Lets errors of this package become answers: 422, 502, 503 with Retry-After, 504, 500 (see `answers`)."""
    try:
        return await handler(request)
    except IovoxError as error:
        if request.writer.output_size:
            # Its answer has begun: aiohttp breaks the connection off.
            raise
        given = answer(error)
        return web.json_response(given.body, status=given.status, headers=given.headers)
