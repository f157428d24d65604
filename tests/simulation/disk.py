"""Keeps the files of a backfill in a folder whose disk can be killed or lose its power at any change.

A `Disk` knows what a power cut takes: bytes of files that were not synced, and names in folders that were not synced.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _names

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Disk", "KilledError"]


class KilledError(BaseException):
    """The process is killed."""


class Disk(_names.FileSystem):
    """A file system that dies at one change.

    Args:
        die_at: the change at which it dies, from 1; 0 for never.
        power: whether what was not synced is lost then.
    """

    def __init__(self, die_at: int, *, power: bool) -> None:
        self.die_at, self.power = die_at, power
        self.changes = 0
        self.dead = False
        self._bytes: set[Path] = set()
        self._undo: list[tuple[Path, Callable[[], Any]]] = []

    def revive(self) -> None:
        """Starts the machine again."""
        self.dead, self.die_at = False, 0
        self._bytes.clear()
        self._undo.clear()

    def _change(self) -> None:
        if self.dead:
            raise KilledError
        self.changes += 1
        if self.changes == self.die_at:
            self.dead = True
            if self.power:
                self._cut()
            raise KilledError

    def _cut(self) -> None:
        for _folder, undo in reversed(self._undo):
            undo()
        for path in self._bytes:
            if path.exists():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def create(self, path: Path) -> Any:
        self._change()
        self._bytes.add(path)
        self._undo.append((path.parent, lambda: path.unlink(missing_ok=True)))
        return super().create(path)

    def write(self, file: Any, data: memoryview) -> int:
        if self.changes + 1 == self.die_at and not self.dead:
            file.write(data[: len(data) // 2])
        self._change()
        return super().write(file, data)

    def sync(self, file: Any) -> None:
        self._change()
        self._bytes.discard(Path(file.name))

    def rename(self, old: Path, new: Path) -> None:
        self._change()
        before = new.read_bytes() if new.exists() else None

        def undo() -> None:
            new.unlink(missing_ok=True)
            if before is not None:
                new.write_bytes(before)

        super().rename(old, new)
        if old in self._bytes:
            self._bytes.remove(old)
            self._bytes.add(new)
        self._undo.append((new.parent, undo))

    def unlink(self, path: Path) -> None:
        self._change()
        before = path.read_bytes()
        super().unlink(path)
        self._undo.append((path.parent, lambda: path.write_bytes(before) if path.parent.exists() else None))

    def make_directory(self, path: Path) -> None:
        self._change()
        super().make_directory(path)
        self._undo.append(
            (path.parent, lambda: path.rmdir() if path.exists() and not any(path.iterdir()) else None)
        )

    def remove_directory(self, path: Path) -> None:
        self._change()
        super().remove_directory(path)

    def sync_directory(self, path: Path) -> None:
        self._change()
        self._undo = [(folder, undo) for folder, undo in self._undo if folder != path]
