"""How much memory this process ever held.

The law of this room: a figure that cannot be known is None, not a guess.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

__all__ = ["peak_memory"]


def peak_memory() -> int | None:
    """Bytes of the most physical memory that this process held at a time."""
    # Linux' ru_maxrss begins with that of the process that started this one, so its own file comes first.
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
