"""Provides the blocking `Backfill`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import backfill
from ..errors import ConfigurationError
from ._session import Insights
from ._surface import documented_by, like, like_with_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from ..backfill import BackfillProgress, BackfillReport


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
