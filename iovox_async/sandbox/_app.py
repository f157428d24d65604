"""The ASGI application of `GET {base}/calls/insights`, and the faults of its responses.

A request is checked in this order: credentials, method, query, delay, fault; then its page is read. Statuses and error
messages are those of the documentation. Responses that break HTTP's framing are written to the connection directly, since
no server library writes them; they need the sandbox's own server.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from xml.sax.saxutils import escape

import attrs

from iovox_async.errors import TransportError

from ._request import ParsedRequest, RequestErrors, parse_request
from .faults import FaultKind, Faults, choose_delay, choose_fault, choose_kind
from .stats import Request, RequestCounters

if TYPE_CHECKING:
    from ._store import StoredPage

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]
ReadPage: TypeAlias = "Callable[[ParsedRequest, int], StoredPage]"

#: The key of the ASGI scope that holds the connection, a `RawConnection`.
CONNECTION_KEY = "iovox_sandbox.connection"
#: Bytes of a body that are sent at a time, so that a slow reader delays only its own response.
CHUNK_SIZE = 256 * 1024
_JSON = (b"content-type", b"application/json")
_GZIP = (b"content-encoding", b"gzip")
_HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><h1>Welcome to the Wi-Fi</h1></body></html>\n"
#: Documented error messages; other statuses have HTTP's own phrase.
_MESSAGES = {401: "HTTP 401: Unauthorized", 403: "HTTP 403: Forbidden", 500: "Internal Server Error"}
#: Faults that send a part of the page; the others do not read it.
_NEEDS_PAGE: frozenset[FaultKind] = frozenset(
    {
        *("cut", "cut_chunked", "cut_clean", "reset_midway", "hang_midway", "drip"),
        *("gzip_cut", "gzip_no_trailer", "gzip_crc"),
    }
)


class RawConnection(Protocol):
    """A connection of the sandbox's server, for faults below HTTP."""

    @property
    def lost(self) -> bool:
        """Whether the connection is closed or closing."""

    def write(self, data: bytes) -> None:
        """Sends bytes unchanged."""

    async def flush(self) -> None:
        """Waits until all bytes are passed to the operating system."""

    def close(self) -> None:
        """Closes after everything is sent."""

    def reset(self, linger: bytes) -> None:
        """Resets at once; `linger` is the value of SO_LINGER."""


@attrs.define
class SandboxState:
    """What a sandbox shares with its servers."""

    seed: int
    faults: Faults
    username: str
    key: str
    now: Callable[[], datetime]
    counters: RequestCounters = attrs.field(factory=RequestCounters)


class SandboxApp:
    """The ASGI application behind `/calls/insights`.

    Args:
        state: shared with the sandbox.
        read_page: reads the page of a request, given its number; called in another thread.
    """

    def __init__(self, state: SandboxState, read_page: ReadPage) -> None:
        self._state = state
        self._read_page = read_page

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Responds to one request and counts it."""
        handler = RequestHandler(self._state, self._read_page, scope, receive, send)
        try:
            await handler.respond()
        finally:
            handler.count()


class RequestHandler:
    """Handles one request."""

    def __init__(
        self,
        state: SandboxState,
        read_page: ReadPage,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        self._state = state
        self._read_page = read_page
        self._faults = state.faults
        self._scope = scope
        self._receive = receive
        self._send = send
        self._number, self._generation = state.counters.start_request()
        self._query = scope["query_string"].decode("latin-1")
        # None if the application runs under another server or a test transport.
        self._connection: RawConnection | None = scope.get(CONNECTION_KEY)
        self._outcome = ""
        self._rows = self._offset_rows = self._bytes = 0
        self._client_left = self._counted = False

    def count(self) -> None:
        """Counts how the request ended, once.

        This happens before the last bytes are sent, so a client that has the response finds it counted.
        """
        if self._counted:
            return
        self._counted = True
        lost = self._connection is not None and self._connection.lost
        abandoned = self._client_left or (self._outcome == "200" and lost)
        complete = self._outcome == "200" and not abandoned
        rows = self._rows if complete else 0
        self._state.counters.finish_request(
            Request(self._number, self._query, self._outcome or "abandoned", rows),
            self._generation,
            answered=int(complete),
            failed=int(not complete and self._outcome not in {"", "200"}),
            abandoned=int(abandoned),
            rows=rows,
            offset_rows=self._offset_rows,
            bytes=self._bytes,
        )

    async def respond(self) -> None:
        """Checks the request and sends a response."""
        # The first message is the request; a later one says that the client closed the connection.
        await self._receive()
        faults, number, seed = self._faults, self._number, self._state.seed
        headers = dict(self._scope["headers"])
        if not self._authorized(headers):
            await self._send_errors(RequestErrors((_MESSAGES[401],), 401))
            return
        method = self._scope["method"]
        if method != "GET":
            await self._send_errors(RequestErrors((f"Request Method must be GET. {method} attempted",)))
            return
        request = parse_request(self._query, self._state.now())
        if isinstance(request, RequestErrors):
            await self._send_errors(request)
            return
        if await self._client_leaves_within(choose_delay(faults, number, seed)):
            return
        kind = choose_fault(faults, number, seed)
        if kind is not None and kind not in _NEEDS_PAGE:
            await self._send_fault(kind, b"")
            return
        page = await asyncio.get_running_loop().run_in_executor(None, self._read_page, request, number)
        self._offset_rows = page.offset_rows
        if kind is None and faults.fail_above_rows is not None and page.rows > faults.fail_above_rows:
            kind = choose_kind(faults, number, seed)
        if kind is not None:
            await self._send_fault(kind, page.body)
            return
        self._rows = page.rows
        await self._send_page(page.body, headers)

    def _authorized(self, headers: dict[bytes, bytes]) -> bool:
        # Both are always compared, in constant time: a sandbox may be reachable over a network.
        state = self._state
        username = secrets.compare_digest(headers.get(b"username", b""), state.username.encode())
        key = secrets.compare_digest(headers.get(b"securekey", b""), state.key.encode())
        return username and key

    async def _client_leaves_within(self, seconds: float | None) -> bool:
        """Waits for `seconds`, or without limit; returns True as soon as the client closes the connection."""
        if seconds is not None and seconds <= 0:
            return False
        try:
            async with asyncio.timeout(seconds):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        self._client_left = True
        return True

    async def _send_page(self, body: bytes, headers: dict[bytes, bytes]) -> None:
        if self._faults.gzip and b"gzip" in headers.get(b"accept-encoding", b"").lower():
            body = await asyncio.get_running_loop().run_in_executor(None, gzip.compress, body, 1)
            await self._send_response(200, body, _JSON, _GZIP)
        else:
            await self._send_response(200, body, _JSON)

    async def _send_errors(self, errors: RequestErrors, *headers: Header) -> None:
        encode, mime = _ERROR_ENCODERS[self._faults.error_format]
        await self._send_response(errors.status, encode(errors), (b"content-type", mime), *headers)

    async def _send_fault(self, kind: FaultKind, body: bytes) -> None:
        """Fails in the way of `kind`; `body` is the body of the response without the fault."""
        self._outcome = kind
        if kind.isdigit():
            status = int(kind)
            message = _MESSAGES.get(status, HTTPStatus(status).phrase)
            await self._send_errors(RequestErrors((message,), status), *self._status_headers(status))
        elif kind == "hang":
            await self._client_leaves_within(None)
        elif kind == "drip":
            await self._send_slowly(body)
        elif kind.startswith("gzip"):
            await self._send_response(200, _damage_gzip(kind, body), _JSON, _GZIP)
        elif kind == "html":
            await self._send_response(200, _HTML, (b"content-type", b"text/html; charset=utf-8"))
        elif kind in {"garbage", "empty"}:
            await self._send_response(200, b'[{"id":30683,\x00\xff\xfe' if kind == "garbage" else b"", _JSON)
        else:
            part = b"" if kind in {"close", "reset"} else body[: max(len(body) // 2, 1)]
            self._bytes += len(part)
            if kind != "hang_midway":
                self.count()
            await self._break_off(kind, part, len(body))
            await self._client_leaves_within(None)

    def _status_headers(self, status: int) -> tuple[Header, ...]:
        if status == 302:
            return ((b"location", self._faults.location.encode("latin-1")),)
        if status in {429, 503} and self._faults.retry_after is not None:
            return ((b"retry-after", str(self._faults.retry_after).encode("latin-1")),)
        return ()

    async def _break_off(self, kind: FaultKind, part: bytes, length: int) -> None:
        """Starts a response with a body of `length`, sends `part` of it, and ends the connection or hangs."""
        connection = self._connection
        if connection is None:
            raise TransportError(f"fault {kind!r} needs a real connection", hint="Use sandbox.serve().")
        framing, data = f"Content-Length: {length}", part
        if kind == "cut_chunked":
            framing, data = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (len(part), part)
        elif kind == "cut_clean":
            # Without a length, the end of the connection is the end of the body, so HTTP cannot detect the cut.
            framing = "Connection: close"
        if part:
            date = formatdate(usegmt=True)
            head = f"HTTP/1.1 200 OK\r\ndate: {date}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n"
            connection.write(head.encode() + data)
            await connection.flush()
        if kind.startswith("reset"):
            connection.reset(struct.pack("ii", 1, 0))
        elif kind != "hang_midway":
            connection.close()

    async def _send_slowly(self, body: bytes) -> None:
        await self._start_response(200, len(body), _JSON)
        for offset in range(len(body)):
            if offset and await self._client_leaves_within(self._faults.drip_interval):
                return
            await self._send_chunk(body[offset : offset + 1], more=offset + 1 < len(body))

    async def _send_response(self, status: int, body: bytes, *headers: Header) -> None:
        self._outcome = self._outcome or str(status)
        await self._start_response(status, len(body), *headers)
        for offset in range(0, max(len(body), 1), CHUNK_SIZE):
            if self._connection is not None and self._connection.lost:
                # The server is about to send the message that the client left.
                await self._client_leaves_within(None)
                return
            await self._send_chunk(body[offset : offset + CHUNK_SIZE], more=offset + CHUNK_SIZE < len(body))

    async def _start_response(self, status: int, length: int, *headers: Header) -> None:
        headers = ((b"content-length", str(length).encode()), *headers)
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def _send_chunk(self, chunk: bytes, *, more: bool) -> None:
        self._bytes += len(chunk)
        if not more:
            self.count()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})


def _damage_gzip(kind: FaultKind, body: bytes) -> bytes:
    """Returns the body as gzip that is cut in half, has no trailer, or has a wrong checksum."""
    compressed = gzip.compress(body, 1)
    if kind == "gzip_cut":
        return compressed[: len(compressed) // 2]
    if kind == "gzip_no_trailer":
        return compressed[:-8]
    return compressed[:-8] + bytes(byte ^ 0xFF for byte in compressed[-8:-4]) + compressed[-4:]


def _encode_xml(errors: RequestErrors) -> bytes:
    items = "".join(f'<error status="{errors.status}">{escape(text)}</error>' for text in errors.messages)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<errors>{items}</errors>'.encode()


def _encode_json(errors: RequestErrors) -> bytes:
    return json.dumps(
        {"errors": [{"status": errors.status, "error": text} for text in errors.messages]}
    ).encode()


def _encode_text(errors: RequestErrors) -> bytes:
    return "\n".join(errors.messages).encode()


_ERROR_ENCODERS: dict[str, tuple[Callable[[RequestErrors], bytes], bytes]] = {
    "xml": (_encode_xml, b"application/xml"),
    "json": (_encode_json, b"application/json"),
    "text": (_encode_text, b"text/plain"),
}
