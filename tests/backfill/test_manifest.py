"""Partitions of a range, and the manifest: no damage is overlooked."""

import itertools
import random
from datetime import datetime

import msgspec
import pytest
from support.backfill import JOB, LATER

from iovox_async import IovoxError
from iovox_async.backfill._manifest import Manifest, ManifestEntry
from iovox_async.backfill._partitions import (
    PartitionRange,
    adjacent_groups,
    partitions_in,
    partitions_to_read,
)

DAYS = [datetime(2024, 1, day) for day in range(1, 9)]


def entries_of(start, stop):
    return {
        part.name: ManifestEntry(partition=part.name, start=part.start, stop=part.stop, final=True)
        for part in partitions_in(start, stop, "day")
    }


@pytest.mark.parametrize(
    ("start", "stop", "partitioning", "names"),
    [
        ("2024-01-31", "2024-02-02", "day", ["2024-01-31", "2024-02-01"]),
        ("2024-01-31 23:59:59", "2024-02-01", "day", ["2024-01-31"]),
        ("2024-02-29", "2024-03-01 00:00:01", "month", ["2024-02", "2024-03"]),
        ("2023-12-31 23:59:59", "2024-01-01", "month", ["2023-12"]),
        ("2024-01-01", "2024-01-01", "day", []),
        ("2024-01-05 18:00", "2024-01-05 12:00", "day", []),
        ("0999-12-01", "1000-02-01", "month", ["0999-12", "1000-01"]),
    ],
)
def test_partitions_cover_the_range_without_gaps(start, stop, partitioning, names):
    """Given a range, each of its seconds belongs to exactly one of the partitions."""
    partitions = list(
        partitions_in(datetime.fromisoformat(start), datetime.fromisoformat(stop), partitioning)
    )
    assert [part.name for part in partitions] == names
    assert all(part.stop == following.start for part, following in itertools.pairwise(partitions))


def test_adjacent_partitions_are_read_as_one_group():
    """Given finished days in the middle of a range, the days before and after them form one group each."""
    entries = entries_of(DAYS[2], DAYS[4])
    ranges = partitions_to_read(DAYS[0], DAYS[7], "day", entries)
    assert [[part.name[-2:] for part in group] for group in adjacent_groups(ranges)] == [
        ["01", "02"],
        ["05", "06", "07"],
    ]


def test_damaged_partitions_are_read_outside_of_the_range_too():
    """Given an empty range and a damaged partition, the partition is to be read."""
    ranges = partitions_to_read(DAYS[0], DAYS[0], "day", entries_of(DAYS[2], DAYS[4]), ["2024-01-04"])
    assert ranges == [PartitionRange("2024-01-04", DAYS[3], DAYS[4])]


def test_a_truncated_manifest_is_damaged_at_every_length():
    """Given any prefix of a manifest, it is damaged, and the entries that remain are among those written."""
    manifest = Manifest(JOB, LATER, entries_of(DAYS[0], DAYS[4]))
    data = manifest.dump()
    for length in range(len(data)):
        loaded = Manifest.load(data[:length], JOB, LATER)
        assert loaded.damage, f"{length} bytes"
        assert loaded.entries.items() <= manifest.entries.items()
    complete = Manifest.load(data, JOB, LATER)
    assert (complete.damage, complete.entries) == ([], manifest.entries)


@pytest.mark.parametrize("removed", [1, 2, 4], ids=["first", "second", "last"])
def test_a_manifest_without_one_of_its_lines_is_damaged(removed):
    """Given a manifest that lacks an intact line, the number of partitions in the last line shows it."""
    lines = Manifest(JOB, LATER, entries_of(DAYS[0], DAYS[4])).dump().split(b"\n")
    del lines[removed]
    assert Manifest.load(b"\n".join(lines), JOB, LATER).damage == ["the end"]


def test_lines_of_another_job_are_not_used():
    """Given a damaged first line and the partitions of another job, none of them is used."""
    other = msgspec.structs.replace(JOB, account="b")
    data = Manifest(other, LATER, entries_of(DAYS[0], DAYS[4])).dump()
    loaded = Manifest.load(data.replace(b"2024-06", b"2042-06", 1), JOB, LATER)
    assert loaded.entries == {}
    assert loaded.damage[0] == "line 1"


def test_a_flipped_bit_is_damage_or_an_error_of_the_package():
    """Given one flipped bit anywhere in a manifest, loading it reports damage or raises an IovoxError."""
    rng = random.Random(1)
    original = Manifest(JOB, LATER, entries_of(DAYS[0], DAYS[1])).dump()
    for _ in range(300):
        data = bytearray(original)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            loaded = Manifest.load(bytes(data), JOB, LATER)
        except IovoxError:
            continue
        assert loaded.damage
