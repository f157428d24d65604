"""Resolves the date range of a run, its partitions, and which of them have to be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Final, Literal, get_args

import msgspec
from attrs import evolve

from .._paging import SECOND
from .._paging.spec import resolve, to_local_time
from .._wording import Wording
from ..errors import ConfigurationError, QueryError

if TYPE_CHECKING:
    from .._paging.spec import ReadSpec
    from ..query import InsightsQuery
    from ._manifest import ManifestEntry

Partitioning = Literal["day", "month"]
_DAY_NAME_LENGTH: Final = len("2024-01-31")


class PartitionRange(msgspec.Struct, frozen=True, order=True):
    """A partition, or a part of one: the seconds from `start` to before `stop`, in the account's local time.

    Attributes:
        name: `2024-01-31` or `2024-01`; names sort chronologically.
        start: the first second.
        stop: the second after the last.
    """

    name: str
    start: datetime
    stop: datetime


def check_partitioning(value: str) -> Partitioning:
    """Returns the value if it is "day" or "month".

    Raises:
        ConfigurationError: it is neither.
    """
    if value not in get_args(Partitioning):
        raise ConfigurationError("partition", f'must be "day" or "month", got {value!r}')
    return value  # type: ignore[return-value] # checked above


def start_of_day(drop_before: object) -> datetime | None:
    """The first second of the day `drop_before`, or None if there is none.

    Raises:
        ConfigurationError: it is no date.
    """
    if drop_before is None:
        return None
    if not isinstance(drop_before, date):
        raise ConfigurationError("drop_before", f"must be a date, got {type(drop_before).__name__}")
    return datetime.combine(drop_before, time.min)


class RequestedDates(msgspec.Struct, frozen=True):
    """The dates that a run requests, by the clocks when it starts.

    Attributes:
        query: the requested calls.
        earliest: the earliest time it may be in the account.
        latest: the latest time it may be there, which is the end where the query has none.
        timezone: the account's time zone.
    """

    query: InsightsQuery
    earliest: datetime
    latest: datetime
    timezone: tzinfo | None

    @property
    def start(self) -> datetime | None:
        """The first second that the query requests, or None where it has no start."""
        if self.query.start_date is None and self.query.date_constant is None:
            return None
        return self._resolve(self.query).start

    @property
    def default_start(self) -> datetime:
        """The start of a backfill where neither the query nor the directory has one: the first of the month."""
        return self.earliest.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    def resolve(self, stored_start: datetime) -> tuple[datetime, datetime]:
        """The first second of the range and the second after its last, which is not in the future.

        Args:
            stored_start: the start that the directory holds, for a query without one.

        Raises:
            QueryError: the end is before the start.
        """
        query = self.query
        if query.date_constant is None and query.start_date is None:
            end = to_local_time(query, self.timezone).end_date
            if end is not None and end < stored_start:
                raise QueryError(
                    "end_date",
                    f"({end}) is before {stored_start}, where a backfill without a start begins",
                    hint=Wording("Give {start_date}."),
                )
            query = evolve(query, start_date=stored_start)
        spec = self._resolve(query)
        return spec.start, min(spec.stop, self.latest + SECOND)

    def _resolve(self, query: InsightsQuery) -> ReadSpec:
        return resolve(
            query, now=self.latest, earliest_now=self.earliest, timezone=self.timezone, paging="windows"
        )


def partition_path(name: str, suffix: str) -> str:
    """The path of a partition's file in the Hive layout, relative to the backfill directory."""
    return f"{'date' if len(name) == _DAY_NAME_LENGTH else 'month'}={name}/part-0{suffix}"


def partitions_in(start: datetime, stop: datetime, partitioning: Partitioning) -> Iterator[PartitionRange]:
    """The whole partitions that overlap the seconds from `start` to before `stop`."""
    if start >= stop:
        return
    by_month = partitioning == "month"
    day = start.date().replace(day=1) if by_month else start.date()
    while (first := datetime.combine(day, time.min)) < stop:
        day = (day + timedelta(days=31)).replace(day=1) if by_month else day + timedelta(days=1)
        # strftime writes years before 1000 with fewer digits, so names would not sort chronologically.
        name = first.date().isoformat()[: len("2024-01" if by_month else "2024-01-31")]
        yield PartitionRange(name, first, datetime.combine(day, time.min))


def partitions_to_read(
    start: datetime,
    stop: datetime,
    partitioning: Partitioning,
    entries: Mapping[str, ManifestEntry],
    damaged: Iterable[str] = (),
) -> list[PartitionRange]:
    """What has to be read so that the directory holds the seconds from `start` to before `stop`, in order.

    A file is replaced as a whole, so what its entry covers beyond the range is read again too.

    Args:
        start: the first second of the range.
        stop: the second after the last.
        partitioning: "day" or "month".
        entries: the entries of the manifest, by partition.
        damaged: names of partitions to read again, also outside of the range.
    """
    ranges: dict[str, PartitionRange] = {}
    for partition in partitions_in(start, stop, partitioning):
        name, first, last = partition.name, max(start, partition.start), min(stop, partition.stop)
        entry = entries.get(name)
        if entry is None:
            ranges[name] = PartitionRange(name, first, last)
        elif not (entry.final and entry.start <= first and entry.stop >= last):
            ranges[name] = PartitionRange(name, min(first, entry.start), max(last, entry.stop))
    for name in damaged:
        ranges.setdefault(name, entries[name].range)
    return sorted(ranges.values())


def adjacent_groups(ranges: Iterable[PartitionRange]) -> list[list[PartitionRange]]:
    """The ranges in groups without gaps; each group can be read by one stream."""
    groups: list[list[PartitionRange]] = []
    for part in ranges:
        if groups and groups[-1][-1].stop == part.start:
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def total_seconds(ranges: Iterable[PartitionRange]) -> float:
    """The length of all ranges together."""
    return sum(((part.stop - part.start).total_seconds() for part in ranges), 0.0)
