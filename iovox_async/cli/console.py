"""What is told to people: consoles, the log, numbers in words.

The law of this room: stderr is for people and stdout for data, and nothing that came over the network reaches a
terminal with control characters in it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, NoReturn

from click.exceptions import Exit
from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.highlighter import NullHighlighter
from rich.text import Text

__all__ = [
    "Screen",
    "at_terminal",
    "clean",
    "complain",
    "drawing",
    "err",
    "fresh_line",
    "hush",
    "note",
    "number",
    "out",
    "show_page",
    "size",
    "span",
    "start_log",
]

#: Columns of a console that is no terminal: whoever reads a pipe folds lines as they like.
_ENDLESS = 10_000
#: Characters that turn the direction of the text that follows them.
_TURNS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


#: The console that a bar is being drawn on, if any.
_drawn_on: list[Screen] = []


class Screen(Console):
    """A console that ends quietly when its reader has left."""

    def on_broken_pipe(self) -> NoReturn:
        """Nobody reads any more: that is no failure."""
        hush()
        raise Exit(0)


def _screen(*, stderr: bool) -> Screen:
    stream = sys.stderr if stderr else sys.stdout
    width = None if _is_terminal(stream) or "COLUMNS" in os.environ else _ENDLESS
    return Screen(stderr=stderr, width=width, highlighter=NullHighlighter(), markup=False, emoji=False)


def out() -> Screen:
    """The console for answers."""
    return _screen(stderr=False)


def err() -> Screen:
    """The console for everything else; the one with a bar on it, as long as there is one."""
    return _drawn_on[-1] if _drawn_on else _screen(stderr=True)


@contextlib.contextmanager
def drawing() -> Iterator[Screen]:
    """A console to draw a bar on; what is noted meanwhile goes above the bar."""
    screen = _screen(stderr=True)
    _drawn_on.append(screen)
    try:
        yield screen
    finally:
        _drawn_on.remove(screen)


def show_page(page: RenderableType) -> None:
    """A page to stdout; where it is no terminal, without the blanks that fill its columns."""
    screen = out()
    if at_terminal("stdout"):
        screen.print(page)
        return
    with screen.capture() as taken:
        screen.print(page)
    for line in taken.get().splitlines():
        screen.print(line.rstrip(), soft_wrap=True)


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # none at all, or closed
        return False


def at_terminal(name: str) -> bool:
    """Whether "stdin", "stdout" or "stderr" is a terminal."""
    return _is_terminal(getattr(sys, name))


def hush() -> None:
    """Lets stdout lead nowhere, so that its end is quiet too."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):  # no real stdout, as in a test
        pass


def note(text: str, *, style: str = "", line: str = "") -> None:
    """Something for people, to stderr.

    Args:
        text: what is told; a terminal gets it broken between words, all else in one line.
        style: how it looks at a terminal.
        line: a line to copy, behind it. At a terminal it stands alone, and no word of it is broken by a line break that
            would be copied too.
    """
    if line and not at_terminal("stderr"):
        text, line = f"{text} {line}", ""
    _tell(Text(clean(text), style))
    if line:
        err().print(Text(clean(line)), soft_wrap=True)


def fresh_line() -> None:
    """What is told next begins its line, over the ^C that a terminal shows where it was typed."""
    if at_terminal("stderr"):
        sys.stderr.write("\r")


def complain(text: str) -> None:
    """What went wrong, to stderr."""
    _tell(Text.assemble(("Error: ", "bold red"), clean(text)))


def _tell(text: Text) -> None:
    err().print(text, soft_wrap=not at_terminal("stderr"))


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            note(f"{record.levelname.lower()}: {self.format(record)}", style="dim")
        except Exception:  # noqa: BLE001 - as every handler of logging
            self.handleError(record)


def start_log(level: str) -> None:
    """Shows the package's own log from `level` on. httpx's stays away: its lines hold whole addresses."""
    logger = logging.getLogger("iovox_async")
    for old in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
        logger.removeHandler(old)
    logger.addHandler(_Handler())
    logger.setLevel(level.upper())


def clean(text: str) -> str:
    """A text that a terminal shows and never obeys; line breaks stay."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    obeyed = unicodedata.category(character) in {"Cc", "Cs"} or unicodedata.bidirectional(character) in _TURNS
    return "\ufffd" if obeyed and character != "\n" else character


def number(value: float, one: str = "", many: str = "") -> str:
    """A whole number as people write it, with its noun: `1 retry`, `12,500 calls`."""
    told = f"{value:,.0f}"
    return f"{told} {one if value == 1 else many}" if one else told


def size(octets: float) -> str:
    """Bytes as people write them: `31.2 MB`."""
    return decimal(int(octets))


def span(seconds: float) -> str:
    """A duration: `02:05`, `1:02:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
