"""Reads the messages in the body of an error response.

Invariants:
- Any bytes give a few short messages, without phone numbers; nothing in the bytes is fetched or expanded.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Final
from xml.etree import ElementTree as ET

import msgspec

from .._redaction import mask_digits

__all__ = ["ERROR_BYTES", "MAX_MESSAGES", "error_messages"]

#: Bytes of an error body that are read.
ERROR_BYTES: Final = 64 * 1024
#: Messages of one error body, at most.
MAX_MESSAGES: Final = 8


def error_messages(body: bytes) -> tuple[str, ...]:
    """The messages in an error body: XML as the endpoint documents it, JSON, or else its text."""
    body = body[:ERROR_BYTES].strip()
    messages = _xml_messages(body) or _json_messages(body)
    if not messages:
        messages = [re.sub(r"<[^<>]*>", " ", body.decode("utf-8", "replace"))]
    shortened = (" ".join(mask_digits(message).split())[:200] for message in messages)
    return tuple(message for message in shortened if message)[:MAX_MESSAGES]


def _xml_messages(body: bytes) -> list[str]:
    # A document type may define entity bombs, and the endpoint's errors have none.
    if not body.startswith(b"<") or b"<!" in body:
        return []
    try:
        root = ET.fromstring(body)  # noqa: S314 - limited in size and without entities, see above
    except (ET.ParseError, ValueError, LookupError):  # the last two: an unknown encoding is declared
        return []
    return [
        text
        for node in islice(root.iter("error"), MAX_MESSAGES)
        if (text := "".join(node.itertext()).strip())
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
            values = [data[name] for name in names if name in data]
            return [text for item in (values or list(data.values())) for text in _strings(item, depth - 1)]
    return []
