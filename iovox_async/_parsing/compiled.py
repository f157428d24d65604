"""Compiles decoders from JSON to records, for the fields of one read and responses in the documented form.

A `CompiledDecoder` has a msgspec struct with the requested fields, which reads many records in one call, and a function
that makes records of the structs. The function is generated: for the fields `id, call_start, talk_time` of an
account with a time zone it is::

    def make(rows, tz):
        records = list(map(new, repeat(model, len(rows))))
        for record, row in zip(records, rows):
            record.id = row.id
            record.call_start = combine(x := row.call_start, x.time(), tz)
            record.call_end = None
            ...
            record.talk_time = durations[row.talk_time]
            record.tags = ()
            ...
        return records

A constructor with 31 arguments takes twice as long. The slot of `extra` stays empty (see `Model`).

Invariants:
- A record made here equals the one that the lenient converter makes of the same data.
- What the lenient converter would coerce raises `msgspec.ValidationError` or `UnsupportedByFastPath` here.
"""

from __future__ import annotations

import linecache
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import repeat
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import UNSET

from ..models import ALIASES, Call, Categories, Model, item_type, types_of

#: Requested with every read, since rows are ordered by them; absent from records unless the user requests them too.
SORT_KEYS: Final = ("id", "call_start")
#: Prefixes of request fields, and the response key of the nested list or object that they are part of.
_NESTED_KEYS: Final = {
    "link_category_": "categories",
    "call_category_": "categories",
    "node_category_": "categories",
    "contact_category_": "categories",
    "comment_": "comments",
    "transcription_": "transcriptions",
    "tag_": "tags",
    "task_": "tasks",
}
#: Sent along with these fields, requested or not: the documentation's example of the default fields shows it.
_COMPANION_KEYS: Final = {"call_time": "call_time_sec", "talk_time": "talk_time_sec"}

#: The first keys of the documentation's example of the default fields; the others are in the order of `Call` there.
_FIRST_KEYS: Final = ("id", "call_start", "call_end", "talk_time")

_LocalTime = Annotated[datetime, msgspec.Meta(tz=False)]
#: What every reader can hold: records, columns and positions.
_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_DURATION: Final = re.compile(r"(-?)(\d{2,6}):([0-5]\d):([0-5]\d)", re.ASCII)
#: Size of the cache of durations: every call length up to an hour and more, in about 1 MB.
_CACHED_DURATIONS: Final = 4096
#: How msgspec reports an unknown key. Keys that are not plain names are left to the lenient converter.
_UNKNOWN_KEY: Final = r"(?a)Object contains unknown field `([\w.:$ -]{1,64})`(?: - at `\$([^`]*)`)?"


class UnsupportedByFastPath(Exception):
    """Signals that a fast decoder does not read these bytes exactly, so that a slower one must; never reaches users."""


class _Row(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Base class of the structs. They hold no reference cycles, so the garbage collector may ignore them."""


class DecoderSpec(msgspec.Struct, frozen=True):
    """What a decoder is compiled for.

    Attributes:
        keys: keys of the records, `SORT_KEYS` included.
        added_keys: those of `SORT_KEYS` that the user did not request: they may be absent, and records do not get them.
        aware: dates get the account's time zone.
        unknown_keys: further keys, kept in `extra`, each with the class of the records that have it.
    """

    keys: tuple[str, ...]
    added_keys: frozenset[str] = frozenset()
    aware: bool = False
    unknown_keys: frozenset[tuple[type[Model], str]] = frozenset()

    @property
    def required(self) -> frozenset[str]:
        """The keys that every record must have."""
        return frozenset(SORT_KEYS) - self.added_keys

    def with_unknown_key(self, error: Exception) -> DecoderSpec | None:
        """The spec that also takes the key that this error reports as unknown; None for other errors."""
        match = re.fullmatch(_UNKNOWN_KEY, str(error))
        if match is None or match[1] in ALIASES:
            return None
        model: Any = Call
        for name in re.findall(r"\.(\w+)", match[2] or ""):
            annotation = types_of(model)[name]
            model = item_type(annotation) or Categories
        if model is Call and match[1] in types_of(Call):
            return msgspec.structs.replace(self, keys=(*self.keys, match[1]))
        return msgspec.structs.replace(self, unknown_keys=self.unknown_keys | {(model, match[1])})


class CompiledDecoder(msgspec.Struct, frozen=True):
    """Functions compiled for one `DecoderSpec`.

    Attributes:
        rows: decodes a JSON array of records to structs.
        row: decodes one record to its struct.
        make: makes calls of structs, with the time zone as the second argument.
    """

    rows: Callable[[bytes], list[Any]]
    row: Callable[[bytes | msgspec.Raw], Any]
    make: Callable[[Sequence[Any], Any], list[Call]]


def requested_keys(fields: Iterable[str]) -> tuple[str, ...]:
    """The keys of a record that hold these fields."""
    keys: dict[str, None] = {}
    for name in fields:
        nested = next((key for prefix, key in _NESTED_KEYS.items() if name.startswith(prefix)), None)
        keys[nested or ALIASES.get(name, name)] = None
    # Not `types_of`, which takes a millisecond.
    return tuple(key for key in keys if key in Call.__annotations__)


def response_keys(fields: Iterable[str]) -> tuple[str, ...]:
    """The keys that a record may have in the response to a request for these fields.

    Some fields are sent with a second key that was not requested (`talk_time_sec`).
    """
    names = tuple(fields)
    companions = (_COMPANION_KEYS[name] for name in names if name in _COMPANION_KEYS)
    return tuple(dict.fromkeys((*requested_keys(names), *companions)))


@lru_cache(maxsize=64)
def compile_decoder(spec: DecoderSpec) -> CompiledDecoder:
    """The decoder for this spec; compiling takes about as long as reading a segment or two."""
    row_type, make = _compile(Call, spec)
    return CompiledDecoder(
        msgspec.json.Decoder(list[row_type]).decode,  # type: ignore[valid-type] # made at run time
        msgspec.json.Decoder(row_type).decode,
        make,
    )


def _compile(model: type[Model], spec: DecoderSpec) -> tuple[type[_Row], Callable[..., Any]]:
    """The struct for one class of records, and the function that makes records of such structs."""
    annotations = types_of(model)
    keys, added_keys, required = set(annotations), frozenset[str](), frozenset[str]()
    if model is Call:
        keys, added_keys, required = set(spec.keys), spec.added_keys, spec.required
    unknown_keys = sorted(key for owner, key in spec.unknown_keys if owner is model)
    names: dict[str, Any] = {
        "model": model,
        "new": object.__new__,
        "repeat": repeat,
        "combine": datetime.combine,
        "durations": _durations,
        "bools": _BOOLS,
        "sent_keys": _sent_keys,
        "unknown_keys": unknown_keys,
    }
    lines = [
        "def make(rows, tz):",
        "    records = list(map(new, repeat(model, len(rows))))",
        "    for record, row in zip(records, rows):",
    ]
    members = []
    for name, annotation in annotations.items():
        expression = "()" if item_type(annotation) else "None"
        if name in keys:
            member, value = _compile_field(name, annotation, spec, names, required=name in required)
            members.append(member)
            expression = expression if name in added_keys else value
        lines.append(f"        record.{name} = {expression}")
    # msgspec wants the members without a default first.
    members.sort(key=lambda member: (len(member), _position_of(member[0])))
    unknown = [f"unknown_{index}" for index in range(len(unknown_keys))]
    members += [
        (name, Any, msgspec.field(default=UNSET, name=key))
        for name, key in zip(unknown, unknown_keys, strict=True)
    ]
    if unknown:
        values = "".join(f"row.{name}, " for name in unknown)
        lines.append(f"        record.extra = sent_keys(unknown_keys, ({values}))")
    lines.append("    return records")
    row_type: Any = msgspec.defstruct(
        f"{model.__name__}Row", members, bases=(_Row,), module=__name__, gc=False
    )
    return row_type, _define_make("\n".join(lines), model, names)


def _position_of(name: str) -> int:
    """Where a server sends a key: msgspec reads keys faster that come in the order of the struct."""
    return _FIRST_KEYS.index(name) if name in _FIRST_KEYS else len(_FIRST_KEYS)


def _compile_field(
    name: str, annotation: Any, spec: DecoderSpec, names: dict[str, Any], *, required: bool
) -> tuple[tuple[Any, ...], str]:
    """The member of the struct for a field, and the expression for the attribute; adds what it calls to `names`."""
    options = set(get_args(annotation)) or {annotation}
    json_type: Any = str
    value = f"row.{name}"
    if item := item_type(annotation):
        json_type, items = Any, "x"
        if item is not Any:
            json_type, names[f"make_{name}"] = _compile(item, spec)
            items = f"make_{name}(x, tz)"
        return (name, list[json_type] | None, ()), f"{items} if (x := {value}) else [] if x is None else x"
    if Categories in options:
        json_type, names["make_categories"] = _compile(Categories, spec)
        value = f"None if (x := {value}) is None else make_categories((x,), tz)[0]"
    elif datetime in options:
        json_type = _LocalTime
        if spec.aware:
            # Five times as fast as `replace(tzinfo=tz)`.
            aware = f"combine(x := {value}, x.time(), tz)"
            value = aware if required else f"None if {value} is None else {aware}"
    elif timedelta in options:
        value = f"durations[{value}]"
    elif bool in options:
        json_type, value = Literal["TRUE", "FALSE"], f"bools[{value}]"
    elif int in options:
        json_type = _Integer
    return (name, json_type) if required else (name, json_type | None, None), value


def _define_make(source: str, model: type[Model], names: dict[str, Any]) -> Any:
    """Compiles the function. Its source holds names of our own classes and fields, and nothing of a response."""
    filename = f"<iovox_async {model.__name__} {zlib.crc32(source.encode()):08x}>"
    # Shows the source in tracebacks, debuggers and coverage reports.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), names)  # noqa: S102 - see the docstring
    return names["make"]


def _sent_keys(keys: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return {key: value for key, value in zip(keys, values, strict=True) if value is not UNSET}


class _Durations(dict[str | None, timedelta | None]):
    """Durations by their text. A call lasts minutes, so that most texts come again and share one object."""

    def __missing__(self, text: str) -> timedelta:
        match = _DURATION.fullmatch(text)
        if match is None:
            raise UnsupportedByFastPath
        duration = timedelta(hours=int(match[2]), minutes=int(match[3]), seconds=int(match[4]))
        if match[1]:
            duration = -duration
        if len(self) < _CACHED_DURATIONS:
            self[text] = duration
        return duration


_durations: Final = _Durations({None: None})
_BOOLS: Final = {"TRUE": True, "FALSE": False, None: None}
