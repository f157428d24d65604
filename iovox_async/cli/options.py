"""Options that several commands share: connection, range, what to read.

Invariants:

- The key comes from the environment, a profile or a hidden prompt, never from an argument.
- An option means the same in every command that has it.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from iovox_async import ConfigurationError, Field
from iovox_async._params.validators import InvalidValue
from iovox_async._profiles import Profile, load_profile, load_profiles, read_key
from iovox_async.dates import parse_range
from iovox_async.fields import PRESETS, as_fields

from . import CREDENTIALS
from .base import argument, option
from .console import is_terminal, print_note, print_warning

if TYPE_CHECKING:
    from iovox_async import AsyncInsights

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

        for add_option in reversed(options):
            collecting = add_option(collecting)
        return collecting  # type: ignore[return-value] # click passes options by name, whatever the signature

    return decorate


# Numbers.

#: Written in ASCII digits, and finite. Python's own conversions, which click uses, also read `1_000`, digits of other scripts, `nan`
#: and `inf`.
_INTEGER: Final = re.compile(r"[+-]?\d{1,30}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,30}\.?\d*|\.\d+)(?:e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)


class IntRange(click.IntRange):
    """A whole number within bounds."""

    name = "n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads a value of an option."""
        if isinstance(value, str) and not _INTEGER.fullmatch(value):
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        return super().convert(value, param, ctx)


class FloatRange(click.FloatRange):
    """A number within bounds, of seconds if an option does not say what else."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads a value of an option."""
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return super().convert(value, param, ctx)


# Connection.

_PROMPTS: Final = {"username": "Username", "secure_key": "Secure key"}


class Account(msgspec.Struct, frozen=True):
    """How to connect to the endpoint; no attribute is in the repr, as a proxy's URL may contain a password.

    Attributes:
        arguments: the arguments of `AsyncInsights`.
        profile: the name of the profile in use, or None.
    """

    arguments: dict[str, Any]
    profile: str | None = None

    def __repr__(self) -> str:
        return f"Account(profile={self.profile!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("profile", self.profile)]

    def client(self, **arguments: Any) -> AsyncInsights:
        """A client, with these further arguments of `AsyncInsights`.

        Raises:
            ConfigurationError: an option, variable or entry of the profile is invalid.
        """
        from iovox_async.client import AsyncInsights  # a slow import, and `--help` does not need it

        # `cli.main` has blocked it; httpcore imports it again for the first connection through a SOCKS proxy.
        if sys.modules.get("socksio", self) is None:
            del sys.modules["socksio"]
        return AsyncInsights(**self.arguments, **arguments)

    def resolve(self, typed: TypedRange, *, echo: bool = True) -> tuple[datetime | None, datetime | None]:
        """The first and last second of a range as typed.

        Args:
            typed: the range.
            echo: whether to print a range that was typed in other words than full dates.

        Raises:
            QueryError: it is no range.
            ConfigurationError: there is no such time zone.
        """
        from iovox_async._params.timezones import zone_of

        # Aware if the account's time zone is known, else this machine's local time.
        now = datetime.now(zone_of(self.arguments["timezone"]))
        start, end = parse_range(typed.start, typed.end, now=now)
        if echo and typed.in_words:
            zone = self.arguments["timezone"] or "this machine's time zone, as --timezone is not set"
            print_note(
                f"From {start or 'the first of this month'} to {end or f'now ({now:%Y-%m-%d %H:%M})'}, {zone}."
            )
        return start, end


def _use_profile(ctx: click.Context, _option: click.Parameter, name: str | None) -> Profile:
    profile = load_profile(name)
    ctx.default_map = {**(ctx.default_map or {}), **profile.options}
    return profile


class CredentialsError(click.UsageError):
    """The credentials are missing."""

    exit_code = CREDENTIALS


def _profile_names() -> list[str]:
    """The names of all profiles, for completion."""
    try:
        return sorted(load_profiles()[0])
    except ConfigurationError:
        return []


def _credentials(profile: Profile) -> dict[str, str]:
    """The arguments `username` and `secure_key` that the environment does not set, from the profile or from prompts.

    A profile's key is only used with its own user.

    Raises:
        click.UsageError: one is missing and there is no terminal, or the command that prints the key fails.
    """
    arguments: dict[str, str] = {}
    user, profile_user = os.environ.get("IOVOX_USERNAME"), profile.entries.get("username")
    if not user and profile_user:
        arguments["username"] = profile_user
    if user and profile_user not in {None, user} and profile.name:
        print_warning(
            f"IOVOX_USERNAME overrides the user of the profile {profile.name}; so the profile's key is not used."
        )
    elif not os.environ.get("IOVOX_SECURE_KEY"):
        try:
            key = read_key(profile)
        except ConfigurationError as error:
            raise CredentialsError(str(error)) from None
        arguments |= {"secure_key": key} if key else {}
    missing = [
        name for name in _PROMPTS if name not in arguments and not os.environ.get(f"IOVOX_{name.upper()}")
    ]
    if missing and not (is_terminal("stdin") and is_terminal("stderr")):
        variables = " and ".join(f"IOVOX_{name.upper()}" for name in missing)
        raise CredentialsError(
            f"Set the environment variable{'s' if len(missing) > 1 else ''} {variables}, or use a profile (iovox help "
            "environment). Without an account, try iovox demo."
        )
    prompts = {
        name: click.prompt(_PROMPTS[name], hide_input=name == "secure_key", err=True) for name in missing
    }
    return arguments | prompts


def _make_account(values: dict[str, Any]) -> dict[str, Any]:
    profile: Profile = values.pop("profile")
    arguments = {"verify": values.pop("ca_bundle") or True, **values, **_credentials(profile)}
    if profile.url and not os.environ.get("IOVOX_URL"):
        arguments["base_url"] = profile.url
    return {"account": Account(arguments, profile.name)}


def complete(values: Callable[[], Sequence[str]]) -> Callable[..., list[str]]:
    """A function that completes one of these values, for a shell."""
    return lambda _ctx, _option, prefix: [
        value for value in values() if value.lower().startswith(prefix.lower())
    ]


def _zones() -> list[str]:
    import zoneinfo

    return sorted(zoneinfo.available_timezones())


_connection_option: Final = functools.partial(option, panel="Connection", show_envvar=True)
#: Adds the options of a connection; the command gets `account`. Prompts before any event loop runs: in a loop, Ctrl-C
#: at the prompt would wait for an input line.
account_options: Final = collect_options(
    (
        _connection_option(
            "--profile",
            metavar="NAME",
            is_eager=True,
            callback=_use_profile,
            envvar="IOVOX_PROFILE",
            shell_complete=complete(_profile_names),
            help="Take username, key, address, time zone and the like from this profile (iovox help environment).",
        ),
        _connection_option(
            "--timezone",
            metavar="ZONE",
            envvar="IOVOX_TIMEZONE",
            shell_complete=complete(_zones),
            help="The account's time zone, e.g. Europe/London, with which open ranges end exactly now. Default: unknown.",
        ),
        _connection_option(
            "--concurrency", help="Maximum of concurrent requests.", type=IntRange(min=1), default=8
        ),
        _connection_option(
            "--page-size",
            help="Rows per request, 1 to 20,000. Default: chosen by the size of the records.",
            type=IntRange(1, 20_000),
        ),
        _connection_option(
            "--timeout",
            help="Time limit of one attempt of a request, from start to last byte.",
            type=FloatRange(min=0, min_open=True),
            default=60.0,
        ),
        _connection_option(
            "--proxy",
            metavar="URL",
            help="http://, https:// or socks5://; or 'environment' to use HTTPS_PROXY and similar variables.",
            envvar="IOVOX_PROXY",
        ),
        _connection_option(
            "--ca-bundle",
            metavar="PATH",
            help="File or folder of CA certificates to trust; or 'system' for those of the operating system.",
            envvar="IOVOX_CA_BUNDLE",
        ),
    ),
    ("profile", "timezone", "concurrency", "page_size", "timeout", "proxy", "ca_bundle"),
    _make_account,
)

# What to read.

READ_PANEL: Final = "Calls to read"
read_option: Final = functools.partial(option, panel=READ_PANEL)
_FULL_DATE: Final = re.compile(r"[\d-]{10}", re.ASCII)
output_option: Final = functools.partial(option, panel="Output", show_envvar=True)


class TypedRange(msgspec.Struct, frozen=True):
    """A range as it was typed; what was left out is None."""

    start: str | None
    end: str | None

    @property
    def in_words(self) -> bool:
        """Whether it was typed in other words than full dates, which mean other dates tomorrow."""
        return any(text and not _FULL_DATE.match(text) for text in (self.start, self.end))

    @property
    def replaced(self) -> tuple[str, ...]:
        """What a command that continues leaves out, see `resume_command`."""
        return ("START", "--start", "--end") if self.in_words else ()


def range_options(default: str, *, start: str = "--start", end: bool = True) -> Callable[[F], F]:
    """Adds START and END, and the options --start and --end for the same; the command gets a `TypedRange` as `typed`.

    Args:
        default: the help's words for what a start that is left out means.
        start: another name of --start.
        end: whether the range has an end.
    """
    words = "2024-01-31, '2024-01-31 18:00', yesterday, 7d, last-month, 2024-02 (iovox help dates)"
    ends = "Last second, inclusive; a day, week or month means its last second. Default: now, or the end of START if that is a word."
    date_argument = functools.partial(argument, required=False, panel=READ_PANEL)
    date_option = functools.partial(read_option, metavar="DATE")
    by_name = {
        "start": date_argument("start", help=f"First second: {words}. Default: {default}."),
        "end": date_argument("end", help=ends),
        "start_option": date_option(
            *dict.fromkeys((start, "--start")), "start_option", help="The same as START."
        ),
        "end_option": date_option("--end", "end_option", help="The same as END."),
    }
    if not end:
        del by_name["end"], by_name["end_option"]
    return collect_options([*by_name.values()], by_name, _typed_range)


def _typed_range(values: dict[str, Any]) -> dict[str, Any]:
    for name in ("start", "end"):
        if values.get(name) is not None and values.get(f"{name}_option") is not None:
            raise click.UsageError(f"Give {name.upper()} or --{name}, not both.")
    # An empty argument, as of a variable that is not set, is no date: it must not mean the default.
    typed = {name.removesuffix("_option"): text for name, text in values.items() if text is not None}
    first, last = typed.get("start"), typed.get("end")
    # What is no date is refused before the credentials are asked for; that does not depend on the zone.
    parse_range(first, last, now=datetime.now())  # noqa: DTZ005 - as above
    return {"typed": TypedRange(first, last)}


def split_commas(values: Iterable[str]) -> list[str]:
    """The names that a repeated option was given, separated by commas."""
    return [name.strip() for value in values for name in value.split(",")]


def _parse_fields(_ctx: click.Context, _option: click.Parameter, values: Sequence[str]) -> tuple[Field, ...]:
    try:
        return as_fields(map(str.lower, split_commas(values))) or () if values else ()
    except InvalidValue as error:
        raise click.BadParameter(f"{error} (iovox fields lists them)") from None


def _complete_fields(_ctx: click.Context, _option: click.Parameter, text: str) -> list[str]:
    before, comma, prefix = text.rpartition(",")
    return [f"{before}{comma}{name}" for name in (*PRESETS, *Field) if name.startswith(prefix)]


#: Adds an option of response fields; the command gets a tuple.
field_names_option: Final = functools.partial(
    option, metavar="FIELDS", multiple=True, callback=_parse_fields, shell_complete=_complete_fields
)


def fields_option(addition: str = "") -> Callable[[F], F]:
    """Adds the option --fields; the command gets a tuple as `fields`."""
    return field_names_option(
        "--fields",
        default=("default",),
        help=f"Fields to request: names (iovox fields lists them) and presets ({', '.join(PRESETS)}), separated by "
        f"commas{addition}.",
        panel=READ_PANEL,
    )


#: Adds the option --on-error; the command gets its value as `on_error`.
on_error_option: Final = read_option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    help="At a record that cannot be decoded, fail, or skip it and count it.",
)


def value_variable(option: click.Parameter) -> str:
    """The environment variable that holds the value of an option."""
    return str(option.envvar or f"IOVOX_{option.name}".upper())
