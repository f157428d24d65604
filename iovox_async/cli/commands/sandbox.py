"""`iovox sandbox`: serves a local sandbox of the endpoint. The fault options are generated from `Faults`."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, get_args, get_origin, get_type_hints

import click

from iovox_async import MissingExtraError
from iovox_async._wording import format_count
from iovox_async.dates import parse_end, parse_start
from iovox_async.sandbox import KEY, USERNAME, Faults, Sandbox

from ..base import command, option
from ..console import is_terminal, print_note, print_warning
from ..errors import option_name, run
from ..options import FloatRange, IntRange, collect_options

#: The types of options for those of the attributes of `Faults`, which checks their bounds.
_TYPES: Final = {int: IntRange(min=0), float: FloatRange(min=0), str: click.STRING, bool: click.BOOL}
#: What each attribute does, by the docstring of `Faults`; other attributes are in backticks.
_FAULT_HELP: Final = dict(re.findall(r"^ +(\w+): (.+)$", Faults.__doc__ or "", re.MULTILINE))
FAULTS: Final = get_type_hints(Faults)


def _fault_option(name: str) -> Callable[[Any], Any]:
    help_text = re.sub(r"`(\w+)`", lambda match: option_name(match[1]), _FAULT_HELP.get(name, ""))
    help_text = help_text[:1].upper() + help_text[1:]
    if multiple := get_origin(FAULTS[name]) is tuple:
        help_text += " Repeat the option for several."
    # Of `tuple[int, ...]` and `float | None` the first type counts, of a Literal each value.
    annotation = get_args(FAULTS[name])[0] if multiple else FAULTS[name]
    first, *others = get_args(annotation) or (annotation,)
    metavar: str | None = None
    if isinstance(first, str):
        value_type: Any = click.Choice([first, *others])
        help_text += f" One of {', '.join(value_type.choices)}."
        metavar = name.removesuffix("s").rpartition("_")[2].upper()
    else:
        value_type = _TYPES[first]
    if first is float and "seconds" not in help_text.lower():
        metavar = "N"
    return option(
        option_name(name),
        name,
        type=value_type,
        metavar=metavar,
        is_flag=first is bool or None,  # False would accept the option without a value
        multiple=multiple,
        show_default=False,
        help=help_text,
        panel="Faults",
    )


#: Adds an option for each fault; the command gets `faults`.
fault_options: Final = collect_options(
    [_fault_option(name) for name in FAULTS],
    FAULTS,
    lambda values: {
        "faults": Faults(**{name: value for name, value in values.items() if value not in (None, (), False)})
    },
)
_LOOPBACK: Final = re.compile(r"localhost|::1|127\.[\d.]+", re.ASCII)
_PERIOD: Final = timedelta(days=90)
_UNCHANGED: Final = "they do not change; --arrival-interval 2 lets new ones arrive"
_calls_option: Final = functools.partial(option, panel="Calls")


@command(
    ("100,000 calls of a quarter", "iovox sandbox --calls 100000"),
    (
        "one request in five fails, with a 500 or a truncated body",
        "iovox sandbox --error-rate 0.2 --kind 500 --kind cut --latency 0.1",
    ),
)
@_calls_option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    help="Address to listen on. Other machines can connect to any but the default.",
)
@_calls_option("--port", type=IntRange(0, 65535), default=0, help="Port to listen on; 0 chooses a free one.")
@_calls_option(
    "--calls", metavar="N", type=IntRange(min=0), default=10_000, help="Number of calls to generate."
)
@_calls_option(
    "--start", metavar="DATE", help="First day of the calls. Default: 90 days before the last one."
)
@_calls_option(
    "--end",
    metavar="DATE",
    help="Last day of the calls, inclusive. Default: now, so that every command finds calls.",
)
@_calls_option(
    "--seed", type=IntRange(min=0), default=0, help="The same seed gives the same calls and faults."
)
@_calls_option(
    "--arrival-interval",
    metavar="SECONDS",
    type=FloatRange(min=0),
    default=0.0,
    help="While the live page is open in a browser, a new call arrives about this often, after END. Default: never.",
)
@fault_options
def sandbox(
    *,
    host: str,
    port: int,
    start: str | None,
    end: str | None,
    arrival_interval: float,
    faults: Faults,
    **options: Any,
) -> None:
    """Runs `iovox sandbox`.

    It prints the environment variables that point this package at it.
    """

    async def serve() -> None:
        now = datetime.now().replace(microsecond=0)  # noqa: DTZ005 - the sandbox's account is in this machine's time zone
        last = now if end is None else parse_end(end, now=now)
        first = last - _PERIOD if start is None else parse_start(start, now=now)
        server = Sandbox(start=first, end=last, **options, faults=faults)
        describe_page = _add_live_page(server, arrival_interval)
        if not _LOOPBACK.fullmatch(host):
            print_warning(
                f"Every machine that reaches {host} can read these calls: the key is public.", style="yellow"
            )
        async with server.serve(host=host, port=port) as url:
            calls = f"{format_count(options['calls'], 'call')} from {server.start} to {server.end}"
            print_note(f"The sandbox serves {calls} at {url}. Copy these lines to another terminal:")
            variables = {"URL": url, "USERNAME": USERNAME, "SECURE_KEY": KEY}
            click.echo("\n".join(f"export IOVOX_{name}={value}" for name, value in variables.items()))
            print_note(describe_page(url))
            if is_terminal("stderr"):
                example = "yesterday" if end is None else f"{server.start[:10]} {server.start[:10]}"
                print_note(f"Then, for example: iovox calls {example}\nPress Ctrl-C to stop.", style="dim")
            await asyncio.Event().wait()

    run(serve)


def _add_live_page(server: Sandbox, arrival_interval: float) -> Callable[[str], str]:
    """Adds the live page if its packages are installed.

    Returns:
        a function from the sandbox's base URL to a sentence about the page.
    """
    try:
        from iovox_async.sandbox.live.page import add_live_page, page_url
    except MissingExtraError as error:
        command = f'pip install "iovox-async[{error.extra}]"'
        return lambda _: f"To see the calls in a browser, install: {command}"
    add_live_page(server, arrival_interval=arrival_interval)
    changes = f"a call arrives every {arrival_interval:g} s or so" if arrival_interval else _UNCHANGED
    return lambda url: f"See the calls in a browser at {page_url(url)} ({changes})"
