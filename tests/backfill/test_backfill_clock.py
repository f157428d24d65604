"""What is final is decided by the earlier of two clocks, this machine's and the server's, and by the account's time zone."""

import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from support.backfill import ids_in
from support.clock import fake_runtime

from iovox_async import AsyncInsights, InsightsQuery, QueryError
from iovox_async._runtime import use_runtime
from iovox_async.backfill import Backfill

NOON = datetime(2024, 1, 5, 12, tzinfo=UTC)
WHOLE = InsightsQuery(start_date="2024-01-01", end_date="2024-01-10")


class DatedTransport(httpx.ASGITransport):
    """Sends requests to the sandbox, and answers with the `Date` of a server's clock, and only what exists by then."""

    def __init__(self, sandbox, now, *, has_date=True):
        super().__init__(sandbox.app)
        self.now, self.has_date = now, has_date

    async def handle_async_request(self, request):
        response = await super().handle_async_request(request)
        if self.has_date:
            response.headers["date"] = format_datetime(self.now, usegmt=True)
        return response


@pytest.fixture
def run_at(sandbox, clock, out):
    """Returns a function that runs a backfill on a machine and against a server whose clocks show these times."""

    async def run(machine, server, *, query=WHOLE, timezone="UTC", verify=False, **options):
        transport = DatedTransport(sandbox, server or machine, has_date=server is not None)
        with use_runtime(fake_runtime(clock, utcnow=lambda: machine)):
            insights = AsyncInsights(
                "demo",
                "demo-key",
                base_url="https://rest.iovox.test/rest/v1",
                transport=transport,
                timezone=timezone,
            )
            async with insights:
                backfill = Backfill(insights, query, out, "jsonl", **options)
                return await (backfill.verify() if verify else backfill.run())

    return run


DAYS = [f"2024-01-{day:02}" for day in range(1, 11)]


@pytest.mark.finding("A5")
@pytest.mark.usefixtures("own_sandbox")
@pytest.mark.parametrize("query", [WHOLE, InsightsQuery(start_date="2024-01-01")], ids=["end", "no end"])
async def test_a_clock_that_is_days_ahead_marks_no_day_to_come_as_final(query, run_at, sandbox, out):
    """Given a machine six days ahead, when a backfill runs, then days to come stay open, and a later run completes them."""
    everything = sandbox.ids()
    to_come = [row for row in sandbox.rows() if row["call_start"] > "2024-01-05 12"]
    sandbox.remove([row["id"] for row in to_come])
    report = await run_at(NOON + timedelta(days=6), NOON, query=query)
    assert set(report.open_partitions) >= {*DAYS[4:]}
    assert not {*DAYS[:4]} & {*report.open_partitions}
    sandbox.add([{"id": row["id"], "call_start": row["call_start"]} for row in to_come])
    later = datetime(2024, 1, 20, tzinfo=UTC)
    report = await run_at(later, later)
    assert ids_in(out) == everything
    assert (report.partitions_skipped, report.calls) == (
        4,
        len(everything) - len(sandbox.ids(end="2024-01-04")),
    )
    assert not {*DAYS} & {*report.open_partitions}


@pytest.mark.finding("A5")
@pytest.mark.parametrize(
    ("machine", "server", "final_days"),
    [
        (NOON, NOON, 4),
        (NOON, NOON + timedelta(days=2), 4),
        (NOON + timedelta(days=2), NOON, 4),
        (NOON, None, 4),
        (NOON + timedelta(days=2), None, 6),
        (datetime(2024, 1, 6, 1, tzinfo=UTC), datetime(2024, 1, 6, 3, tzinfo=UTC), 4),
        (datetime(2024, 1, 6, 3, tzinfo=UTC), datetime(2024, 1, 6, 3, tzinfo=UTC), 5),
    ],
)
async def test_the_earlier_clock_decides_which_days_are_final(machine, server, final_days, run_at):
    """Given two clocks, when days are read, then those that ended two hours ago by both are final."""
    report = await run_at(machine, server)
    assert report.partitions - len(report.open_partitions) == final_days


@pytest.mark.finding("A5")
@pytest.mark.parametrize(
    ("difference", "warns"),
    [(timedelta(minutes=4), False), (timedelta(minutes=6), True), (-timedelta(minutes=6), True)],
    ids=str,
)
async def test_a_difference_of_more_than_five_minutes_is_logged_once(difference, warns, run_at, caplog):
    """Given clocks that differ, when a backfill runs, then one warning names the difference if it is large."""
    with caplog.at_level(logging.WARNING, "iovox_async"):
        await run_at(NOON + difference, NOON)
    assert len([record for record in caplog.records if "clock" in record.message]) == warns


@pytest.mark.finding("A5")
@pytest.mark.finding("A4")
@pytest.mark.parametrize(
    ("zone", "open_from"), [(None, 4), ("Australia/Sydney", 4), ("America/New_York", 4), ("UTC", 5)]
)
async def test_a_day_is_final_when_it_has_ended_in_the_account(zone, open_from, run_at):
    """Given a time zone or none, when it is 02:30 UTC of 6 January, then 5 January is final only where it ended 2 h ago."""
    now = datetime(2024, 1, 6, 2, 30, tzinfo=UTC)
    if zone == "Australia/Sydney":
        now = datetime(2024, 1, 5, 14, 30, tzinfo=UTC)  # half past one on 6 January there
    report = await run_at(now, now, timezone=zone)
    assert report.open_partitions[0] == DAYS[open_from]


@pytest.mark.finding("A5")
@pytest.mark.finding("A4")
async def test_without_a_zone_yesterday_is_refused_where_it_may_be_two_days(run_at):
    """Given no time zone, when YESTERDAY is requested, then the error says what to do."""
    with pytest.raises(QueryError, match="timezone"):
        await run_at(NOON, NOON, query=InsightsQuery(date_constant="YESTERDAY"), timezone=None)
