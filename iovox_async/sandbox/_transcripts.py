"""Draws conversations with a car dealer, and the transcriptions made from them.

The texts are in `conversations.json`. The words, timing, talk time, tags and keyword rules of a conversation come from one
draw, so the counts of a keyword rule match the text. As in real transcripts, one side has no capitals and full stops.
"""

from __future__ import annotations

import importlib.resources
import json
import random
import re
from typing import Any

import attrs

from ._columns import ID_TOKEN, NODE_TOKEN

_DATA: dict[str, Any] = json.loads(
    importlib.resources.files(__package__ or "").joinpath("conversations.json").read_text("utf-8")
)
MAKES: dict[str, list[str]] = _DATA["makes"]
AGENTS: list[str] = _DATA["agents"]
COMMENTS: list[str] = _DATA["comments"]
REMINDERS: list[str] = _DATA["reminders"]
#: Keyword rules and their keywords; `{make}` stands for each make.
KEYWORD_RULES: dict[str, list[str]] = _DATA["keyword_rules"]


@attrs.frozen
class Script:
    """The template of one kind of conversation.

    Attributes:
        lines: start with `>` (the caller) or `<` (the called side); words in braces are filled in by `draw_words`.
        weight: relative frequency.
        tags: texts and colours of the call's tags.
        outcome: the call's outcome, or "".
        category: the value of the call's category, or "".
    """

    lines: list[str]
    weight: int
    tags: list[tuple[str, str]]
    outcome: str
    category: str


SCRIPTS = [Script(**script) for script in _DATA["scripts"]]


@attrs.frozen
class Conversation:
    """One conversation, which any number of calls may have."""

    #: Items of the lists in a response.
    transcriptions: list[dict[str, Any]]
    tags: list[dict[str, str]]
    keyword_rules: list[dict[str, Any]]
    call_outcomes: list[dict[str, str]]
    #: Value of the call's category, or "".
    category: str
    #: Seconds.
    talk_time: int


def draw_words(rng: random.Random) -> dict[str, str]:
    """Draws a value for each word in braces."""
    make = rng.choice(list(MAKES))
    return {
        "node": NODE_TOKEN,
        "make": make,
        "model": rng.choice(MAKES[make]),
        "colour": rng.choice(_DATA["colours"]),
        "agent": rng.choice(AGENTS),
        "surname": rng.choice(_DATA["surnames"]),
        "day": rng.choice(_DATA["days"]),
        "time": rng.choice(_DATA["times"]),
        "mileage": str(rng.randrange(8, 95)),
        "price": str(rng.randrange(30, 220) * 100 - 5),
        "deposit": str(rng.randrange(2, 40) * 50),
        "monthly": str(rng.randrange(95, 390)),
    }


def draw_conversation(script: Script, rng: random.Random) -> Conversation:
    """Draws one conversation from a script."""
    phrases: list[dict[str, Any]] = []
    start = rng.randrange(900, 2200)
    words = draw_words(rng)
    for turn, line in enumerate(script.lines):
        phrase = line[2:].format_map(words)
        # About 160 words a minute, and a pause before the other side speaks.
        end = start + 260 + len(phrase.split()) * rng.randrange(320, 430)
        speaker = "caller" if line[0] == ">" else "called"
        phrases.append({"phrase": phrase, "speaker": speaker, "start": start, "end": end, "turn": turn})
        start = end + rng.randrange(300, 1500)
    text = "\n".join(phrase["phrase"] for phrase in phrases)
    return Conversation(
        transcriptions=[{"transcription_id": ID_TOKEN, "language": "en", "text": text, "phrases": phrases}],
        tags=[
            {"text": name, "colour": colour, "source_type": "insights_trigger"}
            for name, colour in script.tags
        ],
        keyword_rules=_match_keyword_rules(text),
        call_outcomes=[{"call_outcome": script.outcome}] if script.outcome else [],
        category=script.category,
        talk_time=phrases[-1]["end"] // 1000 + rng.randrange(1, 6),
    )


def _match_keyword_rules(text: str) -> list[dict[str, Any]]:
    """Returns the keyword rules that a text matches, with the number of times each keyword occurs."""
    matches = []
    for rule, templates in KEYWORD_RULES.items():
        for make in MAKES if "{make}" in rule else ("",):
            keywords = [template.format(make=make) for template in templates]
            if counts := [{"keyword": each, "count": n} for each in keywords if (n := _count(each, text))]:
                matches.append({"keyword_rule": rule.format(make=make), "keywords": counts})
    return matches


def _count(keyword: str, text: str) -> int:
    return len(re.findall(rf"\b{re.escape(keyword)}\b", text, re.IGNORECASE))
