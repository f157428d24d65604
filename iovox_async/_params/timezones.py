"""Resolves time zones given by name or as tzinfo."""

from __future__ import annotations

from datetime import tzinfo
from zoneinfo import ZoneInfo

from ..errors import ConfigurationError

__all__ = ["zone_of"]


def zone_of(timezone: tzinfo | str | None) -> tzinfo | None:
    """The time zone as a tzinfo.

    Raises:
        ConfigurationError: there is no time zone with this name.
    """
    if timezone is None or isinstance(timezone, tzinfo):
        return timezone
    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, TypeError, OSError):
        problem = f"must be a time zone, got {str(timezone)[:64]!r}"
        hint = "Pass a tzinfo or an IANA name such as 'Europe/London'."
        raise ConfigurationError("timezone", problem, hint) from None
