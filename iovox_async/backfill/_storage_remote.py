"""Stores files in an object store through fsspec: `s3://`, `gs://`, `az://`, `memory://` and others.

A file is written to this machine first and uploaded by one put; stores replace objects as a whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Mapping
from typing import IO, Any, Final

from ..errors import BackfillError, MissingExtraError
from ._locks import LOCK_FILE, LeaseLock
from ._storage import STATE_FOLDER, AtomicFile, StagedFile, storage_errors, write_file

_BLOCK_SIZE: Final = 1 << 20


class _RemoteAtomicFile(StagedFile):
    def __init__(self, storage: RemoteStorage, path: str) -> None:
        with storage_errors("create a temporary file"):
            file = tempfile.NamedTemporaryFile(prefix="iovox-", delete=False, buffering=0)  # noqa: SIM115 - closed by commit or discard
        super().__init__(path, file)
        self._storage = storage

    def _commit(self) -> None:
        self._file.close()
        fs, target = self._storage.fs, self._storage.full_path(self.path)
        with storage_errors(f"write {self.path}", Exception):
            fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            fs.put_file(str(self.local_path), target)
        self.local_path.unlink()


class RemoteStorage:
    """A directory of an object store; see `Storage` for the methods. Stores may raise any exception.

    Attributes:
        fs: the fsspec file system.
        root: the directory's path in it.
    """

    def __init__(self, fs: Any, root: str, url: str | None = None) -> None:
        self.fs = fs
        self.root: str = root.rstrip("/")
        self._url = url or root

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, Any] | None = None) -> RemoteStorage:
        """The directory with this URL.

        Raises:
            MissingExtraError: fsspec is not installed.
            BackfillError: the scheme is unknown, or its package is not installed.
        """
        try:
            import fsspec
        except ImportError as error:
            raise MissingExtraError("a remote directory", "remote") from error
        try:
            fs, root = fsspec.core.url_to_fs(url, **(options or {}))
        except (ImportError, ValueError, OSError) as error:
            raise BackfillError(f"cannot open {url.partition('://')[0]}:// URLs: {error}") from error
        return cls(fs, root, url)

    def __str__(self) -> str:
        # The part before an @ may be a credential.
        scheme, separator, rest = self._url.rpartition("://")
        return f"{scheme}{separator}{rest.rpartition('@')[2]}"

    def full_path(self, path: str) -> str:
        """A path in the file system of fsspec."""
        return f"{self.root}/{path}"

    def prepare(self) -> None:
        with storage_errors(f"write to {self}", Exception):
            self.fs.makedirs(self.full_path(STATE_FOLDER), exist_ok=True)

    def lock(self) -> LeaseLock:
        return LeaseLock(self.fs, self.full_path(LOCK_FILE))

    def create(self, path: str) -> AtomicFile:
        return _RemoteAtomicFile(self, path)

    def replace(self, path: str, data: bytes) -> None:
        write_file(self, path, data)

    def keep_reserve(self, size: int) -> None:
        """Does nothing: object stores do not fill up."""

    def read(self, path: str) -> bytes | None:
        with storage_errors(f"read {path}", Exception):
            self.fs.invalidate_cache()
            try:
                data: bytes = self.fs.cat_file(self.full_path(path))
            except FileNotFoundError:
                return None
            return data

    def open(self, path: str) -> IO[bytes]:
        with storage_errors(f"read {path}", Exception):
            file: IO[bytes] = self.fs.open(self.full_path(path), "rb")
            return file

    def sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        with storage_errors(f"read {path}", Exception), self.open(path) as file:
            while block := file.read(_BLOCK_SIZE):
                digest.update(block)
        return digest.hexdigest()

    def list_files(self) -> dict[str, int]:
        with storage_errors(f"list {self}", Exception):
            self.fs.invalidate_cache()
            # Stores differ in whether the names of objects start with a slash.
            root = self.root.strip("/")
            files = self.fs.find(self.root, detail=True)
            return {name.strip("/")[len(root) :].lstrip("/"): info["size"] for name, info in files.items()}

    def remove(self, path: str) -> None:
        with storage_errors(f"remove {path}", Exception), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.full_path(path))
