"""Parses dates as people say them: `yesterday`, `7d`, `last-month`, `2024-02`, `2024-W07`.

An expression names a period or a point in time:

====================================================================  ==================================================
`today`, `yesterday`, also with a time: `yesterday 18:00`             that day, or that time
`this-week`, `last-month`; also `day`, `quarter`, `year`              the current period, or the one before; weeks begin on Monday
`30min`, `12h`, `7d`, `4w`                                            that long before now
`now`                                                                 now
`2024`, `2024-Q1`, `2024-02`, `2024-W07`                              that year, quarter, month, or ISO week
`2024-02-29`, `2024-2-29`, also with a time: `2024-02-29 18:00`       that day, or that time
====================================================================  ==================================================

As a start, a period means its first second, and as an end its last one. A start without an end that names a period means that
period, except a date (`2024-02-29`), a point in time, or `7d`, from which calls are read until now.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ._params.dates import as_end, as_start, as_utc, is_aware, show_date
from ._params.validators import InvalidValue
from ._wording import Wording
from .errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._params.dates import DateLike

__all__ = ["parse_end", "parse_range", "parse_start"]

_HINT: Final = (
    "Write a date such as 2024-01-31, '2024-01-31 18:00', 2024-01, yesterday, 7d, this-week or last-month."
)
_OFFSET_HINT: Final = "Write the account's local time, without an offset."
_DATE: Final = re.compile(r"(\d{4})-(\d\d?)-(\d\d?)(?:[ T](\d\d?(?::\d\d){0,2}))?", re.ASCII)
_DAY: Final = r"(?ai)(today|yesterday)(?:[ T@](\d\d?(?::\d\d){0,2}))?"
_AGO: Final = r"(?ai)(\d{1,6}) ?(min|h|d|w)"
_NAMED: Final = r"(?ai)(this|last)[- _](day|week|month|quarter|year)"
_YEAR: Final = r"(?ai)(\d{4})(?:-(\d\d?)|-?Q([1-4])|-?W(\d\d?)(?:-?([1-7]))?)?"
_SECOND: Final = timedelta(seconds=1)
_UNITS: Final = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}


def parse_range(
    start: DateLike | None, end: DateLike | None = None, *, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """The first and the last second of a range; see the module's table.

    ::

        start, end = parse_range("last-month", now=insights.now())
        async with insights.stream(start, end) as calls: ...

    Args:
        start: an expression, date or datetime; None stays None.
        end: likewise.
        now: the account's local time, such as `insights.now()`. Where clocks have been changed within the last hours, an
            aware datetime makes `12h` exact.

    Returns:
        naive local times of the account, or the aware datetimes that were passed. The end is None, which means now, where
        there is none and where it names a period that has not ended.

    Raises:
        QueryError: an expression is not a date, the end is before the start, or `now` is not a datetime.
    """
    first, last, is_period = _parse("start_date", start, now, as_start)
    if end is None:
        end_of_range = last if is_period else None
    else:
        _, end_of_range, is_period = _parse("end_date", end, now, as_end)
    if is_period and end_of_range is not None and end_of_range >= now.replace(tzinfo=None):
        end_of_range = None
    if first is not None and end_of_range is not None and is_aware(first) == is_aware(end_of_range):
        earliest, latest = as_utc(first), as_utc(end_of_range)
        if earliest is not None and latest is not None and latest < earliest:
            raise QueryError("end_date", Wording(f"({end_of_range}) is before {{start_date}} ({first})"))
    return first, end_of_range


def parse_start(value: DateLike, *, now: datetime) -> datetime:
    """The first second of an expression; arguments and errors as for `parse_range`."""
    first, _, _ = _parse("start_date", value, now, as_start)
    assert first is not None
    return first


def parse_end(value: DateLike, *, now: datetime) -> datetime:
    """The last second of an expression; arguments and errors as for `parse_range`."""
    _, last, _ = _parse("end_date", value, now, as_end)
    assert last is not None
    return last


def _parse(
    parameter: str,
    value: DateLike | None,
    now: datetime,
    convert: Callable[[DateLike | None], datetime | None],
) -> tuple[datetime | None, datetime | None, bool]:
    """The first and last second of a value, and whether it names a period."""
    if not isinstance(now, datetime):
        raise QueryError("now", f"must be a datetime such as insights.now(), got {type(now).__name__}")
    try:
        if not isinstance(value, str):
            converted = convert(value)
            return converted, converted, False
        text = value.strip()
        if match := _DATE.fullmatch(text):
            return *_on_day("-".join([match[1], match[2].zfill(2), match[3].zfill(2)]), match[4]), False
        if match := re.fullmatch(_DAY, text):
            day = now.date() - timedelta(days=match[1].lower() == "yesterday")
            return *_on_day(day.isoformat(), match[2]), match[2] is None
        first, last = _period(text, now)
    except InvalidValue as error:
        raise QueryError(parameter, str(error), error.hint) from None
    except (ValueError, OverflowError):
        raise QueryError(parameter, f"must be a date, got {show_date(str(value))}", _HINT) from None
    return first, last, first != last


def _on_day(day: str, time: str | None) -> tuple[datetime | None, datetime | None]:
    # The hour may have one digit.
    text = day if time is None else f"{day} {time if time[1:2].isdigit() else f'0{time}'}"
    return as_start(text), as_end(text)


def _period(text: str, now: datetime) -> tuple[datetime, datetime]:
    """The first and last second of a period; the same second twice for a point in time."""
    local = now.replace(microsecond=0, tzinfo=None, fold=0)
    if text.lower() == "now":
        return local, local
    if match := re.fullmatch(_AGO, text):
        unit = match[2].lower()
        ago = timedelta(**{_UNITS[unit]: int(match[1])})
        if now.tzinfo is not None and unit in {"h", "min"}:
            second = (
                (now.astimezone(UTC) - ago).astimezone(now.tzinfo).replace(microsecond=0, tzinfo=None, fold=0)
            )
        else:
            second = local - ago
        return second, second
    if match := re.fullmatch(_NAMED, text):
        unit, is_last = match[2].lower(), match[1].lower() == "last"
        if unit in _MONTHS:
            months = _MONTHS[unit]
            index = (local.year * 12 + local.month - 1) // months - is_last
            return _months(index * months, months)
        length = 7 if unit == "week" else 1
        monday = local.date() - timedelta(days=local.weekday() if unit == "week" else 0)
        return _days(monday - timedelta(days=length * is_last), length)
    if match := re.fullmatch(_YEAR, text):
        year, month, quarter, week, weekday = (
            None if group is None else int(group) for group in match.groups()
        )
        assert year is not None
        if week is not None:
            return _days(date.fromisocalendar(year, week, weekday or 1), 1 if weekday else 7)
        if quarter:
            return _months(year * 12 + 3 * quarter - 3, 3)
        if month is None or 1 <= month <= 12:
            return _months(year * 12 + (month or 1) - 1, 12 if month is None else 1)
    has_offset = re.search(r"(\dZ|[T ]\d.*[+-]\d\d:?\d\d)$", text)
    raise InvalidValue(f"must be a date, got {show_date(text)}", _OFFSET_HINT if has_offset else _HINT)


def _months(first: int, count: int) -> tuple[datetime, datetime]:
    """The first and last second of months, the first given as years times twelve and months from January."""
    start, stop = (datetime(month // 12, month % 12 + 1, 1) for month in (first, first + count))  # noqa: DTZ001 - local time
    return start, stop - _SECOND


def _days(first: date, count: int) -> tuple[datetime, datetime]:
    start = datetime(first.year, first.month, first.day)  # noqa: DTZ001 - local time
    return start, start + timedelta(days=count) - _SECOND
