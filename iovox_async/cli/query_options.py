"""The options that say what is read, for every command that reads a list of calls.

The law of this room: an option of one name means the same in every command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import rich_click as click
from click.shell_completion import CompletionItem

from iovox_async import Field, Fields
from iovox_async.fields import did_you_mean

__all__ = ["FIELDS", "FIRST", "LAST", "PANEL", "PRESETS", "FieldsType", "fields_option", "on_error_option"]

F = TypeVar("F", bound=Callable[..., Any])

PANEL: Final = "ReadSpec"
#: What a first second is; what it is where it is left out differs.
FIRST: Final = "First second: YYYY-MM-DD, or 'YYYY-MM-DD HH:MM:SS'. Left out: "
LAST: Final = "Last second, inclusive; a bare date means its last second. Left out: now."
PRESETS = {
    name: getattr(Fields, name.upper()) for name in ("default", "call", "categories", "insights", "all")
}


if TYPE_CHECKING:
    # Which releases of click have it generic at run time does not matter then.
    _ParamType = click.ParamType[tuple[Field, ...], Any]
else:
    _ParamType = click.ParamType


class FieldsType(_ParamType):
    """Names of response fields and of presets, separated by commas."""

    name = "fields"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002 - click's signature
        return "FIELDS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Field, ...]:
        """The fields, without repeats, in the order they were asked for."""
        if not isinstance(value, str):
            return tuple(value)
        found: dict[Field, None] = {}
        for item in value.split(","):
            name = item.strip().lower()
            if name in PRESETS:
                found.update(dict.fromkeys(PRESETS[name]))
            elif name in tuple(Field):
                found[Field(name)] = None
            else:
                near = did_you_mean(name, [*PRESETS, *map(str, Field)])
                self.fail(f"{item!r} is no response field{near} (iovox fields lists them)", param, ctx)
        return tuple(found)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - as above
        incomplete: str,
    ) -> list[CompletionItem]:
        """The names that the last item may become."""
        before, comma, begun = incomplete.rpartition(",")
        return [
            CompletionItem(f"{before}{comma}{name}") for name in (*PRESETS, *Field) if name.startswith(begun)
        ]


FIELDS = FieldsType()


def fields_option(more: str = "") -> Callable[[F], F]:
    """Gives a command the option --fields; it receives a tuple as `fields`."""
    return click.option(
        "--fields",
        type=FIELDS,
        default="default",
        help=f"What to ask for: names (iovox fields lists them) and presets ({', '.join(PRESETS)}), separated by "
        f"commas{more}.",
        panel=PANEL,
    )


def on_error_option(left_out: str) -> Callable[[F], F]:
    """Gives a command the option --on-error; it receives its value as `on_error`."""
    return click.option(
        "--on-error",
        type=click.Choice(["raise", "skip"]),
        default="raise",
        help=f"End at a record that cannot be read, or leave it out{left_out}.",
        panel=PANEL,
    )
