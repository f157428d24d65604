"""What a job is, and what of it is left to read.

The law of this room: values only. A job is told from another by its questions, its form and its account, never by its
range, so that a range may grow; and a part of the range is read again until it can no longer change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from attrs import frozen

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..query import InsightsQuery
    from ._manifest import ManifestEntry

__all__ = [
    "Job",
    "Partition",
    "PartitionRange",
    "Partitioning",
    "checked_unit",
    "checksums",
    "differences",
    "file_of",
    "needs",
    "parts",
    "seconds_of",
    "stretches",
]

Partitioning = Literal["day", "month"]
_UNITS: Final = ("day", "month")
#: Names of fields that are told for each side where fields differ.
_NAMED: Final = 3


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one job from another.

    Attributes:
        account: whose calls.
        fields: what is asked for, in the order of the columns.
        filters: a checksum for each filter, since their values may be phone numbers.
        format: the name of the files' format.
        partition: "day" or "month".
        timezone: the account's zone, or None where dates are naive.
    """

    account: str
    fields: tuple[str, ...]
    filters: dict[str, str]
    format: str
    partition: str
    timezone: str | None

    @property
    def key(self) -> bytes:
        """A checksum of all of it."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).digest()


def checksums(query: InsightsQuery) -> dict[str, str]:
    """A checksum of each filter that is set; the order of a filter's items does not count."""
    return {
        name: hashlib.sha256(
            json.dumps(sorted(value) if isinstance(value, tuple) else value).encode()
        ).hexdigest()[:16]
        for name, value in query.active_filters().items()
    }


def differences(there: Job, here: Job) -> list[str]:
    """What differs between the job of a folder and this one, in words; empty if nothing does."""
    told = [
        f"{name} (there {getattr(there, name) or 'none'}, here {getattr(here, name) or 'none'})"
        for name in ("account", "format", "partition", "timezone")
        if getattr(there, name) != getattr(here, name)
    ]
    if there.fields != here.fields:
        lost, new = (
            [name for name in one.fields if name not in other.fields]
            for one, other in ((there, here), (here, there))
        )
        words = [f"only there {_some(lost)}"] if lost else []
        words += [f"only here {_some(new)}"] if new else []
        told.append(f"fields ({'; '.join(words) or 'in another order'})")
    names = sorted(there.filters.keys() | here.filters.keys())
    told += [
        f"filter {name} ({_which(name, there.filters, here.filters)})"
        for name in names
        if there.filters.get(name) != here.filters.get(name)
    ]
    return told


def _some(names: list[str]) -> str:
    """A few names, and how many there are beside them: a preset holds dozens."""
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


def _which(name: str, there: Mapping[str, str], here: Mapping[str, str]) -> str:
    if name in there and name in here:
        return "another value"
    return "only there" if name in there else "only here"


@frozen
class Partition:
    """A day or a month of the account's calendar.

    Attributes:
        name: `2024-01-31` or `2024-01`; names sort as time does.
        lo: its first second.
        hi: the second after its last.
    """

    name: str
    lo: datetime
    hi: datetime


def file_of(name: str, suffix: str) -> str:
    """The name of a partition's file, in the layout that readers of tables know as hive."""
    return f"calls/{'date' if len(name) == 10 else 'month'}={name}/part-0{suffix}"


def checked_unit(unit: str) -> Partitioning:
    """The unit of partitions.

    Raises:
        ConfigurationError: there is no such unit.
    """
    if unit not in _UNITS:
        raise ConfigurationError(f"partition: {' and '.join(_UNITS)} are known, not {unit!r}")
    return unit  # type: ignore[return-value] # one of the two


def parts(lo: datetime, hi: datetime, unit: Partitioning) -> Iterator[Partition]:
    """The partitions that the seconds `lo .. hi-1` touch, each whole; none where the range has not begun yet."""
    if lo >= hi:
        return
    day = lo.date() if unit == "day" else lo.date().replace(day=1)
    while (begin := datetime.combine(day, datetime.min.time())) < hi:
        following = _next(day, unit)
        # Not strftime, which writes years before 1000 with fewer digits: then names would not sort as time does.
        name = day.isoformat() if unit == "day" else day.isoformat()[:7]
        yield Partition(name, begin, datetime.combine(following, datetime.min.time()))
        day = following


def _next(day: date, unit: Partitioning) -> date:
    if unit == "day":
        return day + timedelta(days=1)
    return (day + timedelta(days=31)).replace(day=1)


@frozen(order=True)
class PartitionRange:
    """A partition, or a piece of one, to be read: the seconds `lo .. hi-1`, and its file replaced whole."""

    name: str
    lo: datetime
    hi: datetime


def needs(
    lo: datetime,
    hi: datetime,
    unit: Partitioning,
    known: Mapping[str, ManifestEntry],
    again: Iterable[str] = (),
) -> list[PartitionRange]:
    """What is to be read so that the seconds `lo .. hi-1` are there, in order.

    What an entry covers beyond the range is read again with it, since a file is replaced whole.

    Args:
        lo: the first second.
        hi: the second after the last.
        unit: "day" or "month".
        known: what is there.
        again: names of entries to be read again wherever they lie.
    """
    wanted: dict[str, PartitionRange] = {}
    for part in parts(lo, hi, unit):
        entry = known.get(part.name)
        need = PartitionRange(part.name, max(lo, part.lo), min(hi, part.hi))
        if entry is None:
            wanted[part.name] = need
        elif not (entry.sealed and entry.lo <= need.lo and entry.hi >= need.hi):
            wanted[part.name] = PartitionRange(part.name, min(need.lo, entry.lo), max(need.hi, entry.hi))
    for name in again:
        wanted.setdefault(name, PartitionRange(name, known[name].lo, known[name].hi))
    return sorted(wanted.values())


def stretches(wanted: Iterable[PartitionRange]) -> list[list[PartitionRange]]:
    """The needs, those that follow on each other together: each list is read as one range."""
    found: list[list[PartitionRange]] = []
    for need in wanted:
        if found and found[-1][-1].hi == need.lo:
            found[-1].append(need)
        else:
            found.append([need])
    return found


def seconds_of(wanted: Iterable[PartitionRange]) -> float:
    """How long these are in all."""
    return sum(((need.hi - need.lo).total_seconds() for need in wanted), 0.0)
