"""Pages of a response as undecoded JSON, and how they are built."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

import msgspec

from .._params.validators import InvalidValue
from .repair import decode_utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .lenient import Hook


_LocalTime = Annotated[datetime, msgspec.Meta(tz=False)]
_decode_raw_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode


class KeyRow(msgspec.Struct, gc=False):
    """The sort keys of one row; None where they cannot be read. An id may be a number in quotes, see `id_of`."""

    id: int | str | None = None
    call_start: _LocalTime | None = None


class Segment(msgspec.Struct, frozen=True, eq=False):
    """Some rows of a page: a JSON array, with the bytes of each row as the server sent them."""

    #: A run of rows that is shorter than this share is cut out of the segment instead of decoding all of it.
    min_share: ClassVar[float] = 1 / 8

    data: bytes
    rows: int

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.rows} rows>"

    def split(self) -> list[bytes]:
        """The bytes of each row."""
        return [bytes(raw) for raw in _decode_raw_rows(self.data)]


class Block(msgspec.Struct, frozen=True):
    """Rows of one segment, in the order of delivery.

    Attributes:
        index: the index of the segment's first row in the page.
        segment: the segment.
        rows: the positions of the rows in the segment; None: all of them, in order.
    """

    index: int
    segment: Segment
    rows: Sequence[int] | None = None

    @property
    def count(self) -> int:
        """The number of rows."""
        return self.segment.rows if self.rows is None else len(self.rows)

    def split(self, count: int) -> tuple[Block, Block]:
        """The first `count` rows, and the others."""
        rows = range(self.segment.rows) if self.rows is None else self.rows
        return Block(self.index, self.segment, rows[:count]), Block(self.index, self.segment, rows[count:])

    def raw(self) -> bytes:
        """The rows, separated by commas."""
        if self.rows is None:
            return self.segment.data[1:-1]
        raw_rows = self.segment.split()
        return b",".join([raw_rows[row] for row in self.rows])


class RawPage(msgspec.Struct, eq=False, weakref=True):
    """A complete page.

    Attributes:
        segments: its rows, in the order of the response.
        starts: `call_start` of each row; None where it cannot be read.
        ids: the id of each row; None where it cannot be read.
        size: bytes of JSON.
        wire_bytes: bytes of the body as they were sent, perhaps compressed.
        ties: the rows that start in the same second as the row before; None: they were not compared.
        ids_ascend: the id of each row is a number above that of the row before; False: it is not, or it was not compared.
        status_code: the status of the response.
        headers: the headers of the response.
        attempts: how many times the request was sent.
    """

    segments: tuple[Segment, ...]
    starts: Sequence[datetime | None]
    ids: Sequence[int | None]
    size: int
    wire_bytes: int
    ties: Sequence[int] | None = None
    ids_ascend: bool = False
    status_code: int = 200
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    attempts: int = 1

    def __repr__(self) -> str:
        return f"<RawPage of {self.rows} rows>"

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(segment.rows for segment in self.segments)

    def forget_keys(self) -> None:
        """Frees the memory of starts and ids, once the paging has used them."""
        self.starts, self.ids, self.ties = [], (), None

    def pick(self, rows: Sequence[int]) -> Iterator[Block]:
        """The rows with these indexes, in this order, as blocks of one segment each."""
        if isinstance(rows, range) and rows.step == 1:
            yield from self._pick_range(rows)
            return
        offsets = [0, *accumulate(segment.rows for segment in self.segments)]
        splits: dict[int, list[bytes]] = {}
        first = 0
        while first < len(rows):
            number = bisect_right(offsets, rows[first]) - 1
            start, stop, segment = offsets[number], offsets[number + 1], self.segments[number]
            end = first + 1
            while end < len(rows) and start <= rows[end] < stop:
                end += 1
            positions = [row - start for row in rows[first:end]]
            if len(positions) >= segment.min_share * segment.rows:
                yield Block(start, segment, None if positions == [*range(segment.rows)] else positions)
            else:
                # Rows of a segment that are far apart in the order of delivery: it is not decoded for each of them.
                if number not in splits:
                    splits[number] = segment.split()
                for position in positions:
                    yield Block(start + position, Segment(b"[%b]" % splits[number][position], 1))
            first = end

    def _pick_range(self, rows: range) -> Iterator[Block]:
        start = 0
        for segment in self.segments:
            first, end = max(rows.start - start, 0), min(rows.stop - start, segment.rows)
            if first < end:
                yield Block(start, segment, None if end - first == segment.rows else range(first, end))
            start += segment.rows

    def raw(self, rows: Sequence[int]) -> bytes:
        """These rows as one JSON array; where their texts are not Unicode, with replacement characters."""
        return decode_utf8(b"[" + b",".join([block.raw() for block in self.pick(rows)]) + b"]")


class PageBuilder(Protocol):
    """Builds one page from the body of a response."""

    def space(self) -> memoryview | None:
        """Memory that may be used for the next bytes of the body, or None if any will do."""

    def feed(self, data: bytes | memoryview) -> None:
        """Adds the next bytes of the body, decompressed. Their memory is used again afterwards."""

    async def finish(self, wire_bytes: int) -> RawPage:
        """Returns the page after the last bytes; `wire_bytes` is the size of the body as it was sent.

        Raises:
            DecodeError: the bytes are not a list of calls.
        """


class PageFormat(msgspec.Struct, frozen=True):
    """How the pages of a stream are built.

    Attributes:
        new_builder: makes the builder of one page.
        target_bytes: bytes of JSON to aim at in a page.
    """

    new_builder: Callable[[], PageBuilder]
    target_bytes: int


class Blocks:
    """The rows of a page that are not decoded yet, in the order of delivery.

    Records, pages and Arrow take their rows from here and differ only in what they decode them to. A row that cannot be
    decoded and is skipped does not count for the limit of calls: the reader takes the row after it in its place.

    Attributes:
        page: the page of the rows.
    """

    def __init__(self, page: RawPage, rows: Sequence[int]) -> None:
        self.page = page
        self._blocks = page.pick(rows)
        self._next: Block | None = None

    def peek(self) -> Block | None:
        """The rows that `take` returns next without a limit."""
        if self._next is None:
            self._next = next(self._blocks, None)
        return self._next

    def take(self, limit: int | None) -> Block | None:
        """The next rows, of one segment and at most `limit`; None after the last, or for a limit of 0."""
        if limit == 0:
            return None
        block, self._next = self.peek(), None
        if block is not None and limit is not None and block.count > limit:
            block, self._next = block.split(limit)
        return block


def id_of(value: Any) -> int | None:
    """The id of a record whose JSON has this value for it; None if no record can have it."""
    try:
        call_id: int = _id_hook()(value, int)
    except InvalidValue:
        return None
    return call_id


@lru_cache(maxsize=1)
def _id_hook() -> Hook:
    # Made at first use, since most servers send numbers and it takes milliseconds.
    from .lenient import LenientConverter

    return LenientConverter().converter.get_structure_hook(int)
