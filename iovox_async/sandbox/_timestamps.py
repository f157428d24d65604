"""Seconds and how the endpoint writes them.

The law of this room: inside the sandbox an instant is a whole number of seconds on the account's own clock, which has
no zone; outside it is `YYYY-MM-DD HH:MM:SS`.
"""

from __future__ import annotations

import functools
import re
from datetime import date, datetime, timedelta

DAY, HOUR = 86_400, 3_600
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the account's clock has no zone

_CLOCK = re.compile(r"\d{2,}:[0-5]\d:[0-5]\d", re.ASCII)


@functools.lru_cache(maxsize=4096)
def _day(number: int) -> str:
    # Not `strftime`, which writes the year 999 with three digits.
    return (_EPOCH.date() + timedelta(days=number)).isoformat()


def text(second: int) -> str:
    """The instant as the endpoint writes it."""
    number, rest = divmod(second, DAY)
    return f"{_day(number)} {rest // HOUR:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"


def completed(value: str, rest: str) -> str:
    """A date as text, with the hours, minutes or seconds that it leaves out taken from `rest`."""
    return value + f"YYYY-MM-DD {rest}"[max(len(value), len("YYYY-MM-DD")) :]


def second(value: str | date, rest: str = "00:00:00") -> int:
    """The instant of a date, a datetime or a text; what it leaves out is taken from `rest`.

    A zone is not looked at: it can only be the account's own.

    Raises:
        TypeError: it is nothing of these.
        ValueError: it is no date.
    """
    if not isinstance(value, datetime):
        written = value.isoformat() if isinstance(value, date) else value
        value = datetime.fromisoformat(completed(written, rest))
    return (value.replace(tzinfo=None) - _EPOCH) // timedelta(seconds=1)


def duration(value: str | float | timedelta) -> int:
    """Whole seconds of a `timedelta`, a number, or `HH:MM:SS`; never fewer than none.

    Raises:
        TypeError: it is nothing of these.
        ValueError: it is no duration.
        OverflowError: it is longer than any time there is.
    """
    if isinstance(value, str):
        if not _CLOCK.fullmatch(value):
            raise ValueError(value)
        hours, minutes, seconds = map(int, value.split(":"))
        value = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    elif not isinstance(value, timedelta):
        value = timedelta(seconds=value)
    if value < timedelta():
        raise ValueError(value)
    return value // timedelta(seconds=1)


def weekday(number: int) -> int:
    """Day of the week of a day's number; Monday is 0, and day 0 was a Thursday."""
    return (number + 3) % 7
