"""What each response field is, in the store and in an answer.

The law of this room: a field is one line of a table here. Its line says under which name it is asked, under which
key it is answered, how SQL writes it as JSON and how SQL orders by it; the rest of the sandbox only reads the table.

The quirks of the endpoint live in the table: `talk_time_seconds` is answered as `talk_time_sec`, the ids of nodes and
links are strings and a call's id is a number, `has_recording` is "TRUE" or "FALSE", nested fields are asked one by one
and answered as lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

#: An answer to a query without `response_fields` holds these. `talk_time_seconds` is not in the documented
#: list of defaults, but in the documented sample of them.
DEFAULT = (
    "id", "call_start", "call_end", "call_origin", "iovox_number", "call_destination", "talk_time",
    "talk_time_seconds", "call_result", "node_id", "link_id", "has_recording",
)  # fmt: skip

#: Stands in a stored transcription for its id and for the name of the call's node; SQL fills them in.
ID_TOKEN, NODE_TOKEN = "@@id@@", "@@node@@"

#: An id of a call fits into these, besides its sign.
INTEGER_BITS = 63

#: Ids of fragments of view `v` begin at `v << VIEW_BITS`; view 0 is the fragments as they were stored.
VIEW_BITS = 32


@attrs.frozen
class Scalar:
    """A field of the call itself."""

    #: The name it is asked by.
    name: str
    #: The key it is answered under.
    key: str
    #: A printf form and the SQL arguments that fill it with JSON.
    form: str
    args: tuple[str, ...]
    #: What `ORDER BY` takes.
    order: str


@attrs.frozen
class Nested:
    """A list inside a call, made of several asked fields."""

    #: Column of the store, and key of the answer.
    column: str
    #: The asked names, each with its key in an item; an empty key means the items whole.
    parts: dict[str, str]
    #: What `ORDER BY` takes for a part, as a JSON path into the list.
    paths: dict[str, str]
    #: Whether the list stands under `categories`.
    category: bool = False


def _text(name: str) -> Scalar:
    return Scalar(name, name, "%s", (f"json_quote(c.{name})",), f"c.{name}")


def _plain(name: str) -> Scalar:
    # Written by the store alone, so it needs no escapes.
    return Scalar(name, name, '"%s"', (f"c.{name}",), f"c.{name}")


def _clock(name: str) -> Scalar:
    column = f"c.{name}"
    return Scalar(
        name, name, '"%02d:%02d:%02d"', (f"{column}/3600", f"{column}/60%60", f"{column}%60"), column
    )


def _seconds(name: str, column: str) -> Scalar:
    return Scalar(name, column + "_sec", "%d", (f"c.{column}",), f"c.{column}")


SCALARS = {
    field.name: field
    for field in (
        Scalar("id", "id", "%d", ("c.id",), "c.id"),
        _plain("call_start"),
        _plain("call_end"),
        _text("call_origin"),
        _text("call_origin_location"),
        _text("iovox_number"),
        _text("call_destination"),
        _clock("call_time"),
        _seconds("call_time_seconds", "call_time"),
        _clock("talk_time"),
        _seconds("talk_time_seconds", "talk_time"),
        _text("call_type"),
        _text("call_result"),
        _text("rule_result"),
        _text("node_id"),
        _text("node_name"),
        _text("node_type"),
        _text("link_id"),
        _text("link_name"),
        _text("link_type"),
        Scalar(
            "has_recording",
            "has_recording",
            '"%s"',
            ("iif(c.has_recording,'TRUE','FALSE')",),
            "c.has_recording",
        ),
        _text("email_alert"),
        _text("direction"),
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
        _category("link"),
        _category("call"),
        _category("node"),
        _category("contact"),
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
            # Phrases have no order of their own; their text has.
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

#: Every asked name of the endpoint's table.
NAMES = frozenset(SCALARS) | {name for nested in NESTED.values() for name in nested.parts}

#: Documented: ordering by these three is refused.
UNORDERED = frozenset({"link_category_id", "link_category_label", "link_category_value"})


def order_sql(name: str) -> str:
    """What `ORDER BY` takes for a field; a list is ordered by its first item, an empty one comes first."""
    if name in SCALARS:
        return SCALARS[name].order
    nested = next(nested for nested in NESTED.values() if name in nested.parts)
    path = nested.paths[name]
    value = f"json_extract({_fragment(nested.column, 0)},'{path}')"
    return _filled(value, "c.node_name") if nested.column == "transcriptions" else value


def row_sql(asked: Iterable[str], view: Callable[[str, frozenset[str]], int]) -> str:
    """The SQL expression that writes one call as a JSON object, its keys in the order of the endpoint's table.

    Args:
        asked: names of fields.
        view: gives the number of the view that holds a column's fragments with these keys only.
    """
    wanted = set(asked)
    scalars = [scalar for name, scalar in SCALARS.items() if name in wanted]
    forms = [f'"{scalar.key}":{scalar.form}' for scalar in scalars]
    args = [arg for scalar in scalars for arg in scalar.args]
    categories: list[str] = []
    lists: list[str] = []
    # The lists of the categories come first in the table, so the arguments stay in the order of the forms.
    for nested in NESTED.values():
        keys = frozenset(key for name, key in nested.parts.items() if name in wanted)
        if keys:
            (categories if nested.category else lists).append(f'"{nested.column}":%s')
            whole = len(keys) == len(nested.parts)
            args.append(_list_sql(nested.column, 0 if whole else view(nested.column, keys)))
    if categories:
        forms.append(f'"categories":{{{",".join(categories)}}}')
    return f"printf('{{{','.join(forms + lists)}}}',{','.join(args)})"


def _filled(value: str, node_name: str) -> str:
    """A transcription, or a part of one, with the id and the name that the template leaves open."""
    return f"replace(replace({value},'{ID_TOKEN}',printf('AY%018x',c.id)),'{NODE_TOKEN}',{node_name})"


def _fragment(column: str, view: int) -> str:
    shift = f"+{view << VIEW_BITS}" if view else ""
    return f"(SELECT f.json FROM fragments f WHERE f.id=c.{column}{shift})"  # noqa: S608 - own names


def _list_sql(column: str, view: int) -> str:
    fragment = _fragment(column, view)
    if column != "transcriptions":
        return fragment
    # Inside a JSON string already, so the name goes in without its quotes.
    name = "substr(json_quote(c.node_name),2,length(json_quote(c.node_name))-2)"
    return f"CASE c.transcriptions WHEN 0 THEN '[]' ELSE {_filled(fragment, name)} END"
