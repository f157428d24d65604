"""From a coroutine to an exit code.

The law of this room: a command runs in one loop, ends cleanly on every signal that asks it to, and no failure of the
package or of the network reaches the user as a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import rich_click as click
from click.exceptions import Exit

from iovox_async import ConfigurationError, IovoxError, QueryError

from . import DONE, FAILED, INTERRUPTED, UNFINISHED, USAGE
from .console import complain, hush

__all__ = ["DONE", "FAILED", "INTERRUPTED", "UNFINISHED", "USAGE", "in_options", "run"]

T = TypeVar("T")

#: A parameter of the package, and what the commands call it.
_NAMES = {"start": ("start", "since"), "start_date": ("start", "since"), "end_date": ("end",)}
#: Names of parameters that differ from their options by more than dashes.
_OPTIONS = {
    "response_fields": "--fields",
    "max_calls": "--max",
    "base_url": "IOVOX_URL",
    "username": "IOVOX_USERNAME",
    "secure_key": "IOVOX_SECURE_KEY",
}
#: A cure in the words of Python, as messages give it: on_error="skip", timezone=, timezone="Europe/London".
_CURE = re.compile(r'\b(on_error|paging|page_size|timezone|proxy|concurrency|timeout)=(?:"([^"]*)")?')


#: Words of Python beside those of the command line, which are enough here.
_BESIDE = re.compile(r"\bbase_url= or (?=IOVOX_)| \(repair=True\)")


def in_options(error: IovoxError | click.ClickException) -> str:
    """An error's message in the words of this command line."""
    if isinstance(error, QueryError | ConfigurationError) and error.parameter:
        rest = re.sub("start_date", lambda _: _option("start_date"), error.problem)
        told = f"{_option(error.parameter)} {rest}" + (f". {error.hint}" if error.hint else "")
    else:
        told = str(error)
    return _CURE.sub(
        lambda cure: f"--{cure[1].replace('_', '-')} {cure[2] or ''}".strip(), _BESIDE.sub("", told)
    )


def _option(name: str) -> str:
    """What is typed for a parameter of the package: START, --start or --since, as the running command has it."""
    ctx = click.get_current_context(silent=True)
    names = _NAMES.get(name, (name,))
    for parameter in ctx.command.params if ctx else ():
        if parameter.name in names:
            return parameter.opts[0] if isinstance(parameter, click.Option) else parameter.name.upper()
    return _OPTIONS.get(name, "--" + names[0].replace("_", "-"))


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine in a loop of its own; what goes wrong becomes a message and an exit code."""
    try:
        return asyncio.run(_watched(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise Exit(INTERRUPTED) from None
    except (QueryError, ConfigurationError) as error:
        raise click.UsageError(in_options(error), click.get_current_context(silent=True)) from None
    except click.UsageError:
        raise
    except (IovoxError, click.ClickException) as error:
        complain(in_options(error))
        raise Exit(FAILED) from None
    except BrokenPipeError:
        # The reader has what it wanted and left.
        hush()
        raise Exit(DONE) from None


async def _watched(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Asyncio turns Ctrl-C into a cancellation; this does the same for the other ways to be asked to end."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # What was set to be ignored (nohup) stays ignored. Outside the main thread signals are someone else's.
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                loop.add_signal_handler(number, task.cancel)
    return await work()
