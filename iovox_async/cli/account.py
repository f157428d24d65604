"""The options of a session, and its credentials.

The law of this room: the key comes from the environment or a hidden prompt, never from an argument, and is passed on
to the session and nowhere else.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import rich_click as click

from iovox_async import AsyncInsights

from .console import at_terminal

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

    def session(self) -> AsyncInsights:
        """A session, with the credentials of the environment or of whoever sits at the terminal.

        Raises:
            click.UsageError: a credential is missing and nobody can be asked.
            ConfigurationError: an option or variable is malformed.
        """
        missing = [name for name in _PROMPTS if not os.environ.get(name)]
        given: dict[str, str] = {}
        if missing:
            if not (at_terminal("stdin") and at_terminal("stderr")):
                raise click.UsageError(
                    f"Set the environment variable{'s' if len(missing) > 1 else ''} {' and '.join(missing)}. "
                    "No account at hand? iovox demo needs none.",
                    click.get_current_context(silent=True),
                )
            for name in missing:
                given[name] = click.prompt(_PROMPTS[name], hide_input=name == "IOVOX_SECURE_KEY", err=True)
        return AsyncInsights(
            given.get("IOVOX_USERNAME"),
            given.pop("IOVOX_SECURE_KEY", None),
            timezone=self.timezone,
            concurrency=self.concurrency,
            page_size=self.page_size,
            timeout=self.timeout,
            proxy=self.proxy,
        )


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


def session_options(command: F) -> F:
    """Gives a command the options of a session; it receives them as `account`."""

    @functools.wraps(command)
    def gathering(*args: Any, **options: Any) -> Any:
        given = {field.name: options.pop(field.name) for field in attrs.fields(Account)}
        return command(*args, account=Account(**given), **options)

    for option in reversed(_OPTIONS):
        gathering = option(gathering)
    return gathering  # type: ignore[return-value] # click passes options by name, whatever the signature
