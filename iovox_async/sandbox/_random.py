"""Chance that can be had again.

The law of this room: all that is random in the sandbox is drawn here from names and numbers, its seed among them, so a
run can be repeated. No draw depends on how many were made before it elsewhere.
"""

from __future__ import annotations

import random


def chance(*parts: object) -> random.Random:
    """A source of chance that depends on these parts alone."""
    return random.Random(" ".join(map(str, parts)))  # noqa: S311 - a game
