"""Segments of a page to records: the fast way where it fits, the tolerant way where it does not.

The law of this room: both ways give the same records, and a record that is out of the ordinary slows down itself only.

1. `rows` decodes the whole segment in one call and makes its records with code written for the asked fields; cattrs calls
   that code, as the structure hook of the converter.
2. Where that fails, a few records are looked at. A key that stands in all of them is one that the endpoint has grown
   since: it is learned (`LEARNED_KEYS` at most), and from then on the fast way keeps it in `extra`.
3. Otherwise each record goes its own way: fast, or if it does not fit, through `convert`, which bends what may be bent
   and raises `RecordError` or counts it as skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any, Final, Literal, get_args, get_origin

import attrs
import msgspec

from .._params.timezones import zone_of
from .._redaction import mask_digits
from ..errors import DecodeError, QueryError, RecordError
from ..models import ALIASES, Call, Categories, Model, types_of
from .compiled import CompiledDecoder, DecoderSpec, Row, UnusualError, answer_keys, layout_of
from .lenient import LenientConverter, make_converter

__all__ = ["CallDecoder", "OnError", "Row", "checked_on_error", "make_converter"]

#: Unknown keys the fast way learns, at most: more of them are no schema but data.
LEARNED_KEYS: Final = 32
#: Records looked at to see what the endpoint has grown.
_SAMPLES: Final = 8
#: Keys that are names; others stay with the tolerant way.
_NAME: Final = re.compile(r"[A-Za-z0-9_.:$ -]{1,64}", re.ASCII)
_KEYS: Final = ("id", "call_start")

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_plain = msgspec.json.Decoder().decode


OnError = Literal["raise", "skip"]


def checked_on_error(value: OnError) -> OnError:
    """What is done with a record that cannot be read.

    Raises:
        QueryError: it is neither of the two words.
    """
    if value not in get_args(OnError):
        raise QueryError("on_error", f'"raise" or "skip" is wanted, not {value!r}')
    return value


class _Rows(list[Any]):
    """What the fast hook is registered for: rows, to be structured as calls."""


class CallDecoder:
    """Makes calls of the segments of one stream; keeps count of what it left out or bent.

    Args:
        fields: the fields that were asked for, under the names they are asked by; None: any may come, and `id` and
            `call_start` must.
        timezone: the account's, as a tzinfo or an IANA name; given, dates are aware.
        on_error: `raise` a `RecordError` for a record that cannot be read, or `skip` it.
        keys: the requests ask for `id` and `call_start` although `fields` does not; see `places`.

    Attributes:
        skipped: records left out because they could not be read.
        bent: records that were read although a value had an unusual form.
        places: with `keys=True` and one of `id` and `call_start` not in `fields`: `(call_start, id)` of each call of the
            last batch; else None.
    """

    __slots__ = (
        "_choice",
        "_keys",
        "_layout",
        "_made",
        "_make",
        "_required",
        "_skip",
        "_zone",
        "coerced",
        "places",
        "skipped",
    )

    def __init__(
        self,
        fields: Iterable[str] | None = None,
        *,
        timezone: tzinfo | str | None = None,
        on_error: OnError = "raise",
        keys: bool = False,
    ) -> None:
        asked = tuple(types_of(Call) if fields is None else map(str, fields))
        hidden = frozenset(_KEYS).difference(asked)
        self._keys = keys and bool(hidden)
        required = frozenset(_KEYS) if keys else frozenset(_KEYS) - hidden
        self._required = required
        self._zone = zone_of(timezone)
        self._made: LenientConverter | None = None
        names = answer_keys((*_KEYS, *asked) if self._keys else asked)
        self._skip = on_error == "skip"
        self.skipped: int = 0
        self.coerced: int = 0
        self.places: list[tuple[datetime, int]] | None = [] if self._keys else None
        self._use(DecoderSpec(names, required, hidden, self._zone is not None))

    def _use(self, choice: DecoderSpec) -> None:
        self._choice = choice
        self._layout, self._make = _maker(choice, self._zone)

    @property
    def _tolerant(self) -> LenientConverter:
        # Made when the first unusual record comes: most streams have none, and it takes milliseconds.
        if self._made is None:
            self._made = LenientConverter(self._zone, self._required)
        return self._made

    @property
    def row_type(self) -> type[Row]:
        """What msgspec decodes a record to at the moment; it changes when the endpoint has grown a key."""
        return self._layout.row_type

    def batch(self, segment: bytes, first_index: int = 0, keep: slice | None = None) -> list[Call]:
        """The calls of a segment.

        Args:
            segment: a JSON array of records.
            first_index: the place of its first record in its page, for errors.
            keep: the records wanted; None for all.

        Raises:
            DecodeError: the segment is no JSON array.
            RecordError: a record cannot be read, and `on_error` is `raise`.
        """
        if self.places is not None:
            self.places = []
        try:
            try:
                return self._fast(self._layout.rows(segment), keep)
            except msgspec.ValidationError as error:
                if "unknown field" not in str(error) or not self._learn(segment):
                    raise
                return self._fast(self._layout.rows(segment), keep)
        except (ValueError, RecursionError, UnusualError):
            return self._each(_pieces(segment), first_index, keep)

    def _fast(self, rows: list[Any], keep: slice | None) -> list[Call]:
        if keep is not None:
            rows = rows[keep]
        calls: list[Call] = self._make(rows, _Rows)
        if self.places is not None:
            self.places += self._layout.places(rows, self._zone)
        return calls

    def _each(self, pieces: list[msgspec.Raw], first_index: int, keep: slice | None) -> list[Call]:
        calls: list[Call] = []
        decode = self._layout.row
        for place in range(len(pieces))[keep or slice(None)]:
            piece = pieces[place]
            try:
                calls += self._fast([decode(piece)], None)
            except (ValueError, RecursionError, UnusualError):
                try:
                    calls.append(self._slow(piece, first_index + place))
                except RecordError:
                    if not self._skip:
                        raise
                    self.skipped += 1
        return calls

    def _slow(self, piece: msgspec.Raw, index: int) -> Call:
        try:
            data = _plain(piece)
        except (ValueError, RecursionError) as error:
            # The decoder's words hold no data, but its exception may hold the bytes: so none is chained.
            raise RecordError(
                index, f"$[{index}]", f"cannot be decoded ({mask_digits(str(error))})"
            ) from None
        before = self._tolerant.coerced
        call = self._tolerant.record(data, index)
        self.coerced += self._tolerant.coerced > before
        if self.places is not None:
            self.places.append((call.call_start, call.id))
        for name in self._choice.hidden:
            setattr(call, name, None)
        return call

    # What the endpoint has grown.

    def _learn(self, segment: bytes) -> bool:
        """Takes in keys that stand in every record looked at; False when there are none."""
        choice = self._choice
        if len(choice.learned) >= LEARNED_KEYS:
            return False
        pieces = _pieces(segment)
        unknown: dict[type[Model], set[str]] = {}
        for piece in pieces[:: max(1, len(pieces) // _SAMPLES)]:
            try:
                _survey(Call, _plain(piece), choice, unknown)
            except (ValueError, RecursionError):
                return False
        own = unknown.pop(Call, set())
        known = types_of(Call)
        names = tuple(sorted(own & known.keys()))
        renamed = {ALIASES[key] for key in own & ALIASES.keys() if not _present(pieces, ALIASES[key])}
        learned: set[tuple[type[Model], str]] = {(Call, key) for key in own - known.keys() - ALIASES.keys()}
        learned |= {(kind, key) for kind, keys in unknown.items() for key in keys}
        fresh = sorted(
            (pair for pair in learned if _NAME.fullmatch(pair[1])),
            key=lambda pair: (pair[0].__name__, pair[1]),
        )[: LEARNED_KEYS - len(choice.learned)]
        if not (names or renamed or fresh):
            return False
        keys = dict.fromkeys((*choice.keys, *names, *sorted(renamed)))
        self._use(
            attrs.evolve(
                choice,
                keys=tuple(keys),
                learned=choice.learned | set(fresh),
                renamed=choice.renamed | renamed,
            )
        )
        return True


@lru_cache(maxsize=128)
def _maker(
    choice: DecoderSpec, zone: tzinfo | None
) -> tuple[CompiledDecoder, Callable[[list[Any], Any], list[Call]]]:
    """The layout of a choice, and the converter's hook that makes its records; made once, since it takes milliseconds."""
    layout = layout_of(choice)
    converter = LenientConverter(zone, choice.required).converter
    converter.register_structure_hook(_Rows, lambda rows, _: layout.make(rows, zone))
    return layout, converter.get_structure_hook(_Rows)


def _survey(kind: type[Model], data: Any, choice: DecoderSpec, unknown: dict[type[Model], set[str]]) -> None:
    """Keeps in `unknown` the keys of each class of record that all objects so far had and no row takes."""
    if not isinstance(data, dict):
        return
    keys = data.keys() - choice.knows(kind)
    unknown[kind] = unknown[kind] & keys if kind in unknown else set(keys)
    for name, type_ in types_of(kind).items():
        value = data.get(name)
        if isinstance(value, list) and get_origin(type_) is list:
            (item,) = get_args(type_)
            for inner in value if item is not Any else ():
                _survey(item, inner, choice, unknown)
        elif isinstance(value, dict) and Categories in get_args(type_):
            _survey(Categories, value, choice, unknown)


def _present(pieces: list[msgspec.Raw], name: str) -> bool:
    quoted = f'"{name}"'.encode()
    return any(quoted in bytes(piece) for piece in pieces)


def _pieces(segment: bytes) -> list[msgspec.Raw]:
    """Each record's own bytes, with what is between them proven to be JSON."""
    try:
        return _split(segment)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the page is not a JSON list ({mask_digits(str(error))})") from None
