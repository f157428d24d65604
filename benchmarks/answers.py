"""The calls that the benchmark server hands out, made once and served as slices of one buffer.

The law of this room: an answer is two bisections and one slice, so that the server is never what is measured.
Rows are plain text from arithmetic: the same calls on every machine and in every run.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left, bisect_right
from datetime import date, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

Shape = Literal["smooth", "daily"]
FaultKind = Literal["default", "insights"]

EPOCH = datetime(2000, 1, 1)  # every moment here is a count of seconds since then, in account-local time
FIRST_DAY = date(2023, 1, 2)  # a Monday
CALLS_A_DAY = 10_000 / 3  # 300,000 calls are a quarter of a year
MAX_LIMIT = 20_000
DEFAULT_LIMIT = 10_000

# Calls an hour over a working day, and the weight of each day of the week: what a call centre looks like.
_HOURS = (1, 1, 1, 1, 2, 4, 10, 30, 70, 100, 110, 105, 85, 95, 105, 100, 90, 70, 45, 30, 20, 10, 5, 2)
_WEEKDAYS = (1.1, 1.0, 1.0, 1.0, 0.95, 0.45, 0.25)

_RESULTS = (b"ANSWERED", b"ANSWERED", b"ANSWERED", b"ANSWERED", b"NO ANSWER", b"BUSY", b"ANSWERED", b"HANGUP")

# The twelve keys of the endpoint's own sample of the default fields, in its order.
_DEFAULT_ROW = (
    b'{"id": %d, "call_start": "%b", "call_end": "%b", "talk_time": "%b", "call_origin": "4475%08d", '
    b'"iovox_number": "44127308%04d", "call_destination": "4420354%05d", "talk_time_sec": %d, '
    b'"call_result": "%b", "node_id": "%d", "link_id": "%d", "has_recording": "%b"%b}'
)


class Page(NamedTuple):
    """One answer: the rows `first .. last-1` of the list in the asked order, and how many were skipped to get there."""

    first: int
    last: int
    skipped: int
    descending: bool

    @property
    def rows(self) -> int:
        return self.last - self.first


class RefusedError(ValueError):
    """A parameter the endpoint refuses with 400; the message is the endpoint's own."""


class Answers:
    """All calls of one imaginary account, sorted by `call_start`.

    Args:
        calls: how many there are.
        shape: `smooth` spreads them evenly; `daily` follows working hours and weekdays.
        kind: `default` is the endpoint's default fields, about 330 bytes a call; `insights` adds a transcription
            and its phrases, about 7 KB a call.
        cap: the most rows an answer holds, whatever was asked for.
    """

    def __init__(
        self, calls: int, shape: Shape = "daily", kind: FaultKind = "default", cap: int = MAX_LIMIT
    ) -> None:
        self.calls = calls
        self.cap = cap
        self.moments = _moments(calls, shape)
        tails = _insights() if kind == "insights" else (b"",)
        self._ascending = _rows(self.moments, tails)
        self._descending: tuple[bytes | bytearray, array[int]] | None = None

    @property
    def start(self) -> str:
        """The second of the first call, as the endpoint writes it."""
        return _text(self.moments[0])

    @property
    def end(self) -> str:
        """The second of the last call."""
        return _text(self.moments[-1])

    @property
    def checksum(self) -> int:
        """The sum of all ids: a pull that has it, and the right count, has every call once."""
        return sum(map(_identity, range(self.calls)))

    def find(self, parameters: dict[str, str]) -> Page:
        """The rows that answer `parameters`, the parameters of one request.

        Raises:
            RefusedError: a parameter is one the endpoint answers with 400.
        """
        limit = _integer(parameters.get("limit"), DEFAULT_LIMIT, "Limit not an integer")
        page = _integer(parameters.get("page"), 1, "Page number not an integer")
        if not 1 <= limit <= MAX_LIMIT:
            raise RefusedError("Limit must be between 1 and 20000")
        order = parameters.get("order", "call_start_DESC")
        if order not in {"call_start_ASC", "call_start_DESC"}:
            raise RefusedError("Order Field Invalid")
        low, high = 0, self.calls
        if "start_date" in parameters:
            low = bisect_left(self.moments, _moment(parameters["start_date"], 0, "Start Date invalid"))
        if "end_date" in parameters:
            high = bisect_right(self.moments, _moment(parameters["end_date"], 86_399, "End Date invalid"))
        descending = order.endswith("DESC")
        if descending:
            low, high = self.calls - high, self.calls - low
        limit = min(limit, self.cap)
        first = min(low + (max(page, 1) - 1) * limit, max(low, high))
        last = max(first, min(first + limit, high))
        return Page(first, last, first - low, descending)

    def body(self, page: Page) -> memoryview:
        """The rows of `page`, comma between, without the brackets around them. No copy is made."""
        buffer, offsets = self._reversed() if page.descending else self._ascending
        if not page.rows:
            return memoryview(b"")
        return memoryview(buffer)[offsets[page.first] : offsets[page.last] - 1]

    def _reversed(self) -> tuple[bytes | bytearray, array[int]]:
        if self._descending is None:
            buffer, offsets = self._ascending
            self._descending = _join(
                (bytes(buffer[offsets[row] : offsets[row + 1] - 1]) for row in reversed(range(self.calls))),
            )
        return self._descending


def _moments(calls: int, shape: Shape) -> array[int]:
    days = max(1, round(calls / CALLS_A_DAY))
    first = (datetime.combine(FIRST_DAY, datetime.min.time()) - EPOCH).days * 86_400
    if shape == "smooth":
        return array("q", (first + call * days * 86_400 // calls for call in range(calls)))
    weights = [hour * _WEEKDAYS[day % 7] for day in range(days) for hour in _HOURS]
    shares = [0.0, *accumulate(weights)]
    # Cumulative shares are rounded, not the hours themselves, so that the hours add up to all calls.
    marks = [round(calls * share / shares[-1]) for share in shares]
    moments = array("q")
    for hour, (begin, end) in enumerate(pairwise(marks)):
        moments.extend(first + hour * 3600 + call * 3600 // (end - begin) for call in range(end - begin))
    return moments


def _identity(call: int) -> int:
    return 30_683_000_000_000 + call * 256 + (call * 97 & 255)


def _rows(moments: array[int], tails: tuple[bytes, ...]) -> tuple[bytes | bytearray, array[int]]:
    clock = [b"%02d:%02d:%02d" % (s // 3600, s // 60 % 60, s % 60) for s in range(86_400)]
    first_day = moments[0] // 86_400
    last_day = moments[-1] // 86_400 + 2  # a call may end after midnight
    days = [str((EPOCH + timedelta(days=day)).date()).encode() + b" " for day in range(first_day, last_day)]

    def text(moment: int) -> bytes:
        day, second = divmod(moment, 86_400)
        return days[day - first_day] + clock[second]

    def row(call: int, moment: int) -> bytes:
        noise = (
            call * 2_654_435_761 & 0xFFFF_FFFF
        )  # Knuth's multiplicative hash: scattered, and the same anywhere
        result = _RESULTS[noise >> 7 & 7]
        talk = noise >> 10 & 511 if result == b"ANSWERED" else 0
        return _DEFAULT_ROW % (
            _identity(call),
            text(moment),
            text(moment + talk + (noise & 31)),
            clock[talk],
            noise % 100_000_000,
            noise >> 5 & 1023,
            noise >> 9 & 4095,
            talk,
            result,
            noise >> 3 & 63,
            noise >> 4 & 511,
            b"TRUE" if talk else b"FALSE",
            tails[noise >> 6 & len(tails) - 1],
        )

    return _join(row(call, moment) for call, moment in enumerate(moments))


def _join(rows) -> tuple[bytearray, array[int]]:
    buffer, offsets = bytearray(), array("q", (0,))
    for row in rows:
        buffer += row
        buffer += b","
        offsets.append(len(buffer))
    return buffer, offsets


def _insights() -> tuple[bytes, ...]:
    """64 endings of a row with what the insights fields add, 4 to 10 KB each, 7 KB on average."""
    words = [
        "hello",
        "this",
        "is",
        "john",
        "speaking",
        "how",
        "can",
        "i",
        "help",
        "you",
        "yes",
        "i",
        "called",
        "yesterday",
        "about",
        "the",
        "gold",
        "one",
        "and",
        "your",
        "colleague",
        "said",
        "there",
        "was",
        "someone",
        "already",
        "good",
        "to",
        "see",
        "it",
        "is",
        "it",
        "still",
        "available",
        "unfortunately",
        "it",
        "has",
        "been",
        "sold",
        "okay",
        "thank",
        "you",
        "we",
        "do",
        "have",
        "a",
        "few",
        "others",
        "which",
        "are",
        "similar",
        "in",
        "price",
        "could",
        "i",
        "pop",
        "by",
        "tomorrow",
        "at",
        "twelve",
        "that",
        "sounds",
        "great",
    ]
    tails = []
    for talk in range(64):
        phrases = []
        for turn in range(24 + (talk * 37 & 63) // 2):
            length = 3 + (talk * 31 + turn * 17) % 14
            said = " ".join(words[(talk * 7 + turn * 11 + word) % len(words)] for word in range(length))
            phrases.append(
                {
                    "phrase": said,
                    "speaker": "caller" if turn % 2 else "called",
                    "start": turn * 4_000,
                    "end": turn * 4_000 + 250 * length,
                    "turn": turn,
                }
            )
        extra = {
            "node_name": "Brighton Motors",
            "link_name": "Brighton Motors",
            "direction": "IN",
            "comments": [],
            "call_outcomes": [],
            "transcriptions": [
                {
                    "transcription_id": f"AYfm_84yRn5pZWax{talk:04d}",
                    "language": "en",
                    "text": "\n".join(phrase["phrase"] for phrase in phrases),
                    "phrases": phrases,
                }
            ],
            "tags": [{"text": "sale", "colour": "GREEN", "source_type": "USER"}],
        }
        tails.append(b", " + json.dumps(extra).encode()[1:-1])
    return tuple(tails)


def _text(moment: int) -> str:
    return str(EPOCH + timedelta(seconds=moment))


def _moment(text: str, bare: int, refusal: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RefusedError(refusal) from None
    seconds = (moment - EPOCH).days * 86_400 + (moment - EPOCH).seconds
    return seconds + bare if len(text) == len("2024-01-01") else seconds


def _integer(text: str | None, default: int, refusal: str) -> int:
    if text is None:
        return default
    if not text.isdigit():
        raise RefusedError(refusal)
    return int(text)
