"""The windows of a plan, in the order of delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .types import SECOND

if TYPE_CHECKING:
    from .._params.account_time import UncutHours
    from .types import PageRequest, RowSlice
    from .window import Page, Window


class WindowQueue(msgspec.Struct, eq=False):
    """The windows that cover what is not delivered yet, without gap or overlap.

    Attributes:
        windows: the windows, in the order of delivery.
        descending: the latest calls are delivered first.
        hours: the hours that must not be cut.
    """

    windows: list[Window]
    descending: bool
    hours: UncutHours

    @property
    def in_flight(self) -> int:
        """Windows whose request is in flight."""
        return sum(window.state == "in flight" for window in self.windows)

    @property
    def pages(self) -> int:
        """Pages that are kept in memory."""
        return sum(window.pages for window in self.windows)

    @property
    def seconds(self) -> float:
        """Seconds whose calls are not delivered yet."""
        return sum(window.seconds for window in self.windows)

    def next_rows(self, *, ordered: bool) -> RowSlice | None:
        """Removes and returns the next rows to deliver, or None; if not `ordered`, those of any window."""
        for index, window in enumerate(self.windows):
            if window.state == "done" and window.rows:
                rows = window.rows.pop(0)
                if not window.rows:
                    del self.windows[index]
                return rows
            if ordered:
                return None
        return None

    def discard_rows(self) -> None:
        """Drops the pages that wait for delivery."""
        for window in self.windows:
            window.rows, window.second_reader = [], None

    def next_pending(self) -> int | None:
        """The index of the first pending window that may be requested now; None if there is none.

        A window that is claimed to be empty waits while a check is in flight: that may show that it is (`drop_empty`).
        """
        checks_in_flight = False
        for index, window in enumerate(self.windows):
            if window.state == "in flight":
                checks_in_flight = checks_in_flight or window.is_check
            elif window.state == "pending" and not (checks_in_flight and window.is_claimed_empty):
                return index
        return None

    def index_of(self, request: PageRequest) -> int:
        """The index of the window whose request is in flight."""
        return next(index for index, window in enumerate(self.windows) if window.request is request)

    def split(self, index: int, seconds: int) -> None:
        """Splits a window so that its first part, in the order of delivery, has `seconds` seconds."""
        window = self.windows[index]
        middle = window.stop - seconds * SECOND if self.descending else window.start + seconds * SECOND
        before, after = self.hours.bound_before(middle), self.hours.bound_after(middle)
        self.windows[index : index + 1] = window.split(
            before if before > window.start else after, self.descending
        )

    def join_following(self, index: int, rest: Window, page: Page) -> None:
        """Extends `rest` by the next window, and removes that, so that one request may read both.

        Nothing is done if something of the next window has been requested.

        Args:
            index: the index of the window that the page answers.
            rest: the seconds of that window which are to be requested again.
            page: the page.
        """
        following = self.windows[index + 1 : index + 2]
        if following and page.descending == self.descending and following[0].can_join(page.window):
            rest.start, rest.stop = min(rest.start, following[0].start), max(rest.stop, following[0].stop)
            del self.windows[index + 1]

    def replace(self, index: int, windows: list[Window]) -> None:
        """Replaces a window by others, except those without seconds, and those that are done and have no rows to deliver."""
        kept = []
        for window in sorted(windows, key=lambda window: window.start, reverse=self.descending):
            window.rows = [rows for rows in window.rows if len(rows.rows)]
            if window.start < window.stop and (window.state != "done" or window.rows):
                kept.append(window)
        self.windows[index : index + 1] = kept

    def has_claim(self, window: Window) -> bool:
        """Whether another window has a claim to check. A lower page limit may have cut its page, and then also the others."""
        return any(other.claim is not None for other in self.windows if other is not window)

    def drop_empty(self, page: Page) -> None:
        """Drops the windows that a check has shown to be empty, as an earlier page claimed."""
        self.windows = [window for window in self.windows if not page.shows_empty(window)]
