"""The endpoint's 56 response fields under their names in requests, and the presets of them.

The keys of responses differ (`talk_time_seconds` is sent as `talk_time_sec`, `tag_colour` as `tags[].colour`); see `models`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar, TypeAlias

from ._params.validators import InvalidValue, items
from ._redaction import shorten_repr

__all__ = ["Field", "Fields"]


class Field(StrEnum):
    """A response field under its name in requests, in the order of the endpoint's table."""

    ID = "id"
    CALL_START = "call_start"
    CALL_END = "call_end"
    CALL_ORIGIN = "call_origin"
    CALL_ORIGIN_LOCATION = "call_origin_location"
    IOVOX_NUMBER = "iovox_number"
    CALL_DESTINATION = "call_destination"
    CALL_TIME = "call_time"
    CALL_TIME_SECONDS = "call_time_seconds"
    TALK_TIME = "talk_time"
    TALK_TIME_SECONDS = "talk_time_seconds"
    CALL_TYPE = "call_type"
    CALL_RESULT = "call_result"
    RULE_RESULT = "rule_result"
    NODE_ID = "node_id"
    NODE_NAME = "node_name"
    NODE_TYPE = "node_type"
    LINK_ID = "link_id"
    LINK_NAME = "link_name"
    LINK_TYPE = "link_type"
    HAS_RECORDING = "has_recording"
    EMAIL_ALERT = "email_alert"
    DIRECTION = "direction"
    LINK_CATEGORY_ID = "link_category_id"
    LINK_CATEGORY_LABEL = "link_category_label"
    LINK_CATEGORY_VALUE = "link_category_value"
    CALL_CATEGORY_ID = "call_category_id"
    CALL_CATEGORY_LABEL = "call_category_label"
    CALL_CATEGORY_VALUE = "call_category_value"
    NODE_CATEGORY_ID = "node_category_id"
    NODE_CATEGORY_LABEL = "node_category_label"
    NODE_CATEGORY_VALUE = "node_category_value"
    CONTACT_CATEGORY_ID = "contact_category_id"
    CONTACT_CATEGORY_LABEL = "contact_category_label"
    CONTACT_CATEGORY_VALUE = "contact_category_value"
    TAG_TEXT = "tag_text"
    TAG_COLOUR = "tag_colour"
    TAG_SOURCE_TYPE = "tag_source_type"
    KEYWORD_RULES = "keyword_rules"
    TASK_USERNAME = "task_username"
    TASK_CREATED = "task_created"
    TASK_ASSIGNED_USERNAME = "task_assigned_username"
    TASK_REMINDER_DATE = "task_reminder_date"
    TASK_REMINDER_MESSAGE = "task_reminder_message"
    TASK_STATUS = "task_status"
    TASK_DUE_DATE = "task_due_date"
    COMMENT_ID = "comment_id"
    COMMENT_CREATED = "comment_created"
    COMMENT_USERNAME = "comment_username"
    COMMENT_LANGUAGE = "comment_language"
    COMMENT_TEXT = "comment_text"
    CALL_OUTCOMES = "call_outcomes"
    TRANSCRIPTION_ID = "transcription_id"
    TRANSCRIPTION_LANGUAGE = "transcription_language"
    TRANSCRIPTION_TEXT = "transcription_text"
    TRANSCRIPTION_PHRASES = "transcription_phrases"


_TABLE = tuple(Field)


class Fields:
    """Presets for `fields=`: tuples of `Field`, which can be added."""

    #: The 11 that the endpoint sends if no fields are requested.
    DEFAULT: ClassVar[tuple[Field, ...]] = (
        Field.ID,
        Field.CALL_START,
        Field.CALL_END,
        Field.CALL_ORIGIN,
        Field.IOVOX_NUMBER,
        Field.CALL_DESTINATION,
        Field.TALK_TIME,
        Field.CALL_RESULT,
        Field.NODE_ID,
        Field.LINK_ID,
        Field.HAS_RECORDING,
    )
    #: The 23 that describe the call itself.
    CALL: ClassVar[tuple[Field, ...]] = _TABLE[:23]
    #: The 12 of the categories of the call, its node, its link and its contact.
    CATEGORIES: ClassVar[tuple[Field, ...]] = _TABLE[23:35]
    #: The 21 of tags, keyword rules, tasks, comments, outcomes and transcriptions.
    INSIGHTS: ClassVar[tuple[Field, ...]] = _TABLE[35:]
    #: All 56, in the order of the endpoint's table.
    ALL: ClassVar[tuple[Field, ...]] = _TABLE


#: The presets by the names that the argument `fields` and the command line take.
PRESETS = {
    name: getattr(Fields, name.upper()) for name in ("default", "call", "categories", "insights", "all")
}
#: Names of responses that differ from those of requests.
_RESPONSE_NAMES = {"call_time_sec": Field.CALL_TIME_SECONDS, "talk_time_sec": Field.TALK_TIME_SECONDS}

#: The argument `fields`: fields, their names, names of presets (`"all"`), or one str in the endpoint's own form,
#: `"id,call_start"`.
FieldNames: TypeAlias = Iterable[Field | str] | str

_NAMES = tuple(field.value for field in Field)
#: The only fields that the endpoint does not order by.
_UNORDERED = frozenset({Field.LINK_CATEGORY_ID, Field.LINK_CATEGORY_LABEL, Field.LINK_CATEGORY_VALUE})
_DIRECTIONS = ("ASC", "DESC")


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the most similar candidate, or an empty str."""
    import difflib  # takes a millisecond, and only errors need it

    matches = difflib.get_close_matches(name.lower()[:64], list(candidates), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def as_fields(value: FieldNames | None) -> tuple[Field, ...] | None:
    """Fields without repeats, in the order given; presets may be named (`"all"`), and `talk_time_sec` is understood.

    Raises:
        InvalidValue: a name is unknown (the message lists all unknown names), or there is no name.
    """
    if value is None:
        return None
    names = items(value, "the names of response fields")
    fields: dict[Field, None] = {}
    unknown = []
    for name in names:
        if name in _NAMES:
            fields[Field(name)] = None
        elif name in PRESETS:
            fields.update(dict.fromkeys(PRESETS[name]))
        elif name in _RESPONSE_NAMES:
            fields[_RESPONSE_NAMES[name]] = None
        else:
            unknown.append(name)
    if unknown:
        candidates = (*_NAMES, *PRESETS)
        listed = ", ".join(f"{shorten_repr(name)}{did_you_mean(name, candidates)}" for name in unknown[:5])
        more = f", and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise InvalidValue(f"must be response fields, got {listed}{more}", f"Field lists all {len(_NAMES)}.")
    return tuple(fields)


def as_order(value: str | None) -> str | None:
    """An order such as `call_start_DESC`: the name of a response field, then `_ASC` or `_DESC`.

    Raises:
        InvalidValue: the message says whether the field or the direction is invalid, as the endpoint does.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidValue(f"must be a str such as 'call_start_ASC', got {type(value).__name__}")
    order = str.__str__(value)
    name, _, direction = order.rpartition("_")
    if name in _RESPONSE_NAMES:
        name = _RESPONSE_NAMES[name]
        order = f"{name}_{direction}"
    if order in _NAMES:
        name, direction = order, ""
    if name in _NAMES and direction not in _DIRECTIONS:
        raise InvalidValue(
            f"must end in _ASC or _DESC (direction invalid), got {shorten_repr(order)}",
            f"Write '{name}_ASC' or '{name}_DESC'.",
        )
    if name in _UNORDERED:
        raise InvalidValue(
            f"must not be {name} (field invalid): the endpoint does not order by it", "Choose another field."
        )
    if direction not in _DIRECTIONS or name not in _NAMES:
        orders = (f"{field}_{suffix}" for field in _NAMES for suffix in _DIRECTIONS)
        raise InvalidValue(
            "must be a response field and _ASC or _DESC, such as call_start_ASC (field invalid), got "
            f"{shorten_repr(order)}{did_you_mean(order, orders)}"
        )
    return order
