"""Helpers of the backfill's tests: what a directory holds, and ways to fill and damage it."""

import json
from datetime import datetime

from iovox_async import InsightsQuery
from iovox_async.backfill._job import Job
from iovox_async.backfill._manifest import MANIFEST, Manifest, ManifestEntry
from iovox_async.backfill._partitions import partition_path

QUERY = InsightsQuery(start_date="2024-01-01", end_date="2024-01-10")
#: Long after the dates of these tests, so that all partitions are final.
LATER = datetime(2024, 6, 1)
#: A job, its start and its first partitions, for tests of a directory without an endpoint.
JOB = Job(account="a", fields=("id",), filters={}, format="jsonl", partition="day", timezone=None)
START = datetime(2024, 1, 1)
FIRST, SECOND, THIRD = "2024-01-01", "2024-01-02", "2024-01-03"


def ids_in(directory):
    """The ids in all JSON Lines files of a backfill directory, in the order in which readers see them."""
    files = sorted(directory.glob("*=*/*.jsonl"))
    return [json.loads(line)["id"] for file in files for line in file.read_text().splitlines()]


def change_line(path, number):
    """Changes a digit in one line of a file; its checksum becomes wrong."""
    lines = path.read_bytes().split(b"\n")
    lines[number] = lines[number].replace(b"2024", b"2042", 1)
    path.write_bytes(b"\n".join(lines))


def truncate(path):
    """Removes the second half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip_bit(path):
    """Flips one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def commit(directory, name, data=b"{}\n", *, final=True):
    """Writes the file of a partition and commits it; without data, commits a partition without calls."""
    day = datetime.fromisoformat(name)
    details = {}
    if data:
        with directory.storage.create(partition_path(name, ".jsonl")) as file:
            file.write(data)
            file.commit()
        details = {"rows": 1, "file": file.path, "bytes": file.size, "sha256": file.sha256}
    stop = day.replace(day=day.day + 1)
    directory.commit(ManifestEntry(partition=name, start=day, stop=stop, final=final, **details))


def final_partitions(storage):
    """The final partitions in the manifest on the disk."""
    manifest = Manifest.load(storage.read(MANIFEST), JOB, START)
    assert not manifest.damage
    return [name for name, entry in sorted(manifest.entries.items()) if entry.final]
