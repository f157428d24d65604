"""Which request next. Everything that decides whether another page is asked lives in this room.

The law of this room: plans are value machines, with no I/O and no clock. `windows` reads a range second by second
and exactly once; `second` reads the one second that is fuller than a page; `pages` reads by page numbers, as the
endpoint offers it; `values` are the words they share.
"""

from __future__ import annotations

from .pages import PagePlan
from .types import LARGEST, SECOND, PageRequest, PageResult, Plan, RowSlice, ServerPageLimit
from .windows import WindowPlan

__all__ = [
    "LARGEST",
    "SECOND",
    "Answer",
    "PagePlan",
    "PageRequest",
    "PageResult",
    "Plan",
    "RowSlice",
    "ServerPageLimit",
    "WindowPlan",
]
