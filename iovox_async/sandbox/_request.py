"""What a query string asks for, or why it is refused.

The law of this room: the endpoint's table of parameters and its table of 400 answers are read here, and nowhere else
in the sandbox. A query string becomes an `ParsedRequest` or a `Refusal`; nothing is raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from urllib.parse import parse_qsl

import attrs

from . import _columns, _timestamps

LIMIT, LIMIT_MAXIMUM = 10_000, 20_000
_STAMP = "%Y-%m-%d %H:%M:%S"
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d(?::\d\d(?::\d\d)?)?)?", re.ASCII)
_LARGEST_OFFSET = 2**62

#: A piece of SQL and the values of its question marks.
Condition = tuple[str, tuple[str | int, ...]]


@attrs.frozen
class ParsedRequest:
    """A query that the endpoint takes."""

    page: int
    limit: int
    order: str
    descending: bool
    #: First and last second, `YYYY-MM-DD HH:MM:SS`; None: no bound.
    start: str | None
    end: str | None
    conditions: tuple[Condition, ...]
    fields: tuple[str, ...]


@attrs.frozen
class Refusal:
    """The errors of a query, in the documentation's own words."""

    messages: tuple[str, ...]
    status: int = 400


def _equals(column: str) -> Callable[[str], Condition]:
    return lambda value: (f"c.{column}=?", (value,))


def _marked(column: str, kind: str, *, several: bool = False) -> Callable[[str], Condition]:
    """Calls whose list in `column` has an item that is marked with the value, or with one of the values."""

    def condition(value: str) -> Condition:
        values = _listed(value) if several else (value,)
        marks = ",".join("?" * len(values))
        found = f"SELECT fragment FROM marks WHERE kind=? AND value IN ({marks})"  # noqa: S608 - question marks only
        return f"c.{column} IN ({found})", (kind, *values)

    return condition


def _ids(value: str) -> Condition:
    # What is no number is no id of a call, and so finds none.
    ids = tuple(int(item) for item in _listed(value) if item.isascii() and item.isdigit() and len(item) < 19)
    return f"c.id IN ({','.join('?' * len(ids))})", ids


def _listed(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


#: The parameters that choose calls, dates apart.
FILTERS: Mapping[str, Callable[[str], Condition]] = {
    "id": _ids,
    **{
        name: _equals(name)
        for name in (
            *("node_id", "node_name", "node_type", "link_id", "link_name", "link_type"),
            *("call_result", "rule_result", "call_origin", "iovox_number", "call_destination", "direction"),
        )
    },
    # The sandbox answers origins as they are, so the form "as appearing in the response" is the same.
    "call_origin_encoded": _equals("call_origin"),
    "link_category_ids": _marked("link_categories", "category_id", several=True),
    "call_category_ids": _marked("call_categories", "category_id", several=True),
    "node_category_ids": _marked("node_categories", "category_id", several=True),
    "contact_category_ids": _marked("contact_categories", "category_id", several=True),
    "tag_text": _marked("tags", "text"),
    "tag_colour": _marked("tags", "colour", several=True),
    "keyword_rules": _marked("keyword_rules", "keyword_rule"),
    "call_outcomes": _marked("call_outcomes", "call_outcome"),
}


def conditions(filters: Mapping[str, str]) -> tuple[Condition, ...]:
    """The SQL of the filters that are given; names the table does not know choose nothing and refuse nothing."""
    return tuple(FILTERS[name](value) for name, value in filters.items() if name in FILTERS and value)


def understand(query: str, now: datetime) -> ParsedRequest | Refusal:
    """Reads a query string as the endpoint does at the instant `now`, in the account's own time."""
    given = {name: value for name, value in parse_qsl(query, errors="replace") if value}
    wrong: list[str] = []
    page = _number(given.get("page", "1"), "Page number not an integer", wrong)
    limit = _number(given.get("limit", str(LIMIT)), "Limit not an integer", wrong)
    if limit is not None and not 1 <= limit <= LIMIT_MAXIMUM:
        wrong.append(f"Limit must be between 1 and {LIMIT_MAXIMUM}")
    order, direction = _order(given.get("order", "call_start_DESC"), wrong)
    start, end = _range(given, now, wrong)
    number = given.get("iovox_number", "0")
    if not (number.isascii() and number.isdigit()):
        wrong.append("Iovox Number not an integer")
    asked = _listed(given.get("response_fields", "")) or _columns.DEFAULT
    if unknown := [name for name in asked if name not in _columns.NAMES]:
        # The word is the documentation's own.
        wrong.append(f"Required fields olvalid: {', '.join(unknown)}")
    if wrong or page is None or limit is None:
        return Refusal(tuple(wrong))
    return ParsedRequest(
        # No error is documented for page 0, so it is the first; a page too far for SQL is as empty as the one before.
        page=min(max(page, 1), _LARGEST_OFFSET // LIMIT_MAXIMUM),
        limit=limit,
        order=order,
        descending=direction == "DESC",
        start=start,
        end=end,
        conditions=conditions(given),
        fields=asked,
    )


def _number(value: str, problem: str, wrong: list[str]) -> int | None:
    # Nineteen digits hold any number that is meant; more would only slow the conversion.
    if value.isascii() and value.isdigit():
        return int(value[:19])
    wrong.append(problem)
    return None


def _order(value: str, wrong: list[str]) -> tuple[str, str]:
    name, _, direction = value.rpartition("_")
    if direction not in {"ASC", "DESC"}:
        wrong.append("Order Direction Invalid")
        name = name if name in _columns.NAMES else value
    if name not in _columns.NAMES or name in _columns.UNORDERED:
        wrong.append("Order Field Invalid")
    return name, direction


def _range(given: Mapping[str, str], now: datetime, wrong: list[str]) -> tuple[str | None, str | None]:
    if given.get("date_constant") == "YESTERDAY":
        day = (now - timedelta(days=1)).strftime("%Y-%m-%d")
        return f"{day} 00:00:00", f"{day} 23:59:59"
    start = stamp(given.get("start_date", now.strftime("%Y-%m-01")), "00:00:00")
    end = stamp(given.get("end_date", now.strftime("%Y-%m-%d")), "23:59:59")
    if start is None:
        wrong.append("Start Date invalid")
    if end is None:
        wrong.append("End Date invalid")
    return start, end


def stamp(value: str, rest: str) -> str | None:
    """A documented date with what it leaves out taken from `rest`; None if it is no such date."""
    if not _DATE.fullmatch(value):
        return None
    full = _timestamps.completed(value, rest)
    try:
        datetime.strptime(full, _STAMP)  # noqa: DTZ007 - the endpoint's dates have no zone
    except ValueError:
        return None
    return full
