"""Aligns the columns of tables of text; on a terminal they fit its width."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from .console import escape_controls, is_terminal

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from iovox_async import Call

#: Times, ids and numbers are not wider than this; a table of calls cuts none of them.
_UNCUT: Final = 19


def _fit_cell(text: str, width: int) -> str:
    """The text padded or, on a terminal, cut to a width."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width or not is_terminal("stdout"):
        return text + " " * (width - cell_len(text))
    return set_cell_size(text, width - 1) + ("\u2026" if stdout_is_unicode() else "~")


def format_cell(text: str) -> str:
    """A text from the network as a cell: without control characters, in one line."""
    return escape_controls(text).replace("\n", " ")


def stdout_is_unicode() -> bool:
    """Whether stdout can encode every character."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


def fit_columns(rows: Sequence[Sequence[str]], *, narrowest: int = 6) -> list[int]:
    """The widths of as many columns as fit the terminal; elsewhere, of all. None is cut to less than `narrowest`."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    if not is_terminal("stdout"):
        return widths
    space = shutil.get_terminal_size().columns
    while len(widths) > 1 and _line_width([min(width, narrowest) for width in widths]) > space:
        widths.pop()
    while _line_width(widths) > space and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def _line_width(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def grid(rows: Iterable[Iterable[RenderableType]]) -> Table:
    """Columns for a terminal, whose last one is wrapped."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*row)
    return table


def format_table(rows: Iterable[Sequence[str]], widths: Sequence[int], right: Collection[int] = ()) -> str:
    """The lines of a table with as many columns as there are widths; those whose index is in `right` are aligned to the right."""
    lines = []
    for row in rows:
        cells = enumerate(zip(row, widths, strict=False))
        line = (cell.rjust(width) if n in right else _fit_cell(cell, width) for n, (cell, width) in cells)
        lines.append("  ".join(line).rstrip())
    return "\n".join(lines)


class TableEncoder:
    """Aligned columns for people. The first page decides their widths; on a terminal they fit its width.

    Attributes:
        columns: the columns that were requested.
        widths: the widths of those that fit; none before the first page.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        from iovox_async._parsing.compiled import requested_keys  # a slow import, seldom needed

        self.columns: Sequence[str] = requested_keys(fields)
        self.widths: list[int] = []

    def header(self) -> bytes:
        """Nothing: the first page decides the widths."""
        return b""

    def encode(self, calls: Sequence[Call]) -> bytes:
        """The bytes of these calls, after the titles if they are the first ones."""
        from iovox_async._encoding import csv_cell

        documents = (call.to_dict() for call in calls)
        rows = [[format_cell(csv_cell(row.get(column))) for column in self.columns] for row in documents]
        if not self.widths:
            rows.insert(0, [*self.columns])
            self.widths = fit_columns(rows, narrowest=_UNCUT)
        return f"{format_table(rows, self.widths)}\n".encode(sys.stdout.encoding or "utf-8", "replace")
