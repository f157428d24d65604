"""The benchmark server's pages are right, every program that can run receives every call, and charts are drawn.

No figure is checked here: a busy machine must not fail a test.
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
from benchmarks import documents, harness, pictures, tables
from benchmarks.data import CallData, RefusedError
from benchmarks.programs import PROGRAMS
from benchmarks.server import ENDPOINT, Service, serve

CALLS = 4_000


@pytest.fixture(scope="module", params=["smooth", "daily"])
def data(request):
    """Generated calls, in each distribution of traffic."""
    return CallData(CALLS, request.param)


def read(data, **parameters):
    page = data.find({name: str(value) for name, value in parameters.items()})
    return json.loads(b"[" + data.body(page) + b"]")


def everything(data):
    """All rows, read from the whole buffer, to check pages against."""
    buffer, _ = data._ascending
    return json.loads(b"[" + bytes(buffer[:-1]) + b"]")


def test_given_generated_calls_when_read_then_count_order_and_checksum_are_as_stated(data):
    """As many calls as requested, in order, with unique ids, whose sum is the checksum."""
    rows = everything(data)
    starts = [row["call_start"] for row in rows]
    ids = [row["id"] for row in rows]
    assert len(rows) == len(set(ids)) == CALLS
    assert starts == sorted(starts)
    assert (starts[0], starts[-1]) == (data.start, data.end)
    assert sum(ids) == data.checksum


def test_given_the_same_arguments_when_generated_twice_then_the_calls_are_equal():
    """Two runs on two machines measure the same calls."""
    assert CallData(500)._ascending == CallData(500)._ascending


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
def test_given_a_range_when_read_then_it_equals_a_filter_over_all_rows(data, start, end, order):
    """In either order; both ends are included."""
    low = f"{start} 00:00:00"[:19] if start else ""
    high = (end if len(end) > 10 else f"{end} 23:59:59") if end else "9"
    expected = [row for row in everything(data) if low <= row["call_start"] <= high]
    if order == "DESC":
        expected.reverse()
    dates = {"start_date": start, "end_date": end}
    asked = {name: value for name, value in dates.items() if value}
    assert read(data, limit=20_000, order=f"call_start_{order}", **asked) == expected


def test_given_one_second_when_read_then_its_calls_are_returned(data):
    """A window of one second holds the calls of that second, and no other."""
    second = everything(data)[CALLS // 2]["call_start"]
    expected = [row for row in everything(data) if row["call_start"] == second]
    assert read(data, start_date=second, end_date=second, order="call_start_ASC") == expected


@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
@pytest.mark.parametrize("limit", [1_000, 1_337, CALLS, 20_000])
def test_given_a_limit_when_all_pages_are_read_then_they_add_up_to_the_list(data, limit, order):
    """Each page has `limit` rows; the one after the last is empty."""
    whole = read(data, limit=20_000, order=order)
    pages = [read(data, page=page, limit=limit, order=order) for page in range(1, -(-CALLS // limit) + 2)]
    assert [row for page in pages for row in page] == whole
    assert [len(page) for page in pages[:-2]] == [limit] * (len(pages) - 2)
    assert pages[-1] == []


def test_given_a_page_number_when_read_then_the_rows_that_offset_skips_are_counted(data):
    """Page 3 of 100 rows skips 200; a page after the end skips all rows and no more."""
    assert data.find({"page": "3", "limit": "100"}).skipped == 200
    assert data.find({"page": "9000", "limit": "100"}).skipped == CALLS


def test_given_a_cap_when_more_is_requested_then_pages_have_the_size_of_the_cap():
    """Pages are counted in steps of the cap."""
    data = CallData(1_000, cap=300)
    whole = read(data, order="call_start_ASC", limit=1_000)
    assert len(whole) == 300
    assert whole + read(data, order="call_start_ASC", limit=1_000, page=2) == everything(data)[:600]


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
def test_given_a_wrong_parameter_when_read_then_it_is_refused(data, parameters):
    """The server refuses what the endpoint refuses, so that no program is measured with a wrong query."""
    with pytest.raises(RefusedError):
        data.find(parameters)


def test_given_rows_with_insights_when_generated_then_they_have_about_seven_kilobytes():
    """They contain whole transcriptions, and are valid JSON."""
    data = CallData(200, kind="insights")
    rows = everything(data)
    assert all(row["transcriptions"][0]["phrases"] for row in rows)
    assert 6_000 < len(data._ascending[0]) / len(rows) < 9_000


async def send(reader, writer, path, *lines_of_header):
    """One request on an open connection; its status, headers and body."""
    lines = [f"GET {path} HTTP/1.1", "Host: loopback", *lines_of_header, "", ""]
    writer.write("\r\n".join(lines).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


@pytest.fixture
async def connection():
    """A running server and one connection to it."""
    service = Service(CallData(1_000))
    server = await serve(service)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    yield service, reader, writer
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_given_one_connection_when_many_requests_are_sent_then_each_is_served(connection):
    """The connection is kept over pages, refusals and unknown paths."""
    service, reader, writer = connection
    status, _, body = await send(reader, writer, f"{ENDPOINT}?limit=10&order=call_start_ASC")
    assert (status, json.loads(body)) == (200, everything(service.data)[:10])
    assert (await send(reader, writer, f"{ENDPOINT}?limit=0"))[0] == 400
    assert (await send(reader, writer, "/elsewhere"))[0] == 404
    _, _, stats = await send(reader, writer, "/stats")
    counted = json.loads(stats)
    assert (counted["requests"], counted["refused"], counted["rows"], counted["connections"]) == (2, 1, 10, 1)


async def test_given_settings_when_reset_then_only_those_named_change(connection):
    """`/reset` changes the settings it names and sets all counters to zero."""
    service, reader, writer = connection
    await send(reader, writer, "/reset?latency=0.001&cap=7&bandwidth=50")
    assert (service.settings.latency, service.settings.cap, service.settings.bandwidth) == (0.001, 7, 50.0)
    _, _, body = await send(reader, writer, f"{ENDPOINT}?limit=100")
    assert len(json.loads(body)) == 7
    await send(reader, writer, "/reset?cap=20000")
    assert (service.settings.latency, service.counters.requests) == (0.001, 0)


async def test_given_gzip_when_the_client_does_not_accept_it_then_the_page_is_plain(connection):
    """A compressed page holds the same calls."""
    _, reader, writer = connection
    await send(reader, writer, "/reset?gzip=1")
    path = f"{ENDPOINT}?limit=50"
    _, plain, body = await send(reader, writer, path)
    _, packed, small = await send(reader, writer, path, "Accept-Encoding: gzip, deflate")
    assert "content-encoding" not in plain
    assert packed["content-encoding"] == "gzip"
    assert gzip.decompress(small) == body


async def test_given_a_slow_page_when_the_client_disconnects_then_the_request_is_no_longer_in_flight(
    connection,
):
    """It is counted as abandoned."""
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
def test_given_a_bandwidth_when_two_pages_are_sent_then_they_share_it(bandwidth, delays):
    """Two pages of a megabyte at the same time follow each other over one megabyte a second."""
    service = Service(CallData(10))
    service.settings.latency = 0.5
    service.settings.bandwidth = bandwidth
    page = service.data.find({"limit": "10"})
    assert [service.delay(page, 1_000_000, now=100.0) for _ in delays] == pytest.approx(delays)


@pytest.fixture(scope="module")
def service():
    """A benchmark server in its own process, as the benchmarks use it."""
    with harness.server(12_000) as running:
        yield running


# dlt takes seconds to import; `python -m benchmarks --smoke`, which `.ci/run` runs, checks it as well.
QUICK = [program for program in PROGRAMS.values() if not program.name.startswith("dlt")]


@pytest.mark.subprocess
@pytest.mark.sweep(8)
@pytest.mark.parametrize("program", QUICK, ids=lambda program: program.name)
def test_given_a_program_when_run_then_it_receives_every_call_once(service, program):
    """Each program receives exactly the calls of the range, and its figures are recorded."""
    if missing := program.missing():
        pytest.skip(f"not installed: {', '.join(missing)}")
    figures = harness.run(service, program, settings={"latency": 0.002}, watch=True)
    assert figures["calls"] == (10_000 if program.name == "httpx_page" else 12_000)
    assert figures["requests"] >= 1
    assert figures["peak_mb"] > figures["base_mb"] > 0
    assert figures["cpu"] > 0 < figures["wall"]
    if not program.writes:
        assert 0 < figures["first_record"] <= figures["wall"]


def test_given_a_program_that_lost_calls_when_run_then_it_is_an_error(service, monkeypatch):
    """Figures with missing calls never reach a table."""
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


def test_given_rounds_when_compared_then_ratios_are_taken_within_a_round():
    """The median of the ratios is not the ratio of the medians."""
    made = comparison((1.0, 2.0), (4.0, 10.0), (1.0, 3.0))
    assert made.ratio("stream", "httpx_gather", "cpu") == pytest.approx(0.4)
    assert made.median("stream", "cpu") == 1.0
    assert made.ratio("stream", "httpx_gather", "stall_ms") is None


def test_given_goals_when_judged_then_each_is_met_at_or_below_its_figure():
    """A goal whose peer did not run is left out."""
    made = comparison((1.0, 2.0))
    goals = tuple(
        harness.Goal("stream", peer, "cpu", most)
        for peer, most in (("httpx_gather", 0.5), ("httpx_gather", 0.4), ("dlt_client", 1.0))
    )
    assert [judged["met"] for judged in made.judged(goals)] == [True, False]
    assert "MISSED" in tables.verdicts(made, goals)
    assert "httpx + gather" in tables.table(made)


def test_given_stored_results_when_drawn_then_the_charts_are_valid_svg(tmp_path):
    """They parse, name every program and have both colour schemes."""
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


@pytest.mark.parametrize("document", documents.DOCUMENTS, ids=lambda path: path.name)
def test_given_the_results_when_the_documents_are_written_then_nothing_changes(document):
    """So every figure of the documents is in the file of results; `python -m benchmarks --write-docs` writes them."""
    text = document.read_text()
    assert "<!-- figures: " in text
    assert documents.current(text, harness.read_results()) == text
    assert text != documents.current(text, {})


def test_given_other_results_when_a_document_is_written_then_only_its_tables_change(tmp_path):
    """Text around the tables stays, and what was not measured is said."""
    harness.keep("throughput", full_comparison().to_dict(), harness.Options(results=tmp_path))
    text = "before\n<!-- figures: programs -->\nold\n<!-- end of figures -->\nbetween\n"
    text += "<!-- figures: growth -->\n<!-- end of figures -->\nafter\n"
    written = documents.current(text, harness.read_results(tmp_path))
    assert "old" not in written
    assert "| iovox_async: stream | 150,000 |" in written
    assert "not measured" in written
    assert written.startswith("before\n<!-- figures: programs -->\n300,000 calls, ")
    assert written.endswith("<!-- end of figures -->\nafter\n")


def full_comparison():
    run = {"wall": 2.0, "bytes": 98e6, "cpu_us": 3.0, "peak_mb": 70.0, "first_record": 0.1, "stall_ms": 9.0}
    setting = {"calls": 300_000, "latency": 0.1, "concurrency": 8, "runs": 1}
    return harness.Comparison("title", setting, [{"stream": run}])


@pytest.mark.parametrize("highest", [0.05, 0.7, 1, 9, 14, 88, 935, 12_000])
def test_given_a_highest_value_when_an_axis_is_drawn_then_it_has_three_to_eight_steps(highest):
    """At any scale."""
    assert 2.5 <= highest / pictures._step(highest) <= 8
