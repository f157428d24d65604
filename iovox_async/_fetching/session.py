"""What a client has besides its requests: views with other options, opening and closing, its account and clock.

And `SessionBound`, the base class of streams, followers and their iterators.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from .._config import check_page_size
from ..errors import ConfigurationError, SessionError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta, tzinfo
    from types import TracebackType

    from ..retry import RetryPolicy
    from .connection import Connection


class SessionBound:
    """An object that works only with the session that made it, so it cannot be pickled or copied."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        raise SessionError(
            "streams and backfills cannot be pickled or copied, because they belong to a session",
            hint="Keep the position of a stream, or the latest_call_start of a follower, and continue there in the other process.",
        )


class Session:
    """A client without its requests: the base class of `AsyncInsights`."""

    _connection: Connection
    _page_size: int | None

    def with_options(
        self,
        *,
        timeout: float | timedelta | None = None,
        retry: RetryPolicy | None = None,
        page_size: int | None = None,
        headers: Mapping[str, str] | None = None,
        concurrency: int | None = None,
    ) -> Self:
        """Returns a view of this session with other options: `insights.with_options(timeout=300).stream(...)`.

        The view uses the session's connections, limits and retry budget, and works as long as the session is open. It needs no
        closing: its `aclose` does nothing, and `async with` closes nothing. An argument that is None is that of the session.

        Args:
            timeout: as for `AsyncInsights`.
            retry: as for `AsyncInsights`.
            page_size: as for `AsyncInsights`.
            headers: in addition to those of the session; a header of the same name is replaced.
            concurrency: the number of requests in flight through the view, at most that of the session.

        Raises:
            ConfigurationError: an option is invalid.
        """
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        view._connection = self._connection.with_options(
            timeout=timeout, retry=retry, headers=headers, concurrency=concurrency
        )
        view._page_size = self._page_size if page_size is None else check_page_size(page_size)
        return view

    async def __aenter__(self) -> Self:
        self._connection.supervisor.check_usable()
        try:
            await self._connection.endpoint.open()
            await asyncio.sleep(0)  # what comes next is a step of its own in the event loop
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends all requests and closes all connections, which takes a few seconds at most. It may be called more than once.

        Raises:
            SessionError: the session was used in another event loop or process.
        """
        if not self._connection.is_view:
            await self._connection.supervisor.aclose()

    @property
    def account(self) -> str:
        """Identifies the account: the API user and the address of the service."""
        return f"{self._connection.username} at {self._connection.endpoint.base_url}"

    @property
    def timezone(self) -> tzinfo | None:
        """The time zone of the account, or None if it was not passed."""
        return self._connection.timezone

    def now(self) -> datetime:
        """Returns the account's local time by this machine's clock, naive; without a time zone, the machine's local time."""
        return self._connection.time.now()

    def __repr__(self) -> str:
        if not hasattr(self, "_connection"):
            return "<AsyncInsights, not initialized>"
        throttle, base_url = self._connection.throttle, self._connection.endpoint.base_url
        return (
            f"<AsyncInsights {base_url}: {throttle.in_flight} of {throttle.concurrency} requests in flight>"
        )

    def __reduce__(self) -> Any:
        raise ConfigurationError(
            None,
            "a session cannot be pickled or copied, because it holds connections and a key",
            hint="Create one in each process.",
        )
