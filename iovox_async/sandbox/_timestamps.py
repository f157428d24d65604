"""Converts between dates as the endpoint writes them and whole seconds.

A timestamp is a number of seconds since 1970-01-01 00:00:00 on the account's clock, which has no time zone.
"""

from __future__ import annotations

import functools
import re
from datetime import date, datetime, timedelta

DAY, HOUR = 86_400, 3_600
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the account's clock has no zone

_DURATION = re.compile(r"\d{2,}:[0-5]\d:[0-5]\d", re.ASCII)


@functools.lru_cache(maxsize=4096)
def _format_day(day: int) -> str:
    # Not `strftime`, which writes the year 999 with three digits.
    return (_EPOCH.date() + timedelta(days=day)).isoformat()


def format_timestamp(timestamp: int) -> str:
    """Returns the timestamp as `YYYY-MM-DD HH:MM:SS`."""
    day, second = divmod(timestamp, DAY)
    return f"{_format_day(day)} {second // HOUR:02d}:{second // 60 % 60:02d}:{second % 60:02d}"


def complete_date(text: str, default_time: str) -> str:
    """Returns a date text with its missing hours, minutes or seconds taken from `default_time` (`HH:MM:SS`)."""
    return text + f"YYYY-MM-DD {default_time}"[max(len(text), len("YYYY-MM-DD")) :]


def parse_timestamp(value: str | date, default_time: str = "00:00:00") -> int:
    """Returns the timestamp of a date, a datetime or a text; missing parts are taken from `default_time`.

    A time zone is ignored: times are those of the account.

    Raises:
        TypeError: `value` has another type.
        ValueError: the text is not a date.
    """
    if not isinstance(value, datetime):
        text = value.isoformat() if isinstance(value, date) else value
        value = datetime.fromisoformat(complete_date(text, default_time))
    return (value.replace(tzinfo=None) - _EPOCH) // timedelta(seconds=1)


def parse_duration(value: str | float | timedelta) -> int:
    """Returns the whole seconds of a `timedelta`, a number, or a text `HH:MM:SS`.

    Raises:
        TypeError: `value` has another type.
        ValueError: the text is not a duration, or the duration is negative.
        OverflowError: the duration does not fit into a `timedelta`.
    """
    if isinstance(value, str):
        if not _DURATION.fullmatch(value):
            raise ValueError(value)
        hours, minutes, seconds = map(int, value.split(":"))
        value = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    elif not isinstance(value, timedelta):
        value = timedelta(seconds=value)
    if value < timedelta():
        raise ValueError(value)
    return value // timedelta(seconds=1)
