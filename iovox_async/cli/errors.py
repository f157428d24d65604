"""Runs a command's coroutine, and turns signals and errors into messages and exit codes.

Invariants:

- SIGINT, SIGTERM and SIGHUP all cancel the command, so that it can clean up.
- No error of the package or of the network reaches the user as a traceback.
- Messages name what was typed (`START`, `--since`, `IOVOX_URL`), not the arguments of Python functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import rich_click as click
from click.exceptions import Exit

from iovox_async import ConfigurationError, IovoxError, QueryError

from . import FAILED, INTERRUPTED
from .console import print_error

T = TypeVar("T")

#: Parameters of the package whose options have another name: the candidates, of which a command has at most one.
_OPTION_NAMES = {
    "start": ("start", "since"),
    "start_date": ("start", "since"),
    "end_date": ("end",),
    "id": ("ids", "id"),
    "directory": ("out",),
    "response_fields": ("fields",),
    "verify": ("ca_bundle",),
}
_VARIABLES = {"base_url": "IOVOX_URL", "username": "IOVOX_USERNAME", "secure_key": "IOVOX_SECURE_KEY"}
#: Arguments as hints spell them for Python, and what is typed instead.
_HINT_SPELLINGS = (
    ("Pass the .position of a stream or of an error.", "Pass the position that an earlier run printed."),
    (" to AsyncInsights", ""),
    (", or pass a date or datetime", ""),
    ("Pass a datetime with tzinfo for a date with a time zone.", "Write the account's local time."),
    ("Pass a tzinfo or an IANA name", "Pass an IANA name"),
    *((f"Pass {name}= or set", "Set") for name in _VARIABLES),
    ("base_url= or IOVOX_URL", "IOVOX_URL"),
    ("base_url", "IOVOX_URL"),
    ("(repair=True, --repair)", "(--repair)"),
    ('on_error="skip"', "--on-error skip"),
    ('paging="pages"', "--paging pages"),
    ('paging="windows"', "--paging windows"),
    ('verify="system"', "--ca-bundle system"),
    ("verify=", "--ca-bundle"),
    ("pass allow_http=True or set", "set"),
    *((f"{name}=", "--" + name.replace("_", "-")) for name in ("timezone", "timeout", "proxy", "page_size")),
)


def format_error(error: IovoxError | click.ClickException) -> str:
    """An error's message and hint in the words of this command line."""
    hint = getattr(error, "hint", None) or ""
    message = str(error).removesuffix(hint)
    if isinstance(error, QueryError | ConfigurationError) and error.parameter:
        problem = message.removeprefix(error.parameter)
        for name in ("start_date", "end_date"):
            problem = problem.replace(name, _typed_name(name))
        message = _typed_name(error.parameter) + problem
    for argument, option in _HINT_SPELLINGS:
        hint = hint.replace(argument, option)
    return message + hint


def _typed_name(parameter: str) -> str:
    """What the user types for a parameter of the package in the command that is running."""
    names = _OPTION_NAMES.get(parameter, (parameter,))
    ctx = click.get_current_context(silent=True)
    for option in ctx.command.params if ctx else ():
        if option.name in names:
            return option.opts[0] if isinstance(option, click.Option) else option.name.upper()
    if parameter.isupper():  # a variable of the environment
        return parameter
    return _VARIABLES.get(parameter, "--" + names[0].replace("_", "-"))


def run(command: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a command's coroutine in an event loop of its own.

    Raises:
        Exit: it was interrupted or failed; the error has been printed.
        click.UsageError: an argument is wrong.
    """
    try:
        return asyncio.run(_with_signals(command))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise Exit(INTERRUPTED) from None
    except (QueryError, ConfigurationError) as error:
        raise click.UsageError(format_error(error), click.get_current_context(silent=True)) from None
    except click.UsageError:
        raise
    except (IovoxError, click.ClickException) as error:
        print_error(format_error(error))
        raise Exit(FAILED) from None


async def _with_signals(command: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Lets SIGTERM and SIGHUP cancel the task, as asyncio does for SIGINT."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # An ignored signal (nohup) stays ignored. Outside the main thread no handler can be installed.
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                loop.add_signal_handler(number, task.cancel)
    return await command()
