"""Identifies a backfill job, so that a directory is never filled by two different ones.

A job is its account, fields, filters, format and partitioning, not its date range: the range may grow.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

import msgspec

from ..errors import BackfillMismatchError

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..query import InsightsQuery

#: Field names that a message lists on each side; presets have dozens.
_LISTED_FIELDS: Final = 3


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What distinguishes one backfill job from another.

    Attributes:
        account: the API user whose calls are read.
        fields: the requested fields, in the order of the columns.
        filters: a checksum for each filter; the values may be phone numbers.
        format: the name of the file format.
        partition: "day" or "month".
        timezone: the account's time zone, or None where dates are naive.
    """

    account: str
    fields: tuple[str, ...]
    filters: dict[str, str]
    format: str
    partition: str
    timezone: str | None

    def digest(self) -> bytes:
        """A checksum of all attributes."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).digest()


def filter_checksums(query: InsightsQuery) -> dict[str, str]:
    """A checksum of each active filter. The order of a filter's values does not matter."""
    return {
        name: hashlib.sha256(
            json.dumps(sorted(value) if isinstance(value, tuple) else value).encode()
        ).hexdigest()[:16]
        for name, value in query.active_filters().items()
    }


def describe_differences(stored: Job, requested: Job) -> list[str]:
    """A phrase for each attribute in which the job of a directory and the requested one differ."""
    phrases = [
        f"{name} (stored: {getattr(stored, name) or 'none'}, requested: {getattr(requested, name) or 'none'})"
        for name in ("account", "format", "partition", "timezone")
        if getattr(stored, name) != getattr(requested, name)
    ]
    if stored.fields != requested.fields:
        phrases.append(f"fields ({_compare_names(stored.fields, requested.fields) or 'in another order'})")
    for name in sorted(stored.filters.keys() | requested.filters.keys()):
        if stored.filters.get(name) != requested.filters.get(name):
            difference = _compare_names(stored.filters.keys() & {name}, requested.filters.keys() & {name})
            phrases.append(f"filter {difference or f'{name}: another value'}")
    return phrases


def mismatch_error(location: object, differences: Collection[str]) -> BackfillMismatchError:
    """The error for a directory whose job differs from the requested one."""
    return BackfillMismatchError(
        f"{location} belongs to another backfill, which differs in {', '.join(differences)}",
        hint="Use the same arguments, or choose another directory.",
    )


def _compare_names(stored: Collection[str], requested: Collection[str]) -> str:
    """The names that only one side has, a few of each; empty if there are none."""
    sides = []
    for label, names, others in (("only stored", stored, requested), ("only requested", requested, stored)):
        missing = [name for name in names if name not in others]
        if missing:
            more = f" and {len(missing) - _LISTED_FIELDS} more" if len(missing) > _LISTED_FIELDS else ""
            sides.append(f"{label}: {', '.join(missing[:_LISTED_FIELDS])}{more}")
    return "; ".join(sides)
