"""The sandbox's calls: drawn from a seed, like those of real dealers, and changed while somebody reads."""

import re
import threading
from collections import Counter
from datetime import date, datetime, timedelta

import httpx
import pytest

from iovox_async.errors import QueryError
from iovox_async.sandbox import Sandbox

KNOWN = {"username": "demo", "secureKey": "demo-key"}
#: Beginnings of the ranges that Ofcom keeps for drama; three digits follow.
NOBODYS = {
    *("447700900", "441134960", "441144960", "441154960", "441164960", "441174960", "441214960", "441314960"),
    *("441414960", "441514960", "441614960", "441914980", "442079460", "442896496", "442920180", "441632960"),
    "443069990",
}


@pytest.fixture(scope="module")
def rows():
    """12,000 calls of a quarter."""
    return Sandbox(calls=12_000).rows()


# ------------------------------------------------------------------------------------------------ the seed


def test_a_seed_draws_the_same_calls():
    """To the last word, and another seed draws others."""
    first, again, other = (Sandbox(calls=300, seed=seed).rows() for seed in (4, 4, 5))
    assert first == again != other


def test_there_are_as_many_calls_as_asked_within_the_range(rows):
    """Each id once, first and last day included."""
    assert len(rows) == len({row["id"] for row in rows}) == 12_000
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
def test_a_short_range_holds_all_its_calls(start, end):
    """More than a second has ids for, too."""
    sandbox = Sandbox(calls=2_500, start=start, end=end)
    assert len(sandbox.ids(start, end)) == 2_500
    assert len(set(sandbox.ids())) == 2_500


def test_no_call_is_anybodys(rows):
    """All numbers lie in ranges that are kept for drama."""
    for row in rows:
        for name in ("call_origin", "iovox_number", "call_destination"):
            assert row[name] == "" or (row[name][:-3] in NOBODYS and len(row[name]) == 12)


def test_dealers_are_open_by_day_and_busier_on_mondays(rows):
    """Hours and weekdays have their rhythm."""
    starts = [datetime.fromisoformat(row["call_start"]) for row in rows]
    open_ = sum(9 <= start.hour < 18 for start in starts)
    assert open_ > 0.88 * len(rows)
    days = Counter(start.weekday() for start in starts)
    assert days[0] > days[2] > days[5] > days[6] > 0


def test_people_call_again(rows):
    """Some often, many once."""
    calls = Counter(row["call_origin"] for row in rows if row["call_origin"] and row["direction"] == "IN")
    assert calls.most_common(1)[0][1] > 20
    assert sum(count == 1 for count in calls.values()) > 100


def test_results_have_their_shares(rows):
    """And only who was answered talked."""
    results = Counter(row["call_result"] for row in rows)
    assert 0.68 < results["ANSWERED"] / len(rows) < 0.76
    assert set(results) == {"ANSWERED", "NO ANSWER", "BUSY", "VOICEMAIL", "FAILED"}
    assert {row["call_result"] for row in rows if row["talk_time_sec"]} == {"ANSWERED"}
    for name in ("direction", "call_type", "has_recording", "email_alert", "node_type", "rule_result"):
        assert len({row[name] for row in rows}) >= 2, name


def test_a_third_is_transcribed_and_the_words_fit(rows):
    """Phrases follow each other within the talk; what the rules heard was said; the dealer says his own name."""
    spoken = [row for row in rows if row["transcriptions"]]
    assert 0.30 < len(spoken) / len(rows) < 0.36
    assert len({row["transcriptions"][0]["transcription_id"] for row in spoken}) == len(spoken)
    for row in spoken:
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
    heard = Counter()
    for row in spoken[:300]:
        for rule in row["keyword_rules"]:
            for keyword in rule["keywords"]:
                text = row["transcriptions"][0]["text"]
                assert (
                    len(re.findall(rf"\b{keyword['keyword']}\b", text, re.IGNORECASE)) == keyword["count"] > 0
                )
                heard[rule["keyword_rule"]] += 1
    assert len(heard) > 6


def test_comments_and_tasks_come_after_the_call(rows):
    """Some calls have them, a few have two comments."""
    for column, share in ("comments", 0.02), ("tasks", 0.02):
        with_ = [row for row in rows if row[column]]
        assert share < len(with_) / len(rows) < 0.06
        assert all(item["created"] > row["call_start"] for row in with_ for item in row[column])
    assert {len(row["comments"]) for row in rows} == {0, 1, 2}


# ---------------------------------------------------------------------------------------------- live data


def test_added_calls_are_as_described_and_else_as_drawn():
    """Every kind of field can be given; what is not given is drawn, and hangs together."""
    sandbox = Sandbox(calls=10)
    tags = [{"text": 'Äpfel "und" Birnen\n', "colour": "RED", "source_type": "user"}]
    given = {
        "id": 42,
        "call_start": datetime(2024, 1, 5, 10, 0, 0),
        "talk_time": timedelta(seconds=75),
        "call_time": "00:01:30",
        "node_name": 'Quote " and \\ Söhne',
        "has_recording": True,
        "call_origin": None,
        "tags": tags,
        "comments": [],
        "categories": {"call_categories": [{"category_id": "9", "label": "a", "value": "b"}]},
    }
    assert sandbox.add([given]) == [42]
    [row] = sandbox.rows(id=42)
    assert (row["call_start"], row["call_end"]) == ("2024-01-05 10:00:00", "2024-01-05 10:01:30")
    assert (row["talk_time"], row["talk_time_sec"], row["has_recording"]) == ("00:01:15", 75, "TRUE")
    assert (row["node_name"], row["call_origin"], row["tags"]) == (given["node_name"], "", tags)
    assert row["categories"]["call_categories"] == given["categories"]["call_categories"]
    assert row["link_name"] != ""
    assert sandbox.ids(tag_text=tags[0]["text"]) == sandbox.ids(call_category_ids="9") == [42]
    assert sandbox.inserted_ids == {42}


def test_calls_arrive_at_random_times_or_in_one_burst():
    """By number, or many alike in one second."""
    sandbox = Sandbox(calls=0, start="2024-01-01", end="2024-01-31")
    assert len(set(sandbox.add(200))) == 200
    assert len({row["call_start"] for row in sandbox.rows()}) > 150
    burst = sandbox.add([{"call_start": "2024-01-15 12:00:00"}] * 1_500)
    assert sorted(burst) == sorted(
        set(sandbox.ids("2024-01-15 12:00:00", "2024-01-15 12:00:00")) & set(burst)
    )
    assert sandbox.inserted_ids == set(sandbox.ids())


def test_a_transcript_comes_late():
    """A call changes after it was first seen, under views of the field too."""
    sandbox = Sandbox(calls=20)
    number = next(row["id"] for row in sandbox.rows() if not row["transcriptions"])
    others = [row for row in sandbox.rows(fields=["id", "transcription_text"]) if row["id"] != number]
    said = [{"transcription_id": "t1", "language": "en", "text": "hello", "phrases": []}]
    sandbox.update(number, transcriptions=said, talk_time_sec=600)
    [row] = sandbox.rows(id=number)
    assert (row["transcriptions"], row["talk_time"]) == (said, "00:10:00")
    ends = datetime.fromisoformat(row["call_end"]) - datetime.fromisoformat(row["call_start"])
    assert ends == timedelta(seconds=row["call_time_sec"]) >= timedelta(seconds=600)
    [row] = sandbox.rows(fields=["id", "transcription_text"], id=number)
    assert row == {"id": number, "transcriptions": [{"text": "hello"}]}
    assert [row for row in sandbox.rows(fields=["id", "transcription_text"]) if row["id"] != number] == others


def test_a_list_of_one_may_come_as_an_object():
    """As the vendor's older answers have it; of the object too only what is asked for is answered."""
    sandbox = Sandbox(calls=0)
    comment = {"comment_id": "c1", "created": "2024-01-02 10:00:00", "text": "Call back"}
    [number] = sandbox.add([{"comments": comment, "tags": None}])
    [row] = sandbox.rows(fields=["comment_text", "tag_text"], id=number)
    assert row == {"comments": {"text": "Call back"}, "tags": None}
    assert sandbox.rows(id=number)[0]["comments"] == comment


def test_a_call_can_move_in_time():
    """Its end moves along, unless it is set."""
    sandbox = Sandbox(calls=5)
    first = sandbox.ids()[0]
    lasts = sandbox.rows(id=first)[0]["call_time_sec"]
    sandbox.update(first, call_start="2024-03-31 22:00:00")
    [row] = sandbox.rows(id=first)
    assert row["call_end"] == str(datetime(2024, 3, 31, 22) + timedelta(seconds=lasts))
    assert sandbox.ids()[-1] == first
    sandbox.update(first, call_end="2024-03-31 22:00:01")
    assert sandbox.rows(id=first)[0]["call_end"] == "2024-03-31 22:00:01"


def test_removed_calls_are_gone():
    """Those that were there are counted and remembered."""
    sandbox = Sandbox(calls=30)
    before = sandbox.ids()
    assert sandbox.remove([*before[:3], 17]) == 3
    assert sandbox.ids() == before[3:]
    assert sandbox.deleted_ids == set(before[:3])


def test_all_or_nothing_is_added():
    """A mistake in the last of many leaves none of them."""
    sandbox = Sandbox(calls=3)
    before = sandbox.ids()
    with pytest.raises(ValueError, match="nonsense"):
        sandbox.add([{"call_start": "2024-01-01"}, {"nonsense": 1}])
    assert (sandbox.ids(), sandbox.inserted_ids) == (before, frozenset())
    sandbox.add([{"tags": [{"text": "later", "colour": "RED", "source_type": "user"}]}])
    assert len(sandbox.ids(tag_text="later")) == 1


HALF_A_PAIR = "\ud800"
#: Descriptions that no answer could hold, and the name that is wrong.
UNHEARD_OF = {
    "id-of-70-bits": ("id", {"id": 2**70}),
    "no-id": ("id", {"id": None}),
    "truth-that-is-none": ("has_recording", {"has_recording": "YES"}),
    "negative-duration": ("talk_time", {"talk_time": -5}),
    "negative-clock": ("talk_time", {"talk_time": "-00:00:05"}),
    "ninety-minutes": ("call_time", {"call_time": "00:90:00"}),
    "endless-duration": ("talk_time_sec", {"talk_time_sec": 2**70}),
    "beyond-the-calendar": ("call_time", {"call_time": 10**12}),
    "half-a-pair": ("node_name", {"node_name": HALF_A_PAIR}),
    "half-a-pair-in-a-list": ("tags", {"tags": [{"text": HALF_A_PAIR}]}),
    "no-json": ("comments", {"comments": [object()]}),
    "categories-without-names": ("categories", {"categories": [{"category_id": "9"}]}),
}


@pytest.mark.parametrize("case", UNHEARD_OF)
def test_a_description_that_cannot_be_is_refused_and_spoils_nothing(case):
    """By name, for a new call as for an old one, and what comes after is as if it had not been."""
    name, given = UNHEARD_OF[case]
    sandbox = Sandbox(calls=3)
    before = sandbox.rows()
    tags = [{"text": "later", "colour": "RED", "source_type": "user"}]
    for refused in (
        lambda: sandbox.add([{"tags": tags, **given}]),
        lambda: sandbox.update(before[0]["id"], **{"tags": tags, **given}),
    ):
        with pytest.raises(QueryError) as caught:
            refused()
        assert caught.value.parameter == name
        assert sandbox.rows() == before
    sandbox.update(before[0]["id"], tags=tags)
    assert sandbox.rows(id=before[0]["id"])[0]["tags"] == tags


def test_a_number_beyond_all_ids_is_nobodys():
    """There is nothing to remove or to change."""
    sandbox = Sandbox(calls=3)
    assert sandbox.remove([2**70]) == len(sandbox.ids(id=2**70)) == 0
    with pytest.raises(QueryError, match="must be the id of a call"):
        sandbox.update(2**70, talk_time=3)


def test_threads_may_change_what_requests_read():
    """Every answer is one snapshot: a pair that arrives together is never seen alone."""
    sandbox = Sandbox(calls=0)
    done = threading.Event()

    def arrive():
        for _ in range(60):
            pair = sandbox.add([{"call_start": "2024-01-02"}, {"call_start": "2024-03-02"}])
            sandbox.remove(pair) if len(sandbox.inserted_ids) % 3 == 0 else None
        done.set()

    writer = threading.Thread(target=arrive)
    with sandbox.serve() as base_url, httpx.Client(base_url=base_url, headers=KNOWN) as client:
        writer.start()
        counts = []
        while not done.is_set():
            query = {"start_date": "2024-01-01", "end_date": "2024-03-31", "response_fields": "id,tag_text"}
            counts.append(len(client.get("/calls/insights", params=query).json()))
        writer.join()
    assert all(count % 2 == 0 for count in counts)
