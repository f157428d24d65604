"""The lists inside calls, each different one stored once.

The law of this room: a call refers to its tags, categories, transcriptions and so on by numbers, and number 0 is the
empty list. So 100,000 calls share a few hundred pieces of JSON, and a filter looks at the pieces instead of the calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

#: Which keys of which lists can be filtered by.
_MARKED = {
    "link_categories": ("category_id",),
    "call_categories": ("category_id",),
    "node_categories": ("category_id",),
    "contact_categories": ("category_id",),
    "tags": ("text", "colour"),
    "keyword_rules": ("keyword_rule",),
    "call_outcomes": ("call_outcome",),
}


def dump(items: Any) -> str:
    """JSON without blanks."""
    return json.dumps(items, ensure_ascii=False, separators=(",", ":"))


def shown(text: str, keys: frozenset[str]) -> str:
    """A stored list with these keys of its items only; one that a test made an object of one item stays an object."""

    def part(item: Any) -> Any:
        return {key: item[key] for key in item if key in keys} if isinstance(item, dict) else item

    items = json.loads(text)
    return dump([part(item) for item in items] if isinstance(items, list) else part(items))


@attrs.define
class Fragments:
    """Gives numbers to lists and keeps what is new until the store takes it."""

    _last: int = 0
    _known: dict[tuple[str, str], int] = attrs.field(factory=dict)
    #: (number, column, JSON)
    fresh: list[tuple[int, str, str]] = attrs.field(factory=list)
    #: (key, value, number)
    marks: list[tuple[str, str, int]] = attrs.field(factory=list)

    def number(self, column: str, items: Any, *, alone: bool = False) -> int:
        """The number of a list in `column`; `alone` says that no other call will have the same.

        Raises:
            TypeError: it cannot be written as JSON.
            ValueError: neither can this, or it holds half a surrogate pair.
        """
        if items == []:
            return 0
        text = dump(items)
        # What the store cannot take must not wait here, where it would spoil every later change.
        text.encode()
        known = None if alone else self._known.get((column, text))
        if known is not None:
            return known
        self._last += 1
        if not alone:
            self._known[column, text] = self._last
        self.fresh.append((self._last, column, text))
        for key in _MARKED.get(column, ()):
            self.marks.extend((key, value, self._last) for value in _values(items, key))
        return self._last


def _values(items: Any, key: str) -> Iterable[str]:
    for item in items if isinstance(items, list) else [items]:
        # An empty id is no id, so no list of ids finds it.
        if isinstance(item, Mapping) and item.get(key):
            yield str(item[key])
