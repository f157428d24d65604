"""The benchmarks' server answers right, every program that can run here brings back every call, and pictures draw.

No figure is judged here: a busy machine must not fail a test.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

pytest.importorskip("benchmarks", reason="the benchmarks are not part of the wheel")
from benchmarks import harness, pictures, tables
from benchmarks.answers import Answers, RefusedError
from benchmarks.programs import PROGRAMS
from benchmarks.server import ENDPOINT, Service, serve

CALLS = 4_000


@pytest.fixture(scope="module", params=["smooth", "daily"])
def answers(request):
    """One imaginary account, in each shape of traffic."""
    return Answers(CALLS, request.param)


def read(answers, **parameters):
    page = answers.find({name: str(value) for name, value in parameters.items()})
    return json.loads(b"[" + answers.body(page) + b"]")


def everything(answers):
    """All rows, read from the whole buffer at once: what every page is checked against."""
    buffer, _ = answers._ascending
    return json.loads(b"[" + bytes(buffer[:-1]) + b"]")


def test_the_account_holds_what_it_says(answers):
    """Its calls are as many as asked, in order, with ids of their own and the checksum it states."""
    rows = everything(answers)
    starts = [row["call_start"] for row in rows]
    ids = [row["id"] for row in rows]
    assert len(rows) == len(set(ids)) == CALLS
    assert starts == sorted(starts)
    assert (starts[0], starts[-1]) == (answers.start, answers.end)
    assert sum(ids) == answers.checksum


def test_the_same_account_is_made_every_time():
    """Two runs on two machines measure the same calls."""
    assert Answers(500)._ascending == Answers(500)._ascending


@pytest.mark.parametrize("order", ["ASC", "DESC"])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        pytest.param(None, None, id="everything"),
        pytest.param("2023-01-02 09:30:00", "2023-01-02 16:00:00", id="hours"),
        pytest.param("2023-01-02", "2023-01-02", id="a bare day is a whole day"),
        pytest.param("2023-01-03", "2023-01-02", id="backwards is empty"),
        pytest.param("2022-01-01", "2022-12-31", id="before the first call"),
        pytest.param("2024-01-01", "2024-12-31", id="after the last call"),
    ],
)
def test_a_range_holds_the_calls_within_it(answers, start, end, order):
    """Any range, in either order, equals a plain filter over all rows; both ends belong to it."""
    low = f"{start} 00:00:00"[:19] if start else ""
    high = (end if len(end) > 10 else f"{end} 23:59:59") if end else "9"
    expected = [row for row in everything(answers) if low <= row["call_start"] <= high]
    if order == "DESC":
        expected.reverse()
    dates = {"start_date": start, "end_date": end}
    asked = {name: value for name, value in dates.items() if value}
    assert read(answers, limit=20_000, order=f"call_start_{order}", **asked) == expected


def test_both_ends_of_a_second_belong_to_it(answers):
    """A window of one second holds the calls of that second, and no other."""
    second = everything(answers)[CALLS // 2]["call_start"]
    expected = [row for row in everything(answers) if row["call_start"] == second]
    assert read(answers, start_date=second, end_date=second, order="call_start_ASC") == expected


@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
@pytest.mark.parametrize("limit", [1_000, 1_337, CALLS, 20_000])
def test_pages_add_up_to_the_list(answers, limit, order):
    """Pages are the list cut in pieces of `limit`; the one behind the last is empty."""
    whole = read(answers, limit=20_000, order=order)
    pages = [read(answers, page=page, limit=limit, order=order) for page in range(1, -(-CALLS // limit) + 2)]
    assert [row for page in pages for row in page] == whole
    assert [len(page) for page in pages[:-2]] == [limit] * (len(pages) - 2)
    assert pages[-1] == []


def test_skipped_rows_are_what_an_offset_reads_and_throws_away(answers):
    """Page 3 of 100 rows skips 200; a page behind the end skips no more rows than there are."""
    assert answers.find({"page": "3", "limit": "100"}).skipped == 200
    assert answers.find({"page": "9000", "limit": "100"}).skipped == CALLS


def test_a_cap_holds_whatever_was_asked_for():
    """An answer never holds more rows than the cap, and pages are counted in its size."""
    answers = Answers(1_000, cap=300)
    whole = read(answers, order="call_start_ASC", limit=1_000)
    assert len(whole) == 300
    assert whole + read(answers, order="call_start_ASC", limit=1_000, page=2) == everything(answers)[:600]


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "0"},
        {"limit": "20001"},
        {"limit": "many"},
        {"page": "one"},
        {"order": "talk_time_ASC"},
        {"start_date": "tomorrow"},
        {"end_date": "2023-13-01"},
    ],
    ids=str,
)
def test_a_wrong_parameter_is_refused(answers, parameters):
    """The server refuses what the endpoint refuses, so that no program is measured on a wrong question."""
    with pytest.raises(RefusedError):
        answers.find(parameters)


def test_rows_with_insights_weigh_seven_kilobytes():
    """The heavy account holds whole transcriptions, and is JSON."""
    answers = Answers(200, kind="insights")
    rows = everything(answers)
    assert all(row["transcriptions"][0]["phrases"] for row in rows)
    assert 6_000 < len(answers._ascending[0]) / len(rows) < 9_000


async def ask(reader, writer, path, *headers):
    """One request on an open connection; its status, headers and body."""
    lines = [f"GET {path} HTTP/1.1", "Host: loopback", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    answered = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), answered, await reader.readexactly(int(answered["content-length"]))


@pytest.fixture
async def connection():
    """A running server and one connection to it."""
    service = Service(Answers(1_000))
    server = await serve(service)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    yield service, reader, writer
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_one_connection_serves_many_requests(connection):
    """Keep-alive holds, over answers, refusals and pages nobody has."""
    service, reader, writer = connection
    status, _, body = await ask(reader, writer, f"{ENDPOINT}?limit=10&order=call_start_ASC")
    assert (status, json.loads(body)) == (200, everything(service.answers)[:10])
    assert (await ask(reader, writer, f"{ENDPOINT}?limit=0"))[0] == 400
    assert (await ask(reader, writer, "/elsewhere"))[0] == 404
    _, _, stats = await ask(reader, writer, "/stats")
    counted = json.loads(stats)
    assert (counted["requests"], counted["refused"], counted["rows"], counted["connections"]) == (2, 1, 10, 1)


async def test_settings_hold_until_they_are_changed(connection):
    """`/reset` changes what it names and puts all counters back."""
    service, reader, writer = connection
    await ask(reader, writer, "/reset?latency=0.001&cap=7&bandwidth=50")
    assert (service.settings.latency, service.settings.cap, service.settings.bandwidth) == (0.001, 7, 50.0)
    _, _, body = await ask(reader, writer, f"{ENDPOINT}?limit=100")
    assert len(json.loads(body)) == 7
    await ask(reader, writer, "/reset?cap=20000")
    assert (service.settings.latency, service.counters.requests) == (0.001, 0)


async def test_gzip_is_spoken_only_to_who_takes_it(connection):
    """A packed answer holds the same calls, and a client that did not ask for gzip gets none."""
    _, reader, writer = connection
    await ask(reader, writer, "/reset?gzip=1")
    path = f"{ENDPOINT}?limit=50"
    _, plain, body = await ask(reader, writer, path)
    _, packed, small = await ask(reader, writer, path, "Accept-Encoding: gzip, deflate")
    assert "content-encoding" not in plain
    assert packed["content-encoding"] == "gzip"
    assert gzip.decompress(small) == body


async def test_a_client_that_leaves_is_counted(connection):
    """A request whose client closed before the answer is no longer in flight."""
    service, _, _ = connection
    server = await serve(service)
    service.settings.latency = 60.0
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    writer.write(f"GET {ENDPOINT} HTTP/1.1\r\n\r\n".encode())
    async with asyncio.timeout(10):
        while not service.counters.in_flight:
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()
        while service.counters.in_flight:
            await asyncio.sleep(0)
    assert service.counters.abandoned == 1
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("bandwidth", "delays"),
    [
        pytest.param(0.0, [0.5, 0.5], id="no limit"),
        pytest.param(1.0, [1.5, 2.5], id="the second waits for the line"),
    ],
)
def test_a_slow_line_is_shared(bandwidth, delays):
    """Two answers of a megabyte at the same moment come one behind the other over one megabyte a second."""
    service = Service(Answers(10))
    service.settings.latency = 0.5
    service.settings.bandwidth = bandwidth
    page = service.answers.find({"limit": "10"})
    assert [service.delay(page, 1_000_000, now=100.0) for _ in delays] == pytest.approx(delays)


@pytest.fixture(scope="module")
def service():
    """A benchmark server in its own process, as the real questions use it."""
    with harness.server(12_000) as running:
        yield running


# dlt takes seconds to import; `python -m benchmarks --smoke` runs it as well.
QUICK = [program for program in PROGRAMS.values() if not program.name.startswith("dlt")]


@pytest.mark.parametrize("program", QUICK, ids=lambda program: program.name)
def test_a_program_brings_back_every_call(service, program):
    """Each program ends with the exact calls of the range, and leaves its figures."""
    if missing := program.missing():
        pytest.skip(f"not installed: {', '.join(missing)}")
    figures = harness.run(service, program, settings={"latency": 0.002}, watch=True)
    assert figures["calls"] == (10_000 if program.name == "httpx_page" else 12_000)
    assert figures["requests"] >= 1
    assert figures["peak_mb"] > figures["base_mb"] > 0
    assert figures["cpu"] > 0 < figures["wall"]
    if not program.writes:
        assert 0 < figures["first_record"] <= figures["wall"]


def test_a_program_that_loses_calls_is_an_error(service, monkeypatch):
    """A figure whose calls do not add up never reaches a table."""
    monkeypatch.setitem(service.facts, "calls", 12_001)
    with pytest.raises(harness.ProgramError, match="12000 calls of 12001"):
        harness.run(service, PROGRAMS["httpx_pages"], settings={"latency": 0.0})


def comparison(*rounds):
    made = harness.Comparison(
        "a title", {"calls": 1_000, "runs": len(rounds), "latency": 0.1, "concurrency": 8}
    )
    for ours, peer in rounds:
        made.rounds.append(
            {
                name: {
                    "cpu": cpu,
                    "cpu_us": cpu,
                    "wall": cpu,
                    "peak_mb": cpu,
                    "stall_ms": None,
                    "requests": 3,
                }
                for name, cpu in (("stream", ours), ("httpx_gather", peer))
            }
        )
    return made


def test_ratios_are_taken_within_a_round():
    """A slow minute falls on both sides of a ratio: its median is not the ratio of the medians."""
    made = comparison((1.0, 2.0), (4.0, 10.0), (1.0, 3.0))
    assert made.ratio("stream", "httpx_gather", "cpu") == pytest.approx(0.4)
    assert made.median("stream", "cpu") == 1.0
    assert made.ratio("stream", "httpx_gather", "stall_ms") is None


def test_a_goal_is_judged_by_its_ratio():
    """A goal is met at or below its figure, and a peer that did not run is not judged."""
    made = comparison((1.0, 2.0))
    goals = tuple(
        harness.Goal("stream", peer, "cpu", most)
        for peer, most in (("httpx_gather", 0.5), ("httpx_gather", 0.4), ("dlt_client", 1.0))
    )
    assert [judged["met"] for judged in made.judged(goals)] == [True, False]
    assert "MISSED" in tables.verdicts(made, goals)
    assert "httpx + gather" in tables.table(made)


def test_pictures_are_drawn_from_kept_results(tmp_path):
    """Results kept as JSON become SVG that parses, names every program and has both colour schemes."""
    options = harness.Options(results=tmp_path)
    harness.keep("throughput", comparison((1.0, 2.0)).to_dict(), options)
    harness.keep("backfill", comparison((1.0, 2.0)).to_dict(), options)
    grown = [comparison((1.0, 2.0)), comparison((1.1, 20.0))]
    grown[1].setting["calls"] = 10_000
    harness.keep("growth", {"comparisons": [one.to_dict() for one in grown]}, options)
    written = pictures.draw(tmp_path)
    assert {path.name for path in written} >= {"time.svg", "memory.svg", "backfill.svg"}
    for path in written:
        ET.parse(path)
        text = path.read_text()
        assert "prefers-color-scheme: dark" in text
        assert "httpx + gather + cattrs" in text


@pytest.mark.parametrize("highest", [0.05, 0.7, 1, 9, 14, 88, 935, 12_000])
def test_an_axis_has_a_few_round_steps(highest):
    """A handful of lines, whatever the scale."""
    assert 2.5 <= highest / pictures._step(highest) <= 8
