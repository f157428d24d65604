"""One request, answered as the endpoint answers it, or as badly as it was asked to.

The law of this room: the order in which a request is looked at is written down once, in `RequestHandler.answer`: the
credentials, the method, the query, the delay, the fault, the calls. Statuses and their words are the documentation's.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias
from xml.sax.saxutils import escape

from . import _broken_responses
from ._request import Refusal, understand
from .stats import Request

if TYPE_CHECKING:
    from ._sandbox import Sandbox
    from .faults import FaultKind

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]

#: Bytes of a body that are handed to the network at a time, so that a slow reader slows only his own answer.
PIECE = 256 * 1024
_JSON = (b"content-type", b"application/json")
_GZIP = (b"content-encoding", b"gzip")
_HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><h1>Welcome to the Wi-Fi</h1></body></html>\n"
#: What an error says; the rest have HTTP's own words.
_WORDS = {401: "HTTP 401: Unauthorized", 403: "HTTP 403: Forbidden", 500: "Internal Server Error"}


class SandboxApp:
    """The ASGI application behind `/calls/insights`."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request and counts it."""
        exchange = RequestHandler(self._box, scope, receive, send)
        try:
            await exchange.answer()
        finally:
            exchange.count()


class RequestHandler:
    """One request on its way to an answer."""

    def __init__(self, box: Sandbox, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self._box = box
        self._faults = box.faults
        self._scope = scope
        self._receive = receive
        self._send = send
        self._number, self._round = box.tally.arrive()
        self._query = scope["query_string"].decode("latin-1")
        # There when the sandbox serves itself; None below another server or a test transport.
        self._wire: _broken_responses.Wire | None = scope.get(_broken_responses.WIRE)
        self._outcome = ""
        self._rows = self._skipped = self._bytes = 0
        self._left = self._counted = False

    def count(self) -> None:
        """Writes into the counters how the request ended, once.

        That is before the last bytes are sent: whoever has an answer finds it counted.
        """
        if self._counted:
            return
        self._counted = True
        left = self._left or (self._outcome == "200" and self._wire is not None and self._wire.lost)
        whole = self._outcome == "200" and not left
        self._box.tally.leave(
            Request(self._number, self._query, self._outcome or "left", self._rows if whole else 0),
            self._round,
            answered=int(whole),
            failed=int(not whole and self._outcome not in {"", "200"}),
            abandoned=int(left),
            rows=self._rows if whole else 0,
            offset_rows=self._skipped,
            bytes=self._bytes,
        )

    async def answer(self) -> None:
        """Looks at the request, in the one order, and answers."""
        # The request itself; what is received after it is that the client left.
        await self._receive()
        faults, number = self._faults, self._number
        headers = dict(self._scope["headers"])
        if not self._known(headers):
            await self._refuse(Refusal((_WORDS[401],), 401))
            return
        method = self._scope["method"]
        if method != "GET":
            await self._refuse(Refusal((f"Request Method must be GET. {method} attempted",)))
            return
        ask = understand(self._query, self._box.now())
        if isinstance(ask, Refusal):
            await self._refuse(ask)
            return
        if await self._left_within(faults.delay(number, self._box.seed)):
            return
        kind = faults.verdict(number, self._box.seed)
        if kind is None or kind in _broken_responses.NEEDS_BODY:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._box.workers, self._box.find, ask, number)
            self._skipped = found.skipped
            if kind is None and faults.fail_above_rows is not None and found.rows > faults.fail_above_rows:
                kind = faults.drawn(number, self._box.seed)
            if kind is None:
                self._rows = found.rows
                await self._calls(found.body, headers)
                return
            await self._fail(kind, found.body)
            return
        await self._fail(kind, b"")

    def _known(self, headers: dict[bytes, bytes]) -> bool:
        # Both are compared, and in constant time: a sandbox may stand on a network too.
        user = secrets.compare_digest(headers.get(b"username", b""), self._box.username.encode())
        key = secrets.compare_digest(headers.get(b"securekey", b""), self._box.key.encode())
        return user and key

    async def _left_within(self, seconds: float | None) -> bool:
        """Waits so long, or for ever; true as soon as the client has left."""
        if seconds is not None and seconds <= 0:
            return False
        try:
            async with asyncio.timeout(seconds):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        self._left = True
        return True

    async def _calls(self, body: bytes, headers: dict[bytes, bytes]) -> None:
        extra: tuple[Header, ...] = ()
        if self._faults.gzip and b"gzip" in headers.get(b"accept-encoding", b"").lower():
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(self._box.workers, gzip.compress, body, 1)
            extra = (_GZIP,)
        await self._whole(200, body, (_JSON, *extra))

    async def _refuse(self, refusal: Refusal, *extra: Header) -> None:
        written = {
            "xml": (_xml, b"application/xml"),
            "json": (_json, b"application/json"),
            "text": (_text, b"text/plain"),
        }
        write, mime = written[self._faults.error_format]
        await self._whole(refusal.status, write(refusal), ((b"content-type", mime), *extra))

    async def _fail(self, kind: FaultKind, body: bytes) -> None:
        """Does to the answer what the fault says; the body is that of the answer as it should be."""
        self._outcome = kind
        if kind.isdigit():
            status = int(kind)
            words = _WORDS.get(status, HTTPStatus(status).phrase)
            await self._refuse(Refusal((words,), status), *self._advice(status))
        elif kind == "hang":
            await self._left_within(None)
        elif kind == "drip":
            await self._drip(body)
        elif kind.startswith("gzip"):
            await self._whole(200, _broken_responses.spoilt(kind, body), (_JSON, _GZIP))
        elif kind == "html":
            await self._whole(200, _HTML, ((b"content-type", b"text/html; charset=utf-8"),))
        elif kind in {"garbage", "empty"}:
            await self._whole(200, b'[{"id":30683,\x00\xff\xfe' if kind == "garbage" else b"", (_JSON,))
        else:
            part = _broken_responses.half(kind, body)
            self._bytes += len(part)
            if kind != "hang_midway":
                self.count()
            await _broken_responses.break_off(kind, part, len(body), self._wire)
            await self._left_within(None)

    def _advice(self, status: int) -> tuple[Header, ...]:
        if status == 302:
            return ((b"location", self._faults.location.encode("latin-1")),)
        if status in {429, 503} and self._faults.retry_after is not None:
            return ((b"retry-after", str(self._faults.retry_after).encode("latin-1")),)
        return ()

    async def _drip(self, body: bytes) -> None:
        await self._begin(200, len(body), (_JSON,))
        for at in range(len(body)):
            if at and await self._left_within(self._faults.drip_interval):
                return
            await self._piece(body[at : at + 1], more=at + 1 < len(body))

    async def _whole(self, status: int, body: bytes, headers: tuple[Header, ...]) -> None:
        self._outcome = self._outcome or str(status)
        await self._begin(status, len(body), headers)
        for at in range(0, max(len(body), 1), PIECE):
            if self._wire is not None and self._wire.lost:
                # The server is about to tell so.
                await self._left_within(None)
                return
            await self._piece(body[at : at + PIECE], more=at + PIECE < len(body))

    async def _begin(self, status: int, length: int, headers: tuple[Header, ...]) -> None:
        headers = ((b"content-length", str(length).encode()), *headers)
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def _piece(self, body: bytes, *, more: bool) -> None:
        self._bytes += len(body)
        if not more:
            self.count()
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


def _xml(refusal: Refusal) -> bytes:
    errors = "".join(f'<error status="{refusal.status}">{escape(text)}</error>' for text in refusal.messages)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<errors>{errors}</errors>'.encode()


def _json(refusal: Refusal) -> bytes:
    return json.dumps(
        {"errors": [{"status": refusal.status, "error": text} for text in refusal.messages]}
    ).encode()


def _text(refusal: Refusal) -> bytes:
    return "\n".join(refusal.messages).encode()
