"""What remains of a window after a page that may be truncated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from .single_second import SingleSecondReader
from .window import Page, Window, request_bounds

if TYPE_CHECKING:
    from datetime import datetime

    from .types import ServerPageLimit


def rest_of_truncated(page: Page, descending: bool, server_limit: ServerPageLimit) -> list[Window]:
    """The windows of the seconds that a page did not finish.

    Args:
        page: the page; it has rows.
        descending: the plan reads the latest calls first.
        server_limit: the server's page limit, as observed.
    """
    window, last, first = page.window, page.last, page.first
    assert last is not None
    if page.in_one_unit and (page.is_short or not page.descending or page.is_unit):
        # All rows are in one second. It becomes a window of its own; the seconds before it are empty.
        unit = _single_unit(last, page, server_limit)
        rest = (window.start, unit.start) if descending else (unit.stop, window.stop)
        return [unit, Window(*rest)]
    if page.complete[0] < page.complete[1]:
        return [Window(*page.rest, rows_seen_before=page.rows_of_rest())]
    if not page.is_unit:
        # Not even the first second is complete. It is read on its own; if the second before it fills the page, from the
        # other side.
        rest = (window.start, first[0]) if descending else (first[1], window.stop)
        reverses_order = page.only_before and not descending
        return [
            Window(*first, reverses_order=reverses_order, rows_seen_before=page.rows_of_first_unit()),
            Window(*rest),
        ]
    if page.only_before and not page.descending:
        return [Window(window.start, window.stop, reverses_order=True)]
    return [_single_unit(page.hours.unit(window.start), page, server_limit)]


def _single_unit(unit: tuple[datetime, datetime], page: Page, server_limit: ServerPageLimit) -> Window:
    """The window of a second (or of an hour that is read like one) whose calls do not fit into one page."""
    window = Window(max(unit[0], page.window.start), min(unit[1], page.window.stop))
    window.rows_seen_before = len(page.rows_in(window.start, window.stop))
    # A page that contains only this second, and is shorter than its limit, is page 1 of the second. A full page means
    # that there are more, which a larger page may contain at once.
    if page.is_unit or page.is_short:
        start, stop = request_bounds(window.start, window.stop, page.hours)
        own_request = replace(page.request, start=start, stop=stop, order="call_start_ASC")
        is_first_page = not page.descending or not page.is_unit
        window.second_reader = SingleSecondReader(
            own_request,
            page.result if is_first_page else None,
            server_limit,
            owned=(window.start, window.stop),
            complete_at=unit[1],
        )
    return window
