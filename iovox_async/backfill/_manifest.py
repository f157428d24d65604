"""What is in a folder: one line for the job, one for each partition, one for the end.

The law of this room: nothing is believed that does not match its checksum. Each line has one of its own, bound to the job, and
the last line has one of all; so a damaged manifest is never taken for a whole one, and what is whole in it is not lost.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Final, TypeVar

import msgspec
from attrs import define, field

from ..errors import BackfillError, BackfillMismatchError
from ._job import Job, differences

__all__ = ["MANIFEST", "Manifest", "ManifestEntry"]

T = TypeVar("T", bound=msgspec.Struct)

MANIFEST: Final = "manifest.jsonl"
VERSION: Final = 1
_CHECK: Final = re.compile(rb',"check":"([0-9a-f]{32})"\}\Z')


class ManifestEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that is there.

    Attributes:
        partition: its name.
        lo: the first second it holds.
        hi: the second after the last.
        sealed: it ended longer before it was read than calls take to settle; else it is read again.
        rows: calls.
        ids: which, as `IdChecksum` writes it.
        file: the name of its file; None where there are no calls.
        bytes: the file's size.
        sha256: the file's checksum.
    """

    partition: str
    lo: datetime
    hi: datetime
    sealed: bool
    rows: int = 0
    ids: str = ""
    file: str | None = None
    bytes: int = 0
    sha256: str = ""


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    backfill: int
    job: Job
    start: datetime


class _Version(msgspec.Struct, frozen=True):
    backfill: int


class _End(msgspec.Struct, frozen=True, kw_only=True):
    partitions: int
    sha256: str


@define
class Manifest:
    """What is in a folder.

    Attributes:
        job: whose folder it is.
        start: the first second that was ever asked for.
        entries: what is there, by the partitions' names.
        damage: what was found wrong when it was read, in words.
    """

    job: Job
    start: datetime
    entries: dict[str, ManifestEntry] = field(factory=dict)
    damage: list[str] = field(factory=list)
    #: Lines as they were written last; an entry does not change, so it is encoded once.
    _lines: dict[str, tuple[ManifestEntry, bytes]] = field(factory=dict)

    def dump(self) -> bytes:
        """The manifest as a file."""
        key = self.job.key
        lines = [_signed(_Head(backfill=VERSION, job=self.job, start=self.start), b"")]
        for name in sorted(self.entries):
            entry = self.entries[name]
            known = self._lines.get(name)
            if known is None or known[0] is not entry:
                known = self._lines[name] = (entry, _signed(entry, key))
            lines.append(known[1])
        body = b"\n".join(lines) + b"\n"
        end = _End(partitions=len(self.entries), sha256=hashlib.sha256(body).hexdigest())
        return body + msgspec.json.encode(end) + b"\n"

    @classmethod
    def load(cls, data: bytes, job: Job, start: datetime, *, where: object = "the folder") -> Manifest:
        """The manifest of a file, as far as it can be believed; `damage` tells what could not.

        One that names nothing yet binds nobody: another job begins there as in a new folder.

        Args:
            data: the file.
            job: the job that is to be done in the folder.
            start: what to take for its start if that cannot be read.
            where: what to call the folder in messages.

        Raises:
            BackfillMismatchError: the folder belongs to another job.
            BackfillError: a newer version of this package wrote it.
        """
        lines = data.split(b"\n")
        manifest = cls(job, start)
        head = None
        if (body := _checked(lines[0], b"")) is not None:
            _check_version(body, where)
            head = _decoded(body, _Head)
        if head is None:
            manifest.damage.append("line 1")
        else:
            told = differences(head.job, job)
            if told and data == cls(head.job, head.start).dump():
                # A first run that failed before anything was there has no claim to the folder.
                return cls(job, start)
            if told:
                raise BackfillMismatchError(
                    f"{where} belongs to another job, which differs in {', '.join(told)}: "
                    "give the same, or choose another folder"
                )
            manifest.start = head.start
        manifest._read(lines)
        if head is None and manifest.entries:
            manifest.start = min(entry.lo for entry in manifest.entries.values())
        return manifest

    def _read(self, lines: list[bytes]) -> None:
        """The lines after the first."""
        end = _decoded(lines[-2], _End) if len(lines) > 2 and not lines[-1] else None
        key = self.job.key
        for number, line in enumerate(lines[1:] if end is None else lines[1:-2], 2):
            body = _checked(line, key)
            entry = None if body is None else _decoded(body, ManifestEntry)
            if entry is not None:
                self.entries[entry.partition] = entry
                self._lines[entry.partition] = (entry, line)
            elif line:
                self.damage.append(f"line {number}")
        body = b"\n".join(lines[:-2]) + b"\n"
        if end is None or end.sha256 != hashlib.sha256(body).hexdigest():
            self.damage.append("the end")


def _signed(value: msgspec.Struct, key: bytes) -> bytes:
    body = msgspec.json.encode(value)
    return body[:-1] + b',"check":"' + _sum(body, key) + b'"}'


def _sum(body: bytes, key: bytes) -> bytes:
    return hashlib.sha256(key + body).hexdigest()[:32].encode()


def _checked(line: bytes, key: bytes) -> bytes | None:
    """The line without its checksum, or None where that does not match."""
    match = _CHECK.search(line)
    if match is None:
        return None
    body = line[: match.start()] + b"}"
    return body if _sum(body, key) == match[1] else None


def _decoded(body: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _check_version(body: bytes, where: object) -> None:
    version = _decoded(body, _Version)
    if version is not None and version.backfill > VERSION:
        raise BackfillError(
            f"a newer version of this package wrote {MANIFEST} in {where} (form {version.backfill}, this one reads {VERSION}): "
            'pip install --upgrade "iovox-async"'
        )
