"""Carries requests to the endpoint, slowly or wrongly where the schedule says so.

`new_transport` makes the transport that the client gets: by the seed one of httpx, of httpx2, or one of httpx that fails as aiohttp does. Each request passes `World.begin`, takes its time, meets its fault, and
is answered from the data of one moment. `World.end` is called when nothing of it is open any more.
"""

from __future__ import annotations

import asyncio
import errno
import gzip
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import httpx2
from aiohttp.client_reqrep import ConnectionKey
from httpx_aiohttp.transport import map_aiohttp_exceptions

from . import _names
from .world import KEY

if TYPE_CHECKING:
    from .world import Exchange, World

__all__ = ["new_transport"]

_KEY = ConnectionKey("127.0.0.1", 443, True, True, None, None, None)

#: The status of faults that are not named after it.
STATUS = {"503-after": 503, "429-after": 429, "429-date": 429, "429-long": 429, "redirect": 302}


class _Transport:
    """The network between the client and the world."""

    #: The library of its requests and responses, and the engine whose exceptions it raises.
    library: Any = httpx
    engine = "httpx"

    def __init__(self, world: World) -> None:
        self.world = world
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request."""
        world = self.world
        if self.closed:
            world.violated("closed", "a request was sent through a closed transport")
        exchange = world.begin(request)
        try:
            return await self._respond(exchange)
        except BaseException as error:
            exchange.was_cancelled = isinstance(error, asyncio.CancelledError)
            world.trace("failed", f"#{exchange.number} {type(error).__name__}")
            world.end(exchange)
            raise

    async def aclose(self) -> None:
        """Closes all."""
        self.closed = True

    async def _respond(self, exchange: Exchange) -> httpx.Response:
        world, fault = self.world, exchange.fault
        latency = world.schedule.latency
        if latency:
            await asyncio.sleep(latency * world.rng.random() if world.rng.random() < 0.8 else 0)
        if fault in {"refused", "stale", "timeout"}:
            raise self._failure(fault)
        if fault == "silence":
            await asyncio.Event().wait()
        if fault[:3].isdigit() or fault == "redirect":
            return self._error(exchange)
        status, body = world.serve(exchange)
        headers = {"content-type": "application/json", "date": self._date()}
        if fault or world.schedule.gzip:
            headers, body = self._spoiled(exchange, headers, body)
        error: Exception | None = None
        if fault == "reset":
            error, body = self._failure(fault), body[: len(body) // 2]
        elif fault == "cut":
            error = self._failure(fault)
            body = body[: len(body) // 2]
        stream = _Body(world, exchange, body, error, drip=fault == "drip")
        if latency and world.rng.random() < 0.3:
            await asyncio.sleep(0)
        return self.library.Response(status, headers=headers, stream=stream)

    def _failure(self, fault: str) -> Exception:
        """The exception of the library, or what httpx_aiohttp makes of aiohttp's."""
        refused = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        if self.engine == "aiohttp":
            unknown = OSError(errno.EIO, "no address")
            error: Exception = {
                "refused": aiohttp.ClientConnectorError(_KEY, refused if self.world.refuses else unknown),
                "stale": aiohttp.ServerDisconnectedError(),
                "timeout": aiohttp.SocketTimeoutError(),
                "reset": aiohttp.ClientOSError(errno.ECONNRESET, "reset"),
                "cut": aiohttp.ClientPayloadError("Response payload is not completed"),
            }[fault]
            try:
                with map_aiohttp_exceptions():
                    raise error
            except Exception as mapped:  # noqa: BLE001 - whichever it is
                return mapped
        library = self.library
        error = {
            "refused": library.ConnectError("All connection attempts failed"),
            "stale": library.RemoteProtocolError("Server disconnected without sending a response."),
            "timeout": library.ReadTimeout(""),
            "reset": library.ReadError(""),
            "cut": library.RemoteProtocolError(
                "peer closed connection without sending complete message body"
            ),
        }[fault]
        if fault == "refused" and self.world.refuses:
            error.__cause__ = refused
        return error

    def _date(self) -> str:
        return format_datetime(self.world.utcnow(), usegmt=True)

    def _spoiled(
        self, exchange: Exchange, headers: dict[str, str], body: bytes
    ) -> tuple[dict[str, str], bytes]:
        fault = exchange.fault
        if fault in {"gzip-cut", "gzip-crc"} or (self.world.schedule.gzip and body):
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, 1, mtime=0)
        match fault:
            case "gzip-cut":
                body = body[:-6]
            case "gzip-crc":
                body = body[:-8] + bytes(byte ^ 255 for byte in body[-8:-4]) + body[-4:]
            case "garbage" | "torn" | "html" | "nothing" | "error-body" | "error-key":
                headers.pop("content-encoding", None)
                body = {
                    "garbage": b"\x00\xff not json",
                    "torn": b'[{"id":1,"call_start":"2024-01-0',
                    "html": b"<html><body>sign in</body></html>",
                    "nothing": b"",
                    "error-body": b'{"error":"try later"}',
                    "error-key": b'{"error":"bad key ' + KEY.encode() + b'"}',
                }[fault]
                exchange.rows = {}
                if fault == "html":
                    headers["content-type"] = "text/html"
        return headers, body

    def _error(self, exchange: Exchange) -> httpx.Response:
        world, fault = self.world, exchange.fault
        status = exchange.status = STATUS.get(fault) or int(fault)
        headers = {"content-type": "application/json", "date": self._date()}
        wait: float | None = None
        if fault in {"503-after", "429-after"}:
            wait = world.rng.choice((0, 1, 7, 30.5))
            headers["retry-after"] = f"{wait:g}"
        elif fault == "429-date":
            wait = 7.0
            headers["retry-after"] = format_datetime(world.utcnow() + timedelta(seconds=8), usegmt=True)
        elif fault == "429-long":
            headers["retry-after"] = world.rng.choice(("86400", "9" * 400))
        elif fault == "redirect":
            headers["location"] = "https://elsewhere.test/"
        world.trace("response", f"#{exchange.number} {status} {headers.get('retry-after', '')}")
        body = world.rng.choice(
            (b"", b'{"error":"refused"}', b"<errors><error>no</error></errors>", KEY.encode())
        )

        sent = world.loop.time()

        def read() -> None:
            now = world.loop.time()
            if wait is not None:
                # A date counts from when it was sent, a number from when it is read.
                world.pause(
                    (sent if fault == "429-date" else now) + wait, f"a {status} with Retry-After {wait:g}"
                )
            if status in {401, 403}:
                world.pause(now + _names.LOCKED_OUT, f"a {status}")

        return self.library.Response(
            status, headers=headers, stream=_Body(world, exchange, body, None, when_read=read)
        )


class _HttpxTransport(_Transport, httpx.AsyncBaseTransport):
    """One of httpx."""


class _Httpx2Transport(_Transport, httpx2.AsyncBaseTransport):
    """One of httpx2."""

    library, engine = httpx2, "httpx2"


class _AiohttpTransport(_Transport, httpx.AsyncBaseTransport):
    """One of httpx that fails as aiohttp does."""

    engine = "aiohttp"


def new_transport(world: World) -> _Transport:
    """The transport of a run."""
    classes = (_HttpxTransport, _Httpx2Transport, _AiohttpTransport)
    return classes[world.schedule.seed % len(classes)](world)


class _Body(httpx.AsyncByteStream, httpx2.AsyncByteStream):
    """A response body that comes in a few chunks."""

    def __init__(self, world, exchange, body, error, *, drip=False, when_read=None):
        self.world, self.exchange, self.error, self.when_read = world, exchange, error, when_read
        # Longer than the timeout in all, even for the two bytes of an empty list.
        self.wait = world.schedule.timeout / 2.9 if drip else None
        size = max(1, -(-len(body) // (6 if drip else world.rng.choice((1, 1, 2, 3)))))
        self.chunks = [body[at : at + size] for at in range(0, len(body), size)][::-1]

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> bytes:
        world = self.world
        if self.wait is not None:
            await asyncio.sleep(self.wait)
        elif world.rng.random() < 0.5:
            await asyncio.sleep(world.schedule.latency * world.rng.random() / 4)
        if self.chunks:
            return self.chunks.pop()
        if self.error is not None:
            raise self.error
        self.exchange.read = world.loop.step
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Closes it."""
        if self.world.schedule.slip == "slow-close":
            await asyncio.sleep(0)
        if self.when_read is not None and self.exchange.read is not None:
            self.when_read()
            self.when_read = None
        self.world.end(self.exchange)
