"""Where data goes: stdout, or a file that is written whole or not at all.

The law of this room: what `write` has returned from is out, and a file appears under its name only when all of it is
on the disk.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click

from .threads import in_thread

__all__ = ["Output", "open_output"]


class Output:
    """A place for bytes; an async context manager that commits at its end, and discards after an error."""

    #: Whether what was written stays when the rest fails, so that one can go on from there.
    keeps_parts = True

    def __init__(self, name: str) -> None:
        #: What it is called in messages.
        self.name = name
        #: Writes that ended; one that was cancelled may have.
        self.writes: int = 0
        self._raw: Any = None

    async def write(self, data: bytes) -> None:
        """Writes all of it.

        Raises:
            BrokenPipeError: the reader has left.
            click.ClickException: it cannot be written, and why.
        """
        try:
            await in_thread(self._write, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._cannot(error) from error

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            written = self._raw.write(left)
            if written is None:  # somebody made it non-blocking, and it is full
                time.sleep(0.01)
            else:
                left = left[written:]
        self.writes += 1

    def _cannot(self, error: OSError) -> click.ClickException:
        return click.ClickException(f"Cannot write {self.name}: {error.strerror or error}.")

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except OSError as error:
            raise self._cannot(error) from error
        return self

    async def _open(self) -> None:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def open_output(path: str | None) -> Output:
    """The output of `-o`: stdout for None and `-`; what is no regular file as it is; else a whole file."""
    if path is None or path == "-":
        return Stdout("stdout")
    # Through links, so that the file is replaced and the link stays.
    real = Path(path).resolve()
    try:
        mode = real.stat().st_mode
    except OSError:
        return WholeFile(path, real)
    if stat.S_ISREG(mode):
        return WholeFile(path, real, stat.S_IMODE(mode))
    if stat.S_ISDIR(mode):
        raise click.UsageError(f"-o {path} is a folder; name a file.", click.get_current_context(silent=True))
    return InPlace(path)


class Stdout(Output):
    """The process's stdout, past Python's buffer, so that nothing is left to write at the end of the process."""

    async def _open(self) -> None:
        sys.stdout.flush()
        self._raw = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)


class InPlace(Output):
    """What is no regular file, such as a named pipe or /dev/null."""

    async def _open(self) -> None:
        # To open a named pipe waits for its reader.
        self._raw = await in_thread(open, self.name, "wb", 0)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._raw.close()


class WholeFile(Output):
    """A file that gets its name when all of it is on the disk; until then it has another one beside it."""

    keeps_parts = False

    def __init__(self, name: str, path: Path, mode: int | None = None) -> None:
        super().__init__(name)
        self._path = path
        self._mode = mode
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")

    async def _open(self) -> None:
        self._raw = self._part.open("xb", buffering=0)
        if self._mode is not None:
            self._part.chmod(self._mode)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await in_thread(self._commit)
        except OSError as failure:
            raise self._cannot(failure) from failure
        finally:
            with contextlib.suppress(OSError):
                self._raw.close()
            # Nothing is there any more once it has its name.
            with contextlib.suppress(OSError):
                self._part.unlink()

    def _commit(self) -> None:
        os.fsync(self._raw.fileno())
        self._raw.close()
        self._part.replace(self._path)
        if os.name != "nt":  # which cannot open folders
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
