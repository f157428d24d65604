"""Profiles of accounts: `config.toml` in the user's configuration directory.

Invariant: no message contains a key, nor the output of a command that prints one.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from . import _platform
from .errors import ConfigurationError
from .fields import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Other names of entries.
_ALIASES: Final = {"address": "url", "base_url": "url", "time_zone": "timezone"}
_TEXTS: Final = ("username", "url", "timezone", "proxy", "ca_bundle", "secure_key_command", "secure_key")
_NUMBERS: Final[Mapping[str, tuple[Any, str]]] = {
    "concurrency": (int, "whole number"),
    "page_size": (int, "whole number"),
    "timeout": ((int, float), "number"),
}
#: All entries that a profile may have.
ENTRIES: Final = (*_TEXTS, *_NUMBERS)
#: Entries that are the defaults of options.
_OPTIONS: Final = ("timezone", "proxy", "ca_bundle", *_NUMBERS)
_EXAMPLE: Final = "iovox help environment shows an example."


class Profile(msgspec.Struct, frozen=True):
    """The entries of one profile; all are empty where no profile is used.

    Attributes:
        name: its name, or None.
        entries: the entries of the file.
    """

    name: str | None = None
    entries: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Profile(name={self.name!r})"  # the entries may hold the key

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("name", self.name)]

    @property
    def url(self) -> str | None:
        """The base URL."""
        return self.entries.get("url")

    @property
    def options(self) -> dict[str, Any]:
        """The defaults of options."""
        return {name: self.entries[name] for name in _OPTIONS if name in self.entries}

    @property
    def key_source(self) -> str:
        """Where the key comes from, for people."""
        if "secure_key_command" in self.entries:
            return f"command {_split_command(self.entries['secure_key_command'])[0]}"
        return "file" if "secure_key" in self.entries else "environment or prompt"


def config_path() -> Path:
    """The path of the configuration file, which need not exist."""
    if _platform.system == "win32":
        directory = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    else:
        directory = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(directory) / "iovox" / "config.toml"


def load_profiles() -> tuple[dict[str, Profile], str | None]:
    """The profiles by name, and the name in `default_profile`, if there is one; without it, "default" is used.

    Raises:
        ConfigurationError: the file is not what it should be, or others can read a key in it.
    """
    path = config_path()
    try:
        text = path.read_text("utf-8-sig")  # editors on Windows write a byte order mark
    except FileNotFoundError:
        return {}, None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            None, f"Cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}."
        ) from None
    import tomllib

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(None, f"{path} is not TOML: {error}.") from None
    except RecursionError:
        raise ConfigurationError(None, f"{path} is nested too deeply. {_EXAMPLE}") from None
    default = data.pop("default_profile", None)
    if default is not None and not isinstance(default, str):
        raise ConfigurationError(None, f"{path}: default_profile must be the name of a profile, as text.")
    tables = data.pop("profiles", {})
    if not isinstance(tables, dict):
        raise ConfigurationError(None, f"{path}: profiles must be tables such as [profiles.uk]. {_EXAMPLE}")
    if twice := sorted(tables.keys() & data.keys()):
        raise ConfigurationError(
            None, f"{path} has the profile {twice[0]} twice: as [profiles.{twice[0]}] and as [{twice[0]}]."
        )
    profiles = {
        name: Profile(name, _entries(path, name, table)) for name, table in (*tables.items(), *data.items())
    }
    is_private = _platform.system == "win32" or not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    if not is_private and any("secure_key" in profile.entries for profile in profiles.values()):
        raise ConfigurationError(
            None,
            f"{path} contains a key and others can read it. Run chmod 600 {shlex.quote(str(path))}, or use "
            "secure_key_command instead of secure_key.",
        )
    return profiles, default


def _entries(path: Path, profile: str, table: Any) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigurationError(
            None, f"{path}: {profile} must be a table such as [profiles.{profile}]. {_EXAMPLE}"
        )
    entries: dict[str, Any] = {_ALIASES.get(str(name), str(name)): value for name, value in table.items()}
    for name, value in entries.items():
        if name not in ENTRIES:
            suggestion = did_you_mean(name, ENTRIES) or "."
            raise ConfigurationError(
                None, f"{path}: {name} in {profile} is not an entry of a profile{suggestion} {_EXAMPLE}"
            )
        types, kind = (str, "text") if name in _TEXTS else _NUMBERS[name]
        if not isinstance(value, types) or isinstance(value, bool) or value == "":
            raise ConfigurationError(None, f"{path}: {name} in {profile} must be a {kind}.")
        if name == "secure_key_command" and not _split_command(str(value)):
            raise ConfigurationError(
                None, f"{path}: {name} in {profile} must be a command, with every quotation mark closed."
            )
    return entries


def _split_command(command: str) -> list[str]:
    """The words of a command; none if a quotation mark is not closed."""
    try:
        return command.split() if _platform.system == "win32" else shlex.split(command)
    except ValueError:
        return []


def load_profile(name: str | None) -> Profile:
    """The profile with this name; None: the default one, if there is one.

    Raises:
        ConfigurationError: there is no such profile, or the file is not what it should be.
    """
    profiles, default = load_profiles()
    origin = ""
    if name is None:
        if default is None:
            return profiles.get("default", Profile())
        name, origin = default, ", its default_profile"
    if name not in profiles:
        suggestion = did_you_mean(name, profiles) or "."
        names = ", ".join(sorted(profiles)) or "no profiles"
        raise ConfigurationError(
            None, f"{config_path()} has no profile {name}{origin}{suggestion} It has {names}."
        )
    return profiles[name]


def read_key(profile: Profile) -> str | None:
    """The key of a profile: the output of its command, or its entry; None if it has neither.

    Raises:
        ConfigurationError: the command fails.
    """
    command = profile.entries.get("secure_key_command")
    if command is None:
        return profile.entries.get("secure_key")
    import subprocess

    arguments = command if _platform.system == "win32" else _split_command(command)
    try:
        output = subprocess.run(arguments, stdout=subprocess.PIPE, check=True).stdout  # noqa: S603 - from the user's own file
        return output.decode().strip() or None
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        status = getattr(error, "returncode", None)
        reason = (
            f"exit code {status}" if status is not None else getattr(error, "strerror", None) or "no text"
        )
        raise ConfigurationError(
            None, f"The secure_key_command of the profile {profile.name} failed ({reason})."
        ) from None
