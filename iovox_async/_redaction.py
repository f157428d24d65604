"""Masks keys, phone numbers and credentials in URLs, and shortens values, for messages, logs and `repr`.

A text is searched as it is, and again after its escapes are resolved, layer by layer: percent escapes, HTML entities, the
escapes of JSON, full-width characters. What is found in a layer is masked at its place in the text.

Invariants:
- Every text from a user or the server that becomes part of a message passes through one of these functions, before
  anything is cut off it.
- Dates, times and IP addresses stay readable.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Final, TypeAlias

#: Masks everything in a text that must not be shown.
Redact: TypeAlias = Callable[[str], str]

_SHORT_TEXT: Final = 40
_SHORT_REPR: Final = 48
#: Characters of a secret in a row that are masked, also if the rest of it was cut off; fewer at the end of a text.
_SECRET_RUN: Final = 5
_SECRET_RUN_AT_END: Final = 4
#: The same for base64 and hexadecimal digits.
_ENCODED_RUN: Final = 8
#: Escapes within escapes, at most.
_MAX_LAYERS: Final = 6


class _Pattern:
    """A regular expression that is compiled when it is first used: most programs never mask a text."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self._pattern, self._flags = pattern, flags

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(self._pattern, self._flags)


_ESCAPE: Final = _Pattern(
    r"(?P<percent>%[0-7][0-9a-f]|%[c-f][0-9a-f](?:%[89ab][0-9a-f]){1,3})|%u(?P<wide>[0-9a-f]{4})"
    r"|&\#x0*(?P<hexadecimal>[0-9a-f]{1,6});?|&\#0*(?P<decimal>[0-9]{1,7});?"
    r"|&(?:(?P<name>[a-z]{2,8}\d*);|(?P<bare>amp|lt|gt|quot|apos|nbsp))"
    # A backslash before something invisible may be that of an escape.
    r"|\\+(?:u\{?(?P<unicode>[0-9a-f]{4})\}?|x(?P<byte>[0-9a-f]{2})|(?![\0\u00ad\u200b\u200c\u200d\u2060\ufeff]))"
    # Compatibility forms, such as full-width characters; blanks and hyphens of all kinds; what is not visible.
    r"|(?P<other>[\0\x80-\U0010ffff])",
    re.IGNORECASE,
)
#: Every escape contains one of them, or a character that is not ASCII.
_ESCAPE_SIGNS: Final = frozenset("%&\\\0")
_INVISIBLE: Final = frozenset("\0\u00ad\u200b\u200c\u200d\u2060\ufeff")

_BLANKS: Final = r"\s().\-/_\u2010-\u2015\u2212\u00b7"
#: A possible phone number: at least seven digits, with or without separators.
_PHONE_NUMBER: Final = _Pattern(rf"\+?\(?\d(?:[{_BLANKS}]{{0,4}}\d){{6,}}")
_TIME: Final = r"\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:\s?[+-]\d\d:?\d\d(?!\d))?"
_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
#: Dates, times and IP addresses.
_NOT_A_PHONE_NUMBER: Final = _Pattern(
    r"(?<![\d+(])(?<!\d[-.])(?:"
    rf"(?:0000|1[89]\d\d|2[01]\d\d|999\d)([-/.])(?:0\d|1[0-2])\1(?:[0-2]\d|3[01])(?:[T +]{_TIME})?"
    rf"|(?:[0-2]?\d|3[01])([-/.])(?:[0-2]?\d|3[01])\2(?:19|20)\d\d(?:[T +]{_TIME})?"
    r"|(?:19|20)\d\d(?:0\d|1[0-2])(?:[0-2]\d|3[01])T\d{6}(?:\.\d{1,9})?"
    rf"|{_TIME}"
    rf"|{_OCTET}(?:\.{_OCTET}){{3}}"
    r")(?![-.]?\d)"
)
_URL_CREDENTIALS: Final = _Pattern(
    r"""(?<=://)(?:[^\s/?\#"'<>@]{0,256}|[^\s/?\#"'<>:@]{1,128}:(?!\d{1,5}(?:[/?\#\s]|$))[^\s"'<>]{0,256})(?=@)"""
    r"|(?<=[?&])((?:secure_?key|[\w-]{0,32}(?:key|token|secret|password|passwd|pwd|signature|credential)|sig)=)"
    r"""[^&\s"'<>]+""",
    re.IGNORECASE,
)

#: In a URL: user and password, a token as the user of a web address, and a query such as a signature.
_USER_OR_QUERY: Final = _Pattern(r"(://)[^:/]*:.*@|((?:https?|socks5h?)://)[^/]*@|\?.*")
_USERINFO: Final = _Pattern(r"[^\s\"'/:@]+:[^\s\"'@]+@")

#: Start and end of what is masked in a text, and what replaces it.
_Span: TypeAlias = tuple[int, int, str]


def make_redactor(*secrets: str, only_secrets: bool = False) -> Redact:
    """A function that masks these secrets, phone numbers and credentials in URLs. No `repr` of it shows the secrets.

    A secret is found in every common escape, in any case, in base64 and hexadecimal digits; and if it was cut off, by the
    run of its characters that is left.
    """
    needles = [needle for secret in secrets if secret for needle in _needles(secret)]

    def mask(text: str) -> str:
        spans: list[_Span] = []
        for layer, offsets in _layers(text):
            layer_spans = [*_secret_spans(layer, needles), *(() if only_secrets else _other_spans(layer))]
            spans += [(offsets[start], offsets[end], mark) for start, end, mark in layer_spans]
        return _replace(text, spans) if spans else text

    return mask


#: Masks phone numbers and credentials in URLs.
redact: Final = make_redactor()


def hide_credentials(url: str) -> str:
    """A URL without the user, password and query that it may contain; a path is unchanged."""
    return _USER_OR_QUERY.compiled.sub(r"\1\2", url) if "://" in url else url


def hide_userinfo(text: str) -> str:
    """A text without each `user:password@` in it, as in the paths that the errors of an object store name."""
    return _USERINFO.compiled.sub("", text)


def mask_phone_number(value: str) -> str:
    """Masks a value that is a phone number, except its last three digits: `…773`."""
    return f"…{value[-3:] if len(value) > 6 else ''}"


def shorten(text: str) -> str:
    """Masks a text and shortens it to 40 characters."""
    # Texts may be long: mask only a prefix, but cut it to length after that, so that no number is cut in two.
    prefix = redact(text[: 4 * _SHORT_TEXT])
    return prefix if len(prefix) <= _SHORT_TEXT else f"{prefix[: _SHORT_TEXT - 1]}…"


def shorten_repr(value: object) -> str:
    """The `repr` of a value, masked and shortened."""
    try:
        text = redact(repr(str.__str__(value)[: 4 * _SHORT_REPR] if isinstance(value, str) else value))
    except ValueError:  # an int with more digits than the interpreter prints
        text = f"a {type(value).__name__} with too many digits"
    return text if len(text) <= _SHORT_REPR else f"{text[: _SHORT_REPR - 3]}..."


# Layers of escapes.


def _layers(text: str) -> Iterator[tuple[str, Sequence[int]]]:
    """The text, and the text with its escapes resolved once, twice, ...; each with the offsets of its characters."""
    offsets: Sequence[int] = range(len(text) + 1)
    yield text, offsets
    if text.isascii() and _ESCAPE_SIGNS.isdisjoint(text):
        return  # what nearly every text is: the pattern takes milliseconds to compile
    for _ in range(_MAX_LAYERS):
        parts, places, position = [], [], 0
        for match in _ESCAPE.compiled.finditer(text):
            resolved = _resolve(match)
            if resolved != match[0]:
                parts += [text[position : match.start()], resolved]
                places += [*offsets[position : match.start()], *[offsets[match.start()]] * len(resolved)]
                position = match.end()
        if not parts:
            return
        text = "".join((*parts, text[position:]))
        offsets = [*places, *offsets[position:]]
        yield text, offsets


def _resolve(match: re.Match[str]) -> str:
    if name := match["name"] or match["bare"]:
        from html.entities import html5  # takes a millisecond to import

        return html5.get(f"{name};") or html5.get(f"{name.lower()};") or match[0]
    if other := match["other"]:
        return "" if other in _INVISIBLE else unicodedata.normalize("NFKC", other)
    if match["percent"]:
        return bytes.fromhex(match["percent"].replace("%", "")).decode(errors="replace")
    digits = match["wide"] or match["hexadecimal"] or match["unicode"] or match["byte"]
    code = int(match["decimal"]) if match["decimal"] else int(digits, 16) if digits else None
    if code is None:
        return ""  # a backslash before another character
    return chr(code) if code < 0x110000 else match[0]


# What is masked.


#: A form of a secret, how many of its characters in a row are masked, and all of its parts of this length.
_Needle: TypeAlias = tuple[str, int, frozenset[str]]


def _needle(form: str, run: int) -> _Needle:
    return form, run, frozenset(form[start : start + run] for start in range(len(form) - run + 1))


def _needles(secret: str) -> list[_Needle]:
    """The forms of a secret to search for."""
    *_, (resolved, _) = _layers(secret)
    needles = [
        _needle(form, min(_SECRET_RUN, len(form))) for form in {_folded(secret), _folded(resolved)} if form
    ]
    data = secret.encode()
    if len(data) >= _ENCODED_RUN:
        forms = [data.hex()]
        for shift in range(3):
            encoded = base64.b64encode(bytes(shift) + data).decode()
            # Without the characters that depend on the bytes before and after the secret.
            core = encoded[(8 * shift + 5) // 6 : 8 * (shift + len(data)) // 6]
            forms += {core, core.replace("+", "-").replace("/", "_")}
        needles += [_needle(_folded(form), _ENCODED_RUN) for form in forms]
    return needles


def _folded(text: str) -> str:
    # A blank is "+" in a query string. Characters whose lower case is longer would move the others.
    return "".join(c if c > "\x7f" else c.lower() for c in text).replace("+", " ")


def _secret_spans(layer: str, needles: Sequence[_Needle]) -> Iterator[_Span]:
    if not needles:
        return
    layer = _folded(layer)
    for needle, run, parts in needles:
        for part in parts:
            position = layer.find(part)
            while position >= 0:
                yield position, position + run, "***"
                position = layer.find(part, position + 1)
        if run == _SECRET_RUN:
            end, start = len(layer.rstrip(" .…\"'")), len(layer) - len(layer.lstrip(" .…\"'"))
            if layer.endswith(needle[:_SECRET_RUN_AT_END], 0, end):
                yield end - _SECRET_RUN_AT_END, end, "***"
            if layer.startswith(needle[-_SECRET_RUN_AT_END:], start):
                yield start, start + _SECRET_RUN_AT_END, "***"


def _other_spans(layer: str) -> Iterator[_Span]:
    if "://" in layer or "=" in layer:
        for match in _URL_CREDENTIALS.compiled.finditer(layer):
            start = match.end(1) if match[1] else match.start()
            if start < match.end():
                yield start, match.end(), "***"
    if sum(map(str.isdigit, layer)) > 6:
        layer = _NOT_A_PHONE_NUMBER.compiled.sub(lambda match: ":" * len(match[0]), layer)
        for match in _PHONE_NUMBER.compiled.finditer(layer):
            yield *match.span(), f"…{''.join(filter(str.isdigit, match[0]))[-3:]}"


def _replace(text: str, spans: list[_Span]) -> str:
    """The text with the spans replaced; those that overlap or touch become one."""
    merged: list[_Span] = []
    for start, end, mark in sorted(spans):
        if merged and start <= merged[-1][1]:
            first, last, other = merged[-1]
            if "***" not in {mark, other} and start == last:
                merged.append((start, end, mark))
                continue
            merged[-1] = (first, max(last, end), "***" if "***" in {mark, other} else mark)
        else:
            merged.append((start, end, mark))
    parts, position = [], 0
    for start, end, mark in merged:
        parts += [text[position:start], mark]
        position = end
    return "".join((*parts, text[position:]))
