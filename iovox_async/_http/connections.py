"""What the requests of a session are sent through: the library, the proxy, the certificates, and the open connections."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - here, because `run_in_executor` would import it in the event loop
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import ConfigurationError
from .engines import Engine, EngineName, check_engine, load_engine, load_pool_package
from .headers import user_agent
from .network import PoolTransport, close_quietly
from .tls import Verify, check_verify, create_context
from .urls import check_base_url, format_address, parse_proxy

if TYPE_CHECKING:
    from .engines import Transport


class OpenConnections(msgspec.Struct, frozen=True):
    """What requests need of an open session.

    Attributes:
        engine: the library that the requests are made of.
        transport: sends them.
        user_agent: their header `User-Agent`.
    """

    engine: Engine
    transport: Any
    user_agent: bytes


class Connections:
    """The connections to one server. The library is imported and the pool created at the first request.

    Args:
        base_url: the URL below which the endpoint is.
        engine: the library to use without `transport`.
        concurrency: maximum number of connections.
        transport: replaces the connection pool; not allowed together with `proxy` and `verify`. `concurrency` does not apply to
            it: if its pool has fewer connections, the time a request waits in it counts as part of the attempt. aiohttp's pool
            has 100, kept open for 5 to 15 seconds; aiohttp also keeps a host's cookies, rejects headers beyond 8 KB or 128, and
            repeats a request itself if the connection is lost before the response.
        proxy: a proxy's URL, "environment" to use HTTPS_PROXY and the like, or None.
        verify: which certificates are trusted.
        allow_http: accept http to a host of a private network.

    Attributes:
        base_url: without a trailing slash.
        proxy: the proxy's URL, or None.
        address: `host:port` of the server and of the proxy, for messages.
        through_proxy: `through the proxy host:port`, or nothing.
        own_pool: there is no transport of the user's.

    Raises:
        ConfigurationError: an argument cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        engine: EngineName = "httpx",
        concurrency: int,
        transport: Transport | None = None,
        proxy: str | None = None,
        verify: Verify = True,
        allow_http: bool = False,
    ) -> None:
        self._engine = check_engine(engine, transport)
        self.base_url: str = check_base_url(base_url, allow_http=allow_http)
        self.own_pool: bool = transport is None
        for name, used in (("proxy", proxy is not None), ("verify", verify is not True)):
            if used and not self.own_pool:
                raise ConfigurationError(
                    name, "cannot be combined with transport", f"Configure {name} in the transport."
                )
        self.proxy: str | None = parse_proxy(proxy, self.base_url, allow_http=allow_http)
        self.address: str = format_address(self.base_url)
        self.through_proxy: str = (
            "" if self.proxy is None else f"through the proxy {format_address(self.proxy)}"
        )
        if self.through_proxy:
            self.address += f" {self.through_proxy}"
        self._concurrency = concurrency
        self._transport: Any = transport
        self._trust = check_verify(verify)
        self._open: OpenConnections | None = None

    async def open(self) -> OpenConnections:
        """Imports the library and creates the connection pool, without blocking the event loop."""
        if self._open is None:
            # An import takes long, and so does reading certificates. The rest takes less than to start a thread.
            takes_long = self._engine not in sys.modules or (self.own_pool and self._uses_tls())
            # Not one of anyio's threads: under nest_asyncio, these wait for work at the end of the process.
            loop = asyncio.get_running_loop()
            opened = await loop.run_in_executor(None, self._make) if takes_long else self._make()
            if self._open is None:
                self._open = opened
        return self._open

    def _make(self) -> OpenConnections:
        engine = load_engine(self._engine)
        return OpenConnections(engine, self._transport or self._make_pool(engine), user_agent(engine))

    def _uses_tls(self) -> bool:
        return any(url.startswith("https:") for url in (self.base_url, self.proxy or ""))

    def _make_pool(self, engine: Engine) -> PoolTransport:
        try:
            proxy = None if self.proxy is None else engine.library.Proxy(self.proxy)
            engine.library.URL(self.base_url)
        except (ValueError, engine.library.InvalidURL):
            raise ConfigurationError(
                "base_url" if self.proxy is None else "proxy", "is not a URL that can be used"
            ) from None
        return PoolTransport(
            engine.library,
            load_pool_package(engine.name),
            concurrency=self._concurrency,
            ssl_context=create_context(engine, self._trust) if self._uses_tls() else None,
            proxy=proxy,
        )

    async def aclose(self) -> None:
        """Closes all connections. Errors are ignored, and waiting ends after a few seconds."""
        transport = self._transport if self._open is None else self._open.transport
        if transport is not None:
            await close_quietly(transport.aclose)
