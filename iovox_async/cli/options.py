"""Options that several commands share: connection, filters, what to read; and the command that continues a run.

Invariants:

- The key comes from the environment or a hidden prompt, never from an argument.
- An option means the same in every command that has it.
- Each filter of the endpoint has an option; the options are generated from `Filters`.
"""

from __future__ import annotations

import collections.abc
import functools
import itertools
import logging
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin, get_type_hints

import attrs
import rich_click as click
from click.shell_completion import CompletionItem

from iovox_async import Field, Fields, Filters
from iovox_async._redaction import hide_credentials, redact
from iovox_async.fields import did_you_mean
from iovox_async.query import PHONE_PARAMETERS

from .console import is_terminal, print_note
from .ranges import FloatRange, IntRange

if TYPE_CHECKING:
    from iovox_async import AsyncInsights

logger: Final = logging.getLogger("iovox_async")
F = TypeVar("F", bound=Callable[..., Any])


def collect_options(
    options: Sequence[Callable[[Any], Any]],
    names: Collection[str],
    collect: Callable[[dict[str, Any]], dict[str, Any]],
) -> Callable[[F], F]:
    """A decorator that adds options to a command, which gets `collect(values by name)` as arguments instead of `names`."""

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def collecting(*args: Any, **arguments: Any) -> Any:
            values = {name: arguments.pop(name) for name in names}
            return command(*args, **arguments, **collect(values))

        for option in reversed(options):
            collecting = option(collecting)
        return collecting  # type: ignore[return-value] # click passes options by name, whatever the signature

    return decorate


# Connection.

_PROMPTS: Final = {"IOVOX_USERNAME": "Username", "IOVOX_SECURE_KEY": "Secure key"}


@attrs.frozen
class Account:
    """Arguments of `AsyncInsights`, and what was typed at prompts; not in the repr, as a URL may contain a password."""

    arguments: dict[str, Any] = attrs.field(repr=False)
    credentials: dict[str, str] = attrs.field(repr=False)

    def client(self) -> AsyncInsights:
        """A client; an invalid option or variable is a `ConfigurationError`."""
        from iovox_async import AsyncInsights  # a slow import, and `--help` does not need it

        username, secure_key = map(self.credentials.get, _PROMPTS)
        return AsyncInsights(username, secure_key, **self.arguments)


def _prompt_for_credentials() -> dict[str, str]:
    """The credentials that are not in the environment, from prompts on the terminal.

    Raises:
        click.UsageError: one is missing and there is no terminal.
    """
    missing = [name for name in _PROMPTS if not os.environ.get(name)]
    if missing and not (is_terminal("stdin") and is_terminal("stderr")):
        raise click.UsageError(
            f"Set the environment variable{'s' if len(missing) > 1 else ''} {' and '.join(missing)}. "
            "Without an account, try iovox demo.",
            click.get_current_context(silent=True),
        )
    return {
        name: click.prompt(_PROMPTS[name], hide_input=name == "IOVOX_SECURE_KEY", err=True)
        for name in missing
    }


_connection_option: Final = functools.partial(click.option, panel="Connection")
#: Adds the options of a connection; the command gets `account`. Prompts before any event loop runs: in a loop, Ctrl-C
#: at the prompt would wait for an input line.
account_options: Final = collect_options(
    (
        _connection_option(
            "--timezone",
            metavar="ZONE",
            help="The account's time zone, e.g. Europe/London, with which open ranges end exactly now. Default: unknown.",
        ),
        _connection_option(
            "--concurrency",
            metavar="N",
            help="Maximum of concurrent requests.",
            type=IntRange(min=1),
            default=8,
        ),
        _connection_option(
            "--page-size",
            metavar="N",
            help="Rows per request, 1 to 20,000. Default: chosen by the size of the records.",
            type=IntRange(1, 20_000),
        ),
        _connection_option(
            "--timeout",
            metavar="SECONDS",
            help="Time limit of one attempt of a request, from start to last byte.",
            type=FloatRange(min=0, min_open=True),
            default=60.0,
        ),
        _connection_option(
            "--proxy",
            metavar="URL",
            help="http://, https:// or socks5://; or 'environment' to use HTTPS_PROXY and similar variables.",
            envvar="IOVOX_PROXY",
            show_envvar=True,
        ),
        _connection_option(
            "--ca-bundle",
            metavar="PATH",
            help="File or folder of CA certificates to trust; or 'system' for those of the operating system.",
            envvar="IOVOX_CA_BUNDLE",
            show_envvar=True,
        ),
    ),
    ("timezone", "concurrency", "page_size", "timeout", "proxy", "ca_bundle"),
    lambda values: {
        "account": Account({"verify": values.pop("ca_bundle") or True, **values}, _prompt_for_credentials())
    },
)

# Filters.

_FILTER_PANEL: Final = "Filters (a call must match all of them)"

#: For each filter the name of its value and what it selects, from the endpoint's documentation.
_FILTER_HELP: Final = {
    "ids": ("ID", "Calls with these ids."),
    "node_id": ("ID", "Calls of the node with this id."),
    "node_name": ("NAME", "Calls of nodes with this name."),
    "node_type": ("TYPE", "Calls of nodes of this type."),
    "link_id": ("ID", "Calls of the link with this id."),
    "link_name": ("NAME", "Calls of links with this name."),
    "link_type": ("TYPE", "Calls of links of this type."),
    "call_result": ("RESULT", "Calls with this result, e.g. ANSWERED."),
    "rule_result": ("RESULT", "Calls with this rule result, e.g. 'Call to an Operator'."),
    "call_origin": ("NUMBER", "Calls from this number, e.g. 447966111222."),
    "call_origin_encoded": ("NUMBER", "Calls from this number, encoded as in responses."),
    "iovox_number": ("NUMBER", "Calls to this iovox number, digits only, e.g. 448456111222."),
    "call_destination": ("NUMBER", "Calls that were connected to this number, e.g. 447966123456."),
    "direction": ("WORD", "Calls in this direction, e.g. IN."),
    "link_category_ids": ("ID", "Calls whose link is in these categories."),
    "call_category_ids": ("ID", "Calls that are in these categories."),
    "node_category_ids": ("ID", "Calls whose node is in these categories."),
    "contact_category_ids": ("ID", "Calls whose contact is in these categories."),
    "tag_text": ("TEXT", "Calls with a tag of this text."),
    "tag_colour": ("COLOUR", "Calls with a tag of these colours: BLUE, GREEN, GOLD, RED."),
    "keyword_rules": ("RULE", "Calls that match this keyword rule."),
    "call_outcomes": ("OUTCOME", "Calls with this outcome."),
}

#: The filters of one value whose value may contain a comma.
_TEXT_FILTERS: Final = frozenset(
    ("node_name", "link_name", "rule_result", "tag_text", "keyword_rules", "call_outcomes")
)


def filter_option_name(name: str) -> str:
    """The option of a filter."""
    return "--id" if name == "ids" else "--" + name.replace("_", "-")


def _is_list(annotation: Any) -> bool:
    return any(get_origin(part) is collections.abc.Iterable for part in get_args(annotation))


def _split_commas(_ctx: click.Context, _option: click.Parameter, values: Iterable[str]) -> tuple[str, ...]:
    return tuple(item for value in values for item in value.split(","))


def _single_value(ctx: click.Context, option: click.Parameter, values: Sequence[str]) -> str | None:
    """The value of a filter that takes one; click alone would keep the last of several."""
    name = option.opts[0]
    if len(values) > 1 or ("," in "".join(values) and option.name not in _TEXT_FILTERS):
        typed = redact(" ".join(f"{name} {shlex.quote(value)}" for value in values))
        advice = f"Run iovox {ctx.info_name} once for each value"
        directories = ", each with its own --out" if ctx.info_name == "backfill" else ""
        raise click.UsageError(f"{name} takes one value, got {typed}. {advice}{directories}.", ctx)
    if re.search(r",\S", "".join(values)):
        logger.warning("%s takes one text: its comma does not separate two", name)
    if values == (f"${_variable(option)}",):  # from a printed command that no shell has expanded
        return os.environ.get(_variable(option), "")
    return values[0] if values else None


def _filter_option(name: str, *, multiple: bool) -> Callable[[Any], Any]:
    metavar, help_text = _FILTER_HELP[name]
    return click.option(
        filter_option_name(name),
        name,
        metavar=f"{metavar},..." if multiple else metavar,
        multiple=True,
        callback=_split_commas if multiple else _single_value,
        help=help_text + (" Separate several by commas, or repeat the option." if multiple else ""),
        panel=_FILTER_PANEL,
    )


_FILTERS: Final = get_type_hints(Filters)

#: Adds an option for each filter; the command gets those that were used as `filters`, a dict.
filter_options: Final = collect_options(
    [_filter_option(name, multiple=_is_list(annotation)) for name, annotation in _FILTERS.items()],
    _FILTERS,
    lambda values: {"filters": {name: value for name, value in values.items() if value not in (None, ())}},
)

# What to read.

READ_PANEL: Final = "Calls to read"
read_option: Final = functools.partial(click.option, panel=READ_PANEL)
output_option: Final = functools.partial(click.option, panel="Output")
#: Each command appends the default.
START_HELP: Final = "First second: YYYY-MM-DD, or 'YYYY-MM-DD HH:MM:SS'. Default: "
END_HELP: Final = "Last second, inclusive; a date without a time means its last second. Default: now."
PRESETS: Final = {
    name: getattr(Fields, name.upper()) for name in ("default", "call", "categories", "insights", "all")
}

if TYPE_CHECKING:
    # At run time, only some releases of click have a generic ParamType.
    _ParamType = click.ParamType[tuple[Field, ...], Any]
else:
    _ParamType = click.ParamType


class FieldsType(_ParamType):
    """Names of response fields and of presets, separated by commas."""

    name = "fields"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Field, ...]:
        """The fields without repeats, in the order in which they were typed."""
        if not isinstance(value, str):
            return tuple(value)
        fields: dict[Field, None] = {}
        for item in value.split(","):
            name = item.strip().lower()
            if name in PRESETS:
                fields.update(dict.fromkeys(PRESETS[name]))
            elif name in tuple(Field):
                fields[Field(name)] = None
            else:
                suggestion = did_you_mean(name, [*PRESETS, *map(str, Field)])
                self.fail(
                    f"{item!r} is not a response field{suggestion} (iovox fields lists them)", param, ctx
                )
        return tuple(fields)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - as above
        incomplete: str,
    ) -> list[CompletionItem]:
        """Completions of the last name."""
        before, comma, prefix = incomplete.rpartition(",")
        return [
            CompletionItem(f"{before}{comma}{name}") for name in (*PRESETS, *Field) if name.startswith(prefix)
        ]


def fields_option(addition: str = "") -> Callable[[F], F]:
    """Adds the option --fields; the command gets a tuple as `fields`."""
    return read_option(
        "--fields",
        metavar="FIELDS",
        type=FieldsType(),
        multiple=True,
        callback=lambda _ctx, _option, values: tuple(dict.fromkeys(itertools.chain(*values))),
        default=("default",),
        help=f"Fields to request: names (iovox fields lists them) and presets ({', '.join(PRESETS)}), separated by "
        f"commas{addition}.",
    )


#: Adds the option --on-error; the command gets its value as `on_error`.
on_error_option: Final = read_option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    help="At a record that cannot be decoded, fail, or skip it and count it.",
)

# The command that continues a run.

_ARGUMENTS_KEY: Final = "iovox.arguments"


class ResumableCommand(click.RichCommand):
    """A command that keeps the arguments it was called with, for `resume_command`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS_KEY] = list(args)
        return super().parse_args(ctx, args)


#: Filters whose values are numbers or codes of the account, not of a caller.
_PUBLIC_NUMBERS: Final = frozenset(("node_id", "link_id"))


def _is_private(option: click.Option, value: str) -> bool:
    """Whether a value contains a credential or may contain a phone number."""
    if option.name in _FILTERS:
        is_id = option.name in _PUBLIC_NUMBERS or _is_list(_FILTERS[option.name])
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
    arguments = iter(ctx.meta[_ARGUMENTS_KEY])
    for argument in arguments:
        name, equals, value = argument.partition("=")
        words = [argument]
        if name in options and not equals:
            words.append(value := next(arguments, ""))
        yield options.get(name), name, value, words


def resume_command(ctx: click.Context, new: Mapping[str, str], *, without: Collection[str] = ()) -> str:
    """The running command, quoted for a shell, with some options replaced.

    A credential or phone number is not printed: its option is left out if a variable of the environment can set it, else
    its value is `"$VARIABLE"`; see `resume_preparation`.

    Args:
        ctx: the context of a `ResumableCommand`.
        new: options and their values; they replace those that were typed.
        without: options, each with a value, that are left out.
    """
    parts = ["iovox", ctx.info_name or ""]
    for option, name, value, words in _typed_arguments(ctx):
        if name in new or name in without:
            continue
        if option is None or not _is_private(option, value):
            parts.append(shlex.join(words))
        elif option.envvar is None:
            parts.append(f'{name} "${_variable(option)}"')
    return " ".join([*parts, *(shlex.join(item) for item in new.items())])


def resume_preparation(ctx: click.Context) -> str:
    """A sentence to print before `resume_command`: which variables to set. Empty if there is none."""
    names = [
        f"{_variable(option)} to the value of {name}"
        for option, name, value, _ in _typed_arguments(ctx)
        if option is not None and _is_private(option, value)
    ]
    return f"First set {' and '.join(names)}, which is not printed here." if names else ""


def print_resume_command(
    ctx: click.Context, text: str, new: Mapping[str, str], *, without: Collection[str] = ()
) -> None:
    """Prints a note that ends with the command that continues."""
    text = " ".join(filter(None, (text, resume_preparation(ctx), "Continue with:")))
    print_note(text, command=resume_command(ctx, new, without=without))


def _variable(option: click.Parameter) -> str:
    return str(option.envvar or f"IOVOX_{option.name}".upper())
