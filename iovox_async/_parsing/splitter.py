"""Bytes to raw records and back, bounded. The only room that knows JSON and gzip.

The law of this room: any bytes at all end in rows or in a `DecodeError`, in pieces small enough that no single
step is long, and never in more memory than its caller allowed.

A page is split while it arrives. The splitter looks for a place where one record seems to end and the next to
begin, and then lets the decoder read everything before it: if that is a complete list of JSON values, the place
is proven (a JSON value cannot end in two places), and if not, it was inside a record and is not used. Only where the
parts of records look like records themselves are brackets counted, which is slow. So a page
of any size becomes segments of about `SEGMENT_BYTES`, each a JSON array on its own, and is never joined.
"""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_left
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import msgspec
from attrs import define, field, frozen

from .._redaction import mask_digits
from ..errors import DecodeError
from .error_body import error_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = [
    "PAGE_BYTES",
    "SEGMENT_BYTES",
    "SPLIT_PAGES",
    "PageBuilder",
    "PageFormat",
    "PageSplitter",
    "RawPage",
    "Segment",
]

#: Bytes of JSON to aim at in a page: small enough that memory stays flat (17 pages are buffered at the default concurrency),
#: large enough that few requests are needed.
PAGE_BYTES: Final = 1_600_000

#: Bytes of JSON in one segment: about 400 calls of the default fields, a millisecond of work.
SEGMENT_BYTES: Final = 128 * 1024

_BLANKS: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"

#: The endpoint's dates have no zone; one that has cannot be compared with those asked for.
_Wall = Annotated[datetime, msgspec.Meta(tz=False)]


class _Head(msgspec.Struct, gc=False):
    """What the plan must know of a row: when it began."""

    call_start: _Wall | None = None


class _Key(msgspec.Struct, gc=False):
    """What tells one row from another."""

    id: int | str | None = None


_heads = msgspec.json.Decoder(list[_Head])
_loose: Any = msgspec.json.Decoder(msgspec.defstruct("_Loose", [("call_start", str)]))
_head = msgspec.json.Decoder(_Head)
_keys = msgspec.json.Decoder(list[_Key])
_key = msgspec.json.Decoder(_Key)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_call_start = attrgetter("call_start")
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
# The outermost opening and the first key of the first record: the splitter expects it to open every record.
_OPENING: Final = re.compile(rb'\{\s*("(?:[^"\\]|\\.){0,64}")\s*:')
# A string, perhaps cut off, or a bracket. A string is never given up once begun, so that no text is read twice.
_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
_COMMA: Final = re.compile(rb"\s*,\s*")
_NEVER: Final = re.compile(rb"(?!)")


@frozen
class Segment:
    """Some rows of a page: a JSON array, byte for byte as the server sent them."""

    data: bytes = field(repr=False)
    rows: int

    def split(self) -> list[bytes]:
        """Each row's own bytes."""
        return [bytes(raw) for raw in _raws.decode(self.data)]

    def pick(self, rows: list[int]) -> Segment:
        """A segment of these rows only (places counted within this segment)."""
        pieces = self.split()
        return Segment(b"[" + b",".join([pieces[row] for row in rows]) + b"]", len(rows))


@define
class RawPage:
    """A whole answer.

    Attributes:
        segments: its rows, in the order of the answer.
        starts: when each row began; None where that cannot be read. Emptied once a plan has seen them.
        size: bytes of JSON.
        wire: bytes as they came, compressed or not.
    """

    segments: tuple[Segment, ...]
    starts: list[datetime | None] = field(repr=False)
    size: int
    wire: int

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return sum(segment.rows for segment in self.segments)

    def pick(self, rows: Sequence[int]) -> Iterator[tuple[int, Segment]]:
        """These rows, in ascending places: segment by segment, each with the place of its first row."""
        begin = 0
        for segment in self.segments:
            end = begin + segment.rows
            low, high = bisect_left(rows, begin), bisect_left(rows, end)
            if high - low == segment.rows:
                yield begin, segment
            elif high > low:
                yield rows[low], segment.pick([row - begin for row in rows[low:high]])
            begin = end

    def raw(self, rows: Sequence[int]) -> bytes:
        """These rows as one JSON array."""
        return b"[" + b",".join(segment.data[1:-1] for _, segment in self.pick(rows)) + b"]"

    def ids(self) -> list[int | str | None]:
        """The id of each row; read on demand, since only a crowded second and page numbers need them."""
        return [key for segment in self.segments for key in _ids_of(segment)]


def _ids_of(segment: Segment) -> list[int | str | None]:
    try:
        return [key.id for key in _keys.decode(segment.data)]
    except ValueError:
        return [_id_of(raw) for raw in _raws.decode(segment.data)]


def _id_of(raw: msgspec.Raw) -> int | str | None:
    # Not only of the wrong type: text that was skipped so far may turn out not to be UTF-8.
    try:
        return _key.decode(raw).id
    except ValueError:
        return None


def _start_of(raw: msgspec.Raw) -> datetime | None:
    with contextlib.suppress(ValueError):
        return _head.decode(raw).call_start
    try:
        text = _loose.decode(raw).call_start.strip()
        # What a short form leaves out is zero, as records have it.
        return msgspec.convert(text + " 00:00:00"[max(0, len(text) - 10) :], _Wall)
    except ValueError:
        return None


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


@define
class PageSplitter:
    """Splits a page as it arrives: `feed` bytes, then `close` to get the `RawPage`.

    Raises:
        DecodeError: the bytes are not a list of calls. What an empty result may look like (`[]`, `null`, `{}`)
            is a page of no rows; a single call's object is a page of one.
    """

    _parts: list[bytes | memoryview] = field(factory=list)
    _held: int = 0
    _wanted: int = SEGMENT_BYTES
    _segments: list[Segment] = field(factory=list)
    _starts: list[datetime | None] = field(factory=list)
    #: Bytes of JSON so far.
    size: int = 0
    _opened: bool = False
    _boundary: re.Pattern[bytes] = _NEVER

    def feed(self, data: bytes) -> None:
        """Takes the next bytes; splits off a segment when enough are held."""
        self.size += len(data)
        # In steps, since each cut copies what is held: a page that comes in one piece would be copied at every cut.
        whole = memoryview(data)
        for begin in range(0, len(data), SEGMENT_BYTES):
            part = whole[begin : begin + SEGMENT_BYTES]
            self._parts.append(part)
            self._held += len(part)
            while self._held >= self._wanted and self._cut():
                pass

    @staticmethod
    def empty() -> RawPage:
        """The page of an answer without a body."""
        return RawPage((), [], 0, 0)

    def close(self, wire: int | None = None) -> RawPage:
        """The page, once all its bytes were fed; `wire` counts them as they came, compressed or not."""
        body = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        if not self._opened:
            body = body.removeprefix(_BOM).strip(_BLANKS)
            body = body if body.startswith(b"[") else _as_list(body)
            self._take(body)
        else:
            body = body.rstrip(_BLANKS)
            if not body.endswith(b"]"):
                raise DecodeError("the page ends before its list does: it was cut on the way")
            self._take(b"[" + body)
        return RawPage(tuple(self._segments), self._starts, self.size, self.size if wire is None else wire)

    async def finish(self, wire_bytes: int) -> RawPage:
        """The same as `close`, as `PageBuilder` has it."""
        return self.close(wire_bytes)

    def _cut(self) -> bool:
        """Splits one segment off the front; False when none can be split off yet."""
        found: Iterable[tuple[int, int]] = ()
        if self._opened:
            # Almost always the place lies in what came last, and what came before need not be joined to find it.
            *front, last = self._parts
            found = list(_last_matches(self._boundary, last, self._wanted - self._held + len(last)))
            for start, end in found:
                if self._split(front, last, start, end):
                    return True
        body = b"".join(self._parts)
        if not self._opened:
            lead = body.removeprefix(_BOM).lstrip(_BLANKS)
            first = _OPENING.match(lead[1:].lstrip(_BLANKS)) if lead.startswith(b"[") else None
            if first is None:
                self._wanted = 2 * self._held
                return False
            self._boundary = re.compile(rb"\}\s*,\s*(?=\{\s*" + re.escape(first[1]) + rb"\s*:)")
            self._opened = True
            body = lead[1:]
        found = () if found else _last_matches(self._boundary, body, self._wanted)
        for start, end in chain(found, _counted(body)):
            if self._split([], body, start, end):
                return True
        # Nothing to split at: a record longer than what is held, or no JSON. Wait for twice as much, so that the
        # work stays in proportion to the bytes; `close` has the last word.
        self._hold(body, 2 * len(body))
        return False

    def _split(
        self, front: Sequence[bytes | memoryview], last: bytes | memoryview, start: int, end: int
    ) -> bool:
        """Takes what stands before a place in the last part; False where that is no list of rows."""
        last = memoryview(last)
        try:
            self._take(b"".join((b"[", *front, last[: start + 1], b"]")))
        except DecodeError:
            return False
        self._hold(last[end:], SEGMENT_BYTES)
        return True

    def _hold(self, body: bytes | memoryview, wanted: int) -> None:
        self._parts = [body]
        self._held = len(body)
        self._wanted = wanted

    def _take(self, data: bytes) -> None:
        starts: list[datetime | None]
        try:
            try:
                starts = [*map(_call_start, _heads.decode(data))]
            except (msgspec.ValidationError, UnicodeDecodeError):
                starts = [_start_of(raw) for raw in _raws.decode(data)]
        except (ValueError, RecursionError) as error:
            # Bytes of a page are personal data: only the decoder's own words about them are passed on.
            raise DecodeError(f"the page is not JSON ({mask_digits(str(error))})") from error
        if starts:
            self._segments.append(Segment(data, len(starts)))
            self._starts += starts


#: Pages that are split into segments of JSON while they arrive.
SPLIT_PAGES: Final = PageFormat(PageSplitter, PAGE_BYTES)


def _last_matches(
    pattern: re.Pattern[bytes], body: bytes | memoryview, wanted: int
) -> Iterator[tuple[int, int]]:
    """The last few places where the pattern matches, near `wanted` bytes or before, latest first."""
    reach = min(len(body), wanted + 4096)
    back = 2048
    while True:
        begin = max(0, reach - back)
        spans = [match.span() for match in pattern.finditer(body, begin, reach)]
        if spans or begin == 0:
            yield from reversed(spans[-3:])
            return
        back *= 4


def _counted(body: bytes) -> Iterator[tuple[int, int]]:
    """The last place where a record ends by the count of its brackets, for pages whose parts look like records."""
    depth, places = 0, []
    for token in _TOKENS.finditer(body, 0, 2 * SEGMENT_BYTES):
        if token[0] in {b"{", b"["}:
            depth += 1
        elif token[0] in {b"}", b"]"}:
            depth -= 1
            if depth == 0:
                places.append(token.start())
    for place in places[:-3:-1]:
        comma = _COMMA.match(body, place + 1)
        if comma:
            yield place, comma.end()
            return


def _as_list(body: bytes) -> bytes:
    """The forms other than a list that an answer may take, as a list."""
    if not body:
        raise DecodeError("the page is empty")
    if body == b"null":
        return b"[]"
    if body.startswith(b"{"):
        try:
            keys = _object.decode(body)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"the page is not JSON ({mask_digits(str(error))})") from error
        if not keys:
            return b"[]"
        if "id" in keys:
            return b"[" + body + b"]"
        said = error_messages(body)
        raise DecodeError(f"the page is an object and not a call: {'; '.join(said)}")
    if body[:1] == b"<":
        raise DecodeError(
            "the page is HTML, as gateways, proxies and login pages answer it: check the address (base_url= or IOVOX_URL)"
        )
    raise DecodeError("the page is no list of calls: check the address (base_url= or IOVOX_URL)")
