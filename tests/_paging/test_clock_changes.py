"""Reading hours that occur twice or never, from a server that keeps instants and reads date bounds on the account's clock."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import BASE, InstantServer, Server, at, examples, pull

from iovox_async._paging import SECOND, PagePlan, WindowPlan
from iovox_async._params.account_time import UncutHours
from iovox_async._params.dates import clock_changes

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
#: Zones, and days on which their clocks are set back or forward: at 1:00, 2:00, 3:00, at midnight, by half an hour, by a day.
CHANGES = [
    ("Europe/London", datetime(2024, 10, 27)),
    ("Europe/London", datetime(2024, 3, 31)),
    ("America/New_York", datetime(2024, 11, 3)),
    ("America/New_York", datetime(2024, 3, 10)),
    ("America/Havana", datetime(2024, 11, 3)),
    ("America/Asuncion", datetime(2024, 3, 23)),
    ("Australia/Lord_Howe", datetime(2024, 4, 7)),
    ("Australia/Lord_Howe", datetime(2024, 10, 6)),
    ("Pacific/Apia", datetime(2011, 12, 30)),
]
READINGS = [(0, 0), (1, 1), (0, 1), (1, 0)]


def instants(rng, zone, day, count):
    """Calls around the change, most of them within the hours before and after it."""
    (change,) = clock_changes(day, day + timedelta(days=1), zone)
    middle = change.stop.replace(tzinfo=zone).astimezone(UTC)
    spread = [rng.randint(-3 * 3600, 3 * 3600) for _ in range(count)]
    near = [rng.choice((-3600, -3599, -1, 0, 1, 2, 3, 3599, 3600)) for _ in range(count // 5)]
    # Some seconds hold many calls.
    crowd = [rng.choice(spread)] * (count // 5)
    return [middle + offset * SECOND for offset in spread + near + crowd], change


@pytest.mark.sweep(9)
@pytest.mark.finding("A7")
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("reading", READINGS, ids=str)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0]} {change[1]:%Y-%m-%d}")
def test_each_call_is_delivered_exactly_once_in_every_reading_of_bounds(change, reading, descending):
    """Given a day on which clocks change, when the server reads bounds either way, then each call comes once."""
    zone = ZoneInfo(change[0])
    for seed in range(12):
        rng = random.Random(seed)
        server = InstantServer(
            rng,
            zone=zone,
            fold=reading[0],
            stop_fold=reading[1],
            end=rng.choice(("inclusive", "exclusive", "second")),
            cap=rng.choice((None, 7, 40, 300)),
            cut=rng.random() < 0.5,
        )
        times, hour = instants(rng, zone, change[1], rng.choice((10, 100, 400)))
        server.fill_instants(times)
        start, stop = hour.start - 4 * HOUR, hour.stop + 4 * HOUR
        if rng.random() < 0.5:
            start, stop = (
                hour.start - 5 * SECOND + rng.randint(0, 10) * SECOND,
                hour.stop + rng.randint(-9, 9) * SECOND,
            )
        hours = UncutHours.between(start, stop, zone)
        plan = WindowPlan(
            start,
            stop,
            descending=descending,
            ordered=rng.random() < 0.7,
            limit=rng.choice((10, 60, 20_000)),
            first_page_rows=rng.choice((5, 250)),
            hours=hours,
        )
        rows = pull(plan, server, failing=rng.choice((0.0, 0.1))).rows
        assert len(rows) == len(set(rows))
        assert set(rows) == {row for row in server.ever if start <= row.start < stop}
        for request in server.served:
            assert hours.bound_before(request.start) == request.start
            assert hours.bound_after(request.stop) == request.stop


@pytest.mark.finding("A7")
@given(seed=st.integers(0, 10**9), descending=st.booleans())
@examples(200)
def test_a_server_of_local_times_is_read_as_before(seed, descending):
    """Given a server that keeps local times, when the range has an hour that occurs twice, then each call comes once."""
    rng = random.Random(seed)
    server = Server(rng, cap=rng.choice((None, 20)), end=rng.choice(("inclusive", "exclusive", "second")))
    zone, day = ZoneInfo("Europe/London"), datetime(2024, 10, 27)
    server.fill(day + rng.randint(0, 3 * 3600) * SECOND for _ in range(rng.choice((20, 200))))
    start, stop = day + rng.randint(0, 5000) * SECOND, day + rng.randint(5000, 3 * 3600) * SECOND
    plan = WindowPlan(
        start,
        stop,
        descending=descending,
        limit=rng.choice((15, 20_000)),
        hours=UncutHours.between(start, stop, zone),
    )
    rows = pull(plan, server).rows
    assert len(rows) == len(set(rows))
    assert set(rows) == server.within(start, stop)


@pytest.mark.finding("A7")
@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_page_numbers_do_not_start_in_such_an_hour_either(reading):
    """Given a range that begins or ends in an hour that occurs twice, when read by page numbers, then each call comes once."""
    zone, day = ZoneInfo("Europe/London"), datetime(2024, 10, 27)
    for start, end in (
        (day + 90 * MINUTE, day + 5 * HOUR),
        (day, day + 75 * MINUTE),
        (day + 65 * MINUTE, day + 70 * MINUTE),
    ):
        server = InstantServer(random.Random(1), zone=zone, fold=reading[0], stop_fold=reading[1])
        server.fill_instants(instants(server.rng, zone, day, 300)[0])
        hours = UncutHours.between(start, end, zone)
        plan = PagePlan(start, end, order="id_ASC", limit=50, max_ahead=4, hours=hours)
        result = pull(plan, server)
        rows = result.rows
        assert len(rows) == len(set(rows))
        assert set(rows) == {row for row in server.ever if start <= row.start <= end}
        assert result.duplicates == 0


@pytest.mark.finding("A7")
def test_without_such_an_hour_nothing_changes():
    """Given a range without a change of the clocks, or no time zone, then requests are the same as without hours."""
    requests = []
    for hours in (UncutHours(), UncutHours.between(at(0), at(1000), ZoneInfo("Europe/London"))):
        server = Server(random.Random(3), span=1000)
        server.fill(at(second) for second in range(1000))
        requests.append(pull(WindowPlan(at(0), at(1000), limit=60, hours=hours), server).requests_sent)
    assert requests[0] == requests[1]
    assert UncutHours.between(BASE, BASE, None) == UncutHours()
