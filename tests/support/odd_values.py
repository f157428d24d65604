"""Values that a server may send in the place of the documented ones, for the tests of every decoder.

A test of a decoder takes a table and compares with the lenient converter, which reads all of these by rule.
"""

import math
from datetime import datetime, timedelta

from iovox_async.models import Categories, Phrase, Tag, Transcription

START = datetime(2024, 2, 26, 4, 39, 59)
#: The smallest record.
RECORD = {"id": 1, "call_start": "2024-02-26 04:39:59"}
#: A record of the default fields.
ROW = {
    "id": 7,
    "call_start": "2024-02-26 04:39:59",
    "call_end": "2024-02-26 04:42:15",
    "talk_time": "00:02:05",
    "talk_time_sec": 125,
    "call_result": "ANSWERED",
    "has_recording": "TRUE",
}

#: Fields and values that the lenient converter reads: the value of the record, and how many values count as coerced.
READABLE_VALUES = [
    ("node_id", "2", "2", 0),
    ("node_id", "", "", 0),
    ("node_id", None, None, 0),
    ("node_id", 2, "2", 1),
    ("node_id", -(10**30), "-1" + "0" * 30, 1),
    ("call_result", "A NEW RESULT", "A NEW RESULT", 0),
    ("email_alert", "TRUE", "TRUE", 0),
    ("email_alert", True, "TRUE", 1),
    ("email_alert", False, "FALSE", 1),
    ("talk_time_sec", 99, 99, 0),
    ("talk_time_sec", None, None, 0),
    ("talk_time_sec", "99", 99, 1),
    ("talk_time_sec", " -99 ", -99, 1),
    ("talk_time_sec", 99.0, 99, 1),
    ("talk_time_sec", "", None, 1),
    ("id", "30683207599876", 30683207599876, 1),
    ("has_recording", "TRUE", True, 0),
    ("has_recording", "FALSE", False, 0),
    ("has_recording", "true", True, 1),
    ("has_recording", True, True, 1),
    ("has_recording", False, False, 1),
    ("has_recording", 1, True, 1),
    ("has_recording", "0", False, 1),
    ("has_recording", "", None, 1),
    ("has_recording", None, None, 0),
    ("talk_time", "00:02:05", timedelta(seconds=125), 0),
    ("talk_time", "100:00:00", timedelta(hours=100), 0),
    ("talk_time", "-00:00:05", timedelta(seconds=-5), 0),
    ("talk_time", "0:2:5", timedelta(seconds=125), 0),
    ("talk_time", "00:00:01.5", timedelta(seconds=1.5), 0),
    ("talk_time", 125, timedelta(seconds=125), 1),
    ("talk_time", 1.5, timedelta(seconds=1.5), 1),
    ("talk_time", "125", timedelta(seconds=125), 1),
    ("talk_time", "-1.5", timedelta(seconds=-1.5), 1),
    ("talk_time", "", None, 1),
    ("talk_time", None, None, 0),
    ("call_end", "2024-02-26 04:39:59", START, 0),
    ("call_end", "2024-02-26T04:39:59", START, 0),
    ("call_end", "2024-02-26 04:39:59.25", START.replace(microsecond=250_000), 0),
    ("call_end", " 2024-02-26 04:39:59 ", START, 1),
    ("call_end", "2024-02-26 04:39", START.replace(second=0), 1),
    ("call_end", "2024-02-26 04", START.replace(minute=0, second=0), 1),
    ("call_end", "2024-02-26", datetime(2024, 2, 26), 1),
    ("call_end", "", None, 1),
    ("call_end", None, None, 0),
    ("categories", {}, Categories(), 0),
    ("categories", [], Categories(), 1),
    ("categories", None, None, 0),
    ("categories", "", None, 1),
    ("tags", [], [], 0),
    ("tags", None, [], 0),
    ("tags", "", [], 1),
    ("tags", {}, [], 1),
    ("tags", {"text": "a"}, [Tag("a")], 1),
    ("tags", [{"text": 5}], [Tag("5")], 1),
    ("tags", {"1": {"text": "a"}, "3": {"text": "b"}}, [Tag("a"), Tag("b")], 1),
    ("tags", {"10": {"text": "a"}, "9": {"text": "b"}, "010": {}}, [Tag("b"), Tag("a"), Tag()], 1),
    ("tags", {"0": {"colour": "RED", "new": 1}}, [Tag(colour="RED", extra={"new": 1})], 1),
    ("call_outcomes", {"1": "Sale", "3": {"a": 1}}, ["Sale", {"a": 1}], 1),
    (
        "transcriptions",
        {"2": {"phrases": {"5": {"turn": 1}, "7": {"turn": 2}}}},
        [Transcription(phrases=[Phrase(turn=1), Phrase(turn=2)])],
        2,
    ),
    ("call_outcomes", ["Sale", {"a": 1}, None, 5], ["Sale", {"a": 1}, None, 5], 0),
    ("call_outcomes", {"a": 1}, [{"a": 1}], 1),
    ("call_outcomes", "Sale", ["Sale"], 1),
    ("call_outcomes", 0, [0], 1),
    ("call_outcomes", "", [], 1),
    ("transcriptions", {"phrases": {"turn": "1"}}, [Transcription(phrases=[Phrase(turn=1)])], 3),
]
#: Fields and values that no record can hold.
INVALID_VALUES = [
    ("id", None),
    ("id", ""),
    ("id", "abc"),
    ("id", 1.5),
    ("id", True),
    ("id", {}),
    ("call_start", None),
    ("call_start", ""),
    ("call_start", "0000-00-00 00:00:00"),
    ("call_start", "yesterday"),
    ("call_start", 1708922399),
    ("call_start", "2024-02-30 00:00:00"),
    ("call_end", "2024-02-26 25:00:00"),
    ("call_end", "2024-02-26 04:39:59+01:00"),
    ("call_end", "9999-12-31 23:59:59-23:59"),
    ("call_end", "26/02/2024"),
    ("call_end", True),
    ("talk_time_sec", 1.5),
    ("talk_time_sec", math.nan),
    ("talk_time_sec", math.inf),
    ("talk_time_sec", 1e300),
    ("talk_time_sec", False),
    ("talk_time_sec", "1.5"),
    ("talk_time_sec", "9" * 5000),
    ("talk_time_sec", "٣"),
    ("talk_time", "02:05"),
    ("talk_time", "00:60:00"),
    ("talk_time", "00:00:99"),
    ("talk_time", True),
    ("talk_time", math.nan),
    ("talk_time", 1e300),
    ("talk_time", 10**400),
    ("talk_time", "PT5S"),
    ("has_recording", "MAYBE"),
    ("has_recording", 2),
    ("has_recording", []),
    ("node_id", 1.5),
    ("node_id", []),
    ("node_id", {}),
    ("node_id", 10**5000),
    ("categories", "a"),
    ("categories", [{"link_categories": []}]),
    ("categories", 5),
    ("tags", {"data": [{"text": "a"}]}),
    ("tags", {"1": {"text": "a"}, "x": {"text": "b"}}),
    ("tags", "a"),
    ("tags", 5),
    ("tags", False),
]

#: Every nested field, with values.
NESTED = {
    "categories": {
        "link_categories": [{"category_id": "", "label": "a", "value": "b"}],
        "call_categories": [],
    },
    "comments": [{"comment_id": "1", "created": "2024-02-26 05:00:00", "text": "Grüße 🎉"}],
    "tags": [{"text": "Sale", "colour": "RED"}, {"text": "x"}],
    "tasks": [{"username": "a", "reminder_date": "", "due_date": None}],
    "keyword_rules": [{"keyword_rule": "r", "keywords": [{"keyword": "k", "count": 2}]}],
    "transcriptions": [
        {"text": "Hi", "phrases": [{"phrase": "Hi", "speaker": "caller", "start": 0, "end": 9}]}
    ],
}
#: Pages with values that every server sends: nulls, blanks, empty lists, unknown keys.
COMMON_PAGES = {
    "no rows": [],
    "all lists": [{**ROW, **NESTED}, ROW],
    "null lists": [{**ROW, **dict.fromkeys(NESTED)}],
    "empty lists": [{**ROW, **{name: [] for name in NESTED if name != "categories"}, "categories": {}}],
    "null lists within": [
        {
            **ROW,
            "categories": {"link_categories": None},
            "keyword_rules": [{"keywords": None}],
            "transcriptions": [{}],
        }
    ],
    "blank date": [{**ROW, "call_end": "", "id": 1}, {**ROW, "id": 2}],
    "blank dates only": [{**ROW, "call_end": ""}],
    "several blanks in a row": [
        {**ROW, "call_end": "", "talk_time": "", "has_recording": ""},
        {**ROW, "id": 8},
    ],
    "blank dates in two tasks": [ROW, {**ROW, "id": 8, "tasks": [{"created": ""}, {"due_date": ""}, {}]}],
    "a T in a date, and fractions": [
        {**ROW, "call_start": "2024-02-26T04:39:59.25", "call_end": "2024-02-26 04:42:15.123456"}
    ],
    "long and negative durations": [{**ROW, "talk_time": "123:45:06", "call_time": "-00:00:05"}],
    "durations of a day and less": [
        {**ROW, "talk_time": "23:59:59"},
        {**ROW, "id": 8, "talk_time": "24:00:00"},
    ],
    "no duration": [{**ROW, "talk_time": None}],
    "durations in other forms": [{**ROW, "talk_time": "125", "call_time": "0:2:5.5"}],
    "bools in other forms": [{**ROW, "has_recording": "true"}, {**ROW, "id": 8, "has_recording": "0"}],
    "null values": [{**dict.fromkeys(ROW), "id": 1, "call_start": "2024-02-26 04:39:59"}],
    "unknown keys": [
        {**ROW, "new": [{"a": "2024-01-01"}, {"b": 1.5}], "newer": None},
        {**ROW, "id": 8},
        {**ROW, "new": [], "id": 9},
    ],
    "an unknown key called extra": [{**ROW, "extra": "x"}],
    "unknown key out of ASCII": [{**ROW, "schlüssel": "ß", "": 0}],
    "call outcomes of one kind": [{**ROW, "call_outcomes": [{"outcome": "2024-01-01"}]}, {**ROW, "id": 8}],
    "no call outcomes": [{**ROW, "call_outcomes": []}, {**ROW, "call_outcomes": None, "id": 8}],
    "null among call outcomes": [{**ROW, "call_outcomes": [None]}],
    "escapes": [{**ROW, "call_result": '\0\x1f"\\/\u2028 😀 \n'}],
    "escaped pair": rb'[{"id": 1, "call_start": "2024-02-26 04:39:59", "call_result": "\ud83d\ude00\u0000"}]',
    "before 1970": [
        {**ROW, "call_end": "1969-12-31 23:59:59"},
        {**ROW, "id": 8, "call_end": "0001-01-02 00:00:00"},
    ],
}
#: Pages with values in another form than documented, or that no record can hold.
UNUSUAL_PAGES = {
    "call outcomes of several kinds": [
        {**ROW, "call_outcomes": ["Sale", {"a": 1.5}, None]},
        {**ROW, "call_outcomes": None, "id": 8},
    ],
    "unknown keys of control characters": [{**ROW, "\x1f": 1}, {**ROW, "id": 8, '"': 2}],
    "number as text": [{**ROW, "id": "7"}],
    "text as number": [{**ROW, "call_result": 5}],
    "bool as JSON boolean": [{**ROW, "has_recording": True}],
    "duration as number": [{**ROW, "talk_time": 125}],
    "duration without seconds": [{**ROW, "talk_time": "00:02+01"}, {**ROW, "id": 8, "talk_time": "00:02"}],
    "object for a list": [{**ROW, "tags": {"text": "a"}}],
    "object of whole numbers for a list": [{**ROW, "tags": {"3": {"text": "b"}, "1": {"text": "a"}}}],
    "object that is no part for a list": [ROW, {**ROW, "id": 8, "tags": {"data": [{"text": "a"}]}}],
    "list for an object": [{**ROW, "categories": []}],
    "blank list": [{**ROW, "tags": "", "categories": ""}],
    "date of zeros": [{**ROW, "call_end": "0000-00-00 00:00:00"}],
    "year 0": [{**ROW, "call_end": "0000-01-01 00:00:00"}],
    "short date": [{**ROW, "call_end": "2024-02-26"}],
    "date with minutes": [{**ROW, "call_end": "2024-02-26 04:39"}],
    "date with an offset": [{**ROW, "call_end": "2024-02-26 04:39+01"}],
    "date with Z": [{**ROW, "call_end": "2024-02-26 04:39:59Z"}],
    "date in blanks": [{**ROW, "call_end": " 2024-02-26 04:39:59 "}],
    "unknown key in a part": [{**ROW, "tags": [{"text": "a", "new": 1}]}],
    "name as asked": [{**ROW, "talk_time_seconds": 5, "call_time_seconds": 6}],
    "null in a list": [{**ROW, "tags": [None]}],
    "null among rows": [ROW, None],
    "no object": [ROW, 5],
    "no id": [{key: value for key, value in ROW.items() if key != "id"}],
    "null for the start": [ROW, {**ROW, "call_start": None}],
    "blank start": [ROW, {**ROW, "call_start": ""}],
    "big number of a part": [{**ROW, "transcriptions": [{"phrases": [{"start": "x"}]}]}],
    "outcomes that are no list": [{**ROW, "call_outcomes": {"a": 1}}, {**ROW, "id": 8, "call_outcomes": "x"}],
    "unknown key of two kinds": [{**ROW, "new": 1}, {**ROW, "id": 8, "new": "x"}],
    "very many unknown keys": [{**ROW, **{f"key{place}": place for place in range(70)}}],
    "keys that are data": [{**ROW, "id": place, "new": {f"key{place}": place}} for place in range(70)],
    "keys that are data, in a part": [
        {**ROW, "id": place, "tags": [{f"key{place}": place}]} for place in range(70)
    ],
    "duplicate key": b'[{"id": 1, "id": 2, "call_start": "2024-02-26 04:39:59"}]',
    "huge exponent": b'[{"id": 1, "call_start": "2024-02-26 04:39:59", "new": 1e999}]',
}

_BROKEN = b'{"id": 8, "call_start": "2024-02-26 04:39:59", %s}'
#: Rows with a text that makes JSON invalid, each with the members of the record that is made of it.
BROKEN_TEXTS = {
    "first half of an emoji": (rb'"call_result": "a\ud83d"', {"call_result": "a\ufffd"}),
    "second half of an emoji": (rb'"call_result": "\uDE00 a"', {"call_result": "\ufffd a"}),
    "half an emoji, then a whole one": (
        rb'"call_result": "\ud83d\ud83d\ude00"',
        {"call_result": "\ufffd\U0001f600"},
    ),
    "halves in the wrong order": (rb'"call_result": "\ude00\ud83d."', {"call_result": "\ufffd\ufffd."}),
    "half an emoji before another escape": (
        rb'"call_result": "\ud83d\n\u0041"',
        {"call_result": "\ufffd\nA"},
    ),
    "a backslash and letters, no escape": (
        rb'"call_result": "\\ud83d", "node_name": "\ud83d"',
        {"call_result": r"\ud83d", "node_name": "\ufffd"},
    ),
    "half an emoji that is not escaped": (
        b'"call_result": "a\xed\xa0\xbd"',
        {"call_result": "a\ufffd\ufffd\ufffd"},
    ),
    "Latin-1": (b'"call_result": "caf\xe9"', {"call_result": "caf\ufffd"}),
    "half an emoji in a part": (rb'"tags": [{"text": "\ud83d"}]', {"tags": [{"text": "\ufffd"}]}),
    "half an emoji deep in a part": (
        rb'"transcriptions": [{"phrases": [{"phrase": "\ud83d"}]}]',
        {"transcriptions": [{"phrases": [{"phrase": "\ufffd"}]}]},
    ),
    "half an emoji in an outcome": (rb'"call_outcomes": ["\ud83d"]', {"call_outcomes": ["\ufffd"]}),
    "half an emoji in an unknown key": (rb'"new \ud83d": 1', {"new \ufffd": 1}),
    "half an emoji in the value of an unknown key": (rb'"new": {"a": "\ud83d"}', {"new": {"a": "\ufffd"}}),
    "half an emoji in a key of a part": (rb'"tags": [{"\ud83d": 1}]', {"tags": [{"\ufffd": 1}]}),
    "control characters": (b'"call_result": "a\tb\x01\r\n"', {"call_result": "a\tb\x01\r\n"}),
    "an escape that does not exist": (
        rb'"call_result": "O\'Neill \x"',
        {"call_result": "O\ufffd'Neill \ufffdx"},
    ),
    "an escape that was cut": (rb'"call_result": "a\ud8"', {"call_result": "a\ufffdud8"}),
}
#: Rows that cannot be read at all.
BROKEN_ROWS = {
    "NaN": b'"talk_time_sec": NaN',
    "infinity": b'"talk_time_sec": -Infinity',
    "NaN in a part": b'"transcriptions": [{"phrases": [{"start": NaN}]}]',
    "NaN in an unknown key": b'"new": [NaN]',
    "half an emoji in a date": rb'"call_end": "\ud83d"',
    "half an emoji in the id": rb'"id": "\ud83d"',
    "half an emoji in the start": rb'"call_start": "2024-02-26 04:39:59\ud83d"',
}


def broken_page(members):
    """A page with this row between two ordinary ones."""
    good = b'{"id": %d, "call_start": "2024-02-26 04:39:59"}'
    return b"[" + b", ".join((good % 7, _BROKEN % members, good % 9)) + b"]"
