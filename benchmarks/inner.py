"""Times inner functions one by one: `python -m pytest benchmarks/inner.py --benchmark-only`.

Each takes the same 10,000 rows of the default fields, or 200 rows with transcriptions, so that the figures can be compared
as microseconds a call. References: the standard library, msgspec and plain cattrs on the same bytes.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from benchmarks.data import CallData
from benchmarks.programs._records import Call as PlainCall
from benchmarks.programs._records import converter
from iovox_async import Fields, InsightsQuery
from iovox_async._parsing.decoder import CallDecoder
from iovox_async._parsing.gzip import GzipDecoder
from iovox_async._parsing.splitter import PageSplitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from iovox_async._parsing.page import RawPage

CHUNK = 64 * 1024  # what httpx reads from a socket at once
ROW_KINDS = {"default": (10_000, Fields.DEFAULT), "insights": (200, Fields.ALL)}


@pytest.fixture(scope="module", params=ROW_KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def rows(kind) -> int:
    return ROW_KINDS[kind][0]


@pytest.fixture(scope="module")
def body(kind) -> bytes:
    data = CallData(ROW_KINDS[kind][0], kind=kind)
    return b"[" + data.body(data.find({"limit": "20000", "order": "call_start_ASC"})) + b"]"


@pytest.fixture
def timed(benchmark, rows) -> Callable:
    """Times a function that takes no arguments, and notes microseconds a call beside pytest-benchmark's own figures."""

    def time(function):
        result = benchmark.pedantic(function, rounds=7, warmup_rounds=1)
        if benchmark.stats is not None:  # None where benchmarks are switched off
            benchmark.extra_info["us_a_call"] = round(benchmark.stats.stats.min / rows * 1e6, 3)
        return result

    return time


def split(body: bytes) -> RawPage:
    reader = PageSplitter()
    for place in range(0, len(body), CHUNK):
        reader.feed(body[place : place + CHUNK])
    return reader.build()


def test_split_a_page(timed, body, rows):
    assert timed(lambda: split(body)).rows == rows


def test_inflate_a_page(timed, body):
    packed = gzip.compress(body, 6, mtime=0)

    def inflate() -> int:
        engine = GzipDecoder()
        size = sum(
            len(step)
            for place in range(0, len(packed), CHUNK)
            for step in engine.feed(packed[place : place + CHUNK])
        )
        engine.finish()
        return size

    assert timed(inflate) == len(body)


def test_structure_a_page(timed, body, kind, rows):
    page = split(body)
    decoder = CallDecoder(ROW_KINDS[kind][1])

    def structure() -> int:
        return sum(len(decoder.batch(segment.data, 0)) for segment in page.segments)

    assert timed(structure) == rows


def test_write_records_back(timed, body, kind, rows):
    decoder = CallDecoder(ROW_KINDS[kind][1])
    calls = [call for segment in split(body).segments for call in decoder.batch(segment.data, 0)]
    assert len(timed(lambda: [call.to_dict() for call in calls])) == rows


def test_a_query_string(benchmark):
    query = InsightsQuery(start_date="2024-01-01", end_date="2024-03-31")
    assert "limit=500" in benchmark(lambda: query.to_query_string(page=1, limit=500))


def test_reference_json_loads(timed, body, rows):
    assert len(timed(lambda: json.loads(body))) == rows


def test_reference_msgspec_untyped(timed, body, rows):
    decoder = msgspec.json.Decoder()
    assert len(timed(lambda: decoder.decode(body))) == rows


def test_reference_msgspec_split_only(timed, body, rows):
    decoder = msgspec.json.Decoder(list[msgspec.Raw])
    assert len(timed(lambda: decoder.decode(body))) == rows


def test_reference_plain_cattrs(timed, body, rows):
    decoded = json.loads(body)
    assert len(timed(lambda: converter.structure(decoded, list[PlainCall]))) == rows
