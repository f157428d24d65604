"""Every reader gives the same calls: records, pages, Arrow, `collect`, `follow` and each format of a backfill."""

import asyncio
import json
import random
from datetime import datetime
from itertools import pairwise

import httpx
import pyarrow as pa
import pytest
from support.arrow_pages import batch_value, expected_rows
from support.odd_server import OddServer, call
from support.odd_values import NESTED

from iovox_async import InsightsQuery, QueryError, RecordError
from iovox_async._parsing.decoder import CallDecoder
from iovox_async.arrow import schema_for
from iovox_async.backfill import Backfill

DAY = "2024-05-06"
ASC, DESC = "call_start_ASC", "call_start_DESC"
FIELDS = [
    "id",
    "call_start",
    "call_end",
    "call_result",
    "talk_time",
    "tag_text",
    "category_label",
    "comment_text",
    "call_outcomes",
]
FIELDS = [name for name in FIELDS if name != "category_label"]


def at(second):
    return f"{DAY} 10:{second // 60:02}:{second % 60:02}"


def doubles():
    """Seconds in which the response lists calls twice."""
    server = OddServer()
    server.add(at(1), call(1, at(1)), call(2, at(1)), call(3, at(1)), call(2, at(1), call_result="BUSY"))
    server.add(at(2), call(5, at(2)))
    server.add(at(3), call(9, at(3)), call(8, at(3)), call(8, at(3)), call(8, at(3)), call(7, at(3)))
    server.add(at(4), call(6, at(4)), call(6, at(4)))
    return server


def unreadable():
    """Rows that no record can be made of, alone and among ties."""
    server = OddServer()
    server.add(at(1), call(1, at(1)), call("x", at(1)), call(3, at(1), talk_time="long"), call(2, at(1)))
    server.add(at(2), b"17", call(4, "never"), call(5, at(2)), call(4, at(2)))
    server.add(at(4), call(None, at(4)), call(7, at(4), tags=5), call(6, at(4)))
    return server


def starts():
    """Starts with fractions of a second, without seconds, and in blanks."""
    server = OddServer()
    server.add(at(1), call(3, at(1) + ".25"), call(2, at(1) + ".5"), call(1, at(1) + ".75"))
    server.add(at(60), call(4, at(60)[:-3]), call(6, f" {at(60)} "), call(5, at(60)))
    return server


def values():
    """Ids and other numbers as texts, unknown keys, nested lists, and other odd values."""
    server = OddServer()
    server.add(at(1), call("3", at(1)), call(2, at(1), talk_time=125), call(3, at(1), talk_time="125"))
    server.add(at(2), call(5.0, at(2), new=[1]), call(" 4 ", at(2), extra={"a": None}), call(5, at(2)))
    server.add(at(3), call(7, at(3), **{name: NESTED[name] for name in ("tags", "comments")}), call(6, at(3)))
    server.add(at(4), call(8, at(4), tags={"text": "a", "new": 1}, call_outcomes="Sale"))
    server.add(at(5), call(9, at(5), call_result="Grüße 🎉"), call(10, at(5), call_end=""))
    server.add(
        at(6), call(12, at(6), call_result="\ud83d"), call(11, at(6), node_id="n", tags=[{"text": "\ude00"}])
    )
    return server


def large():
    """Several segments of a page, with rows of one second on both sides of their boundary."""
    server = OddServer()
    for second in range(1_200):
        ids = [3 * second + number for number in range(3)][:: -1 if second % 2 else 1]
        server.add(at(second), *(call(number, at(second), call_result="x" * 90) for number in ids))
        if second % 50 == 0:
            server.add(at(second), call(ids[1], at(second), call_result="again"))
        if second % 70 == 0:
            server.add(at(second), call("no number", at(second)))
    return server


def full_second():
    """A second with more calls than pages of the server hold."""
    server = OddServer(cap=4)
    server.add(at(1), call(100, at(1)))
    server.add(at(2), *(call(number, at(2)) for number in (19, 3, 12, 5, 7, 11, 2, 17, 13)))
    server.add(at(3), call(101, at(3)))
    return server


SERVERS = [doubles, unreadable, starts, values, large, full_second]


async def read_all(insights, reader, **options):
    """The calls of a range as rows of a table, the stats, and the ids, read by one reader."""
    options = {"fields": FIELDS, "on_error": "skip", **options}
    stream = insights.stream(f"{DAY} 10:00:00", f"{DAY} 10:59:59", **options)
    schema = schema_for(options["fields"])
    if reader == "arrow":
        rows = [
            batch_value(row) for row in pa.Table.from_batches([b async for b in stream.arrow()]).to_pylist()
        ]
    else:
        if reader == "records":
            calls = [record async for record in stream]
        elif reader == "collect":
            calls = await stream.collect()
        else:
            pages = [page async for page in stream.pages()]
            calls = [record for page in pages for record in page.calls]
            assert all(isinstance(json.loads(page.raw), list) for page in pages)
        rows = expected_rows(calls, schema)
    return rows, stream


def counts(stream):
    stats = stream.stats
    return stats.calls, stats.skipped, stats.duplicates_dropped, stats.coerced, stream.position


@pytest.mark.sweep(3)
@pytest.mark.finding("A1")
@pytest.mark.parametrize("options", [{}, {"page_size": 5}, {"order": DESC}, {"max_calls": 4}], ids=str)
@pytest.mark.parametrize(
    "server_of", [*SERVERS[:4], pytest.param(large, marks=pytest.mark.slow), full_second]
)
async def test_every_reader_of_a_stream_gives_the_same_calls(open_session, server_of, options):
    """Given odd pages, when read as records, pages and Arrow, then ids, order, values, counts and position are the same."""
    server = server_of()
    if server_of is large and "page_size" in options:
        options = {"page_size": 50}  # a page of the others would take a thousand requests a reader
    async with open_session(transport=server.transport) as insights:
        expected, first = await read_all(insights, "records", **options)
        ids = [row["id"] for row in expected]
        assert len(ids) == len(set(ids))
        keys = [(row["call_start"].replace(microsecond=0), row["id"]) for row in expected]
        assert keys == sorted(keys, reverse=options.get("order") == DESC)
        for reader in ("collect", "pages", "arrow"):
            rows, stream = await read_all(insights, reader, **options)
            assert rows == expected, reader
            assert counts(stream) == counts(first), reader


@pytest.mark.finding("A1")
async def test_a_call_listed_twice_is_kept_once_and_counted(open_session):
    """Given a response that lists calls again within a second, when read, then the last listed is kept, and the others are counted."""
    server = doubles()
    async with open_session(transport=server.transport) as insights:
        for reader in ("records", "pages", "arrow"):
            rows, stream = await read_all(insights, reader)
            assert [row["id"] for row in rows] == [1, 2, 3, 5, 7, 8, 9, 6]
            assert rows[1]["call_result"] == "BUSY"
            assert stream.stats.duplicates_dropped == 4


@pytest.mark.finding("A1")
@pytest.mark.parametrize(
    "server_of", [*SERVERS[:4], pytest.param(large, marks=pytest.mark.slow), full_second]
)
async def test_rows_in_the_pages_of_one_by_one_numbers_agree_too(open_session, server_of):
    """Given odd pages, when read by page numbers, then every reader gives the same calls and counts."""
    server = server_of()
    server.cap = 20_000
    async with open_session(transport=server.transport) as insights:
        expected, first = await read_all(insights, "records", paging="pages", page_size=5)
        for reader in ("pages", "arrow"):
            rows, stream = await read_all(insights, reader, paging="pages", page_size=5)
            assert rows == expected
            assert counts(stream) == counts(first)


@pytest.mark.sweep(3)
@pytest.mark.finding("A1")
@pytest.mark.parametrize("order", [ASC, DESC])
@pytest.mark.parametrize("server_of", [doubles, unreadable, starts, values, full_second])
async def test_every_reader_continues_at_every_position(open_session, server_of, order):
    """Given odd pages, when any reader continues after any call, then exactly the calls after it are delivered."""
    server = server_of()
    async with open_session(transport=server.transport) as insights:
        rows, _ = await read_all(insights, "records", order=order)
        positions = []
        stream = insights.stream(
            f"{DAY} 10:00:00", f"{DAY} 10:59:59", fields=FIELDS, order=order, on_error="skip"
        )
        async for _ in stream:
            positions.append(stream.position)
        for index, position in enumerate(positions):
            for reader in ("records", "pages", "arrow"):
                rest, _ = await read_all(insights, reader, order=order, resume=position)
                assert rest == rows[index + 1 :]


@pytest.mark.sweep(4)
@pytest.mark.finding("A1")
@pytest.mark.parametrize("server_of", SERVERS)
async def test_follow_and_backfills_give_the_same_calls(open_session, server_of, tmp_path):
    """Given odd pages, when followed or written in any format, then the calls are those of the stream, and verify finds no difference."""
    server = server_of()
    async with open_session(transport=server.transport, utcnow=lambda: NOW) as insights:
        expected, stream = await read_all(insights, "records")
        ids = [row["id"] for row in expected]
        follow = insights.follow(f"{DAY} 10:00:00", fields=FIELDS, on_error="skip")
        followed = []
        async with follow:
            async for record in follow:
                followed.append(record)
                if len(followed) == len(ids):
                    break
        assert [record.id for record in followed] == ids
        query = InsightsQuery(start_date=DAY, end_date=DAY, fields=FIELDS)
        for format_name in ("jsonl", "jsonl.zst", "csv", "parquet"):
            backfill = Backfill(insights, query, tmp_path / format_name, format_name, on_error="skip")
            report = await backfill.run()
            assert report.calls == len(ids)
            assert report.skipped == stream.stats.skipped
            assert read_ids(tmp_path / format_name, format_name) == ids
            verified = await Backfill(
                insights, query, tmp_path / format_name, format_name, on_error="skip"
            ).verify()
            assert list(verified.mismatched_partitions) == []


def read_ids(directory, format_name):
    """The ids in the files of a backfill."""
    (path,) = directory.glob("*=*/*")
    if format_name == "parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path)["id"].to_pylist()
    data = path.read_bytes()
    if format_name == "jsonl.zst":
        data = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    lines = data.decode().splitlines()
    if format_name == "csv":
        import csv

        return [int(row["id"]) for row in csv.DictReader(lines)]
    return [json.loads(line)["id"] for line in lines]


@pytest.mark.finding("A1")
@pytest.mark.parametrize("server_of", [unreadable, large])
async def test_an_unreadable_row_after_the_last_call_wanted_does_not_matter(open_session, server_of):
    """Given `max_calls` and an unreadable row after so many calls, when read without skipping, then no reader raises."""
    server = server_of()
    async with open_session(transport=server.transport) as insights:
        for reader in ("records", "pages", "arrow"):
            rows, stream = await read_all(insights, reader, max_calls=2, on_error="raise")
            assert [len(rows), stream.stats.skipped] == [2, 0]
            with pytest.raises(RecordError) as caught:
                await read_all(insights, reader, on_error="raise")
            assert caught.value.position is not None


@pytest.mark.sweep(5)
@pytest.mark.finding("A1")
@pytest.mark.parametrize("seed", range(12))
async def test_rows_in_any_order_agree(open_session, seed):
    """Given random ties, doubles and unreadable rows, when read with any page size and limit, then all readers agree."""
    rng = random.Random(seed)
    server = OddServer()
    for second in sorted(rng.sample(range(3_000), 40)):
        ids = rng.sample(range(1_000_000), rng.randint(1, 6))
        rows = [call(number if rng.random() < 0.9 else str(number), at(second)) for number in ids]
        rows += [call(rng.choice(ids), at(second), call_result="BUSY") for _ in range(rng.randint(0, 2))]
        rows += [b'{"id":%d}' % rng.choice(ids)] * (rng.random() < 0.1)
        rng.shuffle(rows)
        server.add(at(second), *rows)
    async with open_session(transport=server.transport) as insights:
        options = {
            "page_size": rng.choice([None, 10, 100]),
            "max_calls": rng.choice([None, 1, 50]),
            "order": rng.choice([ASC, DESC]),
        }
        expected, first = await read_all(insights, "records", **options)
        for reader in ("pages", "arrow"):
            rows, stream = await read_all(insights, reader, **options)
            assert rows == expected
            assert counts(stream) == counts(first)


@pytest.mark.finding("D10")
@pytest.mark.parametrize("number", [2**63, str(2**63), -(2**63) - 1, 10**30])
async def test_a_number_beyond_64_bits_is_an_unreadable_record_for_every_reader(open_session, number):
    """Given an id or another number beyond 64 bits, when read, then no reader gives the record, and all count it as skipped."""
    server = OddServer()
    server.add(
        at(1), call(1, at(1)), call(number, at(1)), call(3, at(1), talk_time_sec=number), call(2, at(1))
    )
    async with open_session(transport=server.transport) as insights:
        for reader in ("records", "pages", "arrow"):
            rows, stream = await read_all(insights, reader, fields=["id", "call_start", "talk_time"])
            assert ([row["id"] for row in rows], stream.stats.skipped) == ([1, 2], 2)


@pytest.mark.finding("D10")
@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
async def test_a_position_with_an_id_beyond_64_bits_is_refused(open_session, number):
    """Given a position with an id that no call can have, when any reader is asked to continue there, then a QueryError is raised."""
    server = doubles()
    async with open_session(transport=server.transport) as insights:
        _, stream = await read_all(insights, "records")
        start, _, fingerprint = stream.position.rpartition("-6-")
        with pytest.raises(QueryError, match="64 bits"):
            await read_all(insights, "records", resume=f"{start}-{number}-{fingerprint}")


@pytest.mark.finding("D10")
async def test_the_query_is_hashed_once(open_session, monkeypatch):
    """Given a stream, when its position is read after each call, then the query is hashed once."""
    hashed = []
    fingerprint = InsightsQuery.fingerprint
    monkeypatch.setattr(InsightsQuery, "fingerprint", lambda query: hashed.append(1) or fingerprint(query))
    async with open_session(transport=large().transport) as insights:
        stream = insights.stream(f"{DAY} 10:00:00", f"{DAY} 10:59:59", on_error="skip")
        positions = {stream.position async for _ in stream}
    assert len(positions) == 3_600
    assert len(hashed) == 1


@pytest.mark.finding("B2")
@pytest.mark.parametrize("reader", ["records", pytest.param("pages", marks=pytest.mark.slow), "arrow"])
async def test_the_pages_of_a_full_second_are_counted(open_session, reader):
    """Given a second with the calls of 40 pages, when read, then the peak counts them, and no other page is kept beside them."""
    server = OddServer(cap=5)
    server.add(at(1), *(call(number, at(1)) for number in range(200)))
    for second in range(2, 400):
        server.add(at(second), call(1_000 + second, at(second)))
    async with open_session(transport=server.transport, concurrency=2) as insights:
        rows, stream = await read_all(insights, reader)
        assert len(rows) == 598
        # Passes that are compared have pages of five rows and of four; the row of the second after is in them too.
        assert 40 <= stream.stats.peak_buffered_pages <= 51 + 2 * 2 + 1


@pytest.mark.finding("B6")
@pytest.mark.parametrize("method", ["page", "get"])
async def test_a_large_page_is_decoded_in_slices(open_session, method):
    """Given a page of many segments, when it is decoded, then other tasks run between the segments."""
    rows = [call(number, at(number % 3_000), comments=[{"text": "x" * 2_000}]) for number in range(1, 2_001)]
    body = b"[" + b",".join(rows) + b"]"
    turns, batches = [], []
    batch = CallDecoder.batch

    def counted(*args):
        batches.append(len(turns))
        return batch(*args)

    async def other_task():
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    async with open_session(transport=transport) as insights:
        task = asyncio.create_task(other_task())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CallDecoder, "batch", counted)
            fields = ["id", "call_start", "comment_text"]
            if method == "page":
                assert len((await insights.page(DAY, DAY, fields=fields)).calls) == 2_000
            else:
                assert len(await insights.get(range(1, 101), fields=fields)) == 100
        task.cancel()
    assert len(batches) > 20
    assert all(later > earlier for earlier, later in pairwise(batches))


NOW = datetime.fromisoformat("2024-06-01T00:00:00+00:00")


@pytest.mark.finding("A8")
@pytest.mark.parametrize("order", ["call_start_ASC", DESC])
@pytest.mark.parametrize("page_size", [5, 20])
async def test_a_skipped_record_without_a_start_counts_once(open_session, page_size, order):
    """Given records without a readable start at the edges of windows, when they are skipped, then each counts once, whoever reads."""
    server, cannot_be_read = OddServer(), 0
    for second in range(30):
        server.add(at(second), call(second, at(second)))
        if second % 3:
            server.add(at(second), call(1_000 + second, "never"), call(str(2_000 + second), None))
            cannot_be_read += 2
    async with open_session(transport=server.transport) as insights:
        for reader in ("records", "pages", "arrow"):
            rows, stream = await read_all(insights, reader, page_size=page_size, order=order)
            assert len(rows) == 30
            assert stream.stats.skipped == cannot_be_read, reader
