"""Defines what a backfill needs of a directory, whether on this machine or in an object store.

Invariant: a file appears under its name completely written, or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from abc import abstractmethod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, Self

from .._redaction import hide_userinfo
from ..errors import BackfillError, ConfigurationError, IovoxError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ._locks import Lock

#: The folder of everything that is no data: readers of tables skip folders whose names begin with `_`.
STATE_FOLDER: Final = "_iovox"
#: The end of the names of temporary files.
TEMPORARY_SUFFIX: Final = ".tmp"
#: `s3://...` and chained URLs (`simplecache::s3://...`).
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+://")

#: What `deltalake` puts between the parts of a message: line breaks, colours and arrows.
_BREAKS: Final = r"(?:\s|\x1b\[[\d;]*m|\u21b3)+"
#: Where the document of a store begins, and what is shown of it; the rest may contain a signature.
_DOCUMENT: Final = r"<\?xml|<Error>"
_DETAIL: Final = r"<(?:Code|Message)>([^<]*)"
#: The query of a URL, which may be a signature.
_URL_QUERY: Final = r"(?<=[^\s?])\?[^\s?]+=\S*"


@contextlib.contextmanager
def storage_errors(action: str, errors: type[Exception] = OSError) -> Iterator[None]:
    """Raises these errors as `BackfillError`: "cannot {action}: {reason}"."""
    try:
        yield
    except IovoxError:
        raise
    except errors as error:
        raise BackfillError(
            f"cannot {action}: {_reason(error)}",
            hint="Finished partitions are safe. Remove the cause and run the same backfill again.",
        ) from error


def _reason(error: Exception) -> str:
    """The message of an error in one line, without credentials: of a document that a store sent, its code and message alone."""
    text = str(getattr(error, "strerror", None) or error)
    text = re.sub(_BREAKS, " ", text.partition("\n\n")[0])
    text, *document = re.split(_DOCUMENT, text, maxsplit=1)
    details = [detail for part in document for detail in re.findall(_DETAIL, part)]
    text = re.sub(_URL_QUERY, "", " ".join([text.rstrip(" :"), *details]))
    return hide_userinfo(text)[:400].strip(" .") or type(error).__name__


class AtomicFile(io.RawIOBase):
    """A file that appears under its path when it is committed; `discard` leaves nothing behind.

    Attributes:
        path: the path it will have, relative to the directory.
        local_path: where its bytes are on this machine until it is committed; set by subclasses.
        size: bytes written so far.
    """

    local_path: Path

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.size: int = 0
        self._hash = hashlib.sha256()
        self._done = False

    @property
    def sha256(self) -> str:
        """The checksum of the bytes written so far."""
        return self._hash.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Writes all of the data.

        Raises:
            BackfillError: the file system refuses.
        """
        view = memoryview(data).cast("B")
        # The writer of a format that is garbage collected after `discard` still writes its footer; ignore that.
        if not self._done:
            with storage_errors(f"write {self.path}"):
                remaining = view
                while remaining:
                    remaining = remaining[self._write(remaining) :]
            self._hash.update(view)
            self.size += len(view)
        return len(view)

    def commit(self) -> None:
        """Makes the file appear under its path.

        Raises:
            BackfillError: the file system refuses.
        """
        with storage_errors(f"write {self.path}"):
            self._commit()
        self._done = True

    def discard(self) -> None:
        """Removes the temporary file if possible; otherwise the next run removes it. No effect after `commit`."""
        if not self._done:
            self._done = True
            with contextlib.suppress(OSError):
                self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @abstractmethod
    def _write(self, data: memoryview) -> int:
        """Writes some of the data, and returns how many bytes."""

    @abstractmethod
    def _commit(self) -> None:
        """Makes the file appear under its path."""

    @abstractmethod
    def _discard(self) -> None:
        """Removes the file."""


class StagedFile(AtomicFile):
    """A file whose bytes are on this machine until it is committed; subclasses implement `_commit`.

    Args:
        path: the path it will have.
        file: the open file on this machine.
    """

    def __init__(self, path: str, file: Any) -> None:
        super().__init__(path)
        self._file = file
        self.local_path = Path(file.name)

    def _write(self, data: memoryview) -> int:
        written: int = self._file.write(data)
        return written

    def _discard(self) -> None:
        self._file.close()
        self.local_path.unlink(missing_ok=True)


class Storage(Protocol):
    """A directory. Paths are relative, with slashes. Every method raises `BackfillError` for what it cannot do."""

    def prepare(self) -> None:
        """Creates the directory if it does not exist."""

    def lock(self) -> Lock:
        """The lock of the directory, not acquired yet."""

    def create(self, path: str) -> AtomicFile:
        """A new file; it replaces the one at this path when it is committed."""

    def replace(self, path: str, data: bytes) -> None:
        """Writes a small file, also on a full disk if its reserve suffices."""

    def keep_reserve(self, size: int) -> None:
        """Keeps space for `replace`, enough for a file of this size and as much again; gives all of it back if it is 0."""

    def read(self, path: str) -> bytes | None:
        """The contents of a file, or None if it does not exist."""

    def open(self, path: str) -> IO[bytes]:
        """Opens a file for reading."""

    def sha256(self, path: str) -> str:
        """The checksum of a file."""

    def list_files(self) -> dict[str, int]:
        """The size of each file, by path."""

    def remove(self, path: str) -> None:
        """Removes a file if it exists, and its directory if that is then empty."""


def write_file(storage: Storage, path: str, data: bytes) -> None:
    """Writes a small file."""
    with storage.create(path) as file:
        file.write(data)
        file.commit()


def location_of(directory: str | os.PathLike[str]) -> str:
    """The path or URL of a directory.

    Raises:
        ConfigurationError: it is no path, or empty, as an unset variable of a shell is.
    """
    if not isinstance(directory, str | os.PathLike):
        raise ConfigurationError("directory", f"must be a path or URL, got {type(directory).__name__}")
    location = os.fspath(directory)
    if not location:
        raise ConfigurationError("directory", "must not be empty", hint="Pass . for the current directory.")
    return location


def is_url(location: str) -> bool:
    """Whether a location is a URL; the drives of Windows are none."""
    return _URL.match(location) is not None


def open_storage(directory: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Storage:
    """The directory with this path, or with this URL of a store that fsspec supports.

    Raises:
        MissingExtraError: it is a URL and fsspec is not installed.
        BackfillError: the URL's scheme is unknown.
    """
    from ._storage_local import LocalStorage

    location = location_of(directory)
    if not is_url(location):
        return LocalStorage(Path(location).absolute())
    from ._storage_remote import RemoteStorage

    return RemoteStorage.from_url(location, options)
