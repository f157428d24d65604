"""Reads the ids in a file of any format, and returns their checksum.

Files are read in blocks, and only the ids are decoded where the format allows it.
"""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ._chunks import ArrowChunk, IdChecksum
from ._storage import storage_errors

if TYPE_CHECKING:
    from ._storage import Storage


class _Id(msgspec.Struct):
    id: int


#: Ids that are added up at a time.
_BLOCK: Final = 10_000
decode_id: Final = msgspec.json.Decoder(_Id).decode


def ids_in_file(storage: Storage, path: str, format_name: str) -> IdChecksum:
    """The checksum of the ids in a file.

    Raises:
        BackfillError: the file cannot be read.
    """
    # Readers raise exceptions of many kinds for a file that is damaged.
    with storage_errors(f"read {path}", Exception), storage.open(path) as file:
        return sum(_READERS[format_name](file), IdChecksum())


def _parquet(file: Any) -> Iterator[IdChecksum]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(file).iter_batches(columns=["id"]):
        yield ArrowChunk(batch).ids()


def _json_lines(file: Iterable[bytes]) -> Iterator[IdChecksum]:
    return _checksums(decode_id(line).id for line in file)


def _compressed_json_lines(file: Any) -> Iterator[IdChecksum]:
    with decompressed(file) as lines:
        yield from _json_lines(lines)


@contextlib.contextmanager
def decompressed(file: Any) -> Iterator[Any]:
    """The contents of a file that is compressed with zstd, as a file."""
    import pyarrow as pa

    with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as stream:
        yield io.BufferedReader(stream)


def _csv(file: Any) -> Iterator[IdChecksum]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    with unlimited_fields():
        yield from _checksums(int(row["id"]) for row in csv.DictReader(text))
    text.detach()


@contextlib.contextmanager
def unlimited_fields() -> Iterator[None]:
    """Lets the module csv read long fields: a transcript may be longer than its default allows."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _checksums(ids: Iterable[int]) -> Iterator[IdChecksum]:
    remaining = iter(ids)
    while block := list(islice(remaining, _BLOCK)):
        yield IdChecksum.of(block)


_READERS: Final[dict[str, Callable[[Any], Iterator[IdChecksum]]]] = {
    "parquet": _parquet,
    "jsonl": _json_lines,
    "jsonl.zst": _compressed_json_lines,
    "csv": _csv,
}
