"""Decides which page to request next, and which rows of the received pages to deliver.

Invariants:
- Plans do no I/O and read no clock; they are tested by simulation.
- A `WindowPlan` delivers every call that exists during the whole read exactly once.
"""

from __future__ import annotations

from typing import TypeAlias

from .pages import PagePlan
from .types import MAX_PAGE_ROWS, SECOND, PageRequest, PageResult, RowSlice, ServerPageLimit
from .windows import WindowPlan

__all__ = [
    "MAX_PAGE_ROWS",
    "SECOND",
    "PagePlan",
    "PageRequest",
    "PageResult",
    "Plan",
    "RowSlice",
    "ServerPageLimit",
    "WindowPlan",
]

Plan: TypeAlias = WindowPlan | PagePlan
