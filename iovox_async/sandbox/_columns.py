"""The table of response fields: how each is requested, stored, written as JSON and ordered by.

A field is one row of `SCALARS` or a part of one row of `NESTED`; the rest of the sandbox only reads these tables. They
contain the endpoint's irregularities: `talk_time_seconds` is returned as `talk_time_sec`, the ids of nodes and links are
strings while a call's id is a number, `has_recording` is "TRUE" or "FALSE", and the fields of a list are requested one by
one. `parse_columns` reads values in the form of a response, for calls that tests add or update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from iovox_async.errors import QueryError

from ._timestamps import format_timestamp, parse_duration, parse_timestamp

if TYPE_CHECKING:
    from ._fragments import FragmentPool

#: The fields of a response to a query without `response_fields`. `talk_time_seconds` is not in the documented list of
#: defaults, but in the documented sample of them.
DEFAULT = (
    "id", "call_start", "call_end", "call_origin", "iovox_number", "call_destination", "talk_time",
    "talk_time_seconds", "call_result", "node_id", "link_id", "has_recording",
)  # fmt: skip

#: Placeholders in a stored transcription for its id and for the name of the call's node; SQL replaces them.
ID_TOKEN, NODE_TOKEN = "@@id@@", "@@node@@"

#: Bits of the largest id of a call, without the sign.
INTEGER_BITS = 63

#: The fragments of projection `p` have ids from `p << PROJECTION_BITS`; projection 0 is the fragments as stored.
PROJECTION_BITS = 32


@attrs.frozen
class Scalar:
    """A field of the call itself.

    Attributes:
        name: its name in `response_fields`.
        key: its key in a response.
        template: a printf template of its JSON.
        arguments: the SQL expressions that fill the template.
        order: the SQL expression for `ORDER BY`.
    """

    name: str
    key: str
    template: str
    arguments: tuple[str, ...]
    order: str


@attrs.frozen
class Nested:
    """A list inside a call, made of several fields.

    Attributes:
        column: the column of the store, and the key in a response.
        parts: the names in `response_fields`, each with its key in an item; an empty key means whole items.
        paths: the JSON path that a part is ordered by.
        category: whether the list lies inside `categories`.
    """

    column: str
    parts: dict[str, str]
    paths: dict[str, str]
    category: bool = False


def _text(name: str) -> Scalar:
    return Scalar(name, name, "%s", (f"json_quote(c.{name})",), f"c.{name}")


def _plain(name: str) -> Scalar:
    # Only the sandbox writes these values, so they need no escaping.
    return Scalar(name, name, '"%s"', (f"c.{name}",), f"c.{name}")


def _duration(name: str) -> Scalar:
    column = f"c.{name}"
    return Scalar(
        name, name, '"%02d:%02d:%02d"', (f"{column}/3600", f"{column}/60%60", f"{column}%60"), column
    )


def _seconds(name: str, column: str) -> Scalar:
    return Scalar(name, column + "_sec", "%d", (f"c.{column}",), f"c.{column}")


_RECORDED = "iif(c.has_recording,'TRUE','FALSE')"
#: In the order of the endpoint's table, which is the order of keys in a response and of columns in the store.
SCALARS = {
    field.name: field
    for field in (
        Scalar("id", "id", "%d", ("c.id",), "c.id"),
        *map(_plain, ("call_start", "call_end")),
        *map(_text, ("call_origin", "call_origin_location", "iovox_number", "call_destination")),
        _duration("call_time"),
        _seconds("call_time_seconds", "call_time"),
        _duration("talk_time"),
        _seconds("talk_time_seconds", "talk_time"),
        *map(_text, ("call_type", "call_result", "rule_result", "node_id", "node_name", "node_type")),
        *map(_text, ("link_id", "link_name", "link_type")),
        Scalar("has_recording", "has_recording", '"%s"', (_RECORDED,), "c.has_recording"),
        *map(_text, ("email_alert", "direction")),
    )
}


def _nested(column: str, parts: dict[str, str], *, category: bool = False, **paths: str) -> Nested:
    return Nested(
        column, parts, {name: paths.get(name, f"$[0].{key}") for name, key in parts.items()}, category
    )


def _parts(prefix: str, *keys: str) -> dict[str, str]:
    return {f"{prefix}_{key}": key for key in keys}


def _category(kind: str) -> Nested:
    parts = {f"{kind}_category_id": "category_id", **_parts(f"{kind}_category", "label", "value")}
    return _nested(f"{kind}_categories", parts, category=True)


NESTED = {
    nested.column: nested
    for nested in (
        *map(_category, ("link", "call", "node", "contact")),
        _nested(
            "comments",
            {"comment_id": "comment_id", **_parts("comment", "created", "username", "language", "text")},
        ),
        _nested("call_outcomes", {"call_outcomes": ""}, call_outcomes="$[0].call_outcome"),
        _nested(
            "transcriptions",
            {
                "transcription_id": "transcription_id",
                **_parts("transcription", "language", "text", "phrases"),
            },
            # Phrases are a list, so they are ordered by their text.
            transcription_phrases="$[0].text",
        ),
        _nested("tags", _parts("tag", "text", "colour", "source_type")),
        _nested("keyword_rules", {"keyword_rules": ""}, keyword_rules="$[0].keyword_rule"),
        _nested(
            "tasks",
            _parts(
                "task",
                *("username", "created", "assigned_username"),
                *("reminder_date", "reminder_message", "status", "due_date"),
            ),
        ),
    )
}

#: All names of `response_fields`.
NAMES = frozenset(SCALARS) | {name for nested in NESTED.values() for name in nested.parts}

#: Documented: the endpoint rejects ordering by these three.
UNORDERED = frozenset({"link_category_id", "link_category_label", "link_category_value"})


def order_sql(name: str) -> str:
    """Returns the `ORDER BY` expression of a field; a list is ordered by its first item, empty lists first."""
    if name in SCALARS:
        return SCALARS[name].order
    nested = next(nested for nested in NESTED.values() if name in nested.parts)
    value = f"json_extract({_fragment_sql(nested.column, 0)},'{nested.paths[name]}')"
    return _replace_tokens(value, "c.node_name") if nested.column == "transcriptions" else value


def row_sql(fields: Iterable[str], projection: Callable[[str, frozenset[str]], int]) -> str:
    """Returns the SQL expression that writes one call as a JSON object, its keys in the order of the tables.

    Args:
        fields: names of `response_fields`.
        projection: returns the number of the projection of a column's fragments to these keys.
    """
    names = set(fields)
    scalars = [scalar for name, scalar in SCALARS.items() if name in names]
    templates = [f'"{scalar.key}":{scalar.template}' for scalar in scalars]
    arguments = [argument for scalar in scalars for argument in scalar.arguments]
    categories: list[str] = []
    lists: list[str] = []
    # The category lists are first in the table, so arguments and templates have the same order.
    for nested in NESTED.values():
        keys = frozenset(key for name, key in nested.parts.items() if name in names)
        if keys:
            (categories if nested.category else lists).append(f'"{nested.column}":%s')
            complete = len(keys) == len(nested.parts)
            arguments.append(_list_sql(nested.column, 0 if complete else projection(nested.column, keys)))
    if categories:
        templates.append(f'"categories":{{{",".join(categories)}}}')
    return f"printf('{{{','.join(templates + lists)}}}',{','.join(arguments)})"


def _replace_tokens(value: str, node_name: str) -> str:
    return f"replace(replace({value},'{ID_TOKEN}',printf('AY%018x',c.id)),'{NODE_TOKEN}',{node_name})"


def _fragment_sql(column: str, projection: int) -> str:
    offset = f"+{projection << PROJECTION_BITS}" if projection else ""
    return f"(SELECT f.json FROM fragments f WHERE f.id=c.{column}{offset})"  # noqa: S608 - own names


def _list_sql(column: str, projection: int) -> str:
    fragment = _fragment_sql(column, projection)
    if column != "transcriptions":
        return fragment
    # The placeholder lies inside a JSON string, so the name is inserted without its quotes.
    name = "substr(json_quote(c.node_name),2,length(json_quote(c.node_name))-2)"
    return f"CASE c.transcriptions WHEN 0 THEN '[]' ELSE {_replace_tokens(fragment, name)} END"


def _parse_date(default_time: str) -> Callable[[Any], str]:
    return lambda value: format_timestamp(parse_timestamp(value, default_time))


def _parse_id(value: Any) -> int:
    number = int(value)
    if number.bit_length() > INTEGER_BITS:
        raise OverflowError(number)
    return number


def _parse_bool(value: Any) -> int:
    return ("FALSE", "TRUE").index(str(value).upper())


def _parse_text(value: Any) -> str:
    text = "" if value is None else str(value)
    # SQLite would reject a lone surrogate later, with another error.
    text.encode()
    return text


#: For each scalar name of a request or a response: its column, and the function that reads its value.
_PARSERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    **{name: (name, _parse_text) for name in SCALARS},
    "id": ("id", _parse_id),
    "call_start": ("call_start", _parse_date("00:00:00")),
    "call_end": ("call_end", _parse_date("23:59:59")),
    "has_recording": ("has_recording", _parse_bool),
    **{
        f"{column}{suffix}": (column, parse_duration)
        for column in ("call_time", "talk_time")
        for suffix in ("", "_sec", "_seconds")
    },
}


def parse_columns(values: Mapping[str, Any], fragments: FragmentPool) -> dict[str, Any]:
    """Returns the columns of a call's values, which have the form of a response.

    Raises:
        QueryError: a name is unknown, or a value is invalid.
    """
    categories = values.get("categories") or {}
    if not isinstance(categories, Mapping):
        raise QueryError("categories", "must be a mapping of its lists, as in a response")
    columns: dict[str, Any] = {}
    for name, value in {**values, **categories}.items():
        if name == "categories":
            continue
        if name not in NESTED and name not in _PARSERS:
            raise QueryError(name, "is not a field of a response")
        try:
            if name in NESTED:
                columns[name] = fragments.number(name, value)
            else:
                column, parse = _PARSERS[name]
                columns[column] = parse(value)
        except (TypeError, ValueError, OverflowError) as error:
            problem = f"must have the form of a response, got an invalid value ({type(error).__name__})"
            raise QueryError(name, problem) from error
    return columns


def add_call_end(call: Mapping[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Returns the changes of a call's columns with the end that follows from them, unless they set it.

    Raises:
        QueryError: the call would end after the year 9999.
    """
    changed = {**call, **changes}
    if "call_end" in changes or not {"call_start", "call_time", "talk_time"} & changes.keys():
        return changes
    call_time = changed["call_time"]
    if "call_time" not in changes:
        call_time = max(call_time, changed["talk_time"])
    try:
        end = format_timestamp(parse_timestamp(changed["call_start"]) + call_time)
    except OverflowError as error:
        raise QueryError("call_time", "must not end after the year 9999") from error
    return {**changes, "call_time": call_time, "call_end": end}
