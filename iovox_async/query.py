"""The parameters of a request, as one immutable value.

Invariants:
- Everything that the endpoint would refuse or misinterpret is a `QueryError` at construction, before any request is sent.
- No message and no `repr` holds a complete phone number.
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

from ._params.dates import DateLike, as_end, as_start, as_utc, format_datetime, is_aware
from ._params.validators import (
    CommaList,
    Ids,
    InvalidValue,
    as_code,
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
from ._redaction import mask_phone_number, redact
from ._wording import Wording
from .errors import QueryError
from .fields import Field, FieldNames, Fields, as_fields, as_order, did_you_mean

__all__ = ["Filters", "InsightsQuery"]


class Filters(TypedDict, total=False):
    """The parameters that select calls by their values; None does not filter.

    Several filters are combined with "and". A filter whose type has no `Iterable` takes one value; for several, read once
    for each, or leave it out and select among the calls. A comma in a name, rule, outcome or text of a tag is part of it.
    Dates, page, limit, order and fields are not filters.
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
    """All arguments of `InsightsQuery`."""

    page: int
    limit: int | None
    order: str | None
    start_date: DateLike | None
    end_date: DateLike | None
    date_constant: str | None
    fields: FieldNames | None


#: The endpoint's names of parameters that have another name here.
_ENDPOINT_NAMES = {"ids": "id", "fields": "response_fields"}
_FILTERS = tuple(Filters.__annotations__)
#: Hints for parameters that are not filters.
_NO_FILTER_HINTS = {
    "id": "Pass ids=.",
    "response_fields": "Pass fields=.",
    "start_date": "Pass start, the first argument.",
    "end_date": "Pass end, the second argument.",
    "date_constant": "Pass start and end, or query=InsightsQuery(date_constant='YESTERDAY').",
    "page": "Use page() with page=, or pass query=InsightsQuery(page=...).",
    "limit": "Pass page_size= (rows of a page) or max_calls= (rows in all).",
    # Arguments of other methods than `follow`.
    "start": "Pass since, the first argument.",
    "end": "Use stream() for a range that ends.",
    "order": "Use stream() for another order.",
}
#: Parameters whose values are phone numbers.
PHONE_PARAMETERS = frozenset({"call_origin", "call_origin_encoded", "iovox_number", "call_destination"})


def _name_parameters(_cls: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Makes the converter of each field raise `QueryError` with the name of the parameter."""
    return [field.evolve(converter=_naming_parameter(field.name, field.converter)) for field in fields]


def _naming_parameter(name: str, convert: Any) -> Callable[[Any], Any]:
    @functools.wraps(convert)  # keeps the type of the parameter in the signature of the constructor
    def converter(value: Any) -> Any:
        try:
            return convert(value)
        except InvalidValue as error:
            raise QueryError(_ENDPOINT_NAMES.get(name, name), str(error), error.hint) from None

    return converter


@attrs.frozen(kw_only=True, repr=False, field_transformer=_name_parameters)
class InsightsQuery:
    """The parameters of a request, under the endpoint's names; all are optional.

    Both dates are inclusive and in whole seconds. A date, hour or minute as the end means its last second. Naive dates are
    local time of the account; aware dates need the client's `timezone=`. Comma-separated lists take any iterable, a single
    item, or a str in the endpoint's form (`"A,B"`); repeats are dropped.

    Attributes:
        page: number of the page, from 1.
        limit: rows of a page, 1 to 20,000; None for the endpoint's default (10,000).
        order: a response field and `_ASC` or `_DESC`, except the `link_category_*` fields; None for `call_start_DESC`.
        start_date: first second; None for the first of this month.
        end_date: last second; None for the end of today.
        date_constant: `YESTERDAY`, instead of dates.
        ids: ids of calls (`id` of the endpoint).
        fields: fields of the records (`response_fields` of the endpoint); None for `Fields.DEFAULT`.

    Raises:
        QueryError: the endpoint would refuse or misinterpret a value; `.parameter` is the endpoint's name of it.
    """

    page: int = attrs.field(default=1, converter=as_page)
    limit: int | None = attrs.field(default=None, converter=as_limit)
    order: str | None = attrs.field(default=None, converter=as_order)
    # Compared in UTC, since Python ignores the fold of two dates in one time zone.
    start_date: datetime | None = attrs.field(default=None, converter=as_start, eq=as_utc)
    end_date: datetime | None = attrs.field(default=None, converter=as_end, eq=as_utc)
    date_constant: str | None = attrs.field(default=None, converter=as_constant)
    ids: tuple[int, ...] | None = attrs.field(default=None, converter=as_ids)
    node_id: str | None = attrs.field(default=None, converter=as_key)
    node_name: str | None = attrs.field(default=None, converter=as_text)
    node_type: str | None = attrs.field(default=None, converter=as_code)
    link_id: str | None = attrs.field(default=None, converter=as_key)
    link_name: str | None = attrs.field(default=None, converter=as_text)
    link_type: str | None = attrs.field(default=None, converter=as_code)
    call_result: str | None = attrs.field(default=None, converter=as_code)
    rule_result: str | None = attrs.field(default=None, converter=as_text)
    call_origin: str | None = attrs.field(default=None, converter=as_key)
    call_origin_encoded: str | None = attrs.field(default=None, converter=as_key)
    iovox_number: str | None = attrs.field(default=None, converter=as_digits)
    call_destination: str | None = attrs.field(default=None, converter=as_key)
    direction: str | None = attrs.field(default=None, converter=as_code)
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
        start: DateLike | None = None,
        end: DateLike | None = None,
        *,
        query: InsightsQuery | None = None,
        order: str | None = None,
        fields: FieldNames | None = None,
        default_order: str | None = None,
        default_fields: FieldNames | None = None,
        **filters: Unpack[Filters],
    ) -> Self:
        """The query of a method's arguments, added to `query` if one is given.

        An argument may repeat what `query` sets, but not contradict it. An `order` or `fields` that equals its default
        counts as not given, so that a method's default never contradicts `query`.

        Raises:
            QueryError: a name is unknown, a value is invalid, or an argument contradicts `query`.
        """
        if isinstance(start, InsightsQuery):
            raise QueryError("start_date", "must be a date, got an InsightsQuery", "Pass it as query=.")
        if not isinstance(query, InsightsQuery | None):
            raise QueryError("query", f"must be an InsightsQuery, got {type(query).__name__}")
        arguments = {"start_date": start, "end_date": end, **check_filter_names(filters)}
        order, default_order = _CONVERTERS["order"](order), _CONVERTERS["order"](default_order)
        fields, default_fields = _CONVERTERS["fields"](fields), _CONVERTERS["fields"](default_fields)
        arguments["order"] = None if order == default_order else order
        arguments["fields"] = None if fields == default_fields else fields
        values = {} if query is None else _set_values(query)
        for name, argument in arguments.items():
            if argument is None:
                continue
            value = _CONVERTERS[name](argument)
            if name in values and _comparable(values[name]) != _comparable(value):
                raise QueryError(
                    _ENDPOINT_NAMES.get(name, name),
                    f"must be the same in query= and {name.removesuffix('_date')}=",
                    "Pass it in one of them only.",
                )
            values[name] = value
        values.setdefault("order", default_order)
        values.setdefault("fields", default_fields)
        return cls(**values)

    def to_query_string(self, **changes: Unpack[Parameters]) -> str:
        """The query string, `page=1&start_date=2024-01-01+00:00:00&...`, in the order of the endpoint's table.

        None is left out. Blanks become `+`; commas and colons stay; everything else is percent-encoded.

        Args:
            **changes: arguments of `InsightsQuery` that replace those of this query, for this string only; None leaves
                a parameter out.

        Raises:
            QueryError: a change is invalid, or a date is aware.
        """
        arguments = cast("dict[str, Any]", changes)
        for name in arguments:
            if name not in _CONVERTERS:
                raise QueryError(
                    name, f"must be a parameter of the endpoint{did_you_mean(name, _CONVERTERS)}"
                )
        changed = {
            name: value if value is None else _CONVERTERS[name](value) for name, value in arguments.items()
        }
        values = {name: changed[name] if name in changed else getattr(self, name) for name in _CONVERTERS}
        if not changed.keys().isdisjoint({"start_date", "end_date", "date_constant"}):
            _check_dates(values["start_date"], values["end_date"], values["date_constant"])
        return "&".join(
            f"{_ENDPOINT_NAMES.get(name, name)}={quote_plus(_format_value(name, value), safe=',:')}"
            for name, value in values.items()
            if value is not None
        )

    def active_filters(self) -> dict[str, Any]:
        """The filters that are set."""
        return {name: value for name in _FILTERS if (value := getattr(self, name)) is not None}

    def fingerprint(self) -> str:
        """10 hex digits that identify filters, order and fields; the same in every process.

        Dates, page and limit are not included, and the order of a filter's items does not matter.
        """
        filters = {
            name: sorted(value) if isinstance(value, tuple) else value
            for name, value in self.active_filters().items()
        }
        data = {"filters": filters, "order": self.order, "fields": self.fields}
        canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:10]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_format_shown(name, value)}" for name, value in _set_values(self).items())
        return f"{type(self).__name__}({shown})"


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    field.name: cast("Callable[[Any], Any]", field.converter) for field in attrs.fields(InsightsQuery)
}


def _set_values(query: InsightsQuery) -> dict[str, Any]:
    """The parameters that differ from their defaults."""
    values = ((field, getattr(query, field.name)) for field in attrs.fields(type(query)))
    return {field.name: value for field, value in values if value != field.default}


def _comparable(value: Any) -> Any:
    return as_utc(value) if isinstance(value, datetime) else value


def check_filter_names(filters: Filters) -> Filters:
    """Returns the filters, if all of them are filters of the endpoint.

    Raises:
        QueryError: a name is unknown, or that of another argument.
    """
    for name in filters:
        if name not in _FILTERS:
            similar = "" if name in _NO_FILTER_HINTS else did_you_mean(name, _FILTERS)
            hint = _NO_FILTER_HINTS.get(name, "iovox_async.Filters lists all filters.")
            raise QueryError(name, f"is not a filter{similar}", hint)
    return filters


def _check_dates(start: datetime | None, end: datetime | None, constant: str | None) -> None:
    if constant is not None and not (start is None and end is None):
        raise QueryError("date_constant", Wording("must not be combined with {start_date} or {end_date}"))
    if start is None or end is None or is_aware(start) != is_aware(end):
        return  # a naive and an aware end are compared once the time zone of the account is known
    utc_start, utc_end = as_utc(start), as_utc(end)
    if utc_start is not None and utc_end is not None and utc_end < utc_start:
        raise QueryError("end_date", Wording(f"({end}) is before {{start_date}} ({start})"))


def _format_value(name: str, value: Any) -> str:
    if isinstance(value, datetime):
        if is_aware(value):
            hint = Wording("Pass a naive date in local time of the account, or {timezone} to the client.")
            raise QueryError(name, "must not have a time zone: the endpoint does not accept it", hint)
        return format_datetime(value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _format_shown(name: str, value: Any) -> str:
    if name in PHONE_PARAMETERS:
        return f"'{mask_phone_number(value)}'"
    if name == "fields":
        names = ("DEFAULT", "CALL", "CATEGORIES", "INSIGHTS", "ALL")
        preset = next((f"Fields.{name}" for name in names if getattr(Fields, name) == value), None)
        return preset or repr(",".join(value))
    if isinstance(value, datetime):
        return repr(str(value))
    if isinstance(value, tuple):
        return repr(",".join(map(str, value[:8]))) + (f"… ({len(value)})" if len(value) > 8 else "")
    if name in {"node_id", "link_id"} or not isinstance(value, str):
        return repr(value)
    return repr(redact(value))
