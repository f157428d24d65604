"""Dates as arguments: precision, fractions, time zones, gaps and folds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import examples

from iovox_async._paging.spec import to_local_time
from iovox_async.errors import QueryError
from iovox_async.query import InsightsQuery

LONDON = ZoneInfo("Europe/London")
NEW_YORK = ZoneInfo("America/New_York")


class Odd(datetime):
    """A subclass, like pandas' Timestamp."""


class NotATime(datetime):
    """Like pandas' NaT: a datetime by type, and without a year."""

    year = float("nan")


class NoOffset(tzinfo):
    """A tzinfo without an offset: such a datetime is naive by Python's definition."""

    def __repr__(self):
        return "NoOffset()"

    def utcoffset(self, _when):
        return None

    def dst(self, _when):
        return None

    def tzname(self, _when):
        return None


# (argument, first second, last second)
PRECISIONS = [
    ("2024-02-29", "2024-02-29 00:00:00", "2024-02-29 23:59:59"),
    ("2024-02-29 13", "2024-02-29 13:00:00", "2024-02-29 13:59:59"),
    ("2024-02-29T13", "2024-02-29 13:00:00", "2024-02-29 13:59:59"),
    ("2024-02-29 13:45", "2024-02-29 13:45:00", "2024-02-29 13:45:59"),
    ("2024-02-29 13:45:15", "2024-02-29 13:45:15", "2024-02-29 13:45:15"),
    ("2024-02-29T13:45:15", "2024-02-29 13:45:15", "2024-02-29 13:45:15"),
    (date(2024, 2, 29), "2024-02-29 00:00:00", "2024-02-29 23:59:59"),
    (datetime(2024, 2, 29), "2024-02-29 00:00:00", "2024-02-29 00:00:00"),
    (datetime(2024, 2, 29, 1, 2, 3, 999_999), "2024-02-29 01:02:03", "2024-02-29 01:02:03"),
    (datetime(2024, 2, 29, 1, 2, 3, fold=1), "2024-02-29 01:02:03", "2024-02-29 01:02:03"),
    (Odd(2024, 2, 29, 1, 2, 3, 4), "2024-02-29 01:02:03", "2024-02-29 01:02:03"),
    (datetime(2024, 2, 29, 1, tzinfo=NoOffset()), "2024-02-29 01:00:00", "2024-02-29 01:00:00"),
    (datetime.min, "0001-01-01 00:00:00", "0001-01-01 00:00:00"),
]


@pytest.mark.parametrize(("value", "first", "last"), PRECISIONS, ids=[repr(row[0]) for row in PRECISIONS])
def test_a_start_is_the_first_second_and_an_end_the_last(value, first, last):
    """Given a date of any precision, then it is its first second as start and its last as end."""
    query = InsightsQuery(start_date=value, end_date=value)
    assert type(query.start_date) is type(query.end_date) is datetime
    assert (str(query.start_date), str(query.end_date)) == (first, last)
    assert query.start_date.tzinfo is query.end_date.tzinfo is None
    assert query.to_query_string() == f"page=1&start_date={first}&end_date={last}".replace(" ", "+")
    assert attrs.evolve(query) == query


@pytest.mark.parametrize("name", ["start_date", "end_date"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("2024-1-01", "Write YYYY-MM-DD HH:MM:SS", id="one digit"),
        pytest.param("2024-01-01 ", "Write YYYY-MM-DD", id="trailing blank"),
        pytest.param("2024-01-01 10:00:00\n", "Write YYYY-MM-DD", id="newline"),
        pytest.param("2024-01-01  10", "Write YYYY-MM-DD", id="two blanks"),
        pytest.param("2024-01-01+10:00:00", "Write YYYY-MM-DD", id="plus"),
        pytest.param("2024-01-01 10:00:00.5", "Write YYYY-MM-DD", id="fraction"),
        pytest.param("٢٠٢٤-01-01", "Write YYYY-MM-DD", id="other digits"),
        pytest.param("", "Write YYYY-MM-DD", id="empty"),
        pytest.param("yesterday", "Write YYYY-MM-DD", id="word"),
        pytest.param("20240131", "got '20240131'", id="eight digits"),
        pytest.param("1/31/2024 18:00", "got '1/31/2024 18:00'", id="a date of another form"),
        pytest.param("20240131120000", "got '20240131120000'", id="fourteen digits"),
        pytest.param("20241331", "got '…331'", id="eight digits that are no date"),
        pytest.param("447966111222", "got '…222'", id="a phone number"),
        pytest.param("2024013120", "got '…120'", id="a phone number that begins like a date"),
        pytest.param("201001234567", "got '…567'", id="a longer one"),
        pytest.param("20240131 18.5551234", "got '…234'", id="digits that are no time"),
        pytest.param("20240131T1830", "got '20240131T1830'", id="a time without colons"),
        pytest.param("20240131 447966111222", "got '…222'", id="a date and a phone number"),
        pytest.param("x" * 500, r"must be a date, got 'xxx.*x\.\.\.", id="long"),
        pytest.param("2024-01-01T00:00:00Z", "Pass a datetime with tzinfo", id="Z"),
        pytest.param("2024-01-01T00:00:00+01:00", "Pass a datetime with tzinfo", id="offset"),
        pytest.param("2023-02-29", "day is out of range", id="no leap year"),
        pytest.param(
            "2024-13-01", r"must be a date, got '2024-13-01' \(month must be in 1..12", id="month 13"
        ),
        pytest.param("0000-01-01", "year 0 is out of range|year must be in 1", id="year 0"),
        pytest.param("2024-01-01 24", "hour must be in 0..23", id="hour 24"),
        pytest.param("2024-01-01 10:60", "minute must be in 0..59", id="minute 60"),
        pytest.param("2024-06-30 23:59:60", "second must be in 0..59", id="leap second"),
        pytest.param("9999-12-31", "after the year 9998", id="past the end"),
        pytest.param(datetime.max, "after the year 9998", id="datetime.max"),
        pytest.param(
            datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
            "is out of range in UTC",
            id="aware min",
        ),
        pytest.param(1704067200, "must be a str, date or datetime, got int", id="epoch"),
        pytest.param(True, "got bool", id="bool"),
        pytest.param(NotATime(2024, 1, 1), "must be a date", id="not a time"),
    ],
)
def test_an_invalid_date_is_a_query_error(name, value, message):
    """Given a value that is no date, then the error names the parameter and says what to write."""
    with pytest.raises(QueryError, match=message) as caught:
        InsightsQuery(**{name: value})
    assert caught.value.parameter == name
    assert len(str(caught.value)) < 250


def test_the_end_may_be_the_start_but_not_before_it():
    """Given an end that is the start, then it is a range of one second; an earlier end is a `QueryError`."""
    assert InsightsQuery(start_date="2024-01-01 10:00:00", end_date="2024-01-01 10:00:00")
    with pytest.raises(
        QueryError, match=r"^end_date \(2024-01-01 09:59:59\) is before start_date \(2024-01-01 10:00:00\)"
    ):
        InsightsQuery(start_date="2024-01-01 10", end_date="2024-01-01 09")


class TestAware:
    def test_keeps_its_time_zone(self):
        """Given an aware date, then the query keeps the time zone and cuts fractions."""
        query = InsightsQuery(start_date=datetime(2024, 7, 1, 12, 0, 0, 7, tzinfo=NEW_YORK))
        assert query.start_date == datetime(2024, 7, 1, 12, tzinfo=NEW_YORK)
        assert query.start_date.tzinfo is NEW_YORK

    def test_is_compared_in_utc(self):
        """Given dates of several time zones or folds, then they are compared in UTC."""
        noon = datetime(2024, 7, 1, 12, tzinfo=LONDON)
        assert InsightsQuery(start_date=noon, end_date=datetime(2024, 7, 1, 7, tzinfo=NEW_YORK))
        with pytest.raises(QueryError, match="is before start_date"):
            InsightsQuery(start_date=noon, end_date=datetime(2024, 7, 1, 11, 59, tzinfo=LONDON))
        first, second = (datetime(2024, 10, 27, 1, 30, tzinfo=LONDON, fold=fold) for fold in (0, 1))
        assert InsightsQuery(start_date=first) != InsightsQuery(start_date=second)
        assert InsightsQuery(start_date=first, end_date=second)
        with pytest.raises(QueryError, match="is before start_date"):
            InsightsQuery(start_date=second, end_date=first)

    def test_needs_the_time_zone_of_the_account(self):
        """Given an aware date and a client without a time zone, then a `QueryError` names `timezone=`."""
        with pytest.raises(QueryError, match="timezone=") as caught:
            to_local_time(InsightsQuery(end_date=datetime(2024, 1, 1, tzinfo=UTC)), None)
        assert caught.value.parameter == "end_date"

    @pytest.mark.parametrize("timezone", [None, LONDON])
    def test_naive_dates_stay_unchanged(self, timezone):
        """Given naive dates, then they are not converted, even if they do not exist in the time zone."""
        query = InsightsQuery(start_date="2024-03-31 01:30", end_date="2024-10-27 01:30")
        assert to_local_time(query, timezone) is query

    def test_a_contradiction_across_folds_is_a_query_error(self):
        """Given one local time with both folds in query and argument, then it is a contradiction."""
        first, second = (datetime(2024, 10, 27, 1, 30, tzinfo=LONDON, fold=fold) for fold in (0, 1))
        with pytest.raises(QueryError, match="query= and start="):
            InsightsQuery.from_arguments(second, query=InsightsQuery(start_date=first))
        utc = datetime(2024, 10, 27, 1, 30, tzinfo=UTC)
        assert InsightsQuery.from_arguments(utc, query=InsightsQuery(start_date=second)).start_date == utc

    def test_a_naive_and_an_aware_end_are_compared_in_local_time(self):
        """Given a naive start and an aware end, then their order is checked in the time zone of the account."""
        query = InsightsQuery(start_date="2024-07-01", end_date=datetime(2024, 7, 1, 3, tzinfo=UTC))
        local = to_local_time(query, LONDON)
        assert (local.start_date, local.end_date) == (datetime(2024, 7, 1), datetime(2024, 7, 1, 4))
        with pytest.raises(QueryError, match="is before start_date"):
            to_local_time(query, NEW_YORK)

    def test_a_date_out_of_range_is_a_query_error(self):
        """Given the first hour of year 1 and a time zone west of UTC, then a `QueryError` is raised."""
        with pytest.raises(QueryError, match=r"^start_date is out of range for this timezone"):
            to_local_time(InsightsQuery(start_date=datetime.min.replace(tzinfo=UTC)), NEW_YORK)


# London: 2024-03-31 01:00Z skips 01:00-02:00; 2024-10-27 01:00Z gives 01:00-02:00 twice.
# New York: 2024-03-10 07:00Z skips 02:00-03:00; 2024-11-03 06:00Z gives 01:00-02:00 twice.
def london(day, hour, minute=0, second=0, *, fold=0):
    return datetime(2024, 10, day, hour, minute, second, tzinfo=LONDON, fold=fold)


def new_york(month, day, hour, minute=0, second=0, *, fold=0):
    return datetime(2024, month, day, hour, minute, second, tzinfo=NEW_YORK, fold=fold)


CLOCKS = [
    pytest.param(
        datetime(2024, 7, 1, tzinfo=UTC), datetime(2024, 7, 2, tzinfo=UTC), LONDON,
        "2024-07-01 01:00:00", "2024-07-02 01:00:00", id="summer",
    ),
    pytest.param(
        datetime(2024, 7, 1, 9, tzinfo=NEW_YORK), datetime(2024, 7, 1, 10, tzinfo=NEW_YORK), LONDON,
        "2024-07-01 14:00:00", "2024-07-01 15:00:00", id="another zone",
    ),
    pytest.param(
        london(27, 1, 45), london(27, 1, 15, fold=1), LONDON,
        "2024-10-27 01:00:00", "2024-10-27 01:59:59", id="late in the first pass to early in the second",
    ),
    pytest.param(
        london(27, 1, 15), london(27, 1, 45), LONDON,
        "2024-10-27 01:15:00", "2024-10-27 01:45:00", id="within the first pass",
    ),
    pytest.param(
        london(27, 1, 15, fold=1), london(27, 1, 45, fold=1), LONDON,
        "2024-10-27 01:15:00", "2024-10-27 01:45:00", id="within the second pass",
    ),
    pytest.param(
        london(27, 0, 30), london(27, 1, 15, fold=1), LONDON,
        "2024-10-27 00:30:00", "2024-10-27 01:59:59", id="an end in the second pass covers the first",
    ),
    pytest.param(
        london(27, 1, 45), london(27, 3), LONDON,
        "2024-10-27 01:00:00", "2024-10-27 03:00:00", id="a start in the first pass covers the second",
    ),
    pytest.param(
        london(27, 1, 59, 59), london(27, 1, fold=1), LONDON,
        "2024-10-27 01:00:00", "2024-10-27 01:59:59", id="two seconds across the fold",
    ),
    pytest.param(
        london(27, 1, fold=1), london(27, 1, fold=1), LONDON,
        "2024-10-27 01:00:00", "2024-10-27 01:00:00", id="the first second of the second pass",
    ),
    pytest.param(
        london(26, 12), london(27, 12), LONDON,
        "2024-10-26 12:00:00", "2024-10-27 12:00:00", id="a fold far inside changes nothing",
    ),
    pytest.param(
        datetime(2024, 10, 27, 0, 45, tzinfo=UTC), datetime(2024, 10, 27, 1, 15, tzinfo=UTC), LONDON,
        "2024-10-27 01:00:00", "2024-10-27 01:59:59", id="the same given in UTC",
    ),
    pytest.param(
        london(27, 1, 45), None, LONDON,
        "2024-10-27 01:00:00", "None", id="an open end may lie behind the fold",
    ),
    pytest.param(
        None, london(27, 1, 15, fold=1), LONDON,
        "None", "2024-10-27 01:59:59", id="an open start may lie before the fold",
    ),
    pytest.param(
        "2024-10-27 01:30", london(27, 1, 15, fold=1), LONDON,
        "2024-10-27 01:30:00", "2024-10-27 01:59:59", id="a naive start before an end in the second pass",
    ),
    pytest.param(
        new_york(11, 3, 1, 45), new_york(11, 3, 1, 15, fold=1), NEW_YORK,
        "2024-11-03 01:00:00", "2024-11-03 01:59:59", id="New York's fold",
    ),
    pytest.param(
        new_york(3, 10, 1, 59, 59), new_york(3, 10, 3), NEW_YORK,
        "2024-03-10 01:59:59", "2024-03-10 03:00:00", id="two seconds across New York's gap",
    ),
    pytest.param(
        new_york(3, 10, 2, 30), new_york(3, 10, 4), NEW_YORK,
        "2024-03-10 03:30:00", "2024-03-10 04:00:00", id="a skipped start is read by the offset before",
    ),
    pytest.param(
        new_york(3, 10, 1), new_york(3, 10, 2, 30, fold=1), NEW_YORK,
        "2024-03-10 01:00:00", "2024-03-10 01:30:00", id="a skipped end with fold=1 is read by the offset after",
    ),
    pytest.param(
        datetime(2024, 3, 31, 1, 30, tzinfo=LONDON), datetime(2024, 3, 31, 1, 30, tzinfo=LONDON), LONDON,
        "2024-03-31 02:30:00", "2024-03-31 02:30:00", id="a time London skipped",
    ),
    pytest.param(
        datetime(2024, 4, 6, 14, 45, tzinfo=UTC), datetime(2024, 4, 6, 15, 5, tzinfo=UTC), ZoneInfo("Australia/Lord_Howe"),
        "2024-04-07 01:30:00", "2024-04-07 01:59:59", id="a fold of half an hour",
    ),
    pytest.param(
        datetime(1900, 1, 1, tzinfo=UTC), datetime(1900, 1, 2, tzinfo=UTC), ZoneInfo("Europe/Amsterdam"),
        None, None, id="offsets with seconds",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("start", "end", "zone", "first", "last"), CLOCKS)
def test_an_aware_range_becomes_the_local_time_that_covers_it(start, end, zone, first, last):
    """Given an aware range near folds and gaps, then the naive range covers every local time in it."""
    local = to_local_time(InsightsQuery(start_date=start, end_date=end), zone)
    if first is not None:
        assert (str(local.start_date), str(local.end_date)) == (first, last)
    assert all(value is None or value.tzinfo is None for value in (local.start_date, local.end_date))
    assert local.to_query_string().startswith("page=1&")


# Times at which clocks are set back (by 1 h, 1 h, 30 min, 3 h, 24 h), and one at which they are set forward.
TURNS = [
    (LONDON, datetime(2024, 10, 27, 1, tzinfo=UTC)),
    (NEW_YORK, datetime(2024, 11, 3, 6, tzinfo=UTC)),
    (ZoneInfo("Australia/Lord_Howe"), datetime(2024, 4, 6, 15, tzinfo=UTC)),
    (ZoneInfo("Antarctica/Casey"), datetime(2010, 3, 4, 15, tzinfo=UTC)),
    (ZoneInfo("Pacific/Kwajalein"), datetime(1969, 9, 30, 13, tzinfo=UTC)),
    (LONDON, datetime(2024, 3, 31, 1, tzinfo=UTC)),
]


@pytest.mark.fault(40)
@examples(400)
@given(st.sampled_from(TURNS), st.integers(-200, 200), st.integers(0, 300))
def test_no_second_of_an_aware_range_is_left_out(turn, offset, minutes):
    """Given a range near a change of clocks, then the local range is exactly from the earliest to the latest local time."""
    zone, at = turn
    start = at + timedelta(minutes=offset)
    end = start + timedelta(minutes=minutes)
    local = to_local_time(InsightsQuery(start_date=start, end_date=end), zone)
    # Clocks change at full minutes, so minutes and the seconds before them have every extreme.
    instants = [start + timedelta(minutes=n) for n in range(minutes + 1)]
    instants += [moment - timedelta(seconds=1) for moment in instants[1:]]
    shown = [moment.astimezone(zone).replace(tzinfo=None, fold=0) for moment in instants]
    assert (local.start_date, local.end_date) == (min(shown), max(shown))


@given(st.datetimes(), st.datetimes(), st.sampled_from([None, UTC, LONDON, NEW_YORK]))
def test_any_two_datetimes_make_a_query_or_a_query_error(first, second, zone):
    """Given any two datetimes, then there is a query or a `QueryError`, and no other error."""
    try:
        query = InsightsQuery(start_date=first.replace(tzinfo=zone), end_date=second.replace(tzinfo=zone))
        local = to_local_time(query, LONDON)
    except QueryError as error:
        assert error.parameter in {"start_date", "end_date"}  # noqa: PT017 - either outcome is right
        return
    assert local.start_date <= local.end_date
    assert local.to_query_string().count(":") == 4
