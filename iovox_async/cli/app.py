"""The command's root: its commands, its version, its log.

The law of this room: it lists the commands and knows none of them, and loads the one that is called. A new command is one
module and one line here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator
from typing import Any

import rich_click as click
from click.exceptions import Exit

from . import DONE, INTERRUPTED
from .help_text import CONFIG, with_examples

__all__ = ["iovox"]

#: Each command, and the sentence that its own help begins with; in the order in which a newcomer should meet them.
COMMANDS = {
    "demo": "Streams a quarter's calls off a sandbox on this machine, failures included, and shows what it took.",
    "calls": "The calls of a range, each exactly once, one JSON document a line.",
    "backfill": "Years of calls into a folder, one file a day or month, through any crash.",
    "follow": "New calls as they come, until Ctrl-C; each once.",
    "show": "One call, readable: who, when, how long, the dialogue, tags, keywords, tasks, comments, categories.",
    "fields": "The 56 response fields: name, type, where each stands in the answer, and its preset.",
    "sandbox": "The endpoint in miniature on this machine, until Ctrl-C: real HTTP, invented calls, faults on request.",
}
LEVELS = ("debug", "info", "warning", "error")

EPILOG = """\
[bold]Credentials[/bold] are read from IOVOX_USERNAME and IOVOX_SECURE_KEY, and asked for at a terminal where they are
missing; no option takes the key. IOVOX_URL points to another address than the service's own.

[bold]Exit codes[/bold]: 0 done, 1 failed, 2 usage, 3 unfinished but resumable, 130 interrupted.

[bold]Completion[/bold] for bash (or zsh, fish): eval "$(_IOVOX_COMPLETE=bash_source iovox)"
"""


def _show_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            known = version("iovox-async")
        except PackageNotFoundError:  # run from a checkout that nobody installed
            known = "(not installed)"
        click.echo(f"iovox {known}")
        ctx.exit()


class Later(click.RichCommand):
    """A command that is loaded when it is called; its sentence is all that a list of the commands needs."""

    @functools.cached_property
    def loaded(self) -> click.Command:
        """The command itself."""
        command: click.Command = getattr(
            importlib.import_module(f".commands.{self.name}", __package__), str(self.name)
        )
        return command

    @property
    def params(self) -> list[click.Parameter]:
        """Its options and arguments, for whoever looks into it."""
        return self.loaded.params

    @params.setter
    def params(self, _: Any) -> None:
        """Click sets them to none; the command has its own."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        return self.loaded.make_context(*args, **extra)


class Root(click.RichGroup):
    """The group; it gives interruptions and readers that leave their exit codes, wherever they come."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _ended():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _ended():
            return super().invoke(ctx)


@contextlib.contextmanager
def _ended() -> Iterator[None]:
    """An interruption, or a reader that left, becomes an exit code."""
    try:
        yield
    except BrokenPipeError:
        from .console import hush

        hush()
        raise Exit(DONE) from None
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        raise Exit(INTERRUPTED) from None


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    help=with_examples(
        "Call records of an iovox account: every call of a date range, exactly once.",
        ("see it work, without an account", "iovox demo"),
        (
            "a quarter's answered calls, one JSON document a line",
            "iovox calls 2024-01-01 2024-03-31 --call-result ANSWERED > calls.jsonl",
        ),
        ("new calls as they come", "iovox follow"),
    ),
    epilog=EPILOG,
)
@click.rich_config(help_config=CONFIG)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="warning",
    envvar="IOVOX_LOG",
    show_envvar=True,
    help="What is told on stderr of the work underneath: retries at info, pages at debug.",
)
def iovox(log_level: str) -> None:
    """The root of all commands."""
    from .console import start_log

    start_log(log_level)


for _name, _sentence in COMMANDS.items():
    iovox.add_command(Later(name=_name, help=_sentence))
