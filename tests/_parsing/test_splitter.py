"""Bytes to rows: any split gives the same, and any bytes at all end in rows or in a `DecodeError`."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import zlib
from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.model_server import examples

from iovox_async._parsing.error_body import ERROR_BYTES, MESSAGES, error_messages
from iovox_async._parsing.gzip import STEP_BYTES, GzipDecoder
from iovox_async._parsing.splitter import SEGMENT_BYTES, PageSplitter, RawPage
from iovox_async._redaction import mask_digits
from iovox_async.errors import DecodeError


def read(*parts: bytes) -> RawPage:
    reader = PageSplitter()
    for part in parts:
        reader.feed(part)
    return reader.close()


def values(page: RawPage) -> list[object]:
    """Every row, as the standard library reads it."""
    return [row for segment in page.segments for row in json.loads(segment.data)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces, cut at these places."""
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[one:other] for one, other in pairwise(marks)]


def calls(number: int, *, filler: int = 200, **more: object) -> list[dict[str, object]]:
    return [
        {
            "id": index,
            "call_start": f"2024-01-01 {index // 3600 % 24:02}:{index // 60 % 60:02}:{index % 60:02}",
        }
        | {"note": "x" * filler}
        | more
        for index in range(number)
    ]


LARGE = calls(2000)
TRAP = '},{"id":1,"call_start":"2024-01-01 00:00:00"},{"id":2}]'
FORMS = {
    "compact": lambda rows: json.dumps(rows, separators=(",", ":")),
    "plain": json.dumps,
    "pretty": lambda rows: json.dumps(rows, indent=4),
    "lines": lambda rows: "[\r\n" + "\r\n,\t".join(json.dumps(row) for row in rows) + "\n]\n\n",
    "after a BOM": lambda rows: "\ufeff " + json.dumps(rows),
    "unescaped": lambda rows: json.dumps(rows, ensure_ascii=False),
}
ROWS = {
    "plain calls": LARGE,
    "text that looks like records": calls(900, text=TRAP * 4),
    "nested lists of the same shape": calls(900, comments=[{"id": 7, "call_start": "x"}, {"id": 8}]),
    "nested lists first": [
        {"parts": [{"id": 1}, {"id": 2}], "id": index, "pad": "y" * 300} for index in range(1500)
    ],
    "keys in any order": [dict(random.Random(row["id"]).sample(list(row.items()), 3)) for row in LARGE],
    "records larger than a segment": calls(5, filler=SEGMENT_BYTES * 2),
    "one large among small": [*calls(500), *calls(1, filler=SEGMENT_BYTES * 5), *calls(500)],
    "escapes": calls(900, text='"\\ }, {"id": \u2028\U0001f600 \\u0000 ü ' * 5),
    "no records but values": [1, "},{", None, True, [{"id": 1}, {"id": 2}], 1.5] * 9000,
    "an odd key": [{'a"b\\': index, "id": index, "pad": "z" * 100} for index in range(3000)],
    "an empty key": [{"": index, "pad": "z" * 100} for index in range(3000)],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_a_page_of_any_form_is_read_whole(rows, form):
    """Whatever its white space and its contents, a page gives its rows, in pieces that hold each byte once."""
    data = form(rows).encode()
    page = read(data)
    assert values(page) == rows
    assert page.rows == len(page.starts) == len(rows)
    assert page.size == page.wire == len(data)
    assert json.loads(page.raw(range(page.rows))) == rows
    assert sum(len(segment.data) for segment in page.segments) <= len(data) + 2 * len(page.segments)


@examples(60)
@given(
    places=st.lists(st.integers(0, 10**7), max_size=12),
    rows=st.sampled_from(list(ROWS)),
    form=st.sampled_from(list(FORMS)),
)
def test_any_split_of_the_bytes_gives_the_same_rows(places: list[int], rows: str, form: str):
    """Where the network cuts does not matter."""
    data = FORMS[form](ROWS[rows]).encode()
    page = read(*cut(data, places))
    assert values(page) == ROWS[rows]
    assert page.size == len(data)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_byte_by_byte_gives_the_same_rows_in_like_segments(form):
    """What counts is what came, not how."""
    data = form(calls(1200, text=TRAP)).encode()
    slow, fast = read(*(data[at : at + 1] for at in range(len(data)))), read(data)
    assert values(slow) == values(fast)
    assert len(slow.segments) == len(fast.segments)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@examples(60)
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(("id", "a", "b")) | st.text(max_size=4), json_values), max_size=6
    ),
    times=st.integers(1, 3000),
    indent=st.sampled_from((None, 0, 1)),
    places=st.lists(st.integers(0, 10**7), max_size=4),
)
def test_any_json_is_read_as_json_reads_it(
    rows: list[dict], times: int, indent: int | None, places: list[int]
):
    """Arbitrary objects, many times over: the splitter never changes what a page says."""
    times = min(times, 1 + 200_000 // (len(str(rows)) + 1))
    data = json.dumps(rows * times, indent=indent).encode()
    assert values(read(*cut(data, places))) == rows * times


@pytest.mark.parametrize("form", ["compact", "plain", "pretty"])
def test_no_step_is_long(form: str):
    """However large a page is and however it comes, it is worked on in segments of about their size."""
    data = FORMS[form](calls(9000, text=TRAP)).encode()
    assert len(data) > 20 * SEGMENT_BYTES
    for parts in ([data], [data[at : at + 5000] for at in range(0, len(data), 5000)]):
        sizes = [len(segment.data) for segment in read(*parts).segments]
        assert max(sizes) <= SEGMENT_BYTES + 4096 + 2
        assert min(sizes[:-1]) >= SEGMENT_BYTES // 2
        assert len(sizes) <= 2 * len(data) / SEGMENT_BYTES


@pytest.mark.parametrize("parts", [3, 60, 2000])
@pytest.mark.parametrize("form", ["compact", "pretty"])
def test_parts_that_look_like_records_do_not_make_steps_long(parts: int, form: str):
    """Where most places that look like the end of a record are inside of one, brackets are counted."""
    nested = [{"id": 1, "x": '}, {\\"id'} for _ in range(parts)]
    rows = [{"id": index, "parts": nested, "more": {"id": [[]]}} for index in range(30_000 // parts)]
    data = FORMS[form](rows).encode()
    for page in (read(data), read(*(data[at : at + 7777] for at in range(0, len(data), 7777)))):
        assert values(page) == rows
        assert max(len(segment.data) for segment in page.segments) <= 2 * SEGMENT_BYTES + 2


def test_records_of_any_keys_do_not_make_steps_long():
    """Where no record begins like the first, brackets are counted as well."""
    rows = [{f"key {index}": index, "pad": "x" * 200} for index in range(5000)]
    page = read(json.dumps(rows).encode())
    assert values(page) == rows
    assert max(len(segment.data) for segment in page.segments) <= 2 * SEGMENT_BYTES + 2


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "head", [b'{"id":1,"x":"', b'[{"id":1,"x":"', b'[{"id":1},{"id":2,"x":"', b"no JSON "], ids=repr
)
def test_what_cannot_be_split_costs_in_proportion_to_its_bytes(head: bytes):
    """In sixteen thousand pieces, and copied only a few times: not once a piece, which would take minutes."""
    reader = PageSplitter()
    reader.feed(head)
    for _ in range(16_000):
        reader.feed(b"}, {" * 256)
    with pytest.raises(DecodeError):
        reader.close()


def test_starts_are_read_and_ids_on_demand():
    """The plan learns when each row began; ids are read only when it asks."""
    page = read(
        b'[{"id":7,"call_start":"2024-01-01 00:00:03"},{"id":"8","call_start":"2024-01-01 00:00:04.250"}]'
    )
    assert page.starts == [datetime(2024, 1, 1, 0, 0, 3), datetime(2024, 1, 1, 0, 0, 4, 250_000)]
    assert page.ids() == [7, "8"]


@pytest.mark.parametrize(
    ("row", "start", "number"),
    [
        pytest.param(b'{"id":1}', None, 1, id="no start"),
        pytest.param(b'{"id":1,"call_start":null}', None, 1, id="null"),
        pytest.param(b'{"id":1,"call_start":""}', None, 1, id="empty text"),
        pytest.param(b'{"id":1,"call_start":"0000-00-00 00:00:00"}', None, 1, id="the zero date"),
        pytest.param(b'{"id":1,"call_start":1704067200}', None, 1, id="a number"),
        pytest.param(
            b'{"id":1,"call_start":"2024-01-01T00:00:00Z"}', None, 1, id="a zone, which it never has"
        ),
        pytest.param(b'{"id":1,"call_start":"\xff"}', None, 1, id="a start that is not UTF-8"),
        pytest.param(
            b'{"id":"\xff","call_start":"2024-01-01 00:00:00"}', 0, None, id="an id that is not UTF-8"
        ),
        pytest.param(
            b'{"id":1,"call_start":"2024-01-01 00:00:00","x":"\xff\xfe"}', 0, 1, id="other text is not UTF-8"
        ),
        pytest.param(b'{"id":1.5,"call_start":"2024-01-01 00:00:00"}', 0, None, id="an id with a fraction"),
        pytest.param(b'{"id":1e999,"call_start":"2024-01-01 00:00:00"}', 0, None, id="an id without end"),
        pytest.param(b'{"id":[1],"call_start":"2024-01-01 00:00:00"}', 0, None, id="a list of ids"),
        pytest.param(b'{"call_start":"2024-01-01 00:00:00"}', 0, None, id="no id"),
        pytest.param(
            b'{"id":1,"id":2,"call_start":"x","call_start":"2024-01-01 00:00:00"}', 0, 2, id="keys twice"
        ),
        pytest.param(b'{"id":%s}' % (b"9" * 400), None, int("9" * 400), id="an id of 400 digits"),
        pytest.param(b"17", None, None, id="a number and no record"),
        pytest.param(b"[]", None, None, id="a list and no record"),
    ],
)
def test_one_odd_row_leaves_its_neighbours_as_they_are(row: bytes, start: int | None, number: object):
    """What cannot be read of a row is None; the rows beside it are read as ever."""
    good = b'{"id":5,"call_start":"2024-01-01 00:00:09"}'
    page = read(b"[" + b",".join((good, row, good)) + b"]")
    other = datetime(2024, 1, 1, 0, 0, 9)
    assert page.starts == [other, None if start is None else datetime(2024, 1, 1), other]
    assert page.ids() == [5, number, 5]
    assert page.segments[0].split()[1] == row


# What is not a list.


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b"{}", b" [ ] ", b"\n{ }\r\n", b"\xef\xbb\xbf[]", b"\xef\xbb\xbf null"], ids=repr
)
def test_an_empty_result_has_many_forms(body: bytes):
    """The same back end answers `[]`, `null` and `{}` for nothing."""
    page = read(body)
    assert (page.rows, page.segments, page.starts) == (0, (), [])
    assert page.raw(range(0)) == b"[]"
    assert list(page.pick([])) == []


def test_no_body_at_all_is_the_callers_to_judge():
    """A 204 has no body, and is a page of no rows."""
    assert PageSplitter.empty().rows == 0


def test_a_single_call_may_come_as_an_object():
    """An object with an id counts as a list of one."""
    page = read(b' {"id": 3, "call_start": "2024-01-01 00:00:00"}\n')
    assert (page.rows, page.ids(), page.starts) == (1, [3], [datetime(2024, 1, 1)])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b" \n ", "empty", id="white space"),
        pytest.param(b"<html><body>Log in</body></html>", "HTML", id="HTML"),
        pytest.param(b'{"error": "Retry later"}', "Retry later", id="an error object"),
        pytest.param(b'{"errors": [{"message": "a"}, {"message": "b"}]}', "a; b", id="errors"),
        pytest.param(b'"text"', "no list", id="a string"),
        pytest.param(b"12", "no list", id="a number"),
        pytest.param(b"true", "no list", id="true"),
        pytest.param(b'{"id": 1', "truncated", id="a cut object"),
        pytest.param(b'[{"id": 1}', "truncated", id="a cut list"),
        pytest.param(b'[{"id": 1},', "truncated", id="cut behind a comma"),
        pytest.param(b'[{"id": 1}]x', "trailing", id="text behind the list"),
        pytest.param(b'[{"id": 1}][{"id": 2}]', "trailing", id="two lists"),
        pytest.param(b'[{"id": 1},]', "JSON", id="a comma too many"),
        pytest.param(b'[{"id": 1} {"id": 2}]', "JSON", id="a comma too few"),
        pytest.param(b"[NaN]", "JSON", id="NaN"),
        pytest.param(b"[" * 100_000, "recursion", id="deep lists"),
        pytest.param(b'[{"id":1,"x":' + b'{"x":' * 100_000, "recursion|cut", id="deep objects"),
        pytest.param(b'{"x":' * 100_000, "recursion", id="a deep object"),
        pytest.param('[{"id": 1}]'.encode("utf-16"), "no list", id="UTF-16"),
        pytest.param(b"\x1f\x8b\x08\x00", "no list", id="gzip that was not announced"),
    ],
)
def test_what_is_no_page_says_so(body: bytes, says: str):
    """One typed error, with the decoder's own words and none of the page's bytes."""
    with pytest.raises(DecodeError, match=says):
        read(body)


@pytest.mark.fault(6)
def test_a_large_page_that_is_cut_is_never_taken_for_whole():
    """Cut anywhere, also right behind a record, in the middle of a segment or at its end."""
    data = FORMS["compact"](calls(1500)).encode()
    rng = random.Random(3)
    ends = [index for index in range(len(data) - 1) if data[index : index + 1] == b"}"]
    for end in [
        *rng.sample(range(1, len(data)), 60),
        *(place + extra for place in rng.sample(ends, 40) for extra in (1, 2)),
    ]:
        with pytest.raises(DecodeError):
            read(data[:end])


def test_a_fault_far_into_a_page_is_found():
    """Behind many good segments, bad bytes are still an error."""
    data = FORMS["compact"](calls(3000)).encode()
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
def test_any_bytes_end_in_a_page_or_in_one_error(body: bytes, prefix: bytes):
    """No other exception, also not when rows and ids are read later."""
    try:
        page = read(prefix + body)
    except DecodeError:
        return
    assert len(page.ids()) == len(page.starts) == page.rows
    assert page.raw(range(page.rows)).startswith(b"[")
    assert sum(len(segment.split()) for segment in page.segments) == page.rows


@pytest.mark.fault(6)
def test_no_error_shows_what_a_page_holds():
    """Bytes of a page are personal data."""
    for body in (
        b'[{"id": 1, "call_origin": "447598455773", }]',
        b'{"call_origin": "447598455773"}',
        b'["447598455773"',
    ):
        with pytest.raises(DecodeError) as caught:
            read(body)
        assert "447598455773" not in str(caught.value)
        assert "447598455773" not in repr(caught.value)


# Picking rows.


@examples(60)
@given(data=st.data())
def test_picked_rows_are_those_that_were_asked_for(data):
    """Any places, across segments, each segment with the place of its first row."""
    page = read(PICK)
    rows = sorted(data.draw(st.sets(st.integers(0, page.rows - 1), max_size=40)))
    if data.draw(st.booleans()) and rows:
        rows = range(rows[0], rows[-1] + 1)
    found = []
    for first, segment in page.pick(rows):
        picked = json.loads(segment.data)
        assert len(picked) == segment.rows
        assert picked[0]["id"] == first
        found += [row["id"] for row in picked]
    assert found == list(rows)
    assert [row["id"] for row in json.loads(page.raw(rows))] == list(rows)


PICK = FORMS["pretty"](calls(1500)).encode()


def test_a_whole_segment_is_picked_as_it_is():
    """No copy is made of what is used whole."""
    page = read(PICK)
    assert [segment for _, segment in page.pick(range(page.rows))] == list(page.segments)
    assert all(
        one is other for (_, one), other in zip(page.pick(range(page.rows)), page.segments, strict=True)
    )


# gzip.


def inflate(*parts: bytes) -> bytes:
    engine, out = GzipDecoder(), []
    for part in parts:
        for piece in engine.feed(part):
            assert 0 < len(piece) <= STEP_BYTES
            out.append(piece)
    engine.finish()
    return b"".join(out)


TEXT = json.dumps(calls(300)).encode()
ZIPPED = gzip.compress(TEXT)


@examples(150)
@given(
    members=st.lists(st.binary(max_size=300) | st.just(TEXT), min_size=1, max_size=4),
    places=st.lists(st.integers(0, 10**6), max_size=8),
)
def test_gzip_of_any_members_in_any_split_is_inflated_whole(members: list[bytes], places: list[int]):
    """Every member counts, also empty ones, wherever the network cuts."""
    data = b"".join(map(gzip.compress, members))
    assert inflate(*cut(data, places)) == b"".join(members)


def test_gzip_byte_by_byte():
    """The smallest parts there are."""
    assert inflate(*(ZIPPED[at : at + 1] for at in range(len(ZIPPED)))) == TEXT


@pytest.mark.fault(7)
def test_gzip_that_is_cut_at_any_byte_is_damaged():
    """Also in its last eight bytes, which only tell whether all came; and in the head of a second member."""
    for data in (gzip.compress(b"some text"), ZIPPED[:64] and gzip.compress(b"one") + gzip.compress(b"two")):
        whole = {0, len(data), len(gzip.compress(b"one"))} if data.count(b"\x1f\x8b") > 1 else {0, len(data)}
        for end in range(len(data) + 1):
            if end in whole:
                inflate(data[:end])
            else:
                with pytest.raises(DecodeError, match="cut"):
                    inflate(data[:end])


def test_nothing_at_all_is_no_damage():
    """An empty body is for the page's reader to judge."""
    assert inflate() == inflate(b"") == b""


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(ZIPPED[:-8] + bytes([ZIPPED[-8] ^ 1]) + ZIPPED[-7:], id="a wrong checksum"),
        pytest.param(ZIPPED[:-1] + bytes([ZIPPED[-1] ^ 1]), id="a wrong length"),
        pytest.param(ZIPPED + b"garbage", id="text behind it"),
        pytest.param(ZIPPED + b"\0\0\0\0", id="zeros behind it"),
        pytest.param(TEXT, id="no gzip"),
        pytest.param(zlib.compress(TEXT), id="zlib and not gzip"),
        pytest.param(ZIPPED[:50] + bytes([ZIPPED[50] ^ 255]) + ZIPPED[51:], id="a flipped byte"),
    ],
)
def test_damaged_gzip_is_an_error(data: bytes):
    """Checksum, length and form are all held against what came."""
    with pytest.raises(DecodeError, match="gzip"):
        inflate(data)


def test_a_bomb_is_inflated_in_steps_that_can_be_stopped():
    """A thousandfold: no step is larger than its bound, and whoever counts can stop after any of them."""
    bomb = gzip.compress(b"0" * (40 * STEP_BYTES))
    assert len(bomb) < STEP_BYTES // 10
    steps = GzipDecoder().feed(bomb)
    assert [len(next(steps)) for _ in range(3)] == [STEP_BYTES] * 3
    assert sum(len(piece) for piece in GzipDecoder().feed(bomb)) == 40 * STEP_BYTES


@examples(200)
@given(data=st.binary(max_size=100) | st.binary(max_size=60).map(lambda tail: ZIPPED[:40] + tail))
def test_any_bytes_inflate_or_end_in_one_error(data: bytes):
    """No exception of zlib comes through."""
    with contextlib.suppress(DecodeError):
        inflate(data)


# Error bodies.


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
        pytest.param(b'{"code": 500}', ('{"code": 500}',), id="JSON without text"),
        pytest.param(b"Internal Server Error\n", ("Internal Server Error",), id="text"),
        pytest.param(b"<html><h1>502</h1>Bad <b>Gateway</b></html>", ("502 Bad Gateway",), id="HTML"),
        pytest.param(b"", (), id="nothing"),
        pytest.param(b" \r\n", (), id="white space"),
        pytest.param(b"<br/>", (), id="markup without text"),
        pytest.param(b"\xff\xfe\x00", ("\ufffd\ufffd\x00",), id="no text at all"),
    ],
)
def test_an_error_body_is_read_as_what_it_is(body: bytes, messages: tuple[str, ...] | None):
    """XML first, as the older pages show it, then JSON, then text."""
    said = error_messages(body)
    if messages is None:
        assert "aaaa" not in "".join(said).replace('"aaaa"', "")
    else:
        assert said == messages


@examples(400)
@given(body=st.binary(max_size=300) | st.text(alphabet='<>/error{}[]":,& a!-?', max_size=80).map(str.encode))
def test_any_error_body_is_read(body: bytes):
    """Never an exception, never more than a few short messages."""
    said = error_messages(body)
    assert len(said) <= MESSAGES
    assert all(0 < len(text) <= 200 for text in said)


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
def test_a_large_or_hostile_error_body_is_read_in_no_time(body: bytes):
    """Only its beginning is looked at, and no form of it takes more than that in proportion."""
    said = error_messages(body)
    assert sum(map(len, said)) <= 200 * MESSAGES


# Phone numbers.


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("call from 447598455773 failed", "call from …773 failed"),
        ("+447598455773", "+…773"),
        ("4475984", "…984"),
        ("447598", "447598"),
        ("2024-01-01 00:00:00", "2024-01-01 00:00:00"),
        ("a441273083510b447598455773", "a…510b…773"),
        ("", ""),
    ],
)
def test_phone_numbers_are_taken_out_of_messages(text: str, clean: str):
    """Long runs of digits keep their last three; dates and limits stay."""
    assert mask_digits(text) == clean


def test_error_bodies_are_scrubbed():
    """A server that echoes a number does not get it into our logs, in whatever form it answers."""
    for body in (
        b"<errors><error>no 447598455773</error></errors>",
        b'{"error":"no 447598455773"}',
        b"no 447598455773",
    ):
        assert error_messages(body) == ("no …773",)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2024-02-26", "2024-02-26 00:00:00"),
        ("2024-02-26 04", "2024-02-26 04:00:00"),
        ("2024-02-26T04:39", "2024-02-26 04:39:00"),
        (" 2024-02-26 04:39:59 ", "2024-02-26 04:39:59"),
        ("2024-02-26 04:39:59+01:00", None),
        ("yesterday", None),
        ("", None),
        (5, None),
        (None, None),
    ],
)
def test_a_start_in_another_form_is_known_as_records_know_it(written, meant):
    """A plan tells by it which window a row belongs to, so it must be the same that the record will say."""
    reader = PageSplitter()
    reader.feed(json.dumps([{"id": 1, "call_start": written}]).encode())
    assert reader.close().starts == [None if meant is None else datetime.fromisoformat(meant)]
