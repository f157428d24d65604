"""The formats of `iovox calls`, and the endings of file names that select them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import rich_click as click

from iovox_async._encoding import ENCODERS, csv_cell
from iovox_async._parsing.compiled import requested_keys

from .console import escape_controls
from .tables import align_cells, fit_columns

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
        form: the value of `--format`, which takes precedence over the ending.

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
            "give --format."
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
        return f"{align_cells(row, self._widths)}\n"


def _table_cell(value: Any) -> str:
    return escape_controls(csv_cell(value)).replace("\n", " ")
