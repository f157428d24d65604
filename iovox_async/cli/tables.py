"""Aligns the columns of tables of text; on a terminal they fit its width."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Sequence

from .console import is_terminal


def _fit_cell(text: str, width: int) -> str:
    """The text padded or, on a terminal, cut to a width."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width or not is_terminal("stdout"):
        return text + " " * (width - cell_len(text))
    return set_cell_size(text, width - 1) + ("\u2026" if stdout_is_unicode() else "~")


def align_cells(row: Sequence[str], widths: Sequence[int], right: Collection[int] = ()) -> str:
    """A line of a table: as many cells as there are widths; those whose index is in `right` are aligned to the right."""
    cells = enumerate(zip(row, widths, strict=False))
    return "  ".join(
        cell.rjust(width) if index in right else _fit_cell(cell, width) for index, (cell, width) in cells
    ).rstrip()


def stdout_is_unicode() -> bool:
    """Whether stdout can encode every character."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


def terminal_width() -> int:
    """The columns of the terminal."""
    return shutil.get_terminal_size().columns


def fit_columns(rows: Sequence[Sequence[str]], *, narrowest: int = 6) -> list[int]:
    """The widths of as many columns as fit the terminal; elsewhere, of all. None is cut to less than `narrowest`."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    if not is_terminal("stdout"):
        return widths
    space = terminal_width()
    while len(widths) > 1 and _line_width([min(width, narrowest) for width in widths]) > space:
        widths.pop()
    while _line_width(widths) > space and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def _line_width(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)
