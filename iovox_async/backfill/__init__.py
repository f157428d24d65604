"""Backfill: years of calls into files, through any crash.

The law of this package: a run that is killed at any moment and run again ends with exactly the calls of an undisturbed one, and
reads nothing twice that it named as finished.
"""

from __future__ import annotations

from ._runner import Backfill
from .report import BackfillProgress, BackfillReport

__all__ = ["Backfill", "BackfillProgress", "BackfillReport"]
