"""The end of a long range, which is requested while most of the range is still to be read.

The last page of a range has no call after it, so a second request must check it. That would take the time of one more request
after all calls have come. So the last seconds of the range become a window that is requested as soon as another request is in
flight, and checked at once. The windows before it then have calls after them, which prove their ends. Its pages do not count for
the traffic by which these windows are sized: the end of a range says little about what comes before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from .window import Window


class EarlyTail(msgspec.Struct, eq=False):
    """The window at the end of the range that is read before those in front of it.

    Attributes:
        may_request: it may still be requested.
    """

    may_request: bool
    _bounds: tuple[datetime, datetime] | None = None

    def may_start(self, windows: Sequence[Window], index: int) -> bool:
        """Whether it may be split off a window: off the last one, while the rows to deliver next are on their way."""
        in_flight = any(window.state == "in flight" for window in windows)
        return self.may_request and in_flight and 0 < index == len(windows) - 1

    def start(self, window: Window) -> Window:
        """Notes that this window, the last of the range, is the one that is read early; returns it."""
        self.may_request, self._bounds = False, (window.start, window.stop)
        return window

    def covers(self, window: Window) -> bool:
        """Whether a window is this one, or what a page left of it."""
        bounds = self._bounds
        return bounds is not None and bounds[0] <= window.start and window.stop <= bounds[1]

    def has_check(self, windows: Sequence[Window]) -> bool:
        """Whether its check is the next request."""
        last = windows[-1] if windows and windows[0].state != "pending" else None
        return last is not None and last.state == "pending" and last.is_check and self.covers(last)

    def drop(self, window: Window) -> bool:
        """Ends the special treatment of the window, because its request failed or it has more calls than expected.

        Returns:
            Whether the argument is this window; if not, nothing is changed.
        """
        if not self.covers(window):
            return False
        self._bounds = None
        return True
