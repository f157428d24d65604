"""Pages that arrive while their decoder is imported are the same as later ones."""

import asyncio
import json
from pathlib import Path

import pytest
from support.arrow_pages import reader_of, spec_of
from support.builders import feed

from iovox_async import Fields
from iovox_async._parsing.decoder import CallDecoder
from iovox_async.arrow._late_pages import LatePages

FLAT = tuple(Fields.CALL)
ROWS = json.loads((Path(__file__).parents[1] / "data" / "example-1-call-fields.json").read_bytes())
BODY = json.dumps([{**ROWS[0], "id": number} for number in range(200)], separators=(",", ":")).encode()
BLOCKS = [BODY[start : start + 1_000] for start in range(0, len(BODY), 1_000)]


def keys(page):
    """What the order of delivery is made of, and the kinds of segments."""
    return page.rows, list(page.starts), list(page.ids), page.size, [type(part) for part in page.segments]


@pytest.mark.parametrize("before", [0, 1, len(BLOCKS) // 2, len(BLOCKS)])
async def test_a_page_does_not_depend_on_when_its_decoder_is_loaded(before):
    """Given a page of which some blocks arrive before the decoder is loaded, it is the page of a decoder that was there."""
    usual = reader_of(FLAT)[0].page_format.new_builder()
    for block in BLOCKS:
        usual.feed(block)
    pages = LatePages()
    builder = pages.page_format.new_builder()
    feed(builder, *BLOCKS[:before])
    finishing = None
    if before == len(BLOCKS):
        finishing = asyncio.ensure_future(builder.finish(len(BODY)))
        await asyncio.sleep(0)
    await pages.load(CallDecoder(FLAT), spec_of(FLAT), None)
    feed(builder, *BLOCKS[before:])
    page = await (finishing or builder.finish(len(BODY)))
    assert keys(page) == keys(usual.build(len(BODY)))
    assert page.rows == 200
