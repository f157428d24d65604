"""Tests of RetryPolicy and of parsing Retry-After."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.model_server import examples

from iovox_async.errors import (
    ConfigurationError,
)
from iovox_async.retry import RetryPolicy, parse_retry_after, seconds

NOW = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("1e2", None),
        ("9" * 400, math.inf),
        ("inf", None),
        ("1_0", None),
        ("+5", None),
        ("\u0661\u0662", None),
        ("Fri, 0_1 Mar 2024 12:00:30 GMT", None),
        ("Fri, \u0660\u0661 Mar 2024 12:00:30 GMT", None),
        ("-1", None),
        ("-inf", None),
        ("nan", None),
        ("soon", None),
        ("12 seconds", None),
        ("Fri, 01 Mar 2024 12:00:30 GMT", 30.0),
        ("Fri, 01 Mar 2024 13:00:30 +0100", 30.0),
        ("Fri, 01 Mar 2024 12:00:30 -0000", 30.0),
        ("Friday, 01-Mar-24 12:00:30 GMT", 30.0),
        ("Fri, 01 Mar 2024 11:00:00 GMT", 0.0),
        ("Mon, 01 Jan 1900 00:00:00 GMT", 0.0),
        ("Fri, 32 Mar 2024 12:00:30 GMT", None),
        ("Fri, 01 Mar 99999 12:00:30 GMT", None),
        ("Fri, 01 Mar 2024 12:00:30 +9999", None),
        ("2024-03-01 12:00:30", None),
        (",", None),
    ],
)
def test_retry_after_is_parsed_as_seconds_or_as_a_date(value: str | None, expected: float | None):
    """Given a Retry-After header, when it is parsed, then the result is seconds, or None if it is invalid."""
    assert parse_retry_after(value, NOW) == expected


@pytest.mark.fault(24)
@examples(300)
@given(value=st.text(max_size=40) | st.text("0123456789 :,+-GMTFriJan", max_size=40) | st.floats().map(str))
@example(value="1 2 3 4 5 6 7 8")
@example(value="Sun, 31 Dec 9999 23:59:59 -2359")
@example(value="Mon, 01 Jan 0001 00:00:00 +2359")
def test_any_retry_after_is_parsed_or_ignored(value: str):
    """Given any text, when it is parsed as Retry-After, then there is no exception, no negative number and no NaN."""
    wait = parse_retry_after(value, NOW)
    assert wait is None or wait >= 0


@examples(100)
@given(ahead=st.integers(-100_000, 100_000))
def test_dates_of_the_standard_library_are_parsed(ahead: int):
    """Given a date as `email.utils` formats it, when it is parsed, then the result is its distance from now."""
    text = format_datetime(NOW + timedelta(seconds=ahead), usegmt=True)
    assert parse_retry_after(text, NOW) == max(0, ahead)


# Durations.


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0.0), (1.5, 1.5), (timedelta(minutes=2), 120.0), (timedelta(milliseconds=3), 0.003), (10**9, 1e9)],
)
def test_durations_are_seconds_or_timedeltas(value: float | timedelta, expected: float):
    """Given seconds or a timedelta, when a policy is created, then it has seconds."""
    assert seconds(value, "timeout") == expected
    assert isinstance(seconds(value, "timeout"), float)
    assert RetryPolicy(max_backoff=value).max_backoff == expected


@pytest.mark.parametrize(
    "value",
    [-1, timedelta(seconds=-1), math.nan, math.inf, -math.inf, 10**400, True, None, "5", [1]],
    ids=lambda value: repr(value)[:12],
)
@pytest.mark.parametrize("name", ["initial_backoff", "max_backoff", "total_timeout", "max_retry_after"])
def test_an_invalid_duration_is_rejected_with_its_name(name: str, value: Any):
    """Given a value that is not a duration, when a policy is created, then the error has the argument's name."""
    with pytest.raises(ConfigurationError, match=f"^{name} must be"):
        RetryPolicy(**{name: value})


@pytest.mark.parametrize("value", [0, 0.0, timedelta()], ids=repr)
def test_a_total_timeout_of_zero_is_rejected_with_a_hint(value: float | timedelta):
    """Given a total_timeout of 0, when a policy is created, then the hint names max_attempts=1."""
    with pytest.raises(ConfigurationError, match=r"^total_timeout .*max_attempts=1"):
        RetryPolicy(total_timeout=value)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, None, "3", math.inf], ids=repr)
def test_invalid_max_attempts_are_rejected(value: Any):
    """Given anything but an integer of at least 1, when a policy is created, then the error names max_attempts."""
    with pytest.raises(ConfigurationError, match=r"^max_attempts must be"):
        RetryPolicy(max_attempts=value)


def test_a_policy_is_frozen_and_comparable():
    """Given two policies with equal settings, then they are equal; and when a setting is assigned, then it fails."""
    assert RetryPolicy() == RetryPolicy(5, 0.1, 30.0, 300.0, 120.0)
    with pytest.raises(AttributeError):
        RetryPolicy().attempts = 9  # type: ignore[misc]
