"""Text for people: consoles for stdout and stderr, the log, help texts, and formatting of figures and calls.

rich is imported when something is printed on a terminal, as it takes longer to import than the rest of `iovox --help`.

Invariant: no text from the network reaches a terminal with control characters in it.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import click
from click.exceptions import Exit

from . import DONE

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from iovox_async import Call

#: The width of a console that is not a terminal, so that lines are not broken.
_UNLIMITED = 10_000
#: Control characters but the line break, surrogates, and what changes the direction of the text after it.
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")

#: The console that currently shows a progress bar, if any.
_progress_screens: list[Console] = []
#: What the options --quiet and --no-progress have switched off.
switched_off: set[str] = set()


def _screen(*, stderr: bool) -> Console:
    from rich.console import Console
    from rich.highlighter import NullHighlighter

    width = None if is_terminal("stderr" if stderr else "stdout") or "COLUMNS" in os.environ else _UNLIMITED
    console = Console(stderr=stderr, width=width, highlighter=NullHighlighter(), markup=False, emoji=False)
    console.on_broken_pipe = _exit_quietly  # type: ignore[method-assign] # rich's own exits with code 1
    return console


def _exit_quietly() -> NoReturn:
    """Ends the command when the reader of its output has closed the pipe."""
    discard_stdout()
    raise Exit(DONE)


def stdout_screen() -> Console:
    """The console for results."""
    return _screen(stderr=False)


def stderr_screen() -> Console:
    """The console for everything else; while a progress bar is shown, the one with the bar."""
    return _progress_screens[-1] if _progress_screens else _screen(stderr=True)


@contextlib.contextmanager
def progress_screen() -> Iterator[Console]:
    """A console for a progress bar; notes printed meanwhile appear above the bar."""
    screen = _screen(stderr=True)
    _progress_screens.append(screen)
    try:
        yield screen
    finally:
        _progress_screens.remove(screen)


def print_page(page: RenderableType) -> None:
    """Prints a page to stdout; outside a terminal, without the spaces that pad its columns."""
    screen = stdout_screen()
    if is_terminal("stdout"):
        screen.print(page)
        return
    with screen.capture() as capture:
        screen.print(page)
    print("\n".join(map(str.rstrip, capture.get().splitlines())))


def is_terminal(name: str) -> bool:
    """Whether "stdin", "stdout" or "stderr" is a terminal."""
    try:
        return bool(getattr(sys, name).isatty())
    except (AttributeError, ValueError):  # None, or closed
        return False


def prepare_streams() -> None:
    """Makes stdout and stderr usable: they replace what they cannot encode, and a closed one is opened.

    A closed stdout refuses every write, so that no result is lost in silence; a closed stderr discards everything.
    """
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            # The descriptor is taken, so that no socket gets its number.
            null = os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_WRONLY)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8", closefd=False))
        stream = getattr(sys, name)
        if name == "stdout" and isinstance(getattr(stream, "buffer", None), io.RawIOBase):
            # PYTHONUNBUFFERED: Python drops in silence what a nearly full disk or a non-blocking pipe does not take at once.
            stream = sys.stdout = os.fdopen(stream.fileno(), "w", encoding=stream.encoding, closefd=False)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def discard_stdout() -> None:
    """Redirects stdout to the null device, so that the interpreter's last flush raises nothing."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # not a real stdout, as in a test
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def print_note(text: str, *, style: str = "") -> None:
    """Prints a note to stderr, unless --quiet is given.

    Args:
        text: the note; a terminal wraps it between words, anything else gets one line.
        style: its style on a terminal.
    """
    if "notes" not in switched_off:
        print_warning(text, style=style)


def print_warning(text: str, *, style: str = "", command: str = "") -> None:
    """Prints a note about something that has gone wrong, also with --quiet.

    Args:
        text: as for `print_note`.
        style: as for `print_note`.
        command: a command to copy, after the text. On a terminal it has a line of its own and is not wrapped, because the
            line breaks would be copied with it.
    """
    if command and not is_terminal("stderr"):
        text, command = f"{text} {command}", ""
    _print_wrapped((escape_controls(text), style))
    if command:
        stderr_screen().print(escape_controls(command), soft_wrap=True)


def return_to_line_start() -> None:
    """Moves the cursor to the start of the line, so that the next note overwrites the ^C that a terminal shows."""
    if is_terminal("stderr"):
        sys.stderr.write("\r")


def print_error(text: str) -> None:
    """Prints an error to stderr."""
    _print_wrapped(("Error: ", "bold red"), (escape_controls(text), ""))


def _print_wrapped(*parts: tuple[str, str]) -> None:
    if not is_terminal("stderr") and not _progress_screens:
        click.echo("".join(text for text, _ in parts), err=True)
        return
    from rich.text import Text

    stderr_screen().print(Text.assemble(*parts), soft_wrap=not is_terminal("stderr"))


def start_log(level: str) -> None:
    """Shows the package's own log from `level` on, but not httpx's, whose lines contain full URLs."""
    import logging

    class LogHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                # A log that nobody watches is read later.
                time_stamp = "" if is_terminal("stderr") else time.strftime("%Y-%m-%d %H:%M:%S%z ")
                print_warning(f"{time_stamp}{record.levelname.lower()}: {self.format(record)}", style="dim")
            except Exception:  # noqa: BLE001 - as in every handler of logging
                self.handleError(record)

    logger = logging.getLogger("iovox_async")
    others = [handler for handler in logger.handlers if type(handler).__module__ != __name__]
    logger.handlers = [*others, LogHandler()]
    logger.setLevel(level.upper())


def with_examples(text: str, *examples: tuple[str, str]) -> str:
    """A help text followed by examples, each a comment and a command."""
    lines = [f"[dim]# {_escape(comment)}[/dim]\n[bold]{_escape(line)}[/bold]" for comment, line in examples]
    # \b keeps click from joining the lines after it.
    return "\n".join([f"{_escape(inspect.cleandoc(text))}\n\n\b", *lines])


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def without_markup(text: str) -> str:
    """A help text without its markup."""
    return re.sub(r"\[/?(?:bold|dim)\]|\\(?=\[)", "", text)


def escape_controls(text: str) -> str:
    """The text with control and direction characters replaced; line breaks are kept."""
    return _CONTROLS.sub("\ufffd", text)


def format_duration(seconds: float) -> str:
    """A duration: `02:05`, `1:02:05`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def format_call(call: Call) -> str:
    """A call as one line: `2024-02-26 04:39:59  ANSWERED  02:05  4475... > 4412... > 4420...  Brighton`.

    Fields that were not requested are left out. Time, result, duration and three numbers fit 80 columns.
    """
    numbers = [number for number in (call.call_origin, call.iovox_number, call.call_destination) if number]
    outcome = [
        f"{call.call_result:<9}" if call.call_result is not None else "",
        f"{format_duration(call.talk_time.total_seconds()):>5}" if call.talk_time is not None else "",
    ]
    columns = [
        f"{call.call_start:%Y-%m-%d %H:%M:%S}" if call.call_start is not None else "",
        " ".join(outcome),
        " > ".join(numbers),
        call.node_name or "",
        f"({len(call.transcriptions[0].phrases)} phrases)" if call.transcriptions else "",
        " ".join(f"#{tag.text}" for tag in call.tags if tag.text),
    ]
    line = "  ".join(column for column in columns if column.strip())
    return (line or f"call {call.id}").rstrip().replace("\n", " ")
