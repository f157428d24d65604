"""Counts calls and adds up their talk time by groups, from record batches. Memory depends on the number of groups only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from attrs import define, field, frozen

from ..errors import QueryError

#: More groups than this, each a few hundred bytes, are refused.
MAX_GROUPS: Final = 100_000
ANSWERED: Final = "ANSWERED"
_AGGREGATIONS: Final = [([], "count_all"), ("answered", "sum"), ("talk_time", "sum")]


@frozen
class Group:
    """What calls are grouped by.

    Attributes:
        name: its name in the result.
        path: the column, and the members that lead to the value: `("tags[]", "text")`. A call with several values of a list
            counts in each of their groups once.
        members: members of the last step whose values are joined: `("label", "value")`.
        time_format: for a part of a datetime, its format for strftime.
    """

    name: str
    path: tuple[str, ...]
    members: tuple[str, ...] = ()
    time_format: str = ""

    def values(self, batch: pa.RecordBatch) -> tuple[np.ndarray[Any, Any] | None, pa.Array]:
        """The values as text, and for a list the row of each value; rows without one have None."""
        column, rows = pa.array(np.zeros(0)), None
        for step in self.path:
            name = step.removesuffix("[]")
            column = batch.column(name) if step is self.path[0] else pc.struct_field(column, name)
            if step.endswith("[]"):
                rows, column = pc.list_parent_indices(column).to_numpy(), pc.list_flatten(column)
        if self.time_format:
            column = pc.strftime(column, format=self.time_format)
        elif self.members:
            parts = [pc.fill_null(pc.struct_field(column, member), "") for member in self.members]
            column = pc.binary_join_element_wise(*parts, ": ")
        column = column.cast(pa.string())
        if rows is None:
            return None, column
        pairs = pa.table({"row": rows, "value": column}).group_by(["row", "value"]).aggregate([])
        missing = np.setdiff1d(np.arange(batch.num_rows), rows)
        rows = np.concatenate([pairs["row"].to_numpy(), missing])
        column = pa.concat_arrays([*pairs["value"].chunks, pa.nulls(len(missing), pa.string())])
        order = np.argsort(rows, kind="stable")
        return rows[order], column.take(pa.array(order))


@define
class GroupTotals:
    """The figures of one group.

    Attributes:
        calls: number of calls.
        answered: how many of them were answered.
        talk_time: their talk time in seconds.
    """

    calls: int = 0
    answered: int = 0
    talk_time: int = 0

    def add(self, calls: int, answered: int | None, talk_time: int | None) -> None:
        """Adds calls."""
        self.calls += calls
        self.answered += answered or 0
        self.talk_time += talk_time or 0


@define
class Summary:
    """The figures of all groups so far.

    Attributes:
        groups: what calls are grouped by.
        totals: the figures by the values of the groups.
        all_calls: the figures of all calls; with lists, the groups may add up to more.
    """

    groups: Sequence[Group]
    totals: dict[tuple[str | None, ...], GroupTotals] = field(factory=dict)
    all_calls: GroupTotals = field(factory=GroupTotals)

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds the calls of a batch with the columns `talk_time`, `call_result` and those of the groups.

        Raises:
            QueryError: there are more than `MAX_GROUPS` groups.
        """
        answered = pc.fill_null(pc.equal(batch.column("call_result"), ANSWERED), False).cast(pa.int64())
        talk_time = batch.column("talk_time")
        self.all_calls.add(batch.num_rows, pc.sum(answered).as_py(), pc.sum(talk_time).as_py())
        rows = np.arange(batch.num_rows)
        keys: list[pa.Array] = []
        for group in self.groups:
            list_rows, values = group.values(batch)
            if list_rows is None:
                keys.append(values.take(pa.array(rows)))
                continue
            starts = np.searchsorted(list_rows, rows, "left")
            counts = np.searchsorted(list_rows, rows, "right") - starts
            offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            repeated = pa.array(np.repeat(np.arange(len(rows)), counts))
            keys = [key.take(repeated) for key in keys]
            keys.append(values.take(pa.array(np.repeat(starts, counts) + offsets)))
            rows = np.repeat(rows, counts)
        names = [str(number) for number in range(len(keys))]
        taken = pa.array(rows)
        table = pa.table(
            [*keys, answered.take(taken), talk_time.take(taken)], names=[*names, "answered", "talk_time"]
        )
        for row in table.group_by(names).aggregate(_AGGREGATIONS).to_pylist():
            key = tuple(row[name] for name in names)
            self.totals.setdefault(key, GroupTotals()).add(
                row["count_all"], row["answered_sum"], row["talk_time_sum"]
            )
        if len(self.totals) > MAX_GROUPS:
            raise QueryError(
                "by",
                f"has more than {MAX_GROUPS:,} groups",
                "Group by a field of fewer values, or read a shorter range.",
            )

    def rows(self) -> Iterator[tuple[tuple[str | None, ...], GroupTotals]]:
        """The values and figures of all groups."""
        yield from self.totals.items()
