"""The generated calls: repeatable, and like those of real dealers."""

import re
from collections import Counter
from datetime import date, datetime

import pytest

from iovox_async.sandbox import Sandbox

#: Prefixes of the number ranges that Ofcom reserves for drama; three digits follow.
RESERVED_PREFIXES = {
    *("447700900", "441134960", "441144960", "441154960", "441164960", "441174960", "441214960", "441314960"),
    *("441414960", "441514960", "441614960", "441914980", "442079460", "442896496", "442920180", "441632960"),
    "443069990",
}


@pytest.fixture(scope="module")
def rows():
    """6,000 calls of a quarter."""
    return Sandbox(calls=6_000).rows()


def test_given_a_seed_when_used_again_then_the_calls_are_the_same():
    """Given two sandboxes with one seed, when compared, then they are equal; another seed gives other calls."""
    first, again, other = (Sandbox(calls=300, seed=seed).rows() for seed in (4, 4, 5))
    assert first == again != other


def test_given_a_number_of_calls_when_generated_then_as_many_lie_in_the_range(rows):
    """Given 6,000 calls, when generated, then each has its own id and they cover the first to the last day."""
    assert len(rows) == len({row["id"] for row in rows}) == 6_000
    days = {row["call_start"][:10] for row in rows}
    assert (min(days), max(days), len(days)) == ("2024-01-01", "2024-03-31", 91)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        pytest.param("2024-05-05", "2024-05-05", id="a-day"),
        pytest.param(date(2024, 5, 5), datetime(2024, 5, 5, 0, 0, 9), id="ten-seconds"),
        pytest.param("2024-05-05 10:20:30", "2024-05-05 10:20:30", id="one-second"),
    ],
)
def test_given_a_short_range_when_generated_then_it_has_all_calls(start, end):
    """Given a range as short as a second, when more calls are generated than it has ids, then all exist."""
    sandbox = Sandbox(calls=2_500, start=start, end=end)
    assert len(sandbox.ids(start, end)) == 2_500
    assert len(set(sandbox.ids())) == 2_500


def test_given_generated_calls_when_checked_then_all_numbers_are_reserved_for_drama(rows):
    """Given generated calls, when their numbers are checked, then all lie in ranges reserved for drama."""
    for row in rows:
        for name in ("call_origin", "iovox_number", "call_destination"):
            assert row[name] == "" or (row[name][:-3] in RESERVED_PREFIXES and len(row[name]) == 12)


def test_given_generated_calls_when_grouped_by_time_then_they_follow_opening_hours(rows):
    """Given generated calls, when grouped by hour and weekday, then most are in opening hours and Mondays are busiest."""
    starts = [datetime.fromisoformat(row["call_start"]) for row in rows]
    in_opening_hours = sum(9 <= start.hour < 18 for start in starts)
    assert in_opening_hours > 0.88 * len(rows)
    days = Counter(start.weekday() for start in starts)
    assert days[0] > days[2] > days[5] > days[6] > 0


def test_given_generated_calls_when_grouped_by_caller_then_some_call_often(rows):
    """Given generated calls, when grouped by caller, then some call often and many once."""
    calls = Counter(row["call_origin"] for row in rows if row["call_origin"] and row["direction"] == "IN")
    assert calls.most_common(1)[0][1] > 20
    assert sum(count == 1 for count in calls.values()) > 100


def test_given_generated_calls_when_grouped_by_result_then_shares_are_realistic(rows):
    """Given generated calls, when grouped by result, then about 72 % are answered, and only those have talk time."""
    results = Counter(row["call_result"] for row in rows)
    assert 0.68 < results["ANSWERED"] / len(rows) < 0.76
    assert set(results) == {"ANSWERED", "NO ANSWER", "BUSY", "VOICEMAIL", "FAILED"}
    assert {row["call_result"] for row in rows if row["talk_time_sec"]} == {"ANSWERED"}
    for name in ("direction", "call_type", "has_recording", "email_alert", "node_type", "rule_result"):
        assert len({row[name] for row in rows}) >= 2, name


def test_given_transcribed_calls_when_checked_then_phrases_and_keyword_counts_match_the_text(rows):
    """Given transcriptions, when checked, then phrases are in order and within the talk time, and keyword counts are right."""
    transcribed = [row for row in rows if row["transcriptions"]]
    assert 0.30 < len(transcribed) / len(rows) < 0.36
    assert len({row["transcriptions"][0]["transcription_id"] for row in transcribed}) == len(transcribed)
    for row in transcribed:
        [transcription] = row["transcriptions"]
        phrases = transcription["phrases"]
        assert transcription["text"] == "\n".join(phrase["phrase"] for phrase in phrases)
        assert not re.search("[{}]|@@", transcription["text"])
        assert row["node_name"] in phrases[0]["phrase"]
        times = [phrase[name] for phrase in phrases for name in ("start", "end")]
        assert times == sorted(times)
        assert times[-1] <= row["talk_time_sec"] * 1000
        assert [phrase["turn"] for phrase in phrases] == list(range(len(phrases)))
        assert {phrase["speaker"] for phrase in phrases} == {"caller", "called"}
    counted_rules = Counter()
    for row in transcribed[:300]:
        for rule in row["keyword_rules"]:
            for keyword in rule["keywords"]:
                text = row["transcriptions"][0]["text"]
                assert (
                    len(re.findall(rf"\b{keyword['keyword']}\b", text, re.IGNORECASE)) == keyword["count"] > 0
                )
                counted_rules[rule["keyword_rule"]] += 1
    assert len(counted_rules) > 6


def test_given_comments_and_tasks_when_checked_then_they_are_later_than_the_call(rows):
    """Given comments and tasks, when checked, then a few calls have them, and they are later than the call."""
    for column, share in ("comments", 0.02), ("tasks", 0.02):
        selected = [row for row in rows if row[column]]
        assert share < len(selected) / len(rows) < 0.06
        assert all(item["created"] > row["call_start"] for row in selected for item in row[column])
    assert {len(row["comments"]) for row in rows} == {0, 1, 2}
