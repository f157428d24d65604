"""`iovox sandbox`: the endpoint in miniature, on this machine.

The law of this room: whatever the sandbox can do wrong can be asked for; the options are made from `Faults`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from iovox_async import MissingExtraError
from iovox_async.sandbox import FAULT_KINDS, KEY, USERNAME, Faults, Sandbox

from ..console import at_terminal, note, number, out
from ..errors import run
from ..help_text import with_examples

__all__ = ["FAULTS", "sandbox"]

F = TypeVar("F", bound=Callable[..., Any])

PANEL = "Faults"
_COUNT = click.IntRange(min=0)
_AMOUNT = click.FloatRange(min=0)

if TYPE_CHECKING:
    # Which releases of click have it generic at run time does not matter then.
    _ParamType = click.ParamType[float | str, Any]
else:
    _ParamType = click.ParamType


class RetryAfter(_ParamType):
    """Seconds, or any text."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:  # noqa: ARG002 - click's signature
        """A number where it is one."""
        try:
            return float(value)
        except ValueError:
            return str(value)


#: Each fault: the type of its value (None for a switch), and what it does.
FAULTS: dict[str, tuple[Any, str]] = {
    "latency": (_AMOUNT, "Seconds before every answer."),
    "jitter": (_AMOUNT, "Random seconds on top of them, at most."),
    "error_rate": (click.FloatRange(0, 1), "This share of the requests fails."),
    "every_nth": (_COUNT, "Every n-th request fails."),
    "fail_first": (_COUNT, "The first n requests fail."),
    "fail_at": (_COUNT, "This request fails, counted from 1. Several: repeat the option."),
    "fail_after": (_COUNT, "All requests after the n-th fail."),
    "fail_above_rows": (_COUNT, "Requests fail whose answer would hold more rows than n."),
    "kinds": (
        click.Choice(FAULT_KINDS),
        f"How they fail: {', '.join(FAULT_KINDS)}. Several: repeat the option; one is drawn for each failure.",
    ),
    "retry_after": (RetryAfter(), "The Retry-After of 429 and 503: seconds, or any text."),
    "location": (str, "Where 302 sends the client."),
    "drip_interval": (_AMOUNT, "Seconds between the bytes of the kind drip."),
    "error_format": (
        click.Choice(["xml", "json", "text"]),
        "How error bodies are written: xml, json or text.",
    ),
    "max_page_rows": (click.IntRange(min=1), "The server holds at most n rows a page, whatever is asked."),
    "max_page_rows_after": (_COUNT, "It does so once it had n requests."),
    "shuffle_ties": (None, "Calls of one second change places from request to request."),
    "exclusive_end": (None, "Calls of the very second of end_date are left out."),
    "ignore_page": (None, "Every page is the first one."),
    "ignore_dates": (None, "The dates are not looked at."),
    "inserts_per_request": (
        _AMOUNT,
        "Calls that arrive before each request; 0.5 is one before every second.",
    ),
    "deletes_per_request": (_AMOUNT, "Calls that vanish before each request."),
    "gzip": (None, "Answers are compressed for clients that accept it."),
    "keep_alive": (_AMOUNT, "Seconds after which an idle connection is closed."),
}
_METAVARS = dict.fromkeys(("latency", "jitter", "drip_interval", "retry_after", "keep_alive"), "SECONDS")
_METAVARS |= {"error_rate": "SHARE", "kinds": "KIND", "location": "URL", "error_format": "FORMAT"}
_REPEATED = ("fail_at", "kinds")


def fault_options(command: F) -> F:
    """Gives a command an option for each fault; it receives `faults`."""

    @functools.wraps(command)
    def gathering(*args: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in FAULTS}
        faults = Faults(**{name: value for name, value in given.items() if value not in (None, (), False)})
        return command(*args, faults=faults, **options)

    for name, (kind, text) in reversed(FAULTS.items()):
        switch = kind is None
        gathering = click.option(
            "--kind" if name == "kinds" else "--" + name.replace("_", "-"),
            name,
            type=click.BOOL if switch else kind,
            metavar=None if switch else _METAVARS.get(name, "N"),
            is_flag=switch,
            multiple=name in _REPEATED,
            default=False if switch else () if name in _REPEATED else None,
            show_default=False,
            help=text,
            panel=PANEL,
        )(gathering)
    return gathering  # type: ignore[return-value] # click passes options by name, whatever the signature


@click.command(
    help=with_examples(
        """
        The endpoint in miniature on this machine, until Ctrl-C: real HTTP, invented calls, faults on request.

        It prints the lines that point this package at it.
        """,
        ("100,000 calls of a quarter", "iovox sandbox --calls 100000"),
        (
            "one request in five fails, in one of two ways",
            "iovox sandbox --error-rate 0.2 --kind 500 --kind cut --latency 0.1",
        ),
    ),
)
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=0,
    help="Where it listens; 0 takes a free one.",
    panel="Calls",
)
@click.option("--calls", metavar="N", type=_COUNT, default=10_000, help="Calls to draw.", panel="Calls")
@click.option(
    "--start", metavar="DATE", default="2024-01-01", help="First day of their range.", panel="Calls"
)
@click.option("--end", metavar="DATE", default="2024-03-31", help="Last day of it, included.", panel="Calls")
@click.option(
    "--seed", metavar="N", type=int, default=0, help="Same seed, same calls and same faults.", panel="Calls"
)
@click.option(
    "--arrivals",
    metavar="SECONDS",
    type=_AMOUNT,
    default=2.0,
    help="While its page is open in a browser, a call arrives about this often, after the range; 0: none does.",
    panel="Calls",
)
@fault_options
def sandbox(*, port: int, arrivals: float, faults: Faults, **drawn: Any) -> None:
    """Serves until it is told to end."""

    async def serve() -> None:
        box = Sandbox(**drawn, faults=faults)
        page = _live_page(box, arrivals)
        async with box.serve(port=port) as url:
            told = f"{number(drawn['calls'], 'call', 'calls')} from {box.start} to {box.end}"
            note(f"The sandbox answers at {url} with {told}. Copy these lines to another terminal:")
            screen = out()
            for name, value in (("URL", url), ("USERNAME", USERNAME), ("SECURE_KEY", KEY)):
                screen.print(f"export IOVOX_{name}={value}", soft_wrap=True)
            screen.file.flush()
            note(page(url))
            if at_terminal("stderr"):
                day = box.start[:10]
                note(f"Then, for example: iovox calls {day} {day}\nCtrl-C ends it.", style="dim")
            await asyncio.Event().wait()

    run(serve)


def _live_page(box: Sandbox, arrivals: float) -> Callable[[str], str]:
    """Adds the live page where it can be served; gives what to tell of it, given the sandbox's address."""
    try:
        from iovox_async.sandbox.live.page import add_live_page, page_url
    except MissingExtraError as missing:
        cure = f'pip install "iovox-async[{missing.extra}]"'
        return lambda _: f"To see its calls in a browser: {cure}"
    add_live_page(box, arrival_interval=arrivals)
    return lambda url: f"See its calls in a browser at {page_url(url)}"
