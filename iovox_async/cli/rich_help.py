"""Draws help on a terminal, by rich_click, which takes as long to import as the rest of `iovox --help`."""

from __future__ import annotations

from typing import Any, Final

import click
import rich_click

_CONFIGURATION: Final = rich_click.RichHelpConfiguration(
    text_markup="rich",
    text_paragraph_linebreaks="\n\n",
    padding_helptext_first_line=(0, 0, 1, 0),
    style_helptext="",
    max_width=100,
    style_options_panel_border="dim",
    style_commands_panel_border="dim",
    show_arguments=True,
)


class _Group(rich_click.RichGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)


def draw_help(ctx: click.Context) -> str:
    """The help of the command of this context, with the escape sequences of a terminal."""
    command = ctx.command
    parts: dict[str, Any] = {"params": command.params, "help": command.help, "epilog": command.epilog}
    if isinstance(command, click.Group):
        drawn: rich_click.RichCommand = _Group(name=command.name, commands=command.commands, **parts)
    else:
        drawn = rich_click.RichCommand(name=command.name, **parts)
    return drawn.get_help(
        rich_click.RichContext(
            drawn,
            parent=ctx.parent,
            info_name=ctx.info_name,
            help_option_names=ctx.help_option_names,
            show_default=ctx.show_default,
            rich_help_config=_CONFIGURATION,
        )
    )
