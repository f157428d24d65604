"""The command line `iovox`: parses arguments, calls the package's public API, prints the results.

Invariants:

- Nothing else in the package imports it.
- Data goes to stdout and everything else to stderr.
- Exit codes: 0 done, 1 failed, 2 usage error, 3 unfinished but resumable, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["DONE", "FAILED", "INTERRUPTED", "UNFINISHED", "main"]

DONE: Final = 0
FAILED: Final = 1
UNFINISHED: Final = 3
INTERRUPTED: Final = 130


def main() -> None:
    """Runs the command line and exits the process."""
    try:
        from .app import iovox
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in {"click", "rich", "rich_click"}:
            raise
        from iovox_async.errors import MissingExtraError

        print(MissingExtraError("the command iovox", "cli"), file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    iovox(prog_name="iovox")
