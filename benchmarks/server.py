"""Serves benchmark data: `python -m benchmarks.server --calls 300000` prints one JSON line and serves until terminated.

It does as little work as possible, so that it does not add to the client's figures: HTTP/1.1 with keep-alive from an
`asyncio.Protocol`; responses are slices of `CallData`; delays are waits, not work.

    GET /rest/v1/calls/insights?...   a page
    GET /stats                        counters since the last reset, as JSON
    GET /reset?latency=0.1&...        counters to zero; sets these settings and keeps the others

Settings: `latency` seconds before a response, `row_us` more microseconds for each of its rows, `bandwidth` megabytes a second shared by all responses (0: no limit), `gzip` 0 or 1, `cap` rows of a page at most.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import signal
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .data import CallData, Page, RefusedError

ENDPOINT = "/rest/v1/calls/insights"


@dataclass
class Settings:
    latency: float = 0.0
    row_us: float = 0.0
    bandwidth: float = 0.0
    gzip: int = 0
    cap: int = 20_000


@dataclass
class Counters:
    requests: int = 0
    refused: int = 0
    rows: int = 0
    bytes: int = 0
    skipped: int = 0  # rows a database would read and throw away for OFFSET
    in_flight: int = 0
    max_in_flight: int = 0
    connections: int = 0
    abandoned: int = 0  # requests whose client left before the answer


@dataclass
class Service:
    """What all connections share."""

    data: CallData
    settings: Settings = field(default_factory=Settings)
    counters: Counters = field(default_factory=Counters)
    line_free: float = 0.0  # when the shared line has sent all that was promised so far
    packed: dict[Page, bytes] = field(default_factory=dict)

    def reset(self, changes: dict[str, str]) -> None:
        for name, text in changes.items():
            kind = type(getattr(self.settings, name))
            setattr(self.settings, name, kind(text))
        self.data.cap = self.settings.cap
        self.counters = Counters()
        self.line_free = 0.0

    def body(self, page: Page, *, packed: bool) -> tuple[bytes | memoryview, ...]:
        if not packed:
            return b"[", self.data.body(page), b"]"
        if page not in self.packed:  # packed once, so that a second run finds no packing in its way
            self.packed[page] = gzip.compress(b"[" + self.data.body(page) + b"]", compresslevel=6, mtime=0)
        return (self.packed[page],)

    def delay(self, page: Page, size: int, now: float) -> float:
        ready = now + self.settings.latency + page.rows * self.settings.row_us / 1e6
        if self.settings.bandwidth:
            ready = self.line_free = max(ready, self.line_free) + size / (self.settings.bandwidth * 1e6)
        return ready - now


class Connection(asyncio.Protocol):
    """One client's connection: one request at a time, answered after its delay."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._service.counters.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the protocol's signature
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
            self._service.counters.in_flight -= 1
            self._service.counters.abandoned += 1

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._next()

    def _next(self) -> None:
        while self._waiting is None and (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].decode("latin-1")
            del self._received[: end + 4]
            self._request(head)

    def _request(self, head: str) -> None:
        line, *rest = head.split("\r\n")
        headers = dict(header.lower().split(": ", 1) for header in rest if ": " in header)
        url = urlsplit(line.split(" ")[1])
        parameters = dict(parse_qsl(url.query))
        service = self._service
        if url.path == "/stats":
            self._send(200, (json.dumps(vars(service.counters)).encode(),))
        elif url.path == "/reset":
            service.reset(parameters)
            self._send(200, (b"{}",))
        elif url.path != ENDPOINT:
            self._send(404, (b"[]",))
        else:
            self._calls(
                parameters,
                packed=bool(service.settings.gzip) and "gzip" in headers.get("accept-encoding", ""),
            )

    def _calls(self, parameters: dict[str, str], *, packed: bool) -> None:
        service, counters = self._service, self._service.counters
        counters.requests += 1
        try:
            page = service.data.find(parameters)
        except RefusedError as refused:
            counters.refused += 1
            self._send(400, (json.dumps({"errors": [str(refused)]}).encode(),))
            return
        parts = service.body(page, packed=packed)
        size = sum(map(len, parts))
        counters.rows += page.rows
        counters.bytes += size
        counters.skipped += page.skipped
        counters.in_flight += 1
        counters.max_in_flight = max(counters.max_in_flight, counters.in_flight)
        delay = service.delay(page, size, self._loop.time())
        if delay > 0:
            self._waiting = self._loop.call_later(delay, self._answer, parts, packed)
        else:
            self._answer(parts, packed)

    def _answer(self, parts: tuple[bytes | memoryview, ...], packed: bool) -> None:
        self._waiting = None
        self._service.counters.in_flight -= 1
        self._send(200, parts, packed=packed)
        self._next()

    def _send(self, status: int, parts: tuple[bytes | memoryview, ...], *, packed: bool = False) -> None:
        reason = {200: "OK", 400: "Bad Request", 404: "Not Found"}[status]
        encoding = "Content-Encoding: gzip\r\n" if packed else ""
        head = (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n{encoding}"
            f"Content-Length: {sum(map(len, parts))}\r\n\r\n"
        )
        self._transport.write(head.encode() + bytes(parts[0]))
        for part in parts[1:]:
            self._transport.write(part)


async def serve(service: Service, port: int = 0) -> asyncio.Server:
    """Start serving on a loopback port; 0 takes any that is free."""
    return await asyncio.get_running_loop().create_server(lambda: Connection(service), "127.0.0.1", port)


async def main(arguments: argparse.Namespace) -> None:
    data = CallData(arguments.calls, arguments.shape, arguments.kind)
    service = Service(data)
    server = await serve(service, arguments.port)
    facts: dict[str, Any] = {
        "port": server.sockets[0].getsockname()[1],
        "calls": data.calls,
        "start": data.start,
        "end": data.end,
        "checksum": data.checksum,
    }
    print(json.dumps(facts), flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server")
    parser.add_argument("--calls", type=int, default=300_000)
    parser.add_argument("--shape", choices=("smooth", "daily"), default="daily")
    parser.add_argument("--kind", choices=("default", "insights"), default="default")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--core", type=int, help="the core to stay on, where the system can do that")
    options = parser.parse_args()
    if options.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    asyncio.run(main(options))
