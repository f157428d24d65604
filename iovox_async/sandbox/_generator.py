"""One call after another, drawn from the seed.

The law of this room: a call is drawn from a second and a source of chance and nothing else, so the same seed gives
the same calls, and a call that arrives later looks like the others.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _directory, _scripts, _timestamps
from ._columns import NESTED, SCALARS
from ._random import chance
from ._transcripts import Dialogue, dialogues, words

if TYPE_CHECKING:
    import random

    from ._nested_values import Fragments

#: Columns of the store's table, in order.
COLUMNS = (*(name for name in SCALARS if not name.endswith("_seconds")), *NESTED)

#: Real ids grow by a thousand a second.
_ID_BASE, _IDS_A_SECOND = 28_974_285_200_000, 1_000
#: Where ids go on when a second has none left.
_ID_OVERFLOW = 10**15
_CALLERS = 4_000
_DIALOGUES_A_SCRIPT = 32
#: Of the calls that are answered; about a third of all calls is transcribed.
_TRANSCRIBED = 0.46
_CONTACTS = (("Type", "Trade"), ("Type", "Private"), ("Rating", "VIP"))
_DEPARTMENTS = tuple(dict.fromkeys(script.category for script in _scripts.SCRIPTS))

Row = list[Any]


class _Talk(NamedTuple):
    """A dialogue by the numbers of its fragments."""

    talk_time: int
    call_categories: int
    transcriptions: int
    tags: int
    keyword_rules: int
    call_outcomes: int


class _Line(NamedTuple):
    """A link with what its calls have in common."""

    link: _directory.Link
    link_categories: int
    node_categories: int
    forward: str


class _World(NamedTuple):
    """What a seed draws before the first call."""

    links: list[_directory.Link]
    #: Number, location, and place in `_CONTACTS` or None.
    callers: list[tuple[str, str, int | None]]
    dialogues: list[tuple[Dialogue, int]]


@functools.lru_cache(maxsize=8)
def _world(seed: int) -> _World:
    # A suite makes hundreds of sandboxes of one seed, so the tenth of a second is spent once.
    draw = chance("town", seed)
    links = _directory.links(draw)
    callers = [
        (*caller, draw.randrange(len(_CONTACTS)) if draw.random() < 0.15 else None)
        for caller in _directory.callers(draw, _CALLERS)
    ]
    return _World(links, callers, dialogues(draw, _DIALOGUES_A_SCRIPT))


class CallGenerator:
    """The seed's town, and the calls that are made there."""

    def __init__(self, seed: int, fragments: Fragments) -> None:
        world = _world(seed)
        self._number = fragments.number
        self._lines = [self._line(link) for link in world.links]
        contacts = {
            index: self._number("contact_categories", [_directory.category(400 + index, *contact)])
            for index, contact in enumerate(_CONTACTS)
        }
        self._callers = [
            (person, location, 0 if contact is None else contacts[contact])
            for person, location, contact in world.callers
        ]
        self._talks = [
            talk for dialogue, weight in world.dialogues for talk in [self._talk(dialogue)] * weight
        ]
        self._by_hand = self._number("tags", [{"text": "Follow up", "colour": "GOLD", "source_type": "user"}])
        self._overflow = itertools.count(_ID_OVERFLOW)

    def _line(self, link: _directory.Link) -> _Line:
        return _Line(
            link,
            self._number("link_categories", link.link_categories),
            self._number("node_categories", link.node_categories),
            f"Forward call to: {link.destination}",
        )

    def _talk(self, dialogue: Dialogue) -> _Talk:
        categories = []
        if name := dialogue.category:
            categories.append(_directory.category(300 + _DEPARTMENTS.index(name), "Department", name))
        return _Talk(
            dialogue.talk_time,
            self._number("call_categories", categories),
            self._number("transcriptions", dialogue.transcriptions),
            self._number("tags", dialogue.tags),
            self._number("keyword_rules", dialogue.keyword_rules),
            self._number("call_outcomes", dialogue.call_outcomes),
        )

    def calls(self, count: int, start: int, end: int, draw: random.Random) -> Iterator[Row]:
        """So many calls from second `start` to second `end`, as busy as the hours of the week are, in order."""
        taken: set[int] = set()
        for second in seconds(count, start, end, draw):
            row = self.call(second, draw)
            while row[0] in taken:
                row[0] = self.another_id(second, draw)
            taken.add(row[0])
            yield row

    def another_id(self, second: int, draw: random.Random) -> int:
        """An id to try when the first is taken."""
        if draw.random() < 0.5:
            return _ID_BASE + second * _IDS_A_SECOND + int(draw.random() * _IDS_A_SECOND)
        return next(self._overflow)

    def call(self, second: int, draw: random.Random) -> Row:
        """A call that starts at this second, as the values of `COLUMNS`."""
        r = draw.random
        line = self._lines[int(r() * len(self._lines))]
        link = line.link
        # Squared, so that the first in the list call again and again.
        person, location, contact = self._callers[int(r() ** 2 * len(self._callers))]
        if r() < 0.03:
            person = location = ""
        result, rule, talk_time, recorded = self._ending(line, draw)
        categories = transcriptions = tags = keyword_rules = call_outcomes = comments = tasks = 0
        if result == "ANSWERED":
            if r() < _TRANSCRIBED:
                talk = self._talks[int(r() * len(self._talks))]
                talk_time, categories, transcriptions, tags, keyword_rules, call_outcomes = talk
                talk_time += int(r() * 4)
                recorded = 1
            elif r() < 0.05:
                tags = self._by_hand
            if r() < 0.05:
                comments = self._number("comments", self._comments(second, draw), alone=True)
            if r() < 0.04:
                tasks = self._number("tasks", self._tasks(second, draw), alone=True)
        call_time = talk_time + 3 + int(r() * 22)
        if r() < 0.92:
            origin, destination, direction = person, link.destination, "IN"
            call_type = "DIRECT" if r() < 0.95 else "CALLBACK"
        else:
            origin, destination, direction = link.destination, person, "OUT"
            call_type, location = "CLICK TO CALL", ""
        return [
            _ID_BASE + second * _IDS_A_SECOND + int(r() * _IDS_A_SECOND),
            _timestamps.text(second),
            _timestamps.text(second + call_time),
            origin,
            location,
            link.iovox_number,
            destination,
            call_time,
            talk_time,
            call_type,
            result,
            rule,
            link.node_id,
            link.node_name,
            link.node_type,
            link.link_id,
            link.link_name,
            link.link_type,
            recorded,
            "FALSE" if talk_time else "TRUE",
            direction,
            line.link_categories,
            categories,
            line.node_categories,
            contact,
            comments,
            call_outcomes,
            transcriptions,
            tags,
            keyword_rules,
            tasks,
        ]

    @staticmethod
    def _ending(line: _Line, draw: random.Random) -> tuple[str, str, int, int]:
        """Result, rule result, seconds of talk, and whether it was recorded."""
        x = draw.random()
        if x < 0.72:
            rule = line.forward if x < 0.66 else "Call to an Operator"
            return "ANSWERED", rule, 4 + int(draw.expovariate(1 / 95)), int(x > 0.1)
        if x < 0.84:
            return "NO ANSWER", line.forward, 0, 0
        if x < 0.90:
            return "BUSY", line.forward, 0, 0
        if x < 0.97:
            return "VOICEMAIL", "Voicemail", 0, 1
        return "FAILED", "Hang up", 0, 0

    @staticmethod
    def _comments(second: int, draw: random.Random) -> list[dict[str, str]]:
        return [
            {
                "comment_id": f"{draw.getrandbits(128):032x}",
                "created": _timestamps.text(second + draw.randrange(600, 40 * _timestamps.HOUR)),
                "username": f"{draw.choice(_scripts.AGENTS).lower()}@example.com",
                "language": "en",
                "text": draw.choice(_scripts.COMMENTS).format_map(words(draw)),
            }
            for _ in range(1 if draw.random() < 0.8 else 2)
        ]

    @staticmethod
    def _tasks(second: int, draw: random.Random) -> list[dict[str, str]]:
        created = second + draw.randrange(300, 8 * _timestamps.HOUR)
        due = created + draw.randrange(1, 10) * _timestamps.DAY
        return [
            {
                "username": f"{draw.choice(_scripts.AGENTS).lower()}@example.com",
                "created": _timestamps.text(created),
                "assigned_username": f"{draw.choice(_scripts.AGENTS).lower()}@example.com",
                "reminder_date": _timestamps.text(due - _timestamps.DAY // 2),
                "reminder_message": draw.choice(_scripts.REMINDERS).format_map(words(draw)),
                "status": draw.choice(("OPEN", "OPEN", "DONE")),
                "due_date": _timestamps.text(due),
            }
        ]


def seconds(count: int, start: int, end: int, draw: random.Random) -> list[int]:
    """So many seconds from `start` to `end`, both included, in order."""
    hours = range(start // _timestamps.HOUR, end // _timestamps.HOUR + 1)
    weights = itertools.accumulate(
        _directory.opening(_timestamps.weekday(hour // 24), hour % 24) * (_overlap(hour, start, end)[1])
        for hour in hours
    )
    r = draw.random
    made = []
    for hour in draw.choices(hours, cum_weights=list(weights), k=count):
        first, length = _overlap(hour, start, end)
        made.append(first + int(r() * length))
    made.sort()
    return made


def _overlap(hour: int, start: int, end: int) -> tuple[int, int]:
    """First second and number of seconds of an hour that lie in the range."""
    first = max(start, hour * _timestamps.HOUR)
    return first, min(end, hour * _timestamps.HOUR + _timestamps.HOUR - 1) - first + 1
