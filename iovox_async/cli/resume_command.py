"""The line that goes on: the command as it was called, with another place to begin at.

The law of this room: the line can be pasted as it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping

import rich_click as click

__all__ = ["Remembering", "again"]

_WORDS = "iovox.words"


class Remembering(click.RichCommand):
    """A command that knows the words it was called with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_WORDS] = list(args)
        return super().parse_args(ctx, args)


def again(ctx: click.Context, new: Mapping[str, str], *, without: Collection[str] = ()) -> str:
    """The command that `ctx` runs, without some options that take a value, and with `new` ones.

    Args:
        ctx: the context of a `Remembering` command.
        new: options and their values; they take the place of those that were given.
        without: options that are left out.
    """
    words = [ctx.info_name or ""]
    given = iter(ctx.meta[_WORDS])
    for word in given:
        name, equals, _ = word.partition("=")
        if name in new or name in without:
            if not equals:
                next(given, None)
            continue
        words.append(word)
    for name, value in new.items():
        words += [name, value]
    return f"iovox {shlex.join(words)}"
