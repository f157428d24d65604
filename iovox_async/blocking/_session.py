"""Provides the blocking `Insights` and `Backfill`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from .. import backfill, client
from .._config import hide_key
from ..errors import ConfigurationError
from ._stream import CallFollower, CallStream
from ._surface import documented_by, like, like_with_session
from ._thread import LoopThread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, tzinfo

    import pyarrow as pa

    from ..backfill import BackfillProgress, BackfillReport
    from ..models import Call
    from ..results import Page

__all__ = ["Backfill", "Insights"]


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


@documented_by(backfill.Backfill)
class Backfill:
    """Keeps a directory of files, one per day or month, in step with the calls of a date range.

    ::

        query = InsightsQuery(start_date="2022-01-01", fields=Fields.ALL)
        with Insights() as insights:
            report = Backfill(insights, query, "calls").run()

    As `iovox_async.backfill.Backfill`, for programs without an event loop. `on_progress` is called in the session's thread.
    """

    @like_with_session(backfill.Backfill.__init__)
    def __init__(self, insights: Insights, *arguments: Any, **options: Any) -> None:
        if not isinstance(insights, Insights):
            raise ConfigurationError(
                "insights", f"must be iovox_async.blocking.Insights, got {type(insights).__name__}"
            )
        self._thread = insights._thread  # noqa: SLF001 - of this package
        self._backfill = backfill.Backfill(insights._insights, *arguments, **options)  # noqa: SLF001 - as above

    @property
    def progress(self) -> BackfillProgress:
        """A snapshot of the run."""
        return self._backfill.progress

    @like(backfill.Backfill.run)
    def run(self, *arguments: Any, **options: Any) -> BackfillReport:
        return self._thread.run(self._backfill.run, *arguments, **options)

    @like(backfill.Backfill.verify)
    def verify(self, *arguments: Any, **options: Any) -> BackfillReport:
        return self._thread.run(self._backfill.verify, *arguments, **options)

    @like(backfill.Backfill.changes)
    def changes(self, *arguments: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        return self._thread.iterate(self._backfill.changes(*arguments, **options))
