"""Following by the account's clock: starts in the future, unknown time zones, wrong clocks, long pauses, and memory."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import httpx
import pytest

from iovox_async import ConfigurationError, RetryPolicy
from iovox_async.sandbox import Sandbox

HOUR = timedelta(hours=1)
BEGIN = datetime(2024, 5, 6, 9, tzinfo=UTC)
FIELDS = ["id", "call_start"]


class World:
    """Time that passes only in the pauses between polls, and calls that start in it.

    Args:
        zone: the account's time zone.
        machine_ahead: how far the machine's clock is ahead.
    """

    def __init__(self, zone="UTC", machine_ahead=timedelta(0)):
        self.zone, self.machine_ahead = ZoneInfo(zone), machine_ahead
        self.utc = BEGIN
        self.sandbox = Sandbox(calls=0, start="2024-05-06", end="2024-05-06", now=self.local)
        self.polls_left = 0
        self.pauses = []
        self.each_pause = lambda: None

    def local(self):
        return self.utc.astimezone(self.zone).replace(tzinfo=None, microsecond=0)

    def machine(self):
        return self.utc + self.machine_ahead

    def call(self, after=timedelta(0)):
        """Adds a call that starts so long after now, and returns its id."""
        (call_id,) = self.sandbox.add([{"call_start": str(self.local() + after)}])
        return call_id

    async def follow(
        self, open_session, polls, *, pause=HOUR / 4, respond=None, timezone=None, options=None, **arguments
    ):
        """Follows for a number of polls, with `each_pause` after each; returns the ids delivered, and the follower."""
        self.polls_left, ids = polls, []

        async def sleep(seconds):
            self.pauses.append(seconds)
            self.polls_left -= 1
            if not self.polls_left:
                raise asyncio.CancelledError
            self.utc += pause
            self.each_pause()

        transport = httpx.ASGITransport(self.sandbox.app)
        if respond is not None:
            transport = Responding(transport, respond)
        options = {
            "transport": transport,
            "timezone": timezone,
            "utcnow": self.machine,
            "sleep": sleep,
            **(options or {}),
        }
        async with open_session(**options) as insights:
            follow = insights.follow(interval=60, fields=FIELDS, **arguments)

            async def read():
                async for call in follow:
                    ids.append(call.id)

            await asyncio.gather(read(), return_exceptions=True)
        return ids, follow


class Responding(httpx.AsyncBaseTransport):
    """Lets a function change each response."""

    def __init__(self, transport, change):
        self.transport, self.change = transport, change

    async def handle_async_request(self, request):
        return self.change(await self.transport.handle_async_request(request))


@pytest.mark.sweep(7)
@pytest.mark.finding("A3")
@pytest.mark.parametrize("timezone", ["UTC", None])
@pytest.mark.parametrize("ahead", [20, 10, 3, 1, 40])
async def test_a_start_in_the_future_is_delivered_once_and_moves_nothing(ahead, timezone, open_session):
    """Given one call that starts hours ahead, when later calls come, then all are delivered, each once, at their poll."""
    world, added = World(), []

    def add():
        added.append(world.call())
        if len(added) == 6:
            added.append(world.call(ahead * HOUR))

    world.each_pause = add
    ids, follow = await world.follow(open_session, 170, timezone=timezone)
    assert sorted(ids) == sorted(added)
    if timezone is not None:
        assert follow.latest_call_start == world.local()


@pytest.mark.finding("A3")
async def test_a_future_start_in_the_first_poll_moves_nothing(open_session):
    """Given no time zone and a call ahead in the first poll, when time stands still, then the next calls are delivered."""
    world = World()
    added = [world.call(-HOUR), world.call(10 * HOUR)]
    world.each_pause = lambda: added.append(world.call())
    ids, _ = await world.follow(open_session, 20, pause=timedelta(0))
    assert sorted(ids) == sorted(added)


@pytest.mark.finding("A3")
async def test_an_exchange_whose_clock_stays_ahead_moves_nothing(open_session):
    """Given a share of all calls with starts three hours ahead, then all calls are delivered, late ones too."""
    for timezone in ("UTC", None):
        world, added = World(), []

        def add(world=world, added=added):
            number = len(added)
            added.append(world.call(3 * HOUR if number % 3 == 0 else -HOUR if number % 3 == 1 else 0 * HOUR))

        world.each_pause = add
        since = datetime(2024, 5, 6)
        ids, _ = await world.follow(open_session, 150, timezone=timezone, since=since)
        assert sorted(ids) == sorted(added)


@pytest.mark.finding("A4")
@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Sydney", "Pacific/Kiritimati", "Etc/GMT+12"])
async def test_without_a_time_zone_no_new_call_is_missed(zone, open_session):
    """Given an account anywhere and a machine on UTC, when following from now, then each new call comes at its poll."""
    world, added = World(zone), []
    world.each_pause = lambda: added.append(world.call())
    ids, _ = await world.follow(open_session, 60, pause=timedelta(minutes=5))
    assert ids == added


@pytest.mark.finding("A4")
async def test_a_cheap_poll_reads_no_more_than_the_look_back(open_session):
    """Given no time zone, when the calls have shown what time it is, then most polls read little more than the look-back."""
    world = World("America/New_York")
    world.each_pause = world.call
    await world.follow(open_session, 120, pause=timedelta(minutes=5))
    starts = [parse_qs(request.query)["start_date"][0] for request in world.sandbox.requests[-24:]]
    ages = [world.local() - datetime.fromisoformat(start) for start in starts]
    assert sorted(ages)[len(ages) // 2] < 5 * HOUR


@pytest.mark.finding("A5")
@pytest.mark.parametrize("ahead", [timedelta(days=6), timedelta(hours=-10)], ids=str)
async def test_a_wrong_clock_of_this_machine_loses_nothing(ahead, open_session):
    """Given a machine whose clock is wrong, when a start in the future comes, then the server's clock decides."""
    world, added = World(machine_ahead=ahead), []

    def add():
        added.append(world.call())
        if len(added) == 6:
            added.append(world.call(20 * HOUR))

    def with_date(response):
        response.headers["date"] = world.utc.strftime("%a, %d %b %Y %H:%M:%S GMT")
        return response

    world.each_pause = add
    ids, _ = await world.follow(
        open_session, 100, timezone="UTC", respond=with_date, since=BEGIN.replace(tzinfo=None)
    )
    assert sorted(ids) == sorted(added)


@pytest.mark.finding("B3")
async def test_the_first_poll_remembers_the_look_back_only(open_session):
    """Given a first poll of five days, when it is read, then never many more calls than those of the look-back are kept."""
    world = World()
    rows = [{"call_start": str(world.local() - minutes * timedelta(minutes=1))} for minutes in range(7200)]
    world.sandbox.add(rows)
    most = 0

    def measure(follow):
        nonlocal most
        most = max(most, len(follow._state.delivered))

    transport = httpx.ASGITransport(world.sandbox.app)
    async with open_session(transport=transport, timezone="UTC", utcnow=world.machine) as insights:
        count = 0
        async with insights.follow("2024-05-01", fields=FIELDS) as follow:
            async for _ in follow:
                measure(follow)
                count += 1
                if count == len(rows):
                    break
    assert most <= 2 * 256


@pytest.mark.finding("B5")
@pytest.mark.parametrize("requested", ["86400", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_a_long_retry_after_is_followed_up_to_the_maximum(requested, open_session, caplog):
    """Given a server that requests a pause of a day, then the poll is tried again after the maximum, with a warning."""
    world = World()
    added = [world.call()]
    responses = iter([True])

    def refuse(response):
        if not next(responses, False):
            return response
        return httpx.Response(429, headers={"retry-after": requested}, stream=httpx.ByteStream(b""))

    with caplog.at_level(logging.WARNING, "iovox_async"):
        ids, follow = await world.follow(
            open_session,
            2,
            respond=refuse,
            options={"retry": RetryPolicy(max_retry_after=100)},
            timezone="UTC",
        )
    assert (ids, follow.failed_polls) == (added, 1)
    assert world.pauses[0] == 100
    (record,) = caplog.records
    assert "100 seconds" in record.getMessage()
    assert ("86400" in record.getMessage()) is (requested == "86400")


@pytest.mark.finding("B5")
async def test_a_short_retry_after_is_followed(open_session, caplog):
    """Given a server that requests 90 seconds, then the next poll comes after them, without a warning."""
    world = World()
    responses = iter([True])

    def refuse(response):
        if not next(responses, False):
            return response
        return httpx.Response(429, headers={"retry-after": "90"}, stream=httpx.ByteStream(b""))

    retry = RetryPolicy(max_attempts=1)
    await world.follow(open_session, 2, respond=refuse, options={"retry": retry})
    assert world.pauses[0] == 90
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.finding("D8")
@pytest.mark.parametrize("interval", [0, 0.0, timedelta(0), -1])
def test_an_interval_must_be_positive(interval, open_session):
    """Given an interval of no time, when following starts, then a ConfigurationError names it."""
    with pytest.raises(ConfigurationError, match=r"interval must be"):
        open_session().follow(interval=interval)


async def test_a_call_that_moves_to_a_later_second_during_a_poll_is_delivered_once(open_session):
    """Given a call that is read before and after it moves, when its first start gets old, then it is still known."""
    world = World()
    moved, *others = [world.call(HOUR * (number / 30 - 2)) for number in range(60)]

    def respond(response):
        world.sandbox.update(moved, call_start="2024-05-06 08:59:00")
        return response

    arguments = {"since": "2024-05-06 06:00", "lookback": HOUR, "timezone": "UTC", "respond": respond}
    ids, _ = await world.follow(open_session, 3, options={"page_size": 25, "concurrency": 1}, **arguments)
    assert sorted(ids) == sorted([moved, *others])
