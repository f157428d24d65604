"""A folder of an object store, through fsspec: `s3://`, `gs://`, `az://`, `memory://` and what else it knows.

The law of this room: an object appears under its name by one put of the whole of it, from a file of this machine where it was
written first. Stores replace objects whole, so a reader sees the old one or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..errors import BackfillError, IovoxError, MissingExtraError
from ._locks import LOCK, LeaseLock, Lock
from ._storage_local import AtomicFile, refused

__all__ = ["RemoteStorage"]

_BLOCK: Final = 1 << 20


@contextlib.contextmanager
def _failing(doing: str) -> Iterator[None]:
    """As `files.failing`; stores raise what they like."""
    try:
        yield
    except IovoxError:
        raise
    except Exception as error:
        raise refused(doing, str(error).partition("\n")[0][:200] or type(error).__name__) from error


class _RemoteAtomicFile(AtomicFile):
    def __init__(self, store: RemoteStorage, name: str) -> None:
        super().__init__(name)
        self._store = store
        with _failing("make a temporary file"):
            self._file: Any = tempfile.NamedTemporaryFile(prefix="iovox-", delete=False)  # noqa: SIM115 - closed by commit or discard

    def _put(self, data: memoryview) -> None:
        self._file.write(data)

    def _commit(self) -> None:
        self._file.close()
        fs, path = self._store.fs, self._store.path(self.name)
        with _failing(f"write {self.name}"):
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            fs.put_file(self._file.name, path)
        Path(self._file.name).unlink()

    def _discard(self) -> None:
        self._file.close()
        Path(self._file.name).unlink(missing_ok=True)


class RemoteStorage:
    """A folder of an object store, as a place for tables.

    Attributes:
        fs: the fsspec file system.
        root: the folder's path there.
    """

    rewrite_every: float = 1.0

    def __init__(self, fs: Any, root: str, url: str | None = None) -> None:
        self.fs = fs
        self.root: str = root.rstrip("/")
        self._url = url or root

    @classmethod
    def at(cls, url: str) -> RemoteStorage:
        """The folder with this URL.

        Raises:
            MissingExtraError: fsspec is not installed.
            BackfillError: there is no such kind of store, or its package is missing.
        """
        try:
            import fsspec
        except ImportError as error:
            raise MissingExtraError("a remote folder", "remote") from error
        try:
            fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            kind = url.partition("://")[0]
            raise BackfillError(f"{kind}:// cannot be opened: {error}") from error
        return cls(fs, root, url)

    def __str__(self) -> str:
        # What stands before an @ may be a credential.
        kind, mark, rest = self._url.rpartition("://")
        return f"{kind}{mark}{rest.rpartition('@')[2]}"

    def path(self, name: str) -> str:
        """The path of a file."""
        return f"{self.root}/{name}"

    def prepare(self) -> None:
        """Makes the folder, in stores that have such."""
        with _failing(f"write to {self}"):
            self.fs.makedirs(self.root, exist_ok=True)

    def lock(self) -> Lock:
        """The lock of the folder, not taken yet."""
        return _Guarded(self.fs, self.path(LOCK))

    def draft(self, name: str) -> AtomicFile:
        """A new object; it replaces the one of this name when it is committed."""
        return _RemoteAtomicFile(self, name)

    def read(self, name: str) -> bytes | None:
        """All of an object, or None where there is none."""
        with _failing(f"read {name}"):
            self.fs.invalidate_cache()
            try:
                data: bytes = self.fs.cat_file(self.path(name))
            except FileNotFoundError:
                return None
            return data

    def digest(self, name: str) -> str:
        """The checksum of an object."""
        known = hashlib.sha256()
        with _failing(f"read {name}"), self.fs.open(self.path(name), "rb") as file:
            while block := file.read(_BLOCK):
                known.update(block)
        return known.hexdigest()

    def listing(self) -> dict[str, int]:
        """All objects, each with its size."""
        with _failing(f"list {self}"):
            self.fs.invalidate_cache()
            # Some stores name objects with a leading slash that the root has not, or the other way round.
            root = self.root.strip("/")
            found = self.fs.find(self.root, detail=True)
            return {name.strip("/")[len(root) :].lstrip("/"): known["size"] for name, known in found.items()}

    def remove(self, name: str) -> None:
        """Removes an object."""
        with _failing(f"remove {name}"), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.path(name))


class _Guarded(LeaseLock):
    """A lease whose failures are ours."""

    def take(self) -> None:
        with _failing("take the lock"):
            super().take()

    def renew(self) -> None:
        with _failing("renew the lock"):
            super().renew()
