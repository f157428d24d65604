"""Defines what streams and single requests return besides calls: `Page` and `StreamStats`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .models import Call

__all__ = ["Page", "StreamStats"]


@frozen
class Page:
    """The calls of one response.

    Attributes:
        number: from 1, in the order of delivery.
        calls: the calls.
        raw: the JSON they were decoded from, byte for byte, with replacement characters where a text was not Unicode. It
            includes calls that were skipped, or beyond `max_calls`.
        status_code: the status of the response: 200, or 204 for one without a body.
        headers: the headers of the response; a name matches in any case.
        attempts: how many times the request was sent.
    """

    number: int
    calls: list[Call]
    raw: bytes = field(repr=False)
    status_code: int = 200
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    attempts: int = 1


@frozen
class StreamStats:
    """The counters of a stream at one point in time.

    Attributes:
        requests: requests sent; each attempt counts.
        retries: attempts that repeated an earlier one.
        calls: calls delivered.
        bytes_received: bytes of pages received, as sent by the server (compressed or not).
        duplicates_dropped: rows left out because their call was listed again in the same response or, with
            `paging="pages"`, in one of the last pages.
        skipped: records left out because they could not be decoded (`on_error="skip"`). One of which neither `id`
            nor `call_start` can be read counts twice if both of two neighbouring windows contain it.
        coerced: records that were decoded although a value had an unexpected form.
        window_splits: windows that were split because they kept failing.
        in_flight: requests in flight.
        buffered_pages: pages received that wait for delivery.
        peak_buffered_pages: the most pages in memory at a time: in flight, buffered (with those of a second that is being
            proven complete), and being read.
        progress: share of the date range delivered, or of `max_calls` if that is more, 0 to 1.
        complete_until: calls that started until then can no longer change; later ones may still arrive or change.
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
