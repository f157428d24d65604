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
    "lone surrogate": b'[{"id": 1, "call_start": "2024-02-26 04:39:59", "new": "\xed\xa0\x80"}]',
    "no UTF-8": b'[{"id": 1, "call_start": "2024-02-26 04:39:59", "call_result": "\xff"}]',
    "huge exponent": b'[{"id": 1, "call_start": "2024-02-26 04:39:59", "new": 1e999}]',
}
