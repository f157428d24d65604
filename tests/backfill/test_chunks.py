"""Chunks of calls: checksums of ids, and splitting at the start of a day, the same for records and Arrow."""

import random
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from support.arrow_batches import FIRST_START, batch, call

from iovox_async.backfill._chunks import ArrowChunk, CallChunk, IdChecksum, find_start

NEW_YORK = ZoneInfo("America/New_York")


def arrow_chunk(instants, timezone):
    """A chunk with the calls that start at these times, in an account with this time zone."""
    column = pa.array(instants, pa.timestamp("us", str(timezone)))
    return ArrowChunk(pa.record_batch([column], ["call_start"]), timezone)


class TestIdChecksum:
    def test_it_depends_on_the_ids_alone(self):
        """Given the same ids as records or Arrow, in any order and any slices, the checksum is the same."""
        ids = [random.Random(3).getrandbits(62) for _ in range(500)]
        expected = IdChecksum.of(ids)
        calls, arrow = CallChunk([call(number) for number in ids]), ArrowChunk(batch(ids))
        assert calls.ids() == arrow.ids() == expected == IdChecksum.of(reversed(ids))
        assert arrow.slice(0, 200).ids() + arrow.slice(200, 500).ids() == expected
        assert calls.slice(0, 1).ids() + calls.slice(1, 500).ids() == expected
        assert expected.rows == 500
        assert str(IdChecksum.of([*ids[1:], ids[0] + 1])) != str(expected)
        assert ArrowChunk(batch([])).ids() == IdChecksum()

    @pytest.mark.parametrize("largest", [2**63 - 1, 2**62, 3_037_000_500, 1])
    def test_it_wraps_alike_in_records_and_arrow(self, largest):
        """Given ids near 2^63, whose sums overflow 64 bits, both forms give the same checksum."""
        ids = [largest - number for number in range(min(largest, 700))]
        checksum = ArrowChunk(batch(ids)).ids()
        assert checksum == CallChunk([call(number) for number in ids]).ids() == IdChecksum.of(ids)
        assert checksum.squares < 1 << 64


class TestSlices:
    def test_a_slice_of_a_batch_has_its_own_ids_and_starts(self):
        """Given slices of slices, which share the memory of the batch, each sees its own rows."""
        ids = [number * 10**17 for number in range(50)]
        whole = batch(ids)
        for start, stop in [(0, 50), (0, 1), (7, 31), (49, 50), (50, 50), (13, 13)]:
            offset = min(start, 5)
            for chunk in (
                ArrowChunk(whole).slice(start, stop),
                ArrowChunk(whole.slice(start, stop - start)),
                ArrowChunk(whole.slice(offset)).slice(start - offset, stop - offset),
            ):
                assert chunk.rows == stop - start
                assert chunk.ids() == IdChecksum.of(ids[start:stop])
                starts = [FIRST_START + timedelta(seconds=second) for second in range(start, stop)]
                assert [chunk.start(row) for row in range(chunk.rows)] == starts
                for second in (start, (start + stop) // 2, stop):
                    assert find_start(chunk, 0, FIRST_START + timedelta(seconds=second)) == second - start

    @pytest.mark.parametrize(
        "empty",
        [batch([]), batch([1, 2]).slice(2), batch([1, 2]).filter(pa.array([False, False]))],
        ids=["built empty", "end of a batch", "filtered"],
    )
    def test_an_empty_batch_has_no_calls(self, empty):
        """Given an empty batch of any origin, its checksum is that of no ids, and nothing is found in it."""
        assert ArrowChunk(empty).ids() == IdChecksum()
        assert find_start(ArrowChunk(empty), 0, FIRST_START) == 0

    @pytest.mark.parametrize("kind", ["records", "arrow"])
    def test_find_start_finds_the_first_row_at_or_after_a_time(self, kind):
        """Given ten calls a second apart, the row is the number of calls that start before the time."""
        starts = [FIRST_START + timedelta(seconds=second) for second in range(10)]
        calls = CallChunk([call(number, start) for number, start in enumerate(starts)])
        chunk = ArrowChunk(batch(list(range(10)))) if kind == "arrow" else calls
        for second, row in {-1: 0, 0: 0, 3: 3, 9: 9, 10: 10, 99: 10}.items():
            assert find_start(chunk, 0, FIRST_START + timedelta(seconds=second)) == row
        assert find_start(chunk, 5, FIRST_START) == 5


class TestTimeZones:
    def test_an_aware_start_becomes_local_time(self):
        """Given a start in New York, in UTC in Arrow, both forms return the local time."""
        start = datetime(2024, 1, 31, 23, 30, tzinfo=NEW_YORK)
        utc = pa.record_batch([pa.array([start], pa.timestamp("us", "UTC"))], ["call_start"])
        assert ArrowChunk(utc, NEW_YORK).start(0) == datetime(2024, 1, 31, 23, 30)
        assert CallChunk([call(1, start)]).start(0) == datetime(2024, 1, 31, 23, 30)

    @pytest.mark.parametrize(
        ("name", "change", "local_times"),
        [
            ("America/New_York", "2024-03-10 07:00", ["01:00", "01:59:59.999999", "03:00", "04:00"]),
            ("America/New_York", "2024-11-03 06:00", ["01:00", "01:59:59.999999", "01:00", "02:00"]),
            ("Europe/London", "2024-03-31 01:00", ["00:00", "00:59:59.999999", "02:00", "03:00"]),
            ("Australia/Lord_Howe", "2024-04-06 15:00", ["01:00", "01:59:59.999999", "01:30", "02:30"]),
        ],
        ids=["forward", "back", "forward in London", "back by half an hour"],
    )
    def test_starts_around_a_clock_change_are_the_local_times(self, name, change, local_times):
        """Given calls before and after a clock change, each has the local time shown then, and all lie in one day."""
        timezone, instant = ZoneInfo(name), datetime.fromisoformat(change).replace(tzinfo=UTC)
        hour, microsecond = timedelta(hours=1), timedelta(microseconds=1)
        instants = [instant - hour, instant - microsecond, instant, instant + hour]
        chunk = arrow_chunk(instants, timezone)
        starts = [chunk.start(row) for row in range(4)]
        assert [start.time() for start in starts] == [time.fromisoformat(text) for text in local_times]
        assert starts == [instant.astimezone(timezone).replace(tzinfo=None) for instant in instants]
        assert starts[2] == CallChunk([call(1, instant.astimezone(timezone))]).start(0)
        midnight = starts[0].replace(hour=0, minute=0)
        assert find_start(chunk, 0, midnight) == 0
        assert find_start(chunk, 0, midnight + timedelta(days=1)) == 4

    @pytest.mark.parametrize(
        ("day", "hours"), [(datetime(2024, 3, 10), 23), (datetime(2024, 11, 3), 25)], ids=["23 h", "25 h"]
    )
    def test_a_day_of_23_or_25_hours_is_split_at_its_midnights(self, day, hours):
        """Given a call each hour around a day with a clock change, the day has its 23 or 25 calls."""
        first = day.replace(tzinfo=NEW_YORK).astimezone(UTC) - timedelta(hours=24)
        chunk = arrow_chunk([first + timedelta(hours=hour) for hour in range(72)], NEW_YORK)
        start = find_start(chunk, 0, day)
        assert (start, find_start(chunk, start, day + timedelta(days=1)) - start) == (24, hours)
