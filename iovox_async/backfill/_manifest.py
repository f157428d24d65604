"""Reads and writes the manifest of a backfill directory: one line for the job, one per partition, one for the end.

Invariants:

- Every line carries a checksum, and nothing on a line with a wrong one is used. Partition lines and the last line are
  checked together with the job, so lines of another job never match.
- The last line holds the number of partitions, so a truncated manifest is never taken for a complete one.
- The intact lines of a damaged manifest remain usable, so a repair reads only what the damage covers.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from ..errors import BackfillError
from ._job import Job, describe_differences, mismatch_error
from ._partitions import PartitionRange
from ._storage import STATE_FOLDER

T = TypeVar("T", bound=msgspec.Struct)

#: Without the end `.jsonl`, so that a reader of `**/*.jsonl` does not take it for calls.
MANIFEST: Final = f"{STATE_FOLDER}/manifest"
#: The version of the file's format; version 1 named the same values differently.
VERSION: Final = 2
_CHECKSUM: Final = re.compile(rb',"check":"([0-9a-f]{32})"\}\Z')


class ManifestEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A partition in the directory.

    Attributes:
        partition: its name.
        start: the first second it holds.
        stop: the second after the last.
        final: its calls no longer change; otherwise the next run reads it again.
        rows: number of calls.
        ids: checksum of their ids (`IdChecksum`), and of those of records that were skipped.
        file_ids: checksum of the ids of the calls alone.
        first_id: the lowest id of the calls.
        last_id: the highest.
        skipped: number of records that were skipped.
        read_at: when they were read, in UTC.
        version: the version of this package that read them.
        dropped: its file was removed on request, and it is not read again.
        file: path of its file; None where there are no calls.
        bytes: size of the file.
        sha256: checksum of the file.
    """

    partition: str
    start: datetime
    stop: datetime
    final: bool
    rows: int = 0
    ids: str = ""
    file_ids: str = ""
    first_id: int | None = None
    last_id: int | None = None
    skipped: int = 0
    read_at: datetime | None = None
    version: str = ""
    dropped: bool = False
    file: str | None = None
    bytes: int = 0
    sha256: str = ""

    @property
    def range(self) -> PartitionRange:
        """The seconds that the entry covers."""
        return PartitionRange(self.partition, self.start, self.stop)


def dropped_entry(part: PartitionRange, entry: ManifestEntry | None) -> ManifestEntry:
    """The entry of a partition that is dropped, as a whole, so that no part of it is read again."""
    entry = entry or ManifestEntry(partition=part.name, start=part.start, stop=part.stop, final=True)
    return msgspec.structs.replace(
        entry,
        start=part.start,
        stop=part.stop,
        final=True,
        dropped=True,
        rows=0,
        file=None,
        bytes=0,
        sha256="",
    )


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    backfill: int
    job: Job
    start: datetime


class _Footer(msgspec.Struct, frozen=True, kw_only=True):
    partitions: int


class Manifest(msgspec.Struct):
    """The contents of a manifest.

    Attributes:
        job: the job that the directory belongs to.
        start: the earliest start that was ever requested.
        entries: the partitions, by name.
        damage: what was found damaged when the manifest was loaded, such as "line 3".
    """

    job: Job
    start: datetime
    entries: dict[str, ManifestEntry] = msgspec.field(default_factory=dict)
    damage: list[str] = msgspec.field(default_factory=list)

    def dump(self) -> bytes:
        """The manifest as the bytes of a file."""
        key = self.job.digest()
        lines = [_encode_line(_Header(backfill=VERSION, job=self.job, start=self.start))]
        lines += [_encode_line(self.entries[name], key) for name in sorted(self.entries)]
        lines.append(_encode_line(_Footer(partitions=len(self.entries)), key))
        return b"\n".join(lines) + b"\n"

    @classmethod
    def load(cls, data: bytes, job: Job, start: datetime, *, location: object = "the directory") -> Manifest:
        """The intact part of a manifest file; `damage` lists the rest.

        The manifest of another job without any partition is ignored: a first run that failed early does not claim the
        directory.

        Args:
            data: the contents of the file.
            job: the job that is to run in the directory.
            start: used as the manifest's start if that cannot be read.
            location: the directory, for messages.

        Raises:
            BackfillMismatchError: the directory belongs to another job.
            BackfillError: another version of this package wrote it.
        """
        lines = data.split(b"\n")
        manifest = cls(job, start)
        header_json = _verify_line(lines[0])
        if header_json is not None:
            _check_version(header_json, location)
        header = _decode(header_json, _Header)
        if header is None:
            manifest.damage.append("line 1")
        else:
            differences = describe_differences(header.job, job)
            if differences and data == cls(header.job, header.start).dump():
                return manifest
            if differences:
                raise mismatch_error(location, differences)
            manifest.start = header.start
        manifest._load_entries(lines)
        if header is None and manifest.entries:
            manifest.start = min(entry.start for entry in manifest.entries.values())
        return manifest

    def _load_entries(self, lines: list[bytes]) -> None:
        key = self.job.digest()
        footer = _decode(_verify_line(lines[-2], key), _Footer) if len(lines) > 2 and not lines[-1] else None
        for number, line in enumerate(lines[1:] if footer is None else lines[1:-2], 2):
            entry = _decode(_verify_line(line, key), ManifestEntry)
            if entry is not None:
                self.entries[entry.partition] = entry
            elif line:
                self.damage.append(f"line {number}")
        if footer is None or footer.partitions != len(self.entries):
            self.damage.append("the end")


def _encode_line(value: msgspec.Struct, key: bytes = b"") -> bytes:
    body = msgspec.json.encode(value)
    return body[:-1] + b',"check":"' + _checksum(body, key) + b'"}'


def _checksum(body: bytes, key: bytes) -> bytes:
    return hashlib.sha256(key + body).hexdigest()[:32].encode()


def _verify_line(line: bytes, key: bytes = b"") -> bytes | None:
    """The JSON document of a line without its checksum, or None if the checksum is missing or wrong."""
    match = _CHECKSUM.search(line)
    if match is None:
        return None
    body = line[: match.start()] + b"}"
    return body if _checksum(body, key) == match[1] else None


def _decode(body: bytes | None, kind: type[T]) -> T | None:
    try:
        return None if body is None else msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _check_version(header_json: bytes, location: object) -> None:
    version = msgspec.json.decode(header_json)["backfill"]
    if version != VERSION:
        newer = version > VERSION
        raise BackfillError(
            f"{MANIFEST} in {location} has format {version}, written by {'a newer' if newer else 'an older'} version of "
            f"this package; this version reads format {VERSION}",
            hint='Run pip install --upgrade "iovox-async".' if newer else "Choose another directory.",
        )
