"""Calls as JSON Lines and CSV: columns, and no cell that a spreadsheet evaluates."""

import csv
import io
import json

import pytest
from support.arrow_batches import call

from iovox_async import Fields
from iovox_async._encoding import (
    CsvEncoder,
    JsonLinesEncoder,
    csv_cell,
    encode_in_slices,
    encode_json,
    escape_formula,
)
from iovox_async.models import Comment, Tag


@pytest.mark.fault(68)
@pytest.mark.parametrize(
    "sign", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"]
)
def test_text_that_a_spreadsheet_would_evaluate_is_quoted(sign):
    """Given text that starts like a formula, an apostrophe is put in front; JSON cells start with a bracket anyway."""
    formula = f"{sign}HYPERLINK(1)"
    assert escape_formula(formula) == csv_cell(formula) == f"'{formula}"
    assert csv_cell([Tag(text=formula).to_dict()]).startswith("[")


@pytest.mark.parametrize("text", ["+441632960082", "-5", "-3.5", "plain", "", "'quoted", "a=1"])
def test_numbers_and_other_text_are_unchanged(text):
    """Given a phone number, a negative number or plain text, the cell holds it as it is."""
    assert escape_formula(text) == text


@pytest.mark.finding("A15")
@pytest.mark.parametrize(
    ("fields", "columns"),
    [
        (("id", "tag_text", "tag_colour"), ("id", "tags")),
        (("talk_time", "talk_time_seconds"), ("talk_time", "talk_time_sec")),
        (("talk_time",), ("talk_time",)),
        (("link_category_label", "call_category_label"), ("categories",)),
    ],
)
def test_csv_has_one_column_for_each_requested_field(fields, columns):
    """Given fields, the columns are their names in responses; fields of the same list share one."""
    encoder = CsvEncoder(fields)
    assert encoder.columns == columns
    assert encoder.header().decode() == ",".join(columns) + "\n"
    assert encoder.encode([]) == b""


def test_every_field_has_a_column_of_its_own_or_of_its_list():
    """Given all fields, the header parses as CSV and every call fits it."""
    encoder = CsvEncoder(Fields.ALL)
    text = (encoder.header() + encoder.encode([call(1, comments=[Comment(text='a, "b"\n')])])).decode()
    header, row = csv.reader(io.StringIO(text))
    cells = dict(zip(header, row, strict=True))
    assert cells["id"] == "1"
    assert json.loads(cells["comments"]) == [{"text": 'a, "b"\n'}]


def test_slices_join_to_the_encoding_of_the_whole():
    """Given more calls than a slice holds, the slices are the lines of all calls in order."""
    calls = [call(number) for number in range(1201)]
    encoder = JsonLinesEncoder(Fields.DEFAULT)
    slices = list(encode_in_slices(encoder, calls))
    assert len(slices) == 3
    assert b"".join(slices) == encoder.encode(calls)
    assert encoder.encode(calls[:1]) == encode_json(calls[0]) + b"\n"
