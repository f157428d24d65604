"""Masks keys and phone numbers, and shortens values, for messages, logs and `repr`.

Invariants: every value from a user or the server that becomes part of a message passes through one of these functions.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "hide_credentials",
    "hide_userinfo",
    "mask_digits",
    "mask_phone_number",
    "mask_phone_numbers",
    "mask_secret",
    "shorten",
    "shorten_repr",
]

_SHORT_TEXT: Final = 40
_SHORT_REPR: Final = 48

#: A possible phone number: at least seven digits, with or without separators.
_PHONE_NUMBER: Final = re.compile(r"\+?\d(?:[\s()./-]{0,2}\d){6,}")
#: The same without separators, for texts that contain dates.
_DIGITS: Final = re.compile(r"\d{7,}")
#: User and password, a token as the user of a web address, and a query such as a signature.
_URL_CREDENTIALS: Final = re.compile(r"(://)[^:/]*:.*@|((?:https?|socks5h?)://)[^/]*@|\?.*")
_USERINFO: Final = re.compile(r"[^\s\"'/:@]+:[^\s\"'@]+@")


def hide_credentials(url: str) -> str:
    """A URL without the user, password and query that it may contain; a path is unchanged."""
    return _URL_CREDENTIALS.sub(r"\1\2", url) if "://" in url else url


def hide_userinfo(text: str) -> str:
    """A text without each `user:password@` in it, as in the paths that the errors of an object store name."""
    return _USERINFO.sub("", text)


def mask_phone_number(value: str) -> str:
    """Masks a value that is a phone number, except its last three digits: `…773`."""
    return f"…{value[-3:] if len(value) > 6 else ''}"


def mask_phone_numbers(text: str) -> str:
    """Masks everything in a text that may be a phone number, except the last three digits of each."""
    return _PHONE_NUMBER.sub(_last_three_digits, text)


def mask_digits(text: str) -> str:
    """Masks runs of seven or more digits, except the last three of each; dates stay readable."""
    return _DIGITS.sub(_last_three_digits, text)


def mask_secret(text: str, secret: str) -> str:
    """Replaces a secret by `***`."""
    return text.replace(secret, "***")


def shorten(text: str) -> str:
    """Masks phone numbers and shortens the text to 40 characters."""
    # Texts may be long: mask only a prefix, but cut it to length after that, so that no number is cut in two.
    prefix = mask_phone_numbers(text[: 4 * _SHORT_TEXT])
    return prefix if len(prefix) <= _SHORT_TEXT else f"{prefix[: _SHORT_TEXT - 1]}…"


def shorten_repr(value: object) -> str:
    """The `repr` of a value, shortened. Masks nothing: not for values that may contain a phone number."""
    try:
        text = repr(str.__str__(value) if isinstance(value, str) else value)
    except ValueError:  # an int with more digits than the interpreter prints
        text = f"a {type(value).__name__} with too many digits"
    return text if len(text) <= _SHORT_REPR else f"{text[: _SHORT_REPR - 3]}..."


def _last_three_digits(match: re.Match[str]) -> str:
    return "…" + "".join(filter(str.isdigit, match[0]))[-3:]
