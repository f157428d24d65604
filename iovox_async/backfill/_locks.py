"""Locks a backfill directory, so that one process at a time writes to it.

On this machine the operating system frees a lock with its process, however that ends. In an object store the holder
renews a lease, and an expired lease is taken over. Stores that create an object only if it does not exist (S3, Google Cloud Storage,
Azure, through fsspec) give the lease, and the right to take over an expired one, to one process. In others that is best effort.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from .._platform import is_running, lock_file
from .._redaction import hide_userinfo
from ..errors import BackfillError, BackfillLockedError
from ._storage import STATE_FOLDER, storage_errors

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
            self._token = os.urandom(16).hex()
            _held_tokens.add(self._token)
            try:
                holder = self._read()
                if holder is None:
                    self._create(self._path)
                elif self._has_expired(holder):
                    self._take_over(holder)
                # Where stores do not create objects atomically, two processes read back the one that wrote last.
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
            age = abs(time.time() - holder.renewed_at)
            if age > self._duration:
                self._take_over(holder)  # another process may be about to do so
            elif age > self._duration / 20:
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

    def _take_over(self, expired: _Holder) -> None:
        """Replaces an expired lease, if no other process does.

        The process that creates an object named after the expired lease's token may do so (a claim). The claim of a process
        that was killed expires, too.

        Raises:
            BackfillLockedError: another process has taken it over.
        """
        holder, claims = expired, [self._claim_path(expired)]
        while not self._create(claims[-1]):
            owner = self._read(claims[-1])
            if owner is None or not self._has_expired(owner):
                raise _locked_error(self._path, owner or holder)
            holder = owner
            claims.append(self._claim_path(owner))
        try:
            # Whoever has claimed it before has replaced the lease before it removed the claim.
            current = self._read()
            if current is not None and current.token != expired.token:
                raise _locked_error(self._path, current)
            self._write()
        finally:
            for path in claims:
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(path)

    def _claim_path(self, holder: _Holder) -> str:
        return f"{self._path}.{holder.token or 'unreadable'}"

    def _create(self, path: str) -> bool:
        """Creates a lease if there is none, and returns whether it is this process's."""
        data = msgspec.json.encode(_Holder.current(self._token))
        try:
            self._fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            # After a lost response, a store may refuse the object that it has just created.
            holder = self._read(path)
            return holder is not None and holder.token == self._token
        return True

    def _read(self, path: str | None = None) -> _Holder | None:
        self._fs.invalidate_cache()
        try:
            return _Holder.decode(self._fs.cat_file(path or self._path))
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
