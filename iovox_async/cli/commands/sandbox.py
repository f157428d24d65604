"""`iovox sandbox`: serves a local sandbox of the endpoint. The fault options are generated from `Faults`."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import rich_click as click

from iovox_async import MissingExtraError
from iovox_async.dates import parse_end, parse_start
from iovox_async.sandbox import FAULT_KINDS, KEY, USERNAME, Faults, Sandbox

from ..base import command
from ..console import format_count, is_terminal, print_note, print_warning, stdout_screen
from ..errors import run
from ..options import collect_options
from ..ranges import FloatRange, IntRange

_COUNT = IntRange(min=0)
_AMOUNT = FloatRange(min=0)

#: For each attribute of `Faults` the type of its value (None for a flag), its metavar, and what it does.
FAULTS: Final[dict[str, tuple[Any, str | None, str]]] = {
    "latency": (_AMOUNT, "SECONDS", "Delay before every response."),
    "jitter": (_AMOUNT, "SECONDS", "Maximum of a random delay in addition."),
    "error_rate": (FloatRange(0, 1), "SHARE", "This share of the requests fails."),
    "every_nth": (_COUNT, "N", "Every n-th request fails."),
    "fail_first": (_COUNT, "N", "The first n requests fail."),
    "fail_at": (_COUNT, "N", "The n-th request fails, counted from 1. Repeat the option for several."),
    "fail_after": (_COUNT, "N", "All requests after the n-th fail."),
    "fail_above_rows": (_COUNT, "N", "Requests fail whose response would have more than n rows."),
    "kinds": (
        click.Choice(FAULT_KINDS),
        "KIND",
        f"How requests fail: {', '.join(FAULT_KINDS)}. Repeat the option to mix several.",
    ),
    "retry_after": (str, "SECONDS", "The Retry-After header of 429 and 503: seconds, or any text."),
    "location": (str, "URL", "The Location header of 302."),
    "drip_interval": (_AMOUNT, "SECONDS", "Seconds between the bytes of the kind drip."),
    "error_format": (click.Choice(["xml", "json", "text"]), "FORMAT", "Format of error bodies."),
    "max_page_rows": (IntRange(min=1), "N", "A page has at most n rows, whatever limit is requested."),
    "max_page_rows_after": (_COUNT, "N", "That limit applies after the n-th request."),
    "shuffle_ties": (None, None, "Calls of the same second change their order with every request."),
    "exclusive_end": (None, None, "Calls in the second of end_date are left out."),
    "ignore_page": (None, None, "Every page is the first one."),
    "ignore_dates": (None, None, "start_date and end_date are ignored."),
    "inserts_per_request": (_AMOUNT, "N", "Calls inserted before each request; may be a fraction."),
    "deletes_per_request": (_AMOUNT, "N", "Calls deleted before each request."),
    "gzip": (None, None, "Responses are compressed for clients that accept gzip."),
    "keep_alive": (_AMOUNT, "SECONDS", "Idle connections are closed after this time."),
}
_REPEATABLE: Final = {"fail_at", "kinds"}


def _fault_option(name: str) -> Callable[[Any], Any]:
    value_type, metavar, help_text = FAULTS[name]
    is_flag, multiple = value_type is None, name in _REPEATABLE
    return click.option(
        "--kind" if name == "kinds" else "--" + name.replace("_", "-"),
        name,
        type=click.BOOL if is_flag else value_type,
        metavar=metavar,
        is_flag=is_flag,
        multiple=multiple,
        default=False if is_flag else () if multiple else None,
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
_PERIOD: Final = timedelta(days=90)
_UNCHANGED: Final = "they do not change; --arrival-interval 2 lets new ones arrive"
_calls_option: Final = functools.partial(click.option, panel="Calls")


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
@_calls_option(
    "--port",
    metavar="N",
    type=IntRange(0, 65535),
    default=0,
    help="Port to listen on; 0 chooses a free one.",
)
@_calls_option("--calls", metavar="N", type=_COUNT, default=10_000, help="Number of calls to generate.")
@_calls_option(
    "--start", metavar="DATE", help="First day of the calls. Default: 90 days before the last one."
)
@_calls_option(
    "--end",
    metavar="DATE",
    help="Last day of the calls, inclusive. Default: now, so that every command finds calls.",
)
@_calls_option(
    "--seed",
    metavar="N",
    type=IntRange(min=0),
    default=0,
    help="The same seed gives the same calls and faults.",
)
@_calls_option(
    "--arrival-interval",
    metavar="SECONDS",
    type=_AMOUNT,
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
        if not is_loopback(host):
            print_warning(
                f"Every machine that reaches {host} can read these calls: the key is public.", style="yellow"
            )
        async with server.serve(host=host, port=port) as url:
            calls = f"{format_count(options['calls'], 'call')} from {server.start} to {server.end}"
            print_note(f"The sandbox serves {calls} at {url}. Copy these lines to another terminal:")
            screen = stdout_screen()
            for name, value in (("URL", url), ("USERNAME", USERNAME), ("SECURE_KEY", KEY)):
                screen.print(f"export IOVOX_{name}={value}", soft_wrap=True)
            screen.file.flush()
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


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to a host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
