"""Arrow batches have the values, counters and errors of the records, whichever decoder reads a page."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrow_pages import (
    LONDON,
    check_equal_to_records,
    is_decoded_from_json,
    page_of,
    read_batches,
    reader_of,
    rows_with,
)
from support.model_server import examples
from support.odd_values import (
    BROKEN_ROWS,
    BROKEN_TEXTS,
    COMMON_PAGES,
    INVALID_VALUES,
    NESTED,
    READABLE_VALUES,
    ROW,
    UNUSUAL_PAGES,
    broken_page,
)

from iovox_async import Fields, RecordError
from iovox_async._parsing.page import Blocks

DATA = Path(__file__).parents[1] / "data"
SAMPLES = {
    "example-default.json": Fields.DEFAULT,
    "example-1-call-fields.json": Fields.CALL,
    "example-2-categories.json": (*Fields.DEFAULT, *Fields.CATEGORIES),
    "example-3-insights.json": (*Fields.CALL, *Fields.INSIGHTS),
}
ZONES = [None, LONDON, timezone(timedelta(hours=-3, minutes=-30)), ZoneInfo("Australia/Lord_Howe")]
#: Common pages that the JSON decoder leaves to the records.
LEFT_TO_RECORDS = {
    "unknown keys",
    "an unknown key called extra",
    "unknown key out of ASCII",
    "null among call outcomes",
}


@pytest.mark.parametrize("timezone", [None, LONDON], ids=["naive", "aware"])
@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_of_the_documentation_are_decoded_from_json(name, timezone):
    """Given the endpoint's own sample responses, when read, then they equal the records, and no record is made."""
    page = page_of((DATA / name).read_bytes())
    check_equal_to_records(page, SAMPLES[name], timezone)
    check_equal_to_records(page, Fields.ALL, timezone)
    assert is_decoded_from_json(page, SAMPLES[name], timezone)


@pytest.mark.sweep(7)
@pytest.mark.parametrize(
    ("timezone", "on_error"),
    [
        (None, "raise"),
        (LONDON, "skip"),
        pytest.param(None, "skip", marks=pytest.mark.slow),
        pytest.param(LONDON, "raise", marks=pytest.mark.slow),
    ],
    ids=["naive-raise", "aware-skip", "naive-skip", "aware-raise"],
)
@pytest.mark.parametrize("name", [*COMMON_PAGES, *UNUSUAL_PAGES])
def test_pages_of_every_form_equal_the_records(name, on_error, timezone):
    """Given a page of the table, when read, then values, counters and errors are those of the records."""
    page = page_of({**COMMON_PAGES, **UNUSUAL_PAGES}[name])
    check_equal_to_records(page, Fields.ALL, timezone, on_error)


@pytest.mark.sweep(3)
@pytest.mark.finding("A12")
@pytest.mark.parametrize("members", [*BROKEN_TEXTS, *BROKEN_ROWS])
def test_broken_texts_equal_the_records(members):
    """Given a row with half an emoji or the like, when read, then it is coerced, skipped or refused as in records."""
    body = broken_page(BROKEN_TEXTS[members][0] if members in BROKEN_TEXTS else BROKEN_ROWS[members])
    for on_error in ("raise", "skip"):
        check_equal_to_records(page_of(body), Fields.ALL, None, on_error, body)
    batches, decoder = read_batches(None, Fields.ALL, None, "skip", body)
    ids = [call_id for batch in batches for call_id in batch.column("id").to_pylist()]
    assert ids == ([7, 8, 9] if members in BROKEN_TEXTS else [7, 9])
    assert decoder.coerced + decoder.skipped == 1


@pytest.mark.finding("A16")
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_what_a_page_gives_does_not_depend_on_earlier_ones(on_error):
    """Given pages in any order, read by one reader, then each gives what it gives alone: rows, counts, errors."""
    pages = [
        [ROW],
        [{**ROW, "new": 1}],
        [{**ROW, "new": 1, "node_name": "Leeds"}],
        [{**ROW, "node_name": "Leeds"}],
        [{**ROW, "node_name": 5}],
        [{**ROW, "node_name": []}],
        [{**ROW, "talk_time_seconds": 5}],
        [{**ROW, "tags": [{"text": []}]}],
        *([{**ROW, "id": number} for number in range(5)] for _ in range(3)),
    ]

    def outcome(reader, decoder, page):
        decoder.coerced = decoder.skipped = 0
        builder = reader.page_format.new_builder()
        builder.feed(json.dumps(page).encode())
        built = builder.build(0)
        try:
            remaining = Blocks(built, range(built.rows))
            batch, *_ = reader.read_blocking(remaining, None)
        except RecordError as error:
            return str(error)
        return batch.to_pylist(), decoder.coerced, decoder.skipped

    alone = [outcome(*reader_of(Fields.DEFAULT, None, on_error), page) for page in pages]
    for order in (1, -1):
        reader, decoder = reader_of(Fields.DEFAULT, None, on_error)
        for _ in range(2):
            assert [outcome(reader, decoder, page) for page in pages[::order]] == alone[::order]


def odd_rows():
    """The rows of the table that can be written as JSON."""
    for name, value, *_ in [*READABLE_VALUES, *INVALID_VALUES]:
        try:
            text = json.dumps(value, allow_nan=False)
        except ValueError:
            continue
        yield pytest.param({**ROW, name: value}, id=f"{name}-{text[:40]}")


@pytest.mark.sweep(9)
@pytest.mark.parametrize("row", list(odd_rows()))
def test_odd_values_equal_the_records(row):
    """Given an odd value between two ordinary rows, when read, then the row is read, skipped or refused as in records."""
    page = page_of([{**ROW, "id": 1}, row, {**ROW, "id": 9}])
    for on_error in ("raise", "skip"):
        check_equal_to_records(page, Fields.ALL, None, on_error)


@pytest.mark.parametrize("name", COMMON_PAGES)
def test_common_pages_are_decoded_from_json(name):
    """Given nulls, blanks and call outcomes, when read, then no record is made; unknown keys go to the records."""
    assert is_decoded_from_json(page_of(COMMON_PAGES[name])) == (name not in LEFT_TO_RECORDS)


@pytest.mark.parametrize("name", UNUSUAL_PAGES)
def test_unusual_pages_are_left_to_the_records(name):
    """Given values that Arrow would drop, guess or convert, when read, then the JSON decoder refuses the page."""
    assert not is_decoded_from_json(page_of(UNUSUAL_PAGES[name]))


@examples(120)
@given(
    rows=st.lists(rows_with(odd=True), max_size=3),
    zone=st.sampled_from(ZONES),
    on_error=st.sampled_from(["raise", "skip"]),
)
def test_random_odd_records_equal_the_records(rows, zone, on_error):
    """Given odd values in any place, when read, then they equal the records."""
    check_equal_to_records(page_of(rows), Fields.ALL, zone, on_error)


@examples(80)
@given(rows=st.lists(rows_with(odd=False), min_size=1, max_size=4), zone=st.sampled_from(ZONES))
def test_random_documented_records_are_decoded_from_json(rows, zone):
    """Given documented values only, when read, then they equal the records, and no record is made."""
    page = page_of(rows)
    check_equal_to_records(page, Fields.ALL, zone)
    assert is_decoded_from_json(page, Fields.ALL, zone)


@given(st.lists(rows_with(odd=True), max_size=4), st.sampled_from(["\n", "\r\n", " \t"]))
@examples(60)
def test_blanks_between_values_do_not_matter(rows, blank):
    """Given a page that is indented, when read, then it equals the records."""
    text = json.dumps(rows, indent=1).replace("\n", blank)
    check_equal_to_records(page_of(text.encode()), on_error="skip")


def test_one_unusual_record_is_read_in_order():
    """Given one odd record among 3,000, when read, then values and order are those of the records."""
    start = datetime(2024, 1, 1)
    rows = [
        {**ROW, "id": number, "call_start": str(start + timedelta(seconds=number // 3))}
        for number in range(3_000)
    ]
    rows[1500] = {**rows[1500], "id": "1500", "call_result": 5}
    check_equal_to_records(page_of(rows), Fields.DEFAULT)


def test_known_keys_that_were_not_requested_are_left_out():
    """Given more known keys than requested, when read, then they are left out, but must be valid as in records."""
    page = page_of([{**ROW, **NESTED, "call_outcomes": []}])
    check_equal_to_records(page, ("id", "call_start", "call_result"))
    with pytest.raises(RecordError):
        read_batches(page_of([{**ROW, "node_name": []}]), "id,call_start")


@pytest.mark.parametrize("fields", [Fields.DEFAULT, Fields.ALL], ids=["flat", "nested"])
def test_a_page_does_not_depend_on_the_pages_before_it(fields):
    """Given odd pages first, when an ordinary page is read, then its batch is that of a new reader, and vice versa."""
    pages = [
        page_of(rows)
        for rows in (
            [{**ROW, **NESTED}],
            [{**ROW, "new": {f"key{number}": number for number in range(100)}, "node_name": "n"}],
            [{**ROW, "node_name": "n", "talk_time": "5"}],
            [{**ROW, "call_outcomes": [{"call_outcome": "Sale"}]}],
            [ROW],
        )
    ]
    for order in (pages, pages[::-1]):
        reader, _ = reader_of(fields)
        for page in order:
            batch, _, _ = reader.read_blocking(Blocks(page, range(page.rows)), None)
            (expected,), _ = read_batches(page, fields)
            assert batch.equals(expected)


def test_a_deeply_nested_unknown_value_is_kept():
    """Given an unknown key with 700 nested lists, when read, then the column `extra` holds them."""
    deep = "[" * 700 + "1" + "]" * 700
    check_equal_to_records(
        page_of(f'[{{"id": 1, "call_start": "2024-01-01 00:00:00", "new": {deep}}}]'.encode())
    )


def test_batches_do_not_share_memory_with_the_reused_buffer():
    """Given several pages of one reader, when the next is read, then the batches before it do not change."""
    reader, _ = reader_of()
    pages = [page_of([{**ROW, **NESTED, "node_name": letter * 40}] * 300) for letter in "abc"]
    batches = [reader.read_blocking(Blocks(page, range(page.rows)), None)[0] for page in pages]
    names = [set(batch.column("node_name").to_pylist()) for batch in batches]
    assert names == [{letter * 40} for letter in "abc"]


def test_an_integer_beyond_64_bits_is_an_error_of_its_record():
    """Given an integer that no column can hold, when read, then it is a `RecordError`, or its record is skipped."""
    rows = [ROW, {**ROW, "id": 8, "talk_time_sec": 2**64}, {**ROW, "id": 9}]
    with pytest.raises(RecordError, match="64 bits") as caught:
        read_batches(page_of(rows))
    assert (caught.value.index, caught.value.path) == (1, "$[1].talk_time_sec")
    (batch,), counters = read_batches(page_of(rows), on_error="skip")
    assert (batch.column("id").to_pylist(), counters.skipped) == ([7, 9], 1)


@pytest.mark.parametrize("zone", [None, UTC], ids=str)
def test_call_outcomes_are_the_same_json_from_every_decoder(zone):
    """Given flat outcomes and an odd value, when read from JSON and from records, then the text is the same."""
    row = {**ROW, "call_outcomes": [{"call_outcome": 'Sale "ß"'}, {"a": "", "b": "c"}, {}]}
    texts = set()
    for rows in ([row], [{**row, "call_result": 5}]):
        (batch,), _ = read_batches(page_of(rows), timezone=zone)
        texts.update(batch.column("call_outcomes").to_pylist())
    assert texts == {'[{"call_outcome":"Sale \\"ß\\""},{"a":"","b":"c"},{}]'}
