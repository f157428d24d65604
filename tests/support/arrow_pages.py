"""Reads pages as Arrow batches and as records, without a network, and compares the two."""

import json
from datetime import UTC, datetime, timedelta
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
from hypothesis import strategies as st

from iovox_async import Call, Fields, InsightsQuery, RecordError
from iovox_async._paging import PageRequest, PageResult
from iovox_async._paging.order import DeliveryOrder
from iovox_async._paging.spec import resolve
from iovox_async._paging.types import fill_missing_starts
from iovox_async._parsing.compiled import response_keys
from iovox_async._parsing.decoder import CallDecoder
from iovox_async._parsing.page import Blocks
from iovox_async._parsing.splitter import PageSplitter
from iovox_async.arrow import _batches, schema_for
from iovox_async.arrow._batches import ARRIVING_BYTES, BatchReader
from iovox_async.arrow._columns import ColumnConverter
from iovox_async.arrow._from_json import JsonColumnDecoder
from iovox_async.arrow.schema import column_names, column_types, in_schema_order, schema_of
from iovox_async.models import Model

from .builders import feed

LONDON = ZoneInfo("Europe/London")


# Values of records and of batches, in one form.


def record_value(value):
    """An attribute of a record, as the column should have it."""
    if isinstance(value, Model):
        members = {name: record_value(getattr(value, name)) for name in column_types(type(value))}
        return {**members, "extra": dict(value.extra) or None}
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return [record_value(item) for item in value] if isinstance(value, list | tuple) else value


def expected_rows(calls, schema):
    """Records as the rows of a batch with this schema."""
    names = [name for name in schema.names if name != "extra"]
    return [
        {**{name: record_value(getattr(call, name)) for name in names}, "extra": dict(call.extra) or None}
        for call in calls
    ]


def batch_value(value, name=None):
    """A value of a batch, with its JSON decoded."""
    if name in {"extra", "call_outcomes"} and isinstance(value, str):
        return json.loads(value)
    if isinstance(value, dict):
        return {key: batch_value(item, key) for key, item in value.items()}
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return [batch_value(item) for item in value] if isinstance(value, list) else value


def rows_of(*batches):
    """The rows of batches or tables."""
    return [batch_value(row) for batch in batches for row in batch.to_pylist()]


# Pages.


def spec_of(fields=Fields.ALL, timezone=None, **options):
    """What a stream with these arguments reads."""
    query = InsightsQuery.from_arguments(
        "2000-01-01", "2030-01-01", fields=fields, order=options.pop("order", None)
    )
    return resolve(query, now=datetime(2030, 1, 1), timezone=timezone, **options)


def page_of(rows):
    """A page of rows, or of its bytes."""
    splitter = PageSplitter()
    splitter.feed(rows if isinstance(rows, bytes) else json.dumps(rows, ensure_ascii=False).encode())
    return splitter.build()


def reader_of(fields=Fields.ALL, timezone=None, on_error="raise", **options):
    """A batch reader, and the decoder that has its counters."""
    spec = spec_of(fields, timezone, **options)
    decoder = CallDecoder(spec.fields, timezone=timezone, on_error=on_error)
    return BatchReader(decoder, spec, timezone), decoder


def build_page(reader, body, block_bytes=ARRIVING_BYTES):
    """The page of the bytes of a response, which arrive in pieces, as a stream builds it."""
    with patch.object(_batches, "ARRIVING_BYTES", block_bytes):
        builder = reader.page_format.new_builder()
        size = 7 + block_bytes // 5
        feed(builder, *[body[start : start + size] for start in range(0, len(body), size)])
        return builder.build(len(body))


def read_batches(
    page,
    fields=Fields.ALL,
    timezone=None,
    on_error="raise",
    body=None,
    block_bytes=ARRIVING_BYTES,
    **options,
):
    """The batches of a page, or of the bytes of a response; and the decoder that has the counters."""
    reader, decoder = reader_of(fields, timezone, on_error, **options)
    if body is not None:
        page = build_page(reader, body, block_bytes)
        assert page.rows == len(page.starts) == len(page.ids)
    spec = spec_of(fields, timezone, **options)
    rows = range(page.rows)
    if "order" in options:
        # As the window plan orders them; otherwise as they are in the page.
        request = PageRequest(datetime(1, 1, 1), datetime(9999, 1, 1), spec.order, 20_000)
        starts = fill_missing_starts(page.starts, request)
        rows = (
            DeliveryOrder(spec.descending)
            .slice(PageResult(starts, page, lambda: page.ids, page.ties), starts, rows)
            .rows
        )
    remaining = Blocks(page, rows)
    batches, more = [], True
    while more:
        batch, _, more = reader.read_blocking(remaining, None)
        batches.append(batch)
    return batches, decoder


def read_records(page, fields=Fields.ALL, timezone=None, on_error="raise"):
    """The records of a page, and the decoder that has the counters."""
    decoder = CallDecoder(spec_of(fields).fields, timezone=timezone, on_error=on_error)
    blocks = page.pick(range(page.rows))
    return [call for block in blocks for call in decoder.batch(block.segment.data, block.index)], decoder


def check_equal_to_records(page, fields=Fields.ALL, timezone=None, on_error="raise", response=None):
    """Batches have the values, counters and errors of the records, from segments and from the bytes of a response.

    The bytes are decoded all at once, and in blocks of about a row.
    """
    response = response or page.raw(range(page.rows))
    for body, block_bytes in ((None, 0), (response, ARRIVING_BYTES), (response, 200)):
        error = None
        try:
            calls, records = read_records(page, fields, timezone, on_error)
        except RecordError as raised:
            error = raised
        if error is not None:
            with pytest.raises(RecordError) as caught:
                read_batches(page, fields, timezone, on_error, body, block_bytes)
            assert (caught.value.index, caught.value.path) == (error.index, error.path)
            continue
        batches, counters = read_batches(page, fields, timezone, on_error, body, block_bytes)
        schema = schema_for(fields, timezone)
        assert all(batch.schema.equals(schema) for batch in batches)
        for batch in batches:
            batch.validate(full=True)
        assert rows_of(*batches) == expected_rows(calls, schema)
        assert (counters.coerced, counters.skipped) == (records.coerced, records.skipped)


def converter_of(fields=Fields.ALL, timezone=None):
    """The converter of a stream with these fields."""
    requested = spec_of(fields).fields
    schema = schema_of(column_names(requested), timezone)
    return ColumnConverter(in_schema_order(response_keys(requested)), schema, timezone)


def is_decoded_from_json(page, fields=Fields.ALL, timezone=None):
    """Whether the JSON decoder supports the page, so that no record is made."""
    return JsonColumnDecoder(converter_of(fields, timezone)).decode(page.segments) is not None


# Random records.

texts = st.text(max_size=8)
dates = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)).map(
    lambda value: str(value.replace(microsecond=0))
)
integers = st.integers(-(2**63), 2**63 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda values: st.lists(values, max_size=2) | st.dictionaries(texts, values, max_size=2),
    max_leaves=4,
)
odd_values = json_values | st.sampled_from(
    ["", "5", 5, 5.0, True, "true", "FALSE", "0000-00-00 00:00:00", "2024-02-26", "0:2:5", "00:00:01.5"]
)
documented_values = {
    "str": texts,
    "int": integers,
    "bool": st.sampled_from(["TRUE", "FALSE"]),
    "datetime": dates,
    "duration": st.sampled_from(["00:02:05", "00:00:00", "99:59:59"]),
    "json": st.lists(st.dictionaries(texts, texts, max_size=2), max_size=2),
}


def objects_of(model, *, odd):
    """JSON objects of a class of records, of which any keys may be missing; with odd values, if wanted."""

    def values(column):
        if column.kind == "list":
            documented = st.lists(objects_of(column.model, odd=odd), max_size=2)
        elif column.kind == "struct":
            documented = objects_of(column.model, odd=odd)
        else:
            documented = documented_values[column.kind]
        return st.one_of(documented, st.none(), odd_values if odd else documented)

    return st.fixed_dictionaries(
        {}, optional={name: values(column) for name, column in column_types(model).items()}
    )


def rows_with(*, odd):
    """JSON objects of calls with id and start; with odd values and unknown keys, if wanted."""
    keys = st.fixed_dictionaries({"id": integers, "call_start": dates})
    extra = st.dictionaries(texts, json_values, max_size=1) if odd else st.just({})
    return st.builds(
        lambda row, keys, extra: {**extra, **row, **keys}, objects_of(Call, odd=odd), keys, extra
    )
