"""Values that a test gives, as the store keeps them.

The law of this room: a call is described in the words of an answer (`talk_time`, `has_recording`, `tags`), and every
name an answer or a question uses is understood; an unknown one is refused, since a typo would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from iovox_async.errors import QueryError

from . import _timestamps
from ._columns import INTEGER_BITS, NESTED, SCALARS

if TYPE_CHECKING:
    from ._nested_values import Fragments


def _stamp(rest: str) -> Callable[[Any], str]:
    return lambda value: _timestamps.text(_timestamps.second(value, rest))


def _id(value: Any) -> int:
    number = int(value)
    if number.bit_length() > INTEGER_BITS:
        raise OverflowError(number)
    return number


def _truth(value: Any) -> int:
    return ("FALSE", "TRUE").index(str(value).upper())


def _text(value: Any) -> str:
    text = "" if value is None else str(value)
    # The store would refuse half a surrogate pair, later and with other words.
    text.encode()
    return text


#: What a name means: the column and how its value is read.
_READ: dict[str, tuple[str, Callable[[Any], Any]]] = {
    **{name: (name, _text) for name in SCALARS},
    "id": ("id", _id),
    "call_start": ("call_start", _stamp("00:00:00")),
    "call_end": ("call_end", _stamp("23:59:59")),
    "has_recording": ("has_recording", _truth),
    **{
        f"{column}{suffix}": (column, _timestamps.duration)
        for column in ("call_time", "talk_time")
        for suffix in ("", "_sec", "_seconds")
    },
}


def columns(given: Mapping[str, Any], fragments: Fragments) -> dict[str, Any]:
    """The columns that a description sets.

    Raises:
        QueryError: a name is unknown, or a value is none of its kind.
    """
    categories = given.get("categories") or {}
    if not isinstance(categories, Mapping):
        raise QueryError("categories", "give its lists by name, as an answer has them")
    found: dict[str, Any] = {}
    for name, value in {**given, **categories}.items():
        if name == "categories":
            continue
        if name not in NESTED and name not in _READ:
            raise QueryError(name, "the sandbox knows no such field; use the names of an answer")
        try:
            if name in NESTED:
                found[name] = fragments.number(name, value)
            else:
                column, read = _READ[name]
                found[column] = read(value)
        except (TypeError, ValueError, OverflowError) as error:
            problem = (
                f"the sandbox cannot read this value ({type(error).__name__}); write it as an answer does"
            )
            raise QueryError(name, problem) from error
    return found


def completed(now: Mapping[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The columns that are set, and the end of the call where they move it and do not set it.

    Args:
        now: the call as it is.
        found: the columns to set.

    Raises:
        QueryError: the call would have no end that can be written.
    """
    after = {**now, **found}
    if "call_end" in found or not {"call_start", "call_time", "talk_time"} & found.keys():
        return found
    # A call lasts at least as long as the talk in it.
    lasts = max(after["call_time"], after["talk_time"]) if "call_time" not in found else after["call_time"]
    try:
        end = _timestamps.text(_timestamps.second(after["call_start"]) + lasts)
    except OverflowError as error:
        raise QueryError("call_time", "the call would end after the year 9999; let it be shorter") from error
    return {**found, "call_time": lasts, "call_end": end}
