"""Keeps the state of a backfill in a Delta table: the job in its properties, the days in application transactions.

A transaction of Delta is a name with a number, and is part of the commit that carries it. These are used:

- `iovox_async`: the number of commits of backfills. Of two commits at the same time, Delta refuses one.
- `iovox_async/final/2024-01`: bit n - 1 is set if day n of the month is final.
- `iovox_async/2024-01-31/calls` and others: the certificate of a final day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from ._chunks import IdChecksum

if TYPE_CHECKING:
    from ._job import Job
    from ._manifest import ManifestEntry

APP_ID: Final = "iovox_async"
#: Table properties: the job, the earliest start that was loaded, and the day before which days were dropped.
JOB: Final = "iovox_async.job"
START: Final = "iovox_async.start"
DROPPED_BEFORE: Final = "iovox_async.dropped_before"
_DAY: Final = timedelta(days=1)
#: Returns the number of a transaction, or None.
Lookup = Callable[[str], "int | None"]


def encode_job(job: Job) -> str:
    """The job as the value of a table property."""
    return msgspec.json.encode(job, order="deterministic").decode()


def decode_job(text: str) -> Job:
    """The job in a table property.

    Raises:
        msgspec.DecodeError: it is none.
    """
    from ._job import Job

    return msgspec.json.decode(text, type=Job)


def _month_id(day: date) -> str:
    return f"{APP_ID}/final/{day:%Y-%m}"


def days_between(first: date, last: date) -> Iterator[date]:
    """The days from `first` to `last`, both included."""
    return (first + number * _DAY for number in range((last - first).days + 1))


def final_days(lookup: Lookup, first: date, last: date) -> Iterator[date]:
    """The days from `first` to `last` that are final."""
    bits: dict[str, int] = {}
    for day in days_between(first, last):
        month = _month_id(day)
        if month not in bits:
            bits[month] = lookup(month) or 0
        if bits[month] >> (day.day - 1) & 1:
            yield day


def state_of_days(lookup: Lookup, entries: Iterable[ManifestEntry]) -> dict[str, int]:
    """The transactions that record these days; those of days that are not final only where the table has others."""
    before: dict[str, int] = {}
    bits: dict[str, int] = {}
    state: dict[str, int] = {}
    for entry in entries:
        day = date.fromisoformat(entry.partition)
        month, bit = _month_id(day), 1 << (day.day - 1)
        if month not in before:
            # Each lookup reads the table's log.
            before[month] = bits[month] = lookup(month) or 0
        bits[month] = bits[month] | bit if entry.final else bits[month] & ~bit
        if entry.final:
            state |= _certificate(entry)
    return state | {month: number for month, number in bits.items() if number != before[month]}


def _certificate(entry: ManifestEntry) -> dict[str, int]:
    assert entry.read_at is not None
    numbers = {
        "calls": entry.rows,
        "skipped": entry.skipped,
        "first_id": entry.first_id or 0,
        "last_id": entry.last_id or 0,
        "read_at": int(entry.read_at.timestamp()),
        "version": _version_number(entry.version),
    }
    for name, checksum in (("ids", entry.ids), ("call_ids", entry.file_ids)):
        numbers[f"{name}_sum"] = _signed(int(checksum[:16], 16))
        numbers[f"{name}_squares"] = _signed(int(checksum[16:], 16))
    return {f"{APP_ID}/{entry.partition}/{name}": number for name, number in numbers.items()}


def load_certificate(lookup: Lookup, entry: ManifestEntry) -> ManifestEntry:
    """The entry of a final day with the values of its certificate."""

    def number(name: str) -> int:
        return lookup(f"{APP_ID}/{entry.partition}/{name}") or 0

    def checksum(name: str) -> str:
        return str(IdChecksum(0, number(f"{name}_sum") % 2**64, number(f"{name}_squares") % 2**64))

    calls = number("calls")
    return msgspec.structs.replace(
        entry,
        rows=calls,
        skipped=number("skipped"),
        first_id=number("first_id") if calls else None,
        last_id=number("last_id") if calls else None,
        ids=checksum("ids"),
        file_ids=checksum("call_ids"),
        read_at=datetime.fromtimestamp(number("read_at"), UTC),
        version=_version_text(number("version")),
    )


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _version_number(version: str) -> int:
    """`0.2.0` as 2000; 0 for a version that is not three numbers."""
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        return 0
    major, minor, patch = map(int, parts)
    return (major * 1000 + minor) * 1000 + patch


def _version_text(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}" if number else "unknown"
