"""What an error body says, in words that may be shown.

The law of this room: any bytes end in a few short messages, without what may be a phone number; nothing in them is
followed, fetched or expanded.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Final
from xml.etree import ElementTree as ET

import msgspec

from .._redaction import mask_digits

__all__ = ["ERROR_BYTES", "MESSAGES", "error_messages"]

#: Bytes of an error body that are looked at.
ERROR_BYTES: Final = 64 * 1024
#: Messages that are taken from an error body.
MESSAGES: Final = 8


def error_messages(body: bytes) -> tuple[str, ...]:
    """What an error body says: from XML as the older pages show it, from JSON, or as text."""
    body = body[:ERROR_BYTES].strip()
    found = _xml_messages(body) or _json_messages(body)
    if not found:
        text = re.sub(r"<[^<>]*>", " ", body.decode("utf-8", "replace"))
        found = [text]
    tidy = (" ".join(mask_digits(text).split())[:200] for text in found)
    return tuple(text for text in tidy if text)[:MESSAGES]


def _xml_messages(body: bytes) -> list[str]:
    # A document type is where entity bombs live; an honest error has none.
    if not body.startswith(b"<") or b"<!" in body:
        return []
    try:
        root = ET.fromstring(body)  # noqa: S314 - capped in size and free of entities, see above
    except (ET.ParseError, ValueError, LookupError):
        # The last two: an encoding that it declares and the parser does not know.
        return []
    return [
        text for node in islice(root.iter("error"), MESSAGES) if (text := "".join(node.itertext()).strip())
    ]


def _json_messages(body: bytes) -> list[str]:
    try:
        data = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return []
    return _strings(data)


def _strings(data: object, depth: int = 4) -> list[str]:
    match data:
        case str():
            return [data]
        case list() if depth:
            return [text for item in data for text in _strings(item, depth - 1)]
        case dict() if depth:
            names = ("error", "errors", "message", "messages", "detail", "error_description", "description")
            known = [data[name] for name in names if name in data]
            return [text for item in (known or list(data.values())) for text in _strings(item, depth - 1)]
    return []
