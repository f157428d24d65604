"""The command's root: its commands, its version, its log.

The law of this room: it lists the commands and knows none of them. A new command is one module and one line here.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import rich_click as click
from click.exceptions import Exit

from .commands.backfill import backfill
from .commands.calls import calls
from .commands.demo import demo
from .commands.fields import fields
from .commands.follow import follow
from .commands.sandbox import sandbox
from .commands.show import show
from .console import LEVELS, hush, start_log
from .helping import CONFIG, with_examples
from .running import DONE, INTERRUPTED

__all__ = ["iovox"]

#: In the order in which a newcomer should meet them.
COMMANDS = (demo, calls, backfill, follow, show, fields, sandbox)

EPILOG = """\
[bold]Credentials[/bold] are read from IOVOX_USERNAME and IOVOX_SECURE_KEY, and asked for at a terminal where they are
missing; no option takes the key. IOVOX_URL points to another address than the service's own.

[bold]Exit codes[/bold]: 0 done, 1 failed, 2 usage, 3 unfinished but resumable, 130 interrupted.

[bold]Completion[/bold] for bash (or zsh, fish): eval "$(_IOVOX_COMPLETE=bash_source iovox)"
"""


def _show_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        try:
            known = version("iovox-async")
        except PackageNotFoundError:  # run from a checkout that nobody installed
            known = "(not installed)"
        click.echo(f"iovox {known}")
        ctx.exit()


class Root(click.RichGroup):
    """The group; it gives interruptions and readers that leave their exit codes, wherever they come."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
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
    start_log(log_level)


for _command in COMMANDS:
    iovox.add_command(_command)
