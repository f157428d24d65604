"""Pages that are columns since they came.

The law of this room: such a page says of its rows just what a page of JSON says of them, and holds a third of the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from attrs import define, frozen

from .._parsing.splitter import RawPage
from ._arrays import wholes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KEYS", "ColumnPage", "Picked"]

#: What rows are ordered by, beside the columns that are handed out: the second on the wall, and the id.
KEYS: Final = ("\0second", "\0id")


@frozen
class Picked:
    """Some rows of a page, with the keys, and how many of them hold a value of unusual form."""

    rows: pa.RecordBatch
    coerced: int


@define
class ColumnPage(RawPage):
    """A page without JSON.

    Attributes:
        columns: its rows, with the keys.
        bent: places of rows with a value of unusual form.
    """

    columns: pa.RecordBatch
    coerced: frozenset[int]

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        rows: int = self.columns.num_rows
        return rows

    def ids(self) -> list[int | str | None]:
        """The id of each row."""
        ids: list[int | str | None] = self.columns.column(KEYS[1]).to_pylist()
        return ids

    def picked(self, rows: Sequence[int]) -> Picked:
        """These rows, in ascending places."""
        if isinstance(rows, range):
            columns = self.columns.slice(rows.start, len(rows))
        else:
            columns = self.columns.take(wholes(rows))
        return Picked(columns, len(self.coerced.intersection(rows)))
