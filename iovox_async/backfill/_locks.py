"""One job a folder at a time.

The law of this room: a lock that its holder can no longer use is no lock. On this machine the system frees it with the
process, however that ends. Where there is no such system (an object store) the holder renews it, and one that was not renewed
is taken over: best effort, since such a store cannot compare and set.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from ..errors import BackfillError, BackfillLockedError

__all__ = ["FolderLock", "LeaseLock", "Lock"]

LOCK: Final = ".lock"


class Lock(Protocol):
    """A lock on a folder."""

    #: Seconds after which it must be renewed, or None where the system keeps it. A renewal sooner than half of that costs a
    #: look only, so it may stand before each write that counts.
    renew_every: float | None

    def take(self) -> None:
        """Takes it.

        Raises:
            BackfillLockedError: another process has it.
        """

    def renew(self) -> None:
        """Says that the holder is alive.

        Raises:
            BackfillLockedError: another process took it over.
        """

    def release(self) -> None:
        """Gives it back. Harmless when it was not taken."""


class _Holder(msgspec.Struct):
    host: str = ""
    pid: int = 0
    token: str = ""
    at: float = 0.0

    def told(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else "another process"


def _holder(data: bytes | None) -> _Holder:
    try:
        return msgspec.json.decode(data or b"{}", type=_Holder)
    except msgspec.DecodeError:
        return _Holder()


def _me(token: str = "") -> _Holder:
    return _Holder(socket.gethostname(), os.getpid(), token, time.time())


def _locked(where: object, holder: _Holder) -> BackfillLockedError:
    return BackfillLockedError(
        f"{holder.told()} is at work in {where}: wait until it ends, or choose another folder. "
        "A lock left by a process that was killed frees itself"
    )


class FolderLock:
    """A lock of the operating system on a file of the folder; it ends with the process."""

    renew_every: float | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Any = None

    def take(self) -> None:
        path = self._folder / LOCK
        try:
            file = path.open("a+b")
        except OSError as error:
            raise BackfillError(
                f"cannot write into {self._folder}: {error.strerror}. See who may, or choose another folder"
            ) from error
        try:
            _lock_file(file)
        except (BlockingIOError, PermissionError):
            holder = _Holder()
            with contextlib.suppress(OSError):  # where a lock forbids reading too
                file.seek(0)
                holder = _holder(file.read())
            file.close()
            raise _locked(self._folder, holder) from None
        except OSError as error:
            file.close()
            raise BackfillError(
                f"the file system of {self._folder} has no locks ({error.strerror}); choose a folder of another one"
            ) from error
        self._file = file
        with contextlib.suppress(OSError):  # a full disk: only the words of a message are lost
            file.seek(0)
            file.truncate()
            file.write(msgspec.json.encode(_me()))
            file.flush()

    def renew(self) -> None:
        """The system keeps it."""

    def release(self) -> None:
        # The file stays: removed, it could be locked by two that opened it at different times.
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.truncate(0)
            with contextlib.suppress(OSError):
                file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock_file(file: Any) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock_file(file: Any) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


#: The leases that this process holds: it may have left others in a store that failed.
_ours: Final[set[str]] = set()


class LeaseLock:
    """A lock as an object of a store, renewed by its holder.

    Args:
        fs: an fsspec file system.
        path: the object's path.
        lease: seconds without renewal after which it is free.
    """

    def __init__(self, fs: Any, path: str, *, lease: float = 600.0) -> None:
        self.renew_every: float | None = lease / 10
        self._fs = fs
        self._path = path
        self._lease = lease
        self._token = ""

    def take(self) -> None:
        holder = self._read()
        if holder is not None and not self._is_free(holder):
            raise _locked(self._path, holder)
        self._token = secrets.token_hex(16)
        _ours.add(self._token)
        try:
            self._write()
            # Of two that write at once, the last one is read back by both.
            self._held()
        except BaseException:
            self.release()
            raise

    def renew(self) -> None:
        held = self._held()
        if held is None:
            # Not to be made anew: who gave it back has changed what the lock is for.
            raise BackfillLockedError(
                f"{self._path} is gone: another process took it over and has ended; run the same job again"
            )
        if abs(time.time() - held.at) > self._lease / 20:
            self._write()

    def _held(self) -> _Holder | None:
        """The lock as it is there now.

        Raises:
            BackfillLockedError: it is another's.
        """
        held = self._read()
        if held is not None and held.token != self._token:
            raise _locked(self._path, held)
        return held

    def release(self) -> None:
        token, self._token = self._token, ""
        _ours.discard(token)
        if token:
            with contextlib.suppress(Exception):  # it frees itself when it is not renewed
                held = self._read()
                if held is not None and held.token == token:
                    self._fs.rm_file(self._path)

    def _read(self) -> _Holder | None:
        self._fs.invalidate_cache()
        try:
            return _holder(self._fs.cat_file(self._path))
        except FileNotFoundError:
            return None

    def _write(self) -> None:
        self._fs.pipe_file(self._path, msgspec.json.encode(_me(self._token)))

    def _is_free(self, holder: _Holder) -> bool:
        if abs(time.time() - holder.at) > self._lease:
            return True
        if holder.host != socket.gethostname():
            return False
        return holder.token not in _ours if holder.pid == os.getpid() else not _alive(holder.pid)


def _alive(pid: int) -> bool:
    if sys.platform == "win32":  # where to ask is to kill
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
