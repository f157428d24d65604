"""The root command `iovox`: the list of commands and `--version`.

Each command is a module of `commands` and is imported only when it is called; `COMMANDS` holds what `iovox --help` needs.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import click
from click.exceptions import Exit, NoArgsIsHelpError

from iovox_async import __version__

from . import DONE, EXIT_CODES, FAILED, INTERRUPTED
from .base import BaseCommand
from .commands import COMMANDS
from .console import (
    discard_stdout,
    is_terminal,
    prepare_streams,
    print_error,
    switched_off,
    with_examples,
)

EPILOG = f"""\
[bold]Credentials[/bold] come from IOVOX_USERNAME and IOVOX_SECURE_KEY, or from a profile (iovox help environment). If one is
missing, a terminal prompts for it; no option takes the key. IOVOX_URL sets another base URL than the service's own.

[bold]Dates[/bold] are written as 2024-01-31, yesterday, 7d, this-week, last-month, 2024-02 (iovox help dates).

[bold]Exit codes[/bold]: {", ".join(f"{code} {meaning.partition(',')[0].partition(':')[0]}" for code, meaning in EXIT_CODES.items())}.
"""


def load_command(name: str) -> click.Command:
    """The command, whose module is imported now."""
    command: click.Command = getattr(importlib.import_module(f".commands.{name}", __package__), name)
    return command


class RootCommand(BaseCommand, click.Group):
    """The group of all commands; turns usage errors, interruptions, closed pipes and failed writes into exit codes."""

    further_panels: ClassVar[Mapping[str, list[tuple[str, str]]]] = {"Commands": list(COMMANDS.items())}

    def main(self, *args: Any, **extra: Any) -> Any:
        prepare_streams()
        switched_off.clear()
        return super().main(*args, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load_command(str(command.name)), rest

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _exit_codes():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _exit_codes():
            return super().invoke(ctx)


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here its errors are caught; at the exit of the interpreter they are not
    except BrokenPipeError:  # the reader of a pipe (`| head`) has closed it: not a failure
        discard_stdout()
        raise Exit(DONE) from None
    except NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        raise Exit(error.exit_code) from None
    except click.UsageError as error:
        from .errors import format_error

        print_error(format_error(error))
        if error.ctx is not None and is_terminal("stderr"):
            click.echo(f"See {error.ctx.command_path} --help.", err=True)
        raise Exit(error.exit_code) from None
    except OSError as error:
        discard_stdout()
        with contextlib.suppress(OSError):
            print_error(f"Cannot write {error.filename or 'stdout'}: {error.strerror or error}.")
        raise Exit(FAILED) from None
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        raise Exit(INTERRUPTED) from None


@click.group(
    cls=RootCommand,
    # What `iovox --help` needs of them; `resolve_command` loads the rest.
    commands=[click.Command(name=name, help=text) for name, text in COMMANDS.items()],
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    help=with_examples(
        "Read the call records of an iovox account: every call of a date range, exactly once.",
        ("try it without an account", "iovox demo"),
        (
            "the answered calls of a quarter, one JSON document per line",
            "iovox calls 2024-01-01 2024-03-31 --call-result ANSWERED > calls.jsonl",
        ),
        ("new calls as they arrive", "iovox follow"),
    ),
    epilog=EPILOG,
)
@click.version_option(__version__, message="iovox %(version)s", help="Show the version.")
def iovox() -> None:
    """The root command."""
