"""`iovox help`: shows help on a command, or on a topic that concerns several of them."""

from __future__ import annotations

from importlib.resources import files

import click

from .. import EXIT_CODES
from ..app import load_command
from ..base import command, unknown_topic
from ..options import complete
from . import COMMANDS

_TOPICS = ("dates", "environment", "exit-codes", "formats")


@command(("exit codes", "iovox help exit-codes"))
@click.argument(
    "topic",
    required=False,
    help="A command or a topic.",
    shell_complete=complete(lambda: [*_TOPICS, *COMMANDS]),
)
@click.pass_context
def help(ctx: click.Context, /, *, topic: str | None) -> None:  # noqa: A001 - the name of the command
    """Runs `iovox help`.

    Topics: dates, environment, exit-codes, formats.
    """
    assert ctx.parent is not None
    name = (topic or "").lower().replace("_", "-")
    if name == "exit-codes":
        click.echo("\n".join(f"{code:>4}  {meaning}" for code, meaning in EXIT_CODES.items()))
    elif name in _TOPICS:
        text = (files("iovox_async") / "docs" / "help" / f"{name}.txt").read_text("utf-8")
        click.echo(text, nl=False)
    elif name in COMMANDS:
        load_command(name).make_context(name, ["--help"], parent=ctx.parent)
    elif topic is None:
        click.echo(f"{ctx.parent.get_help()}\n\nTopics: {', '.join(_TOPICS)} (iovox help TOPIC).")
    else:
        raise unknown_topic(topic, (*_TOPICS, *COMMANDS))
