"""Parses the query string of a request, by the endpoint's tables of parameters and of 400 errors.

`parse_request` returns a `ParsedRequest` or a `RequestErrors`; it raises nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from urllib.parse import parse_qsl

import attrs

from . import _columns
from ._timestamps import complete_date

DEFAULT_LIMIT, MAX_LIMIT = 10_000, 20_000
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d(?::\d\d(?::\d\d)?)?)?", re.ASCII)
_MAX_OFFSET = 2**62

#: SQL and the values of its question marks.
Condition = tuple[str, tuple[str | int, ...]]


@attrs.frozen
class ParsedRequest:
    """A valid request.

    Attributes:
        start, end: first and last second, `YYYY-MM-DD HH:MM:SS`; None for no bound.
    """

    page: int
    limit: int
    order: str
    descending: bool
    start: str | None
    end: str | None
    conditions: tuple[Condition, ...]
    fields: tuple[str, ...]


@attrs.frozen
class RequestErrors:
    """The errors of an invalid request, worded as in the documentation."""

    messages: tuple[str, ...]
    status: int = 400


def _equals(column: str) -> Callable[[str], Condition]:
    return lambda value: (f"c.{column}=?", (value,))


def _has_item(column: str, key: str, *, multiple: bool = False) -> Callable[[str], Condition]:
    """Returns a filter for calls whose list `column` has an item with the value, or one of the values, under `key`."""

    def condition(value: str) -> Condition:
        values = _split(value) if multiple else (value,)
        marks = ",".join("?" * len(values))
        select = f"SELECT fragment FROM fragment_values WHERE kind=? AND value IN ({marks})"  # noqa: S608 - question marks only
        return f"c.{column} IN ({select})", (key, *values)

    return condition


def _ids(value: str) -> Condition:
    # Items that are not numbers match no call.
    ids = tuple(int(item) for item in _split(value) if item.isascii() and item.isdigit() and len(item) < 19)
    return f"c.id IN ({','.join('?' * len(ids))})", ids


def _split(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


#: The parameters that filter calls, except the dates.
FILTERS: Mapping[str, Callable[[str], Condition]] = {
    "id": _ids,
    **{
        name: _equals(name)
        for name in (
            *("node_id", "node_name", "node_type", "link_id", "link_name", "link_type"),
            *("call_result", "rule_result", "call_origin", "iovox_number", "call_destination", "direction"),
        )
    },
    # The sandbox does not encode origins in responses, so both forms are the same.
    "call_origin_encoded": _equals("call_origin"),
    **{
        f"{kind}_category_ids": _has_item(f"{kind}_categories", "category_id", multiple=True)
        for kind in ("link", "call", "node", "contact")
    },
    "tag_text": _has_item("tags", "text"),
    "tag_colour": _has_item("tags", "colour", multiple=True),
    "keyword_rules": _has_item("keyword_rules", "keyword_rule"),
    "call_outcomes": _has_item("call_outcomes", "call_outcome"),
}


def filter_conditions(parameters: Mapping[str, str]) -> tuple[Condition, ...]:
    """Returns the SQL conditions of the filters; unknown names and empty values are ignored, as by the endpoint."""
    return tuple(FILTERS[name](value) for name, value in parameters.items() if name in FILTERS and value)


def parse_request(query: str, now: datetime) -> ParsedRequest | RequestErrors:
    """Parses a query string; `now` is the account's local time, for the dates that it leaves out."""
    parameters = {name: value for name, value in parse_qsl(query, errors="replace") if value}
    errors: list[str] = []
    page = _parse_number(parameters.get("page", "1"), "Page number not an integer", errors)
    limit = _parse_number(parameters.get("limit", str(DEFAULT_LIMIT)), "Limit not an integer", errors)
    if limit is not None and not 1 <= limit <= MAX_LIMIT:
        errors.append(f"Limit must be between 1 and {MAX_LIMIT}")
    order, descending = _parse_order(parameters.get("order", "call_start_DESC"), errors)
    start, end = _parse_range(parameters, now, errors)
    iovox_number = parameters.get("iovox_number", "0")
    if not (iovox_number.isascii() and iovox_number.isdigit()):
        errors.append("Iovox Number not an integer")
    fields = _split(parameters.get("response_fields", "")) or _columns.DEFAULT
    if unknown := [name for name in fields if name not in _columns.NAMES]:
        # "olvalid" is the documentation's spelling.
        errors.append(f"Required fields olvalid: {', '.join(unknown)}")
    if errors or page is None or limit is None:
        return RequestErrors(tuple(errors))
    return ParsedRequest(
        # No error is documented for page 0, so it is the first page. Very large pages are empty in any case; the bound
        # keeps the offset within SQLite's integers.
        page=min(max(page, 1), _MAX_OFFSET // MAX_LIMIT),
        limit=limit,
        order=order,
        descending=descending,
        start=start,
        end=end,
        conditions=filter_conditions(parameters),
        fields=fields,
    )


def _parse_number(value: str, message: str, errors: list[str]) -> int | None:
    # More than 19 digits would only slow down the conversion.
    if value.isascii() and value.isdigit():
        return int(value[:19])
    errors.append(message)
    return None


def _parse_order(value: str, errors: list[str]) -> tuple[str, bool]:
    name, _, direction = value.rpartition("_")
    if direction not in {"ASC", "DESC"}:
        errors.append("Order Direction Invalid")
        name = name if name in _columns.NAMES else value
    if name not in _columns.NAMES or name in _columns.UNORDERED:
        errors.append("Order Field Invalid")
    return name, direction == "DESC"


def _parse_range(
    parameters: Mapping[str, str], now: datetime, errors: list[str]
) -> tuple[str | None, str | None]:
    if parameters.get("date_constant") == "YESTERDAY":
        day = (now - timedelta(days=1)).strftime("%Y-%m-%d")
        return f"{day} 00:00:00", f"{day} 23:59:59"
    start = _parse_date(parameters.get("start_date", now.strftime("%Y-%m-01")), "00:00:00")
    end = _parse_date(parameters.get("end_date", now.strftime("%Y-%m-%d")), "23:59:59")
    if start is None:
        errors.append("Start Date invalid")
    if end is None:
        errors.append("End Date invalid")
    return start, end


def _parse_date(value: str, default_time: str) -> str | None:
    """Returns a documented date, completed by `default_time`; None if it is invalid."""
    if not _DATE.fullmatch(value):
        return None
    complete = complete_date(value, default_time)
    try:
        datetime.strptime(complete, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - the endpoint's dates have no zone
    except ValueError:
        return None
    return complete
