"""Converts arguments to dates of whole seconds, and ranges with a time zone to local time of the account.

Both ends of a range are inclusive. A start means its first second; an end that names a day, an hour or a minute means
its last second. Fractions of a second are cut, since the endpoint counts in seconds.

The endpoint's dates are local time without a time zone or fold. So a range with a time zone becomes the shortest range of
local time that covers every second of it:

- If clocks are set back within the range (the hour that occurs twice), the start is the earliest and the end the latest
  local time that occurs in between. From 01:45 (first time) to 01:15 (second time), clocks show 01:45 to 01:59:59 and 01:00
  to 01:15, so the range is 01:00:00 to 01:59:59. It includes calls of the other pass, because the endpoint cannot tell
  the passes apart: too much, never too little.
- A local time that does not exist is read as Python reads it (PEP 495): with `fold=0` by the offset before the gap, so that
  01:30 in a gap from 01:00 to 02:00 is 02:30; with `fold=1` by the offset after, 00:30.
"""

from __future__ import annotations

import contextlib
import re
import time
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from .._redaction import shorten_repr
from .timezones import without_pytz
from .validators import InvalidValue

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A date: `YYYY-MM-DD`, `... HH`, `... HH:MM`, `... HH:MM:SS` (with a blank or `T`), a date or a datetime.
DateLike: TypeAlias = str | date

_DATE = r"(?a)(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d)(?::(\d\d)(?::(\d\d))?)?)?"
#: What is written as a date elsewhere: `20240131`, `1/31/2024`, `31.1.2024 18:00`.
_OTHER_FORM = (
    r"(?a)(\d{8}|\d{1,4}([-/.])\d\d?\2\d{1,4})"
    # Ten or twelve digits in a row may be a phone number.
    r"(?:(?:[ T][0-2]?\d(?::[0-5]\d(?::\d\d(?:\.\d{1,9})?)?)?|T[0-2]\d[0-5]\d|[ T]?[0-2]\d[0-5]\d{3})(?:Z|[+-]\d\d:?\d\d)?)?"
)
_FORM_HINT = "Write YYYY-MM-DD HH:MM:SS (time optional), or pass a date or datetime."
_SECOND = timedelta(seconds=1)
#: Offsets are less than a day, so clocks set back farther away from an end than this do not affect it.
_MAX_SET_BACK = timedelta(days=2)
#: Clocks have never been changed twice within this time.
_STEP = timedelta(minutes=30)
_DAY = timedelta(days=1)
#: No offset from UTC is as large.
_MAX_OFFSET = timedelta(days=1)
_FIRST = datetime.min.replace(tzinfo=UTC) + 2 * _MAX_OFFSET
_LAST = datetime.max.replace(tzinfo=UTC) - 2 * _MAX_OFFSET


class ClockChange(msgspec.Struct, frozen=True):
    """The local times `[start, stop)` that occur twice, because clocks are set back, or never.

    Attributes:
        start: the first second that occurs twice or never.
        stop: the first after it that occurs once.
        repeats: whether they occur twice.
    """

    start: datetime
    stop: datetime
    repeats: bool


def as_start(value: DateLike | None) -> datetime | None:
    """The first second of a date."""
    return None if value is None else _as_datetime(value, (0, 0, 0))


def as_end(value: DateLike | None) -> datetime | None:
    """The last second of a date: 23:59:59 of a day, :59:59 of an hour, :59 of a minute."""
    return None if value is None else _as_datetime(value, (23, 59, 59))


def is_aware(value: datetime | None) -> bool:
    """Whether a date has a time zone."""
    return value is not None and value.tzinfo is not None


def as_utc(value: datetime | None) -> datetime | None:
    """An aware date in UTC; others unchanged. Python compares two dates of one time zone without regard to their folds."""
    return value.astimezone(UTC) if value is not None and value.tzinfo is not None else value


def format_datetime(value: datetime) -> str:
    """A date in the format of the endpoint."""
    return value.isoformat(" ", "seconds")


def local_range(
    start: datetime | None, end: datetime | None, timezone: tzinfo
) -> tuple[datetime | None, datetime | None]:
    """The range of local time in `timezone` that covers a range; see the module docstring. Naive ends are unchanged.

    Raises:
        InvalidValue: a date is too early or late for the time zone.
    """
    try:
        utc_start, utc_end = (as_utc(value) if is_aware(value) else None for value in (start, end))
        local_start, local_end = start, end
        # An open or naive end does not limit how far clocks may be set back on its side.
        if utc_start is not None:
            limit = utc_start + _MAX_SET_BACK if utc_end is None else min(utc_end, utc_start + _MAX_SET_BACK)
            shown = [hour.start for hour in _changes(utc_start, limit, timezone, _STEP) if hour.repeats]
            local_start = min([_local_time(utc_start, timezone), *shown])
        if utc_end is not None:
            limit = utc_end - _MAX_SET_BACK if utc_start is None else max(utc_start, utc_end - _MAX_SET_BACK)
            shown = [
                hour.stop - _SECOND for hour in _changes(limit, utc_end, timezone, _STEP) if hour.repeats
            ]
            local_end = max([_local_time(utc_end, timezone), *shown])
    except OverflowError:
        raise InvalidValue("is out of range for this timezone") from None
    return local_start, local_end


def clock_changes(start: datetime, stop: datetime, timezone: tzinfo) -> list[ClockChange]:
    """The local times that occur twice or never, for every change of the clocks between two naive local times."""
    utc_start = max(_FIRST, start.replace(tzinfo=UTC)) - _MAX_OFFSET
    utc_stop = min(_LAST, stop.replace(tzinfo=UTC)) + _MAX_OFFSET
    return list(_changes(utc_start, utc_stop, timezone, _DAY))


def _changes(start: datetime, end: datetime, timezone: tzinfo, step: timedelta) -> Iterator[ClockChange]:
    """The changes of the clocks in (start, end], which are aware. Two within one step would not be found."""
    if timezone.utcoffset(None) is not None:  # always the same
        return
    step_end, new_offset = start, _offset(start, timezone)
    while step_end < end:
        before, after = step_end, min(step_end + step, end)
        step_end, old_offset, new_offset = after, new_offset, _offset(after, timezone)
        if old_offset == new_offset:
            continue
        while after - before > _SECOND:
            middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
            if _offset(middle, timezone) == old_offset:
                before = middle
            else:
                after = middle
        edges = [(after + offset).replace(tzinfo=None, microsecond=0) for offset in (old_offset, new_offset)]
        yield ClockChange(min(edges), max(edges), repeats=new_offset < old_offset)


def _offset(instant: datetime, timezone: tzinfo) -> timedelta:
    return instant.astimezone(timezone).replace(tzinfo=UTC) - instant


def _local_time(value: datetime, timezone: tzinfo) -> datetime:
    return value.astimezone(timezone).replace(tzinfo=None, microsecond=0, fold=0)


def _as_datetime(value: object, default_time: tuple[int, int, int]) -> datetime:
    try:
        # Subclasses are copied: pandas' Timestamp has nanoseconds, and its NaT has no year.
        if isinstance(value, datetime):
            result = _without_subclass(value)
        elif isinstance(value, date):
            result = datetime(value.year, value.month, value.day, *default_time)  # noqa: DTZ001 - local time by contract
        elif isinstance(value, str):
            result = _parse(value, default_time)
        else:
            raise InvalidValue(f"must be a str, date or datetime, got {type(value).__name__}", _FORM_HINT)
        if result.tzinfo is not None:
            result.astimezone(UTC)
    except OverflowError:
        raise InvalidValue(f"{shorten_repr(str(value))} is out of range in UTC") from None
    except TypeError:
        raise InvalidValue(f"must be a date, got {shorten_repr(str(value))}", _FORM_HINT) from None
    if result.year > 9998:
        raise InvalidValue(
            f"must not be after the year 9998, got {shorten_repr(str(value))}", "Leave it out for no end."
        )
    return result


def show_date(text: str) -> str:
    """The `repr` of a text that was given as a date; masked, unless it is a date in another form and no phone number."""
    match = re.fullmatch(_OTHER_FORM, text.strip())
    day = re.sub("[/.]", "-", match[1]) if match else ""
    for form in ("%Y%m%d", "%Y-%m-%d", "%d-%m-%Y", "%m-%d-%Y"):
        with contextlib.suppress(ValueError):
            if 1900 <= time.strptime(day, form).tm_year < 2200:
                return repr(text)
    return shorten_repr(text)


def _without_subclass(value: datetime) -> datetime:
    result = datetime(value.year, value.month, value.day, value.hour, value.minute, value.second)  # noqa: DTZ001 - zone follows
    # A tzinfo without an offset leaves a datetime naive, by Python's definition.
    return (
        result
        if value.utcoffset() is None
        else without_pytz(result.replace(tzinfo=value.tzinfo, fold=value.fold))
    )


def _parse(text: str, default_time: tuple[int, int, int]) -> datetime:
    match = re.fullmatch(_DATE, text)
    if match is None:
        has_offset = re.search(r"\d(Z|[+-]\d\d:?\d\d)$", text)
        hint = "Pass a datetime with tzinfo for a date with a time zone." if has_offset else _FORM_HINT
        raise InvalidValue(f"must be a date, got {show_date(text)}", hint)
    year, month, day = (int(group) for group in match.groups()[:3])
    hour, minute, second = (
        default if group is None else int(group)
        for group, default in zip(match.groups()[3:], default_time, strict=True)
    )
    try:
        return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - local time by contract
    except ValueError as error:
        # Not shorten_repr, which masks dates that do not exist as phone numbers.
        raise InvalidValue(f"must be a date, got {text!r} ({error})") from None
