"""Reads JSON that is not quite JSON: broken texts and numbers, bytes that are not UTF-8, and lists sent as objects.

Invariants:
- What is wrong within one record makes only that record undecodable.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any, Final

#: What `repair` makes of a control character within a text: two bytes that no UTF-8 has.
_CONTROL_CHARACTER: Final = rb"\xc0([\x80-\x9f])"
#: The tokens in which a value can be repaired, or which are skipped as a whole.
_TEXT_OR_WORD: Final = rb'(?s)"(?:[^"\\]|\\.)*+"|-?Infinity|NaN'
#: Within a text: an escape that is valid, one that is not, or a control character.
_ESCAPE: Final = (
    rb'\\(?:["\\/bfnrt]|u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|u(?![dD][89a-fA-F])[\da-fA-F]{4})'
    rb"|(\\(?:u[\da-fA-F]{4})?)|([\x00-\x1f])"
)
_WHOLE_NUMBER: Final = r"[0-9]{1,18}"


def repair(data: bytes) -> bytes:
    """JSON in which what is wrong within one value can no longer make everything undecodable.

    Half an emoji (a lone surrogate), invalid escapes and control characters in texts become bytes that are not UTF-8, and
    NaN and infinity a number beyond all bounds. So only the records with these values cannot be decoded at once, and the
    decoder of single records decides about them. The structure of the JSON does not change.
    """
    escape = re.compile(_ESCAPE)

    def repair_token(match: re.Match[bytes]) -> bytes:
        return escape.sub(_repair_escape, match[0]) if match[0].startswith(b'"') else b"1e999"

    return re.sub(_TEXT_OR_WORD, repair_token, data)


def _repair_escape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return b"\xff"
    return bytes((0xC0, 0x80 + match[2][0])) if match[2] else match[0]


def decode_utf8(data: bytes) -> bytes:
    """JSON in UTF-8, with replacement characters in the place of bytes that are not; control characters come back."""
    with contextlib.suppress(UnicodeDecodeError):
        str(data, "utf-8")
        return data
    return re.sub(_CONTROL_CHARACTER, _escaped, data).decode(errors="replace").encode()


def list_keys(data: Mapping[str, Any]) -> list[str] | None:
    """The keys of an object that stands for a list, in the order of the list; None for other objects.

    PHP encodes a list with gaps, `[1 => ..., 3 => ...]`, as an object whose keys are whole numbers.
    """
    if not data or not all(re.fullmatch(_WHOLE_NUMBER, key) for key in data):
        return None
    return sorted(data, key=int)


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % (match[1][0] - 0x80)
