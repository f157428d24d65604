"""The programs that are measured, each in a module of its own, written as a careful user of its libraries would write it.

No program is made slower than it has to be.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple


class Program(NamedTuple):
    """One program.

    Attributes:
        name: its module and its name in results.
        label: its name in tables and charts.
        needs: the packages it imports.
        ours: whether it is this project's.
        writes: whether it writes Parquet files instead of counting calls itself.
    """

    name: str
    label: str
    needs: tuple[str, ...]
    ours: bool = False
    writes: bool = False

    def missing(self) -> list[str]:
        """The packages it needs that are not installed; empty if it can run."""
        return [package for package in self.needs if not _installed(package)]


def _installed(package: str) -> bool:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # the parent of a submodule is missing
        return False
    return spec is not None and spec.origin is not None  # a folder without code has no origin


_OURS = ("iovox_async.client",)

PROGRAMS: dict[str, Program] = {
    program.name: program
    for program in (
        Program("stream", "iovox_async: stream", _OURS, ours=True),
        Program("stream_httpx2", "iovox_async: stream over httpx2", (*_OURS, "httpx2"), ours=True),
        Program("stream_aiohttp", "iovox_async: stream over aiohttp", (*_OURS, "httpx_aiohttp"), ours=True),
        Program("arrow", "iovox_async: arrow", (*_OURS, "iovox_async.arrow", "pyarrow"), ours=True),
        Program("stream_blocking", "iovox_async.blocking: stream", ("iovox_async.blocking",), ours=True),
        Program(
            "arrow_blocking",
            "iovox_async.blocking: arrow",
            ("iovox_async.blocking", "iovox_async.arrow", "pyarrow"),
            ours=True,
        ),
        Program(
            "backfill",
            "iovox_async: backfill",
            (*_OURS, "iovox_async.backfill", "pyarrow"),
            ours=True,
            writes=True,
        ),
        Program(
            "backfill_command",
            "iovox backfill",
            (*_OURS, "iovox_async.cli", "rich_click", "pyarrow"),
            ours=True,
            writes=True,
        ),
        Program("httpx_gather", "httpx + gather + cattrs", ("httpx", "cattrs")),
        Program("httpx_pages", "httpx, one page at a time, + cattrs", ("httpx", "cattrs")),
        Program("httpx_page", "httpx.get of one page", ("httpx",)),
        Program("aiohttp_gather", "aiohttp + gather + cattrs", ("aiohttp", "cattrs")),
        Program("httpx2_gather", "httpx2 + gather + cattrs", ("httpx2", "cattrs")),
        Program("aiohttp_msgspec", "aiohttp + gather + msgspec", ("aiohttp", "msgspec")),
        Program("httpx_gather_all", "httpx + gather + cattrs, all fields", ("httpx", "cattrs")),
        Program("dlt_client", "dlt REST client, plain dicts", ("dlt",)),
        Program("dlt_parquet", "dlt pipeline to Parquet", ("dlt", "pyarrow"), writes=True),
        Program(
            "pandas_parquet",
            "httpx + gather + pandas to Parquet",
            ("httpx", "pandas", "pyarrow"),
            writes=True,
        ),
    )
}
