"""What one value may be: whole numbers, texts and comma lists, as the endpoint can take them.

The law of this room: nothing is mended in silence. A value is sent as it was given, or refused with the cure; only
the case of a closed list's words (colours, `YESTERDAY`) is set right. Texts may hold phone numbers, so no
problem repeats one. Problems leave as `InvalidValue`; `query` adds the name of the parameter.
"""

from __future__ import annotations

import operator
import unicodedata
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import SupportsIndex, TypeAlias

from .._redaction import shorten_repr

__all__ = [
    "COLOURS",
    "CommaList",
    "Ids",
    "InvalidValue",
    "as_colours",
    "as_constant",
    "as_digits",
    "as_ids",
    "as_key",
    "as_limit",
    "as_list",
    "as_page",
    "as_text",
    "items",
]

#: Values of a comma list: any iterable, a single one, or a str in the endpoint's own form, `"A,B"`.
CommaList: TypeAlias = Iterable[str | int] | str | int
#: Call ids: whole numbers or digits, in any form a comma list has.
Ids: TypeAlias = Iterable[SupportsIndex | str] | SupportsIndex | str

COLOURS = ("BLUE", "GREEN", "GOLD", "RED")
LIMIT_MAXIMUM = 20_000
#: What a 32-bit server can hold; the documentation names no bound.
PAGE_MAXIMUM = 2**31 - 1
#: A call's id is a 64-bit number: 20 digits at most.
_ID_DIGITS = 20
#: Controls, half characters, and what breaks a line.
_UNFIT = frozenset({"Cc", "Cs", "Zl", "Zp"})


class InvalidValue(ValueError):
    """A value that cannot be used; the message is the reason, without the name of the parameter or the place.

    Attributes:
        hint: what to do about it; None if there is no advice.
        path: where in a JSON record the value is, as `.tags[0].text`; empty for a value that stands alone.
    """

    def __init__(self, problem: str, hint: str | None = None, *, path: str = "") -> None:
        super().__init__(problem)
        self.hint = hint
        self.path = path

    def within(self, step: str) -> InvalidValue:
        """The same error, seen from the enclosing object or list."""
        return InvalidValue(str(self), self.hint, path=step + self.path)


def as_page(value: int) -> int:
    """A page number from 1."""
    number = _whole(value)
    if not 1 <= number <= PAGE_MAXIMUM:
        raise InvalidValue(
            f"must be between 1 and {PAGE_MAXIMUM}, not {shorten_repr(number)}: pages are counted from 1"
        )
    return number


def as_limit(value: int | None) -> int | None:
    """Rows a page, 1 to 20,000; None leaves it to the endpoint (10,000)."""
    if value is None:
        return None
    number = _whole(value)
    if not 1 <= number <= LIMIT_MAXIMUM:
        raise InvalidValue(f"must be between 1 and {LIMIT_MAXIMUM}, not {shorten_repr(number)}")
    return number


def as_constant(value: str | None) -> str | None:
    """The endpoint's only date constant, `YESTERDAY`."""
    if value is None:
        return None
    if str(value).upper() == "YESTERDAY":
        return "YESTERDAY"
    raise InvalidValue(
        f"must be 'YESTERDAY', its only value, not {shorten_repr(value)}; or give start_date and end_date"
    )


def as_text(value: str | None) -> str | None:
    """A text to filter by, exactly as the account has it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidValue(f"must be a str, not {type(value).__name__}")
    return _fit(str.__str__(value))


def as_key(value: str | int | None) -> str | None:
    """An id or phone number: a text, or a whole number."""
    if value is None or isinstance(value, str):
        return as_text(value)
    if not _is_int(value):
        raise InvalidValue(f"must be a str or a whole number, not {type(value).__name__}")
    return _digits(value)


def as_digits(value: str | int | None) -> str | None:
    """A number of digits only, as a str; leading zeros are kept."""
    text = as_key(value)
    if text is not None and not (text.isascii() and text.isdigit()):
        raise InvalidValue("must be digits only; remove the rest (+, blanks, dashes, brackets)")
    return text


def as_ids(value: Ids | None) -> tuple[int, ...] | None:
    """Ids of calls, without repeats, in the order given."""
    if value is None:
        return None
    found: dict[int, None] = {}
    for place, item in enumerate(items(value, "ids of calls"), 1):
        if not (item.isascii() and item.isdigit()) or len(item) > _ID_DIGITS:
            raise InvalidValue(
                f"item {place} is no call id: an id is a whole number of at most {_ID_DIGITS} digits"
            )
        found[int(item)] = None
    return tuple(found)


def as_list(value: CommaList | None) -> tuple[str, ...] | None:
    """Items of a comma list, without repeats, in the order given."""
    return None if value is None else items(value, "ids")


def as_colours(value: Iterable[str] | str | None) -> tuple[str, ...] | None:
    """Tag colours, in the endpoint's capitals."""
    if value is None:
        return None
    colours = tuple(dict.fromkeys(item.upper() for item in items(value, "colours")))
    for colour in colours:
        if colour not in COLOURS:
            raise InvalidValue(f"no such colour: {shorten_repr(colour)}; choose from {', '.join(COLOURS)}")
    return colours


def items(value: object, what: str) -> tuple[str, ...]:
    """The items of a comma list as texts, without repeats; never none.

    Raises:
        InvalidValue: not a list at all, empty, or an item that is empty, unfit or holds a comma.
    """
    if isinstance(value, str):
        given: list[object] = list(str.__str__(value).split(","))
    elif _is_int(value):
        given = [value]
    elif isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | memoryview | Mapping):
        # A set has no order of its own; sorted, it gives the same request every time.
        given = sorted(value, key=str) if isinstance(value, AbstractSet) else list(value)
    else:
        raise InvalidValue(f"must be {what}, one or several, not {type(value).__name__}")
    if not given or given == [""]:
        raise InvalidValue(f"is empty; give {what}, or leave it out")
    texts = dict.fromkeys(_item(place, item) for place, item in enumerate(given, 1))
    return tuple(texts)


def _item(place: int, item: object) -> str:
    if _is_int(item):
        item = _digits(item)
    if not isinstance(item, str):
        raise InvalidValue(f"item {place} must be a str or a whole number, not {type(item).__name__}")
    text = str.__str__(item)
    if "," in text:
        raise InvalidValue(f"item {place} holds a comma: give its parts as items of their own")
    try:
        return _fit(text)
    except InvalidValue as error:
        raise InvalidValue(f"item {place} {error}") from None


def _fit(text: str) -> str:
    if not text:
        raise InvalidValue("is empty; leave it out")
    if not (text.isascii() and text.isprintable()):
        for place, character in enumerate(text, 1):
            if unicodedata.category(character) in _UNFIT:
                raise InvalidValue(
                    f"holds a control character or half a character at position {place}; remove it"
                )
    if text != text.strip():
        raise InvalidValue("begins or ends with a blank; remove it")
    return text


def _is_int(value: object) -> bool:
    # numpy's whole numbers are no int, but have __index__; True and False are no numbers here. (A question to the
    # protocol SupportsIndex is slow, and each field of each request would ask it.)
    return hasattr(type(value), "__index__") and not isinstance(value, bool)


def _whole(value: object) -> int:
    if not isinstance(value, SupportsIndex) or isinstance(value, bool):
        raise InvalidValue(f"must be a whole number, not {type(value).__name__}")
    return int(operator.index(value))


def _digits(value: object) -> str:
    number = _whole(value)
    if number < 0:
        raise InvalidValue("must not be negative")
    try:
        return str(number)
    except ValueError:  # longer than the interpreter prints
        raise InvalidValue("is too long a number") from None
