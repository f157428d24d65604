"""What a stream or a request returns beside calls: `Page` and `StreamStats`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from .models import Call

__all__ = ["Page", "StreamStats"]


@frozen
class Page:
    """Some calls, as one answer held them.

    Attributes:
        number: from 1, in the order of delivery.
        calls: the calls.
        raw: the JSON they came in, byte for byte. Where the stream leaves calls out (those before a `resume`, beyond
            `max_calls`, or unreadable), they are in here all the same.
    """

    number: int
    calls: list[Call]
    raw: bytes = field(repr=False)


@frozen
class StreamStats:
    """What a stream has done so far; a value that no longer changes.

    Attributes:
        requests: requests sent, each attempt counted.
        retries: how many of them were repeats.
        calls: calls handed out.
        bytes_received: bytes of pages received, as they came over the wire.
        duplicates_dropped: calls that an answer listed twice, or (`paging="pages"`) that came on two pages, and were dropped once.
        skipped: records left out because they could not be read (`on_error="skip"`).
        coerced: records that were read although a value had an unusual form.
        window_splits: windows that were halved because they kept failing.
        in_flight: requests under way.
        buffered_pages: pages received that wait for their turn.
        peak_buffered_pages: the most pages held at a time: in flight, waiting, and in the reader's hands.
        progress: share of the date range handed out, 0..1.
        complete_until: up to when the result cannot change any more; later calls may still arrive or be enriched.
    """

    requests: int = 0
    retries: int = 0
    calls: int = 0
    bytes_received: int = 0
    duplicates_dropped: int = 0
    skipped: int = 0
    coerced: int = 0
    window_splits: int = 0
    in_flight: int = 0
    buffered_pages: int = 0
    peak_buffered_pages: int = 0
    progress: float = 0.0
    complete_until: datetime | None = None
