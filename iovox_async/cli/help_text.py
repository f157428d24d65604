"""The words of `--help`.

The law of this room: each command says what it does in a sentence or two, then shows lines to copy.
"""

from __future__ import annotations

import inspect

import rich_click as click
from rich.markup import escape

__all__ = ["CONFIG", "with_examples"]

#: How help is drawn, for all commands.
CONFIG = click.RichHelpConfiguration(
    text_markup="rich",
    text_paragraph_linebreaks="\n\n",
    padding_helptext_first_line=(0, 0, 1, 0),
    style_helptext="",
    max_width=100,
    style_options_panel_border="dim",
    style_commands_panel_border="dim",
)


def with_examples(text: str, *examples: tuple[str, str]) -> str:
    """A help text with lines to copy, each below its comment."""
    shown = "\n".join(f"[dim]# {escape(why)}[/dim]\n[bold]{escape(line)}[/bold]" for why, line in examples)
    # The first character keeps click from joining the lines that follow it.
    return f"{escape(inspect.cleandoc(text))}\n\n\b\n{shown}"
