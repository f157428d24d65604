"""Validates single values: integers, texts and comma-separated lists, as the endpoint accepts them.

Invariants:
- A value is sent as given or refused; only the case of colours and of `YESTERDAY` is changed.
- No message holds a text value, since it may be a phone number.
"""

from __future__ import annotations

import operator
import unicodedata
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import SupportsIndex, TypeAlias

from .._redaction import shorten_repr
from .._wording import Wording

#: A comma-separated list: any iterable, a single item, or a str in the endpoint's own form, `"A,B"`.
CommaList: TypeAlias = Iterable[str | int] | str | int
#: Ids of calls: integers or digits, in any form of a comma-separated list.
Ids: TypeAlias = Iterable[SupportsIndex | str] | SupportsIndex | str

COLOURS = ("BLUE", "GREEN", "GOLD", "RED")
_MAX_LIMIT = 20_000
#: The documentation names no bound; this is what a 32-bit server can hold.
_MAX_PAGE = 2**31 - 1
#: Ids of calls are 64-bit numbers.
_MAX_ID_DIGITS = 20
#: Unicode categories of control characters, surrogates and line breaks.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_ONE_VALUE_HINT = "Read once for each value, or leave the parameter out and select among the calls."


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
    number = _as_int(value)
    if not 1 <= number <= _MAX_PAGE:
        raise InvalidValue(f"must be between 1 and {_MAX_PAGE}, got {_shown(number)}")
    return number


def as_limit(value: int | None) -> int | None:
    """Rows of a page, 1 to 20,000; None for the endpoint's default (10,000)."""
    if value is None:
        return None
    number = _as_int(value)
    if not 1 <= number <= _MAX_LIMIT:
        raise InvalidValue(f"must be between 1 and {_MAX_LIMIT}, got {_shown(number)}")
    return number


def _shown(number: int) -> str:
    """A page or a number of rows, which is not masked although it may look like a phone number; a longer number is."""
    return str(number) if abs(number) < 10**10 else shorten_repr(number)


def as_constant(value: str | None) -> str | None:
    """The endpoint's only date constant, `YESTERDAY`."""
    if value is None:
        return None
    if str(value).upper() == "YESTERDAY":
        return "YESTERDAY"
    raise InvalidValue(
        f"must be 'YESTERDAY', got {shorten_repr(value)}",
        Wording("Pass {start_date} and {end_date} for other dates."),
    )


def as_text(value: str | None) -> str | None:
    """A text to filter by, spelled as in the account; it may contain commas."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong_type(value, "a str")
    return _checked_text(str.__str__(value))


def as_code(value: str | None) -> str | None:
    """A text without commas: the endpoint would look for the whole list as one value, and find nothing."""
    text = as_text(value)
    if text is not None and "," in text:
        raise InvalidValue("must be one value, got a comma-separated list", _ONE_VALUE_HINT)
    return text


def as_key(value: str | int | None) -> str | None:
    """An id or phone number, given as a text or an integer."""
    if value is None or isinstance(value, str):
        return as_code(value)
    if not _is_int(value):
        raise _wrong_type(value, "a str or an integer")
    return _int_to_str(value)


def as_digits(value: str | int | None) -> str | None:
    """A number of digits only, as a str; leading zeros are kept."""
    text = as_key(value)
    if text is not None and not (text.isascii() and text.isdigit()):
        raise InvalidValue("must be digits only", "Remove everything else, such as +, blanks and dashes.")
    return text


def as_ids(value: Ids | None) -> tuple[int, ...] | None:
    """Ids of calls, without repeats, in the order given."""
    if value is None:
        return None
    ids: dict[int, None] = {}
    for position, item in enumerate(items(value, "ids of calls"), 1):
        if not (item.isascii() and item.isdigit()) or len(item) > _MAX_ID_DIGITS:
            raise InvalidValue(f"item {position} must be an integer of at most {_MAX_ID_DIGITS} digits")
        ids[int(item)] = None
    return tuple(ids)


def as_list(value: CommaList | None) -> tuple[str, ...] | None:
    """The items of a comma-separated list, without repeats, in the order given."""
    return None if value is None else items(value, "ids")


def as_colours(value: Iterable[str] | str | None) -> tuple[str, ...] | None:
    """Colours of tags, in upper case as the endpoint has them."""
    if value is None:
        return None
    colours = tuple(dict.fromkeys(item.upper() for item in items(value, "colours")))
    for colour in colours:
        if colour not in COLOURS:
            raise InvalidValue(
                f"must be {', '.join(COLOURS[:-1])} or {COLOURS[-1]}, got {shorten_repr(colour)}"
            )
    return colours


def items(value: object, content: str) -> tuple[str, ...]:
    """The items of a comma-separated list as texts, without repeats.

    Args:
        value: the list.
        content: what the items are, for error messages.

    Raises:
        InvalidValue: the value is no list or empty, or an item is empty, not a text, or has a comma.
    """
    if isinstance(value, str):
        values: list[object] = list(str.__str__(value).split(","))
    elif _is_int(value):
        values = [value]
    elif isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | memoryview | Mapping):
        # Sets are sorted, so that the same set makes the same request every time.
        values = sorted(value, key=str) if isinstance(value, AbstractSet) else list(value)
    else:
        raise InvalidValue(f"must be {content}, one or several, got {type(value).__name__}")
    if not values or values == [""]:
        raise InvalidValue("is empty", f"Pass {content}, or leave the parameter out.")
    return tuple(dict.fromkeys(_as_item(position, item) for position, item in enumerate(values, 1)))


def _as_item(position: int, item: object) -> str:
    if _is_int(item):
        item = _int_to_str(item)
    if not isinstance(item, str):
        raise InvalidValue(f"item {position} must be a str or an integer, got {type(item).__name__}")
    text = str.__str__(item)
    if "," in text:
        raise InvalidValue(f"item {position} contains a comma", "Pass its parts as separate items.")
    try:
        return _checked_text(text)
    except InvalidValue as error:
        raise InvalidValue(f"item {position} {error}", error.hint) from None


def _checked_text(text: str) -> str:
    if not text:
        raise InvalidValue("is empty", "Leave it out.")
    if not (text.isascii() and text.isprintable()):
        for position, character in enumerate(text, 1):
            if unicodedata.category(character) in _REFUSED_CATEGORIES:
                raise InvalidValue(f"contains a control character or surrogate at position {position}")
    if text != text.strip():
        raise InvalidValue("begins or ends with a blank")
    return text


def _wrong_type(value: object, expected: str) -> InvalidValue:
    is_several = isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | memoryview)
    return InvalidValue(
        f"must be {expected}, got {type(value).__name__}", _ONE_VALUE_HINT if is_several else None
    )


def _is_int(value: object) -> bool:
    # Integers of numpy are no int, but have __index__. isinstance(..., SupportsIndex) would do, but is slow.
    return hasattr(type(value), "__index__") and not isinstance(value, bool)


def _as_int(value: object) -> int:
    if not isinstance(value, SupportsIndex) or isinstance(value, bool):
        raise InvalidValue(f"must be an integer, got {type(value).__name__}")
    return int(operator.index(value))


def _int_to_str(value: object) -> str:
    number = _as_int(value)
    if number < 0:
        raise InvalidValue("must not be negative")
    try:
        return str(number)
    except ValueError:  # beyond the interpreter's limit of digits
        raise InvalidValue("has too many digits") from None


def within_64_bits(value: int) -> int:
    """The value, if columns and positions can hold it.

    Raises:
        InvalidValue: they cannot.
    """
    if not -(2**63) <= value < 2**63:
        raise InvalidValue("is a whole number beyond 64 bits")
    return value
