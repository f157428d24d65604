"""Keeps the files of a backfill in a folder whose disk can be killed or lose its power at any change.

A power cut may take the bytes of files, and the names in folders, that were not synced. Of each such folder, all changes are kept,
the first of them, or none: a file system may write a folder at any time.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _names

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

__all__ = ["Disk", "KilledError"]


class KilledError(BaseException):
    """The process is killed."""


class Disk(_names.FileSystem):
    """A file system that dies at one change.

    Args:
        die_at: the change at which it dies, from 1; 0 for never.
        rng: decides what a power cut takes.
        power: whether what was not synced may be lost then.
        after: the name of a method; it dies at the change after that one of this kind whose number is `die_at`.
    """

    def __init__(self, die_at: int, rng: random.Random, *, power: bool, after: str = "") -> None:
        self.die_at, self.rng, self.power, self.after = die_at, rng, power, after
        self.changes = 0
        self._next_dies = False
        self.dead = False
        self._bytes: set[Path] = set()
        self._undo: list[tuple[Path, Callable[[], Any]]] = []

    def revive(self, die_at: int = 0) -> None:
        """Starts the machine again; it dies at this change from now on, or never."""
        self.dead, self.die_at, self.changes, self._next_dies = False, die_at, 0, False
        self._bytes.clear()
        self._undo.clear()

    def _dies(self) -> bool:
        """Whether the next change is that at which it dies."""
        return self._next_dies if self.after else self.changes + 1 == self.die_at

    def _change(self, kind: str) -> None:
        if self.dead:
            raise KilledError
        if self._dies():
            self.dead = True
            if self.power:
                self._cut()
            raise KilledError
        self.changes += not self.after or kind == self.after
        self._next_dies = bool(self.after) and 0 < self.changes == self.die_at

    def _cut(self) -> None:
        changes = Counter(folder for folder, _undo in self._undo)
        kept = {folder: self.rng.choice((0, n, self.rng.randint(0, n))) for folder, n in changes.items()}
        for folder, undo in reversed(self._undo):
            if changes[folder] > kept[folder]:
                undo()
            changes[folder] -= 1
        for path in self._bytes:
            if path.exists():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def create(self, path: Path) -> Any:
        self._change("create")
        self._bytes.add(path)
        self._undo.append((path.parent, lambda: path.unlink(missing_ok=True)))
        return super().create(path)

    def write(self, file: Any, data: memoryview) -> int:
        if self._dies() and not self.dead:
            file.write(data[: len(data) // 2])
        self._change("write")
        return super().write(file, data)

    def sync(self, file: Any) -> None:
        self._change("sync")
        self._bytes.discard(Path(file.name))

    def rename(self, old: Path, new: Path) -> None:
        self._change("rename")
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
        self._change("unlink")
        before = path.read_bytes()
        super().unlink(path)
        self._undo.append((path.parent, lambda: path.write_bytes(before) if path.parent.exists() else None))

    def make_directory(self, path: Path) -> None:
        self._change("make_directory")
        super().make_directory(path)
        self._undo.append(
            # What is in a folder is lost with its name.
            (path.parent, lambda: shutil.rmtree(path, ignore_errors=True))
        )

    def remove_directory(self, path: Path) -> None:
        self._change("remove_directory")
        super().remove_directory(path)

    def sync_directory(self, path: Path) -> None:
        self._change("sync_directory")
        self._undo = [(folder, undo) for folder, undo in self._undo if folder != path]
