"""The records of the endpoint: `Call` and its parts, as plain mutable classes.

Fields have the names of the response and Python types. What was not requested or not sent is None, or an empty tuple
where the field is a list; a list that was requested is a list, even if it is empty. `extra` is a dict with the keys that
this version does not define.

`make_converter()` makes these classes from JSON data, and `to_dict()` returns the JSON data. The endpoint does not document
the items of `call_outcomes`, so they stay plain JSON.
"""

# Without `from __future__ import annotations`: the types of the fields are read when a program starts, and texts would be
# compiled one by one then.
import importlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, get_args, get_origin, get_type_hints

import attrs

from ._redaction import mask_phone_number, shorten

__all__ = [
    "Call",
    "Categories",
    "Category",
    "Comment",
    "Keyword",
    "KeywordRule",
    "Phrase",
    "Tag",
    "Task",
    "Transcription",
]

#: Request names of fields that have another name in responses.
ALIASES: Final = {"call_time_seconds": "call_time_sec", "talk_time_seconds": "talk_time_sec"}


class Model:
    """Base class of `Call` and its parts: conversion to JSON data, and a short `repr` without phone numbers."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data as the endpoint sends it: `TRUE`, `00:02:05`, `2024-02-26 04:39:59` (local time).

        What is None or was not requested is left out; an empty list that was requested is kept. The keys of `extra` are
        added beside the fields.
        """
        data = dict(_extra_of(self))
        for name, write in _writers_of(type(self)).items():
            value = getattr(self, name)
            if value is not None and value != ():
                data[name] = value if write is None else write(value)
        return data

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        """Lets pydantic, and so FastAPI, serialize records; called by pydantic only."""
        return importlib.import_module("._pydantic", __package__).schema_of(cls)

    def __repr__(self) -> str:
        values = [(name, getattr(self, name)) for name in types_of(type(self))]
        values.append(("extra", _extra_of(self) or None))
        shown = (
            f"{name}={_format(value, is_phone=name in _PHONE_FIELDS)}"
            for name, value in values
            if value is not None and value != ()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def _extra_of(record: Model) -> dict[str, Any]:
    """The `extra` of a record, without creating it."""
    try:
        extra: dict[str, Any] = type(record).extra.slot.__get__(record)  # type: ignore[attr-defined]  # of every class
    except AttributeError:
        return {}
    return extra


class _Extra:
    """The attribute `extra` of a class: an empty dict is made when it is first read.

    The decoder leaves the slot empty, since a dict for each record would slow it down for nothing. With `__getattr__` instead, each
    attribute of a record would take twice as long to read.
    """

    def __init__(self, slot: Any) -> None:
        self.slot = slot
        self.__doc__ = slot.__doc__

    def __get__(self, record: Model | None, _: object = None) -> Any:
        if record is None:
            return self
        try:
            return self.slot.__get__(record)
        except AttributeError:
            extra: dict[str, Any] = {}
            self.slot.__set__(record, extra)
            return extra

    def __set__(self, record: Model, value: dict[str, Any] | None) -> None:
        self.slot.__set__(record, {} if value is None else value)

    def __delete__(self, record: Model) -> None:
        # Deleted or not read yet, it is empty.
        self.slot.__set__(record, {})


def _as_list(value: Sequence[Any] | None) -> list[Any]:
    return list(value) if value else []


def _list_field() -> Any:
    """A list, by default not requested; compared by its items, so that `()` equals `[]`."""
    return attrs.field(default=(), eq=_as_list)


@attrs.define(repr=False)
class Category(Model):
    """A category of a link, call, node or contact.

    Attributes:
        category_id: id of the category, often empty.
        label: label of the category, such as `region`.
        value: value of the category, such as `London`.
    """

    category_id: str | None = None
    label: str | None = None
    value: str | None = None
    extra: dict[str, Any] = attrs.Factory(dict)


@attrs.define(repr=False)
class Categories(Model):
    """The categories of a call, by what they are attached to.

    Attributes:
        link_categories: categories of the link.
        call_categories: categories of the call.
        node_categories: categories of the node.
        contact_categories: categories of the contact.
    """

    link_categories: Sequence[Category] = _list_field()
    call_categories: Sequence[Category] = _list_field()
    node_categories: Sequence[Category] = _list_field()
    contact_categories: Sequence[Category] = _list_field()
    extra: dict[str, Any] = attrs.Factory(dict)


@attrs.define(repr=False)
class Comment(Model):
    """A comment that a user wrote about a call."""

    comment_id: str | None = None
    created: datetime | None = None
    username: str | None = None
    language: str | None = None
    text: str | None = None
    extra: dict[str, Any] = attrs.Factory(dict)


@attrs.define(repr=False)
class Phrase(Model):
    """One turn of a conversation.

    Attributes:
        phrase: the words.
        speaker: `caller` or `called`.
        start: milliseconds from the start of the recording.
        end: milliseconds from the start of the recording.
        turn: its index in the conversation, from 0.
    """

    phrase: str | None = None
    speaker: str | None = None
    start: int | None = None
    end: int | None = None
    turn: int | None = None
    extra: dict[str, Any] = attrs.Factory(dict)


@attrs.define(repr=False)
class Transcription(Model):
    """A transcription, as one text and phrase by phrase."""

    transcription_id: str | None = None
    language: str | None = None
    text: str | None = None
    phrases: Sequence[Phrase] = _list_field()
    extra: dict[str, Any] = attrs.Factory(dict)


@attrs.define(repr=False)
class Tag(Model):
    """A tag of a call; `colour` is BLUE, GREEN, GOLD or RED."""

    text: str | None = None
    colour: str | None = None
    source_type: str | None = None
    extra: dict[str, Any] = attrs.Factory(dict)


@attrs.define(repr=False)
class Keyword(Model):
    """A keyword, and how often it occurs.

    Attributes:
        keyword: the word.
        count: how often it occurs in the transcription.
    """

    keyword: str | None = None
    count: int | None = None
    extra: dict[str, Any] = attrs.Factory(dict)


@attrs.define(repr=False)
class KeywordRule(Model):
    """A keyword rule that matched, and its matching keywords.

    Attributes:
        keyword_rule: name of the rule.
        keywords: the keywords that matched.
    """

    keyword_rule: str | None = None
    keywords: Sequence[Keyword] = _list_field()
    extra: dict[str, Any] = attrs.Factory(dict)


@attrs.define(repr=False)
class Task(Model):
    """A task about a call. The endpoint documents no example; the names are those of the fields, without `task_`."""

    username: str | None = None
    created: datetime | None = None
    assigned_username: str | None = None
    reminder_date: datetime | None = None
    reminder_message: str | None = None
    status: str | None = None
    due_date: datetime | None = None
    extra: dict[str, Any] = attrs.Factory(dict)


@attrs.define(repr=False)
class Call(Model):
    """One call. Dates are the account's local time: aware if the client has a time zone, else naive.

    A field that was not requested is None, or `()` where it is a list. This applies to `id` and `call_start` too;
    they are annotated without None because every preset of `Fields` with fields of the call requests them.

    Attributes:
        id: number of the call, unique within the account.
        call_start: start of the call, to the second.
        call_time: total duration.
        call_time_sec: the same in seconds; also available as `call_time_seconds`, the name in requests.
        talk_time: duration of the conversation.
        talk_time_sec: the same in seconds; also `talk_time_seconds`. The endpoint's own two values may differ.
        email_alert: as the server sends it; the endpoint does not document the values.
        call_outcomes: plain JSON values; the endpoint does not document them.
        extra: keys that this version does not define, and the raw text of dates that were read as None (dates of zeros).
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
    comments: Sequence[Comment] = _list_field()
    call_outcomes: Sequence[Any] = _list_field()
    transcriptions: Sequence[Transcription] = _list_field()
    tags: Sequence[Tag] = _list_field()
    keyword_rules: Sequence[KeywordRule] = _list_field()
    tasks: Sequence[Task] = _list_field()
    extra: dict[str, Any] = attrs.Factory(dict)

    @property
    def call_time_seconds(self) -> int | None:
        """`call_time_sec` under its name in requests."""
        return self.call_time_sec

    @property
    def talk_time_seconds(self) -> int | None:
        """`talk_time_sec` under its name in requests."""
        return self.talk_time_sec


for _model in (Category, Categories, Comment, Phrase, Transcription, Tag, Keyword, KeywordRule, Task, Call):
    _model.extra = _Extra(_model.extra)  # type: ignore[assignment,misc]  # the slot of attrs

_annotations: Final[dict[Any, dict[str, Any]]] = {}
_writers: Final[dict[Any, dict[str, Callable[[Any], Any] | None]]] = {}


def types_of(model: Any) -> dict[str, Any]:
    """The annotation of each field of a class, `extra` left out."""
    if model not in _annotations:
        hints = get_type_hints(model)
        names = [field.name for field in attrs.fields(model) if field.name != "extra"]
        _annotations[model] = {name: hints[name] for name in names}
    return _annotations[model]


def item_type(annotation: Any) -> Any:
    """The type of the items of a list field (a `Model`, or `Any` for plain JSON); None for other annotations."""
    return get_args(annotation)[0] if get_origin(annotation) in {list, Sequence} else None


# Conversion to JSON data.


def _writers_of(model: Any) -> dict[str, Callable[[Any], Any] | None]:
    if model not in _writers:
        _writers[model] = {name: _writer(annotation) for name, annotation in types_of(model).items()}
    return _writers[model]


def _writer(annotation: Any) -> Callable[[Any], Any] | None:
    """The function that converts a value of this type to JSON data; None where it is JSON data already."""
    item = item_type(annotation)
    if item is not None:
        return list if item is Any else _write_list
    options = set(get_args(annotation)) or {annotation}
    if datetime in options:
        return _write_datetime
    if timedelta in options:
        return _write_duration
    if bool in options:
        return _write_bool
    return Model.to_dict if Categories in options else None


def _write_list(value: Sequence[Model]) -> list[dict[str, Any]]:
    return [part.to_dict() for part in value]


def _write_datetime(value: datetime) -> str:
    return (value if value.tzinfo is None else value.replace(tzinfo=None)).isoformat(" ")


def _write_bool(value: object) -> str:
    return "TRUE" if value else "FALSE"


def _write_duration(value: timedelta) -> str:
    microseconds = value // timedelta(microseconds=1)
    seconds, fraction = divmod(abs(microseconds), 1_000_000)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{'-' if microseconds < 0 else ''}{clock}{f'.{fraction:06d}' if fraction else ''}"


# Short representations without phone numbers.

_PHONE_FIELDS: Final = frozenset({"call_origin", "iovox_number", "call_destination"})


def _format(value: object, *, is_phone: bool) -> str:
    match value:
        case str() if is_phone and any(map(str.isdigit, value)):
            return f"'{mask_phone_number(value)}'"
        case str():
            return ascii(shorten(value)).replace("\\u2026", "…")
        case datetime():
            return f"'{value}'"
        case timedelta():
            return f"'{_write_duration(value)}'"
        case list() | tuple():
            return f"<{len(value)}>"
        case dict():
            return f"<{', '.join(shorten(str(key)) for key in list(value)[:8])}>"
    return repr(value)
