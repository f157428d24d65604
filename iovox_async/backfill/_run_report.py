"""Writes `report.json` at the end of a run, also of one that failed or was interrupted."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec
from attrs import evolve

from ..errors import BackfillError, IovoxError

if TYPE_CHECKING:
    from ._manifest import ManifestEntry
    from ._runner import Directory
    from .report import BackfillReport, RunCounters


def end_run(directory: Directory, counters: RunCounters, account: str, error: BaseException | None) -> None:
    """Makes the report of a run that ends now, writes it if the run has opened the directory, and closes the directory.

    The report is in `counters.final_report` afterwards.

    Args:
        directory: the directory; it may not have been opened.
        counters: the counters of the run.
        account: the account, as `insights.account`.
        error: what ended the run, or None.

    Raises:
        BackfillError: the run has succeeded, but its report cannot be written.
    """
    try:
        report = counters.final_report = _make_report(directory, counters, account, error)
        # Otherwise the directory belongs to another run, or to another backfill.
        if hasattr(directory, "manifest"):
            data = msgspec.json.format(msgspec.json.encode(report.to_dict()))
            with contextlib.suppress(*(() if error is None else (BackfillError,))):
                directory.finish(data, done=error is None)
    finally:
        directory.close()


def _make_report(
    directory: Directory, counters: RunCounters, account: str, error: BaseException | None
) -> BackfillReport:
    entries: list[ManifestEntry] = []
    with contextlib.suppress(*(() if error is None else (Exception,))):
        entries = directory.remaining()
    report = counters.report(entries, directory.changes.values())
    # Cancellations and Ctrl-C are no `Exception`.
    status = "done" if error is None else "failed" if isinstance(error, Exception) else "interrupted"
    started, finished = (
        time.isoformat(timespec="seconds") for time in (counters.started, counters.runtime.utcnow())
    )
    message = f"{type(error).__name__}: {error}" if isinstance(error, IovoxError) else type(error).__name__
    failing_since = None
    if error is not None:
        failing_since = _failing_since(directory) or (started if status == "failed" else None)
    return evolve(
        report,
        status=status,
        error=message if status == "failed" else None,
        started_at=started,
        finished_at=finished,
        account=account,
        folder=str(directory.storage),
        failing_since=failing_since,
    )


def _failing_since(directory: Directory) -> str | None:
    """When the first of the failed runs before this one began, as the report of the last one says."""
    with contextlib.suppress(BackfillError, msgspec.DecodeError, AttributeError):
        since: str | None = msgspec.json.decode(directory.last_report() or b"{}").get("failing_since")
        return since
    return None
