"""Decides how many rows a request may ask for: fewer after larger pages failed, and more again once smaller ones have come.

A server may fail for a while at any page, or always at pages above some size. So the size is doubled again after some full pages. If a
page of the doubled size fails, that takes twice as many pages the next time, so that few requests are spent on trying.
"""

from __future__ import annotations

from typing import Final

from .types import MAX_PAGE_ROWS

#: Full pages after which the size is doubled, at least and at most.
MIN_PAGES: Final = 16
MAX_PAGES: Final = 1_024


class RowLimit:
    """The most rows of a request.

    Attributes:
        rows: the limit.
        is_reduced: requests have failed lately, so shorter ones may succeed.
    """

    def __init__(self) -> None:
        self.rows: int = MAX_PAGE_ROWS
        self.is_reduced: bool = False
        #: Full pages since the limit was changed, and how many of them double it.
        self._pages, self._pages_needed = 0, MIN_PAGES
        #: The limit was doubled, and no page has shown yet that the server can send so many rows.
        self._is_trial = False

    def record_failure(self, limit: int, page_rows: int) -> bool:
        """Lowers the limit after a failed request for `limit` rows, unless it was small for a stream with pages of `page_rows`.

        Returns:
            Whether the failure says something about the size: not that of a small request, which fails by something else.
        """
        self.is_reduced = True
        if limit < min(page_rows, self.rows):
            return False
        # Requests that were in flight together fail together; that counts as one failure.
        if limit <= self.rows:
            self._pages_needed = min(2 * self._pages_needed, MAX_PAGES) if self._is_trial else MIN_PAGES
            self._pages, self._is_trial = 0, False
        self.rows = max(1, min(self.rows, limit // 2))
        return True

    def record_page(self, rows: int, limit: int, page_rows: int) -> None:
        """Counts a page of `rows` rows that was requested with `limit`, and doubles the limit if it is time.

        To be called while no window is left that has failed: it might take its last attempt for a page that is too large.
        """
        if limit < min(page_rows, self.rows) or rows <= limit // 2:
            return
        if self._is_trial:
            self._is_trial, self._pages_needed = False, MIN_PAGES
        self._pages += 1
        if self.is_reduced and self._pages >= self._pages_needed:
            self._pages, self._is_trial = 0, True
            self.rows = 2 * self.rows if 2 * self.rows < page_rows else MAX_PAGE_ROWS
            self.is_reduced = self.rows < MAX_PAGE_ROWS
