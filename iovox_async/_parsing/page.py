"""Pages of a response as undecoded JSON, and how they are built."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Protocol

import msgspec
from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

__all__ = ["PageBuilder", "PageFormat", "RawPage", "Segment"]


class _IdRow(msgspec.Struct, gc=False):
    id: int | str | None = None


_decode_ids = msgspec.json.Decoder(list[_IdRow]).decode
_decode_id = msgspec.json.Decoder(_IdRow).decode
_decode_raw_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode


@frozen
class Segment:
    """Some rows of a page: a JSON array, with the bytes of each row as the server sent them."""

    data: bytes = field(repr=False)
    rows: int

    def split(self) -> list[bytes]:
        """The bytes of each row."""
        return [bytes(raw) for raw in _decode_raw_rows(self.data)]

    def pick(self, rows: list[int]) -> Segment:
        """A segment of these rows only; their indexes count from the start of this segment."""
        split = self.split()
        return Segment(b"[" + b",".join([split[row] for row in rows]) + b"]", len(rows))

    def ids(self) -> list[int | str | None]:
        """The id of each row; None where it cannot be read."""
        try:
            return [row.id for row in _decode_ids(self.data)]
        except ValueError:
            return [_id_of(raw) for raw in _decode_raw_rows(self.data)]


@define
class RawPage:
    """A complete page.

    Attributes:
        segments: its rows, in the order of the response.
        starts: `call_start` of each row; None where it cannot be read. Emptied once the paging has used them.
        size: bytes of JSON.
        wire_bytes: bytes of the body as they were sent, perhaps compressed.
    """

    segments: tuple[Segment, ...]
    starts: list[datetime | None] = field(repr=False)
    size: int
    wire_bytes: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(segment.rows for segment in self.segments)

    def pick(self, rows: Sequence[int]) -> Iterator[tuple[int, Segment]]:
        """The segments of these rows (ascending indexes in the page), each with the index of its first row."""
        start = 0
        for segment in self.segments:
            stop = start + segment.rows
            first, last = bisect_left(rows, start), bisect_left(rows, stop)
            if last - first == segment.rows:
                yield start, segment
            elif last > first:
                yield rows[first], segment.pick([row - start for row in rows[first:last]])
            start = stop

    def raw(self, rows: Sequence[int]) -> bytes:
        """These rows as one JSON array."""
        return b"[" + b",".join(segment.data[1:-1] for _, segment in self.pick(rows)) + b"]"

    def ids(self) -> list[int | str | None]:
        """The id of each row. Decoded when called, since few requests need them."""
        return [row_id for segment in self.segments for row_id in segment.ids()]


class PageBuilder(Protocol):
    """Builds one page from the body of a response."""

    def feed(self, data: bytes) -> None:
        """Adds the next bytes of the body, decompressed."""

    async def finish(self, wire_bytes: int) -> RawPage:
        """Returns the page after the last bytes; `wire_bytes` is the size of the body as it was sent.

        Raises:
            DecodeError: the bytes are not a list of calls.
        """


@frozen
class PageFormat:
    """How the pages of a stream are built.

    Attributes:
        new_builder: makes the builder of one page.
        target_bytes: bytes of JSON to aim at in a page.
    """

    new_builder: Callable[[], PageBuilder]
    target_bytes: int


def _id_of(raw: msgspec.Raw) -> int | str | None:
    # An id of another type, or text in the row that is not UTF-8 and was skipped until now.
    try:
        return _decode_id(raw).id
    except ValueError:
        return None
