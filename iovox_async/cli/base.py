"""The classes of commands: options that every command has, and help without boxes where it is not read on a terminal."""

from __future__ import annotations

import functools
import inspect
import shutil
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Final

import click

from .commands import COMMANDS
from .console import is_terminal, start_log, switched_off, with_examples, without_markup

ARGUMENTS_KEY: Final = "iovox.arguments"
_LEVEL_KEY: Final = "iovox.log_level"


class _Parameter(click.Parameter):
    """A parameter; `panel` is the title of its section in the help."""

    def __init__(self, *args: Any, panel: str | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.panel = panel


class _Option(_Parameter, click.Option):
    """An option."""


class _Argument(_Parameter, click.Argument):
    """An argument."""


#: Decorators that add an option or an argument to a command.
option: Final = functools.partial(click.option, cls=_Option)
argument: Final = functools.partial(click.argument, cls=_Argument)


def _set_log_level(ctx: click.Context, _option: click.Parameter, level: str | None) -> None:
    if level is not None:
        ctx.meta[_LEVEL_KEY] = level


def _common_options(*, root: bool) -> list[click.Option]:
    """The options that work before and after the name of a command."""
    environment: dict[str, Any] = {"envvar": "IOVOX_LOG", "show_envvar": True} if root else {}
    new_option = functools.partial(_Option, expose_value=False, panel="General")
    return [
        new_option(
            ["--log-level"],
            type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
            callback=_set_log_level,
            help="Level of the log on stderr: retries are logged at info, pages at debug. Default: warning.",
            **environment,
        ),
        new_option(
            ["-q", "--quiet"],
            is_flag=True,
            callback=lambda _ctx, _option, is_set: switched_off.update(
                {"notes", "progress"} if is_set else ()
            ),
            help="Print nothing on stderr unless something is wrong.",
        ),
        new_option(
            ["--no-progress"],
            is_flag=True,
            callback=lambda _ctx, _option, is_set: switched_off.update({"progress"} if is_set else ()),
            help="Show no progress.",
        ),
    ]


class BaseCommand(click.Command):
    """A command or the group of them: options that all have, and help that is drawn on a terminal, and plain text elsewhere.

    Attributes:
        further_panels: sections of the plain text after those of the options.
    """

    further_panels: ClassVar[Mapping[str, list[tuple[str, str]]]] = {}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params.extend(_common_options(root=isinstance(self, click.Group)))

    def get_help(self, ctx: click.Context) -> str:
        if is_terminal("stdout"):
            from .rich_help import draw_help

            return draw_help(ctx)
        width = max(40, min(100, shutil.get_terminal_size().columns))
        formatter = click.HelpFormatter(width=width)
        formatter.write_usage(ctx.command_path, " ".join(self.collect_usage_pieces(ctx)))
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(without_markup(self.help or ""))
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option):
                record = parameter.get_help_record(ctx)
            else:
                record = parameter.make_metavar(ctx), str(getattr(parameter, "help", None) or "")
            if record is not None:
                panels.setdefault(str(getattr(parameter, "panel", None) or "Options"), []).append(record)
        for title, rows in {**panels, **self.further_panels}.items():
            with formatter.section(title):
                formatter.write_dl(rows)
        if self.epilog:
            formatter.write_paragraph()
            formatter.write_text(without_markup(self.epilog))
        return formatter.getvalue().rstrip("\n")


class Command(BaseCommand):
    """A command of `iovox`. It keeps the arguments it was called with, for `resume.resume_command`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        from .errors import exit_on_error  # `iovox --help` does not need it

        ctx.meta[ARGUMENTS_KEY] = list(args)
        with exit_on_error():
            rest = super().parse_args(ctx, args)
        # Here and not for the root command, as `iovox --help` needs no log.
        start_log(ctx.meta.get(_LEVEL_KEY, "warning"))
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        from .errors import exit_on_error

        with exit_on_error():
            return super().invoke(ctx)


def command(*examples: tuple[str, str]) -> Callable[[Callable[..., Any]], click.Command]:
    """A decorator that makes a function a command.

    Its help is the sentence in `COMMANDS`, the docstring after its first line, and the examples.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        details = inspect.cleandoc(function.__doc__ or "").partition("\n")[2]
        text = f"{COMMANDS[function.__name__]}\n{details}"
        return click.command(cls=Command, help=with_examples(text, *examples))(function)

    return decorate


def unknown_topic(topic: str, topics: Collection[str]) -> click.UsageError:
    """The error for an argument TOPIC that is none of the topics."""
    from iovox_async.fields import did_you_mean

    suggestion = did_you_mean(topic, topics)
    return click.UsageError(f"TOPIC must be one of {', '.join(topics)}, got {topic!r}{suggestion}")
