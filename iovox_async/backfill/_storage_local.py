"""A folder of this machine: what is written there is there whole, or not at all.

The law of this room: every change to the disk is one method of `FileSystem`, and a file gets its name only after its bytes are on
the disk. So a crash between any two calls leaves the old file or the new one, never a torn one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from ..errors import BackfillError
from ._locks import FolderLock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._locks import Lock

__all__ = ["TEMPORARY", "AtomicFile", "FileSystem", "LocalStorage", "failing", "refused"]

#: The end of the names of files that are being written; no reader of tables looks at them.
TEMPORARY: Final = ".tmp"


class FileSystem:
    """The file system, one method a change; tests put their faults here."""

    def create(self, path: Path) -> Any:
        """A new file, open for writing, without a buffer; what an earlier run left under this name goes."""
        return path.open("wb", buffering=0)

    def write(self, file: Any, data: memoryview) -> int:
        """Writes some of it, and says how much."""
        written: int = file.write(data)
        return written

    def sync(self, file: Any) -> None:
        """Returns when the file's bytes are on the disk."""
        _sync(file.fileno())

    def rename(self, old: Path, new: Path) -> None:
        """Gives a file its name; one that had the name is gone."""
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """Removes a file."""
        path.unlink()

    def make_folder(self, path: Path) -> None:
        """Makes a folder, if it is not there."""
        path.mkdir(exist_ok=True)

    def remove_folder(self, path: Path) -> None:
        """Removes an empty folder."""
        path.rmdir()

    def sync_folder(self, path: Path) -> None:
        """Returns when the folder's names are on the disk."""
        if os.name == "nt":  # which cannot open folders, and writes names through
            return
        folder = os.open(path, os.O_RDONLY)
        try:
            _sync(folder)
        finally:
            os.close(folder)


def _sync(number: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        # There, fsync leaves the bytes in the drive's own memory.
        with contextlib.suppress(OSError):
            fcntl.fcntl(number, fcntl.F_FULLFSYNC)
            return
    os.fsync(number)


@contextlib.contextmanager
def failing(doing: str) -> Iterator[None]:
    """Turns what a file system raises into an error of ours."""
    try:
        yield
    except OSError as error:
        raise refused(doing, error.strerror or str(error) or type(error).__name__) from error


def refused(doing: str, why: str) -> BackfillError:
    """The error for what a file system or a store would not do."""
    return BackfillError(
        f"cannot {doing}: {why}. All that was finished before is safe; mend the cause and run the same job again"
    )


class AtomicFile(io.RawIOBase):
    """A file that is being written; `commit` gives it its name, `discard` leaves nothing of it.

    Attributes:
        name: the name it will have.
        size: bytes written.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.size: int = 0
        self._hash = hashlib.sha256()
        self._over = False

    @property
    def digest(self) -> str:
        """The checksum of what was written."""
        return self._hash.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Writes all of it."""
        whole = memoryview(data).cast("B")
        # A writer of a format that is thrown away still writes its end: that goes nowhere.
        if not self._over:
            with failing(f"write {self.name}"):
                self._put(whole)
            self._hash.update(whole)
            self.size += len(whole)
        return len(whole)

    def commit(self) -> None:
        """Ends the file and gives it its name.

        Raises:
            BackfillError: the file system refuses.
        """
        with failing(f"write {self.name}"):
            self._commit()
        self._over = True

    def discard(self) -> None:
        """Leaves nothing of it, as far as the file system lets that happen; what stays is swept at the next start."""
        if not self._over:
            self._over = True
            with contextlib.suppress(OSError):
                self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def _put(self, data: memoryview) -> None:
        raise NotImplementedError

    def _commit(self) -> None:
        raise NotImplementedError

    def _discard(self) -> None:
        raise NotImplementedError


class _LocalAtomicFile(AtomicFile):
    def __init__(self, store: LocalStorage, name: str) -> None:
        super().__init__(name)
        self._files = store.files
        self._root = store.root
        self._path = store.root / name
        # In the root: who reads the folders of the table never sees a file that is not whole.
        self._temporary = store.root / f".{name.replace('/', '.')}{TEMPORARY}"
        with failing(f"write {name}"):
            self._file = self._files.create(self._temporary)

    def _put(self, data: memoryview) -> None:
        while data:
            data = data[self._files.write(self._file, data) :]

    def _commit(self) -> None:
        self._files.sync(self._file)
        self._file.close()
        missing = [self._path.parent]
        while missing[-1] != self._root and not missing[-1].exists():
            missing.append(missing[-1].parent)
        for folder in reversed(missing[:-1]):
            self._files.make_folder(folder)
            self._files.sync_folder(folder.parent)
        self._files.rename(self._temporary, self._path)
        self._files.sync_folder(self._path.parent)

    def _discard(self) -> None:
        self._file.close()
        self._files.unlink(self._temporary)


class LocalStorage:
    """A folder of this machine, as a place for tables.

    Attributes:
        root: the folder.
        files: the file system below.
    """

    rewrite_every: float = 1.0

    def __init__(self, root: Path, files: FileSystem | None = None) -> None:
        self.root = root
        self.files: FileSystem = files or FileSystem()

    def __str__(self) -> str:
        return str(self.root)

    def prepare(self) -> None:
        """Makes the folder.

        Raises:
            BackfillError: it cannot be made, or is a file.
        """
        with failing(f"make the folder {self}"):
            self.root.mkdir(parents=True, exist_ok=True)

    def lock(self) -> Lock:
        """The lock of the folder, not taken yet."""
        return FolderLock(self.root)

    def draft(self, name: str) -> AtomicFile:
        """A new file; it replaces the one of this name when it is committed."""
        return _LocalAtomicFile(self, name)

    def read(self, name: str) -> bytes | None:
        """All of a file, or None where there is none."""
        with failing(f"read {name}"):
            try:
                return (self.root / name).read_bytes()
            except FileNotFoundError:
                return None

    def digest(self, name: str) -> str:
        """The checksum of a file."""
        with failing(f"read {name}"), (self.root / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def listing(self) -> dict[str, int]:
        """All files, each with its size."""
        with failing(f"list {self}"):
            return dict(_walk(self.root, ""))

    def remove(self, name: str) -> None:
        """Removes a file, and the folder that it leaves empty."""
        path = self.root / name
        with failing(f"remove {name}"):
            with contextlib.suppress(FileNotFoundError):
                self.files.unlink(path)
            if path.parent != self.root:
                with contextlib.suppress(OSError):  # it holds other files
                    self.files.remove_folder(path.parent)


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
            else:
                yield f"{prefix}{entry.name}", entry.stat(follow_symlinks=False).st_size
