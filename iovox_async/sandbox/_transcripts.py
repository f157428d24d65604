"""The texts of the sandbox's calls: conversation scripts of a car dealer, and the transcriptions made from them.

The words, timing, talk time, tags and keyword rules of a conversation come from one draw, so the counts of a keyword rule
match the text. As in real transcripts, one side has no capitals and full stops.
"""

from __future__ import annotations

import random
import re
from typing import Any

import attrs

from ._columns import ID_TOKEN, NODE_TOKEN


@attrs.frozen
class Script:
    """The template of one kind of conversation."""

    #: Lines that start with `>` (the caller) or `<` (the called side); words in braces are filled in by `draw_words`.
    lines: str
    #: Relative frequency.
    weight: int
    #: Texts and colours of the call's tags.
    tags: tuple[tuple[str, str], ...] = ()
    #: The call's outcome and the value of its category; "" means none.
    outcome: str = ""
    category: str = ""


MAKES = {
    "Nissan": ("Qashqai", "Juke", "Leaf"),
    "BMW": ("320d", "X1", "i3"),
    "Ford": ("Fiesta", "Focus", "Kuga"),
    "Toyota": ("Yaris", "Corolla", "RAV4"),
    "Volkswagen": ("Golf", "Polo", "Tiguan"),
    "Kia": ("Ceed", "Sportage", "Niro"),
}
COLOURS = ("blue", "black", "white", "grey", "red", "silver")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
TIMES = ("half past nine", "ten", "quarter to twelve", "one", "two", "half past three", "four")
AGENTS = ("John", "Priya", "Megan", "Tom", "Aisha", "Callum", "Sophie", "Daniel")
SURNAMES = ("Watson", "Okafor", "Hughes", "Patel", "Novak", "Byrne", "Fraser", "Ali", "Clarke", "Osei")

#: Keyword rules and their keywords; `{make}` stands for each make.
KEYWORD_RULES = {
    "Test Drive discussed": ("test drive", "take a look", "come and see"),
    "Finance discussed": ("finance", "deposit", "a month"),
    "Part exchange discussed": ("part exchange", "trade in"),
    "Service discussed": ("service", "MOT", "oil"),
    "Unhappy caller": ("complaint", "not good enough", "manager", "disappointed"),
    "Caller mentioned make - {make}": ("{make}",),
}

SCRIPTS = (
    Script(
        """
< Good morning, {node}, this is {agent} speaking. How can I help you?
> hello i'm calling about the {colour} {make} {model} you have online is it still available
< Let me just check for you. Yes, we still have the {model}.
> great what's the mileage on that one
< It has done {mileage} thousand miles, with a full service history.
> and you're asking {price} pounds is that right
< That's right, {price}. You are very welcome to come and take a look. Would you like a test drive?
> yes please a test drive would be great
< When would suit you?
> {day} at {time} if you have it
< {day} at {time} is fine. Can I take your surname?
> yes it's {surname}
< That's booked in for you. We will see you on {day}.
> lovely thank you bye
< Bye, bye.
""",
        weight=6,
        tags=(("Test Drive", "GOLD"), ("Sales lead", "GREEN")),
        outcome="Appointment booked",
        category="Sales",
    ),
    Script(
        """
< Hello, {node}, {agent} speaking.
> hi is the {make} {model} for {price} still for sale
< I'm afraid that one was sold on {day}.
> oh that's a shame okay
< We do have another {model}, a {colour} one, which isn't listed yet as it only just came in.
> what are you asking for it
< It will be around {price}, I'd say. Shall I call you when it is ready?
> yes please do that
< May I have your name?
> {surname}
< Thank you. I will ring you before {day}.
> thanks goodbye
< Goodbye.
""",
        weight=4,
        tags=(("Sales lead", "GREEN"),),
        outcome="Call back",
        category="Sales",
    ),
    Script(
        """
< Thank you for calling {node}. You're through to {agent}.
> hello i'd like to ask about finance on the {colour} {model}
< Of course. Do you have a deposit in mind?
> about {deposit} pounds
< With a deposit of {deposit} the {model} would be around {monthly} a month over four years.
> that's a bit more than i hoped can you do anything on the rate
< I can ask. If you put in a part exchange it would come down.
> i have an old {make} i could trade in
< Bring it along and we will value it. Does {day} at {time} suit you?
> yes {day} is good the name is {surname}
< Perfect. See you on {day}.
> thank you
""",
        weight=3,
        tags=(("Finance", "BLUE"), ("Sales lead", "GREEN")),
        outcome="Appointment booked",
        category="Finance",
    ),
    Script(
        """
< Service desk, {node}, {agent} speaking.
> morning i need to book my {make} in for a service and the MOT
< Certainly. What is the registration?
> it's under {surname} you should have it from last year
< Found it, the {colour} {model}. Any problems with it?
> there's a noise from the front brakes and it loses a bit of oil
< We'll have a look at that. The first we have is {day} at {time}.
> can i wait for it or do you have a courtesy car
< You can have a courtesy car if you bring your licence.
> brilliant put me down for {day}
< Done. That's {day}, {time}, service and MOT.
> thanks bye
< Bye.
""",
        weight=6,
        tags=(("Service", "BLUE"),),
        outcome="Service booked",
        category="Service",
    ),
    Script(
        """
< {node}, {agent} speaking. How can I help?
> i want to make a complaint to be honest
< I'm sorry to hear that. What happened?
> i collected my {make} on {day} and the warning light came on again the same evening
< Oh dear. Who did you deal with?
> i don't remember the name but i was told it was fixed it's just not good enough
< I understand. I can have it back in on {day}, at no charge of course.
> i've already taken a day off for this i would like to speak to the manager
< The manager is with a customer. May I ask him to call you at {time}?
> fine but i'm very disappointed it's {surname}
< I have made a note of it, {surname}. He will call you at {time}.
> okay thank you
""",
        weight=2,
        tags=(("Complaint", "RED"),),
        outcome="Escalated",
        category="Complaint",
    ),
    Script(
        """
< Good afternoon, parts department, {node}.
> hi do you have a left wing mirror for a {make} {model}
< What year is it?
> twenty seventeen in {colour}
< I can order one. It takes until {day} and costs {deposit} pounds, fitting not included.
> right i'll think about it thanks
< No problem. Bye.
> bye
""",
        weight=3,
        outcome="Quote given",
        category="Parts",
    ),
    Script(
        """
< Hello, {node}.
> hi what time do you close on {day}
< We're open until six on weekdays and five on Saturdays.
> cheers that's all i wanted to know
< You're welcome. Bye.
> bye
""",
        weight=3,
        outcome="Information given",
    ),
    Script(
        """
< {node}, good morning.
> oh hello is that the surgery
< No, this is {node}. We sell cars.
> sorry i must have the wrong number
< Not to worry. Bye.
""",
        weight=1,
        tags=(("Wrong number", "RED"),),
        outcome="Wrong number",
    ),
)

COMMENTS = (
    "Wants to be called back before the weekend.",
    "Declined the offer of a test drive. Going to think about it.",
    "Asked for the {colour} one; told him it was sold. Offered the {model} instead.",
    "Long-standing customer, please keep the courtesy car free on {day}.",
    "She said “far too dear” at £{price}; try a lower deposit.",
    "Second call about the same car. Asked {agent} to follow up.",
    "No decision yet.\nCalled twice, no answer the second time.",
)
REMINDERS = (
    "Ring back about the {model}",
    "Send finance figures for the {make}",
    "Check that the courtesy car is free on {day}",
    "Ask the workshop about the brakes",
    "Confirm {day} at {time} with {surname}",
)


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
        "colour": rng.choice(COLOURS),
        "agent": rng.choice(AGENTS),
        "surname": rng.choice(SURNAMES),
        "day": rng.choice(DAYS),
        "time": rng.choice(TIMES),
        "mileage": str(rng.randrange(8, 95)),
        "price": str(rng.randrange(30, 220) * 100 - 5),
        "deposit": str(rng.randrange(2, 40) * 50),
        "monthly": str(rng.randrange(95, 390)),
    }


def draw_conversation(script: Script, rng: random.Random) -> Conversation:
    """Draws one conversation from a script."""
    phrases: list[dict[str, Any]] = []
    start = rng.randrange(900, 2200)
    for turn, line in enumerate(script.lines.format_map(draw_words(rng)).strip().splitlines()):
        phrase = line[2:]
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
