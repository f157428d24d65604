"""How often and how long a failed request is sent again: `RetryPolicy`."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from attrs import field, frozen

from .errors import (
    ConfigurationError,
)

__all__ = ["RetryPolicy", "parse_retry_after", "seconds"]


def seconds(value: float | timedelta, name: str) -> float:
    """A duration given in seconds or as a timedelta, in seconds.

    Raises:
        ConfigurationError: it is no number, or not a finite one of 0 or more.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ConfigurationError(f"{name}: seconds as a number or a timedelta are wanted, not {value!r}")
    try:
        number = float(number)
    except OverflowError:
        number = math.inf
    if not 0 <= number < math.inf:
        raise ConfigurationError(f"{name}: {number} is not a duration; 0 seconds or more are wanted")
    return number


def _initial(value: float | timedelta) -> float:
    return seconds(value, "RetryPolicy.initial_backoff")


def _maximum(value: float | timedelta) -> float:
    return seconds(value, "RetryPolicy.max_backoff")


def _total(value: float | timedelta) -> float:
    number = seconds(value, "RetryPolicy.total_timeout")
    if not number:
        raise ConfigurationError(
            "RetryPolicy.total_timeout: more than 0 seconds are wanted, since the first attempt counts; "
            "for no retries give attempts=1"
        )
    return number


def _retry_after_maximum(value: float | timedelta) -> float:
    return seconds(value, "RetryPolicy.max_retry_after")


def _attempts(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"RetryPolicy.max_attempts: a whole number from 1 is wanted, not {value!r}")
    return value


@frozen
class RetryPolicy:
    """How often and how long a request is tried. All durations in seconds, or a timedelta.

    Attributes:
        max_attempts: exchanges for one request, at most; 1 means no retries.
        initial_backoff: the back-off before the first retry is a random time up to this, doubled with each retry.
        max_backoff: the longest back-off.
        total_timeout: time for one request with all its retries and waits, at most; more than 0, since the first attempt counts.
        max_retry_after: the longest wait the server may ask for; longer is raised with its length.
    """

    max_attempts: int = field(default=5, converter=_attempts)
    initial_backoff: float = field(default=0.5, converter=_initial)
    max_backoff: float = field(default=30.0, converter=_maximum)
    total_timeout: float = field(default=300.0, converter=_total)
    max_retry_after: float = field(default=120.0, converter=_retry_after_maximum)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, from a Retry-After header in seconds or as a date; None where it says nothing usable."""
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        number = (moment - now).total_seconds()
        return max(0.0, number)
    if math.isnan(number) or number < 0:
        return None
    # "1e999" is a wait without end: longer than any maximum, and so raised.
    return number
