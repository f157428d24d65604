"""Prints what `iovox calls` or `iovox backfill` would read, for the option --dry-run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from iovox_async._wording import format_bytes, format_count

from .console import format_duration
from .filters import resolved_query

if TYPE_CHECKING:
    from iovox_async import AsyncInsights, InsightsQuery
    from iovox_async.backfill import Backfill

#: How many names of partitions are listed.
_MAX_NAMED = 12


async def print_estimate(
    insights: AsyncInsights, query: InsightsQuery, *, share: float = 1.0, limit: int | None = None
) -> None:
    """Prints an estimate of calls, requests, bytes and time, from at most three small requests.

    Args:
        insights: an open client.
        query: what would be read.
        share: the share of the range that would be read.
        limit: the maximum number of calls.
    """
    from iovox_async._estimate import estimate

    # A stream resolves the dates that were left out; it sends nothing.
    resolved = resolved_query(insights.stream(query=query))
    result = await estimate(insights, resolved)
    factor = share if limit is None else min(share, limit / max(1, result.calls))
    calls, low, high = (round(count * factor) for count in (result.calls, result.low, result.high))
    about = "" if low == high else "about "
    rows = {
        "range": f"{resolved.start_date} to {resolved.end_date}",
        "calls": f"{about}{calls:,}" + (f" ({low:,} to {high:,})" if about else ""),
        "requests": f"about {max(1, round(result.requests * factor)):,}",
        "bytes": f"about {format_bytes(result.bytes * factor)}",
        "time": f"about {format_duration(max(1, result.seconds * factor))}",
    }
    for name, value in rows.items():
        click.echo(f"{name}\t{value}")


async def print_backfill(insights: AsyncInsights, job: Backfill, query: InsightsQuery) -> None:
    """Prints which partitions are there, missing, or not final, and an estimate of what would be read."""
    plan = await job._plan()  # noqa: SLF001 - of this package
    for label, names in (("final", plan.final), ("not final", plan.open), ("missing", plan.missing)):
        shown = ", ".join(names) if len(names) <= _MAX_NAMED else f"{names[0]} to {names[-1]}"
        click.echo(f"{label}\t{format_count(len(names), 'partition')}{f': {shown}' if names else ''}")
    if plan.start is None:
        click.echo("Nothing to download.")
        return
    range_to_read = attrs.evolve(query, start_date=plan.start, end_date=plan.end, date_constant=None)
    await print_estimate(insights, range_to_read, share=plan.share)
