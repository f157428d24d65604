"""Patterns of traffic: the seconds at which calls start, in some days."""

from __future__ import annotations

import random

DAY = 86_400


def smooth(rng: random.Random, calls: int, days: int) -> list[int]:
    return [rng.randrange(days * DAY) for _ in range(calls)]


def daily(rng: random.Random, calls: int, days: int) -> list[int]:
    """A thousand times as dense at noon as at night."""
    hours = (
        rng.random() * 24 if rng.random() < 0.02 else min(23.9, max(0, rng.gauss(13, 2.2)))
        for _ in range(calls)
    )
    return [rng.randrange(days) * DAY + int(hour * 3600) for hour in hours]


def weekly(rng: random.Random, calls: int, days: int) -> list[int]:
    """Offices that are closed at night and at weekends."""
    workdays = [day for day in range(days) if day % 7 < 5]
    return [rng.choice(workdays) * DAY + rng.randrange(8 * 3600, 18 * 3600) for _ in range(calls)]


def bursty(rng: random.Random, calls: int, days: int) -> list[int]:
    """Campaigns: about 40 calls within some minutes, at any time."""
    seconds: list[int] = []
    while len(seconds) < calls:
        begin = rng.randrange(days * DAY)
        seconds += [begin + int(rng.expovariate(1 / 300)) for _ in range(1 + int(rng.expovariate(1 / 40)))]
    return [min(second, days * DAY - 1) for second in seconds[:calls]]


PATTERNS = [smooth, daily, weekly, bursty]
