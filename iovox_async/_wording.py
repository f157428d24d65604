"""Texts of errors that name arguments, so that each front end spells them in the words of whoever reads it; and figures as text."""

from __future__ import annotations

from collections.abc import Callable
from string import Formatter
from typing import Any, Final, Self

#: The arguments that an environment variable can set instead.
VARIABLES: Final = {
    "base_url": "IOVOX_URL",
    "username": "IOVOX_USERNAME",
    "secure_key": "IOVOX_SECURE_KEY",
    "allow_http": "IOVOX_ALLOW_HTTP=1",
}

#: The arguments that are rarely passed by name.
_POSITIONAL: Final = frozenset({"start_date", "end_date"})


class Wording(str):
    """A text that names arguments.

    In the template, `{timeout}` stands for an argument, `{on_error=skip}` for one with a value, and `{repair=True}` for a flag.
    As a str, they are spelled for Python: `timeout=`, `on_error="skip"`, `repair=True`. Other braces are written twice.
    """

    __slots__ = ("template",)

    template: str

    def __new__(cls, template: str) -> Self:
        wording = super().__new__(cls, _fill(template, _spell_for_python))
        wording.template = template
        return wording

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.template,)

    def spelled(self, spell: Callable[[str, str], str]) -> str:
        """The text with `spell(name, value)` for each argument; the value is empty where there is none."""
        return _fill(self.template, spell)


def _fill(template: str, spell: Callable[[str, str], str]) -> str:
    parts = []
    for literal, argument, _, _ in Formatter().parse(template):
        name, _, value = (argument or "").partition("=")
        parts += [literal, spell(name, value) if name else ""]
    return "".join(parts)


def _spell_for_python(name: str, value: str) -> str:
    if name in _POSITIONAL:
        return name
    argument = f'{name}="{value}"' if value not in {"", "True"} else f"{name}={value}"
    return f"{argument} or {VARIABLES[name]}" if name in VARIABLES else argument


def format_count(value: float, singular: str = "", plural: str = "") -> str:
    """A whole number with its noun: `1 retry`, `12,500 calls`. `plural` defaults to `singular` with an s."""
    count = f"{value:,.0f}"
    return f"{count} {singular if value == 1 else plural or f'{singular}s'}" if singular else count


def format_bytes(count: float) -> str:
    """A number of bytes: `31.2 MB`."""
    unit = ""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):  # noqa: B007 - used after the loop
        if count < 1000:
            break
        count /= 1000
    return format_count(count, "byte") if unit == "bytes" else f"{count:,.1f} {unit}"
