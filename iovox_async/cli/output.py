"""Writes data to stdout or to a file, without blocking the event loop.

Invariants:

- When `write` has returned, the operating system has the data.
- A regular file gets its name only when all of it is on the disk. What an interrupted run has written is kept beside it.
"""

from __future__ import annotations

import abc
import asyncio
import concurrent.futures
import contextlib
import io
import os
import re
import shlex
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path, PurePath
from typing import Any, Final, ParamSpec, Self, TypeVar

import click
import msgspec

from iovox_async._platform import lock_file, replace_file, sync_directory, sync_file

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that a write may still take after the program was asked to exit.
GRACE = 1.0
_COMPRESSIONS: Final = (".gz", ".zst")
_ENDINGS: Final = ("parquet", "arrow", "csv", "tsv", "jsonl")
#: As many symbolic links as Linux follows.
_MAX_LINKS = 40


async def run_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function in a daemon thread of its own.

    A write to a pipe may block for ever; a daemon thread blocks neither the event loop nor the exit of the process.
    After a cancellation it waits `GRACE` seconds for the call to finish, then raises the cancellation in any case; the
    function itself must record whether it has finished.
    """
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    outcome.set_running_or_notify_cancel()  # from here on, only the thread sets it

    def call() -> None:
        try:
            outcome.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - it is raised where the future is awaited
            outcome.set_exception(error)

    future = asyncio.wrap_future(outcome)
    threading.Thread(target=call, name="iovox-write", daemon=True).start()
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future], timeout=GRACE)
        if future.done():
            future.exception()  # marks it as retrieved
        else:
            future.cancel()
        raise


@contextlib.asynccontextmanager
async def background_task(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs a coroutine as a task while the block runs, and cancels it at its end."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Output(abc.ABC):
    """A destination for bytes; an async context manager that commits at its end and discards after an error."""

    #: Whether data that was written stays after a failure, so that a later run can continue.
    keeps_partial_data = True

    def __init__(self, name: str) -> None:
        #: Its name in messages.
        self.name = name
        #: Writes that have finished, including cancelled ones that finished all the same.
        self.writes: int = 0
        self._file: Any = None

    async def write(self, data: bytes) -> None:
        """Writes all of the data.

        Raises:
            BrokenPipeError: the reader has closed the pipe.
            click.ClickException: the operating system refuses; the message says why.
        """
        with self._os_errors():
            await run_in_thread(self._write, data)

    def _write(self, data: bytes) -> None:
        remaining = memoryview(data)
        while remaining:
            written = self._file.write(remaining)
            if written is None:  # the pipe is non-blocking, and full
                time.sleep(0.01)
            else:
                remaining = remaining[written:]
        self.writes += 1

    @contextlib.contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise click.ClickException(f"Cannot write {self.name}: {error.strerror or error}.") from error

    async def __aenter__(self) -> Self:
        with self._os_errors():
            await self._open()
        return self

    @abc.abstractmethod
    async def _open(self) -> None:
        """Opens the file."""

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._os_errors():
            await self._close(commit=kind is None)

    async def _close(self, *, commit: bool) -> None:  # noqa: B027 - stdout stays open
        pass


def open_output(path: str | None) -> Output:
    """The output for `-o`: stdout for None and `-`, a special file as it is, else a file that is replaced atomically."""
    if path is None or path == "-":
        return _Stdout("stdout")
    if (descriptor := _find_descriptor(path)) is not None:
        return _SpecialFile(path, descriptor)
    # Through symbolic links, so that the target is replaced and the link stays.
    target = Path(os.path.realpath(path))
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return FileOutput(path, target)
    if stat.S_ISREG(mode):
        return FileOutput(path, target, stat.S_IMODE(mode))
    if stat.S_ISDIR(mode):
        raise click.UsageError(f"-o {shlex.quote(path)} is a directory. Name a file.")
    return _SpecialFile(path)


def format_of_name(path: str, form: str | None) -> tuple[str | None, str]:
    """The format that the ending of a file name selects, and its compression: `("csv", ".gz")`.

    Args:
        path: the name.
        form: the value of `--format`, which takes precedence over the ending.

    Raises:
        click.UsageError: the ending selects no format, and there is no `--format`.
    """
    name = PurePath(path).name.lower()
    compression = next((ending for ending in _COMPRESSIONS if name.endswith(ending)), "")
    stem, dot, ending = name.removesuffix(compression).rpartition(".")
    if ending in _ENDINGS and dot:
        return form or ending, compression
    if form is None and ((dot and stem) or compression):
        raise click.UsageError(
            f"-o {path}: the ending of FILE must be {', '.join(f'.{name}' for name in _ENDINGS)}, each also with .gz or .zst, or "
            "give --format."
        )
    return form, compression


def _find_descriptor(path: str) -> int | None:
    """The descriptor of this process that a path names, such as 1 for /dev/stdout and 63 for /dev/fd/63; else None.

    Behind it may be a regular file (`>> log`), which must neither be replaced nor truncated.
    """
    current = Path(path).absolute()
    for _ in range(_MAX_LINKS):
        current = Path(os.path.realpath(current.parent), current.name)
        if match := re.fullmatch(rf"(?:/dev|/proc/{os.getpid()}(?:/task/\d+)?)/fd/(\d+)", str(current)):
            return int(match[1])
        try:
            current = current.parent / current.readlink()
        except OSError:  # no link, or no such file
            break
    return None


class _Stdout(Output):
    """The process's stdout without Python's buffer, so that nothing is left to write when the process exits."""

    async def _open(self) -> None:
        sys.stdout.flush()
        self._file = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)


class _SpecialFile(Output):
    """An open descriptor, or anything but a regular file, such as a named pipe or /dev/null. It is written in place."""

    def __init__(self, name: str, descriptor: int | None = None) -> None:
        super().__init__(name)
        self._descriptor = descriptor

    async def _open(self) -> None:
        if self._descriptor is not None:
            sys.stdout.flush()
            # A copy shares the position in the file with the original, so that both append.
            self._file = io.FileIO(os.dup(self._descriptor), "w")
        else:
            # Opening a named pipe waits for its reader.
            self._file = await run_in_thread(open, self.name, "wb", 0)

    async def _close(self, *, commit: bool) -> None:  # noqa: ARG002 - it is written in place
        with contextlib.suppress(OSError):
            self._file.close()


class FileOutput(Output):
    """A regular file. It is written under a temporary name in the same directory and renamed at the end.

    What an interrupted run has written can be continued: its state, a file of its own, names the temporary file and the bytes in it
    that count. A state is replaced at once, and only by one of a run that has written more, so that nothing kept is lost, however
    often a run is interrupted or killed.
    """

    keeps_partial_data = False

    def __init__(self, name: str, path: Path, mode: int | None = None) -> None:
        super().__init__(name)
        self._path = path
        self._mode = mode
        # A random part, so that two processes that write the same file do not write the same temporary one.
        self._temporary = self._new_path()
        self._state_path = path.with_name(f".{path.name}.part.json")
        self._state: dict[str, Any] = {}
        #: The file of an interrupted run that this one continues, and whether it does so by appending to it.
        self.unfinished: Path | None = None
        self._appends = False

    def _new_path(self) -> Path:
        return self._path.with_name(f".{self._path.name}.{os.urandom(4).hex()}.part")

    def _read_state(self) -> dict[str, Any]:
        """The state on the disk; empty if there is none whose file is there."""
        try:
            state: dict[str, Any] = msgspec.json.decode(self._state_path.read_bytes())
            path = self._path.with_name(state["file"])
            if path.parent == self._path.parent and path.stat().st_size >= state["bytes"]:
                return state
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
            pass
        return {}

    def load_state(self) -> dict[str, Any]:
        """The state that `keep` was called with.

        Raises:
            click.UsageError: there is nothing to continue.
        """
        self._state = self._read_state()
        if not self._state:
            raise click.UsageError(
                f"--resume: there is no unfinished {self.name} to continue. Leave --resume out."
            )
        return self._state

    def continue_unfinished(self, *, append: bool) -> None:
        """Continues the file of the state that was loaded: by appending to it, or else the caller reads and writes it again."""
        self.unfinished, self._appends = self._path.with_name(self._state["file"]), append

    async def _open(self) -> None:
        if self._appends and self.unfinished is not None:
            self._temporary = self.unfinished
            self._file = self._temporary.open("r+b", buffering=0)
            self._lock_unfinished()
            # What a killed run has written after its state does not count.
            self._file.truncate(self._state["bytes"])
            self._file.seek(0, os.SEEK_END)
        else:
            self._file = self._temporary.open("xb", buffering=0)
        if self._mode is not None:
            self._temporary.chmod(self._mode)

    def _lock_unfinished(self) -> None:
        try:
            lock_file(self._file)
            is_ours = self._read_state() == self._state
        except (BlockingIOError, PermissionError):
            is_ours = False
        if not is_ours:
            self._file.close()
            raise click.ClickException(
                f"Another run continues the unfinished {self.name}. Wait until it ends."
            )

    def keep(self, state: dict[str, Any]) -> bool:
        """Keeps what was written so far, so that a later run can continue; returns whether that is possible."""
        with contextlib.suppress(OSError):
            state |= {"file": self._temporary.name, "bytes": self._temporary.stat().st_size}
            old, draft = self._read_state(), self._new_path()
            try:
                draft.write_bytes(msgspec.json.encode(state))
                replace_file(draft, self._state_path)
            except OSError:
                draft.unlink(missing_ok=True)
                raise
            self._state = state
            self._file.close()
            self._remove_file_of(old)
            return True
        return False

    def _remove_file_of(self, state: dict[str, Any]) -> None:
        """Removes the temporary file of an earlier state."""
        if state and state["file"] != self._temporary.name:
            with contextlib.suppress(OSError):
                self._path.with_name(state["file"]).unlink()

    async def _close(self, *, commit: bool) -> None:
        try:
            if commit:
                await run_in_thread(self._commit)
        finally:
            with contextlib.suppress(OSError):
                self._file.close()
            # After the rename there is no temporary file any more.
            if self._state.get("file") != self._temporary.name:
                with contextlib.suppress(OSError):
                    self._temporary.unlink()

    def _commit(self) -> None:
        sync_file(self._file.fileno())
        self._file.close()
        state = self._read_state()
        replace_file(self._temporary, self._path)
        sync_directory(self._path.parent)
        with contextlib.suppress(OSError):
            self._state_path.unlink()
        self._remove_file_of(state)
