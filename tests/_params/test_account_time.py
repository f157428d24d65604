"""What time it may be in the account: time zones, clocks that differ, and hours that occur twice."""

import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from zoneinfo import ZoneInfo

import pytest
from support.clock import Clock

from iovox_async._params.account_time import AccountTime, ClockReading

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Machine:
    """A machine whose clock shows `utc`; a test changes it."""

    def __init__(self, utc=NOON, timezone=None):
        self.utc = utc
        self.monotonic = Clock()
        zone = None if timezone is None else ZoneInfo(timezone)
        self.time = AccountTime(zone, lambda: self.utc, self.monotonic)

    def show(self, utc):
        """The server's `Date` header shows a time."""
        self.time.observe(format_datetime(utc, usegmt=True))


@pytest.mark.finding("A4")
def test_without_a_time_zone_now_may_be_anywhere_on_earth():
    """Given no time zone, then now is at the latest UTC+14 and at the earliest UTC-12."""
    time = Machine().time
    assert time.latest_now() == datetime(2024, 5, 7, 2)
    assert time.earliest_now() == datetime(2024, 5, 6, 0)
    assert time.final_until(2 * HOUR) == datetime(2024, 5, 5, 22)


@pytest.mark.finding("A4")
@pytest.mark.parametrize(("zone", "hour"), [("America/New_York", 8), ("Australia/Sydney", 22)])
def test_with_a_time_zone_now_is_the_local_time(zone, hour):
    """Given a time zone, then the latest and the earliest now are the local time there."""
    time = Machine(timezone=zone).time
    assert time.latest_now() == time.earliest_now() == time.now() == datetime(2024, 5, 6, hour)


@pytest.mark.finding("A5")
@pytest.mark.parametrize("ahead", [timedelta(days=6), timedelta(days=-6), 6 * timedelta(minutes=1)], ids=str)
def test_of_two_clocks_the_later_and_the_earlier_count(ahead, caplog):
    """Given a machine whose clock is wrong, when the server shows another time, then both bound now, with one warning."""
    machine = Machine(NOON + ahead, "UTC")
    with caplog.at_level(logging.WARNING, "iovox_async"):
        machine.show(NOON)
        machine.show(NOON + timedelta(seconds=1))
    clocks = sorted([NOON, NOON + ahead])
    assert machine.time.latest_now() == clocks[1].replace(tzinfo=None, second=int(ahead < timedelta(0)))
    assert machine.time.earliest_now() == clocks[0].replace(tzinfo=None, second=int(ahead > timedelta(0)))
    (record,) = caplog.records
    assert "clock is" in record.getMessage()
    assert ("ahead of" if ahead > timedelta(0) else "behind") in record.getMessage()


@pytest.mark.finding("A5")
def test_the_servers_clock_goes_on_between_responses():
    """Given a server's time, when this machine's clock jumps six days ahead, then the server's time goes on by seconds."""
    machine = Machine(timezone="UTC")
    machine.show(NOON)
    machine.monotonic.now += 90
    machine.utc = NOON + timedelta(days=6)
    assert machine.time.earliest_now() == datetime(2024, 5, 6, 12, 1, 30)
    assert machine.time.latest_now() == datetime(2024, 5, 12, 12)


@pytest.mark.finding("A5")
def test_a_reading_is_judged_by_what_the_server_showed_later():
    """Given a reading of a wrong clock, when a response comes 30 s later, then the reading means 30 s before its date."""
    machine = Machine(NOON + timedelta(days=6), "UTC")
    reading = machine.time.read()
    assert machine.time.final_until(2 * HOUR, reading) == datetime(2024, 5, 12, 10)
    machine.monotonic.now += 30
    machine.show(NOON)
    assert machine.time.final_until(2 * HOUR, reading) == datetime(2024, 5, 6, 9, 59, 30)


@pytest.mark.finding("A5")
def test_small_differences_are_not_logged(caplog):
    """Given clocks four minutes apart, then there is no warning, and both still count."""
    machine = Machine(timezone="UTC")
    machine.show(NOON + timedelta(minutes=4))
    assert (machine.time.latest_now(), machine.time.earliest_now()) == (
        datetime(2024, 5, 6, 12, 4),
        datetime(2024, 5, 6, 12),
    )
    assert not caplog.records


@pytest.mark.finding("A5")
@pytest.mark.parametrize(
    "date",
    [None, "", "yesterday", "Mon, 06 May 0024 12:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 99 May"],
)
def test_a_date_that_shows_no_time_is_ignored(date, caplog):
    """Given a response without a usable date, then only this machine's clock counts."""
    time = Machine(timezone="UTC").time
    time.observe(date)
    assert time.latest_now() == time.earliest_now() == datetime(2024, 5, 6, 12)
    assert not caplog.records


@pytest.mark.finding("A5")
def test_the_age_of_a_cached_response_is_added(caplog):
    """Given a response that a cache kept for an hour, then its date was an hour ago."""
    time = Machine(timezone="UTC").time
    time.observe(format_datetime(NOON - HOUR, usegmt=True), "3600")
    assert time.latest_now() == time.earliest_now() == datetime(2024, 5, 6, 12)
    assert not caplog.records


@pytest.mark.finding("A7")
def test_while_an_hour_occurs_for_the_second_time_calls_may_have_later_starts():
    """Given 01:10 for the second time, then calls may show 01:59:59 already, and until 01:00 they are final only after it."""
    # Europe/London: 02:00 BST is 01:00 GMT on 27 October 2024.
    machine = Machine(datetime(2024, 10, 27, 1, 10, tzinfo=UTC), "Europe/London")
    assert machine.time.latest_now() == datetime(2024, 10, 27, 1, 59, 59)
    assert machine.time.earliest_now() == datetime(2024, 10, 27, 1, 10)
    machine.utc = datetime(2024, 10, 27, 0, 50, tzinfo=UTC)  # 01:50 for the first time
    assert machine.time.latest_now() == datetime(2024, 10, 27, 1, 50)
    assert machine.time.earliest_now() == datetime(2024, 10, 27, 1, 0)


def test_a_delay_beyond_the_calendar_leaves_nothing_final():
    """Given a delay longer than the calendar, then nothing is final."""
    for zone in (None, "Europe/London"):
        assert Machine(timezone=zone).time.final_until(timedelta.max) == datetime.min


def test_a_response_that_arrives_while_a_thread_reads_the_clocks_does_not_mix_them(monkeypatch):
    """Given a thread that reads the server's clock, when a new Date header arrives meanwhile, then one of the two counts."""
    before, after = ClockReading(NOON, 0.0), ClockReading(NOON + 60 * HOUR, 60 * 3600.0)
    readings = iter([before, before, after])
    time = AccountTime(ZoneInfo("UTC"), lambda: NOON, lambda: 0.0)
    monkeypatch.setattr(AccountTime, "_server", property(lambda _: next(readings)))
    assert time.earliest_now(ClockReading(NOON + 100 * HOUR, 60 * 3600.0)) == datetime(2024, 5, 9, 0)
