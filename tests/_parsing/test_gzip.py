"""The gzip decoder: any parts give the same output, and damaged data a `DecodeError`."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import examples

from iovox_async._parsing.gzip import STEP_BYTES, GzipDecoder
from iovox_async.errors import DecodeError


def split_at(data: bytes, offsets: list[int]) -> list[bytes]:
    """The data in parts, split at these offsets."""
    bounds = [0, *sorted(offset % (len(data) + 1) for offset in offsets), len(data)]
    return [data[start:stop] for start, stop in pairwise(bounds)]


def decompress(*parts: bytes) -> bytes:
    decoder, output = GzipDecoder(), []
    for part in parts:
        for step in decoder.feed(part):
            assert 0 < len(step) <= STEP_BYTES
            output.append(step)
    decoder.finish()
    return b"".join(output)


TEXT = json.dumps([{"id": index, "note": "x" * 200} for index in range(300)]).encode()
ZIPPED = gzip.compress(TEXT)


@examples(150)
@given(
    members=st.lists(st.binary(max_size=300) | st.just(TEXT), min_size=1, max_size=4),
    offsets=st.lists(st.integers(0, 10**6), max_size=8),
)
def test_any_members_in_any_parts_are_decompressed(members: list[bytes], offsets: list[int]):
    """Given several members, also empty ones, fed in any parts, then all of them are decompressed."""
    data = b"".join(map(gzip.compress, members))
    assert decompress(*split_at(data, offsets)) == b"".join(members)


def test_single_bytes_are_decompressed():
    """Given the bytes one by one, then the text is the same."""
    assert decompress(*(ZIPPED[at : at + 1] for at in range(len(ZIPPED)))) == TEXT


@pytest.mark.fault(7)
def test_truncated_data_is_a_decode_error():
    """Given data truncated at any byte, also in the trailer or in a second header, then a `DecodeError` is raised."""
    for data in (gzip.compress(b"some text"), ZIPPED[:64] and gzip.compress(b"one") + gzip.compress(b"two")):
        complete = (
            {0, len(data), len(gzip.compress(b"one"))} if data.count(b"\x1f\x8b") > 1 else {0, len(data)}
        )
        for end in range(len(data) + 1):
            if end in complete:
                decompress(data[:end])
            else:
                with pytest.raises(DecodeError, match="truncated"):
                    decompress(data[:end])


def test_no_data_is_not_an_error():
    """Given no bytes, then the output is empty; the page splitter reports an empty page."""
    assert decompress() == decompress(b"") == b""


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
def test_damaged_data_is_a_decode_error(data: bytes):
    """Given a wrong checksum, length or format, then a `DecodeError` is raised."""
    with pytest.raises(DecodeError, match="gzip"):
        decompress(data)


def test_a_bomb_is_decompressed_in_bounded_steps():
    """Given data that expands a thousandfold, then no step is larger than `STEP_BYTES`, and a caller can stop after any."""
    bomb = gzip.compress(b"0" * (40 * STEP_BYTES))
    assert len(bomb) < STEP_BYTES // 10
    steps = GzipDecoder().feed(bomb)
    assert [len(next(steps)) for _ in range(3)] == [STEP_BYTES] * 3
    assert sum(len(step) for step in GzipDecoder().feed(bomb)) == 40 * STEP_BYTES


@examples(200)
@given(data=st.binary(max_size=100) | st.binary(max_size=60).map(lambda tail: ZIPPED[:40] + tail))
def test_any_bytes_are_decompressed_or_a_decode_error(data: bytes):
    """Given any bytes, then no other error than `DecodeError` is raised."""
    with contextlib.suppress(DecodeError):
        decompress(data)
