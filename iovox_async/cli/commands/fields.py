"""`iovox fields`: what may be asked for, and where it is found in the answer.

The law of this room: the table is made from the code that asks and reads.
"""

from __future__ import annotations

import rich_click as click
from rich.table import Table
from rich.text import Text

from iovox_async import Field, Fields

from ..console import at_terminal, out
from ..field_places import place_of
from ..help_text import with_examples

__all__ = ["fields"]

_HEAD = ("Field", "Type", "In the answer", "Preset")


@click.command(
    help=with_examples(
        """
        The 56 response fields: name, type, where each stands in the answer, and its preset.

        At a terminal a table, elsewhere lines of four columns between tabs.
        """,
        ("the names alone", "iovox fields | cut -f1"),
    ),
)
def fields() -> None:
    """Shows the table."""
    rows = [(field, place, _presets(field)) for field in Field for place in [place_of(field)]]
    if not at_terminal("stdout"):
        for field, place, presets in rows:
            click.echo(f"{field}\t{place.type}\t{place.path}\t{presets}")
        return
    screen = out()
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in _HEAD:
        # A name or a path that is cut short could not be copied. The field's name is copied most, so it stays whole.
        table.add_column(title, no_wrap=title == "Field", overflow="fold")
    for field, place, presets in rows:
        table.add_row(
            Text(field, "bold" if field in Fields.DEFAULT else ""),
            Text(place.type, "cyan"),
            Text(place.path, "" if place.path == field else "yellow"),
            Text(presets, "dim"),
        )
    screen.print(table)
    screen.print(
        Text(
            "\nBold: asked for by default. Yellow: answered under another name. All of them: --fields all",
            "dim",
        )
    )


def _presets(field: Field) -> str:
    names = ("default", "call", "categories", "insights")
    return ", ".join(name for name in names if field in getattr(Fields, name.upper()))
