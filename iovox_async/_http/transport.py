"""Requests pages from the endpoint: `Endpoint.get_page` takes a query string, and returns a page or raises an error.

Invariants:

- Credentials are sent to the configured origin only.
- An attempt ends when the network has taken longer than its limit.
- A response is closed in spite of a cancellation, within a few seconds.
- A page is returned complete or not at all.

httpx's transports are used without its client, because the client copies custom headers to the target of a redirect and logs
the full URL with its phone numbers. httpx's timeouts apply to single reads, so each attempt has a `NetworkDeadline`. Its
gzip decoder accepts truncated bodies, so raw bytes are read and decoded here. Callers run in a task of `TaskSupervisor`.
"""

from __future__ import annotations

import contextlib
import copy
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from .._parsing.error_body import ERROR_BYTES, error_messages
from .._parsing.splitter import PageSplitter
from .._redaction import make_redactor
from .._wording import Wording
from ..errors import DecodeError, RequestError, RequestTimeout, ResponseError, TransportError
from .body import ResponseBody, check_response
from .deadline import NetworkDeadline
from .exceptions import CONNECTION_HINT, convert_exception
from .failures import RetryableFailure
from .headers import RequestHeaders, ResponseHeaders, secret_values
from .network import ConnectionLog, close_quietly, with_tracked_connections
from .responses import error_for_status
from .urls import format_origin

# anyio imports its backend at first use, which would block a running event loop for some milliseconds.
with contextlib.suppress(ImportError):
    import anyio._backends._asyncio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx

    from .._config import Sign
    from .._parsing.page import PageBuilder, RawPage
    from .connections import Connections, OpenConnections

#: Bytes of the largest page accepted, as sent and as decoded, unless the session sets another limit.
MAX_PAGE_BYTES: Final = 64 * 1024 * 1024
#: Characters of a message about a page, at most. Messages are cut after they are masked.
MAX_MESSAGE: Final = 300
#: Seconds for the body of an error; its status is enough to go on.
ERROR_BODY_SECONDS: Final = 5.0
#: Headers whose values are not searched for phone numbers, unless they contain a part of a URL: they consist of digits.
_NUMERIC_HEADER: Final = r"(?i)(^|-)id$|^(content-length|etag|age)$"
#: What only a URL contains.
_URL_PART: Final = r"://|[?&=%]"
#: Headers of every request.
_HEADERS: Final = (
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip"),
    # A page from a cache could miss calls that another page has shown already.
    (b"cache-control", b"no-cache"),
)


def _make_redactors(sign: Sign, headers: RequestHeaders) -> tuple[Callable[[str], str], Callable[[str], str]]:
    # A function of its own: the key must not be a variable of a frame that may become part of a traceback.
    secrets = [dict(sign())[b"secureKey"].decode(), *secret_values(headers)]
    return make_redactor(*secrets), make_redactor(*secrets, only_secrets=True)


class Endpoint:
    """Sends requests to one endpoint.

    Args:
        connections: what they are sent through.
        sign: returns the credential headers.
        timeout: seconds for one attempt, from start to last byte, without the time spent computing.
        headers: more headers, as `check_headers` returns them.
        max_page_bytes: size of the largest page accepted.
        on_date: called with the `Date` and `Age` headers of each page.

    Attributes:
        base_url: the URL below which the endpoint is.
    """

    def __init__(
        self,
        connections: Connections,
        sign: Sign,
        *,
        timeout: float,
        headers: RequestHeaders = (),
        max_page_bytes: int = MAX_PAGE_BYTES,
        on_date: Callable[[str | None, str | None], None] | None = None,
    ) -> None:
        self._connections = connections
        self.base_url: str = connections.base_url
        self._url = f"{connections.base_url}/calls/insights"
        self._address = connections.address
        self._through_proxy = connections.through_proxy
        self._own_pool = connections.own_pool
        self._sign = sign
        self._timeout = timeout
        self._max_page_bytes = max_page_bytes
        self._on_date = on_date
        self._set_headers(headers)

    def _set_headers(self, headers: RequestHeaders) -> None:
        self._headers = headers
        self._sends_user_agent = all(name.lower() != b"user-agent" for name, _ in headers)
        #: Masks the key, phone numbers and credentials in URLs; and the key only, in messages of this package.
        self._mask, self._mask_key = _make_redactors(self._sign, headers)

    def with_options(
        self, *, timeout: float | None = None, headers: RequestHeaders | None = None
    ) -> Endpoint:
        """The same endpoint over the same connections, with another timeout or with more headers."""
        view = copy.copy(self)
        if timeout is not None:
            view._timeout = timeout  # noqa: SLF001 - of the same class
        if headers:
            names = {name.lower() for name, _ in headers}
            kept = [item for item in self._headers if item[0].lower() not in names]
            view._set_headers((*kept, *headers))  # noqa: SLF001 - as above
        return view

    async def open(self) -> None:
        """Creates the connection pool without blocking the event loop."""
        await self._connections.open()

    async def aclose(self) -> None:
        """Closes all connections. Errors are ignored, and waiting ends after a few seconds."""
        await self._connections.aclose()

    async def get_page(
        self,
        params: str,
        *,
        time_limit: float,
        new_page: Callable[[], PageBuilder] = PageSplitter,
        wait_for_room: Callable[[], Awaitable[bool]] | None = None,
    ) -> RawPage:
        """Requests a page once.

        Args:
            params: the query string.
            time_limit: seconds for this attempt, if less than the session's `timeout`.
            new_page: creates the builder of the page.
            wait_for_room: awaited before each part of the page is received; returns whether a reader waits for it.

        Raises:
            RetryableFailure: a retry may succeed.
            RequestError: a retry would fail too.
        """
        opened = await self._connections.open()
        limit = min(self._timeout, time_limit)
        # With a transport of the user's, its events tell whether it reuses a connection.
        log = ConnectionLog(in_use=self._own_pool)
        try:
            with NetworkDeadline(limit) as deadline:
                make_body = partial(
                    ResponseBody,
                    max_bytes=self._max_page_bytes,
                    deadline=deadline,
                    wait_for_room=wait_for_room,
                )
                return await self._request(opened, params, new_page, make_body, log)
        except (RetryableFailure, RequestError) as error:
            self._complete(error.error if isinstance(error, RetryableFailure) else error)
            # Remove the traceback: the variables of its frames hold the page and the query.
            raise error.with_traceback(None)  # noqa: B904 - it is the same error
        if log.unreachable:
            problem = f"cannot connect to the server at {self._address} within {limit:g} seconds"
            raise RetryableFailure(RequestTimeout(problem, hint=CONNECTION_HINT), unreachable=True)
        timed_out = RequestTimeout(
            f"no complete response within {limit:g} seconds",
            hint=Wording("Raise {timeout} if pages take that long."),
        )
        self._complete(timed_out)
        raise RetryableFailure(timed_out, overload=True, splittable=True)

    def _complete(self, error: BaseException | None) -> None:
        """Names the proxy in an error of the network, and masks the key in its message and its causes, whatever wrote them."""
        if isinstance(error, TransportError) and self._through_proxy not in error.args[0]:
            error.args = (f"{error.args[0]} ({self._through_proxy})",)
        while error is not None:
            error.args = tuple(self._mask_key(arg) if isinstance(arg, str) else arg for arg in error.args)
            error = error.__cause__

    async def _request(
        self,
        opened: OpenConnections,
        params: str,
        new_page: Callable[[], PageBuilder],
        make_body: Callable[[httpx.Response], ResponseBody],
        log: ConnectionLog,
    ) -> RawPage:
        user_agent = ((b"user-agent", opened.user_agent),) if self._sends_user_agent else ()
        request = opened.engine.library.Request(
            "GET",
            f"{self._url}?{params}",
            headers=[*_HEADERS, *user_agent, *self._headers, *self._sign()],
            extensions=self._extensions(log),
        )
        body: ResponseBody | None = None
        try:
            response = await with_tracked_connections(opened.transport.handle_async_request(request), log)
            check_response(response, opened.engine)
            try:
                body = make_body(response)
                return await self._read_page(response, body, new_page)
            finally:
                await close_quietly(response.stream.aclose)
        except (RetryableFailure, RequestError):
            raise
        except Exception as error:
            raised_here = body is not None and not body.reading
            failure = convert_exception(
                error, response_started=raised_here, reused=log.reused, address=self._address
            )
            if failure is None:
                raise
        # Raised outside the except block: the library's exception, which may hold the request, must not become its context.
        try:
            raise failure
        finally:
            # The traceback of its cause holds this frame: a cycle, in which the page of a later attempt would live on.
            del failure

    def _extensions(self, log: ConnectionLog) -> dict[str, Any]:
        # The deadline covers the whole attempt; a timeout for each read would cost a timer each. A transport of the user's may
        # expect numbers: it gets more than twice the time, so that the deadline comes first.
        timeout = None if self._own_pool else 2 * self._timeout + 5
        extensions: dict[str, Any] = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout)}
        if not self._own_pool:
            extensions["trace"] = log.trace
        return extensions

    async def _read_page(
        self, response: httpx.Response, body: ResponseBody, new_page: Callable[[], PageBuilder]
    ) -> RawPage:
        if self._on_date is not None and response.status_code in {200, 204}:
            self._on_date(response.headers.get("date"), response.headers.get("age"))
        shown_headers = ResponseHeaders(
            (name, self._mask_header(name, value)) for name, value in response.headers.multi_items()
        )
        if response.status_code == 204:
            page = PageSplitter.empty()
            page.status_code, page.headers = 204, shown_headers
            return page
        if response.status_code != 200:
            messages = await self._error_messages(body)
            origin = self._mask(format_origin(response.headers.get("location")))
            failure = error_for_status(response.status_code, response.headers, messages, origin)
            error = failure.error if isinstance(failure, RetryableFailure) else failure
            assert isinstance(error, ResponseError)
            error.headers = shown_headers
            raise failure
        encoding = response.headers.get("content-encoding", "").strip().lower()
        codings = [coding for item in encoding.split(",") if (coding := item.strip()) not in {"identity", ""}]
        if codings not in ([], ["gzip"], ["x-gzip"]):
            problem = f"the page has the encoding {self._mask(encoding)[:40]!r}, but only gzip was accepted"
            raise RetryableFailure(DecodeError(problem), max_attempts=1)
        builder = new_page()
        body.receive_into(builder.space)
        try:
            async with contextlib.aclosing(body.joined_blocks()) as blocks:
                async for block in blocks:
                    await body.take_turn()
                    body.decode(builder.feed, block)
            body.deadline.stop()
            page = await builder.finish(body.received)
        except DecodeError as error:
            problem, hint = _cut(self._mask_key(error.args[0])), error.hint
        except RecursionError:
            problem, hint = "the page cannot be decoded: Python's recursion limit is too near", None
        else:
            page.headers = shown_headers
            return page
        # Raised outside the except block: the decoder's exception, which may hold the page, must not become its context.
        is_html = "html" in response.headers.get("content-type", "")
        # A page that is too large stays too large. HTML comes from a gateway, and rarely changes.
        max_attempts = 1 if body.too_large else 2 if is_html else None
        raise RetryableFailure(
            DecodeError(problem, hint=hint), splittable=not is_html, max_attempts=max_attempts
        )

    def _mask_header(self, name: str, value: str) -> str:
        """Masks the key and phone numbers; in the id of a request only the key, unless the server repeats a URL there."""
        only_key = re.search(_NUMERIC_HEADER, name) and not re.search(_URL_PART, value)
        return (self._mask_key if only_key else self._mask)(value)

    async def _error_messages(self, body: ResponseBody) -> tuple[str, ...]:
        """The messages in an error body. Failures while reading it are ignored: the status decides."""
        data = b""
        with contextlib.suppress(Exception), anyio.move_on_after(ERROR_BODY_SECONDS):
            async with contextlib.aclosing(body.blocks()) as blocks:
                async for block in blocks:
                    data += block
                    if len(data) >= ERROR_BYTES:
                        break
        return error_messages(data, self._mask)


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 1]}…"
