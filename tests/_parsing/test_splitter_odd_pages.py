"""Pages in another form than a list, with broken texts, or that are no pages at all."""

from __future__ import annotations

import json
import random
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.builders import feed
from support.model_server import examples
from support.odd_values import BROKEN_TEXTS

from iovox_async._parsing.decoder import CallDecoder
from iovox_async._parsing.page import RawPage
from iovox_async._parsing.splitter import SEGMENT_BYTES, PageSplitter
from iovox_async.errors import DecodeError, RecordError


def read(*parts: bytes) -> RawPage:
    splitter = PageSplitter()
    feed(splitter, *parts)
    return splitter.build()


def page_of_calls(number: int) -> bytes:
    rows = [{"id": index, "call_start": "2024-01-01 00:00:00", "note": "x" * 200} for index in range(number)]
    return json.dumps(rows, separators=(",", ":")).encode()


# What is not a list.


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b"{}", b" [ ] ", b"\n{ }\r\n", b"\xef\xbb\xbf[]", b"\xef\xbb\xbf null"], ids=repr
)
def test_an_empty_result_is_a_page_without_rows(body: bytes):
    """Given `[]`, `null` or `{}`, then the page has no rows."""
    page = read(body)
    assert (page.rows, page.segments, page.starts) == (0, (), [])
    assert page.raw(range(0)) == b"[]"
    assert list(page.pick([])) == []


def test_the_page_of_a_204_has_no_rows():
    """Given a response without a body, then `empty` is its page."""
    assert PageSplitter.empty().rows == 0


def test_a_single_call_may_come_as_an_object():
    """Given the object of a single call, then the page has one row."""
    page = read(b' {"id": 3, "call_start": "2024-01-01 00:00:00"}\n')
    assert (page.rows, list(page.ids), page.starts) == (1, [3], [datetime(2024, 1, 1)])


@pytest.mark.finding("A13")
def test_a_page_may_be_a_list_with_gaps():
    """Given calls as an object of whole numbers, as PHP sends a list with gaps, then they are the rows in that order."""
    page = read(b'{"10": {"id": 3}, "2": {"id": 2}, "0": {"id": "\\ud83d", "x": "}"}}')
    assert (page.rows, list(page.ids)) == (3, [None, 2, 3])


@pytest.mark.finding("C2")
@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ({"data": [{"id": 1, "text": "+44 7598 455 773"}]}, "an object with the keys data"),
        ({"calls": [{"node_name": "Ann"}], "error": None, "message": "Ann called"}, "calls, error, message"),
        ({"data": {"message": "Ann called"}, "total": 1}, "an object with the keys data, total"),
        ({"messages": [{"from": "Ann", "text": "Hi"}]}, "an object with the keys messages"),
        ({"Ann Smith": [], "447598455773": 1}, "an object with 2 keys"),
        ({"node_name": "Ann", "call_origin": "447598455773"}, "the keys node_name, call_origin"),
    ],
    ids=str,
)
def test_an_object_that_is_no_page_is_described_by_its_keys(body, shape):
    """Given an object with data, then the error names its keys, and holds no value."""
    with pytest.raises(DecodeError, match=shape) as caught:
        read(json.dumps(body).encode())
    assert "Ann" not in str(caught.value)
    assert "773" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.sweep(4)
@pytest.mark.finding("A12")
@pytest.mark.parametrize("size", [1, 100, 5000])
@pytest.mark.parametrize("members", [text for text, _ in BROKEN_TEXTS.values()], ids=BROKEN_TEXTS)
def test_a_broken_text_does_not_affect_other_rows(members, size):
    """Given a page of any size in which some rows hold a broken text, then all starts and ids are read."""
    good = b'{"id": 7, "call_start": "2024-02-26 04:39:59", "note": "}, {"}'
    bad = b'{"id": 8, "call_start": "2024-02-26 04:40:00", %s}' % members
    body = b"[" + b",\n".join([good, bad] * size) + b"]"
    page = read(body[: len(body) // 3], body[len(body) // 3 :])
    assert list(page.ids) == [7, 8] * size
    assert [start.second for start in page.starts] == [59, 0] * size
    assert len(json.loads(page.raw(range(page.rows)))) == 2 * size
    assert max(len(segment.data) for segment in page.segments) <= 2 * SEGMENT_BYTES


@pytest.mark.finding("A8")
@pytest.mark.parametrize("zone", [None, ZoneInfo("Asia/Tokyo")], ids=["naive", "aware"])
@pytest.mark.parametrize(
    "start",
    ["2024-02-26 04:39:59", "2024-02-26T04:39:59.25", "2024-02-26", " 2024-02-26 04 ", "2024-02-26 04:39:59Z",
     "2024-02-26T04:39:59+09:00", "2024-02-26 04:39+09", "2024-02-26 04:39:59\n", "0000-00-00 00:00:00", "", " ",
     None, 5, [], "soon", "2024-02-30 00:00:00", "2024-02-26 24:00:00", "2024-02-26 04:39:60", "2024-02-26t04:39:59",
     "2024-02-26 04:39:59.1234567", "20240226", "2024-02-26 04:39:59-0900", "2024-02-26 04:39:59z "],
    ids=repr,
)  # fmt: skip
def test_a_start_that_is_not_read_here_is_an_error_of_its_record(start, zone):
    """Given a start in any form, then the decoder reads the one that the row was placed by, or raises `RecordError`."""
    (segment,) = (page := read(json.dumps([{"id": 1, "call_start": start}]).encode())).segments
    try:
        (call,) = CallDecoder(("id", "call_start"), timezone=zone).batch(segment.data)
    except RecordError:
        return
    assert page.starts == [call.call_start.replace(tzinfo=None)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b" \n ", "empty", id="white space"),
        pytest.param(b"<html><body>Log in</body></html>", "HTML", id="HTML"),
        pytest.param(
            b'<?xml version="1.0"?><!DOCTYPE html><html><body/></html>', "the page is HTML", id="XHTML"
        ),
        pytest.param(
            b'<errors><error status="401">HTTP 401: Unauthorized</error></errors>',
            "the page is XML and not a list of calls: HTTP 401: Unauthorized",
            id="the endpoint's errors in XML",
        ),
        pytest.param(
            b"<errors><error>" + b"a\n" * 1000 + b"</error></errors>",
            "^the page is XML and not a list of calls: (a ){99}a $",
            id="a long error in XML",
        ),
        pytest.param(b'{"error": "' + b"a\\n" * 1000 + b'"}', "call: (a ){99}a $", id="a long error object"),
        pytest.param(b"<calls><call/></calls>", "the page is XML or HTML", id="XML"),
        pytest.param(b'{"error": "Retry later"}', "Retry later", id="an error object"),
        pytest.param(
            b'{"error": "Retry later", "code": 5, "data": []}', "Retry later", id="an error object, no data"
        ),
        pytest.param(b'{"error": "a \\ud83d"}', "a \ufffd", id="an error object with half an emoji"),
        pytest.param(b'{"errors": [{"message": "a"}, {"message": "b"}]}', "a; b", id="errors"),
        pytest.param(b'"text"', "not a list", id="a string"),
        pytest.param(b"12", "not a list", id="a number"),
        pytest.param(b"true", "not a list", id="true"),
        pytest.param(b'{"id": 1', "truncated", id="a cut object"),
        pytest.param(b'[{"id": 1}', "truncated", id="a cut list"),
        pytest.param(b'[{"id": 1},', "truncated", id="cut behind a comma"),
        pytest.param(b'[{"id": 1}]x', "trailing", id="text behind the list"),
        pytest.param(b'[{"id": 1}][{"id": 2}]', "trailing", id="two lists"),
        pytest.param(b'[{"id": 1},]', "JSON", id="a comma too many"),
        pytest.param(b'[{"id": 1} {"id": 2}]', "JSON", id="a comma too few"),
        pytest.param(b"[nan]", "JSON", id="nan"),
        pytest.param(b"[" * 100_000, "recursion", id="deep lists"),
        pytest.param(b'[{"id":1,"x":' + b'{"x":' * 100_000, "recursion|truncated", id="deep objects"),
        pytest.param(b'{"x":' * 100_000, "recursion", id="a deep object"),
        pytest.param('[{"id": 1}]'.encode("utf-16"), "not a list", id="UTF-16"),
        pytest.param(b"\x1f\x8b\x08\x00", "gzip data", id="gzip that was not announced"),
    ],
)
def test_bytes_that_are_no_page_are_a_decode_error(body: bytes, message: str):
    """Given bytes that are not a list of calls, then a `DecodeError` says why."""
    with pytest.raises(DecodeError, match=message):
        read(body)


@pytest.mark.fault(6)
def test_a_truncated_page_is_a_decode_error():
    """Given a large page truncated anywhere, also right after a record, then a `DecodeError` is raised."""
    data = page_of_calls(1500)
    rng = random.Random(3)
    ends = [index for index in range(len(data) - 1) if data[index : index + 1] == b"}"]
    for end in [
        *rng.sample(range(1, len(data)), 60),
        *(place + extra for place in rng.sample(ends, 40) for extra in (1, 2)),
    ]:
        with pytest.raises(DecodeError):
            read(data[:end])


def test_invalid_json_late_in_a_page_is_a_decode_error():
    """Given invalid bytes after many valid segments, then a `DecodeError` is raised."""
    data = page_of_calls(3000)
    for place in (len(data) // 2, len(data) - 200):
        with pytest.raises(DecodeError):
            read(data[:place] + b'"},,{' + data[place:])


@pytest.mark.fault(43)
@examples(400)
@given(
    body=st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [*b'[]{},:"\\ 0e-.tfn', b"null", b'{"id":1}', b'"id"', b"\xff", b"\xef\xbb\xbf", b"[{", b"}]"]
        ),
        max_size=30,
    ).map(lambda parts: b"".join(part if isinstance(part, bytes) else bytes([part]) for part in parts)),
    prefix=st.sampled_from((b"", b"[", b'[{"id":1},', b'{"id":')),
)
@example(body=b'{"id":"a\xff"}', prefix=b"")
def test_any_bytes_are_a_page_or_a_decode_error(body: bytes, prefix: bytes):
    """Given any bytes, then there is a page whose rows and ids can be read, or a `DecodeError`."""
    try:
        page = read(prefix + body)
    except DecodeError:
        return
    assert len(page.ids) == len(page.starts) == page.rows
    assert page.raw(range(page.rows)).startswith(b"[")
    assert sum(len(segment.split()) for segment in page.segments) == page.rows


@pytest.mark.fault(6)
def test_no_error_shows_data_of_a_page():
    """Given invalid pages with phone numbers, then the errors do not show them."""
    for body in (
        b'[{"id": 1, "call_origin": "447598455773", }]',
        b'{"call_origin": "447598455773"}',
        b'["447598455773"',
    ):
        with pytest.raises(DecodeError) as caught:
            read(body)
        assert "447598455773" not in str(caught.value)
        assert "447598455773" not in repr(caught.value)
