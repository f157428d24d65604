"""Stores files in a directory of this machine.

Invariants:

- Every change to the disk is one method of `FileSystem`.
- A file is renamed to its path only after its bytes are on the disk, so that a crash between any two changes leaves
  the old file or the new one.
- The names of files and directories are on the disk before a file of the state folder, such as the manifest, that tells of
  them. Flushing the names for each file takes more time than all the rest of writing it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from .._platform import replace_file, sync_directory, sync_file
from ..errors import BackfillError
from ._locks import DirectoryLock
from ._storage import STATE_FOLDER, TEMPORARY_SUFFIX, AtomicFile, storage_errors, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A file that is removed when the disk is full, so that the manifest can still be written.
_RESERVE: Final = f"{STATE_FOLDER}/reserve"
_MIN_RESERVE: Final = 1 << 15
#: The disk is full, or the quota of the user is used up.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class FileSystem:
    """The changes to the disk, one method each. Tests replace it to inject faults."""

    def create(self, path: Path) -> Any:
        """Opens a new file for unbuffered writing; replaces what an earlier run left there."""
        return path.open("wb", buffering=0)

    def write(self, file: Any, data: memoryview) -> int:
        """Writes some of the data, and returns how many bytes."""
        written: int = file.write(data)
        return written

    def sync(self, file: Any) -> None:
        """Flushes a file to the disk."""
        sync_file(file.fileno())

    def rename(self, old: Path, new: Path) -> None:
        """Renames a file; replaces an existing one."""
        replace_file(old, new)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def make_directory(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def remove_directory(self, path: Path) -> None:
        """Removes an empty directory."""
        path.rmdir()

    def sync_directory(self, path: Path) -> None:
        """Flushes the names in a directory to the disk."""
        sync_directory(path)


class _LocalAtomicFile(AtomicFile):
    def __init__(self, storage: LocalStorage, path: str) -> None:
        super().__init__(path)
        self._storage = storage
        self._file_system = storage.file_system
        self._root = storage.root
        self._target = storage.root / path
        # Not beside its target, so that readers never see an incomplete file.
        name = path.removeprefix(f"{STATE_FOLDER}/").replace("/", ".")
        self._temporary = storage.state_folder / f"{name}{TEMPORARY_SUFFIX}"
        storage.prepare()
        self.local_path = self._temporary
        with storage_errors(f"write {path}"):
            self._file = self._file_system.create(self._temporary)

    def _write(self, data: memoryview) -> int:
        return self._file_system.write(self._file, data)

    def _commit(self) -> None:
        self._file_system.sync(self._file)
        self._file.close()
        folder = self._target.parent
        is_state = folder == self._storage.state_folder
        if is_state:
            self._storage.sync_names()
        parents = [folder]
        while parents[-1] != self._root and not parents[-1].exists():
            parents.append(parents[-1].parent)
        for directory in reversed(parents[:-1]):
            self._file_system.make_directory(directory)
            self._storage.unsynced.add(directory.parent)
        self._file_system.rename(self._temporary, self._target)
        self._storage.unsynced.add(folder)
        if is_state:
            self._storage.sync_names()

    def _discard(self) -> None:
        self._file.close()
        self._file_system.unlink(self._temporary)


class LocalStorage:
    """A directory of this machine; see `Storage` for the methods.

    Attributes:
        root: the directory.
        state_folder: the folder of what is not data.
        file_system: makes the changes to the disk.
        unsynced: directories with names that are not on the disk yet.
    """

    def __init__(self, root: Path, file_system: FileSystem | None = None) -> None:
        self.root = root
        self.state_folder: Path = root / STATE_FOLDER
        self.file_system: FileSystem = file_system or FileSystem()
        self.unsynced: set[Path] = set()
        #: The size of the file that keeps space for `replace`.
        self._reserved = 0

    def __str__(self) -> str:
        return str(self.root)

    def prepare(self) -> None:
        with storage_errors(f"create the directory {self}"):
            if not self.state_folder.is_dir():
                self.root.mkdir(parents=True, exist_ok=True)
                self.file_system.make_directory(self.state_folder)
                self.file_system.sync_directory(self.root)

    def sync_names(self) -> None:
        """Flushes the names of all files that were committed. One thread at a time writes files of the state folder."""
        while self.unsynced:
            directory = self.unsynced.pop()
            try:
                self.file_system.sync_directory(directory)
            except BaseException:
                self.unsynced.add(directory)
                raise

    def lock(self) -> DirectoryLock:
        return DirectoryLock(self.root)

    def create(self, path: str) -> AtomicFile:
        return _LocalAtomicFile(self, path)

    def replace(self, path: str, data: bytes) -> None:
        try:
            write_file(self, path, data)
        except BackfillError as error:
            if getattr(error.__cause__, "errno", None) not in _FULL or not self._reserved:
                raise
            self.keep_reserve(0)
            write_file(self, path, data)

    def keep_reserve(self, size: int) -> None:
        needed = 2 * size + _MIN_RESERVE if size else 0
        if self._reserved and (needed == 0 or needed > self._reserved):
            self._reserved = 0
            with contextlib.suppress(OSError):
                self.file_system.unlink(self.root / _RESERVE)
        if needed > self._reserved:
            with contextlib.suppress(OSError):  # without a reserve, the run itself is possible
                self._write_reserve(2 * needed)

    def _write_reserve(self, size: int) -> None:
        path = self.root / _RESERVE
        try:
            with self.file_system.create(path) as file:
                # Random bytes, which no file system compresses or leaves out.
                remaining = memoryview(os.urandom(size))
                while remaining:
                    remaining = remaining[self.file_system.write(file, remaining) :]
        except OSError:
            self.file_system.unlink(path)
            raise
        self._reserved = size

    def read(self, path: str) -> bytes | None:
        with storage_errors(f"read {path}"):
            try:
                return (self.root / path).read_bytes()
            except FileNotFoundError:
                return None

    def open(self, path: str) -> IO[bytes]:
        with storage_errors(f"read {path}"):
            return (self.root / path).open("rb")

    def sha256(self, path: str) -> str:
        with storage_errors(f"read {path}"), (self.root / path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def list_files(self) -> dict[str, int]:
        with storage_errors(f"list {self}"):
            return dict(_walk(self.root, "")) if self.root.exists() else {}

    def remove(self, path: str) -> None:
        target = self.root / path
        with storage_errors(f"remove {path}"):
            with contextlib.suppress(FileNotFoundError):
                self.file_system.unlink(target)
            if target.parent not in {self.root, self.state_folder}:
                with contextlib.suppress(OSError):  # it holds other files
                    self.file_system.remove_directory(target.parent)


def _walk(directory: Path, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(directory) as children:
        for child in children:
            path = f"{prefix}{child.name}"
            # Partitions may lie behind symbolic links, for example on another disk; nothing else is followed.
            follow = path.startswith(("date=", "month="))
            if child.is_dir(follow_symlinks=follow):
                yield from _walk(Path(child.path), f"{path}/")
            else:
                with contextlib.suppress(FileNotFoundError):  # a link that leads nowhere
                    yield path, child.stat(follow_symlinks=follow).st_size
