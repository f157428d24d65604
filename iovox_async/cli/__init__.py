"""The command line `iovox`: parses arguments, calls the package's public API, prints the results.

Invariants:

- Nothing else in the package imports it.
- Data goes to stdout and everything else to stderr.
- `EXIT_CODES` lists all exit codes.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from importlib.util import find_spec
from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNFINISHED: Final = 3
CREDENTIALS: Final = 4
LOCKED: Final = 5
INTERRUPTED: Final = 130

EXIT_CODES: Final = {
    DONE: "done",
    FAILED: "failed",
    USAGE: "usage error",
    UNFINISHED: "unfinished, and can be continued: the command that continues is printed",
    CREDENTIALS: "the credentials are missing or refused",
    LOCKED: "the directory is locked by another run",
    INTERRUPTED: "interrupted by Ctrl-C, SIGTERM or SIGHUP",
}

#: What our dependencies import if it is installed, and this process never uses: httpx's own command line with rich and
#: pygments, and other event loops, for httpcore and tenacity, which take 50 ms each; cloudpickle and pyarrow's own stores (those
#: of the extra `remote` are of fsspec), which take 10 ms together. socksio is imported for a SOCKS proxy, see `options.Account`.
_UNUSED_MODULES: Final = (
    *("httpx._main", "trio", "tornado", "cloudpickle", "socksio"),
    *("pyarrow._azurefs", "pyarrow._gcsfs", "pyarrow._hdfs", "pyarrow._s3fs"),
)
#: New objects that may form cycles, after which the garbage collector runs: more than are imported, which all stay.
_GC_THRESHOLD: Final = 300_000
#: The values for which the frame of `main` reserves space, each of 8 bytes.
_STACK_SIZE: Final = 16_384


def main() -> None:
    """Runs the command line and exits the process."""
    # Records have no cycles: collecting as often as by default takes 7 % of the time of a backfill.
    gc.set_threshold(_GC_THRESHOLD)
    status: list[int] = []
    atexit.register(_end_process, status)  # the first to be registered is the last to run
    # numpy starts a thread for each core when it is imported; nothing here multiplies matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if hasattr(sys, "setdlopenflags"):
        # Functions of libraries are looked up when they are called: of those of numpy and pyarrow, few are.
        sys.setdlopenflags(os.RTLD_LAZY)
    for name in _UNUSED_MODULES:
        # None makes its import fail.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # as the documentation of `sys.modules` says
    try:
        if not all(map(_is_installed, ("click", "rich", "rich_click"))):
            from iovox_async.errors import MissingExtraError

            print(MissingExtraError("the command iovox", "cli"), file=sys.stderr)
            sys.exit(FAILED)
        from .app import iovox
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    try:
        iovox(prog_name="iovox")
    except SystemExit as end:
        if isinstance(end.code, int):
            status.append(end.code)
        raise


# Python keeps the frames of calls in blocks of 16 KB. A call that does not fit into a block takes another one from the system
# and gives it back when it returns: thousands of times while modules import each other. The block of this frame holds them all.
main.__code__ = main.__code__.replace(co_stacksize=_STACK_SIZE)


def _is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return find_spec(package) is not None
    except ValueError:  # None in `sys.modules`
        return False


def _end_process(status: list[int]) -> None:
    """Ends a process that has nothing left to do but to take everything apart, which takes 2 % of the time of a backfill."""
    if status:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):  # the interpreter reports it
            return
        os._exit(status[0])
