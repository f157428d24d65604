"""`iovox profiles`: lists the profiles of accounts."""

from __future__ import annotations

import os

import click

from iovox_async._profiles import config_path, load_profiles

from ..base import command
from ..console import print_note
from ..tables import fit_columns, format_cell, format_table


@command(("use one", "iovox calls yesterday --profile uk"))
def profiles() -> None:
    """Runs `iovox profiles`.

    An asterisk marks the one that is used without --profile. No key is printed.
    """
    by_name, default = load_profiles()
    if not by_name:
        print_note(f"There are no profiles in {config_path()}. iovox help environment shows an example.")
        return
    used = os.environ.get("IOVOX_PROFILE") or default or "default"
    rows: list[tuple[str, ...]] = [("profile", "username", "address", "time zone", "key")]
    for name, profile in sorted(by_name.items()):
        entries = [format_cell(profile.entries.get(key, "")) for key in ("username", "url", "timezone")]
        rows.append((f"{name}{'*' if name == used else ''}", *entries, profile.key_source))
    click.echo(format_table(rows, fit_columns(rows)))
