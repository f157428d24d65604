"""File systems for tests: one that does not wait for the disk, and one that fails at a chosen change."""

import os

from iovox_async.backfill._storage_local import FileSystem


class KilledError(BaseException):
    """Stands for the end of the process."""


class UnsyncedFileSystem(FileSystem):
    """A file system that does not wait for the disk."""

    def sync(self, file):
        pass

    def sync_directory(self, path):
        pass


class BrokenFileSystem(UnsyncedFileSystem):
    """A file system that fails at the n-th change, and can undo what a power cut would lose.

    A power cut loses what was not synced: the bytes of files, and the names in directories.

    Args:
        fail_at: which change fails, from 1.
        failure: "kill", "power", or the number of an OSError.
        lasting: every later change fails too, as on a full disk.
    """

    def __init__(self, fail_at, failure, *, lasting=False):
        self.fail_at = fail_at
        self.failure = failure
        self.lasting = lasting
        self.changes = 0
        self.dead = False
        self.unsynced_files = set()
        self.unsynced_names = {}

    def _count(self):
        """Counts a change, or raises instead."""
        if self.dead:
            raise KilledError
        self.changes += 1
        if self.changes < self.fail_at or (self.changes > self.fail_at and not self.lasting):
            return
        if isinstance(self.failure, int):
            raise OSError(self.failure, os.strerror(self.failure))
        self.dead = True
        if self.failure == "power":
            self._cut_power()
        raise KilledError

    def _cut_power(self):
        undo_functions = [undo for functions in self.unsynced_names.values() for undo in functions]
        for undo in reversed(undo_functions):
            undo()
        for path in self.unsynced_files:
            if path.exists():
                path.write_bytes(b"\0" * (path.stat().st_size // 2))

    def _add_undo(self, directory, undo):
        self.unsynced_names.setdefault(directory, []).append(undo)

    def create(self, path):
        self._count()
        self.unsynced_files.add(path)
        self._add_undo(path.parent, lambda: path.unlink(missing_ok=True))
        return super().create(path)

    def write(self, file, data):
        if self.changes + 1 == self.fail_at and not self.dead:
            file.write(data[: len(data) // 2])  # an incomplete write
        self._count()
        return super().write(file, data)

    def sync(self, file):
        self._count()
        super().sync(file)
        self.unsynced_files = {path for path in self.unsynced_files if str(path) != file.name}

    def rename(self, old, new):
        self._count()
        before = new.read_bytes() if new.exists() else None

        def undo():
            new.unlink(missing_ok=True)
            if before is not None:
                new.write_bytes(before)

        super().rename(old, new)
        self.unsynced_files = {new if path == old else path for path in self.unsynced_files}
        self._add_undo(new.parent, undo)

    def unlink(self, path):
        self._count()
        before = path.read_bytes()
        super().unlink(path)
        self._add_undo(path.parent, lambda: path.parent.exists() and path.write_bytes(before))

    def make_directory(self, path):
        self._count()
        super().make_directory(path)
        self._add_undo(path.parent, lambda: path.rmdir() if not any(path.iterdir()) else None)

    def remove_directory(self, path):
        self._count()
        super().remove_directory(path)

    def sync_directory(self, path):
        self._count()
        super().sync_directory(path)
        self.unsynced_names.pop(path, None)
