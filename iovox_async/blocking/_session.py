"""Provides the blocking `Insights`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from .. import client
from .._config import hide_key
from ._stream import CallFollower, CallStream
from ._surface import documented_by, like
from ._thread import LoopThread

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from ..models import Call
    from ..results import Page


@documented_by(client.AsyncInsights)
class Insights:
    """A client session for programs without an event loop: `AsyncInsights`, run by a thread of its own.

    ::

        with Insights() as insights:
            for call in insights.stream("2024-01-01", "2024-03-31", call_result="ANSWERED"):
                print(call.id, call.call_start, call.talk_time)

    It works in scripts, in notebooks, beside a running event loop (which it blocks while it waits), and from several threads at
    once. Create one per program and share it: its limits apply to all its requests together. It belongs to one process. The
    thread starts with the first request, and ends with `close`, when the session is dropped, or with the program. The
    observer is called in that thread, and must not use the session.
    """

    @like(client.AsyncInsights.__init__)
    def __init__(self, *arguments: Any, **options: Any) -> None:
        arguments, options = hide_key(arguments, options)
        self._insights = client.AsyncInsights(*arguments, **options)
        self._thread = LoopThread(self._insights.aclose)

    @like(client.AsyncInsights.stream)
    def stream(self, *arguments: Any, **options: Any) -> CallStream:
        return CallStream(self._thread, self._insights.stream(*arguments, **options))

    @like(client.AsyncInsights.page)
    def page(self, *arguments: Any, **options: Any) -> Page:
        return self._thread.run(self._insights.page, *arguments, **options)

    @like(client.AsyncInsights.get)
    def get(self, *arguments: Any, **options: Any) -> list[Call]:
        return self._thread.run(self._insights.get, *arguments, **options)

    @like(client.AsyncInsights.follow)
    def follow(self, *arguments: Any, **options: Any) -> CallFollower:
        return CallFollower(self._thread, self._insights.follow(*arguments, **options))

    @like(client.AsyncInsights.with_options)
    def with_options(self, **options: Any) -> Insights:
        view = object.__new__(type(self))
        view._insights = self._insights.with_options(**options)
        view._thread = self._thread
        return view

    @property
    def account(self) -> str:
        """Identifies the account: the API user and the address of the service."""
        return self._insights.account

    @property
    def timezone(self) -> tzinfo | None:
        """The time zone of the account, or None if it was not passed."""
        return self._insights.timezone

    @like(client.AsyncInsights.now)
    def now(self) -> datetime:
        return self._insights.now()

    def __enter__(self) -> Self:
        self._thread.run(self._insights.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all requests and closes all connections, which takes a few seconds at most. It may be called more than once.

        Raises:
            SessionError: the session was opened in another process, or is used in its own thread.
        """
        if not self._insights._connection.is_view:  # noqa: SLF001 - of this package
            self._thread.close()

    def __repr__(self) -> str:
        if not hasattr(self, "_thread"):
            return "<Insights, not initialized>"
        return repr(self._insights).replace("AsyncInsights", "Insights", 1)

    def __reduce__(self) -> Any:
        return self._insights.__reduce__()
