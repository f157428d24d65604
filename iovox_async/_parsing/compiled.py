"""The fast way from JSON to records, for answers that are exactly what the documentation shows.

The law of this room: what is read here, `convert` would read to the same record, and what `convert` would bend is not
read here at all: it is a `msgspec.ValidationError` or an `UnusualError`, and the caller goes the tolerant way.

A `CompiledDecoder` is made for one choice of fields. It has a class of rows, which msgspec decodes in one call for many records,
and functions written out for exactly those fields, which make records of rows. Written out, a record costs one
bytecode or two a field; a constructor with 31 arguments costs twice as much. For the fields `id, call_start, talk_time`
of an account with a time zone, the function is::

    def make(rows, tz):
        out = []
        for r in rows:
            o = new(kind)
            o.id = r.id
            o.call_start = combine(x := r.call_start, x.time(), tz)
            o.call_end = None
            ...
            o.talk_time = span[r.talk_time]
            o.tags = NOT_REQUESTED
            ...
            o.extra = NO_EXTRA
            out.append(o)
        return out
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import attrs
import msgspec
from msgspec import UNSET, UnsetType

from ..models import ALIASES, NO_EXTRA, NOT_REQUESTED, Call, Categories, Model, types_of

__all__ = ["CompiledDecoder", "DecoderSpec", "Row", "UnusualError", "answer_keys", "layout_of"]

#: The nested lists, by how the names of the fields that ask for them begin.
_NESTED: Final = {
    "link_category_": "categories",
    "call_category_": "categories",
    "node_category_": "categories",
    "contact_category_": "categories",
    "comment_": "comments",
    "transcription_": "transcriptions",
    "tag_": "tags",
    "task_": "tasks",
}
#: Answered along with the field, asked for or not: the sample answer of the default fields shows it.
_ALONG: Final = {"call_time": "call_time_sec", "talk_time": "talk_time_sec"}

_Moment = Annotated[datetime, msgspec.Meta(tz=False)]
_CLOCK: Final = re.compile(r"(-?)(\d{2,6}):([0-5]\d):([0-5]\d)", re.ASCII)
#: A date with the account's time zone: five times as fast as `replace(tzinfo=tz)`.
_AWARE: Final = "combine({}, x.time(), tz)"
#: Durations remembered: every length of a call up to an hour and more, in about 1 MB.
_REMEMBERED: Final = 4096


class UnusualError(Exception):
    """A value that msgspec takes and the fast way does not."""


class Row(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The base of all rows: an object of an answer, in the types of JSON and with dates read.

    Rows hold no cycles, so the garbage collector need not look at them.
    """


@attrs.frozen
class DecoderSpec:
    """What a layout is made for.

    Attributes:
        keys: the keys of a record in answers, in the order they were asked for.
        required: those that every record must have.
        hidden: those that are read and not handed out.
        aware: dates get the account's time zone.
        learned: keys that this version does not know, each with the class of the record they were seen in.
        renamed: keys that came under the name they are asked by.
    """

    keys: tuple[str, ...]
    required: frozenset[str]
    hidden: frozenset[str] = frozenset()
    aware: bool = False
    learned: frozenset[tuple[type[Model], str]] = frozenset()
    renamed: frozenset[str] = frozenset()

    def knows(self, kind: type[Model]) -> set[str]:
        """The keys that rows of this class of record take."""
        names = self.keys if issubclass(kind, Call) else types_of(kind)
        asked = {name: key for key, name in ALIASES.items() if name in self.renamed}
        own = {asked.get(name, name) for name in names} if issubclass(kind, Call) else set(names)
        return own | {key for owner, key in self.learned if owner is kind}


@attrs.frozen
class CompiledDecoder:
    """The code for one choice of fields.

    Attributes:
        row_type: what msgspec decodes a record to.
        rows: a JSON array of records to rows.
        row: one record to its row.
        make: rows and the time zone to calls.
        places: rows and the time zone to `(call_start, id)`.
    """

    row_type: type[Row]
    rows: Callable[[bytes], list[Any]]
    row: Callable[[bytes | msgspec.Raw], Any]
    make: Callable[[Sequence[Any], Any], list[Call]]
    places: Callable[[Sequence[Any], Any], list[tuple[datetime, int]]]


def answer_keys(fields: Sequence[str]) -> tuple[str, ...]:
    """The keys under which an answer holds the fields that are asked for by these names."""
    keys: dict[str, None] = {}
    known = types_of(Call)
    for name in fields:
        nested = next((key for start, key in _NESTED.items() if name.startswith(start)), None)
        keys[nested or ALIASES.get(name, name)] = None
        if name in _ALONG:
            keys[_ALONG[name]] = None
    return tuple(key for key in keys if key in known)


@lru_cache(maxsize=64)
def layout_of(choice: DecoderSpec) -> CompiledDecoder:
    """The code for this choice, made once; that takes about as long as reading a segment or two."""
    row_type, make = _compile(Call, choice)
    moment = _AWARE.format("x := r.call_start") if choice.aware else "r.call_start"
    lines = ["def places(rows, tz):", f"    return [({moment}, r.id) for r in rows]"]
    return CompiledDecoder(
        row_type,
        msgspec.json.Decoder(list[row_type]).decode,  # type: ignore[valid-type] # made at run time
        msgspec.json.Decoder(row_type).decode,
        make,
        _function("places", lines, {"combine": datetime.combine}),
    )


def _compile(kind: type[Model], choice: DecoderSpec) -> tuple[type[Row], Callable[..., Any]]:
    """The class of rows of one class of record, and the function that makes such records of them."""
    is_call = issubclass(kind, Call)
    known = types_of(kind)
    used = choice.keys if is_call else tuple(known)
    required = choice.required if is_call else frozenset[str]()
    names: dict[str, Any] = {
        "kind": kind,
        "new": object.__new__,
        "span": _spans,
        "flag": _FLAGS,
        "keep": _keep,
    }
    names |= {
        "combine": datetime.combine,
        "NOT_REQUESTED": NOT_REQUESTED,
        "NO_EXTRA": NO_EXTRA,
        "UNSET": UNSET,
    }
    lines = ["def make(rows, tz):", "    out = []", "    for r in rows:", "        o = new(kind)"]
    for name, type_ in known.items():
        is_list = get_origin(type_) is list
        expression = "NOT_REQUESTED" if is_list else "None"
        if name in used and not (is_call and name in choice.hidden):
            expression = _expression(name, type_, choice, names, required=name in required)
        lines.append(f"        o.{name} = {expression}")
    first = sorted(used, key=lambda name: name not in required)
    members = [_member(name, known[name], names, choice, required=name in required) for name in first]
    learned = sorted(key for owner, key in choice.learned if owner is kind)
    members += [
        (f"more_{place}", Any, msgspec.field(default=UNSET, name=key)) for place, key in enumerate(learned)
    ]
    names["learned"] = learned
    values = "".join(f"r.more_{place}, " for place in range(len(learned)))
    lines.append(f"        o.extra = {f'keep(learned, ({values}))' if learned else 'NO_EXTRA'}")
    lines += ["        out.append(o)", "    return out"]
    row_type: Any = msgspec.defstruct(f"{kind.__name__}Row", members, bases=(Row,), module=__name__, gc=False)
    return row_type, _function("make", lines, names)


def _member(
    name: str, type_: Any, names: dict[str, Any], choice: DecoderSpec, *, required: bool
) -> tuple[Any, ...]:
    """The field of a row: its name, its type in JSON, and how it may be missing."""
    options = set(get_args(type_)) or {type_}
    if get_origin(type_) is list:
        row: Any = names.get(f"row_{name}", Any)
        return name, list[row] | UnsetType | None, UNSET
    json: Any = str
    if datetime in options:
        json = _Moment
    elif bool in options:
        json = Literal["TRUE", "FALSE"]
    elif Categories in options:
        json = names["row_categories"]
    elif int in options:
        json = int
    if required:
        return name, json
    if name in choice.renamed:
        alias = next(key for key, answered in ALIASES.items() if answered == name)
        return name, json | None, msgspec.field(default=None, name=alias)
    return name, json | None, None


def _expression(name: str, type_: Any, choice: DecoderSpec, names: dict[str, Any], *, required: bool) -> str:
    """What is written behind `o.name =`; parts add the function that makes them to `names`."""
    options = set(get_args(type_)) or {type_}
    value = f"r.{name}"
    if get_origin(type_) is list:
        (item,) = get_args(type_)
        made = "x"
        if item is not Any:
            names[f"row_{name}"], names[f"make_{name}"] = _compile(item, choice)
            made = f"make_{name}(x, tz)"
        return f"{made} if (x := {value}) else NOT_REQUESTED if x is UNSET else []"
    if Categories in options:
        names["row_categories"], names["make_categories"] = _compile(Categories, choice)
        return f"None if (x := {value}) is None else make_categories((x,), tz)[0]"
    if datetime in options and choice.aware:
        return (
            _AWARE.format(f"x := {value}")
            if required
            else f"None if (x := {value}) is None else {_AWARE.format('x')}"
        )
    if timedelta in options:
        return f"span[{value}]"
    return f"flag[{value}]" if bool in options else value


def _function(name: str, lines: list[str], names: dict[str, Any]) -> Any:
    """The function that these lines define; they hold names of our own classes and fields, nothing from outside."""
    exec(compile("\n".join(lines), "<iovox_async rows>", "exec"), names)  # noqa: S102 - see above
    return names[name]


def _keep(keys: Sequence[str], values: Sequence[Any]) -> Any:
    """The `extra` of a record: the keys that came."""
    kept = {key: value for key, value in zip(keys, values, strict=True) if value is not UNSET}
    return kept or NO_EXTRA


class _Spans(dict[str | None, timedelta | None]):
    """Durations by how they are written. A call lasts minutes, so most were read before, and share one object."""

    def __missing__(self, text: str) -> timedelta:
        clock = _CLOCK.fullmatch(text)
        if clock is None:
            raise UnusualError
        span = timedelta(hours=int(clock[2]), minutes=int(clock[3]), seconds=int(clock[4]))
        if clock[1]:
            span = -span
        if len(self) < _REMEMBERED:
            self[text] = span
        return span


_spans: Final = _Spans({None: None})
_FLAGS: Final = {"TRUE": True, "FALSE": False, None: None}
