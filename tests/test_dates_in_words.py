"""Dates as people say them."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovox_async import QueryError
from iovox_async.dates import parse_end, parse_range, parse_start

#: A Thursday.
NOW = datetime(2024, 3, 14, 10, 30)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("today", "2024-03-14 00:00:00", None),
        ("Yesterday", "2024-03-13 00:00:00", "2024-03-13 23:59:59"),
        ("yesterday 18:00", "2024-03-13 18:00:00", None),
        ("7d", "2024-03-07 10:30:00", None),
        ("12h", "2024-03-13 22:30:00", None),
        ("30min", "2024-03-14 10:00:00", None),
        ("this-week", "2024-03-11 00:00:00", None),
        ("last week", "2024-03-04 00:00:00", "2024-03-10 23:59:59"),
        ("this-month", "2024-03-01 00:00:00", None),
        ("last-month", "2024-02-01 00:00:00", "2024-02-29 23:59:59"),
        ("last-quarter", "2023-10-01 00:00:00", "2023-12-31 23:59:59"),
        ("last-year", "2023-01-01 00:00:00", "2023-12-31 23:59:59"),
        ("2024-02", "2024-02-01 00:00:00", "2024-02-29 23:59:59"),
        ("2023-12", "2023-12-01 00:00:00", "2023-12-31 23:59:59"),
        ("2023", "2023-01-01 00:00:00", "2023-12-31 23:59:59"),
        ("2024-Q1", "2024-01-01 00:00:00", None),
        ("2024-W07", "2024-02-12 00:00:00", "2024-02-18 23:59:59"),
        ("2024W07", "2024-02-12 00:00:00", "2024-02-18 23:59:59"),
        ("2024-W07-3", "2024-02-14 00:00:00", "2024-02-14 23:59:59"),
        ("2024-1-5", "2024-01-05 00:00:00", None),
        ("2024-1-5 9:30", "2024-01-05 09:30:00", None),
        ("2024-01-05T10", "2024-01-05 10:00:00", None),
        ("now", "2024-03-14 10:30:00", None),
    ],
)
def test_a_start_alone_is_a_time_or_a_period(text, start, end):
    """Given an expression, when it is the only one, then it means that period, or from that moment or day until now."""
    first, last = parse_range(text, now=NOW)
    assert (str(first), last and str(last)) == (start, end)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2024-01", "2024-02", "2024-02-29 23:59:59"),
        ("last-month", "yesterday", "2024-03-13 23:59:59"),
        ("2024-01-01", "2024-1-5", "2024-01-05 23:59:59"),
        ("2024-01-01", "2024-01-05 9:30", "2024-01-05 09:30:59"),
        ("2024-01-01", "today", "None"),
        ("7d", "2d", "2024-03-12 10:30:00"),
        ("7d", "2030-01-01", "2030-01-01 23:59:59"),
    ],
)
def test_an_end_means_its_last_second(start, end, expected):
    """Given an end, then it is the last second of what it names; a period that has not ended means now."""
    assert str(parse_range(start, end, now=NOW)[1]) == expected


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "",
        "2024-13",
        "2024-02-30",
        "2024-W60",
        "0000",
        "2024-00",
        "99999999d",
        "7m",
        "24:00",
        "\u0662d",
    ],
)
def test_anything_else_is_refused(text):
    """Given no date, then the error names the parameter and shows which forms there are."""
    for parse, parameter in ((parse_start, "start_date"), (parse_end, "end_date")):
        with pytest.raises(QueryError, match=f"^{parameter} must be a date, got") as caught:
            parse(text, now=NOW)
        assert caught.value.parameter == parameter


def test_an_offset_is_explained():
    """Given a date with an offset, then the hint says that dates are local time."""
    with pytest.raises(QueryError, match="local time, without an offset"):
        parse_start("2024-01-01T00:00:00Z", now=NOW)


@pytest.mark.parametrize("text", ["25-11-2026", "31-01-2026 10:00"])
def test_a_date_whose_year_is_last_has_no_offset(text):
    """Given a date whose year is last, then the hint shows which forms there are."""
    with pytest.raises(QueryError, match="Write a date such as 2024-01-31"):
        parse_start(text, now=NOW)


@pytest.mark.parametrize(
    ("arguments", "now", "message"),
    [
        (
            ("2024-02-01", "2024-01-01"),
            NOW,
            r"^end_date \(2024-01-01 23:59:59\) is before start_date \(2024-02-01",
        ),
        (("yesterday", "last-month"), NOW, "^end_date .* is before start_date"),
        (("yesterday",), "now", r"^now must be a datetime such as insights\.now\(\), got str"),
        (("yesterday",), date(2024, 3, 14), "^now must be a datetime .*, got date"),
    ],
)
def test_reversed_ranges_and_other_values_of_now_are_errors(arguments, now, message):
    """Given an end before the start, or no datetime as now, then the error names it."""
    with pytest.raises(QueryError, match=message):
        parse_range(*arguments, now=now)


def test_hours_are_counted_in_real_time():
    """Given an aware now after clocks were set forward, then 12h ago is 12 hours ago, not 12 on the clock."""
    now = datetime(2024, 3, 31, 10, tzinfo=ZoneInfo("Europe/London"))
    assert parse_start("12h", now=now) == datetime(2024, 3, 30, 21)
    assert parse_start("1d", now=now) == datetime(2024, 3, 30, 10)


@given(
    now=st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
    day=st.dates(date(1900, 1, 1), date(2200, 1, 1)),
)
def test_periods_are_whole_and_in_order(now, day):
    """Given any now, then a last period ends just before the current one, and dates mean themselves."""
    for unit in ("day", "week", "month", "quarter", "year"):
        assert (
            parse_start(f"this-{unit}", now=now) - parse_end(f"last-{unit}", now=now)
        ).total_seconds() == 1
        assert (
            parse_start(f"this-{unit}", now=now)
            <= now.replace(microsecond=0)
            <= parse_end(f"this-{unit}", now=now)
        )
    year, week, weekday = day.isocalendar()
    assert parse_start(f"{year:04}-W{week:02}-{weekday}", now=now).date() == day
    assert parse_start(day, now=now) == parse_start(day.isoformat(), now=now)
