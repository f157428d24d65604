"""What a date means: whole seconds, both ends inclusive, and the wall clock of the account.

The law of this room: rounding never loses a call. A start is floored to its first second; an end that names a
day, an hour or a minute means its last second; fractions of a second are cut, since the endpoint counts in seconds.
Problems leave as `InvalidValue` with the cure; `query` adds the name of the parameter.

The endpoint's dates have no zone and no fold: they are what a clock on the account's wall showed. So an aware
range of instants becomes the shortest range of wall time that *covers every second its instants pass through*:

- An instant inside is simply read off the account's wall clock.
- Where the clock is set back inside the range (the hour that comes twice), the range may begin or end in that hour. Then
  the start is the earliest and the end the latest time the wall showed in between. From 01:45 in the first pass to 01:15 in
  the second, the wall showed 01:45 to 01:59:59 and 01:00 to 01:15: the range is 01:00:00 to 01:59:59. What the other pass
  had in those minutes comes too, because the endpoint cannot tell the passes apart: too much, never too little.
- A time that the clock skipped is read as Python reads it (PEP 495): with `fold=0` by the offset before the
  gap, so that 01:30 in a gap from 01:00 to 02:00 is 02:30; with `fold=1` by the offset after, 00:30.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, TypeAlias

from .._redaction import shorten_repr
from .validators import InvalidValue

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Moment", "as_end", "as_start", "instant", "is_aware", "wall_range", "written"]

#: A date: `YYYY-MM-DD`, `... HH`, `... HH:MM`, `... HH:MM:SS` (`T` may stand for the blank), a date or a datetime.
Moment: TypeAlias = str | date

_WRITTEN = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d)(?::(\d\d)(?::(\d\d))?)?)?", re.ASCII)
_FORM = "write YYYY-MM-DD HH:MM:SS (seconds, minutes and hours may be left out), or give a date or datetime"
_SECOND = timedelta(seconds=1)
#: Offsets lie within a day of UTC, so no clock is set back by two days: farther from an end no set-back matters.
_REACH = timedelta(days=2)
#: No clock on record was changed twice within it.
_STEP = timedelta(minutes=30)


def as_start(value: Moment | None) -> datetime | None:
    """The first second that a start means."""
    return None if value is None else _moment(value, (0, 0, 0))


def as_end(value: Moment | None) -> datetime | None:
    """The last second that an end means: a bare date 23:59:59, `HH` :59:59, `HH:MM` :59."""
    return None if value is None else _moment(value, (23, 59, 59))


def is_aware(value: datetime | None) -> bool:
    """Whether a date is an instant, and not a time on the account's wall."""
    return value is not None and value.tzinfo is not None


def instant(value: datetime | None) -> datetime | None:
    """An aware date in UTC (two dates of one zone compare by their wall time, blind to folds); others as they are."""
    return value.astimezone(UTC) if value is not None and value.tzinfo is not None else value


def written(value: datetime) -> str:
    """A date in the endpoint's format."""
    return value.isoformat(" ", "seconds")


def wall_range(
    start: datetime | None, end: datetime | None, timezone: tzinfo
) -> tuple[datetime | None, datetime | None]:
    """The wall time in `timezone` that covers a range; see the head of this module. Naive ends stay as they are.

    An end that is open or naive bounds nothing here: the clock may have been set back on its side.

    Raises:
        InvalidValue: a date so early or late that the zone cannot hold it.
    """
    try:
        first, last = (instant(value) if is_aware(value) else None for value in (start, end))
        low, high = start, end
        if first is not None:
            until = first + _REACH if last is None else min(last, first + _REACH)
            shown = [after for _, after in _set_backs(first, until, timezone)]
            low = min([_wall(first, timezone), *shown])
        if last is not None:
            since = last - _REACH if first is None else max(first, last - _REACH)
            shown = [before for before, _ in _set_backs(since, last, timezone)]
            high = max([_wall(last, timezone), *shown])
    except OverflowError:
        raise InvalidValue("lies too near the ends of the calendar for this timezone") from None
    return low, high


def _set_backs(start: datetime, end: datetime, timezone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
    """The wall's last second before and first second after each time its clock is set back in (start, end]."""
    at = start
    while at < end:
        low, high = at, min(at + _STEP, end)
        at = high
        if not _is_set_back(low, high, timezone):
            continue
        while high - low > _SECOND:
            middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
            if _is_set_back(low, middle, timezone):
                high = middle
            else:
                low = middle
        yield _wall(low, timezone), _wall(high, timezone)


def _is_set_back(low: datetime, high: datetime, timezone: tzinfo) -> bool:
    return _wall(high, timezone) - _wall(low, timezone) < high - low


def _wall(at: datetime, timezone: tzinfo) -> datetime:
    return at.astimezone(timezone).replace(tzinfo=None, microsecond=0, fold=0)


def _moment(value: object, filling: tuple[int, int, int]) -> datetime:
    try:
        # A plain datetime is built from subclasses too: pandas' own has nanoseconds, and its NaT no year.
        if isinstance(value, datetime):
            moment = _plain(value)
        elif isinstance(value, date):
            moment = datetime(value.year, value.month, value.day, *filling)  # noqa: DTZ001 - account-local by contract
        elif isinstance(value, str):
            moment = _parsed(value, filling)
        else:
            raise InvalidValue(f"must be a str, date or datetime, not {type(value).__name__}; {_FORM}")
        if moment.tzinfo is not None:
            moment.astimezone(UTC)
    except OverflowError:
        raise InvalidValue(f"{shorten_repr(str(value))} lies too near the ends of the calendar") from None
    except TypeError:
        raise InvalidValue(f"{shorten_repr(str(value))} is no date; {_FORM}") from None
    if moment.year > 9998:
        raise InvalidValue(f"{shorten_repr(str(value))} lies past the year 9998; an end left out means now")
    return moment


def _plain(value: datetime) -> datetime:
    moment = datetime(value.year, value.month, value.day, value.hour, value.minute, value.second)  # noqa: DTZ001 - zone follows
    # What has a tzinfo without an offset is naive, as Python defines it.
    return moment if value.utcoffset() is None else moment.replace(tzinfo=value.tzinfo, fold=value.fold)


def _parsed(text: str, filling: tuple[int, int, int]) -> datetime:
    match = _WRITTEN.fullmatch(text)
    if match is None:
        zoned = re.search(r"\d(Z|[+-]\d\d:?\d\d)$", text)
        cure = "a written date has no zone: give a datetime with tzinfo" if zoned else _FORM
        raise InvalidValue(f"{shorten_repr(text)} is not the endpoint's format; {cure}")
    year, month, day = (int(part) for part in match.groups()[:3])
    hour, minute, second = (
        fill if part is None else int(part) for part, fill in zip(match.groups()[3:], filling, strict=True)
    )
    try:
        return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - account-local by contract
    except ValueError as error:
        raise InvalidValue(f"{shorten_repr(text)} is on no calendar or clock: {error}") from None
