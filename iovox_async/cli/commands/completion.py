"""`iovox completion`: prints the script that lets a shell complete commands, options and values."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import get_completion_class

from ..base import command


@command(
    ("bash", 'eval "$(iovox completion bash)"'),
    ("zsh", 'eval "$(iovox completion zsh)"'),
    ("fish", "iovox completion fish | source"),
    ("PowerShell", "iovox completion powershell | Out-String | Invoke-Expression"),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", "powershell"]), help="The shell.")
@click.pass_context
def completion(ctx: click.Context, /, *, shell: str) -> None:
    """Runs `iovox completion`.

    Put the line into the start-up file of your shell.
    """
    script: type[Any] | None = get_completion_class(shell)
    assert script is not None
    assert ctx.parent is not None
    instance = script(ctx.parent.command, {}, "iovox", "_IOVOX_COMPLETE")
    # Not `source()`, which starts bash to find out its version.
    click.echo(instance.source_template % instance.source_vars())
