"""The fixed-layout decoder reads a page as JSON does, or leaves it to the other decoders."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrow_pages import (
    build_page,
    check_equal_to_records,
    converter_of,
    dates,
    documented_values,
    expected_rows,
    integers,
    json_values,
    page_of,
    read_batches,
    read_records,
    reader_of,
    rows_of,
)
from support.model_server import examples

from iovox_async import Fields
from iovox_async.arrow import _batches, _from_fixed_layout, _plain_values, schema_for
from iovox_async.arrow._batches import ColumnSegment
from iovox_async.arrow._from_fixed_layout import FixedLayoutDecoder
from iovox_async.arrow._row_buffer import RowBuffer

DATA = Path(__file__).parents[1] / "data"
FLAT = tuple(Fields.CALL)
CONVERTER = converter_of(FLAT)
START = '"call_start": "2024-02-26 04:39:59"'


def rows_in_memory(body):
    """A buffer with the bytes of rows."""
    rows = RowBuffer(len(body))
    rows.add(body)
    return rows


def decode(body, before=None):
    """The columns of a page with flat fields, by the fixed-layout decoder only; None if it does not support the page.

    With `before`, the decoder has decoded this page first.
    """
    decoder = FixedLayoutDecoder(CONVERTER)
    if before is not None:
        assert decoder.decode(rows_in_memory(before)) is not None
    decoded = decoder.decode(rows_in_memory(body))
    return None if decoded is None else decoded.batch


def is_column_page(body):
    """Whether a page with these bytes is decoded when it arrives."""
    builder = reader_of(FLAT)[0].page_format.new_builder()
    builder.feed(body)
    return all(isinstance(segment, ColumnSegment) for segment in builder.build(len(body)).segments)


@pytest.mark.parametrize("blank", ["", " ", "  "])
@pytest.mark.parametrize("name", ["example-default.json", "example-1-call-fields.json"])
def test_the_samples_of_the_documentation_have_a_fixed_layout(name, blank):
    """Given the flat sample responses, when read without indentation, then the decoder supports them."""
    rows = json.loads((DATA / name).read_bytes())
    body = json.dumps(rows, separators=("," + blank, ":" + blank)).encode()
    assert is_column_page(body)
    check_equal_to_records(page_of(body), FLAT)


def read_block_by_block(rows, block_bytes, monkeypatch):
    """The page of rows with a fixed layout, decoded in blocks of this size."""
    monkeypatch.setattr(_batches, "ARRIVING_BYTES", block_bytes)
    body = json.dumps(rows).encode()
    builder = reader_of(("id", "call_start"))[0].page_format.new_builder()
    for start in range(0, len(body), 100):
        builder.feed(body[start : start + 100])
    page = builder.build(len(body))
    assert all(isinstance(segment, ColumnSegment) for segment in page.segments)
    return page


@pytest.mark.parametrize("block_bytes", [100, 300, 100_000])
def test_rows_of_the_same_second_are_known(block_bytes, monkeypatch):
    """Given calls of which some start in the same second, when they are decoded block by block, then these rows are listed."""
    seconds = [0, 0, 1, 2, 2, 2, 3, 4, 4]
    rows = [{"id": id_, "call_start": f"2024-02-26 04:39:0{second}"} for id_, second in enumerate(seconds)]
    assert list(read_block_by_block(rows, block_bytes, monkeypatch).ties) == [1, 4, 5, 8]


@pytest.mark.parametrize("block_bytes", [100, 100_000])
@pytest.mark.parametrize(
    ("ids", "ascend"),
    [((1, 2, 3, 7, 8), True), ((1, 2, 2, 7, 8), False), ((1, 2, 3, 8, 7), False), ((9, 2, 3, 7, 8), False)],
)
def test_it_is_known_whether_ids_ascend(ids, ascend, block_bytes, monkeypatch):
    """Given ids, when their rows are decoded block by block, then it is known whether each is above the one before."""
    rows = [{"id": id_, "call_start": "2024-02-26 04:39:00"} for id_ in ids]
    assert read_block_by_block(rows, block_bytes, monkeypatch).ids_ascend is ascend


TRAPS = {
    "braces in a text": [{"id": 1, "call_result": "a}, {b"}, {"id": 2, "call_result": "x"}],
    "a text like a row": [
        {"id": 1, "call_result": "}", "node_id": "{"},
        {"id": 2, "call_result": ", ", "node_id": ": "},
    ],
    "keys in another order": [{"node_id": "1", "link_id": "2"}, {"link_id": "2", "node_id": "1"}],
    "another key": [{"node_id": "1"}, {"link_id": "1"}],
    "a key less": [{"node_id": "1", "link_id": "2"}, {"node_id": "1"}],
    "a key twice": '[{"node_id": "1", "node_id": "2"}]',
    "an unknown key": [{"node_id": "1", "new": "2"}],
    "null": [{"node_id": "1", "link_id": "1"}, {"node_id": None, "link_id": "1"}],
    "a number where texts were": [{"node_id": "1"}, {"node_id": 1}],
    "a text where numbers were": [{"id": 1}, {"id": "1"}],
    "a fraction": [{"id": 1, "call_time_sec": 1}, {"id": 2, "call_time_sec": 1.5}],
    "no number": [{"id": 1, "call_time_sec": 1}, {"id": 2, "call_time_sec": True}],
    "too large a number": b'[{"call_start": "2024-01-01 00:00:00", "id": 1}, '
    b'{"call_start": "2024-01-01 00:00:00", "id": 9223372036854775808}]',
    "a list": [{"id": 1, "call_time_sec": 1}, {"id": 1, "call_time_sec": [1]}],
    "the same texts in an object": '[{"node_id": "a", "link_id": "b"}, {"node_id": {"a": ["link_id", "b"]}}]',
    "the same texts in a list": '[{"id": 1, "node_id": "a"}, {"id": ["node_id", "a"]}]',
    "an object and a number": '[{"id": 1, "node_id": "a"}, {"id": {"node_id": "a"}}]',
    "a text first": '["node_id", {"node_id": "a"}]',
    "a number first": '[5, {"node_id": "a"}]',
    "a number last": '[{"node_id": "a"}, 5]',
    "null between": '[{"node_id": "a"}, null, {"node_id": "b"}]',
    "a backslash": [{"node_id": "a\\"}, {"node_id": 'b"'}],
    "no text": [{"node_id": "1"}, {"node_id": "2"}, {}],
    "no keys": [{}, {}],
    "only lists": [[], []],
    "a date of zeros": [
        {"id": 1, "call_end": "2024-01-01 00:00:00"},
        {"id": 2, "call_end": "0000-00-00 00:00:00"},
    ],
    "lines": '[\n{"node_id": "a"},\n{"node_id": "b"}\n]',
    "a line within": '[{"node_id":\n"a"}, {"node_id": "b"}]',
    "no UTF-8": b'[{"node_id": "\xff"}]',
    "commas in texts": [{"id": 1, "call_result": "a, b"}, {"id": 2, "call_result": ",,"}],
    "a comma more and one less": [
        {"id": 1, "call_result": "a,b"},
        {"id": 2, "call_result": "c"},
        {"id": 3},
    ],
    "numbers at the end of rows": [
        {"node_id": "a,", "talk_time_sec": 5},
        {"node_id": "b", "talk_time_sec": 60},
    ],
    "a row twice as long and one of nothing": '[{"node_id": "1"}, {"node_id": "1", "node_id": "1"}, {}]',
    "a blank more in one row": '[{"id": 1, "node_id": "a"}, {"id":  1, "node_id": "a"}]',
    "a blank less in one row": '[{"id": 1, "node_id": "a"}, {"id":1, "node_id": "a"}]',
    "a key of the same length": [{"node_id": "a"}, {"link_id": "a"}],
    "blanks at both ends": ' [ {"node_id": "a"}, {"node_id": "b"} ] ',
}


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", TRAPS)
def test_rows_that_only_look_alike_are_read_as_records_are(name):
    """Given rows that could deceive a decoder that does not parse JSON, when read, then they equal the records."""
    trap = TRAPS[name]
    if isinstance(trap, bytes):
        assert decode(trap) is None
        return
    text = trap if isinstance(trap, str) else json.dumps(trap)
    text = re.sub(r'(?<!: )\{(?="(node_id|link_id)")', '{"id": 1, ', text)
    text = re.sub(r'\{(?="id")', "{" + START + ", ", text)
    check_equal_to_records(page_of(text.encode()), FLAT, on_error="skip")


@pytest.mark.parametrize("texts", [("a, b", ",,"), ("}, {", "{"), ("[", "]")], ids=str)
def test_texts_may_contain_commas_and_braces(texts):
    """Given texts with commas and braces, when read, then the decoder supports the page."""
    assert decode(rows_of_texts(*texts)).column("node_id").to_pylist() == list(texts)
    assert decode(b" " + rows_of_texts(*texts) + b"\n ") is not None


def rows_of_texts(*texts):
    """The bytes of a page with these texts."""
    rows = [
        {"id": 10 + row, "call_start": f"2024-02-26 04:39:5{row}", "node_id": text, "talk_time_sec": row}
        for row, text in enumerate(texts)
    ]
    return json.dumps(rows, ensure_ascii=False).encode()


@examples(400)
@given(
    page=st.sampled_from([rows_of_texts("a", "bc", "", "Grüße"), rows_of_texts("a, b", "{c}", "")]),
    position=st.integers(0, 400),
    length=st.integers(0, 12),
    inserted=st.binary(max_size=3)
    | st.sampled_from([b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"\n", b"0", b"-", b" "]),
    is_second=st.booleans(),
)
def test_damaged_bytes_are_read_as_json_or_refused(page, position, length, inserted, is_second):
    """Given a page with some bytes replaced, when read, then the columns are those of JSON, or there are none."""
    damaged = page[:position] + inserted + page[position + length :]
    batch = decode(damaged, page if is_second else None)
    if batch is not None:
        rows = json.loads(damaged.decode("utf-8-sig"))
        assert batch.num_rows == len(rows)
        for key in ("id", "node_id", "talk_time_sec"):
            assert batch.column(key).to_pylist() == [row.get(key) for row in rows]
        starts = [str(start) for start in batch.column("call_start").to_pylist()]
        assert starts == [row["call_start"].replace("T", " ") for row in rows]


punctuated_texts = st.text(
    st.sampled_from(['"', "\\", "{", "}", "[", "]", ",", ":", " ", "a", "ß", "\n", "1"]), max_size=6
)
flat_values = {
    "node_id": punctuated_texts,
    "call_result": punctuated_texts,
    "talk_time_sec": st.integers(-5, 5),
    "call_end": dates,
    "talk_time": documented_values["duration"],
    "has_recording": documented_values["bool"],
}


@examples(120)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"id": integers, "call_start": dates, **flat_values}), min_size=1, max_size=4
    ),
    odd=st.none() | st.tuples(st.sampled_from(sorted(flat_values)), json_values),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (",", ": ")]),
)
def test_texts_full_of_punctuation_are_read_as_records_are(rows, odd, separators):
    """Given texts that look like JSON, and perhaps one odd row, when read, then they equal the records."""
    if odd:
        rows[-1] = {**rows[-1], odd[0]: odd[1]}
    page = page_of(json.dumps(rows, ensure_ascii=False, separators=separators).encode())
    check_equal_to_records(page, FLAT, on_error="skip")


@pytest.mark.parametrize("row", [0, 1, 2])
def test_every_row_has_the_keys_of_the_page_before(row):
    """Given a page that was decoded, when a key of any row of the next one has another name, then that is not decoded."""
    page = rows_of_texts("a", "b", "c")
    parts = page.split(b'{"id"')
    assert decode(b'{"id"'.join(parts[: row + 1]) + b'{"ix"' + b'{"id"'.join(parts[row + 1 :]), page) is None


def test_texts_and_numbers_may_be_longer_than_on_the_page_before():
    """Given a page, when texts and numbers of the next one have other lengths, then they are read, whatever their lengths."""
    texts = ["", "a" * 7, "b" * 8, "c" * 9, "d" * 71, "e" * 72, "f" * 73, "g" * 3000, "h}"]
    batch = decode(rows_of_texts(*texts), rows_of_texts("a", "b"))
    assert batch.column("node_id").to_pylist() == texts
    rows = [{"id": 10**digits, "call_start": "2024-02-26 04:39:59"} for digits in range(18)]
    batch = decode(json.dumps(rows).encode(), json.dumps(rows[:1]).encode())
    assert batch.column("id").to_pylist() == [10**digits for digits in range(18)]
    assert decode(rows_of_texts("a" * 20_000), rows_of_texts("a", "b")) is None


def test_an_empty_page_does_not_slow_down_the_next():
    """Given several empty pages, when a page with a fixed layout follows, then it is tried and decoded."""
    decoder = FixedLayoutDecoder(converter_of(FLAT))
    assert [decoder.decode(rows_in_memory(b"[]")) for _ in range(5)] == [None] * 5
    assert decoder.decode(rows_in_memory(rows_of_texts("a", "b"))) is not None


def test_after_a_page_without_a_fixed_layout_some_are_not_tried():
    """Given failures, when pages with a fixed layout follow, then ever more are skipped; a success resets this."""
    decoder = FixedLayoutDecoder(converter_of(FLAT))
    odd, even = rows_of_texts("a", None), rows_of_texts("a", "b")
    assert [decoder.decode(rows_in_memory(odd)) for _ in range(3)] == [None] * 3
    decoded = [decoder.decode(rows_in_memory(even)) is not None for _ in range(6)]
    assert decoded == [False, False, False, True, True, True]


def test_blocks_before_an_odd_row_are_columns():
    """Given a page that arrives in blocks, when a row is written otherwise, then only the rows from its block on are JSON."""
    reader, _ = reader_of(FLAT)
    rows = json.loads(rows_of_texts(*"abcdefgh")) + json.loads(rows_of_texts("i", None, "k"))
    page = build_page(reader, json.dumps(rows).encode(), block_bytes=200)
    decoded = [isinstance(segment, ColumnSegment) for segment in page.segments]
    assert decoded == sorted(decoded, reverse=True)
    assert decoded[0]
    assert not decoded[-1]
    assert sum(segment.rows for segment in page.segments) == len(page.starts) == len(page.ids) == len(rows)
    batches, _ = read_batches(page, FLAT)
    texts = [text for batch in batches for text in batch.column("node_id").to_pylist()]
    assert texts == [row["node_id"] for row in rows]


numbers = st.integers(1, 19).flatmap(lambda digits: st.integers(0, 10**digits - 1)).map(str)
plain_values = st.fixed_dictionaries(
    {
        "id": numbers | st.sampled_from(["007", "-5", "", "1.5", "99999999999999999", "12 "]),
        "call_start": dates.map('"{}"'.format),
        "call_end": (
            dates | st.sampled_from(["2024-02-30 00:00:00", "2024-02-28T01:02:03", "0000-01-01 00:00:00", ""])
        ).map('"{}"'.format),
        "talk_time": st.sampled_from(["00:02:05", "23:59:59", "24:00:00", "00:60:00", "0:02:050"]).map(
            '"{}"'.format
        ),
        "talk_time_sec": numbers,
        "has_recording": st.sampled_from(["TRUE", "FALSE", "FALSY", "TRU", "true"]).map('"{}"'.format),
        "node_id": st.sampled_from(["1", "12", "ab", "ß"]).map('"{}"'.format),
    }
)


@examples(400)
@given(
    rows=st.lists(plain_values, min_size=1, max_size=5),
    damage=st.none() | st.tuples(st.integers(0, 600), st.sampled_from(list('"0:- /aE,}\x80'))),
)
def test_plain_values_are_read_as_records_are(rows, damage):
    """Given numbers, dates, durations and booleans of all widths, and perhaps one other byte, then they equal the records."""
    body = ",".join("{" + ",".join(f'"{key}":{text}' for key, text in row.items()) + "}" for row in rows)
    body = f"[{body}]".encode()
    if damage is not None:
        position, byte = damage
        body = body[:position] + byte.encode("latin-1") + body[position + 1 :]
    batch = decode(body)
    if batch is not None:
        calls, _ = read_records(page_of(body), FLAT)
        schema = schema_for(FLAT)
        assert rows_of(batch.select(schema.names)) == expected_rows(calls, schema)


def test_a_usual_page_has_no_value_that_is_read_from_texts(monkeypatch):
    """Given a page in the documented form, when read, then numbers, dates, durations and booleans never become texts."""
    monkeypatch.setattr(_plain_values, "_FEW_DAYS", 0)
    seen = {}
    monkeypatch.setattr(
        _from_fixed_layout, "read_column", lambda kind, values: seen.setdefault(kind, read(kind, values))
    )
    read = _plain_values.read_column
    rows = [
        {
            "id": 10**13 + row,
            "call_start": f"2024-02-26 04:39:{row:02}",
            "talk_time": f"00:00:{row:02}",
            "talk_time_sec": row,
            "has_recording": "TRUE" if row % 2 else "FALSE",
        }
        for row in range(60)
    ]
    assert decode(json.dumps(rows).encode()) is not None
    assert None not in seen.values()
    assert set(seen) == {"int", "datetime", "duration", "bool"}
