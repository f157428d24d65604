"""Resolves time zones given by name or as tzinfo.

Invariant: a resolved time zone follows PEP 495, so that `datetime.replace(tzinfo=zone)` gives the right instant. Those of pytz
do not (`replace` gives them the local mean time of the 19th century), and dateutil's do not in hours that never occur. They
become the time zone of the same name in `zoneinfo`, or a `ConvertedZone`.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Final

from .._redaction import shorten_repr
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_DAY: Final = timedelta(days=1)
_HINT: Final = "Pass an IANA name such as 'Europe/London'."


def zone_of(zone: tzinfo | str | None) -> tzinfo | None:
    """The time zone as a tzinfo that follows PEP 495.

    Raises:
        ConfigurationError: there is no time zone with this name, or the tzinfo cannot convert an instant.
    """
    if zone is None:
        return None
    from zoneinfo import ZoneInfo  # takes milliseconds, and many programs have no time zone

    if isinstance(zone, ZoneInfo | timezone):
        return zone
    if isinstance(zone, tzinfo):
        # pytz has the name in `zone`.
        return _zone_by_name(getattr(zone, "zone", None)) or ConvertedZone.of(zone)
    named = _zone_by_name(zone)
    if named is None:
        raise ConfigurationError("timezone", f"must be a time zone, got {shorten_repr(zone)}", _HINT)
    return named


def _zone_by_name(name: object) -> ZoneInfo | None:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)  # type: ignore[arg-type]  # another type raises, as an unknown name does
    except (KeyError, ValueError, TypeError, AttributeError, OSError):
        return None


def without_pytz(value: datetime) -> datetime:
    """A datetime whose tzinfo is `pytz.timezone(...)` itself as its local time in that zone; others unchanged.

    Its own offset would be the local mean time of the zone. After pytz's `localize` the tzinfo is another one.
    """
    name = getattr(value.tzinfo, "zone", None)
    pytz = sys.modules.get("pytz")
    if pytz is None or not isinstance(name, str) or _zone_by_name(name) is None:
        return value
    if pytz.timezone(name) is not value.tzinfo:
        return value
    return value.replace(tzinfo=zone_of(value.tzinfo))


class ConvertedZone(tzinfo):
    """A time zone by another one's `fromutc`, which is right in every library."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    @classmethod
    def of(cls, zone: tzinfo) -> tzinfo:
        """The converted zone; a fixed offset becomes a `datetime.timezone`.

        Raises:
            ConfigurationError: the zone cannot convert an instant.
        """
        converted = cls(zone)
        try:
            converted._offset_at(datetime(2024, 1, 1))  # noqa: DTZ001 - its own class; UTC
            fixed = zone.utcoffset(None)
        except Exception:  # noqa: BLE001 - it is code of the caller
            problem = f"must convert instants to local time, which this {type(zone).__name__} does not"
            hint = f"{_HINT.removesuffix('.')}, or a zoneinfo.ZoneInfo."
            raise ConfigurationError("timezone", problem, hint) from None
        return converted if fixed is None else timezone(fixed)

    def utcoffset(self, local: datetime | None, /) -> timedelta | None:
        if local is None:
            return None
        fold, local = local.fold, local.replace(tzinfo=None, fold=0)
        try:
            before, after = self._offset_at(local - _DAY), self._offset_at(local + _DAY)
        except OverflowError:
            return self._offset_at(local)
        if before == after:
            return before
        # The offset before the change holds for the first of two passes, and, by PEP 495, for `fold=0` where there is none.
        offsets = [offset for offset in (before, after) if self._offset_at(local - offset) == offset]
        return offsets[0] if len(offsets) == 1 else (after if fold else before)

    def dst(self, local: datetime | None, /) -> timedelta | None:  # noqa: ARG002 - the signature of tzinfo
        # As for `datetime.timezone`: only the offset is known.
        return None

    def tzname(self, local: datetime | None, /) -> str | None:
        return None if local is None else self.fromutc(local.replace(tzinfo=self)).isoformat()[-6:]

    def fromutc(self, utc: datetime, /) -> datetime:
        naive = utc.replace(tzinfo=None, fold=0)
        local = naive + self._offset_at(naive)
        aware = local.replace(tzinfo=self)
        # The second pass of an hour is the one whose first pass is another instant.
        return aware if self.utcoffset(aware) == local - naive else aware.replace(fold=1)

    def _offset_at(self, utc: datetime) -> timedelta:
        """The offset at an instant, given as naive UTC."""
        local = utc.replace(tzinfo=UTC).astimezone(self._zone)
        return local.replace(tzinfo=None, fold=0) - utc

    def __repr__(self) -> str:
        return f"ConvertedZone({self._zone!r})"

    def __str__(self) -> str:
        return str(self._zone)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConvertedZone) and self._zone == other._zone

    def __hash__(self) -> int:
        return hash(repr(self._zone))

    def __reduce__(self) -> tuple[type[ConvertedZone], tuple[tzinfo]]:
        return ConvertedZone, (self._zone,)
