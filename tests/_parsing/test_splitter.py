"""The page splitter: any parts give the same rows, and any bytes give a page or a `DecodeError`."""

from __future__ import annotations

import json
import random
from datetime import datetime
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import feed
from support.model_server import examples

from iovox_async._parsing.page import RawPage
from iovox_async._parsing.splitter import SEGMENT_BYTES, PageSplitter
from iovox_async.errors import DecodeError


def read(*parts: bytes) -> RawPage:
    splitter = PageSplitter()
    feed(splitter, *parts)
    return splitter.build()


def values(page: RawPage) -> list[object]:
    """Every row, as read by the standard library."""
    return [row for segment in page.segments for row in json.loads(segment.data)]


def split_at(data: bytes, offsets: list[int]) -> list[bytes]:
    """The data in parts, split at these offsets."""
    bounds = [0, *sorted(offset % (len(data) + 1) for offset in offsets), len(data)]
    return [data[start:stop] for start, stop in pairwise(bounds)]


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


@pytest.mark.sweep(7)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_a_page_of_any_layout_is_read_completely(rows, form):
    """Given a page of any white space and contents, then it gives all rows, and its segments hold each byte once."""
    data = form(rows).encode()
    page = read(data)
    assert values(page) == rows
    assert page.rows == len(page.starts) == len(rows)
    assert page.size == page.wire_bytes == len(data)
    assert json.loads(page.raw(range(page.rows))) == rows
    assert sum(len(segment.data) for segment in page.segments) <= len(data) + 2 * len(page.segments)


@cache
def rows_at_once(rows: str, form: str) -> tuple[bytes, list[bytes]]:
    """A page, and its rows when it is read at once."""
    data = FORMS[form](ROWS[rows]).encode()
    return data, raw_rows(read(data))


def raw_rows(page: RawPage) -> list[bytes]:
    return [row for segment in page.segments for row in segment.split()]


@examples(40)
@given(
    offsets=st.lists(st.integers(0, 10**7), max_size=12),
    rows=st.sampled_from(list(ROWS)),
    form=st.sampled_from(list(FORMS)),
)
def test_any_parts_give_the_same_rows(offsets: list[int], rows: str, form: str):
    """Given a page in any parts, then the rows are the same."""
    data, expected = rows_at_once(rows, form)
    page = read(*split_at(data, offsets))
    assert raw_rows(page) == expected
    assert page.size == len(data)


@pytest.mark.slow
@pytest.mark.parametrize("form", [pytest.param(form, id=name) for name, form in FORMS.items()])
def test_single_bytes_give_the_same_segments(form):
    """Given a page byte by byte or at once, then rows and number of segments are the same."""
    data = form(calls(1200, text=TRAP)).encode()
    slow, fast = read(*(data[at : at + 1] for at in range(len(data)))), read(data)
    assert values(slow) == values(fast)
    assert len(slow.segments) == len(fast.segments)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@examples(24)
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(("id", "a", "b")) | st.text(max_size=4), json_values), max_size=6
    ),
    times=st.integers(1, 3000),
    indent=st.sampled_from((None, 0, 1)),
    offsets=st.lists(st.integers(0, 10**7), max_size=4),
)
def test_any_json_is_split_correctly(rows: list[dict], times: int, indent: int | None, offsets: list[int]):
    """Given any objects many times, then the rows are those that `json` reads."""
    times = min(times, 1 + 200_000 // (len(str(rows)) + 1))
    data = json.dumps(rows * times, indent=indent).encode()
    assert values(read(*split_at(data, offsets))) == rows * times


@pytest.mark.parametrize("form", ["compact", "plain", "pretty"])
def test_segments_are_of_the_intended_size(form: str):
    """Given a large page at once or in parts, then its segments are of about `SEGMENT_BYTES`."""
    data = FORMS[form](calls(9000, text=TRAP)).encode()
    assert len(data) > 20 * SEGMENT_BYTES
    for parts in ([data], [data[at : at + 5000] for at in range(0, len(data), 5000)]):
        sizes = [len(segment.data) for segment in read(*parts).segments]
        assert max(sizes) <= SEGMENT_BYTES + 4096 + 2
        assert min(sizes[:-1]) >= SEGMENT_BYTES // 2
        assert len(sizes) <= 2 * len(data) / SEGMENT_BYTES


def test_segments_of_calls_with_many_parts_are_smaller():
    """Given calls with many parts, then a segment after the first has fewer objects than make Python search for garbage."""
    rows = [{"id": index, "parts": [{"phrase": "hello " * 10}] * 60} for index in range(300)]
    first, *others, _ = read(json.dumps(rows).encode()).segments
    assert len(first.data) > SEGMENT_BYTES // 2
    assert max(segment.data.count(b"{") for segment in others) < 700


@pytest.mark.parametrize(
    "parts", [pytest.param(3, marks=pytest.mark.slow), 60, pytest.param(2000, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("form", ["compact", "pretty"])
def test_parts_that_look_like_records_do_not_make_segments_large(parts: int, form: str):
    """Given nested objects that look like records, then brackets are counted, and segments stay small."""
    nested = [{"id": 1, "x": '}, {\\"id'} for _ in range(parts)]
    rows = [{"id": index, "parts": nested, "more": {"id": [[]]}} for index in range(12_000 // parts)]
    data = FORMS[form](rows).encode()
    for page in (read(data), read(*(data[at : at + 7777] for at in range(0, len(data), 7777)))):
        assert values(page) == rows
        assert max(len(segment.data) for segment in page.segments) <= 2 * SEGMENT_BYTES + 2


def test_records_of_different_keys_do_not_make_segments_large():
    """Given records that do not begin with the key of the first, then brackets are counted, and segments stay small."""
    rows = [{f"key {index}": index, "pad": "x" * 200} for index in range(5000)]
    page = read(json.dumps(rows).encode())
    assert values(page) == rows
    assert max(len(segment.data) for segment in page.segments) <= 2 * SEGMENT_BYTES + 2


@pytest.mark.sweep(3)
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "head", [b'{"id":1,"x":"', b'[{"id":1,"x":"', b'[{"id":1},{"id":2,"x":"', b"no JSON "], ids=repr
)
def test_the_work_is_in_proportion_to_the_bytes(head: bytes):
    """Given sixteen thousand parts that cannot be split, then they are copied only a few times, not once for each part."""
    splitter = PageSplitter()
    splitter.feed(head)
    for _ in range(16_000):
        splitter.feed(b"}, {" * 256)
    with pytest.raises(DecodeError):
        splitter.build()


@pytest.mark.parametrize(
    ("ids", "ascend"),
    [
        ([], True),
        ([1], True),
        ([1, 2, 5], True),
        ([-(2**63), 2**63 - 1], True),
        ([1, 1], False),
        ([2, 1], False),
        ([1, None, 2], False),
        ([None, 1], False),
        (["1", "2"], True),
        (["9", "10"], True),
        (["10", "9"], False),
        ([1, "x"], False),
        ([1, 2**63], False),
        ([1, 2.5], False),
    ],
)
@pytest.mark.parametrize("filler", [0, SEGMENT_BYTES], ids=["one segment", "one each"])
def test_it_is_known_whether_ids_ascend(ids, ascend: bool, filler: int):
    """Given ids in a page of one or more segments, then it is known whether they are numbers of which each is above the one before."""
    page = read(json.dumps([{"id": value, "note": "x" * filler} for value in ids]).encode())
    assert page.ids_ascend is ascend
    assert len(page.segments) == (len(ids) if filler else min(1, len(ids)))


def test_starts_and_ids_are_read():
    """Given rows in unusual forms, then starts and ids are read where they can be."""
    page = read(
        b'[{"id":7,"call_start":"2024-01-01 00:00:03"},{"id":"8","call_start":"2024-01-01 00:00:04.250"}]'
    )
    assert page.starts == [datetime(2024, 1, 1, 0, 0, 3), datetime(2024, 1, 1, 0, 0, 4, 250_000)]
    assert (list(page.ids), page.ids[1]) == ([7, 8], 8)


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
        pytest.param(b'{"id":%s}' % (b"9" * 400), None, None, id="an id of 400 digits"),
        pytest.param(b"17", None, None, id="a number and no record"),
        pytest.param(b"[]", None, None, id="a list and no record"),
    ],
)
def test_an_odd_row_does_not_affect_the_others(row: bytes, start: int | None, number: object):
    """Given an odd row between two others, then what cannot be read of it is None, and the others are read."""
    good = b'{"id":5,"call_start":"2024-01-01 00:00:09"}'
    page = read(b"[" + b",".join((good, row, good)) + b"]")
    other = datetime(2024, 1, 1, 0, 0, 9)
    assert page.starts == [other, None if start is None else datetime(2024, 1, 1), other]
    assert list(page.ids) == [5, number, 5]
    assert page.segments[0].split()[1] == row


# Picking rows.


@examples(60)
@given(data=st.data())
def test_picked_rows_are_those_with_the_given_indexes(data):
    """Given any indexes in any order, then the blocks have these rows in this order."""
    page = read(PICK)
    numbers = st.integers(0, page.rows - 1)
    rows = data.draw(st.lists(numbers, unique=True, max_size=40))
    form = data.draw(st.sampled_from(["any", "range", "neighbours changed", "whole page"]))
    if form == "range" and rows:
        rows = range(min(rows), max(rows) + 1)
    elif form != "any":
        changed = {row + 1 for row in rows if form == "neighbours changed" and row + 1 < page.rows}
        rows = sorted(range(page.rows), key=lambda row: row - 1.5 * (row in changed))
    collected = []
    for block in page.pick(rows):
        raw_rows = block.segment.split()
        for position in range(block.segment.rows) if block.rows is None else block.rows:
            row = json.loads(raw_rows[position])
            assert row["id"] == block.index + position
            collected.append(row["id"])
    assert collected == list(rows)
    assert [row["id"] for row in json.loads(page.raw(rows))] == list(rows)


@given(data=st.data())
def test_a_block_is_split_after_any_row(data):
    """Given a block, when it is split, then the two parts have its rows in their order."""
    page = read(PICK)
    block = next(page.pick(data.draw(st.sampled_from([range(page.rows), range(3, 50), [9, 8, 7]]))))
    rows = list(range(block.segment.rows) if block.rows is None else block.rows)
    count = data.draw(st.integers(0, block.count))
    first, rest = block.split(count)
    assert (list(first.rows), list(rest.rows)) == (rows[:count], rows[count:])
    assert (first.index, first.segment) == (rest.index, rest.segment) == (block.index, block.segment)


def test_rows_in_a_random_order_are_not_decoded_by_segments():
    """Given rows in a random order, then each is a block of its own, so that no segment is decoded for each of them."""
    page = read(PICK)
    rows = sorted(range(page.rows), key=lambda row: row * 7919 % page.rows)
    assert {block.segment.rows for block in page.pick(rows)} == {1}


PICK = FORMS["pretty"](calls(1500)).encode()


def test_a_complete_segment_is_not_copied():
    """Given all rows of a segment, then the segment itself is picked."""
    page = read(PICK)
    blocks = list(page.pick(range(page.rows)))
    assert [(block.index, block.rows) for block in blocks[:1]] == [(0, None)]
    assert all(block.segment is segment for block, segment in zip(blocks, page.segments, strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
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
def test_a_start_in_another_form_is_read_as_in_records(text, expected):
    """Given a start in another form, then it is the one of the record, since windows are chosen by it."""
    page = read(json.dumps([{"id": 1, "call_start": text}]).encode())
    assert page.starts == [None if expected is None else datetime.fromisoformat(expected)]
