"""`iovox doctor`: checks everything that a pull depends on, and says what to do."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Final, NoReturn

import attrs
import rich_click as click
from click.exceptions import Exit

from iovox_async import AuthenticationError, IovoxError, RetryPolicy, TLSError
from iovox_async._redaction import hide_credentials
from iovox_async.errors import EXTRAS

from .. import CREDENTIALS, FAILED, options
from ..app import COMMANDS
from ..base import Command
from ..console import is_terminal, stdout_screen, with_examples
from ..errors import format_error, run

_MAX_CLOCK_DIFFERENCE: Final = timedelta(seconds=60)
_MODULES: Final = {
    "httpx-aiohttp": "httpx_aiohttp",
    "rich-click": "rich_click",
    "opentelemetry-api": "opentelemetry",
}
_DAYS: Final = timedelta(days=365)
_PAGE: Final = 20_000


@attrs.define
class Checks:
    """The rows so far: a name, whether it is ok (None: worth a look), and a text.

    Attributes:
        exit_code: the exit code of the command.
    """

    rows: list[tuple[str, bool | None, str]] = attrs.field(factory=list)
    exit_code: int = 0

    def add(self, name: str, ok: bool | None, text: str) -> None:
        """Adds a row."""
        self.rows.append((name, ok, text))
        if ok is False:
            self.exit_code = self.exit_code or FAILED


def _extras() -> str:
    def is_installed(package: str) -> bool:
        name = package.partition("[")[0]
        return find_spec(_MODULES.get(name, name)) is not None

    installed = [name for name, packages in EXTRAS.items() if all(map(is_installed, packages))]
    missing = [name for name in EXTRAS if name not in installed]
    return f"{', '.join(installed)}" + (f" (not installed: {', '.join(missing)})" if missing else "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@click.command(
    cls=Command,
    help=with_examples(
        f"""{COMMANDS["doctor"]}

        It sends up to three requests. The exit code is 0 if every row is ok or only worth a look, 4 if the credentials are
        refused, else 1.
        """,
        ("one account", "iovox doctor --profile uk"),
    ),
)
@options.account_options
def doctor(account: options.Account) -> None:
    """Runs `iovox doctor`."""
    checks = Checks()
    packages = ", ".join(
        f"{name} {_version(name)}" for name in ("httpx", "attrs", "cattrs", "msgspec", "pyarrow")
    )
    checks.add(
        "versions",
        True,
        f"iovox-async {_version('iovox-async')}, Python {platform.python_version()}, {packages}",
    )
    checks.add("extras", True, _extras())
    user, _, url = account.name.rpartition(" at ")
    checks.add(
        "account", True, f"{user}, {f'profile {account.profile}' if account.profile else 'no profile'}"
    )
    proxy = account.arguments.get("proxy")
    checks.add("proxy", True, hide_credentials(proxy) if proxy else "none")
    zone = account.arguments.get("timezone")
    advice = (
        "not set: set IOVOX_TIMEZONE or --timezone, so that open ranges end now and days become final on time"
    )
    checks.add("time zone", bool(zone) or None, zone or advice)
    run(lambda: _check_endpoint(account, url, checks))
    _print(checks)


async def _check_endpoint(account: options.Account, url: str, checks: Checks) -> None:
    # A failure is to be shown now, not after waiting for it to pass.
    async with account.client(retry=RetryPolicy(max_attempts=1)) as insights:
        address = hide_credentials(url)
        started = time.monotonic()
        try:
            await insights.page(page_size=1, fields=("id", "call_start"))
        except IovoxError as error:
            refused = isinstance(error, AuthenticationError)
            name = "TLS" if isinstance(error, TLSError) else "credentials" if refused else "address"
            checks.add(name, False, f"{address}: {format_error(error)}")
            checks.exit_code = CREDENTIALS if refused else FAILED
            return
        first = time.monotonic() - started
        checks.add("address", True, address)
        secure = address.startswith("https")
        checks.add("TLS", True, "the certificate is valid" if secure else "not used: the address is http")
        checks.add("credentials", True, "accepted")
        started = time.monotonic()
        end = insights.now()
        page = await insights.page(end - _DAYS, end, page_size=_PAGE, order="call_start_ASC", fields=("id",))
        rows, seconds = len(page.calls), time.monotonic() - started
        text = f"{first * 1000:.0f} ms for one row, {seconds * 1000:.0f} ms for {rows:,} ids"
        checks.add("latency", True if first < 1 else None, text)
        _check_clock(insights._connection.time, checks.add)  # noqa: SLF001 - of this package
        if rows == _PAGE:
            checks.add("page cap", True, f"{_PAGE:,} rows, as documented")
            return
        more = await insights.page(
            end - _DAYS, end, page=rows + 1, page_size=1, order="call_start_ASC", fields=("id",)
        )
        text = f"at least {rows:,} rows: there are no more calls within a year"
        checks.add(
            "page cap", True, f"{rows:,} rows, fewer than documented; pulls adapt" if more.calls else text
        )


def _check_clock(account_time: Any, add: Callable[[str, bool | None, str], None]) -> None:
    reading = account_time._server  # noqa: SLF001 - of this package
    if reading is None:
        add("clock", None, "the server sends no Date header")
        return
    elapsed = timedelta(seconds=account_time.clock() - reading.seconds)
    difference = datetime.now(UTC) - reading.utc - elapsed
    seconds = difference.total_seconds()
    text = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the server's"
    ok = abs(difference) <= _MAX_CLOCK_DIFFERENCE
    add("clock", ok, text if ok else f"{text}: synchronize this machine's clock")


def _print(checks: Checks) -> NoReturn:
    words = {True: "ok", None: "look", False: "FAIL"}
    if is_terminal("stdout"):
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        styles = {True: "green", None: "yellow", False: "bold red"}
        for name, ok, text in checks.rows:
            table.add_row(Text(words[ok], styles[ok]), name, Text(text, overflow="fold"))
        stdout_screen().print(table)
    else:
        for name, ok, text in checks.rows:
            click.echo(f"{words[ok]}\t{name}\t{text}")
    raise Exit(checks.exit_code)
