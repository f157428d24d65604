"""The endpoint's filters as options, for every command that reads a list of calls.

The law of this room: no filter is missing. The options are made from `Filters`; only their words are written here.
"""

from __future__ import annotations

import collections.abc
import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import rich_click as click

from iovox_async import Filters

__all__ = ["HELP", "filter_options", "option_of"]

F = TypeVar("F", bound=Callable[..., Any])

PANEL = "Filters (a call must pass all of them)"

#: From the endpoint's documentation: what each shows, and the name of its value.
HELP = {
    "ids": ("ID", "The calls with these ids."),
    "node_id": ("ID", "Calls of the node with this id."),
    "node_name": ("NAME", "Calls of the nodes with this name."),
    "node_type": ("TYPE", "Calls of nodes of this type."),
    "link_id": ("ID", "Calls of the link with this id."),
    "link_name": ("NAME", "Calls of the links with this name."),
    "link_type": ("TYPE", "Calls of links of this type."),
    "call_result": ("RESULT", "Calls with this result, e.g. ANSWERED."),
    "rule_result": ("RESULT", "Calls with this rule result, e.g. 'Call to an Operator'."),
    "call_origin": ("NUMBER", "Calls from this number, e.g. 447966111222."),
    "call_origin_encoded": ("NUMBER", "Calls from this number, encoded as it appears in the answer."),
    "iovox_number": ("NUMBER", "Calls to this iovox number, digits only, e.g. 448456111222."),
    "call_destination": ("NUMBER", "Calls that were put through to this number, e.g. 447966123456."),
    "direction": ("WORD", "Calls of this direction, e.g. IN."),
    "link_category_ids": ("ID", "Calls whose link is in these categories."),
    "call_category_ids": ("ID", "Calls that are in these categories themselves."),
    "node_category_ids": ("ID", "Calls whose node is in these categories."),
    "contact_category_ids": ("ID", "Calls whose contact is in these categories."),
    "tag_text": ("TEXT", "Calls with a tag of this text."),
    "tag_colour": ("COLOUR", "Calls with a tag of these colours: BLUE, GREEN, GOLD, RED."),
    "keyword_rules": ("RULE", "Calls that match this keyword rule."),
    "call_outcomes": ("OUTCOME", "Calls with this outcome."),
}
_SEVERAL = " Several: separate them by commas, or repeat the option."


def option_of(name: str) -> str:
    """The option of a filter."""
    return "--id" if name == "ids" else "--" + name.replace("_", "-")


def _takes_several(hint: Any) -> bool:
    return any(get_origin(part) is collections.abc.Iterable for part in get_args(hint))


#: Each filter, and whether it takes several values.
_FILTERS = {name: _takes_several(hint) for name, hint in get_type_hints(Filters).items()}


def filter_options(command: F) -> F:
    """Gives a command an option for each filter; it receives those that were used as `filters`, a dict."""

    @functools.wraps(command)
    def gathering(*args: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in _FILTERS}
        filters = {name: value for name, value in given.items() if value not in (None, ())}
        return command(*args, filters=filters, **options)

    for name, several in reversed(_FILTERS.items()):
        metavar, text = HELP[name]
        gathering = click.option(
            option_of(name),
            name,
            metavar=f"{metavar},..." if several else metavar,
            multiple=several,
            callback=_flat if several else None,
            help=text + (_SEVERAL if several else ""),
            panel=PANEL,
        )(gathering)
    return gathering  # type: ignore[return-value] # click passes options by name, whatever the signature


def _flat(_ctx: click.Context, _option: click.Parameter, given: Iterable[str]) -> tuple[str, ...]:
    return tuple(item for each in given for item in each.split(","))
