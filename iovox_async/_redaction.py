"""Masks keys and phone numbers in what is shown to people."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["masked"]

_SHOWN_CHARACTERS: Final = 40


#: What may be a phone number inside a text: seven digits and more, however they are grouped.
_PHONE_WITHIN: Final = re.compile(r"\+?\d(?:[\s()./-]{0,2}\d){6,}")


def masked(text: str) -> str:
    """A text as logs may have it: shortened, and what may be a phone number cut to its last three digits."""
    # Cut roughly first, since texts may be long; exactly only after numbers are no longer to be recognised.
    head = _PHONE_WITHIN.sub(_last_three, text[: 4 * _SHOWN_CHARACTERS])
    return head if len(head) <= _SHOWN_CHARACTERS else f"{head[: _SHOWN_CHARACTERS - 1]}…"


def _last_three(number: re.Match[str]) -> str:
    return "…" + "".join(filter(str.isdigit, number[0]))[-3:]
