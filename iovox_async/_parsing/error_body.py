"""Reads the messages in the body of an error response.

Invariants:
- Any bytes give a few short messages, masked before they are cut; nothing in the bytes is fetched or expanded.
- What is checked is what is parsed: a body is decoded once, and its XML declaration cannot choose another encoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

import msgspec

from .._redaction import Redact, redact
from .._wording import format_count

#: Bytes of an error body that are read.
ERROR_BYTES: Final = 16 * 1024
#: Messages of one error body, at most.
MAX_MESSAGES: Final = 8
#: Characters of a message, at most.
_MESSAGE_LENGTH: Final = 200
#: Keys of an object that are named, at most, and how they are spelled.
_MAX_KEYS: Final = 8
_KEY: Final = r"[A-Za-z_][A-Za-z0-9_-]{0,31}"
#: Keys of a JSON object that hold messages.
_ERROR_KEYS: Final = (
    *("error", "errors", "message", "messages", "detail", "details"),
    *("error_message", "error_description", "description"),
)
_MESSAGE: Final = rf'"(?:{"|".join(_ERROR_KEYS)})"\s*:\s*"((?:[^"\\]|\\.)*)'


def error_messages(body: bytes, mask: Redact = redact) -> tuple[str, ...]:
    """The messages in an error body: XML as the endpoint documents it, JSON, or else its text.

    Args:
        body: the body, or its beginning. With NUL bytes, as in UTF-16, it is not read.
        mask: masks what must not be shown.
    """
    is_long = len(body) >= ERROR_BYTES
    body = body[:ERROR_BYTES].strip()
    if b"\0" in body:
        return ()
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        # A character that was cut at the end; else one of the encodings of Western Europe, or no text at all.
        is_cut = error.end == len(body) and error.start > len(body) - 4
        text = body[: error.start].decode() if is_cut else body.decode("latin-1")
    messages = xml_messages(text) or _json_messages(text, is_long=is_long)
    if not messages:
        # Masked before markup is removed, which may stand within a key, and again after that.
        messages = [re.sub(r"<[^<>]*>", " ", mask(text))]
    return shorten_messages(messages, mask)


def shorten_messages(messages: Iterable[str], mask: Redact = redact) -> tuple[str, ...]:
    """The first messages, each masked, in one line, and with a limited length."""
    shortened = (" ".join(mask(message).split())[:_MESSAGE_LENGTH] for message in messages)
    return tuple(message for message in shortened if message)[:MAX_MESSAGES]


def xml_messages(text: str) -> list[str]:
    """The messages of an error in XML, as the endpoint documents it; none of any other text."""
    # A document type may define entity bombs, and the endpoint's errors have none.
    if not text.startswith("<") or "<!" in text:
        return []
    from xml.etree import ElementTree as ET  # takes milliseconds, and few servers send XML

    try:
        root = ET.fromstring(text)  # noqa: S314 - limited in size and without entities, see above
    except (ET.ParseError, ValueError):
        return []
    return [
        message
        for node in islice(root.iter("error"), MAX_MESSAGES)
        if (message := "".join(node.itertext()).strip())
    ]


def _json_messages(text: str, *, is_long: bool) -> list[str]:
    if not text.startswith(("{", "[", '"')):
        return []
    try:
        data = msgspec.json.decode(text)
    except (ValueError, RecursionError):  # perhaps cut
        shape = f"JSON of more than {ERROR_BYTES // 1024} KiB" if is_long else "JSON that cannot be read"
        return [match[1] for match in re.finditer(_MESSAGE, text)] or [shape]
    return _strings(data) or [describe(data)]


def error_object_messages(data: dict[str, Any]) -> list[str]:
    """The messages of an object that was sent as a page, if it is an error: no other key holds a list or an object."""
    if any(value and isinstance(value, list | dict) for key, value in data.items() if key not in _ERROR_KEYS):
        return []
    return _strings(data, is_error=False)


def _strings(data: object, depth: int = 4, *, is_error: bool = True) -> list[str]:
    """The messages in a JSON value. In the body of an error, texts under other keys count too, but not those of records."""
    match data:
        case str():
            return [data]
        case list() if depth:
            # The items of a list may be records.
            is_error = is_error and depth < 4
            return [text for item in data for text in _strings(item, depth - 1, is_error=is_error)]
        case dict() if depth:
            values = [data[name] for name in _ERROR_KEYS if name in data]
            if not values and is_error and "id" not in data:
                return [value for value in data.values() if isinstance(value, str)]
            return [text for item in values for text in _strings(item, depth - 1, is_error=is_error)]
    return []


def describe(data: object) -> str:
    """The shape of a JSON value: its type, and the keys of an object, but no values."""
    if isinstance(data, dict):
        # Keys may be data too: numbers, or names of people.
        names = [redact(key) for key in data if re.fullmatch(_KEY, key)][:_MAX_KEYS]
        if not names:
            return f"an object with {format_count(len(data), 'key')}"
        others = len(data) - len(names)
        return f"an object with the keys {', '.join(names)}" + (f" and {others} others" if others else "")
    if isinstance(data, list):
        return f"a list of {format_count(len(data), 'item')}"
    return "a text" if isinstance(data, str) else "no object and no list"
