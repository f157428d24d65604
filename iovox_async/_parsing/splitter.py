"""Splits a page of JSON into segments while it arrives.

The splitter looks for an offset where one record seems to end and the next to begin, and decodes everything before it. If
that is a complete list of JSON values, the offset is right (a JSON value cannot end at two offsets); otherwise it is inside a
record. Only where parts of records look like records themselves, brackets are counted, which is slow.

Invariants:
- Any bytes end in a page or in a `DecodeError`.
- A page of any size becomes segments of about `SEGMENT_BYTES`, each a JSON array of its own, and is never joined.
- No step takes long, and the whole work is in proportion to the bytes.
"""

from __future__ import annotations

import contextlib
import re
from datetime import datetime
from itertools import chain
from operator import lt
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from .._wording import Wording
from ..errors import DecodeError
from .error_body import ERROR_BYTES, describe, error_object_messages, shorten_messages, xml_messages
from .page import KeyRow, PageFormat, RawPage, Segment, id_of
from .repair import decode_utf8, list_keys, repair

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: Bytes of JSON to aim at in a page: about 12,000 calls of the default fields, so that few requests are needed.
PAGE_BYTES: Final = 4_000_000
#: Bytes of JSON in one segment, at most: about 400 calls of the default fields, a millisecond of work.
SEGMENT_BYTES: Final = 128 * 1024
#: JSON objects in one segment, about. CPython collects garbage after 700 new objects that are alive: each segment of calls with many
#: phrases would be searched for garbage, and every now and then all objects of the program, which takes 30 ms.
SEGMENT_OBJECTS: Final = 500
_MIN_SEGMENT_BYTES: Final = 16 * 1024

_BLANKS: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"
_ADDRESS_HINT: Final = Wording("Check the address ({base_url}).")
#: What completes a date of so many characters.
_SHORT_DATES: Final = {10: " 00:00:00", 13: ":00:00", 16: ":00"}
_LocalTime = Annotated[datetime, msgspec.Meta(tz=False)]


class _NumberedRow(msgspec.Struct, gc=False):
    """The sort keys of a row as nearly all servers send them."""

    id: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    call_start: _LocalTime | None = None


class _LooseRow(msgspec.Struct, gc=False):
    id: msgspec.Raw = msgspec.Raw()
    call_start: msgspec.Raw = msgspec.Raw()


_decode_numbered = msgspec.json.Decoder(list[_NumberedRow]).decode
_decode_keys = msgspec.json.Decoder(list[KeyRow]).decode
_decode_key = msgspec.json.Decoder(KeyRow).decode
_decode_loose_key = msgspec.json.Decoder(_LooseRow).decode
_decode_json = msgspec.json.Decoder().decode
_decode_raw_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
# The opening bracket and the first key of the first record; every record is expected to begin with this key.
_FIRST_KEY: Final = rb'\{\s*("(?:[^"\\]|\\.){0,64}")\s*:'
# A string, perhaps incomplete, or a bracket. Possessive, so that no text is read twice.
_TOKENS: Final = rb'(?s)"(?:[^"\\]|\\.)*+"?|[\[\]{}]'
#: How msgspec reports what `repair` can repair.
_TEXT_PROBLEM: Final = r"surrogate|escape|invalid character|control|truncated"
_COMMA: Final = re.compile(rb"\s*,\s*")
_NO_MATCH: Final = re.compile(rb"(?!)")


class PageSplitter(msgspec.Struct):
    """Builds a page of segments: `feed` bytes, then `build` or `finish` to get the `RawPage`.

    `[]`, `null` and `{}` are pages without rows; the object of a single call is a page of one.
    """

    #: Bytes that are not in a segment yet, and their number.
    _buffer: list[bytes | memoryview] = msgspec.field(default_factory=list)
    _buffered: int = 0
    #: Bytes of the segments after the first, and to buffer before the next attempt to split.
    _segment_bytes: int = SEGMENT_BYTES
    _threshold: int = SEGMENT_BYTES
    _segments: list[Segment] = msgspec.field(default_factory=list)
    _starts: list[datetime | None] = msgspec.field(default_factory=list)
    _ids: list[int | None] = msgspec.field(default_factory=list)
    #: Each id so far is a number above the one before.
    _ids_ascend: bool = True
    #: Bytes of JSON so far.
    size: int = 0
    _in_list: bool = False
    #: Matches the end of a record and the beginning of the next.
    _boundary: re.Pattern[bytes] = _NO_MATCH

    def space(self) -> None:
        """None: bytes are copied into segments, wherever they are."""

    def feed(self, data: bytes | memoryview) -> None:
        """Adds the next bytes; splits off a segment when enough are buffered."""
        self.size += len(data)
        # In blocks, since each split copies the buffer: a page fed at once would be copied as often as it has segments.
        view = memoryview(data)
        for start in range(0, len(data), SEGMENT_BYTES):
            block = view[start : start + SEGMENT_BYTES]
            self._buffer.append(block)
            self._buffered += len(block)
            while self._buffered >= self._threshold and self._split():
                pass
        # The memory of `data` is used again, so what is left of its blocks is copied; those before them are bytes already.
        latest = slice(-1 - len(data) // SEGMENT_BYTES, None)
        self._buffer[latest] = map(bytes, self._buffer[latest])

    @staticmethod
    def empty() -> RawPage:
        """The page of a response without a body."""
        return RawPage((), [], (), 0, 0)

    def build(self, wire_bytes: int | None = None) -> RawPage:
        """The page, after all bytes were fed; `wire_bytes` is the size of the body as it was sent.

        Raises:
            DecodeError: the bytes are not a list of calls.
        """
        body = b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        if not self._in_list:
            body = body.removeprefix(_BOM).strip(_BLANKS)
            self._add_segment(body if body.startswith(b"[") else _as_list(body))
        else:
            body = body.rstrip(_BLANKS)
            if not body.endswith(b"]"):
                raise DecodeError("the page is truncated: its list does not end")
            self._add_segment(b"[" + body)
        return RawPage(
            tuple(self._segments),
            self._starts,
            self._ids,
            self.size,
            self.size if wire_bytes is None else wire_bytes,
            ids_ascend=self._ids_ascend,
        )

    async def finish(self, wire_bytes: int) -> RawPage:
        """The same as `build`, for the protocol `PageBuilder`."""
        return self.build(wire_bytes)

    def _split(self) -> bool:
        """Splits one segment off the front; False if that is not possible yet."""
        boundaries: Iterable[tuple[int, int]] = ()
        if self._in_list:
            # The boundary is nearly always in the last block, and then the blocks before need not be joined to find it.
            *blocks, last = self._buffer
            boundaries = list(
                _last_matches(self._boundary, last, self._threshold - self._buffered + len(last))
            )
            if any(self._split_at(blocks, last, *boundary) for boundary in boundaries):
                return True
        body = b"".join(self._buffer)
        if not self._in_list:
            body = body.removeprefix(_BOM).lstrip(_BLANKS)
            first_key = re.match(_FIRST_KEY, body[1:].lstrip(_BLANKS)) if body.startswith(b"[") else None
            if first_key is None:
                self._threshold = 2 * self._buffered
                return False
            self._boundary = re.compile(rb"\}\s*,\s*(?=\{\s*" + re.escape(first_key[1]) + rb"\s*:)")
            self._in_list = True
            body = body[1:]
        matches = () if boundaries else _last_matches(self._boundary, body, self._threshold)
        if any(self._split_at([], body, *boundary) for boundary in chain(matches, _counted_boundaries(body))):
            return True
        # A record that is longer than the buffer, or no JSON. Waits for twice as much, so that the work stays in proportion
        # to the bytes; `build` reports the error.
        self._set_buffer(body, 2 * len(body))
        return False

    def _split_at(
        self, blocks: Sequence[bytes | memoryview], last: bytes | memoryview, end: int, next_start: int
    ) -> bool:
        """Makes a segment of the blocks and the last one up to `end`; False if that is not a list of records."""
        last = memoryview(last)
        try:
            self._add_segment(b"".join((b"[", *blocks, last[: end + 1], b"]")))
        except DecodeError:
            return False
        if len(self._segments) == 1:
            data = self._segments[0].data
            share = SEGMENT_OBJECTS / max(1, data.count(b'{"'))
            self._segment_bytes = min(SEGMENT_BYTES, max(_MIN_SEGMENT_BYTES, int(share * len(data))))
        self._set_buffer(last[next_start:], self._segment_bytes)
        return True

    def _set_buffer(self, body: bytes | memoryview, threshold: int) -> None:
        self._buffer = [body]
        self._buffered = len(body)
        self._threshold = threshold

    def _add_segment(self, data: bytes) -> None:
        starts, ids, problem = _read_keys(data)
        if problem and re.search(_TEXT_PROBLEM, problem) and (repaired := repair(data)) != data:
            data = repaired
            starts, ids, problem = _read_keys(data)
        if problem:
            raise DecodeError(f"the page is not JSON ({problem})")
        if starts:
            self._segments.append(Segment(data, len(starts)))
            self._ids_ascend = self._ids_ascend and _ascend(self._ids[-1:] + ids)
            self._starts += starts
            self._ids += ids


def _ascend(ids: list[int | None]) -> bool:
    """Whether each id is a number above the one before."""
    try:
        return all(map(lt, ids, ids[1:]))  # type: ignore[arg-type]  # None is handled below
    except TypeError:  # an id that cannot be read
        return False


def _read_keys(data: bytes) -> tuple[list[datetime | None], list[int | None], str]:
    """The start and the id of each row; or the problem, without the decoder's exception, which may hold bytes of the page."""
    try:
        try:
            numbered = _decode_numbered(data)
            return [row.call_start for row in numbered], [row.id for row in numbered], ""
        except (msgspec.ValidationError, UnicodeDecodeError):
            keys = _read_unusual_keys(data)
            return [key.call_start for key in keys], [id_of(key.id) for key in keys], ""
    except (ValueError, RecursionError) as error:
        return [], [], str(error)


def _read_unusual_keys(data: bytes) -> list[KeyRow]:
    try:
        return _decode_keys(data)
    except (msgspec.ValidationError, UnicodeDecodeError):
        return [key_of(raw) for raw in _decode_raw_rows(data)]


#: Pages that are split into segments of JSON while they arrive.
SPLIT_PAGES: Final = PageFormat(PageSplitter, PAGE_BYTES)


def key_of(raw: msgspec.Raw) -> KeyRow:
    """The sort keys of a row; None where they cannot be read, whatever form the row has."""
    with contextlib.suppress(ValueError):
        return _decode_key(raw)
    try:
        row = _decode_loose_key(decode_utf8(bytes(raw)))
    except ValueError:  # no object
        return KeyRow()
    return KeyRow(id_of(_value_of(row.id)), _start_of(_value_of(row.call_start)))


def _value_of(raw: msgspec.Raw) -> Any:
    with contextlib.suppress(
        ValueError, RecursionError
    ):  # no value, a text that is not UTF-8, a number without end
        return _decode_json(raw)
    return None


def _start_of(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    text = value.strip()
    try:
        # What a short date leaves out is zero, as in records.
        return msgspec.convert(text + _SHORT_DATES.get(len(text), ""), _LocalTime)
    except ValueError:
        return None


def _last_matches(
    pattern: re.Pattern[bytes], body: bytes | memoryview, offset: int
) -> Iterator[tuple[int, int]]:
    """The spans of the last few matches near the offset or before it, last first."""
    stop = min(len(body), offset + 4096)
    distance = 2048
    while True:
        start = max(0, stop - distance)
        spans = [match.span() for match in pattern.finditer(body, start, stop)]
        if spans or start == 0:
            yield from reversed(spans[-3:])
            return
        distance *= 4


def _counted_boundaries(body: bytes) -> Iterator[tuple[int, int]]:
    """The last boundary by the count of brackets, for pages whose parts look like records."""
    depth = 0
    ends = []
    for token in re.compile(_TOKENS).finditer(body, 0, 2 * SEGMENT_BYTES):
        if token[0] in {b"{", b"["}:
            depth += 1
        elif token[0] in {b"}", b"]"}:
            depth -= 1
            if depth == 0:
                ends.append(token.start())
    for end in ends[:-3:-1]:
        comma = _COMMA.match(body, end + 1)
        if comma:
            yield end, comma.end()
            return


def _as_list(body: bytes) -> bytes:
    """The list of calls that a body in another form stands for."""
    if not body:
        raise DecodeError("the page is empty")
    if body == b"null":
        return b"[]"
    if body.startswith(b"{"):
        keys, problem = _decode_members(body)
        if problem and re.search(_TEXT_PROBLEM, problem):
            body = repair(body)
            keys, problem = _decode_members(body)
        if problem:
            raise DecodeError(f"the page is not JSON ({problem})")
        if not keys:
            return b"[]"
        if "id" in keys:
            return b"[" + body + b"]"
        if (ordered := list_keys(keys)) is not None:
            return b"[" + b",".join([keys[key] for key in ordered]) + b"]"
        raise DecodeError(f"the page is an object and not a call: {_object_problem(keys)}")
    if body.startswith(b"\x1f\x8b"):
        raise DecodeError(
            "the page is gzip data, but its header Content-Encoding does not say so",
            hint="A proxy or the server has removed the header Content-Encoding: gzip.",
        )
    if body.startswith(b"<"):
        text = body[:ERROR_BYTES].decode(errors="replace")
        if messages := shorten_messages(xml_messages(text)):
            raise DecodeError(f"the page is XML and not a list of calls: {'; '.join(messages)}")
        markup = "HTML" if re.search("(?i)<html|<!doctype html", text) else "XML or HTML"
        raise DecodeError(
            f"the page is {markup}, as gateways, proxies and login pages send it", hint=_ADDRESS_HINT
        )
    raise DecodeError("the page is not a list of calls", hint=_ADDRESS_HINT)


def _decode_members(body: bytes) -> tuple[dict[str, msgspec.Raw], str]:
    try:
        return _decode_object(body), ""
    except (ValueError, RecursionError) as error:
        return {}, str(error)


def _object_problem(keys: dict[str, msgspec.Raw]) -> str:
    """The messages of an error object, and of any other object its keys."""
    data: dict[str, Any] = {}
    with contextlib.suppress(ValueError, RecursionError):
        data = {key: _decode_json(decode_utf8(bytes(raw))) for key, raw in keys.items()}
    return "; ".join(shorten_messages(error_object_messages(data))) or describe(keys)
