"""Numbers the lists inside calls, and writes them as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

#: The keys that lists can be filtered by.
_FILTER_KEYS = {
    **dict.fromkeys(
        ("link_categories", "call_categories", "node_categories", "contact_categories"), ("category_id",)
    ),
    "tags": ("text", "colour"),
    "keyword_rules": ("keyword_rule",),
    "call_outcomes": ("call_outcome",),
}


@attrs.define
class FragmentPool:
    """Numbers the lists inside calls; new ones wait in `pending` until the store inserts them."""

    _last: int = 0
    _numbers: dict[tuple[str, str], int] = attrs.field(factory=dict)
    #: (number, column, JSON)
    pending: list[tuple[int, str, str]] = attrs.field(factory=list)
    #: (key, value, number)
    pending_values: list[tuple[str, str, int]] = attrs.field(factory=list)

    def copy(self) -> FragmentPool:
        """Returns a pool with the same lists and numbers, for another store."""
        return FragmentPool(self._last, self._numbers.copy(), self.pending.copy(), self.pending_values.copy())

    def number(self, column: str, items: Any, *, shared: bool = True) -> int:
        """Returns the number of a list in `column`; `shared=False` if no other call has the same.

        Raises:
            TypeError: the list cannot be written as JSON.
            ValueError: the same, or it contains a lone surrogate.
        """
        if items == []:
            return 0
        text = to_json(items)
        # SQLite would reject a lone surrogate. Then the list would stay in `pending` and break every later change.
        text.encode()
        if shared and (column, text) in self._numbers:
            return self._numbers[column, text]
        self._last += 1
        if shared:
            self._numbers[column, text] = self._last
        self.pending.append((self._last, column, text))
        for key in _FILTER_KEYS.get(column, ()):
            self.pending_values.extend((key, value, self._last) for value in _filter_values(items, key))
        return self._last


def to_json(items: Any) -> str:
    """Returns JSON without blanks."""
    return json.dumps(items, ensure_ascii=False, separators=(",", ":"))


def _filter_values(items: Any, key: str) -> Iterable[str]:
    for item in items if isinstance(items, list) else [items]:
        # An empty id does not count as an id, so no list of ids matches it.
        if isinstance(item, Mapping) and item.get(key):
            yield str(item[key])
