"""The parts of the command line, each by itself."""

import asyncio
import os
import threading

import pytest
import rich_click as click

from iovox_async import (
    BackfillError,
    Call,
    ConfigurationError,
    QueryError,
    RecordError,
    StreamStats,
    TransportError,
)
from iovox_async._encoding import CsvEncoder, JsonLinesEncoder, escape_formula
from iovox_async._parsing.lenient import make_converter
from iovox_async.cli.app import iovox
from iovox_async.cli.call_line import line
from iovox_async.cli.console import clean, number, size, span
from iovox_async.cli.errors import in_options
from iovox_async.cli.progress import StreamRate, can_draw, summary
from iovox_async.cli.resume_command import Remembering, again
from iovox_async.cli.threads import in_thread


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-", "'-"),
        ("+447598455773", "+447598455773"),
        ("-5", "-5"),
        ("-0.25", "-0.25"),
        ("", ""),
        ("a=1", "a=1"),
        ("'=1", "'=1"),
        ("-\u0663", "'-\u0663"),
    ],
)
def test_what_a_spreadsheet_would_run_is_made_text(text, written):
    """Formulas get a ' in front; numbers and other texts stay."""
    assert escape_formula(text) == written


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("two\nlines", "two\nlines"),
        ("Zoë \u4f60\u597d \U0001f600", "Zoë \u4f60\u597d \U0001f600"),
        ("\x1b]0;title\x07", "\ufffd]0;title\ufffd"),
        ("a\rb\x9b1mc", "a\ufffdb\ufffd1mc"),
        ("a\u202eb\u2066c", "a\ufffdb\ufffdc"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
    ],
    ids=["plain", "lines", "letters", "title", "carriage return", "directions", "joiner"],
)
def test_a_terminal_obeys_no_text(text, shown):
    """Control characters are shown as such; letters of all languages stay."""
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (QueryError("start_date", "no"), "--start: no"),
        (QueryError("id", "no"), "--id: no"),
        (QueryError("response_fields", "no"), "--fields: no"),
        (QueryError("node_name", "no"), "--node-name: no"),
        (QueryError("max_calls", "no"), "--max: no"),
        (ConfigurationError("base_url: no"), "IOVOX_URL: no"),
        (ConfigurationError("timezone: no"), "--timezone: no"),
        (BackfillError("x is damaged: --repair (repair=True) reads it"), "x is damaged: --repair reads it"),
        (QueryError("end_date", "1 lies before start_date 2"), "--end: 1 lies before --start 2"),
        (
            TransportError("no. Check the address (base_url= or IOVOX_URL)"),
            "no. Check the address (IOVOX_URL)",
        ),
        (
            QueryError("start_date", "give the session the account's timezone="),
            "--start: give the session the account's --timezone",
        ),
        (
            RecordError(3, "$[3].id", "no"),
            "$[3].id: no. Pass --on-error skip to leave such records out and count them",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_speak_of_options(error, told):
    """What a message names is what the user can type."""
    assert in_options(error) == told


@pytest.mark.parametrize(
    ("command", "told"), [("calls", "START: no"), ("backfill", "--start: no"), ("follow", "--since: no")]
)
def test_errors_speak_of_what_the_command_takes(command, told):
    """One takes the dates as arguments, another as options."""
    with click.Context(iovox.commands[command]):
        assert in_options(QueryError("start_date", "no")) == told


def test_no_bar_is_drawn_where_something_else_may_write(monkeypatch, tmp_path):
    """What reads a pipe most likely writes to the same terminal; a file does not."""
    monkeypatch.setattr("iovox_async.cli.progress.at_terminal", lambda name: name == "stderr")
    monkeypatch.setenv("TERM", "xterm")
    read, write = os.pipe()
    with os.fdopen(read), os.fdopen(write, "w") as pipe, (tmp_path / "calls.jsonl").open("w") as file:
        monkeypatch.setattr("sys.stdout", pipe)
        assert not can_draw(data_to_stdout=True)
        assert can_draw()  # the data goes to -o FILE
        monkeypatch.setattr("sys.stdout", file)
        assert can_draw(data_to_stdout=True)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["2024-01-01", "--max=9"], "iovox read 2024-01-01 --max 4 --resume p"),
        (["--resume", "old", "--max", "9", "x y"], "iovox read 'x y' --max 4 --resume p"),
        (["--gone", "YESTERDAY", "--kept=a"], "iovox read --kept=a --max 4 --resume p"),
    ],
    ids=["equals", "old ones", "left out"],
)
def test_the_line_that_goes_on_can_be_pasted(words, line):
    """As it was typed, with the new options in place of the old ones."""
    told = []

    @click.command("read", cls=Remembering)
    @click.argument("first", required=False)
    @click.option("--max")
    @click.option("--resume")
    @click.option("--gone")
    @click.option("--kept")
    @click.pass_context
    def read(ctx, **_):
        told.append(again(ctx, {"--max": "4", "--resume": "p"}, without={"--gone"}))

    read.main(words, prog_name="read", standalone_mode=False)
    assert told == [line]


def test_numbers_sizes_and_durations_read_well():
    """As people write them."""
    assert number(1234567) == "1,234,567"
    assert [number(n, "retry", "retries") for n in (0, 1, 2)] == ["0 retries", "1 retry", "2 retries"]
    assert size(31_200_000) == "31.2 MB"
    assert [span(n) for n in (5, 125.9, 3725)] == ["00:05", "02:05", "1:02:05"]


def test_a_call_in_a_line_shows_what_was_asked_for():
    """Columns for what is there, nothing for what is not."""
    converter = make_converter()
    call = converter.structure(
        {
            "id": 7,
            "call_start": "2024-02-26 04:39:59",
            "call_result": "ANSWERED",
            "talk_time": "00:02:05",
            "call_origin": "447700900001",
            "iovox_number": "443069990001",
            "node_name": "Brighton\nMotors",
            "tags": [{"text": "hot", "colour": "RED"}],
        },
        Call,
    )
    assert line(call) == (
        "2024-02-26 04:39:59  ANSWERED  02:05  447700900001 > 443069990001  Brighton Motors  #hot"
    )
    bare = converter.structure({"id": 7, "call_start": "2024-02-26 04:39:59"}, Call)
    bare.call_start = None
    assert line(bare) == "call 7"


def test_a_meter_is_below_its_end_until_the_end_and_knows_its_limit():
    """With a limit on the calls, the share follows whichever is further."""
    meter = StreamRate(lambda: StreamStats(calls=30, progress=0.1), limit=40)
    assert meter.look()[0] == 0.75
    assert StreamRate(lambda: StreamStats(calls=30, progress=0.1)).look()[0] == 0.1


def test_the_summary_is_one_line():
    """Calls, rate, requests, retries, bytes, time."""
    stats = StreamStats(calls=1000, requests=12, retries=1, bytes=2_000_000)
    assert summary(stats, 2.0) == "1,000 calls, 500 a second, 12 requests, 1 retry, 2.0 MB in 2.0 s"


def test_nothing_is_written_for_no_calls():
    """An empty range is an empty JSON Lines file, and a head of CSV."""
    assert (JsonLinesEncoder(()).header(), JsonLinesEncoder(()).encode([])) == (b"", b"")
    assert (CsvEncoder(["id", "tag_text"]).header(), CsvEncoder(["id"]).encode([])) == (b"id,tags\n", b"")


async def test_a_thread_gives_its_result_or_raises_its_error():
    """As if it had been called here."""
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


async def test_a_cancelled_wait_lets_a_call_that_is_nearly_done_end():
    """So what was written is known to be written."""
    release, done = threading.Event(), []

    def work():
        release.wait(10)
        done.append(True)

    task = asyncio.create_task(in_thread(work))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


async def test_a_cancelled_wait_gives_up_a_call_that_hangs(monkeypatch):
    """A reader that sleeps holds up nobody."""
    monkeypatch.setattr("iovox_async.cli.threads.GRACE", 0.01)
    release = threading.Event()
    task = asyncio.create_task(in_thread(release.wait, 10))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
