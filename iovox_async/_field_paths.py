"""Where a response has the value of a field, and of which type it is; from the models that decode responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from .models import ALIASES, Call, Categories, Model, item_type, types_of

if TYPE_CHECKING:
    from .fields import Field

_CATEGORIES: Final = {
    f"{kind}_category": f"{kind}_categories" for kind in ("link", "call", "node", "contact")
}
#: The lists of a call, by the prefix of the fields that request them.
_LISTS: Final = {"comment": "comments", "transcription": "transcriptions", "tag": "tags", "task": "tasks"}


def locate_field(field: Field) -> tuple[str, str]:
    """The path of a field in a response, and its type in Python."""
    call_types = types_of(Call)
    for prefix, key in _CATEGORIES.items():
        if field.startswith(f"{prefix}_"):
            item = item_type(types_of(Categories)[key])
            return _locate_member(field, prefix, item, f"categories.{key}[]")
    for prefix, key in _LISTS.items():
        if field.startswith(f"{prefix}_"):
            item = item_type(call_types[key])
            return _locate_member(field, prefix, item, f"{key}[]")
    key = ALIASES.get(field, str(field))
    return key, _type_name(call_types[key])


def _locate_member(field: Field, prefix: str, item: type[Model], path: str) -> tuple[str, str]:
    types = types_of(item)
    # A comment's id is returned as comment_id, its text as text, and a category's id without the kind of category.
    names = (
        field,
        field.removeprefix(f"{prefix}_"),
        f"{prefix.rpartition('_')[2]}_{field.rpartition('_')[2]}",
    )
    name = next(name for name in names if name in types)
    return f"{path}.{name}", _type_name(types[name])


def _type_name(annotation: Any) -> str:
    if item := item_type(annotation):
        return f"list of {item.__name__}" if item is not Any else "list"
    member = next(part for part in get_args(annotation) or (annotation,) if part is not type(None))
    return str(member.__name__)
