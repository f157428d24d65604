"""The credentials of a command, from the environment, a profile or prompts."""

from __future__ import annotations

import os
from typing import Final

import rich_click as click

from iovox_async import ConfigurationError
from iovox_async._profiles import Profile, load_profiles, read_key

from . import CREDENTIALS
from .console import is_terminal, print_warning

_PROMPTS: Final = {"username": "Username", "secure_key": "Secure key"}


class CredentialsError(click.UsageError):
    """The credentials are missing."""

    exit_code = CREDENTIALS


def profile_names() -> list[str]:
    """The names of all profiles, for completion."""
    try:
        return sorted(load_profiles()[0])
    except ConfigurationError:
        return []


def credentials(profile: Profile) -> dict[str, str]:
    """The arguments `username` and `secure_key` that the environment does not set, from the profile or from prompts.

    A profile's key is only used with its own user.

    Raises:
        click.UsageError: one is missing and there is no terminal, or the command that prints the key fails.
    """
    arguments: dict[str, str] = {}
    user, profile_user = os.environ.get("IOVOX_USERNAME"), profile.entries.get("username")
    if not user and profile_user:
        arguments["username"] = profile_user
    if user and profile_user not in {None, user} and profile.name:
        print_warning(
            f"IOVOX_USERNAME overrides the user of the profile {profile.name}; so the profile's key is not used."
        )
    elif not os.environ.get("IOVOX_SECURE_KEY"):
        try:
            key = read_key(profile)
        except ConfigurationError as error:
            raise CredentialsError(str(error)) from None
        arguments |= {"secure_key": key} if key else {}
    missing = [
        name for name in _PROMPTS if name not in arguments and not os.environ.get(f"IOVOX_{name.upper()}")
    ]
    if missing and not (is_terminal("stdin") and is_terminal("stderr")):
        variables = " and ".join(f"IOVOX_{name.upper()}" for name in missing)
        raise CredentialsError(
            f"Set the environment variable{'s' if len(missing) > 1 else ''} {variables}, or use a profile (iovox help "
            "environment). Without an account, try iovox demo."
        )
    prompts = {
        name: click.prompt(_PROMPTS[name], hide_input=name == "secure_key", err=True) for name in missing
    }
    return arguments | prompts
