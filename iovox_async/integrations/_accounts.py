"""Opens and selects the clients of a web application: one, or one for each of several accounts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeAlias

from iovox_async import AsyncInsights
from iovox_async.errors import ConfigurationError

#: Creates the client of an application, or the client of each account.
Makers: TypeAlias = Callable[[], AsyncInsights] | Mapping[str, Callable[[], AsyncInsights]]
#: The open clients by the name of their account; None is the name of an application's only client.
Clients: TypeAlias = Mapping[str | None, AsyncInsights]


@contextlib.asynccontextmanager
async def open_clients(make: Makers) -> AsyncIterator[Clients]:
    """Opens the clients, and closes them at the end.

    Raises:
        ConfigurationError: a function is missing, or has not returned a client.
    """
    makers: Mapping[str | None, Callable[[], AsyncInsights]]
    makers = dict(make.items()) if isinstance(make, Mapping) else {None: make}
    async with contextlib.AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(_make_client(maker)) for name, maker in makers.items()}


def _make_client(maker: Callable[[], AsyncInsights]) -> AsyncInsights:
    hint = "Pass lambda: AsyncInsights(...): the client is made when the application starts."
    if not callable(maker):
        problem = f"must be a function that returns an AsyncInsights, got {type(maker).__name__}"
        raise ConfigurationError("make", problem, hint)
    client = maker()
    if not hasattr(client, "__aenter__"):
        raise ConfigurationError("make", f"must return an AsyncInsights, got {type(client).__name__}", hint)
    return client


def select_client(clients: Clients, account: str | None, selector: str) -> AsyncInsights:
    """Returns the client of an account; None: the only one.

    Raises:
        ConfigurationError: there is no such account, or several. The hint names the `selector`.
    """
    if account in clients:
        return clients[account]
    names = ", ".join(str(name) for name in clients if name is not None)
    if account is None:
        raise ConfigurationError(
            None, f"the application has several accounts ({names})", hint=f"Use {selector}."
        )
    existing = f"it has {names}" if names else "it has one client, without a name"
    raise ConfigurationError(None, f"the application has no account {account!r}; {existing}")
