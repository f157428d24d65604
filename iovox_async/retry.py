"""How often and for how long a failed request is retried: `RetryPolicy`."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import Attribute, field, frozen

from ._params.account_time import parse_http_date
from .errors import ConfigurationError

__all__ = ["RetryPolicy"]

#: Seconds in a header. Python's own conversion also reads "1_0", "nan", "1e3" and other scripts' digits.
_SECONDS: Final = r"[0-9]+(?:\.[0-9]*)?"


def seconds(value: float | timedelta, parameter: str) -> float:
    """Converts a duration, in seconds or as a timedelta, to seconds.

    Raises:
        ConfigurationError: it is not a number, or not a finite one of at least 0.
    """
    number = _to_seconds(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ConfigurationError(parameter, f"must be a number of seconds or a timedelta, got {value!r}")
    if not 0 <= number < math.inf:
        raise ConfigurationError(parameter, f"must be a finite duration of at least 0 seconds, got {number}")
    return number


def _to_seconds(value: float | timedelta) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _check_duration(_policy: RetryPolicy, attribute: Attribute[Any], value: float) -> None:
    seconds(value, attribute.name)


def _check_total_timeout(_policy: RetryPolicy, attribute: Attribute[Any], value: float) -> None:
    if not seconds(value, attribute.name):
        raise ConfigurationError(
            attribute.name,
            "must be more than 0 seconds, since it includes the first attempt",
            "For no retries, pass max_attempts=1.",
        )


def _check_max_attempts(_policy: RetryPolicy, attribute: Attribute[Any], value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(attribute.name, f"must be an integer of at least 1, got {value!r}")


@frozen
class RetryPolicy:
    """How often and for how long a request is retried. Durations are in seconds, or a timedelta.

    Attributes:
        max_attempts: attempts per request, including the first; 1 means no retries. A stream splits a window that keeps
            failing, and requests its parts, whatever this is.
        initial_backoff: the wait before the first retry is random, up to this; the limit doubles with each retry. After 429
            and 503, by which a server limits requests, it is ten times as long: 0.1 and 1 second by default, as in AWS's SDKs.
        max_backoff: the longest limit of that wait.
        total_timeout: limit for one request, including its retries and waits; more than 0. An outage, in which no connection
            to the server can be made, is waited out until then, however few `max_attempts` there are, unless that is 1. A
            server that refuses connections and has never answered in this session is waited for at most 10 seconds: its
            address may be wrong.
        max_retry_after: longest `Retry-After` that is followed; the error is raised at once if the server requests more.
    """

    max_attempts: int = field(default=5, validator=_check_max_attempts)
    initial_backoff: float = field(default=0.1, converter=_to_seconds, validator=_check_duration)
    max_backoff: float = field(default=30.0, converter=_to_seconds, validator=_check_duration)
    total_timeout: float = field(default=300.0, converter=_to_seconds, validator=_check_total_timeout)
    max_retry_after: float = field(default=120.0, converter=_to_seconds, validator=_check_duration)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Parses a Retry-After header, in seconds or as a date. Returns seconds from `now`, or None if it is invalid."""
    if not value:
        return None
    if re.fullmatch(_SECONDS, value.strip()):
        # Hundreds of digits are infinity, which is longer than any maximum, so the error is raised.
        return float(value)
    date = parse_http_date(value)
    return None if date is None else max(0.0, (date - now).total_seconds())
