"""Messages in error bodies: few, short, and without phone numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import examples

from iovox_async._parsing.error_body import ERROR_BYTES, MAX_MESSAGES, error_messages
from iovox_async._redaction import make_redactor


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    ("body", "messages"),
    [
        pytest.param(
            b'<errors><error status="401">HTTP 401: Unauthorized</error></errors>',
            ("HTTP 401: Unauthorized",),
            id="XML",
        ),
        pytest.param(
            b'<?xml version="1.0" encoding="ISO-8859-1"?>\n<errors><error>a \xe9</error><error> b\n c </error></errors>',
            ("a é", "b c"),
            id="XML in Latin-1, two errors",
        ),
        pytest.param(b"<errors><error/><error>x<b>y</b>z</error></errors>", ("xyz",), id="XML with parts"),
        pytest.param(
            b'<errors xmlns="urn:x"><error>named</error></errors>', ("named",), id="XML with a namespace"
        ),
        pytest.param(
            b'<!DOCTYPE e [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><errors><error>&b;</error></errors>',
            None,
            id="XML with entities, which are not expanded",
        ),
        pytest.param(
            b'<?xml version="1.0" encoding="utf-7"?><errors><error>a</error></errors>',
            ("a",),
            id="XML, UTF-7",
        ),
        pytest.param(
            b'<?xml version="1.0" encoding="none"?><errors><error>a</error></errors>',
            ("a",),
            id="XML, unknown",
        ),
        pytest.param(
            b'<?xml version="1.0" encoding="idna"?><errors><error>a</error></errors>', ("a",), id="XML, idna"
        ),
        pytest.param(b"<errors><error>never closed", ("never closed",), id="cut XML"),
        pytest.param(b'{"error": "Limit not an integer"}', ("Limit not an integer",), id="JSON"),
        pytest.param(b'{"errors": [{"message": "a", "code": 3}, "b"]}', ("a", "b"), id="JSON, a list"),
        pytest.param(b'["a", {"detail": "b"}, 5]', ("a", "b"), id="JSON, a bare list"),
        pytest.param(b'"Retry later"', ("Retry later",), id="JSON, a string"),
        pytest.param(b'{"status": "bad", "reason": "none"}', ("bad", "none"), id="JSON, other names"),
        pytest.param(b'{"code": 500}', ("an object with the keys code",), id="JSON without text"),
        pytest.param(
            b'{"data": [{"name": "Ann"}], "447598455773": 1, "Ann Smith": {}}',
            ("an object with the keys data and 2 others",),
            id="a page",
        ),
        pytest.param(
            b'[{"id": 1, "name": "Ann"}, {"name": "Bob"}]', ("a list of 2 items",), id="a list of records"
        ),
        pytest.param(
            b'{"id": 1, "name": "Ann"}', ("an object with the keys id, name",), id="a single record"
        ),
        pytest.param(b'[{"id": 1, "name": "Ann', ("JSON that cannot be read",), id="a cut page"),
        pytest.param(b'[{"id": 1}' + b" " * ERROR_BYTES, ("JSON of more than 16 KiB",), id="a long page"),
        pytest.param(b'{"code": 5, "error": "cut', ("cut",), id="cut JSON"),
        pytest.param(b"Internal Server Error\n", ("Internal Server Error",), id="text"),
        pytest.param(b"<html><h1>502</h1>Bad <b>Gateway</b></html>", ("502 Bad Gateway",), id="HTML"),
        pytest.param(b"", (), id="nothing"),
        pytest.param(b" \r\n", (), id="white space"),
        pytest.param(b"<br/>", (), id="markup without text"),
        pytest.param(b"\xff\xfe\x00", (), id="no text at all"),
    ],
)
def test_messages_are_read_from_any_format(body: bytes, messages: tuple[str, ...] | None):
    """Given an error body as XML, JSON or text, then its messages are read."""
    read = error_messages(body)
    if messages is None:
        assert "aaaa" not in "".join(read).replace('"aaaa"', "")
    else:
        assert read == messages


@examples(400)
@given(body=st.binary(max_size=300) | st.text(alphabet='<>/error{}[]":,& a!-?', max_size=80).map(str.encode))
def test_any_bytes_give_a_few_short_messages(body: bytes):
    """Given any bytes, then there are at most eight short messages and no error."""
    read = error_messages(body)
    assert len(read) <= MAX_MESSAGES
    assert all(0 < len(text) <= 200 for text in read)


@pytest.mark.parametrize(
    "body",
    [
        b"<" * 10_000_000,
        b"<error>" * 100_000,
        b"<error>" * 4000 + b"x" + b"</error>" * 4000,
        b"[" * 1_000_000,
        b'{"error":' * 100_000,
        b"<a " * 1_000_000,
        b"1" * 1_000_000,
        b"x" * ERROR_BYTES * 3,
    ],
    ids=lambda body: repr(body[:8]),
)
@pytest.mark.timeout(10)
def test_a_large_or_hostile_body_takes_no_long_time(body: bytes):
    """Given a huge or deeply nested body, then only its beginning is read, and the messages are short."""
    read = error_messages(body)
    assert sum(map(len, read)) <= 200 * MAX_MESSAGES


@pytest.mark.finding("C4")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp037"])
def test_entities_are_not_expanded_in_any_encoding(encoding: str):
    """Given a document type with entities in another encoding than UTF-8, then nothing is expanded."""
    document = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE e [<!ENTITY a "aaaa">]>'
        "<errors><error>&a;&a;</error></errors>"
    )
    assert "aaaaaaaa" not in "".join(error_messages(document.encode(encoding)))
    hidden = document.encode(encoding)
    head = b'<?xml version="1.0" encoding="%s"?>' % encoding.encode()
    assert "aaaaaaaa" not in "".join(error_messages(head + hidden))


@pytest.mark.finding("C4")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize(
    "body", ["<errors><error>a</error></errors>", '{"error": "a"}', "a"], ids=["XML", "JSON", "text"]
)
def test_a_body_with_nul_bytes_is_not_read(body: str, encoding: str):
    """Given a body with NUL bytes, then it has no messages."""
    assert error_messages(body.encode(encoding)) == ()


@pytest.mark.finding("C1")
@pytest.mark.parametrize("length", [150, 180, 190, 196, 199, 200, ERROR_BYTES - 30, ERROR_BYTES - 8])
@pytest.mark.parametrize("form", ["%s", '{"error": "%s"}', "<errors><error>%s</error></errors>"])
def test_a_message_is_masked_before_it_is_cut(form: str, length: int):
    """Given a key or a phone number where a message or a body is cut, then no part of them is in the messages."""
    key = "Zq7-Wv3x_Jk9+Lm2/Tb5=Hd8"
    for secret in (key, "+44 7598 455 773"):
        (message,) = error_messages((form % ("y" * length + secret + "z" * 90)).encode(), make_redactor(key))
        assert not [part for part in ("Zq7-", "8455", "598 4") if part in message]


def test_phone_numbers_in_error_bodies_are_masked():
    """Given a phone number in an error body of any format, then the message does not show it."""
    for body in (
        b"<errors><error>no 447598455773</error></errors>",
        b'{"error":"no 447598455773"}',
        b"no 447598455773",
    ):
        assert error_messages(body) == ("no …773",)
