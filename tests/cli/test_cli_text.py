"""Formatting, progress and the command that continues a run, without a running command."""

import os

import click
import pytest

from iovox_async import Call, StreamStats, make_converter
from iovox_async._wording import format_bytes, format_count
from iovox_async.backfill import BackfillProgress, BackfillReport
from iovox_async.cli.base import Command
from iovox_async.cli.console import (
    escape_controls,
    format_call,
    format_duration,
)
from iovox_async.cli.progress import (
    RateEstimator,
    backfill_summary,
    can_draw_bar,
    format_progress,
    stream_summary,
)
from iovox_async.cli.resume import resume_command


@pytest.mark.parametrize(
    ("text", "escaped"),
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
def test_control_characters_are_replaced(text, escaped):
    """Given a text, when escaped, then control characters are replaced and letters of all languages stay."""
    assert escape_controls(text) == escaped


def test_figures_are_readable():
    """Given counts, bytes and seconds, when formatted, then they have separators, units and the right plural."""
    assert format_count(1234567) == "1,234,567"
    assert [format_count(n, "retry", "retries") for n in (0, 1, 2)] == ["0 retries", "1 retry", "2 retries"]
    assert format_count(2, "call") == "2 calls"
    assert format_bytes(31_200_000) == "31.2 MB"
    assert [format_duration(n) for n in (5, 125.9, 3725)] == ["00:05", "02:05", "1:02:05"]


def test_call_line_has_the_requested_fields():
    """Given a call, when formatted as a line, then requested fields are in columns and others are left out."""
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
    assert format_call(call) == (
        "2024-02-26 04:39:59  ANSWERED  02:05  447700900001 > 443069990001  Brighton Motors  #hot"
    )
    bare = converter.structure({"id": 7, "call_start": "2024-02-26 04:39:59"}, Call)
    bare.call_start = None
    assert format_call(bare) == "call 7"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["2024-01-01", "--limit=9"], "iovox read 2024-01-01 --limit 4 --resume p"),
        (["--resume", "old", "--limit", "9", "x y"], "iovox read 'x y' --limit 4 --resume p"),
        (["--removed", "YESTERDAY", "--kept=a"], "iovox read --kept=a --limit 4 --resume p"),
    ],
    ids=["equals sign", "replaced", "left out"],
)
def test_resume_command_replaces_options(arguments, line):
    """Given a command as typed, when the command that continues is built, then new options replace the old ones."""
    lines = []

    @click.command("read", cls=Command)
    @click.argument("first", required=False)
    @click.option("--limit")
    @click.option("--resume")
    @click.option("--removed")
    @click.option("--kept")
    @click.pass_context
    def read(ctx, **_):
        lines.append(resume_command(ctx, {"--limit": "4", "--resume": "p"}, without={"--removed"}))

    read.main(arguments, prog_name="read", standalone_mode=False)
    assert lines == [line]


def test_bar_is_not_drawn_where_another_program_may_write(monkeypatch, tmp_path):
    """Given a terminal, when stdout is a pipe or the terminal, then there is no bar for data on it; for a file there is."""
    terminals = {"stderr"}
    monkeypatch.setattr("iovox_async.cli.progress.is_terminal", lambda name: name in terminals)
    monkeypatch.setenv("TERM", "xterm")
    read, write = os.pipe()
    with os.fdopen(read), os.fdopen(write, "w") as pipe, (tmp_path / "calls.jsonl").open("w") as file:
        monkeypatch.setattr("sys.stdout", pipe)
        assert not can_draw_bar(data_to_stdout=True)
        assert can_draw_bar()  # the data goes to -o FILE
        monkeypatch.setattr("sys.stdout", file)
        assert can_draw_bar(data_to_stdout=True)
        terminals.add("stdout")
        assert not can_draw_bar(data_to_stdout=True)


def test_rate_and_remaining_time_follow_recent_samples():
    """Given samples, when too few or without progress, then no time is left; else rate and time follow recent ones."""
    rate = RateEstimator(20.0)
    rate.add(BackfillProgress(progress=0.0), 0.0)
    rate.add(BackfillProgress(progress=0.1, calls=100), 1.0)
    assert rate.seconds_left is None
    rate.add(BackfillProgress(progress=0.25, calls=1000), 5.0)
    assert (rate.seconds_left, rate.calls_per_second) == (15.0, 200.0)
    rate.add(BackfillProgress(progress=0.25, calls=1000), 40.0)
    assert rate.seconds_left is None


def test_progress_line_has_retries_and_skipped_records_only_if_any():
    """Given figures of a backfill, when formatted, then zero retries and skipped records are left out."""
    rate = RateEstimator(20.0)
    for now, share in ((0.0, 0.0), (10.0, 0.5)):
        rate.add(BackfillProgress(progress=share, calls=int(share * 2000)), now)
    progress = BackfillProgress(
        progress=0.5, calls=1000, bytes_received=2_000_000, last_partition="2024-01-05"
    )
    assert format_progress(progress, rate) == "2024-01-05  1,000 calls  100/s  2.0 MB  00:10 left"
    assert "1 retry  2 skipped" in format_progress(BackfillProgress(retries=1, skipped=2), rate)


def test_stream_summary_is_one_line():
    """Given the figures of a stream, when summarized, then calls, rate, requests, retries, bytes and time are named."""
    stats = StreamStats(calls=1000, requests=12, retries=1, bytes_received=2_000_000)
    expected = "1,000 calls, 500 per second, 12 requests, 1 retry, 2.0 MB in 2.0 s"
    assert stream_summary(stats, 2.0) == expected


def test_backfill_summary_names_mismatches_and_open_partitions():
    """Given a verification with 12 mismatches, when summarized, then 10 are named, and open partitions are counted."""
    report = BackfillReport(
        total_calls=5,
        open_partitions=("2024-01-05",),
        verified=12,
        mismatched_partitions=tuple(map(str, range(12))),
    )
    first, last = backfill_summary(report, "out").splitlines()
    assert first.startswith(
        "12 partitions verified, 12 mismatches downloaded again: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more ("
    )
    assert last == "out contains 5 calls; 1 partition may still change"


def test_backfill_summary_names_rare_events_if_any():
    """Given retries, window splits and skipped records, when summarized, then each is counted."""
    report = BackfillReport(
        partitions=1,
        partitions_skipped=2,
        calls=3,
        bytes_received=4000,
        requests=6,
        retries=1,
        window_splits=2,
        skipped=1,
        elapsed=0.5,
    )
    assert backfill_summary(report, "out", with_total=False) == (
        "1 partition written, 2 already complete: 3 calls, 4.0 kB in 6 requests, 1 retry, 2 window splits, "
        "1 record skipped, 0.5 s"
    )
