"""Sets the account's clock back or forward, and reads dates as a server does that keeps instants."""

from __future__ import annotations

import io
import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from .endpoint import at

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AccountClock"]

#: Seconds by which the clock is ahead of UTC before it is changed.
AHEAD = 3_600


class AccountClock:
    """A clock that is set forward by `shift` seconds (back, if negative) when it shows the second `shift_at`.

    Args:
        folds: which of its two instants is meant by the start and by the end of a range in an hour that occurs twice.
    """

    def __init__(self, shift_at: float, shift: int, folds: Sequence[int]) -> None:
        self.zone = _zone(shift_at, shift)
        self._folds = folds

    def instant(self, local: datetime) -> datetime:
        """The instant of a local time, as naive UTC; its `fold` says which one."""
        return local.replace(tzinfo=self.zone).astimezone(UTC).replace(tzinfo=None)

    def real(self, local: datetime) -> datetime:
        """The local time itself, or another one if the clock skipped it."""
        return local.replace(tzinfo=self.zone).astimezone(UTC).astimezone(self.zone).replace(tzinfo=None)

    def bounds(self, first: datetime, last: datetime) -> tuple[datetime, datetime]:
        """The instants of the bounds of a range."""
        start, end = self._folds
        return self.instant(first.replace(fold=start)), self.instant(last.replace(fold=end))


def _zone(shift_at: float, shift: int) -> ZoneInfo:
    """A time zone in the format of the time zone database (RFC 9636), with one change."""
    change = int((at(shift_at) - datetime(1970, 1, 1)).total_seconds()) - AHEAD
    counts = struct.pack(">6l", 0, 0, 0, 1, 2, 8)
    types = struct.pack(">lBBlBB", AHEAD, 0, 0, AHEAD + shift, 0, 4)
    data = b"TZif" + bytes(16) + counts + struct.pack(">lB", change, 1) + types + b"OLD\0NEW\0"
    return ZoneInfo.from_file(io.BytesIO(data))
