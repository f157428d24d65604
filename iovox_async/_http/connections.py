"""What the requests of a session are sent through: the library, the proxy, the certificates, and the open connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from ..errors import ConfigurationError
from .engines import EngineName, choose_engine
from .network import PoolTransport, close_quietly
from .tls import Verify, check_verify, create_context, unused_context
from .urls import check_base_url, format_address, parse_proxy

if TYPE_CHECKING:
    from .engines import Transport

__all__ = ["Connections"]


class Connections:
    """The connections to one server. They are opened at the first request.

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
        engine: the library that the requests are made of.
        address: `host:port` of the server and of the proxy, for messages.
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
        self.engine = choose_engine(engine, transport)
        self.base_url = check_base_url(base_url, self.engine, allow_http=allow_http)
        self.own_pool = transport is None
        for name, used in (("proxy", proxy is not None), ("verify", verify is not True)):
            if used and not self.own_pool:
                raise ConfigurationError(
                    name, "cannot be combined with transport", f"Configure {name} in the transport."
                )
        self._proxy = parse_proxy(proxy, self.base_url, self.engine, allow_http=allow_http)
        self.address = format_address(self.engine.library.URL(self.base_url))
        if self._proxy is not None:
            self.address += f" through the proxy {format_address(self._proxy.url)}"
        self._concurrency = concurrency
        self._transport: Any = transport
        uses_tls = self.base_url.startswith("https:") or (
            self._proxy is not None and self._proxy.url.scheme == "https"
        )
        self._trust = check_verify(verify) if self.own_pool and (uses_tls or verify is not True) else None
        self._uses_tls = uses_tls

    async def open(self) -> Any:
        """Returns the transport; creates the connection pool without blocking the event loop."""
        if self._transport is None:
            if self._uses_tls and self._trust is not None:
                context = await anyio.to_thread.run_sync(create_context, self.engine, self._trust)
            else:
                context = unused_context()
            if self._transport is None:
                self._transport = PoolTransport(
                    self.engine, concurrency=self._concurrency, ssl_context=context, proxy=self._proxy
                )
        return self._transport

    async def aclose(self) -> None:
        """Closes all connections. Errors are ignored, and waiting ends after a few seconds."""
        if self._transport is not None:
            await close_quietly(self._transport.aclose)
