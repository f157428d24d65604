"""Compares the file of a partition with the one that replaces it: which calls were inserted, updated and deleted.

Large Parquet files are compared a time range at a time, so that memory is bounded. Of text files, a hash of each call is kept.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import IO, TYPE_CHECKING, Any, Final

from ._changes import ChangedIds, compare_tables, join_changes
from ._file_ids import decode_id, decompressed, unlimited_fields

if TYPE_CHECKING:
    from .report import PartitionChanges

#: Calls that are compared at a time.
_BLOCK_ROWS: Final = 100_000


def compare_files(
    partition: str, old: IO[bytes], new: IO[bytes] | None, format_name: str
) -> PartitionChanges:
    """The changes from one file of a partition to the next; None stands for no calls. Raises what the readers raise."""
    if format_name == "parquet":
        return join_changes(partition, list(_compare_parquet(old, new)))
    rows = _ROWS[format_name]
    before = dict(rows(old))
    changed = ChangedIds()
    for call_id, value in rows(new) if new is not None else ():
        previous = before.pop(call_id, None)
        if previous is None:
            changed.inserted.add(call_id)
        elif previous != value:
            changed.updated.add(call_id)
    changed.deleted.update(before)
    return join_changes(partition, [changed])


def _compare_parquet(old: IO[bytes], new: IO[bytes] | None) -> Iterator[ChangedIds]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    starts = [
        pq.read_table(file, columns=["call_start"])["call_start"] for file in (old, new) if file is not None
    ]
    kind = starts[0].type
    limits = [pc.min_max(column.cast(pa.timestamp("us")).cast(pa.int64())) for column in starts]
    first = min(limit["min"].as_py() for limit in limits)
    stop = max(limit["max"].as_py() for limit in limits) + 1
    blocks = -(-max(map(len, starts)) // _BLOCK_ROWS)
    edges = [first + (stop - first) * number // blocks for number in range(blocks + 1)]
    for begin, end in pairwise(edges):
        begin_scalar, end_scalar = (pa.scalar(edge, pa.int64()).cast(kind) for edge in (begin, end))
        within = (pc.field("call_start") >= begin_scalar) & (pc.field("call_start") < end_scalar)
        before, after = (None if file is None else pq.read_table(file, filters=within) for file in (old, new))
        assert before is not None
        after = before.slice(0, 0) if after is None else after
        changes = compare_tables(before, after)
        ids = after["id"].to_numpy()
        yield ChangedIds(
            set(ids[changes.inserted].tolist()),
            set(ids[changes.updated].tolist()),
            set(changes.deleted_ids.tolist()),
        )


def _json_lines(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    return ((decode_id(line).id, hash(line)) for line in file)


def _compressed_json_lines(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    with decompressed(file) as lines:
        yield from _json_lines(lines)


def _csv(file: Any) -> Iterator[tuple[int, int]]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    with unlimited_fields():
        rows = csv.reader(text)
        column = next(rows).index("id")
        for row in rows:
            yield int(row[column]), hash(tuple(row))
    text.detach()


_ROWS: Final[dict[str, Callable[[IO[bytes]], Iterator[tuple[int, int]]]]] = {
    "jsonl": _json_lines,
    "jsonl.zst": _compressed_json_lines,
    "csv": _csv,
}
