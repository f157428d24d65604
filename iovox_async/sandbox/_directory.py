"""The places and people of the sandbox: who can be called, and who calls.

The law of this room: it is drawn once from the seed and then only read. Nodes are car dealers, links are the numbers
each advertises, callers are a few thousand people who call again and again.
"""

from __future__ import annotations

import random

import attrs

from . import _phone_numbers

_TOWNS = (
    "Brighton", "London", "Leeds", "Bristol", "Cardiff", "Glasgow", "Norwich", "York", "Exeter", "Derby",
    "Oxford", "Preston", "Swansea", "Dundee", "Ipswich", "Luton", "Kendal", "Truro", "Hove", "Bath",
)  # fmt: skip
_TRADES = ("Motors", "Cars", "Garage", "Autos & Sons")
_CAMPAIGNS = ("Website", "Print", "Auto Trader", "Google Ads", "Radio", "Van livery")


@attrs.frozen
class Link:
    """An advertised number of a node."""

    node_id: str
    node_name: str
    node_type: str
    link_id: str
    link_name: str
    link_type: str
    iovox_number: str
    destination: str
    #: Items of the answer's lists.
    link_categories: list[dict[str, str]]
    node_categories: list[dict[str, str]]


def category(number: int | str, label: str, value: str) -> dict[str, str]:
    """An item of one of the category lists; an account that gave no id has ""."""
    return {"category_id": str(number), "label": label, "value": value}


def links(draw: random.Random) -> list[Link]:
    """The links of all nodes, each as often as its share of the calls has it."""
    made: list[Link] = []
    number = 0
    for index, town in enumerate(_TOWNS):
        name = f"{town} {draw.choice(_TRADES)}"
        node_type = draw.choice(("", "", "dealership", "service centre"))
        node_categories = [
            category(200 + index % 4, "Region", ("North", "South", "East", "West")[index % 4]),
            # The documentation's own sample has categories without an id.
            category("", "Group", "Dealership"),
        ]
        # Some dealers are called ten times as often as others.
        share = 1 + int(9 * draw.random() ** 3)
        for campaign in draw.sample(_CAMPAIGNS, draw.randrange(1, 5)):
            number += 1
            link = Link(
                node_id=str(index + 1),
                node_name=name,
                node_type=node_type,
                link_id=str(50 + number),
                link_name=f"{name} {campaign}",
                link_type="default-type" if campaign != "Print" else "print",
                iovox_number=_phone_numbers.number(_phone_numbers.NATIONAL, number * 7),
                destination=_phone_numbers.number(_phone_numbers.NOWHERE, index * 11 + 5),
                link_categories=[category(100 + _CAMPAIGNS.index(campaign), "Campaign", campaign)],
                node_categories=node_categories,
            )
            made.extend([link] * (share * draw.randrange(1, 4)))
    return made


def callers(draw: random.Random, count: int) -> list[tuple[str, str]]:
    """Numbers and locations of people; those early in the list should be drawn more often."""
    made = []
    for _ in range(count):
        beginning, location = (
            _phone_numbers.MOBILE if draw.random() < 0.6 else draw.choice(_phone_numbers.LANDLINES)
        )
        made.append((_phone_numbers.number(beginning, draw.randrange(1000)), location))
    return made


def opening(weekday: int, hour: int) -> float:
    """How busy an hour of the week is, as a weight; Monday is 0."""
    day = (1.25, 1.05, 1.0, 1.0, 1.1, 0.7, 0.12)[weekday]
    if 9 <= hour < 18:
        # Late morning is busiest, and lunch is quieter.
        return day * (0.8, 1.2, 1.3, 0.9, 0.8, 1.0, 1.1, 1.0, 0.7)[hour - 9]
    if hour in {7, 8, 18, 19, 20}:
        return day * 0.15
    return 0.01
