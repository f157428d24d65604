"""Where records go: formats of files, and the folders they are written to.

The law of this package: it knows nothing of jobs. A file is written whole or not at all, on this machine or in an object
store, and what is in it depends on the calls alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ._chunks import ArrowChunk, CallChunk, Chunk, IdChecksum, parted
from ._formats import FORMATS, FileFormat, format_named
from ._storage_local import TEMPORARY, AtomicFile, FileSystem, LocalStorage
from ._storage_remote import RemoteStorage

if TYPE_CHECKING:
    from ._locks import Lock

__all__ = [
    "FORMATS",
    "TEMPORARY",
    "ArrowChunk",
    "AtomicFile",
    "CallChunk",
    "Chunk",
    "FileFormat",
    "FileSystem",
    "IdChecksum",
    "LocalStorage",
    "RemoteStorage",
    "Storage",
    "format_named",
    "open_store",
    "parted",
]

#: `s3://...` and chains of them (`simplecache::s3://...`), and no Windows drive.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+://")


class Storage(Protocol):
    """A folder, here or elsewhere. Names are relative, with slashes."""

    #: Seconds between two versions of a file that is replaced again and again: to write one takes longer than to read a
    #: short partition, and some stores refuse more.
    rewrite_every: float

    def prepare(self) -> None:
        """Makes the folder."""

    def lock(self) -> Lock:
        """The lock of the folder, not taken yet."""

    def draft(self, name: str) -> AtomicFile:
        """A new file; it replaces the one of this name when it is committed."""

    def read(self, name: str) -> bytes | None:
        """All of a file, or None where there is none."""

    def digest(self, name: str) -> str:
        """The checksum of a file."""

    def listing(self) -> dict[str, int]:
        """All files, each with its size."""

    def remove(self, name: str) -> None:
        """Removes a file."""


def open_store(directory: str | os.PathLike[str], files: FileSystem | None = None) -> Storage:
    """The folder of this path, or of this URL of any store that fsspec knows.

    Raises:
        MissingExtraError: it is a URL and fsspec is not installed.
        BackfillError: there is no such kind of store.
    """
    place = os.fspath(directory)
    if _URL.match(place):
        return RemoteStorage.at(place)
    return LocalStorage(Path(place).absolute(), files)
