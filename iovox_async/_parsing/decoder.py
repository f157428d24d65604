"""Decodes segments of a page to calls: by the compiled decoder where it applies, else by the lenient converter.

1. The compiled decoder reads the whole segment in one call.
2. If it reports an unknown key, the segment is read again by a decoder that keeps this key in `extra`, for a few keys.
3. Otherwise each record is decoded by itself, and those that the compiled decoder does not support by the lenient converter,
   which coerces values or raises `RecordError`.

Invariants:
- All three ways give equal records, and one unusual record does not slow down the others.
- What a segment gives does not depend on the segments before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, tzinfo
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec

from ..errors import DecodeError, QueryError, RecordError
from ..models import Call, types_of
from .compiled import (
    SORT_KEYS,
    CompiledDecoder,
    DecoderSpec,
    UnsupportedByFastPath,
    compile_decoder,
    response_keys,
)
from .page import id_of
from .repair import decode_utf8
from .splitter import key_of

if TYPE_CHECKING:
    from .lenient import Hook, LenientConverter

#: Decoders compiled for unknown keys in one stream, at most, since each takes some 10 ms. More keys than that are data
#: and no new fields, and their records are converted.
_MAX_EXTENDED_SPECS: Final = 8
#: Ids of skipped records that are compared.
_MAX_SKIPPED_IDS: Final = 1_000
_FAST_PATH_ERRORS: Final = (ValueError, RecursionError, UnsupportedByFastPath)

_decode_raw_records = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_json = msgspec.json.Decoder().decode


OnError = Literal["raise", "skip"]


def checked_on_error(value: OnError) -> OnError:
    """The argument `on_error`: what to do with a record that cannot be read.

    Raises:
        QueryError: it is neither `raise` nor `skip`.
    """
    if value not in get_args(OnError):
        raise QueryError("on_error", f'must be "raise" or "skip", got {value!r}')
    return value


class _Rows(list[Any]):
    """The structs of a segment: what the structure hook of a compiled decoder is registered for."""


@lru_cache(maxsize=64)
def _compiled_hook(spec: DecoderSpec, timezone: tzinfo | None) -> tuple[CompiledDecoder, Hook]:
    """A compiled decoder, and its function that makes calls as a structure hook of the cattrs converter."""
    from .lenient import LenientConverter  # imports cattrs, which Arrow does not need

    decoder = compile_decoder(spec)
    converter = LenientConverter(timezone, spec.required).converter
    converter.register_structure_hook(_Rows, lambda rows, _: decoder.make(rows, timezone))
    return decoder, converter.get_structure_hook(_Rows)


class CallDecoder:
    """Decodes the segments of one stream to calls, and counts skipped and coerced records.

    Args:
        fields: the requested fields, under their names in requests. `id` and `call_start` may be in the response
            without being among them; calls do not get them then.
        timezone: time zone of the account; if given, dates are aware.
        on_error: raise a `RecordError` for a record that cannot be read, or skip the record.

    Attributes:
        skips_errors: whether `on_error` is `skip`.
        skipped: number of records skipped because they could not be read.
        skipped_keys: start (in local time) and id of skipped records, as far as these can be read; None: they are not kept.
        coerced: number of records that were read although a value had an unusual form.
    """

    __slots__ = (
        "_extended_specs",
        "_lenient",
        "_skipped_ids",
        "_spec",
        "_timezone",
        "coerced",
        "skipped",
        "skipped_keys",
        "skips_errors",
    )

    def __init__(
        self, fields: Iterable[str], *, timezone: tzinfo | None = None, on_error: OnError = "raise"
    ) -> None:
        names = tuple(map(str, fields))
        added_keys = frozenset(SORT_KEYS).difference(names)
        self._spec = DecoderSpec(response_keys((*SORT_KEYS, *names)), added_keys, timezone is not None)
        self._extended_specs: set[DecoderSpec | None] = {None}
        self._timezone = timezone
        self.skips_errors: bool = on_error == "skip"
        self._lenient: LenientConverter | None = None
        self.skipped: int = 0
        self.skipped_keys: list[tuple[datetime, int]] | None = None
        self.coerced: int = 0
        #: The latest ids of skipped records whose start cannot be read: two neighbouring windows may both contain one.
        self._skipped_ids: deque[int] = deque(maxlen=_MAX_SKIPPED_IDS)

    @property
    def preparations(self) -> tuple[Callable[[], object], ...]:
        """What the first batch of these fields in a process would do, in steps of a millisecond: to be called before it arrives."""
        return (
            partial(types_of, Call),
            partial(compile_decoder, self._spec),
            partial(_compiled_hook, self._spec, self._timezone),
        )

    def batch(self, segment: bytes, first_index: int = 0, rows: Sequence[int] | None = None) -> list[Call]:
        """The calls of a segment.

        Args:
            segment: a JSON array of records.
            first_index: index of its first record in the page, for error messages.
            rows: the positions of the records to decode, in the order to return them; None: all, in their order. Others do
                not matter, even if they cannot be read.

        Raises:
            DecodeError: the segment is not a JSON array.
            RecordError: a record cannot be read, and `on_error` is `raise`.
        """
        spec: DecoderSpec | None = self._spec
        structs: list[Any] = []
        while spec is not None:
            decoder, structure = _compiled_hook(spec, self._timezone)
            try:
                structs = decoder.rows(segment)
                if rows is not None:
                    structs = [structs[row] for row in rows]
                calls: list[Call] = structure(structs, _Rows)
            except _FAST_PATH_ERRORS as error:
                extended = spec.with_unknown_key(error)
                is_new = extended not in self._extended_specs
                if extended == spec or (is_new and len(self._extended_specs) > _MAX_EXTENDED_SPECS):
                    break
                self._extended_specs.add(extended)
                spec = extended
            else:
                return calls
        raw_records = _raw_records(segment)
        rows = range(len(raw_records)) if rows is None else rows
        try:
            return self._decode_each(decoder, [(first_index + row, raw_records[row]) for row in rows])
        except RecordError as error:
            failure = error.with_traceback(None)
        # Debuggers and error trackers show the variables of frames: none must hold the page.
        segment, raw_records, structs = b"", [], []
        raise failure

    def _decode_each(
        self, decoder: CompiledDecoder, records: Iterable[tuple[int, msgspec.Raw]]
    ) -> list[Call]:
        calls: list[Call] = []
        for index, raw in records:
            try:
                calls += decoder.make((decoder.row(raw),), self._timezone)
                continue
            except _FAST_PATH_ERRORS:
                pass  # not converted here, since this error must not become the context of another
            try:
                calls.append(self._convert(raw, index))
            except RecordError:
                if not self.skips_errors:
                    raise
                self._skip_raw(raw)
        return calls

    def skip(self, call_start: datetime | None, call_id: int | None) -> None:
        """Counts a skipped record with these keys, None where they cannot be read."""
        if call_start is None and call_id is not None:
            if call_id in self._skipped_ids:
                return
            self._skipped_ids.append(call_id)
        self.skipped += 1
        if self.skipped_keys is not None and call_start is not None and call_id is not None:
            self.skipped_keys.append((call_start.replace(tzinfo=None), call_id))

    def _skip_raw(self, raw: msgspec.Raw) -> None:
        # The keys alone are read as for the order of delivery.
        keys = key_of(raw)
        self.skip(keys.call_start, id_of(keys.id))

    def _convert(self, raw: msgspec.Raw, index: int) -> Call:
        data, is_repaired, problem = _decode_record(raw)
        if problem:
            # Raised here, because the decoder's exception may hold the bytes: it must not become the context.
            raise RecordError(index, f"$[{index}]", f"cannot be decoded ({problem})")
        if self._lenient is None:  # made here, since most streams do not need it and it takes milliseconds
            from .lenient import LenientConverter

            self._lenient = LenientConverter(self._timezone, self._spec.required)
        coerced_before = self._lenient.coerced
        call = self._lenient.record(data, index)
        self.coerced += is_repaired or self._lenient.coerced > coerced_before
        for name in self._spec.added_keys:
            setattr(call, name, None)
        return call


def _decode_record(raw: msgspec.Raw) -> tuple[Any, bool, str]:
    """The JSON of one record, whether its texts were not Unicode and have replacement characters now, and the problem."""
    try:
        return _decode_json(raw), False, ""
    except UnicodeDecodeError:
        pass
    except (ValueError, RecursionError) as error:
        return None, False, str(error)
    try:
        return _decode_json(decode_utf8(bytes(raw))), True, ""
    except (ValueError, RecursionError) as error:
        return None, False, str(error)


def _raw_records(segment: bytes) -> list[msgspec.Raw]:
    """The bytes of each record; the bytes between them are verified to be JSON."""
    try:
        return _decode_raw_records(segment)
    except (ValueError, RecursionError) as error:
        problem = str(error)
    raise DecodeError(f"the page is not a JSON list ({problem})")
