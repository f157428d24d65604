"""Compares two versions of a partition's calls: which were inserted, updated and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from .report import PartitionChanges

if TYPE_CHECKING:
    import pyarrow as pa


@frozen
class TableChanges:
    """How a table of calls differs from an earlier one.

    Attributes:
        inserted: the rows of the new table whose ids are new.
        updated: the rows of the new table that hold other values than before.
        deleted_ids: ids that the new table lacks.
    """

    inserted: Any
    updated: Any
    deleted_ids: Any


def compare_tables(old: pa.Table, new: pa.Table) -> TableChanges:
    """Compares tables by the ids of their calls, in the columns that both have. Each id occurs at most once in a table."""
    import numpy as np

    old_ids, new_ids = old["id"].to_numpy(), new["id"].to_numpy()
    _, old_rows, new_rows = np.intersect1d(old_ids, new_ids, assume_unique=True, return_indices=True)
    names = [name for name in new.schema.names if name in old.schema.names]
    before = old.select(names).take(old_rows).cast(new.select(names).schema)
    after = new.select(names).take(new_rows)
    return TableChanges(
        inserted=np.setdiff1d(np.arange(len(new_ids)), new_rows, assume_unique=True),
        updated=np.sort(new_rows[_differing_rows(before, after)]),
        deleted_ids=np.sort(np.delete(old_ids, old_rows)),
    )


def _differing_rows(before: pa.Table, after: pa.Table) -> list[int]:
    """The rows in which two tables of the same schema and length differ, found by bisection."""
    before, after = before.combine_chunks(), after.combine_chunks()
    differing: list[int] = []
    ranges = [(0, before.num_rows)] if before.num_rows else []
    while ranges:
        start, stop = ranges.pop()
        if before.slice(start, stop - start).equals(after.slice(start, stop - start)):
            continue
        if stop - start == 1:
            differing.append(start)
        else:
            middle = (start + stop) // 2
            ranges += [(start, middle), (middle, stop)]
    return differing


@define
class ChangedIds:
    """The ids of calls that were inserted, updated and deleted."""

    inserted: set[int] = field(factory=set)
    updated: set[int] = field(factory=set)
    deleted: set[int] = field(factory=set)


def join_changes(partition: str, parts: list[ChangedIds]) -> PartitionChanges:
    """The changes of a partition that was compared in parts. A call that moved between parts counts as updated."""
    changed = ChangedIds()
    for part in parts:
        changed.inserted |= part.inserted
        changed.updated |= part.updated
        changed.deleted |= part.deleted
    moved = changed.inserted & changed.deleted
    return PartitionChanges(
        partition=partition,
        inserted=len(changed.inserted - moved),
        updated=len(changed.updated | moved),
        deleted_ids=tuple(sorted(changed.deleted - moved)),
    )
