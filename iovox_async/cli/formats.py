"""The formats of `iovox calls`, and the endings of file names that select them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import rich_click as click

from iovox_async._encoding import ENCODERS, csv_cell
from iovox_async._parsing.compiled import requested_keys

from .console import escape_controls, is_terminal

if TYPE_CHECKING:
    from iovox_async import Call

FORMATS: Final = (*ENCODERS, "parquet", "arrow", "table")
_COMPRESSIONS: Final = (".gz", ".zst")
_ENDINGS: Final = ("parquet", "arrow", "csv", "tsv", "jsonl")
#: Times, ids and numbers are not wider than this; a table of calls cuts none of them.
_UNCUT: Final = 19


def format_of_name(path: str | None, form: str | None = None) -> tuple[str | None, str]:
    """The format that the ending of a file name selects, and its compression: `("csv", ".gz")`.

    Args:
        path: the name.
        form: the value of `--format`, which goes before the ending.

    Raises:
        click.UsageError: the ending selects no format, and there is no `--format`.
    """
    name = PurePath(path or "").name.lower()
    compression = next((ending for ending in _COMPRESSIONS if name.endswith(ending)), "")
    stem, dot, ending = name.removesuffix(compression).rpartition(".")
    if ending in _ENDINGS and dot:
        return form or ending, compression
    if form is None and ((dot and stem) or compression):
        raise click.UsageError(
            f"-o {path}: the ending of FILE must be {', '.join(f'.{name}' for name in _ENDINGS)}, each also with .gz or .zst, or "
            "give --format.",
            click.get_current_context(silent=True),
        )
    return form, compression


class TableEncoder:
    """Aligned columns for people. The first page decides their widths; on a terminal they fit its width."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._columns = requested_keys(fields)
        self._widths: list[int] = []

    @property
    def shown(self) -> int:
        """The number of columns that fit the terminal."""
        return len(self._widths or self._columns)

    @property
    def columns(self) -> int:
        """The number of columns that were requested."""
        return len(self._columns)

    def header(self) -> bytes:
        """Nothing: the first page decides the widths."""
        return b""

    def encode(self, calls: Sequence[Call]) -> bytes:
        """The bytes of these calls, after the titles if they are the first ones."""
        rows = [
            [_table_cell(row.get(column)) for column in self._columns]
            for row in (call.to_dict() for call in calls)
        ]
        if not self._widths:
            rows.insert(0, [*self._columns])
            self._widths = fit_columns(rows, narrowest=_UNCUT)
        return "".join(map(self._line, rows)).encode(sys.stdout.encoding or "utf-8", "replace")

    def _line(self, row: Sequence[str]) -> str:
        return (
            "  ".join(fit_cell(cell, width) for cell, width in zip(row, self._widths, strict=False)).rstrip()
            + "\n"
        )


def _table_cell(value: Any) -> str:
    return escape_controls(csv_cell(value)).replace("\n", " ")


def fit_cell(text: str, width: int) -> str:
    """The text padded or, on a terminal, cut to a width."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width or not is_terminal("stdout"):
        return text + " " * (width - cell_len(text))
    return set_cell_size(text, width - 1) + (
        "\u2026" if (sys.stdout.encoding or "").lower().startswith("utf") else "~"
    )


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
