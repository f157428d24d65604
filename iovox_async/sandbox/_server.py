"""The sandbox on a port of its own.

The law of this room: the server lives in one thread with one loop, shares no loop with the client it is there to test,
and when `serve` ends nothing of it is left: no thread, no task, no socket. Only this room knows uvicorn.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from iovox_async.errors import ConfigurationError, SessionError

from . import _broken_responses

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from ._sandbox import Sandbox

#: Turns of the loop without anything going on, after which nothing will.
_TURNS = 10


class SandboxServer:
    """A sandbox that is being served; `async with` or `with`, each gives the base URL."""

    def __init__(self, app: Starlette, box: Sandbox, host: str, port: int, root: str) -> None:
        self._app = app
        self._box = box
        self._host = host
        self._port = port
        self._root = root
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> str:
        """Starts the server without holding up the loop."""
        started = self._start()
        try:
            # Shielded, since the thread must find the future as it left it.
            return await asyncio.shield(asyncio.wrap_future(started))
        except BaseException:
            self._stop()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops it; whoever cancels this waits all the same, so that nothing is left behind."""
        ended = asyncio.wrap_future(self._ask_to_end())
        cancelled = None
        while not ended.done():
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError as cancel:
                cancelled = cancel
        self._ended()
        if cancelled is not None:
            raise cancelled
        ended.result()

    def __enter__(self) -> str:
        """Starts the server."""
        started = self._start()
        try:
            return started.result()
        except BaseException:
            self._stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops it."""
        self._stop()

    def _start(self) -> Future[str]:
        if self._thread is not None:
            raise SessionError("this sandbox.serve() runs already; call serve() again for another port")
        listener = _listen(self._host, self._port)
        host, port = listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}{self._root}"
        self._server = _Server(self._app, self._box, listener, url)
        self._thread = threading.Thread(target=self._server.run_to_end, name="iovox-sandbox", daemon=True)
        self._box.held(1)
        self._thread.start()
        return self._server.beginning

    def _ask_to_end(self) -> Future[None]:
        assert self._server is not None
        self._server.end()
        return self._server.ending

    def _stop(self) -> None:
        ended = self._ask_to_end()
        try:
            ended.result()
        finally:
            self._ended()

    def _ended(self) -> None:
        assert self._thread is not None
        # The future is the thread's last word, so this takes no time.
        self._thread.join()
        self._server = self._thread = None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, because asyncio turns Nagle's delay off only where it reads TCP; without that each answer takes 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            f"the sandbox cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}; "
            "choose another host or port; port 0 is one that is free"
        ) from error
    return listener


class _Server(uvicorn.Server):
    """uvicorn, told to begin and end at once instead of at its next tenth of a second."""

    def __init__(self, app: Starlette, box: Sandbox, listener: socket.socket, url: str) -> None:
        config = uvicorn.Config(
            app,
            http=_connection(box),
            loop="asyncio",
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            headers=[("server", "iovox-sandbox")],
        )
        super().__init__(config)
        self._box = box
        self._listener = listener
        self._url = url
        self._leave: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = threading.Event()
        #: The base URL, once it answers.
        self.beginning: Future[str] = Future()
        #: The thread's last word.
        self.ending: Future[None] = Future()

    def run_to_end(self) -> None:
        """The life of the thread."""
        failure: BaseException | None = None
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve(sockets=[self._listener]))
        except BaseException as error:  # noqa: BLE001 - a thread has no caller; whoever waits for it is told
            failure = error
        self._listener.close()
        self._box.held(-1)
        if failure is None:
            self.ending.set_result(None)
        elif self.beginning.done():
            self.ending.set_exception(failure)
        else:
            self.beginning.set_exception(ConfigurationError(f"the sandbox could not start: {failure!r}"))
            self.ending.set_result(None)

    def end(self) -> None:
        """Asks the thread to end; from any thread, any number of times."""
        self._asked.set()
        if self._loop is not None and self._leave is not None:
            # The loop may be closed already, when the thread ended by itself.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._leave.set)

    async def main_loop(self) -> None:
        """Until it is asked to end; once a second the Date header is renewed."""
        await self.on_tick(0)
        self._leave = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.beginning.set_result(self._url)
        while not self._asked.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._leave.wait()
            await self.on_tick(0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Breaks off what is going on; a client of a test is not waited for."""
        # A connection that was accepted just now shows itself only some turns of the loop later. asyncio loses its
        # socket if the server is closed before that, so accepting ends first.
        for sock in sockets or ():
            with contextlib.suppress(NotImplementedError):
                asyncio.get_running_loop().remove_reader(sock)
        quiet = 0
        while quiet < _TURNS:
            quiet += 1
            if self.server_state.connections or self.server_state.tasks:
                quiet = 0
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            # Requests notice that their client is gone; one that is at work on the store ends that first.
            if self.server_state.tasks:
                await asyncio.wait(list(self.server_state.tasks), timeout=0.05)
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        await self.lifespan.shutdown()


def _connection(box: Sandbox) -> type[H11Protocol]:
    """The class of this sandbox's connections."""

    class Connection(H11Protocol):
        """uvicorn's connection, which also counts itself and lets faults at its wire."""

        _gone = False

        @property
        def lost(self) -> bool:
            return self._gone or self.transport.is_closing()

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
            super().connection_made(transport)
            box.tally.connect()
            # uvicorn's type says int, the loop it is given to takes seconds of any kind.
            self.timeout_keep_alive = box.faults.keep_alive  # type: ignore[assignment]
            app = self.app

            async def with_wire(scope: Any, receive: Any, send: Any) -> None:
                scope[_broken_responses.WIRE] = self
                await app(scope, receive, send)

            self.app = with_wire

        def connection_lost(self, exc: Exception | None) -> None:
            self._gone = True
            box.tally.disconnect()
            super().connection_lost(exc)

        def write(self, data: bytes) -> None:
            self.transport.write(data)

        async def flush(self) -> None:
            # A mark of 0 pauses until the very last byte is gone.
            self.transport.set_write_buffer_limits(high=0)
            await self.flow.drain()

        def close(self) -> None:
            self.transport.close()

        def reset(self, option: bytes) -> None:
            _broken_responses.linger(self.transport.get_extra_info("socket"), option)
            self.transport.abort()

    return Connection
