"""`iovox changes`: prints what was inserted, updated and deleted in a Delta table."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import click
import msgspec

from iovox_async.dates import parse_start

from ..base import argument, command, option
from ..console import print_note
from ..options import IntRange


@command(
    ("what has changed since February", "iovox changes calls/ --since 2024-02-01"),
    ("the ids of deleted calls", "iovox changes calls/ | jq 'select(.change == \"delete\").call.id'"),
)
@argument(
    "table", envvar="IOVOX_OUT", required=True, help="The directory or URL of the table.", panel="Table"
)
@option(
    "--since",
    metavar="DATE",
    help="Changes that were committed at or after this time, in UTC: 2024-01-31, yesterday, 12h (iovox help dates).",
    panel="Table",
)
@option(
    "--since-version", type=IntRange(min=0), help="Changes from this version of the table on.", panel="Table"
)
def changes(table: str, since: str | None, since_version: int | None) -> None:
    """Runs `iovox changes`.

    TABLE is the directory or URL of a backfill with --format delta. Each line is a JSON document: change (insert, delete, and
    update_preimage and update_postimage for a call before and after its update), version and time of the commit, and the call.
    """
    from iovox_async.backfill import read_changes  # a slow import, and `--help` does not need it

    if since is not None and since_version is not None:
        raise click.UsageError("--since and --since-version exclude each other")
    time = None if since is None else parse_start(since, now=datetime.now(UTC)).replace(tzinfo=UTC)
    counts: Counter[str] = Counter()
    for batch in read_changes(table, time if since_version is None else since_version):
        for call in batch.to_pylist():
            kind, version = call.pop("_change_type"), call.pop("_commit_version")
            committed = f"{call.pop('_commit_timestamp'):%Y-%m-%dT%H:%M:%SZ}"
            row = {"change": kind, "version": version, "time": committed, "call": call}
            click.echo(msgspec.json.encode(row, enc_hook=str))
            counts[kind] += 1
    words = {"insert": "inserted", "update_postimage": "updated", "delete": "deleted"}
    print_note(", ".join(f"{counts[kind]:,} {word}" for kind, word in words.items()))
