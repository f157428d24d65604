"""`iovox doctor`: checks everything that a pull depends on, and says what to do."""

from __future__ import annotations

import click
from click.exceptions import Exit

from iovox_async import RetryPolicy
from iovox_async._diagnosis import Checks
from iovox_async._redaction import hide_credentials

from .. import DONE, FAILED, options
from ..base import command
from ..console import escape_controls, is_terminal, stdout_screen
from ..errors import exit_code_of, format_error, run
from ..tables import grid

_WORDS = {True: "ok", None: "look", False: "FAIL"}


@command(("one account", "iovox doctor --profile uk"))
@options.account_options
def doctor(account: options.Account) -> None:
    """Runs `iovox doctor`.

    It sends up to three requests. The exit code is 0 if every row is ok or only worth a look, 4 if the credentials are
    refused, else 1.
    """
    checks = Checks()
    checks.check_machine()
    profile = f"profile {account.profile}" if account.profile else "no profile"
    proxy, zone = account.arguments["proxy"], account.arguments["timezone"]
    advice = (
        "not set: set IOVOX_TIMEZONE or --timezone, so that open ranges end now and days become final on time"
    )

    async def check() -> None:
        # A failure is to be shown now, not after waiting for it to pass.
        async with account.client(retry=RetryPolicy(max_attempts=1)) as insights:
            checks.add("account", True, f"{insights.account.rpartition(' at ')[0]}, {profile}")
            checks.add("proxy", True, hide_credentials(proxy) if proxy else "none")
            checks.add("time zone", bool(zone) or None, zone or advice)
            await checks.check_endpoint(insights)

    run(check)
    if checks.error is not None:
        name, ok, address = checks.rows.pop()
        checks.add(name, ok, f"{address}: {format_error(checks.error)}")
    rows = [(_WORDS[ok], name, text) for name, ok, text in checks.rows]
    if is_terminal("stdout"):
        stdout_screen().print(grid(map(escape_controls, row) for row in rows))
    else:
        click.echo("\n".join("\t".join(row) for row in rows))
    if checks.error:
        raise Exit(exit_code_of(checks.error))
    raise Exit(FAILED if any(ok is False for _, ok, _ in checks.rows) else DONE)
