"""The options of a session, and its credentials.

The law of this room: the key comes from the environment or a hidden prompt, never from an argument, and is passed on
to the session and nowhere else.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import rich_click as click

from .console import at_terminal

if TYPE_CHECKING:
    from iovox_async import AsyncInsights

__all__ = ["Account", "session_options"]

F = TypeVar("F", bound=Callable[..., Any])

PANEL = "Session"
_PROMPTS = {"IOVOX_USERNAME": "Username", "IOVOX_SECURE_KEY": "Secure key"}


@attrs.frozen
class Account:
    """How to reach the endpoint; `session()` opens it."""

    timezone: str | None = None
    concurrency: int = 8
    page_size: int | None = None
    timeout: float = 60.0
    proxy: str | None = attrs.field(default=None, repr=False)  # it may hold a password

    #: What was asked for at the terminal, by variable.
    asked: dict[str, str] = attrs.field(factory=dict, repr=False)

    def session(self) -> AsyncInsights:
        """A session.

        Raises:
            ConfigurationError: an option or variable is malformed.
        """
        from iovox_async import AsyncInsights  # the longest import of all, and no help needs it

        return AsyncInsights(
            self.asked.get("IOVOX_USERNAME"),
            self.asked.get("IOVOX_SECURE_KEY"),
            timezone=self.timezone,
            concurrency=self.concurrency,
            page_size=self.page_size,
            timeout=self.timeout,
            proxy=self.proxy,
        )


def ask_what_is_missing() -> dict[str, str]:
    """The credentials that the environment lacks, from whoever sits at the terminal.

    Raises:
        click.UsageError: one is missing and nobody can be asked.
    """
    missing = [name for name in _PROMPTS if not os.environ.get(name)]
    if missing and not (at_terminal("stdin") and at_terminal("stderr")):
        raise click.UsageError(
            f"Set the environment variable{'s' if len(missing) > 1 else ''} {' and '.join(missing)}. "
            "No account at hand? iovox demo needs none.",
            click.get_current_context(silent=True),
        )
    return {
        name: click.prompt(_PROMPTS[name], hide_input=name == "IOVOX_SECURE_KEY", err=True)
        for name in missing
    }


_OPTIONS = (
    click.option(
        "--timezone",
        metavar="ZONE",
        help="The account's time zone, e.g. Europe/London: it says what time it is there now. Left out: this machine's.",
        panel=PANEL,
    ),
    click.option(
        "--concurrency",
        metavar="N",
        type=click.IntRange(min=1),
        default=8,
        help="Requests in flight, at most.",
        panel=PANEL,
    ),
    click.option(
        "--page-size",
        metavar="N",
        type=click.IntRange(1, 20_000),
        default=None,
        help="Rows a request asks for, 1 to 20,000. Left out, it follows the size of the records.",
        panel=PANEL,
    ),
    click.option(
        "--timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        default=60.0,
        help="Seconds for one attempt of a request, from start to last byte.",
        panel=PANEL,
    ),
    click.option(
        "--proxy",
        metavar="URL",
        envvar="IOVOX_PROXY",
        show_envvar=True,
        help="http://, https:// or socks5://; or 'environment' for HTTPS_PROXY and its like.",
        panel=PANEL,
    ),
)


_NAMES = ("timezone", "concurrency", "page_size", "timeout", "proxy")


def session_options(command: F) -> F:
    """Gives a command the options of a session; it receives them as `account`."""

    @functools.wraps(command)
    def gathering(*args: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in _NAMES}
        # Before any loop runs: in a loop, Ctrl-C at the prompt would wait for the answer.
        return command(*args, account=Account(**given, asked=ask_what_is_missing()), **options)

    for option in reversed(_OPTIONS):
        gathering = option(gathering)
    return gathering  # type: ignore[return-value] # click passes options by name, whatever the signature
