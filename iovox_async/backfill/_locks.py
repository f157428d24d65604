"""Locks a backfill directory, so that one process at a time writes to it.

On this machine the operating system frees a lock with its process, however that ends. In an object store the holder
renews a lease, and an expired lease is taken over. That is best effort: such a store has no compare-and-set.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from .._platform import is_running, lock_file
from .._redaction import hide_userinfo
from ..errors import BackfillError, BackfillLockedError
from ._storage import STATE_FOLDER, storage_errors

__all__ = ["LOCK_FILE", "DirectoryLock", "LeaseLock", "Lock"]

LOCK_FILE: Final = f"{STATE_FOLDER}/lock"


class _Holder(msgspec.Struct):
    host: str = ""
    pid: int = 0
    token: str = ""
    renewed_at: float = 0.0

    @classmethod
    def current(cls, token: str = "") -> _Holder:
        return cls(socket.gethostname(), os.getpid(), token, time.time())

    @classmethod
    def decode(cls, data: bytes) -> _Holder:
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError:
            return cls()


def _locked_error(location: object, holder: _Holder) -> BackfillLockedError:
    process = f"process {holder.pid} on {holder.host}" if holder.pid else "another process"
    return BackfillLockedError(
        f"{location} is locked by {process}",
        hint="Wait until that backfill ends, or choose another directory. The lock of a killed process expires by itself.",
    )


class DirectoryLock:
    """A lock of the operating system on a file in the directory. `LeaseLock` has the same methods."""

    #: Seconds after which the holder must renew the lock; None if it need not.
    renew_interval: float | None = None

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: Any = None

    def acquire(self) -> None:
        """Acquires the lock without waiting.

        Raises:
            BackfillLockedError: another process holds it.
        """
        try:
            file = (self._directory / LOCK_FILE).open("a+b")
        except OSError as error:
            raise BackfillError(
                f"cannot write to {self._directory}: {error.strerror}",
                hint="Check the permissions, or choose another directory.",
            ) from error
        try:
            lock_file(file)
        except (BlockingIOError, PermissionError):
            holder = _Holder()
            with contextlib.suppress(OSError):  # Windows forbids reading a locked file
                file.seek(0)
                holder = _Holder.decode(file.read())
            file.close()
            raise _locked_error(self._directory, holder) from None
        except OSError as error:
            file.close()
            raise BackfillError(
                f"the file system of {self._directory} does not support locks ({error.strerror})",
                hint="Choose a directory on another file system.",
            ) from error
        self._file = file
        with contextlib.suppress(OSError):  # on a full disk, only the process number in a message is lost
            file.seek(0)
            file.truncate()
            file.write(msgspec.json.encode(_Holder.current()))
            file.flush()

    def renew(self) -> None:
        """Does nothing: the operating system keeps the lock."""

    def release(self) -> None:
        """Releases the lock; no effect if it is not held."""
        # The file stays: if it were removed, two processes that opened it at different times could both lock it.
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.truncate(0)
            with contextlib.suppress(OSError):
                file.close()


#: The tokens of leases that this process holds. A lease with its pid and another token was left behind by a failure.
_held_tokens: Final[set[str]] = set()


class LeaseLock:
    """A lock that is an object in a store, renewed by its holder.

    Args:
        fs: an fsspec file system.
        path: the object's path.
        duration: seconds without renewal after which the lease expires.
    """

    def __init__(self, fs: Any, path: str, *, duration: float = 600.0) -> None:
        self.renew_interval: float | None = duration / 10
        self._fs = fs
        self._path = path
        self._duration = duration
        self._token = ""

    def acquire(self) -> None:
        with storage_errors("acquire the lock", Exception):
            holder = self._read()
            if holder is not None and not self._has_expired(holder):
                raise _locked_error(self._path, holder)
            self._token = secrets.token_hex(16)
            _held_tokens.add(self._token)
            try:
                self._write()
                # If two processes write at once, both read back the one that wrote last.
                self._read_own()
            except BaseException:
                self.release()
                raise

    def renew(self) -> None:
        """Extends the lease. Cheap if it was extended lately, so it may be called before each important write.

        Raises:
            BackfillLockedError: another process took it over.
        """
        with storage_errors("renew the lock", Exception):
            holder = self._read_own()
            if holder is None:
                # Not created again: whoever took it over and released it has changed the directory.
                raise BackfillLockedError(
                    f"the lock {hide_userinfo(self._path)} is gone: another process took it over and has ended",
                    hint="Run the same backfill again.",
                )
            if abs(time.time() - holder.renewed_at) > self._duration / 20:
                self._write()

    def release(self) -> None:
        token, self._token = self._token, ""
        _held_tokens.discard(token)
        if token:
            with contextlib.suppress(Exception):  # an unreachable lease expires by itself
                holder = self._read()
                if holder is not None and holder.token == token:
                    self._fs.rm_file(self._path)

    def _read_own(self) -> _Holder | None:
        """The lock in the store, or None if it is gone.

        Raises:
            BackfillLockedError: another process holds it.
        """
        holder = self._read()
        if holder is not None and holder.token != self._token:
            raise _locked_error(self._path, holder)
        return holder

    def _read(self) -> _Holder | None:
        self._fs.invalidate_cache()
        try:
            return _Holder.decode(self._fs.cat_file(self._path))
        except FileNotFoundError:
            return None

    def _write(self) -> None:
        self._fs.pipe_file(self._path, msgspec.json.encode(_Holder.current(self._token)))

    def _has_expired(self, holder: _Holder) -> bool:
        if abs(time.time() - holder.renewed_at) > self._duration:
            return True
        if holder.host != socket.gethostname():
            return False
        return holder.token not in _held_tokens if holder.pid == os.getpid() else not is_running(holder.pid)


Lock: TypeAlias = DirectoryLock | LeaseLock
