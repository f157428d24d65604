"""Generates the sandbox's calls from a seed.

An account of car dealers is drawn first: dealers (nodes), the phone numbers that each advertises (links), a few thousand
callers who call repeatedly, and conversations. Then each call is drawn from its start second and a random source.

Invariants:

- The same seed gives the same calls. Each random source depends only on its label and numbers, never on earlier draws.
- Every phone number lies in a range that Ofcom reserves for drama, so it belongs to no one.
  Source: Ofcom, "Telephone numbers for use in TV and radio drama programmes".
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import attrs

from . import _transcripts
from ._columns import NESTED, SCALARS
from ._fragments import FragmentPool
from ._timestamps import DAY, HOUR, format_timestamp

#: Columns of the store's table, in order.
COLUMNS = (*(name for name in SCALARS if not name.endswith("_seconds")), *NESTED)

#: The endpoint's ids grow by about a thousand a second.
_ID_BASE, _IDS_PER_SECOND = 28_974_285_200_000, 1_000
#: First id for the calls of a second that has no free id left.
_ID_OVERFLOW = 10**15
_CALLER_COUNT = 4_000
_CONVERSATIONS_PER_SCRIPT = 32
#: Share of the answered calls that are transcribed; about a third of all calls.
_TRANSCRIBED = 0.46
_CONTACTS = (("Type", "Trade"), ("Type", "Private"), ("Rating", "VIP"))
_DEPARTMENTS = tuple(dict.fromkeys(script.category for script in _transcripts.SCRIPTS))

#: First nine digits of numbers, and the location that the endpoint gives for them; three digits follow.
_MOBILE = ("447700900", "MOBILE,UNITED KINGDOM")
_LANDLINES = tuple(
    (prefix, f"{area},UNITED KINGDOM")
    for prefix, area in (
        ("441134960", "LEEDS"), ("441144960", "SHEFFIELD"), ("441154960", "NOTTINGHAM"), ("441164960", "LEICESTER"),
        ("441174960", "BRISTOL"), ("441214960", "BIRMINGHAM"), ("441314960", "EDINBURGH"), ("441414960", "GLASGOW"),
        ("441514960", "LIVERPOOL"), ("441614960", "MANCHESTER"), ("441914980", "TYNESIDE"), ("442079460", "LONDON"),
        ("442896496", "NORTHERN IRELAND"), ("442920180", "CARDIFF"),
    )
)  # fmt: skip
_DESTINATION_PREFIX = "441632960"
_IOVOX_PREFIX = "443069990"

_CITIES = (
    "Brighton", "London", "Leeds", "Bristol", "Cardiff", "Glasgow", "Norwich", "York", "Exeter", "Derby",
    "Oxford", "Preston", "Swansea", "Dundee", "Ipswich", "Luton", "Kendal", "Truro", "Hove", "Bath",
)  # fmt: skip
_TRADES = ("Motors", "Cars", "Garage", "Autos & Sons")
_CAMPAIGNS = ("Website", "Print", "Auto Trader", "Google Ads", "Radio", "Van livery")

Row = list[Any]


def seeded_random(*parts: object) -> random.Random:
    """Returns a random source that depends on `parts` alone."""
    return random.Random(" ".join(map(str, parts)))  # noqa: S311 - test data


@attrs.frozen
class Link:
    """An advertised number of a node, with what all its calls have in common."""

    node_id: str
    node_name: str
    node_type: str
    link_id: str
    link_name: str
    link_type: str
    iovox_number: str
    destination: str
    #: Fragment numbers.
    link_categories: int
    node_categories: int


class _StoredConversation(NamedTuple):
    """A conversation whose lists are replaced by their fragment numbers."""

    talk_time: int
    call_categories: int
    transcriptions: int
    tags: int
    keyword_rules: int
    call_outcomes: int


class _Account(NamedTuple):
    """What is drawn from a seed before the first call."""

    fragments: FragmentPool
    #: Each repeated according to its share of the calls.
    links: list[Link]
    conversations: list[_StoredConversation]
    #: Number, location, and the fragment number of the contact's categories.
    callers: list[tuple[str, str, int]]
    #: The fragment number of a list with one tag.
    manual_tag: int


def _phone_number(prefix: str, number: int) -> str:
    return f"{prefix}{number % 1000:03d}"


def _category(number: int | str, label: str, value: str) -> dict[str, str]:
    return {"category_id": str(number), "label": label, "value": value}


def _draw_links(rng: random.Random, fragments: FragmentPool) -> list[Link]:
    """Draws the links of all nodes; each is repeated according to its share of the calls."""
    links: list[Link] = []
    number = 0
    for index, city in enumerate(_CITIES):
        name = f"{city} {rng.choice(_TRADES)}"
        node_type = rng.choice(("", "", "dealership", "service centre"))
        node_categories = [
            _category(200 + index % 4, "Region", ("North", "South", "East", "West")[index % 4]),
            # The documentation's own sample has categories without an id.
            _category("", "Group", "Dealership"),
        ]
        # Some dealers are called ten times as often as others.
        share = 1 + int(9 * rng.random() ** 3)
        for campaign in rng.sample(_CAMPAIGNS, rng.randrange(1, 5)):
            number += 1
            link = Link(
                node_id=str(index + 1),
                node_name=name,
                node_type=node_type,
                link_id=str(50 + number),
                link_name=f"{name} {campaign}",
                link_type="default-type" if campaign != "Print" else "print",
                iovox_number=_phone_number(_IOVOX_PREFIX, number * 7),
                destination=_phone_number(_DESTINATION_PREFIX, index * 11 + 5),
                link_categories=fragments.number(
                    "link_categories", [_category(100 + _CAMPAIGNS.index(campaign), "Campaign", campaign)]
                ),
                node_categories=fragments.number("node_categories", node_categories),
            )
            links.extend([link] * (share * rng.randrange(1, 4)))
    return links


def _draw_callers(rng: random.Random) -> list[tuple[str, str]]:
    callers = []
    for _ in range(_CALLER_COUNT):
        prefix, location = _MOBILE if rng.random() < 0.6 else rng.choice(_LANDLINES)
        callers.append((_phone_number(prefix, rng.randrange(1000)), location))
    return callers


def _store_conversation(
    conversation: _transcripts.Conversation, fragments: FragmentPool
) -> _StoredConversation:
    categories = []
    if name := conversation.category:
        categories.append(_category(300 + _DEPARTMENTS.index(name), "Department", name))
    return _StoredConversation(
        conversation.talk_time,
        fragments.number("call_categories", categories),
        fragments.number("transcriptions", conversation.transcriptions),
        fragments.number("tags", conversation.tags),
        fragments.number("keyword_rules", conversation.keyword_rules),
        fragments.number("call_outcomes", conversation.call_outcomes),
    )


@functools.lru_cache(maxsize=8)
def _draw_account(seed: int) -> _Account:
    # Cached: it takes a tenth of a second, and a test suite makes hundreds of sandboxes with one seed.
    rng, fragments = seeded_random("town", seed), FragmentPool()
    links = _draw_links(rng, fragments)
    contacts = [
        fragments.number("contact_categories", [_category(400 + index, *contact)])
        for index, contact in enumerate(_CONTACTS)
    ]
    callers = [
        (*caller, contacts[rng.randrange(len(contacts))] if rng.random() < 0.15 else 0)
        for caller in _draw_callers(rng)
    ]
    conversations = [
        stored
        for script in _transcripts.SCRIPTS
        for _ in range(_CONVERSATIONS_PER_SCRIPT)
        for stored in [_store_conversation(_transcripts.draw_conversation(script, rng), fragments)]
        * script.weight
    ]
    follow_up = {"text": "Follow up", "colour": "GOLD", "source_type": "user"}
    return _Account(fragments, links, conversations, callers, fragments.number("tags", [follow_up]))


class CallGenerator:
    """Generates the calls of one seed; lists inside calls are kept in `fragments`."""

    def __init__(self, seed: int) -> None:
        fragments, self._links, self._conversations, self._callers, self._manual_tag = _draw_account(seed)
        self.fragments = fragments.copy()
        self._overflow_ids = itertools.count(_ID_OVERFLOW)

    def draw_calls(self, count: int, start: int, end: int, rng: random.Random) -> Iterator[Row]:
        """Draws `count` calls that start between `start` and `end`, both included, in order of time."""
        ids: set[int] = set()
        for timestamp in draw_timestamps(count, start, end, rng):
            row = self.draw_call(timestamp, rng)
            while row[0] in ids:
                row[0] = self.draw_id(timestamp, rng)
            ids.add(row[0])
            yield row

    def draw_id(self, timestamp: int, rng: random.Random) -> int:
        """Draws another id for a call whose first id is taken."""
        if rng.random() < 0.5:
            return _ID_BASE + timestamp * _IDS_PER_SECOND + int(rng.random() * _IDS_PER_SECOND)
        return next(self._overflow_ids)

    def draw_call(self, timestamp: int, rng: random.Random) -> Row:
        """Draws a call that starts at `timestamp`, as the values of `COLUMNS`."""
        r = rng.random
        link = self._links[int(r() * len(self._links))]
        # Squared, so that the first callers in the list call repeatedly.
        caller, location, contact = self._callers[int(r() ** 2 * len(self._callers))]
        if r() < 0.03:
            caller = location = ""
        result, rule, talk_time, recorded = self._draw_result(link, rng)
        categories = transcriptions = tags = keyword_rules = call_outcomes = comments = tasks = 0
        if result == "ANSWERED":
            if r() < _TRANSCRIBED:
                conversation = self._conversations[int(r() * len(self._conversations))]
                talk_time, categories, transcriptions, tags, keyword_rules, call_outcomes = conversation
                talk_time += int(r() * 4)
                recorded = 1
            elif r() < 0.05:
                tags = self._manual_tag
            if r() < 0.05:
                comments = self.fragments.number("comments", _draw_comments(timestamp, rng), shared=False)
            if r() < 0.04:
                tasks = self.fragments.number("tasks", _draw_tasks(timestamp, rng), shared=False)
        call_time = talk_time + 3 + int(r() * 22)
        if r() < 0.92:
            origin, destination, direction = caller, link.destination, "IN"
            call_type = "DIRECT" if r() < 0.95 else "CALLBACK"
        else:
            origin, destination, direction = link.destination, caller, "OUT"
            call_type, location = "CLICK TO CALL", ""
        return [
            _ID_BASE + timestamp * _IDS_PER_SECOND + int(r() * _IDS_PER_SECOND),
            format_timestamp(timestamp),
            format_timestamp(timestamp + call_time),
            *(origin, location, link.iovox_number, destination, call_time, talk_time),
            *(call_type, result, rule),
            *(link.node_id, link.node_name, link.node_type, link.link_id, link.link_name, link.link_type),
            recorded,
            "FALSE" if talk_time else "TRUE",
            direction,
            *(link.link_categories, categories, link.node_categories, contact),
            *(comments, call_outcomes, transcriptions, tags, keyword_rules, tasks),
        ]

    @staticmethod
    def _draw_result(link: Link, rng: random.Random) -> tuple[str, str, int, int]:
        """Draws the result, the rule result, the talk time in seconds, and whether the call was recorded."""
        x, forward = rng.random(), f"Forward call to: {link.destination}"
        if x < 0.72:
            rule = forward if x < 0.66 else "Call to an Operator"
            return "ANSWERED", rule, 4 + int(rng.expovariate(1 / 95)), int(x > 0.1)
        if x < 0.84:
            return "NO ANSWER", forward, 0, 0
        if x < 0.90:
            return "BUSY", forward, 0, 0
        if x < 0.97:
            return "VOICEMAIL", "Voicemail", 0, 1
        return "FAILED", "Hang up", 0, 0


def _draw_username(rng: random.Random) -> str:
    return f"{rng.choice(_transcripts.AGENTS).lower()}@example.com"


def _draw_comments(timestamp: int, rng: random.Random) -> list[dict[str, str]]:
    return [
        {
            "comment_id": f"{rng.getrandbits(128):032x}",
            "created": format_timestamp(timestamp + rng.randrange(600, 40 * HOUR)),
            "username": _draw_username(rng),
            "language": "en",
            "text": rng.choice(_transcripts.COMMENTS).format_map(_transcripts.draw_words(rng)),
        }
        for _ in range(1 if rng.random() < 0.8 else 2)
    ]


def _draw_tasks(timestamp: int, rng: random.Random) -> list[dict[str, str]]:
    created = timestamp + rng.randrange(300, 8 * HOUR)
    due = created + rng.randrange(1, 10) * DAY
    return [
        {
            "username": _draw_username(rng),
            "created": format_timestamp(created),
            "assigned_username": _draw_username(rng),
            "reminder_date": format_timestamp(due - DAY // 2),
            "reminder_message": rng.choice(_transcripts.REMINDERS).format_map(_transcripts.draw_words(rng)),
            "status": rng.choice(("OPEN", "OPEN", "DONE")),
            "due_date": format_timestamp(due),
        }
    ]


def draw_timestamps(count: int, start: int, end: int, rng: random.Random) -> list[int]:
    """Draws `count` timestamps between `start` and `end`, both included, sorted; busy hours get more."""
    hours = range(start // HOUR, end // HOUR + 1)
    weights = itertools.accumulate(_hour_weight(hour) * _overlap(hour, start, end)[1] for hour in hours)
    r = rng.random
    timestamps = []
    for hour in rng.choices(hours, cum_weights=list(weights), k=count):
        first, length = _overlap(hour, start, end)
        timestamps.append(first + int(r() * length))
    timestamps.sort()
    return timestamps


def _hour_weight(hour: int) -> float:
    # Monday is 0; day 0, 1970-01-01, was a Thursday.
    weekday, hour = (hour // 24 + 3) % 7, hour % 24
    day_weight = (1.25, 1.05, 1.0, 1.0, 1.1, 0.7, 0.12)[weekday]
    if 9 <= hour < 18:
        # Late morning is busiest, and lunch is quieter.
        return day_weight * (0.8, 1.2, 1.3, 0.9, 0.8, 1.0, 1.1, 1.0, 0.7)[hour - 9]
    if hour in {7, 8, 18, 19, 20}:
        return day_weight * 0.15
    return 0.01


def _overlap(hour: int, start: int, end: int) -> tuple[int, int]:
    """Returns the first timestamp and the number of seconds of an hour that lie in the range."""
    first = max(start, hour * HOUR)
    return first, min(end, hour * HOUR + HOUR - 1) - first + 1
