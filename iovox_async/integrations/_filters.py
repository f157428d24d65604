"""Reads the endpoint's filters from the query of a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from iovox_async.errors import QueryError
from iovox_async.query import Filters, InsightsQuery

#: The filters that take several values.
LIST_FILTERS = frozenset(
    name for name in Filters.__annotations__ if name.endswith("ids") or name == "tag_colour"
)


def filters_in(query: Iterable[tuple[str, str]]) -> Filters:
    """The filters among the parameters of a query, as keyword arguments; other parameters are left out.

    Raises:
        QueryError: a value is invalid, or a filter that takes one value has several.
    """
    filters: dict[str, Any] = {}
    for name, value in query:
        if name not in Filters.__annotations__:
            continue
        if name in filters and name not in LIST_FILTERS:
            raise QueryError(name, "must have one value, got several")
        filters[name] = f"{filters[name]},{value}" if name in filters else value
    return cast("Filters", InsightsQuery(**filters).active_filters())
