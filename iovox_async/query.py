"""What may be asked: every parameter of the endpoint's table, as one immutable value.

The law of this room: an invalid query cannot exist. Everything the endpoint would refuse, and everything it would
misread in silence, is a `QueryError` at construction, under the endpoint's own name of the parameter and with the
cure, before any request is sent. No message and no repr holds a whole phone number.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Self, TypedDict, Unpack, cast
from urllib.parse import quote_plus

import attrs

from ._params.dates import Moment, as_end, as_start, instant, is_aware, written
from ._params.validators import (
    CommaList,
    Ids,
    InvalidValue,
    as_colours,
    as_constant,
    as_digits,
    as_ids,
    as_key,
    as_limit,
    as_list,
    as_page,
    as_text,
)
from ._redaction import mask_phone_number, mask_phone_numbers
from .errors import QueryError
from .fields import AskedFields, Field, Fields, as_fields, as_order, did_you_mean

__all__ = ["Filters", "InsightsQuery"]


class Filters(TypedDict, total=False):
    """Every parameter that chooses calls by what they are; None asks for any.

    Several filters are joined by "and". Dates, page, limit, order and fields are no filters: they say where and how to read.
    """

    ids: Ids | None
    node_id: str | int | None
    node_name: str | None
    node_type: str | None
    link_id: str | int | None
    link_name: str | None
    link_type: str | None
    call_result: str | None
    rule_result: str | None
    call_origin: str | int | None
    call_origin_encoded: str | int | None
    iovox_number: str | int | None
    call_destination: str | int | None
    direction: str | None
    link_category_ids: CommaList | None
    call_category_ids: CommaList | None
    node_category_ids: CommaList | None
    contact_category_ids: CommaList | None
    tag_text: str | None
    tag_colour: Iterable[str] | str | None
    keyword_rules: str | None
    call_outcomes: str | None


class Parameters(Filters, total=False):
    """Every argument of `InsightsQuery`, as `params()` takes them."""

    page: int
    limit: int | None
    order: str | None
    start_date: Moment | None
    end_date: Moment | None
    date_constant: str | None
    fields: AskedFields | None


#: The endpoint's names where they differ from ours: `id` is a function of Python, `response_fields` long.
_ASKED_AS = {"ids": "id", "fields": "response_fields"}
_FILTERS = tuple(Filters.__annotations__)
#: Where a name that is no filter belongs.
_ELSEWHERE = {
    "id": "is called ids here: give ids=",
    "response_fields": "is called fields here: give fields=",
    "start_date": "is no filter: give start, the first argument",
    "end_date": "is no filter: give end, the second argument",
    "date_constant": "is no filter: give start and end, or query=InsightsQuery(date_constant='YESTERDAY')",
    "page": "is no filter: use page() with number=, or query=InsightsQuery(page=...)",
    "limit": "is no filter: give page_size= (rows a request) or max_calls= (rows in all)",
}
#: Values that are phone numbers, whole.
_PHONES = frozenset({"call_origin", "call_origin_encoded", "iovox_number", "call_destination"})


def _named(_cls: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Converters know values; here each learns the parameter its problems belong to."""
    return [field.evolve(converter=_naming(field.name, field.converter)) for field in fields]


def _naming(name: str, convert: Any) -> Callable[[Any], Any]:
    @functools.wraps(convert)  # so that the constructor's signature shows what each parameter takes
    def named(value: Any) -> Any:
        try:
            return convert(value)
        except InvalidValue as error:
            raise QueryError(_ASKED_AS.get(name, name), str(error)) from None

    return named


@attrs.frozen(kw_only=True, repr=False, field_transformer=_named)
class InsightsQuery:
    """One question to the endpoint; every parameter of its table, under its own names, and all are optional.

    Both dates are inclusive and in whole seconds. A bare date, hour or minute as the end means its last second. Naive
    dates are the account's local time; aware ones need the session's `timezone=`. Comma lists take any iterable,
    a single item, or a str in the endpoint's form (`"A,B"`); repeats are dropped.

    Attributes:
        page: number of the page, from 1.
        limit: rows a page, 1 to 20,000; None leaves it to the endpoint (10,000).
        order: a response field and `_ASC` or `_DESC`; not the `link_category_*` fields. None: `call_start_DESC`.
        start_date: first second; None: the first of this month, as the endpoint has it.
        end_date: last second; None: the end of today, as the endpoint has it.
        date_constant: `YESTERDAY`, instead of dates.
        ids: ids of calls (`id` at the endpoint).
        fields: what to answer (`response_fields` at the endpoint); None: `Fields.DEFAULT`.

    Raises:
        QueryError: a value the endpoint would refuse or misread; `.parameter` is its name there.
    """

    page: int = attrs.field(default=1, converter=as_page)
    limit: int | None = attrs.field(default=None, converter=as_limit)
    order: str | None = attrs.field(default=None, converter=as_order)
    # Dates compare as instants: Python compares two dates of one zone by wall time, blind to the hour that comes twice.
    start_date: datetime | None = attrs.field(default=None, converter=as_start, eq=instant)
    end_date: datetime | None = attrs.field(default=None, converter=as_end, eq=instant)
    date_constant: str | None = attrs.field(default=None, converter=as_constant)
    ids: tuple[int, ...] | None = attrs.field(default=None, converter=as_ids)
    node_id: str | None = attrs.field(default=None, converter=as_key)
    node_name: str | None = attrs.field(default=None, converter=as_text)
    node_type: str | None = attrs.field(default=None, converter=as_text)
    link_id: str | None = attrs.field(default=None, converter=as_key)
    link_name: str | None = attrs.field(default=None, converter=as_text)
    link_type: str | None = attrs.field(default=None, converter=as_text)
    call_result: str | None = attrs.field(default=None, converter=as_text)
    rule_result: str | None = attrs.field(default=None, converter=as_text)
    call_origin: str | None = attrs.field(default=None, converter=as_key)
    call_origin_encoded: str | None = attrs.field(default=None, converter=as_key)
    iovox_number: str | None = attrs.field(default=None, converter=as_digits)
    call_destination: str | None = attrs.field(default=None, converter=as_key)
    direction: str | None = attrs.field(default=None, converter=as_text)
    link_category_ids: tuple[str, ...] | None = attrs.field(default=None, converter=as_list)
    call_category_ids: tuple[str, ...] | None = attrs.field(default=None, converter=as_list)
    node_category_ids: tuple[str, ...] | None = attrs.field(default=None, converter=as_list)
    contact_category_ids: tuple[str, ...] | None = attrs.field(default=None, converter=as_list)
    tag_text: str | None = attrs.field(default=None, converter=as_text)
    tag_colour: tuple[str, ...] | None = attrs.field(default=None, converter=as_colours)
    keyword_rules: str | None = attrs.field(default=None, converter=as_text)
    call_outcomes: str | None = attrs.field(default=None, converter=as_text)
    fields: tuple[Field, ...] | None = attrs.field(default=None, converter=as_fields)

    def __attrs_post_init__(self) -> None:
        _check_dates(self.start_date, self.end_date, self.date_constant)

    @classmethod
    def from_arguments(
        cls,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        query: InsightsQuery | None = None,
        order: str | None = None,
        fields: AskedFields | None = None,
        default_order: str | None = None,
        default_fields: AskedFields | None = None,
        **filters: Unpack[Filters],
    ) -> Self:
        """The query that a method's arguments mean, laid over `query` where one is given.

        What `query` sets, it keeps; an argument may say the same or add what `query` leaves open. An `order` or `fields`
        that equals its default counts as not given, so a method's own default never argues with `query`.

        Raises:
            QueryError: an unknown name, an invalid value, or an argument that contradicts `query`.
        """
        given = {"start_date": start, "end_date": end, **_known(cast("dict[str, Any]", filters))}
        order, default_order = _CONVERT["order"](order), _CONVERT["order"](default_order)
        fields, default_fields = _CONVERT["fields"](fields), _CONVERT["fields"](default_fields)
        given["order"] = None if order == default_order else order
        given["fields"] = None if fields == default_fields else fields
        values = {} if query is None else _given(query)
        for name, value in given.items():
            if value is None:
                continue
            value = _CONVERT[name](value)  # noqa: PLW2901 - the same value, as it is sent
            if name in values and _comparable(values[name]) != _comparable(value):
                asked, argument = _ASKED_AS.get(name, name), name.removesuffix("_date")
                raise QueryError(asked, f"query= and {argument}= say different things; give it in one place")
            values[name] = value
        values.setdefault("order", default_order)
        values.setdefault("fields", default_fields)
        return cls(**values)

    def to_query_string(self, **changes: Unpack[Parameters]) -> str:
        """The query string, `page=1&start_date=2024-01-01+00:00:00&...`, in the order of the endpoint's table.

        What is None is left out. Blanks are `+`; commas and colons stay as they are; all else is percent-encoded.

        Args:
            **changes: arguments of `InsightsQuery` that take the place of this query's own, for this string only; None
                leaves a parameter out.

        Raises:
            QueryError: a change is invalid, or a date is aware.
        """
        changed = cast("dict[str, Any]", changes)
        for name in changed:
            if name not in _CONVERT:
                raise QueryError(name, f"is no parameter of the endpoint{did_you_mean(name, _CONVERT)}")
        new = {name: value if value is None else _CONVERT[name](value) for name, value in changed.items()}
        values = {name: new[name] if name in new else getattr(self, name) for name in _CONVERT}
        if not new.keys().isdisjoint({"start_date", "end_date", "date_constant"}):
            _check_dates(values["start_date"], values["end_date"], values["date_constant"])
        return "&".join(
            f"{_ASKED_AS.get(name, name)}={quote_plus(_sent(name, value), safe=',:')}"
            for name, value in values.items()
            if value is not None
        )

    def active_filters(self) -> dict[str, Any]:
        """The filters that are set: what says which calls, wherever and however they are read."""
        return {name: value for name in _FILTERS if (value := getattr(self, name)) is not None}

    def fingerprint(self) -> str:
        """10 hex digits that tell two questions apart by filters, order and fields; the same in every process.

        Dates, page and limit do not count, nor does the order of a filter's items.
        """
        filters = {
            name: sorted(value) if isinstance(value, tuple) else value
            for name, value in self.active_filters().items()
        }
        asked = {"filters": filters, "order": self.order, "fields": self.fields}
        canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:10]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_shown(name, value)}" for name, value in _given(self).items())
        return f"{type(self).__name__}({shown})"


_CONVERT: Mapping[str, Callable[[Any], Any]] = {
    field.name: cast("Callable[[Any], Any]", field.converter) for field in attrs.fields(InsightsQuery)
}


def _given(query: InsightsQuery) -> dict[str, Any]:
    """What a query sets, and is not a default."""
    values = ((field, getattr(query, field.name)) for field in attrs.fields(type(query)))
    return {field.name: value for field, value in values if value != field.default}


def _comparable(value: Any) -> Any:
    """What two values are compared by: dates as instants."""
    return instant(value) if isinstance(value, datetime) else value


def _known(filters: dict[str, Any]) -> dict[str, Any]:
    for name in filters:
        if name in _FILTERS:
            continue
        raise QueryError(name, _ELSEWHERE.get(name) or f"is no filter{did_you_mean(name, _FILTERS)}")
    return filters


def _check_dates(start: datetime | None, end: datetime | None, constant: str | None) -> None:
    if constant is not None and not (start is None and end is None):
        raise QueryError(
            "date_constant", "says the dates already; leave out start_date and end_date, or this one"
        )
    if start is None or end is None or is_aware(start) != is_aware(end):
        return  # a naive and an aware end meet once the account's zone is known
    first, last = instant(start), instant(end)
    if first is not None and last is not None and last < first:
        raise QueryError("end_date", f"{end} lies before start_date {start}; swap them")


def _sent(name: str, value: Any) -> str:
    if isinstance(value, datetime):
        if is_aware(value):
            raise QueryError(
                name,
                "has a time zone, which the endpoint cannot take; give a naive date in the account's local time",
            )
        return written(value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shown(name: str, value: Any) -> str:
    if name in _PHONES:
        return f"'{mask_phone_number(value)}'"
    if name == "fields":
        presets = ("DEFAULT", "CALL", "CATEGORIES", "INSIGHTS", "ALL")
        named = next((f"Fields.{preset}" for preset in presets if getattr(Fields, preset) == value), None)
        return named or repr(",".join(value))
    if isinstance(value, datetime):
        return repr(str(value))
    if isinstance(value, tuple):
        return repr(",".join(map(str, value[:8]))) + (f"… ({len(value)})" if len(value) > 8 else "")
    if name in {"node_id", "link_id"} or not isinstance(value, str):
        return repr(value)
    return repr(mask_phone_numbers(value))
