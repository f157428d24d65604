"""Time zones of other libraries give the instants of `zoneinfo`, in every hour."""

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import dateutil.tz
import pytest
import pytz
import respx

from iovox_async import ConfigurationError
from iovox_async._paging.spec import to_local_time
from iovox_async._params.dates import clock_changes
from iovox_async._params.timezones import ConvertedZone, zone_of
from iovox_async.arrow import schema_for
from iovox_async.query import InsightsQuery

NAMES = ["Europe/London", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"]
ZONES = {
    "pytz": pytz.timezone,
    "pytz, converted": lambda name: ConvertedZone(pytz.timezone(name)),
    "dateutil": dateutil.tz.gettz,
}


class Broken(tzinfo):
    def utcoffset(self, local):
        raise RuntimeError("no such table")


class NoConversion(tzinfo):
    """A tzinfo that only has an offset."""

    def utcoffset(self, _when):
        return timedelta(hours=1)


@pytest.mark.sweep(4)
@pytest.mark.finding("A6")
@pytest.mark.parametrize("library", ZONES)
@pytest.mark.parametrize("name", NAMES)
def test_each_local_time_is_the_instant_that_zoneinfo_gives(library, name):
    """Given a zone of another library, then local times and instants of a year convert as with zoneinfo, with both folds."""
    expected, zone = ZoneInfo(name), zone_of(ZONES[library](name))
    times = [datetime(2011, 1, 1) + days * timedelta(days=10) for days in range(37)]
    for change in clock_changes(datetime(2011, 1, 1), datetime(2012, 1, 2), expected):
        times += [change.start + quarters * timedelta(minutes=15) for quarters in range(-80, 180)]
    for time in times:
        for fold in (0, 1):
            local = time.replace(fold=fold)
            assert local.replace(tzinfo=zone).utcoffset() == local.replace(tzinfo=expected).utcoffset(), local
        instant = time.replace(tzinfo=UTC)
        shown, right = instant.astimezone(zone), instant.astimezone(expected)
        assert (shown.replace(tzinfo=None), shown.fold) == (right.replace(tzinfo=None), right.fold), instant


@pytest.mark.finding("A6")
@pytest.mark.parametrize(
    ("zone", "offset"),
    [
        (pytz.utc, 0),
        (pytz.FixedOffset(330), 330),
        (dateutil.tz.tzutc(), 0),
        (dateutil.tz.tzoffset("IST", 19_800), 330),
        (timezone(timedelta(minutes=330)), 330),
    ],
    ids=repr,
)
def test_a_fixed_offset_stays_one(zone, offset):
    """Given a fixed offset of any library, then local times have it."""
    assert datetime(2024, 7, 1, tzinfo=zone_of(zone)).utcoffset() == timedelta(minutes=offset)


@pytest.mark.finding("A6")
@pytest.mark.parametrize(
    "zone", [NoConversion(), Broken(), tzinfo()], ids=["no conversion", "broken", "abstract"]
)
def test_a_tzinfo_that_cannot_convert_is_refused_at_construction(zone, open_session):
    """Given a tzinfo that cannot convert instants, when a client is made, then a ConfigurationError says what to pass."""
    with pytest.raises(ConfigurationError, match=r"timezone must convert instants") as caught:
        open_session(timezone=zone)
    assert "zoneinfo" in caught.value.hint


@pytest.mark.finding("A6")
def test_a_converted_zone_can_be_copied_and_pickled():
    """Given a record with a converted zone, when it is pickled, then it is the same instant."""
    zone = zone_of(dateutil.tz.gettz("Europe/London"))
    time = datetime(2024, 7, 1, 12, tzinfo=zone)
    assert pickle.loads(pickle.dumps(time)) == copy.deepcopy(time) == time
    assert (hash(zone), str(zone)) == (hash(copy.copy(zone)), str(dateutil.tz.gettz("Europe/London")))
    assert (time.tzname(), time.dst()) == ("+01:00", None)


@pytest.mark.finding("A6")
@pytest.mark.parametrize("library", ZONES)
def test_a_range_of_instants_is_converted_to_the_local_time(library):
    """Given a range in UTC, when the client has a zone of another library, then the range is the local time there."""
    query = InsightsQuery(
        start_date=datetime(2024, 7, 1, 8, tzinfo=UTC),
        end_date=datetime(2024, 1, 1, tzinfo=UTC).replace(year=2025),
    )
    local = to_local_time(query, zone_of(ZONES[library]("Europe/London")))
    assert (local.start_date, local.end_date) == (datetime(2024, 7, 1, 9), datetime(2025, 1, 1))


@pytest.mark.finding("A6")
def test_a_date_whose_tzinfo_is_a_zone_of_pytz_is_local_time_in_that_zone():
    """Given `datetime(..., tzinfo=pytz.timezone(...))`, which pytz reads as local mean time, then it is the time in the zone."""
    for zone, hour in (("Europe/London", 8), ("America/New_York", 13), ("EST5EDT", 13)):
        for value in (
            datetime(2024, 7, 1, 9, tzinfo=pytz.timezone(zone)),
            pytz.timezone(zone).localize(datetime(2024, 7, 1, 9)),
        ):
            query = to_local_time(InsightsQuery(start_date=value), UTC)
            assert query.start_date == datetime(2024, 7, 1, hour)


@pytest.mark.finding("A6")
@pytest.mark.parametrize("library", ["pytz", "dateutil"])
@respx.mock
async def test_records_and_arrow_have_the_same_instants(library, open_session):
    """Given a client with a zone of another library, then records and Arrow hold the instants of zoneinfo."""
    row = '{"id": %d, "call_start": "%s"}'
    starts = ["2024-01-15 12:00:00", "2024-03-31 01:30:00", "2024-07-15 12:00:00", "2024-10-27 01:30:00"]
    body = "[" + ",".join(row % pair for pair in enumerate(starts)) + "]"
    respx.get(path="/rest/v1/calls/insights", params={"page": "1", "limit": "250"}).respond(text=body)
    respx.get(path="/rest/v1/calls/insights").respond(text="[]")
    arguments = {"fields": ["id", "call_start"], "paging": "pages", "page_size": 250}
    expected = [
        datetime.fromisoformat(start).replace(tzinfo=ZoneInfo("Europe/London")).timestamp()
        for start in starts
    ]
    async with open_session(timezone=ZONES[library]("Europe/London")) as insights:
        calls = await insights.stream("2024-01-01", "2024-12-31", **arguments).collect()
        assert [call.call_start.timestamp() for call in calls] == expected
        async with insights.stream("2024-01-01", "2024-12-31", **arguments) as stream:
            batches = [batch async for batch in stream.arrow()]
        (batch,) = batches
        assert [time.timestamp() for time in batch.column("call_start").to_pylist()] == expected
        assert batch.schema == schema_for(["id", "call_start"], insights.timezone)
