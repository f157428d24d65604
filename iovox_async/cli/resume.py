"""The command that continues a run: how it was called, and how it is printed, without credentials and phone numbers."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping

import click

from iovox_async._redaction import hide_credentials, redact
from iovox_async.query import PHONE_PARAMETERS

from .base import ARGUMENTS_KEY
from .console import print_warning
from .filters import FILTERS, is_list
from .options import value_variable


def _is_private(option: click.Option, value: str) -> bool:
    """Whether a value contains a credential or may contain a phone number."""
    if option.name in FILTERS:
        # Of the account, not of a caller.
        is_id = option.name in {"node_id", "link_id"} or is_list(FILTERS[option.name])
        return option.name in PHONE_PARAMETERS or (not is_id and redact(value) != value)
    return hide_credentials(value) != value


def _typed_arguments(ctx: click.Context) -> Iterator[tuple[click.Option | None, str, str, list[str]]]:
    """Each argument of the running command: its option that takes a value, the option's name, the value, the words."""
    options = {
        name: option
        for option in ctx.command.params
        if isinstance(option, click.Option) and not option.is_flag
        for name in option.opts
    }
    arguments = list(ctx.meta[ARGUMENTS_KEY])
    while arguments:
        words = [arguments.pop(0)]
        name, equals, value = words[0].partition("=")
        option = options.get(name)
        # --resume may have no value.
        if option and not equals and arguments and not (name == "--resume" and arguments[0].startswith("-")):
            words.append(value := arguments.pop(0))
        yield option, name, value, words


def resume_command(ctx: click.Context, new: Mapping[str, str], *, without: Collection[str] = ()) -> str:
    """The running command, quoted for a shell, with some options replaced.

    A credential or phone number is not printed: its option is left out if a variable of the environment can set it, else
    its value is `"$VARIABLE"`; see `resume_preparation`.

    Args:
        ctx: the context of a `Command`.
        new: options and their values; they replace those that were typed.
        without: options that are left out; "START" stands for the arguments START and END.
    """
    parts = ["iovox", ctx.info_name or ""]
    for option, name, value, words in _typed_arguments(ctx):
        if name in new or name in without or (not name.startswith("-") and "START" in without):
            continue
        if option is None or not _is_private(option, value):
            parts.append(shlex.join(words))
        elif option.envvar is None:
            parts.append(f'{name} "${value_variable(option)}"')
    return " ".join([*parts, *(shlex.join(filter(None, item)) for item in new.items())])


def resume_preparation(ctx: click.Context) -> str:
    """A sentence to print before `resume_command`: which variables to set. Empty if there is none."""
    names = [
        f"{value_variable(option)} to the value of {name}"
        for option, name, value, _ in _typed_arguments(ctx)
        if option is not None and _is_private(option, value)
    ]
    return f"First set {' and '.join(names)}, which is not printed here." if names else ""


def print_resume_command(
    ctx: click.Context, text: str, new: Mapping[str, str], *, without: Collection[str] = ()
) -> None:
    """Prints a note that ends with the command that continues."""
    text = " ".join(filter(None, (text, resume_preparation(ctx), "Continue with:")))
    print_warning(text, command=resume_command(ctx, new, without=without))
