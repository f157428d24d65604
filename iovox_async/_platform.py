"""What differs between operating systems: locks, flushing to the disk, renaming, processes, signals, memory.

No other module asks which system this is. Tests replace `system`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: The value of `sys.platform`: "win32", "darwin", "linux" or another.
system: str = sys.platform

#: The signals that end a program besides SIGINT, as far as the system has them: SIGBREAK is Ctrl-Break on Windows.
SIGNALS: Final = ("SIGTERM", "SIGHUP", "SIGBREAK")
#: `M_ARENA_MAX` of glibc's malloc.h.
_ARENA_MAX: Final = -8
#: Seconds before each further try to replace a file that another program has open.
REPLACE_DELAYS: Final = (0.01, 0.05, 0.2, 0.5, 1.0)


def lock_file(file: Any) -> None:
    """Locks an open file, or raises BlockingIOError or PermissionError if it is locked. Closing it unlocks it."""
    if system == "win32":
        msvcrt: Any = importlib.import_module("msvcrt")
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl: Any = importlib.import_module("fcntl")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sync_file(descriptor: int) -> None:
    """Flushes a file to the disk."""
    if system == "darwin":
        fcntl: Any = importlib.import_module("fcntl")
        # On macOS, fsync leaves the bytes in the drive's cache.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Flushes the names in a directory to the disk."""
    if system == "win32":  # Windows cannot open directories, and writes names through
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def replace_file(old: Path, new: Path) -> None:
    """Renames a file; replaces an existing one. Blocks for up to two seconds while another program has it open on Windows."""
    for delay in REPLACE_DELAYS if system == "win32" else ():
        try:
            old.replace(new)
        except PermissionError:
            time.sleep(delay)
        else:
            return
    old.replace(new)


def is_running(pid: int) -> bool:
    """Whether a process of this machine is running; True where that cannot be known."""
    if system == "win32":  # os.kill(pid, 0) would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def add_signal_handler(loop: asyncio.AbstractEventLoop, number: int, callback: Callable[[], object]) -> None:
    """Calls a function in the event loop when a signal arrives.

    Raises:
        ValueError, RuntimeError: this is not the main thread, or the signal cannot be handled.
    """
    if system == "win32":  # its event loops have no signal handlers
        signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(callback))
    else:
        loop.add_signal_handler(number, callback)


def share_freed_memory() -> None:
    """Lets each thread use memory that others have freed. To be called before the first thread starts.

    The C library of Linux has a heap for each thread. A program whose threads free what others have made, as those that write
    files do, otherwise takes 4 % more CPU time to get memory from the system and give it back.
    """
    if system == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            importlib.import_module("ctypes").CDLL(None).mallopt(_ARENA_MAX, 1)


def peak_memory() -> int | None:
    """The largest resident set of this process, in bytes; None where it is not known."""
    # On Linux, ru_maxrss starts at that of the parent process, so /proc comes first.
    if system == "linux":
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
            return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    if system == "win32":
        return None
    resource: Any = importlib.import_module("resource")
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if system == "darwin" else peak * 1024
