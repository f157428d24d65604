"""From a script to the transcription of a call.

The law of this room: what hangs together is made together. The words, their timing, the talk time, the tags and the
keyword rules of a conversation all come from one drawing, so a rule's counts are true of the text beside it.
"""

from __future__ import annotations

import random
import re
from typing import Any

import attrs

from . import _scripts
from ._columns import ID_TOKEN, NODE_TOKEN


@attrs.frozen
class Dialogue:
    """One conversation, ready to be had by any number of calls."""

    #: Items of the answer's lists.
    transcriptions: list[dict[str, Any]]
    tags: list[dict[str, str]]
    keyword_rules: list[dict[str, Any]]
    call_outcomes: list[dict[str, str]]
    #: Value of the call's category, or "".
    category: str
    #: Seconds.
    talk_time: int


def words(draw: random.Random) -> dict[str, str]:
    """A value for each word in braces."""
    make = draw.choice(list(_scripts.MAKES))
    return {
        "node": NODE_TOKEN,
        "make": make,
        "model": draw.choice(_scripts.MAKES[make]),
        "colour": draw.choice(_scripts.COLOURS),
        "agent": draw.choice(_scripts.AGENTS),
        "surname": draw.choice(_scripts.SURNAMES),
        "day": draw.choice(_scripts.DAYS),
        "time": draw.choice(_scripts.TIMES),
        "mileage": str(draw.randrange(8, 95)),
        "price": str(draw.randrange(30, 220) * 100 - 5),
        "deposit": str(draw.randrange(2, 40) * 50),
        "monthly": str(draw.randrange(95, 390)),
    }


def dialogues(draw: random.Random, each: int) -> list[tuple[Dialogue, int]]:
    """`each` dialogues from every script, and the weight of each dialogue."""
    return [(_dialogue(script, draw), script.weight) for script in _scripts.SCRIPTS for _ in range(each)]


def _dialogue(script: _scripts.Script, draw: random.Random) -> Dialogue:
    phrases: list[dict[str, Any]] = []
    at = draw.randrange(900, 2200)
    for turn, line in enumerate(script.lines.format_map(words(draw)).strip().splitlines()):
        said = line[2:]
        # About 160 words a minute, and a pause before the other side speaks.
        ends = at + 260 + len(said.split()) * draw.randrange(320, 430)
        speaker = "caller" if line[0] == ">" else "called"
        phrases.append({"phrase": said, "speaker": speaker, "start": at, "end": ends, "turn": turn})
        at = ends + draw.randrange(300, 1500)
    text = "\n".join(phrase["phrase"] for phrase in phrases)
    return Dialogue(
        transcriptions=[{"transcription_id": ID_TOKEN, "language": "en", "text": text, "phrases": phrases}],
        tags=[
            {"text": name, "colour": colour, "source_type": "insights_trigger"}
            for name, colour in script.tags
        ],
        keyword_rules=_heard(text),
        call_outcomes=[{"call_outcome": script.outcome}] if script.outcome else [],
        category=script.category,
        talk_time=phrases[-1]["end"] // 1000 + draw.randrange(1, 6),
    )


def _heard(text: str) -> list[dict[str, Any]]:
    """The keyword rules that a text meets, and how often each word was said."""
    met = []
    for rule, keywords in _scripts.KEYWORD_RULES.items():
        for make in _scripts.MAKES if "{make}" in rule else ("",):
            said = [keyword.format(make=make) for keyword in keywords]
            if found := [{"keyword": each, "count": n} for each in said if (n := _times(each, text))]:
                met.append({"keyword_rule": rule.format(make=make), "keywords": found})
    return met


def _times(keyword: str, text: str) -> int:
    return len(re.findall(rf"\b{re.escape(keyword)}\b", text, re.IGNORECASE))
