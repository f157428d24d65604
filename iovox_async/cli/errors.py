"""Runs a command's coroutine, and turns signals and errors into messages and exit codes.

Invariants:

- SIGINT, SIGTERM and SIGHUP (on Windows, SIGBREAK) all cancel the command, so that it can clean up.
- No error of the package or of the network reaches the user as a traceback.
- Messages name what was typed (`START`, `--since`, `IOVOX_URL`), not the arguments of Python functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import click
from click.exceptions import Exit

from iovox_async import AuthenticationError, BackfillLockedError, ConfigurationError, IovoxError, QueryError
from iovox_async._platform import SIGNALS, add_signal_handler
from iovox_async._redaction import redact
from iovox_async._wording import VARIABLES, Wording

from . import CREDENTIALS, FAILED, INTERRUPTED, LOCKED
from .console import print_error, print_warning, return_to_line_start

T = TypeVar("T")

#: Parameters of the package whose options have another name: the candidates, of which a command has at most one.
_OPTION_NAMES = {
    "start_date": ("since", "start_option", "start"),
    "end_date": ("end_option", "end"),
    "id": ("ids", "id"),
    "directory": ("out",),
    "response_fields": ("fields",),
    "verify": ("ca_bundle",),
}


def format_error(error: IovoxError | click.ClickException) -> str:
    """An error's message and hint in the words of the running command."""
    if (
        isinstance(error, click.BadParameter)
        and error.param
        and not isinstance(error, click.MissingParameter)
    ):
        name = error.param.opts[0] if isinstance(error.param, click.Option) else error.param.opts[0].upper()
        # click writes: 'x' is not one of 'a', 'b'.
        refused = re.fullmatch(r"('.*'|\".*\"|\S+) is not (.+?)\.?", error.message, re.DOTALL)
        return f"{name} " + (f"must be {refused[2]}, got {redact(refused[1])}" if refused else error.message)
    if isinstance(error, click.ClickException):
        # click puts each possible value of an argument on a line of its own, after a tab.
        return error.format_message().replace("\n\t", " ")
    hint = error.hint or ""
    message = str(error).removesuffix(hint)
    if isinstance(error, QueryError | ConfigurationError) and error.parameter:
        end = ". " if hint else ""
        message = f"{_typed_name(error.parameter)} {_spelled(error.problem).removesuffix('.')}{end}"
    return message + _spelled(hint)


def _spelled(text: str) -> str:
    return text.spelled(_typed_name) if isinstance(text, Wording) else text


def _typed_name(parameter: str, value: str = "") -> str:
    """What the user types for a parameter of the package in the command that is running."""
    names = _OPTION_NAMES.get(parameter, (parameter,))
    ctx = click.get_current_context(silent=True)
    options = {option.name: option for option in ctx.command.params} if ctx else {}
    for name in names:
        option = options.get(name)
        if isinstance(option, click.Argument):
            return name.upper()
        # Of two forms, the one that was typed.
        if option and (name == names[-1] or (ctx and ctx.params.get(name) is not None)):
            with_value = value and not getattr(option, "is_flag", False)
            return f"{option.opts[0]} {value}" if with_value else option.opts[0]
    if parameter.isupper():  # a variable of the environment
        return parameter
    return VARIABLES.get(parameter, option_name(names[-1]))


def option_name(parameter: str) -> str:
    """The option of a filter or fault; those of other parameters may have other names."""
    return {"ids": "--id", "kinds": "--kind"}.get(parameter, "--" + parameter.replace("_", "-"))


def run(command: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine, which `command` makes in the loop, in an event loop of its own."""
    return asyncio.run(_with_signals(command))


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """Prints what ends a command early, and exits with the code for it.

    Raises:
        Exit: it was interrupted or failed.
        click.UsageError: an argument is wrong.
    """
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        return_to_line_start()
        print_warning("Interrupted.")
        raise Exit(INTERRUPTED) from None
    except (QueryError, ConfigurationError) as error:
        raise click.UsageError(format_error(error)) from None
    except click.UsageError:
        raise
    except (IovoxError, click.ClickException) as error:
        print_error(format_error(error))
        raise Exit(exit_code_of(error)) from None


def exit_code_of(error: Exception) -> int:
    """The exit code of a command that an error has ended."""
    if isinstance(error, AuthenticationError):
        return CREDENTIALS
    return LOCKED if isinstance(error, BackfillLockedError) else FAILED


async def _with_signals(command: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Lets the other signals that end a program cancel the task, as asyncio does for SIGINT."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for name in SIGNALS:
        number = getattr(signal, name, None)
        # An ignored signal (nohup) stays ignored. Outside the main thread no handler can be installed.
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                add_signal_handler(loop, number, task.cancel)
    return await command()
