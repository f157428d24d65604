"""`iovox fields`: lists the response fields. The table is generated from the models that decode responses."""

from __future__ import annotations

from typing import Any, Final, get_args

import rich_click as click
from rich.table import Table
from rich.text import Text

from iovox_async import Call, Field, Fields
from iovox_async.models import ALIASES, Categories, Model, item_type, types_of

from ..app import COMMANDS
from ..base import Command
from ..console import is_terminal, stdout_screen, with_examples

_COLUMNS: Final = ("Field", "Type", "Path in the response", "Preset")
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


@click.command(
    cls=Command,
    help=with_examples(
        f"""{COMMANDS["fields"]}

        On a terminal it prints a table, elsewhere lines of four columns separated by tabs.
        """,
        ("the names only", "iovox fields | cut -f1"),
    ),
)
def fields() -> None:
    """Runs `iovox fields`."""
    rows = [(field, *locate_field(field), _presets(field)) for field in Field]
    if not is_terminal("stdout"):
        for field, path, type_name, presets in rows:
            click.echo(f"{field}\t{type_name}\t{path}\t{presets}")
        return
    screen = stdout_screen()
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in _COLUMNS:
        # Names are copied, so they are not broken; everything else is folded rather than cut off.
        table.add_column(title, no_wrap=title == "Field", overflow="fold")
    for field, path, type_name, presets in rows:
        table.add_row(
            Text(field, "bold" if field in Fields.DEFAULT else ""),
            Text(type_name, "cyan"),
            Text(path, "" if path == field else "yellow"),
            Text(presets, "dim"),
        )
    screen.print(table)
    legend = "\nBold: requested by default. Yellow: has another name in responses. All of them: --fields all"
    screen.print(Text(legend, "dim"))


def _presets(field: Field) -> str:
    names = ("default", "call", "categories", "insights")
    return ", ".join(name for name in names if field in getattr(Fields, name.upper()))
