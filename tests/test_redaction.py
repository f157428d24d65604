"""The redactor: keys in every escape, grouped phone numbers and credentials in URLs are masked, dates are not."""

from __future__ import annotations

import base64
import html
import json
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.model_server import examples

from iovox_async._redaction import make_redactor, redact, shorten, shorten_repr

#: A key with characters that escaping changes.
KEY = "c4nary/<k3y>&\"0f\\n0b0dy'"
ESCAPES = {
    "plain": str,
    "HTML": html.escape,
    "HTML twice": lambda text: html.escape(html.escape(text)),
    "decimal entities": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "padded entities": lambda text: "".join(f"&#{ord(c):07};" for c in text),
    "hexadecimal entities": lambda text: "".join(f"&#x{ord(c):X};" for c in text),
    "entities without a semicolon": lambda text: html.escape(text).replace(";", ""),
    "percent": lambda text: quote(text, safe=""),
    "percent, few": quote,
    "percent, plus": quote_plus,
    "percent, lower case": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "percent of JavaScript": lambda text: "".join(f"%u{ord(c):04x}" for c in text),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON twice": lambda text: json.dumps(json.dumps(text))[3:-3],
    "JSON, slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON, all": lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
    "repr": lambda text: repr(text)[1:-1],
    "bytes": lambda text: "".join(f"\\x{ord(c):02x}" if ord(c) < 256 else c for c in text),
    "HTML in JSON": lambda text: json.dumps(html.escape(text))[1:-1],
    "percent in HTML": lambda text: html.escape(quote(text)),
    "upper case": str.upper,
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) for c in text),
    "NUL bytes between": "\0".join,
    "invisible characters between": "\u200b".join,
}
NUMBERS = [
    "447598455773",
    "+447598455773",
    "+44 7598 455 773",
    "+44 (0)7598 455773",
    "(0)20 7946 0958",
    "020 7946 0958",
    "020.7946.0958",
    "020-7946-0958",
    "+1 (212) 555-0123",
    "+1-212-555-0123",
    "06.12.34.56.78",
    "0800-11-22-33",
    "0044\u00a07598\u00a0455\u00a0773",
    "+44\u20117598\u2011455\u2011773",
    "+44\u20137598\u2013455\u2013773",
    "\uff10\uff12\uff10\uff17\uff19\uff14\uff16\uff10\uff19\uff15\uff18",
]
DATES = [
    "2024-01-01",
    "2024-01-01 00:00:00",
    "2024-01-01T00:00:00.123456",
    "2024-01-01T00:00:00Z",
    "2024-01-01T00:00:00+01:00",
    "2024-01-01 00:00:00 .. 2024-01-31 23:59:59",
    "2024-01-01/2024-02-01",
    "2024-01-01, 2024-01-02",
    "2024/01/31 10:00",
    "20240226T043959Z",
    "31/12/2024 23:59",
    "1.2.2024",
    "0000-00-00 00:00:00",
    "9998-12-31",
    "04:39:59.123456",
    "Thu, 26 Nov 2026 01:25:41 GMT",
    "2024-01-01+00%3A00%3A00",
    "203.0.113.195",
    "http://10.0.0.1:8080/calls",
    "http://host:8080/a@b",
    "limit 20000, page 12",
]


@pytest.mark.finding("C1")
@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
def test_the_key_is_masked_in_every_escape(escape):
    """Given the key in an escape, then the text around it stays, and the key does not."""
    assert make_redactor(KEY)(f"bad key {escape(KEY)} given") == "bad key *** given"


@pytest.mark.finding("C1")
@pytest.mark.parametrize("before", ["", "u", "me", "me:", "user:name:"])
def test_the_key_is_masked_in_base64_and_hexadecimal_digits(before):
    """Given the key in an Authorization header or as hexadecimal digits, then nothing of it can be decoded."""
    mask = make_redactor(KEY)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode((before + KEY).encode()).decode()
        masked = mask(f"Basic {encoded} is wrong")
        assert "***" in masked
        assert not [at for at in range(len(before), len(encoded) - 8) if encoded[at : at + 8] in masked]
    assert mask(KEY.encode().hex()) == mask(KEY.encode().hex().upper()) == "***"


@pytest.mark.finding("C1")
@pytest.mark.parametrize("escape", ["plain", "HTML", "percent", "JSON, all"])
@pytest.mark.parametrize("length", range(5, len(KEY)))
def test_a_part_of_the_key_is_masked(escape, length):
    """Given a key of which the server cut off one end, then the rest is masked too."""
    mask = make_redactor(KEY)
    assert mask(f"bad {ESCAPES[escape](KEY[:length])}").strip("\\") == "bad ***"
    assert mask(f"bad {ESCAPES[escape](KEY[:length])}...").replace("\\", "") == "bad ***..."
    assert mask(f"{ESCAPES[escape](KEY[-length:])} bad") == "*** bad"


@pytest.mark.finding("C1")
@examples(200)
@given(
    key=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=12, max_size=40).map(str.strip),
    before=st.text(max_size=10),
    after=st.text(max_size=10),
    escapes=st.lists(st.sampled_from(sorted(ESCAPES.keys() - {"full width"})), max_size=2),
)
@example(key="%41%42%43%44%45%46", before="", after="", escapes=["percent"])
@example(key="&lt;&lt;&lt;&lt;&lt;", before="", after="", escapes=["HTML"])
@example(key="000000000000", before="", after="", escapes=["bytes", "NUL bytes between"])
@example(key="000000000000", before="", after="", escapes=["JSON, all", "invisible characters between"])
def test_any_key_is_masked_in_any_escapes(key, before, after, escapes):
    """Given any key in two escapes within any text, then no run of eight of its characters is left."""
    if len(key) < 12:
        return
    escaped = key
    for name in escapes:
        escaped = ESCAPES[name](escaped)
    masked = make_redactor(key)(f"{before} {escaped} {after}")
    assert "***" in masked
    if key not in before + after:
        assert not [at for at in range(len(key) - 7) if key[at : at + 8] in masked.replace("***", "\0")]


def test_no_representation_of_a_redactor_shows_the_key():
    """Given a redactor, then its repr does not contain the key."""
    assert KEY not in repr(make_redactor(KEY)) + repr(vars(make_redactor(KEY)))


@pytest.mark.finding("C2")
@pytest.mark.parametrize(
    "escape", [str, quote, html.escape, json.dumps, ESCAPES["JSON, all"], ESCAPES["decimal entities"]]
)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_grouped_phone_number_is_masked(number, escape):
    """Given a phone number with any separators, in any escape, then at most its last three digits are shown."""
    masked = redact(f"call {escape(number)} now")
    assert sum(map(str.isdigit, masked)) == 3
    assert re.fullmatch(r'call "?…\d{3}"? now', masked)


@pytest.mark.finding("C2")
@pytest.mark.parametrize("text", DATES)
def test_dates_times_and_addresses_stay_readable(text):
    """Given a date, a time or an address, then the text does not change."""
    assert redact(text) == text
    assert redact(f"from {text} on") == f"from {text} on"
    assert redact(f"{text} and {NUMBERS[2]}") == f"{text} and …773"


@pytest.mark.finding("C3")
@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("--proxy http://user:pw@host:8080/x", "--proxy http://***@host:8080/x"),
        ("--out s3://key:sec/ret@bucket/path", "--out s3://***@bucket/path"),
        ("socks5://token@127.0.0.1:1080", "socks5://***@127.0.0.1:1080"),
        ("http%3A%2F%2Fuser%3Apw%40host", "http%3A%2F%2F***%40host"),
        ("https://host/?a=1&secureKey=abc&x=2", "https://host/?a=1&secureKey=***&x=2"),
        ("az://box/x?sig=abc%2F", "az://box/x?sig=***"),
        ("s3://bucket/x?X-Amz-Signature=f00", "s3://bucket/x?X-Amz-Signature=***"),
    ],
)
def test_credentials_in_urls_are_masked(text, masked):
    """Given a URL with credentials, then they are masked, and the rest is not."""
    assert redact(text) == masked


@pytest.mark.parametrize(
    "text",
    ["x" * 16_000, "x %41 y 123 " * 1400, "1 " * 8000, "http://" * 2300, "\\" * 16_000, "%25" * 5000, "c4nar" * 3200,
     "://" + "a:" * 8000, "&key" * 4000, "=" * 16_000, "&a=" * 5000, "1-" * 8000, "+(" * 8000],
    ids=lambda text: text[:6],
)  # fmt: skip
@pytest.mark.timeout(5)
def test_hostile_texts_take_no_long_time(text):
    """Given a long text made to slow the search down, then it is masked all the same."""
    assert len(make_redactor(KEY)(text)) <= len(text)


def test_a_shortened_text_is_masked_before_it_is_cut():
    """Given a phone number where a text is cut, then its digits are not shown."""
    for length in range(30, 48):
        text = "x" * length + "+44 7598 455 773" + "y" * 200
        assert "459" not in re.sub(r"\D", "", shorten(text)) + re.sub(r"\D", "", shorten_repr(text))
        assert len(re.sub(r"\D", "", shorten(text))) <= 3
    assert shorten("short") == "short"
    assert shorten_repr("447598455773") == "'…773'"
    assert shorten_repr(10**5000) == "a int with too many digits"
