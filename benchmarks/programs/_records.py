"""Records and concurrency that the hand-written peers share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs
from cattrs import Converter

if TYPE_CHECKING:
    from ..measure import Probe


@attrs.define
class Call:
    """The endpoint's default fields, as a user types them in from its documentation."""

    id: int
    call_start: datetime
    call_end: datetime
    talk_time: str
    call_origin: str
    iovox_number: str
    call_destination: str
    talk_time_sec: int | None = None
    call_result: str | None = None
    node_id: str | None = None
    link_id: str | None = None
    has_recording: str | None = None


@attrs.define
class Phrase:
    """One phrase of a transcription."""

    phrase: str
    speaker: str
    start: int
    end: int
    turn: int


@attrs.define
class Transcription:
    """A transcription and its phrases."""

    transcription_id: str
    language: str
    text: str
    phrases: list[Phrase]


@attrs.define
class Tag:
    """A tag of a call."""

    text: str
    colour: str
    source_type: str


@attrs.define
class InsightsCall(Call):
    """The default fields and what the insights fields add."""

    node_name: str | None = None
    link_name: str | None = None
    direction: str | None = None
    comments: list[dict[str, str]] = attrs.field(factory=list)
    call_outcomes: list[dict[str, str]] = attrs.field(factory=list)
    transcriptions: list[Transcription] = attrs.field(factory=list)
    tags: list[Tag] = attrs.field(factory=list)


converter = Converter()
# fromisoformat is about ten times as fast as strptime.
converter.register_structure_hook(datetime, lambda text, _: datetime.fromisoformat(text))


async def gather_pages(
    fetch: Callable[[int], Awaitable[list[Any]]], concurrency: int, rows: int
) -> list[Any]:
    """All pages up to the first short one, in order, with `concurrency` requests at a time.

    `fetch(page)` returns the rows of one page. Each worker takes the next page number as soon as it is free.
    """
    pages: dict[int, list[Any]] = {}
    number = 0
    ended = False

    async def worker() -> None:
        nonlocal number, ended
        while not ended:
            number += 1
            page = number
            pages[page] = await fetch(page)
            ended = ended or len(pages[page]) < rows

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return [row for page in sorted(pages) for row in pages[page]]


def count_calls(calls: list[Any], probe: Probe) -> tuple[int, int]:
    """The number of calls and the sum of their ids, read one by one."""
    count = checksum = 0
    for call in calls:
        if not count:
            probe.first()
        count += 1
        checksum += call.id
    return count, checksum
