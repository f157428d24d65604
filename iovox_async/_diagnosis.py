"""Checks what a pull depends on: versions, address, TLS, credentials, latency, the clock, and the server's page limit."""

from __future__ import annotations

import platform
import time
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from attrs import define, field

from ._paging import MAX_PAGE_ROWS
from ._redaction import hide_credentials
from ._wording import format_count
from .errors import EXTRAS, AuthenticationError, IovoxError, TLSError
from .query import InsightsQuery

if TYPE_CHECKING:
    from ._params.account_time import AccountTime
    from .client import AsyncInsights

#: Seconds.
_MAX_CLOCK_DIFFERENCE: Final = 60.0
_PACKAGES: Final = ("httpx", "attrs", "cattrs", "msgspec", "pyarrow")
_MODULES: Final = {
    "httpx-aiohttp": "httpx_aiohttp",
    "rich-click": "rich_click",
    "opentelemetry-api": "opentelemetry",
}
_YEAR: Final = timedelta(days=365)


@define
class Checks:
    """The results so far.

    Attributes:
        rows: a name, whether it is ok (None: worth a look), and a text that says what to do.
        error: what ended the checks early, or None.
    """

    rows: list[tuple[str, bool | None, str]] = field(factory=list)
    error: IovoxError | None = None

    def add(self, name: str, ok: bool | None, text: str) -> None:
        """Adds a row."""
        self.rows.append((name, ok, text))

    def check_machine(self) -> None:
        """Checks the versions and extras."""
        packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
        self.add(
            "versions",
            True,
            f"iovox-async {_version('iovox-async')}, Python {platform.python_version()}, {packages}",
        )
        self.add("extras", True, _extras())

    async def check_endpoint(self, insights: AsyncInsights) -> None:
        """Checks the rest, by up to three requests."""
        address = hide_credentials(insights.account.rpartition(" at ")[2])
        started = time.monotonic()
        try:
            await insights.page(page_size=1, fields=("id", "call_start"))
        except IovoxError as error:
            self.error = error
            refused = isinstance(error, AuthenticationError)
            self.add(
                "TLS" if isinstance(error, TLSError) else "credentials" if refused else "address",
                False,
                address,
            )
            return
        seconds = time.monotonic() - started
        self.add("address", True, address)
        secure = address.startswith("https")
        self.add("TLS", True, "the certificate is valid" if secure else "not used: the address is http")
        self.add("credentials", True, "accepted")
        started, end = time.monotonic(), insights.now()
        query = InsightsQuery(start_date=end - _YEAR, end_date=end, order="call_start_ASC", fields=("id",))
        rows = len((await insights.page(query, page_size=MAX_PAGE_ROWS)).calls)
        seconds_of_all = time.monotonic() - started
        text = f"{seconds * 1000:.0f} ms for one row"
        if rows:
            text += f", {seconds_of_all * 1000:.0f} ms for {format_count(rows, 'id')}"
        self.add("latency", True if seconds < 1 else None, text)
        self._check_clock(insights._connection.time)  # noqa: SLF001 - of this package
        if rows == MAX_PAGE_ROWS:
            self.add("page cap", True, f"{MAX_PAGE_ROWS:,} rows, as documented")
            return
        more = (await insights.page(query, page=rows + 1, page_size=1)).calls
        text = f"at least {format_count(rows, 'row')}: the last year has no more calls"
        if not rows:
            text = "unknown: the last year has no calls"
        self.add("page cap", True, f"{rows:,} rows, fewer than documented; pulls adapt" if more else text)

    def _check_clock(self, account_time: AccountTime) -> None:
        difference = account_time.ahead_of_server()
        if difference is None:
            self.add("clock", None, "the server sends no Date header")
            return
        # The header cuts the fraction of its second off.
        seconds = difference.total_seconds() - 0.5
        text = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the server's"
        if abs(seconds) <= 1:
            text = "within 1 s of the server's"
        ok = abs(seconds) <= _MAX_CLOCK_DIFFERENCE
        self.add("clock", ok, text if ok else f"{text}: synchronize this machine's clock")


def _extras() -> str:
    from ._http.engines import is_installed  # a slow import, and `iovox doctor --help` does not need it

    def can_import(package: str) -> bool:
        name = package.partition("[")[0]
        return is_installed(_MODULES.get(name, name))

    installed = [name for name, packages in EXTRAS.items() if all(map(can_import, packages))]
    missing = [name for name in EXTRAS if name not in installed]
    return ", ".join(installed) + (f" (not installed: {', '.join(missing)})" if missing else "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
