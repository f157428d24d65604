"""`verify` of a backfill with on_error="skip" converges: records that cannot be read count by their ids."""

from contextlib import AsyncExitStack

import pytest
from support.backfill import LATER, QUERY
from support.rewriting import RewritingTransport

from iovox_async import RecordError
from iovox_async.backfill import Backfill
from iovox_async.backfill._formats import FORMATS


@pytest.fixture
async def bad_job(sandbox, open_session, out):
    """Returns a function that makes a backfill of rows that a function has changed."""
    async with AsyncExitStack() as stack:

        async def make(change, name):
            transport = RewritingTransport(sandbox.app, change)
            insights = await stack.enter_async_context(open_session(transport=transport, page_size=60))
            return Backfill._for_test(insights, QUERY, out, name, on_error="skip", local_now=lambda: LATER)

        yield make


def every_nth(number, **values):
    """A function that gives every nth row these values, where it has the keys."""

    def change(row):
        if row["id"] % number == 0:
            row.update({key: value for key, value in values.items() if key in row})
        return row

    return change


def whole_day(row):
    """Makes each record of one day unreadable."""
    return row | (
        {"talk_time": "soon"} if row["call_start"].startswith("2024-01-04") and "talk_time" in row else {}
    )


def listed_twice(row):
    """Lists some calls twice, once with an unreadable value."""
    return [row, row | {"talk_time": "soon"}] if row["id"] % 7 == 0 and "talk_time" in row else row


CHANGES = {
    "a duration": every_nth(7, talk_time="soon"),
    "an end": every_nth(5, call_end="yesterday"),
    "all of a day": whole_day,
    "an id": every_nth(7, id="x"),
    "an id beyond 64 bits": every_nth(7, id=2**70),
    "every call": every_nth(1, talk_time="soon"),
    "a call listed twice": listed_twice,
}


@pytest.mark.sweep(4)
@pytest.mark.finding("A14")
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (change, name)
        for change in CHANGES
        for name in FORMATS
        if change == "a duration" or name in {"parquet", "jsonl"}
    ],
)
async def test_verify_finds_no_difference_where_records_were_skipped(change, name, bad_job):
    """Given records that cannot be read, when they were skipped, then verify agrees, in every format."""
    report = await (await bad_job(CHANGES[change], name)).run()
    skipped = report.skipped
    for _ in range(2):
        report = await (await bad_job(CHANGES[change], name)).verify()
        assert (report.verified, report.mismatched_partitions) == (10, ())
    assert skipped or (change == "an id beyond 64 bits" and name != "parquet")


@pytest.mark.finding("A14")
@pytest.mark.usefixtures("own_sandbox")
async def test_a_real_difference_is_found_beside_skipped_records(bad_job, sandbox):
    """Given skipped records, when a call is deleted at the endpoint, then verify reads its day again, once."""
    change = CHANGES["a duration"]
    await (await bad_job(change, "parquet")).run()
    sandbox.remove(sandbox.ids("2024-01-05", "2024-01-05")[:1])
    assert (await (await bad_job(change, "parquet")).verify()).mismatched_partitions == ("2024-01-05",)
    assert (await (await bad_job(change, "parquet")).verify()).mismatched_partitions == ()


@pytest.mark.finding("A14")
async def test_without_skip_the_record_is_an_error(bad_job):
    """Given on_error="raise", when a record cannot be read, then the run raises as before."""
    backfill = await bad_job(CHANGES["a duration"], "jsonl")
    backfill._on_error = "raise"
    with pytest.raises(RecordError):
        await backfill.run()
