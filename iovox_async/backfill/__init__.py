"""Writes the calls of a date range to a directory of files, one file per day or month.

Invariants:

- A run that is killed at any instant and started again ends with the calls of an undisturbed run.
- Finished partitions are not downloaded again (after `kill -9`, those finished in the last second are).
"""

from __future__ import annotations

from ._runner import Backfill
from .changes import read_changes
from .report import BackfillProgress, BackfillReport, Certificate, PartitionChanges

__all__ = [
    "Backfill",
    "BackfillProgress",
    "BackfillReport",
    "Certificate",
    "PartitionChanges",
    "read_changes",
]
