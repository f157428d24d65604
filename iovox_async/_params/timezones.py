"""Time zones by name or as tzinfo."""

from __future__ import annotations

from datetime import tzinfo
from zoneinfo import ZoneInfo

from ..errors import ConfigurationError

__all__ = ["zone_of"]


def zone_of(timezone: tzinfo | str | None) -> tzinfo | None:
    """A time zone, by itself or by its name.

    Raises:
        ConfigurationError: there is no such time zone.
    """
    if timezone is None or isinstance(timezone, tzinfo):
        return timezone
    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, TypeError, OSError):
        raise ConfigurationError(
            f"timezone: there is no time zone {str(timezone)[:64]!r}; give a tzinfo or an IANA name such as 'Europe/London'"
        ) from None
