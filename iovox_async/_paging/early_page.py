"""The full page that is requested along with the first, small page of a long range.

Both requests start at the first second. The small page is answered quickly, so the reader has its first calls early. The full
page comes soon after it, instead of one request later, and shows the traffic of some days, by which windows are sized.
It then counts as the page of the window that begins where the small page ends; if the small page claims that nothing follows, it
is the check of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .types import PageRequest, PageResult
    from .window import Window

#: The rows of a full page, as a multiple of those of the small one, that are worth a request.
MIN_RATIO: Final = 2


class EarlyPage(msgspec.Struct, eq=False):
    """The request for the full page, and its page, until a window takes them over.

    Attributes:
        may_request: the full page may still be requested.
        request: the request, while no window has taken it over.
        result: the page, if it has come before the small page.
    """

    may_request: bool
    request: PageRequest | None = None
    result: PageResult | None = None
    _dropped: bool = False

    @property
    def in_flight(self) -> bool:
        """Whether the request is in flight, and not that of a window."""
        return self.request is not None and self.result is None

    @property
    def is_coming(self) -> bool:
        """Whether a window may take over the request."""
        return self.request is not None and not self._dropped

    def may_start(self, windows: Sequence[Window], limit: int) -> bool:
        """Whether the request may start: only while the request for the small page is in flight."""
        first = windows[0].request if self.may_request and len(windows) == 1 else None
        return first is not None and limit >= MIN_RATIO * first.limit

    def start(self, windows: Sequence[Window], limit: int) -> PageRequest:
        """Makes the request."""
        assert windows[0].request is not None
        self.may_request = False
        self.request = replace(windows[0].request, limit=limit)
        return self.request

    def receive(self, result: PageResult) -> None:
        """Keeps the page until a window takes it over."""
        if self._dropped:
            self.request = None
        else:
            # The page forgets its ids after this call.
            ids = result.ids()
            self.result = replace(result, ids=lambda: ids)

    def take_over(self, windows: Sequence[Window], *, is_full: bool) -> tuple[PageRequest, PageResult] | None:
        """Makes the request that of the first pending window. To be called after the small page was accepted.

        Args:
            windows: those of the plan.
            is_full: the small page was full; else the request is of use only as a check of its claim.

        Returns:
            The request and its page, if that has come already.
        """
        self.may_request = False
        window = next((window for window in windows if window.state == "pending"), None)
        if self.request is None or self._dropped:
            return None
        if window is None or not (window.is_untouched if is_full else window.is_check):
            self.drop()
            return None
        request, result = self.request, self.result
        self.request = self.result = None
        window.state, window.request = "in flight", request
        return None if result is None else (request, result)

    def drop(self) -> None:
        """Leaves the page out: it is of no use."""
        self.may_request, self._dropped = False, True
        if self.result is not None:
            self.request = self.result = None
