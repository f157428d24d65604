"""`iovox fields`: lists the response fields. The table is generated from the models that decode responses."""

from __future__ import annotations

import rich_click as click
from rich.table import Table
from rich.text import Text

from iovox_async import Field, Fields
from iovox_async._field_paths import locate_field
from iovox_async.fields import PRESETS

from ..base import command
from ..console import is_terminal, stdout_screen


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
    for title in ("Field", "Type", "Path in the response", "Preset"):
        # Names are copied, so they are not broken; everything else is folded rather than cut off.
        table.add_column(title, no_wrap=title == "Field", overflow="fold")
    for field, type_name, path, presets in rows:
        table.add_row(
            Text(field, "bold" if field in Fields.DEFAULT else ""),
            Text(type_name, "cyan"),
            Text(path, "" if path == field else "yellow"),
            Text(presets, "dim"),
        )
    screen.print(table)
    legend = "\nBold: requested by default. Yellow: has another name in responses. All of them: --fields all"
    screen.print(legend, style="dim")
