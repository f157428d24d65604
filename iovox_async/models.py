"""What comes back: a call and its parts, as plain mutable classes.

The law of this room: a field has the name that answers give it and the type a program wants, and what stands in
it is what the server said or nothing. A record allocates nothing for what was not asked for: such fields are None,
such lists are `NOT_REQUESTED`, and `extra` is `NO_EXTRA`, one object each for all records.

`convert` makes these classes from JSON data, `to_dict()` gives the JSON data back. The endpoint does not say
what an item of `call_outcomes` looks like, so these stay plain JSON; a class would be a guess, and the program that
relied on it would break when the first account uses outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn, Self, get_args, get_origin, get_type_hints

import attrs

from ._redaction import mask_phone_number, shorten

__all__ = [
    "ALIASES",
    "NOT_REQUESTED",
    "NO_EXTRA",
    "Call",
    "Categories",
    "Category",
    "Comment",
    "Keyword",
    "KeywordRule",
    "Model",
    "Phrase",
    "Tag",
    "Task",
    "Transcription",
    "types_of",
]

#: Names that are asked for, where answers have another.
ALIASES: Final = {"call_time_seconds": "call_time_sec", "talk_time_seconds": "talk_time_sec"}


class _NotAsked(list[Any]):
    """An empty list that stays empty: it is shared by all records, and means that nobody asked."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(
            "this list was not asked for, so it cannot be changed: name its field in fields=, or assign a new list"
        )

    append = extend = insert = remove = pop = clear = sort = reverse = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> str:
        return "NOT_REQUESTED"  # pickled by its name, so that it is the same object at the other end


class _NoExtra(dict[str, Any]):
    """An empty mapping that stays empty: it is shared by all records."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("this record has no extra keys, so the mapping cannot be changed: assign a new dict")

    update = setdefault = pop = popitem = clear = _refuse
    __setitem__ = __delitem__ = __ior__ = _refuse

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> str:
        return "NO_EXTRA"


#: The list of a field that was not asked for: empty, false, equal to `[]`, and immutable.
NOT_REQUESTED: Final[list[Any]] = _NotAsked()
#: The `extra` of a record without unknown keys: empty and immutable.
NO_EXTRA: Final[Mapping[str, Any]] = _NoExtra()


class Model:
    """What a call and its parts share: JSON data back, and a short representation without phone numbers."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data in the forms of an answer: `TRUE`, `00:02:05`, `2024-02-26 04:39:59` (local wall time).

        What is None or was not asked for is left out; an empty list that was asked for is kept. Keys of `extra` stand
        beside the fields.
        """
        extra: Mapping[str, Any] = self.extra  # type: ignore[attr-defined] # every part has one
        data = dict(extra) if extra else {}
        for name, write in _writers_of(type(self)):
            value = getattr(self, name)
            if value is not None and value is not NOT_REQUESTED:
                data[name] = value if write is None else write(value)
        return data

    def __repr__(self) -> str:
        shown = (
            f"{name}={_shown(value, phone=name in _PHONES)}"
            for name in (*types_of(type(self)), "extra")
            if (value := getattr(self, name)) is not None
            and value is not NOT_REQUESTED
            and value is not NO_EXTRA
        )
        return f"{type(self).__name__}({', '.join(shown)})"


@attrs.define(repr=False)
class Category(Model):
    """A category of a link, call, node or contact."""

    category_id: str | None = None
    label: str | None = None
    value: str | None = None
    extra: Mapping[str, Any] = NO_EXTRA


@attrs.define(repr=False)
class Categories(Model):
    """The categories of a call, by what they are attached to."""

    link_categories: list[Category] = NOT_REQUESTED
    call_categories: list[Category] = NOT_REQUESTED
    node_categories: list[Category] = NOT_REQUESTED
    contact_categories: list[Category] = NOT_REQUESTED
    extra: Mapping[str, Any] = NO_EXTRA


@attrs.define(repr=False)
class Comment(Model):
    """What a person wrote about a call."""

    comment_id: str | None = None
    created: datetime | None = None
    username: str | None = None
    language: str | None = None
    text: str | None = None
    extra: Mapping[str, Any] = NO_EXTRA


@attrs.define(repr=False)
class Phrase(Model):
    """One turn of a dialogue.

    Attributes:
        phrase: what was said.
        speaker: `caller` or `called`.
        start: milliseconds from the start of the recording.
        end: milliseconds from the start of the recording.
        turn: its place in the dialogue, from 0.
    """

    phrase: str | None = None
    speaker: str | None = None
    start: int | None = None
    end: int | None = None
    turn: int | None = None
    extra: Mapping[str, Any] = NO_EXTRA


@attrs.define(repr=False)
class Transcription(Model):
    """What was said, as text and phrase by phrase."""

    transcription_id: str | None = None
    language: str | None = None
    text: str | None = None
    phrases: list[Phrase] = NOT_REQUESTED
    extra: Mapping[str, Any] = NO_EXTRA


@attrs.define(repr=False)
class Tag(Model):
    """A tag of a call; `colour` is BLUE, GREEN, GOLD or RED."""

    text: str | None = None
    colour: str | None = None
    source_type: str | None = None
    extra: Mapping[str, Any] = NO_EXTRA


@attrs.define(repr=False)
class Keyword(Model):
    """A word or phrase, and how often it was said."""

    keyword: str | None = None
    count: int | None = None
    extra: Mapping[str, Any] = NO_EXTRA


@attrs.define(repr=False)
class KeywordRule(Model):
    """A rule that matched, and the keywords it matched by."""

    keyword_rule: str | None = None
    keywords: list[Keyword] = NOT_REQUESTED
    extra: Mapping[str, Any] = NO_EXTRA


@attrs.define(repr=False)
class Task(Model):
    """Something to do about a call. The endpoint does not show one; the names are those asked for, without `task_`."""

    username: str | None = None
    created: datetime | None = None
    assigned_username: str | None = None
    reminder_date: datetime | None = None
    reminder_message: str | None = None
    status: str | None = None
    due_date: datetime | None = None
    extra: Mapping[str, Any] = NO_EXTRA


@attrs.define(repr=False)
class Call(Model):
    """One call. Dates are the account's local time: naive, or aware where the session knows the time zone.

    A field that was not asked for is None, and a list that was not asked for is `NOT_REQUESTED`, an empty list that cannot
    be changed. That goes for `id` and `call_start` too, although they are annotated as what they are whenever
    `fields` names them: in every preset that a program reads calls by, they are there.

    Attributes:
        id: the call's number, unique within the account.
        call_start: when it began, to the second.
        call_time: how long it took in all.
        call_time_sec: the same in seconds; also readable as `call_time_seconds`, the name it is asked by.
        talk_time: how long the two talked.
        talk_time_sec: the same in seconds, also `talk_time_seconds`. The endpoint's own two values may differ.
        email_alert: as the server says it; the endpoint does not document its values.
        call_outcomes: plain JSON values; the endpoint does not document their shape.
        extra: keys that this version does not know, and the raw form of what was read as nothing (a date of zeros).
    """

    id: int
    call_start: datetime
    call_end: datetime | None = None
    call_origin: str | None = None
    call_origin_location: str | None = None
    iovox_number: str | None = None
    call_destination: str | None = None
    call_time: timedelta | None = None
    call_time_sec: int | None = None
    talk_time: timedelta | None = None
    talk_time_sec: int | None = None
    call_type: str | None = None
    call_result: str | None = None
    rule_result: str | None = None
    node_id: str | None = None
    node_name: str | None = None
    node_type: str | None = None
    link_id: str | None = None
    link_name: str | None = None
    link_type: str | None = None
    has_recording: bool | None = None
    email_alert: str | None = None
    direction: str | None = None
    categories: Categories | None = None
    comments: list[Comment] = NOT_REQUESTED
    call_outcomes: list[Any] = NOT_REQUESTED
    transcriptions: list[Transcription] = NOT_REQUESTED
    tags: list[Tag] = NOT_REQUESTED
    keyword_rules: list[KeywordRule] = NOT_REQUESTED
    tasks: list[Task] = NOT_REQUESTED
    extra: Mapping[str, Any] = NO_EXTRA

    @property
    def call_time_seconds(self) -> int | None:
        """`call_time_sec` under the name it is asked by."""
        return self.call_time_sec

    @property
    def talk_time_seconds(self) -> int | None:
        """`talk_time_sec` under the name it is asked by."""
        return self.talk_time_sec


_types: Final[dict[Any, dict[str, Any]]] = {}
_writers: Final[dict[Any, tuple[tuple[str, Callable[[Any], Any] | None], ...]]] = {}


def types_of(kind: Any) -> dict[str, Any]:
    """The fields of a class of record, `extra` left out, each with its type."""
    if kind not in _types:
        hints = get_type_hints(kind)
        _types[kind] = {
            field.name: hints[field.name] for field in attrs.fields(kind) if field.name != "extra"
        }
    return _types[kind]


# Back to JSON.


def _writers_of(kind: Any) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    if kind not in _writers:
        _writers[kind] = tuple((name, _writer(known)) for name, known in types_of(kind).items())
    return _writers[kind]


def _writer(known: Any) -> Callable[[Any], Any] | None:
    """How a value of this type is written; None where it is JSON already."""
    if get_origin(known) is list:
        (item,) = get_args(known)
        return list if item is Any else _write_list
    options = set(get_args(known)) or {known}
    if datetime in options:
        return _write_moment
    if timedelta in options:
        return _write_span
    if bool in options:
        return _write_flag
    return _write_part if Categories in options else None


def _write_list(value: list[Model]) -> list[dict[str, Any]]:
    return [part.to_dict() for part in value]


def _write_part(value: Model) -> dict[str, Any]:
    return value.to_dict()


def _write_moment(value: datetime) -> str:
    return (value if value.tzinfo is None else value.replace(tzinfo=None)).isoformat(" ")


def _write_flag(value: object) -> str:
    return "TRUE" if value else "FALSE"


def _write_span(value: timedelta) -> str:
    microseconds = value // timedelta(microseconds=1)
    seconds, fraction = divmod(abs(microseconds), 1_000_000)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{'-' if microseconds < 0 else ''}{clock}{f'.{fraction:06d}' if fraction else ''}"


# Short and without phone numbers.

_PHONES: Final = frozenset({"call_origin", "iovox_number", "call_destination"})


def _shown(value: object, *, phone: bool) -> str:
    match value:
        case str() if phone and any(map(str.isdigit, value)):
            return f"'{mask_phone_number(value)}'"
        case str():
            return ascii(shorten(value)).replace("\\u2026", "…")
        case datetime():
            return f"'{value}'"
        case timedelta():
            return f"'{_write_span(value)}'"
        case list():
            return f"<{len(value)}>"
        case dict():
            return f"<{', '.join(shorten(str(key)) for key in list(value)[:8])}>"
    return repr(value)
