"""The options of the endpoint's filters, generated from `Filters`."""

from __future__ import annotations

import collections.abc
import logging
import os
import re
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin, get_type_hints

import click

from iovox_async import Field, Filters
from iovox_async._params.validators import COLOURS
from iovox_async._redaction import mask_phone_number, redact
from iovox_async.query import PHONE_PARAMETERS

from .base import option
from .console import print_note
from .errors import option_name
from .options import collect_options, complete, split_commas, value_variable

if TYPE_CHECKING:
    from iovox_async import CallStream, InsightsQuery

logger: Final = logging.getLogger("iovox_async")

_FILTER_PANEL: Final = "Filters (a call must match all of them)"

#: For each filter the name of its value and what it selects, from the endpoint's documentation.
_FILTER_HELP: Final = {
    "ids": ("ID", "Calls with these ids."),
    "node_id": ("ID", "Calls of the node with this id."),
    "node_name": ("NAME", "Calls of nodes with this name."),
    "node_type": ("TYPE", "Calls of nodes of this type."),
    "link_id": ("ID", "Calls of the link with this id."),
    "link_name": ("NAME", "Calls of links with this name."),
    "link_type": ("TYPE", "Calls of links of this type."),
    "call_result": ("RESULT", "Calls with this result, e.g. ANSWERED."),
    "rule_result": ("RESULT", "Calls with this rule result, e.g. 'Call to an Operator'."),
    "call_origin": ("NUMBER", "Calls from this number, e.g. 447966111222."),
    "call_origin_encoded": ("NUMBER", "Calls from this number, encoded as in responses."),
    "iovox_number": ("NUMBER", "Calls to this iovox number, digits only, e.g. 448456111222."),
    "call_destination": ("NUMBER", "Calls that were connected to this number, e.g. 447966123456."),
    "direction": ("WORD", "Calls in this direction, e.g. IN."),
    "link_category_ids": ("ID", "Calls whose link is in these categories."),
    "call_category_ids": ("ID", "Calls that are in these categories."),
    "node_category_ids": ("ID", "Calls whose node is in these categories."),
    "contact_category_ids": ("ID", "Calls whose contact is in these categories."),
    "tag_text": ("TEXT", "Calls with a tag of this text."),
    "tag_colour": ("COLOUR", "Calls with a tag of these colours: BLUE, GREEN, GOLD, RED."),
    "keyword_rules": ("RULE", "Calls that match this keyword rule."),
    "call_outcomes": ("OUTCOME", "Calls with this outcome."),
}


#: The filters of one value whose value may contain a comma.
TEXT_FILTERS: Final = frozenset(
    ("node_name", "link_name", "rule_result", "tag_text", "keyword_rules", "call_outcomes")
)


def is_list(annotation: Any) -> bool:
    """Whether a filter takes several values."""
    return any(get_origin(part) is collections.abc.Iterable for part in get_args(annotation))


def _single_value(ctx: click.Context, option: click.Parameter, values: Sequence[str]) -> str | None:
    """The value of a filter that takes one; click alone would keep the last of several."""
    name = option.opts[0]
    if len(values) > 1 or ("," in "".join(values) and option.name not in TEXT_FILTERS):
        typed = redact(" ".join(f"{name} {shlex.quote(value)}" for value in values))
        advice = f"Run iovox {ctx.info_name} once for each value"
        directories = ", each with its own --out" if ctx.info_name == "backfill" else ""
        raise click.UsageError(
            f"{name} takes one value, got {typed}. {advice}{directories}, or leave {name} out and select among all calls."
        )
    if re.search(r",\S", "".join(values)):
        logger.warning("%s takes one text: its comma does not separate two", name)
    if values == (f"${value_variable(option)}",):  # from a printed command that no shell has expanded
        return os.environ.get(value_variable(option), "")
    return values[0] if values else None


def _filter_option(name: str, *, multiple: bool) -> Callable[[Any], Any]:
    metavar, help_text = _FILTER_HELP[name]
    return option(
        option_name(name),
        name,
        metavar=f"{metavar},..." if multiple else metavar,
        multiple=True,
        callback=(lambda _ctx, _option, values: tuple(split_commas(values))) if multiple else _single_value,
        help=help_text + (" Separate several by commas, or repeat the option." if multiple else ""),
        panel=_FILTER_PANEL,
        shell_complete=complete(lambda: COLOURS) if name == "tag_colour" else None,
    )


FILTERS: Final = get_type_hints(Filters)

#: Adds an option for each filter; the command gets those that were used as `filters`, a dict.
filter_options: Final = collect_options(
    [_filter_option(name, multiple=is_list(annotation)) for name, annotation in FILTERS.items()],
    FILTERS,
    lambda values: {"filters": {name: value for name, value in values.items() if value not in (None, ())}},
)


def resolved_query(stream: CallStream) -> InsightsQuery:
    """The query of a stream; dates that were left out are filled in."""
    return stream._reader.spec.query  # noqa: SLF001 - of this package


def print_no_calls(stream: CallStream) -> None:
    """Prints that a stream had no calls, and the command that shows which values one of its filters can have."""
    query, shown = resolved_query(stream), []
    for name, value in (filters := query.active_filters()).items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        shown.append(f"{name}={mask_phone_number(text) if name in PHONE_PARAMETERS else redact(text)}")
    matching = f" ({', '.join(shown)})" if shown else ""
    groups = [name.removesuffix("_ids") for name in filters if name in {*Field} or name.endswith("_ids")]
    hint = ""
    if groups:
        start, end = str(query.start_date), str(query.end_date)
        days = shlex.join([start.removesuffix(" 00:00:00"), end.removesuffix(" 23:59:59")])
        hint = f" iovox summary {days} --by {groups[0]} shows which values there are."
    print_note(f"0 calls between {query.start_date} and {query.end_date}{matching}.{hint}")
