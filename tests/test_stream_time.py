"""Ranges of streams by the account's clock: open ends, months, YESTERDAY, and what is complete."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
import pytest

from iovox_async import InsightsQuery, QueryError
from iovox_async.sandbox import Sandbox

HOUR = timedelta(hours=1)
FIELDS = ["id", "call_start"]
UTC_NOW = datetime(2024, 5, 6, 14, 30, tzinfo=UTC)
YESTERDAY = InsightsQuery(date_constant="YESTERDAY")
ZONES = ["America/New_York", "Australia/Sydney", "Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kolkata"]


def account(zone, date=None, **options):
    """A sandbox in a zone, with a call every hour until now, and a transport to it; `date` is what its `Date` shows."""
    local = UTC_NOW.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    sandbox = Sandbox(calls=0, start="2024-05-06", end="2024-05-06", now=lambda: local)
    sandbox.add([{"call_start": str(local - hours * HOUR)} for hours in range(60)])
    transport = httpx.ASGITransport(sandbox.app)
    return sandbox, transport if date is None else Dated(transport, date), local


class Dated(httpx.AsyncBaseTransport):
    """Adds a `Date` to each response."""

    def __init__(self, transport, date):
        self.transport, self.date = transport, date

    async def handle_async_request(self, request):
        response = await self.transport.handle_async_request(request)
        response.headers["date"] = self.date.strftime("%a, %d %b %Y %H:%M:%S GMT")
        return response


@pytest.mark.finding("A4")
@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC", "id_ASC"])
@pytest.mark.parametrize("zone", ZONES)
async def test_without_a_time_zone_an_open_range_has_the_newest_calls(zone, order, open_session):
    """Given an account anywhere and a machine on UTC, when a range is open, then it has all calls until now there."""
    sandbox, transport, local = account(zone)
    async with open_session(transport=transport, utcnow=lambda: UTC_NOW) as insights:
        stream = insights.stream("2024-05-01", order=order)
        calls = await stream.collect()
    assert sorted(call.id for call in calls) == sorted(sandbox.ids())
    assert stream.stats.complete_until <= local - 2 * HOUR


@pytest.mark.finding("A4")
async def test_without_a_time_zone_an_omitted_start_is_the_earlier_of_two_months(open_session):
    """Given the turn of a month somewhere on earth, when there is no start, then no day of the account's month is missed."""
    for utc, month in (
        (datetime(2024, 5, 31, 15), 5),
        (datetime(2024, 6, 1, 5), 5),
        (datetime(2024, 6, 1, 12), 6),
    ):
        stream = open_session(utcnow=lambda utc=utc: utc.replace(tzinfo=UTC)).stream()
        assert stream._reader.spec.start == datetime(2024, month, 1)


@pytest.mark.finding("A4")
@pytest.mark.parametrize("zone", ZONES)
async def test_get_finds_the_newest_call_anywhere(zone, open_session):
    """Given an account anywhere, when its newest call is read by id, then it is found."""
    sandbox, transport, local = account(zone)
    newest = sandbox.rows(start=str(local), end=str(local))[0]["id"]
    async with open_session(transport=transport, utcnow=lambda: UTC_NOW) as insights:
        assert [call.id for call in await insights.get(newest)] == [newest]


@pytest.mark.finding("A4")
@pytest.mark.parametrize("zone", ZONES)
async def test_yesterday_is_that_of_the_account(zone, open_session):
    """Given YESTERDAY, then it is a day of the account: by its time zone, or by the server; windows without one are refused."""
    sandbox, transport, local = account(zone)
    day = f"{local - 24 * HOUR:%Y-%m-%d}"
    expected = sorted(sandbox.ids(start=day, end=day))
    assert len(expected) == 24
    async with open_session(transport=transport, utcnow=lambda: UTC_NOW, timezone=zone) as insights:
        for paging in ("windows", "pages"):
            calls = await insights.stream(query=YESTERDAY, paging=paging).collect()
            assert sorted(call.id for call in calls) == expected
    async with open_session(transport=transport, utcnow=lambda: UTC_NOW) as insights:
        for options in ({"paging": "pages"}, {}, {"order": "call_start_DESC"}):
            calls = await insights.stream(query=YESTERDAY, **options).collect()
            assert sorted(call.id for call in calls) == expected
            assert "date_constant=YESTERDAY" in sandbox.requests[-1].query
        with pytest.raises(QueryError, match=r"date_constant may be 2024-05-0\d or 2024-05-0\d") as caught:
            insights.stream(query=YESTERDAY, paging="windows")
        assert 'paging="pages"' in caught.value.hint


@pytest.mark.finding("A5")
@pytest.mark.parametrize("timezone", ["UTC", None])
@pytest.mark.parametrize("ahead", [timedelta(days=6), timedelta(hours=3)], ids=str)
async def test_a_clock_that_is_ahead_completes_nothing_too_early(ahead, timezone, open_session):
    """Given a machine whose clock is ahead, when the server has shown its own, then that decides what is complete."""
    _, transport, local = account("UTC", UTC_NOW)
    async with open_session(
        transport=transport, utcnow=lambda: UTC_NOW + ahead, timezone=timezone
    ) as insights:
        stream = insights.stream("2024-05-01", "2024-05-20")
        await stream.collect()
        until = stream.stats.complete_until.replace(tzinfo=None)
        assert until == local - 2 * HOUR - (timedelta(0) if timezone else 12 * HOUR)


@pytest.mark.finding("A5")
async def test_a_clock_that_is_behind_misses_no_calls_once_the_server_has_shown_its_own(open_session):
    """Given a machine whose clock is ten hours behind, when the second open range is read, then it has the newest calls."""
    sandbox, transport, _ = account("UTC", UTC_NOW)
    async with open_session(
        transport=transport, utcnow=lambda: UTC_NOW - 10 * HOUR, timezone="UTC"
    ) as insights:
        await insights.page("2024-05-01", page_size=1)
        calls = await insights.stream("2024-05-01").collect()
    assert sorted(call.id for call in calls) == sorted(sandbox.ids())


@pytest.mark.finding("D9")
def test_a_start_in_the_future_is_named_as_such(open_session):
    """Given a start in the future and no end, then the error says so; an end before the start is another error."""
    insights = open_session(utcnow=lambda: UTC_NOW, timezone="UTC")
    for start in ("2024-05-07", datetime(2030, 1, 1), datetime(2024, 5, 6, 14, 30, 1, tzinfo=UTC)):
        with pytest.raises(
            QueryError, match=r"start_date \(.*\) is in the future: it is 2024-05-06 14:30:00"
        ) as caught:
            insights.stream(start)
        assert "Swap" not in caught.value.hint
    with pytest.raises(QueryError, match=r"end_date \(.*\) is before start_date"):
        insights.stream("2024-05-08", "2024-05-07")


def instant_service(zone, instants, fold):
    """A transport to a service that keeps instants, and reads bounds on the account's clock with this fold."""

    def respond(request):
        query = request.url.params
        first, last = (
            datetime.fromisoformat(query[name]).replace(tzinfo=zone, fold=fold).astimezone(UTC)
            for name in ("start_date", "end_date")
        )
        rows = [
            {"id": number, "call_start": instant.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")}
            for number, instant in enumerate(instants)
            if first <= instant <= last
        ]
        if query["order"] == "call_start_DESC":
            rows.reverse()
        page, limit = int(query["page"]), int(query["limit"])
        return httpx.Response(200, json=rows[(page - 1) * limit : page * limit])

    return httpx.MockTransport(respond)


@pytest.mark.sweep(3)
@pytest.mark.finding("A7")
@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
@pytest.mark.parametrize("month", [3, 10])
async def test_no_call_of_a_day_on_which_clocks_change_is_lost(month, order, fold, open_session):
    """Given a service that keeps instants, when its clocks change, then all readers have each call, and a resumed stream the rest."""
    zone = ZoneInfo("Europe/London")
    begin = datetime(2024, month, 31 if month == 3 else 27, 0, 0, tzinfo=UTC) - HOUR / 2
    instants = [begin + timedelta(minutes=2) * number for number in range(90)]
    transport = instant_service(zone, instants, fold)
    arguments = {"order": order, "fields": FIELDS, "page_size": 40}
    day = f"{begin + HOUR:%Y-%m-%d}"
    dates = (f"{begin:%Y-%m-%d}", day)
    async with open_session(transport=transport, timezone="Europe/London") as insights:
        async with insights.stream(*dates, **arguments) as stream:
            calls, positions = [], [stream.position]
            async for call in stream:
                calls.append(call.id)
                positions.append(stream.position)
        assert sorted(calls) == list(range(90))
        async with insights.stream(*dates, **arguments) as stream:
            batches = [batch async for batch in stream.arrow()]
        assert sorted(row for batch in batches for row in batch.column("id").to_pylist()) == list(range(90))
        for number in range(0, 91, 6):
            rest = await insights.stream(*dates, **arguments, resume=positions[number]).collect()
            assert [call.id for call in rest] == calls[number:]
