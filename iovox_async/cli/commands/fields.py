"""`iovox fields`: lists the response fields. The table is generated from the models that decode responses."""

from __future__ import annotations

from typing import Final

import click
from rich.table import Table
from rich.text import Text

from iovox_async import Field, Fields
from iovox_async._field_paths import locate_field
from iovox_async.fields import PRESETS

from ..base import command
from ..console import is_terminal, stdout_screen

#: Narrower terminals show the names and paths only.
_WIDTH_OF_ALL: Final = 72


@command(("the names only", "iovox fields | cut -f1"))
def fields() -> None:
    """Runs `iovox fields`.

    On a terminal it prints a table, elsewhere lines of four columns separated by tabs.
    """
    rows = []
    for field in Field:
        path, type_name = locate_field(field)
        presets = ", ".join(name for name, members in PRESETS.items() if field in members and name != "all")
        rows.append((field, type_name, path, presets))
    if not is_terminal("stdout"):
        click.echo("\n".join(map("\t".join, rows)))
        return
    screen = stdout_screen()
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    is_wide = screen.width >= _WIDTH_OF_ALL
    # Names are copied, so they are not broken; everything else is folded rather than cut off.
    table.add_column("Field", no_wrap=True)
    if is_wide:
        table.add_column("Type", max_width=len("KeywordRule"), overflow="fold")
    table.add_column("Path in the response", overflow="fold")
    if is_wide:
        table.add_column("Preset", no_wrap=True)
    for field, type_name, path, presets in rows:
        name = Text(field, "bold" if field in Fields.DEFAULT else "")
        shown_path = Text(path, "" if path == field else "yellow")
        cells = (name, Text(type_name, "cyan"), shown_path, Text(presets, "dim"))
        table.add_row(*(cells if is_wide else (name, shown_path)))
    screen.print(table)
    legend = "\nBold: requested by default. Yellow: has another name in responses. All of them: --fields all"
    screen.print(legend, style="dim")
