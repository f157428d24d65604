"""Serves a sandbox on a port of its own, with uvicorn in one thread with one event loop.

Invariants:

- The server shares no event loop with the client that it tests.
- When serving ends, no thread, task or socket remains.

`uvicorn.Config(http=...)` is public; the attributes of `uvicorn.Server` and `H11Protocol` that the subclasses here use are
not. `tests/sandbox/test_serving.py` names the version they were checked with.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from iovox_async.errors import ConfigurationError, SessionError

from ._app import CONNECTION_KEY, SandboxState

if TYPE_CHECKING:
    from starlette.applications import Starlette

#: Threads that read pages and compress them.
_WORKERS = 4
#: Iterations of the event loop without any activity, after which no accepted connection can still be unknown.
_IDLE_ITERATIONS = 10


class SandboxServer:
    """A server of a sandbox. `async with` and `with` start it, return the base URL, and stop it."""

    def __init__(self, app: Starlette, state: SandboxState, host: str, port: int, root: str) -> None:
        self._app = app
        self._state = state
        self._host = host
        self._port = port
        self._root = root
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> str:
        """Starts the server without blocking the loop."""
        started = self._start()
        try:
            # Shielded, since a cancelled future could not be set by the thread.
            return await asyncio.shield(asyncio.wrap_future(started))
        except BaseException:
            self._stop()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Stops the server; a cancellation is raised after it has stopped."""
        stopped = asyncio.wrap_future(self._request_stop())
        cancellation = None
        while not stopped.done():
            try:
                await asyncio.wait([stopped])
            except asyncio.CancelledError as cancelled:
                cancellation = cancelled
        self._join()
        if cancellation is not None:
            raise cancellation
        stopped.result()

    def __enter__(self) -> str:
        """Starts the server."""
        started = self._start()
        try:
            return started.result()
        except BaseException:
            self._stop()
            raise

    def __exit__(self, *_: object) -> None:
        """Stops the server."""
        self._stop()

    def _start(self) -> Future[str]:
        if self._thread is not None:
            raise SessionError(
                "this sandbox server is already running", hint="Call serve() again for another."
            )
        listener = _listen(self._host, self._port)
        host, port = listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}{self._root}"
        self._server = _Server(self._app, self._state, listener, url)
        self._thread = threading.Thread(target=self._server.run_thread, name="iovox-sandbox", daemon=True)
        self._thread.start()
        return self._server.started_at

    def _request_stop(self) -> Future[None]:
        assert self._server is not None
        self._server.request_stop()
        return self._server.stopped

    def _stop(self) -> None:
        stopped = self._request_stop()
        try:
            stopped.result()
        finally:
            self._join()

    def _join(self) -> None:
        assert self._thread is not None
        # The thread sets `stopped` last, so this does not block.
        self._thread.join()
        self._server = self._thread = None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol is given; without it, each response takes 40 ms longer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            None,
            f"the sandbox cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
            hint="Choose another host or port; port 0 selects a free one.",
        ) from error
    return listener


class _Server(uvicorn.Server):
    """A uvicorn server that starts and stops at once, instead of at its next tick (0.1 s)."""

    def __init__(self, app: Starlette, state: SandboxState, listener: socket.socket, url: str) -> None:
        config = uvicorn.Config(
            app,
            http=_connection_class(state),
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
        self._listener = listener
        self._url = url
        self._stop_event: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_requested = threading.Event()
        #: The base URL, set when the server accepts requests.
        self.started_at: Future[str] = Future()
        #: Set at the end of the thread.
        self.stopped: Future[None] = Future()

    def run_thread(self) -> None:
        """Runs the server until it is stopped; the target of the thread."""
        failure: BaseException | None = None
        try:
            with asyncio.Runner() as runner:
                # The runner waits for the executor's threads when it closes.
                workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="iovox-sandbox")
                runner.get_loop().set_default_executor(workers)
                runner.run(self._serve(sockets=[self._listener]))
        except BaseException as error:  # noqa: BLE001 - passed to the thread that started or stops the server
            failure = error
        self._listener.close()
        if not self.started_at.done():
            # Some versions of uvicorn raise nothing when the application fails to start.
            reason = "its application failed" if failure is None else repr(failure)
            self.started_at.set_exception(ConfigurationError(None, f"the sandbox could not start: {reason}"))
            self.stopped.set_result(None)
        elif failure is None:
            self.stopped.set_result(None)
        else:
            self.stopped.set_exception(failure)

    def request_stop(self) -> None:
        """Makes the server stop; may be called from any thread, and repeatedly."""
        self._stop_requested.set()
        if self._loop is not None and self._stop_event is not None:
            # The loop is closed if the thread has ended by itself.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop_event.set)

    async def main_loop(self) -> None:
        """Waits for the request to stop; renews the Date header once a second."""
        await self.on_tick(0)
        self._stop_event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.started_at.set_result(self._url)
        while not self._stop_requested.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stop_event.wait()
            await self.on_tick(0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Aborts all connections and waits for the requests to end."""
        # A connection accepted a moment ago becomes known only some iterations of the loop later, and asyncio would leak
        # its socket if the server were closed before. So it first stops accepting.
        for sock in sockets or ():
            with contextlib.suppress(NotImplementedError):
                asyncio.get_running_loop().remove_reader(sock)
        idle = 0
        while idle < _IDLE_ITERATIONS:
            idle += 1
            if self.server_state.connections or self.server_state.tasks:
                idle = 0
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            # A request that reads a page ends after that.
            if self.server_state.tasks:
                await asyncio.wait(list(self.server_state.tasks), timeout=0.05)
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        await self.lifespan.shutdown()


def _connection_class(state: SandboxState) -> type[H11Protocol]:
    """Returns the class of a sandbox's connections."""

    class Connection(H11Protocol):
        """A uvicorn connection that is counted, and that faults can write to: a `RawConnection`."""

        _lost = False

        @property
        def lost(self) -> bool:
            return self._lost or self.transport.is_closing()

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
            super().connection_made(transport)
            state.counters.open_connection()
            # Annotated as int, but the event loop accepts any number of seconds.
            self.timeout_keep_alive = state.faults.keep_alive  # type: ignore[assignment]
            app = self.app

            async def app_with_connection(scope: Any, receive: Any, send: Any) -> None:
                scope[CONNECTION_KEY] = self
                await app(scope, receive, send)

            self.app = app_with_connection

        def connection_lost(self, exc: Exception | None) -> None:
            self._lost = True
            state.counters.close_connection()
            super().connection_lost(exc)

        def write(self, data: bytes) -> None:
            self.transport.write(data)

        async def flush(self) -> None:
            # With a high-water mark of 0, writing is paused until the last byte is sent.
            self.transport.set_write_buffer_limits(high=0)
            await self.flow.drain()

        def close(self) -> None:
            self.transport.close()

        def reset(self, linger: bytes) -> None:
            # Fails if the client has already closed the connection; then there is nothing to reset.
            with contextlib.suppress(OSError):
                connection = self.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()

    return Connection
