"""Where each response field stands in an answer.

The law of this room: it is derived from the records, so the table that people read is the code that runs.
"""

from __future__ import annotations

from typing import Any, Final, get_args

import attrs

from iovox_async import Call, Field
from iovox_async.models import ALIASES, Categories, Model, item_type, types_of

__all__ = ["FieldLocation", "answered_under", "place_of"]

_CATEGORIES: Final = {
    f"{kind}_category": f"{kind}_categories" for kind in ("link", "call", "node", "contact")
}
#: The lists of a call, by the word in front of the fields that ask for them.
_LISTS: Final = {"comment": "comments", "transcription": "transcriptions", "tag": "tags", "task": "tasks"}


@attrs.frozen
class FieldLocation:
    """A field's place in an answer: the key of the call, the whole path, and the type in Python."""

    key: str
    path: str
    type: str


def place_of(field: Field) -> FieldLocation:
    """Where a field stands in an answer."""
    call = types_of(Call)
    for word, key in _CATEGORIES.items():
        if field.startswith(f"{word}_"):
            (item,) = get_args(types_of(Categories)[key])
            name, known = _member(field, word, item)
            return FieldLocation("categories", f"categories.{key}[].{name}", known)
    for word, key in _LISTS.items():
        if field.startswith(f"{word}_"):
            (item,) = get_args(call[key])
            name, known = _member(field, word, item)
            return FieldLocation(key, f"{key}[].{name}", known)
    key = ALIASES.get(field, str(field))
    return FieldLocation(key, key, _named(call[key]))


def answered_under(field: Field) -> str:
    """The key of a call in an answer that holds this field."""
    return place_of(field).key


def _member(field: Field, word: str, item: type[Model]) -> tuple[str, str]:
    known = types_of(item)
    # The id of a comment is answered as comment_id, its text as text. The id of a category has the kind left out.
    names = (field, field.removeprefix(f"{word}_"), f"{word.rpartition('_')[2]}_{field.rpartition('_')[2]}")
    name = next(name for name in names if name in known)
    return name, _named(known[name])


def _named(known: Any) -> str:
    item = item_type(known)
    if item:
        return f"list of {item.__name__}" if item is not Any else "list"
    plain = next(part for part in get_args(known) or (known,) if part is not type(None))
    return str(plain.__name__)
