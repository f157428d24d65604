"""JSON data to records, whatever form it has: the tolerant way, and the only room that knows cattrs.

The law of this room: any JSON value in any place ends in a record or in a `RecordError` that names the place, and never
in a wrong value. What the older pages of the same server are known for is read by rule and counted as bent:

- `null` or a missing key is None, or an empty list where a list was given as `null`; neither counts as bent.
- `""` where no text is meant is None, or an empty list.
- A number in quotes is a number; a whole number where text is meant is text; `true` there is `"TRUE"`.
- An object where a list is meant is a list of one; `{}` there is an empty list, and `[]` an object without keys.
- A date of zeros is None, and stays in `extra` under its key. A date may have a `T`, a fraction, or less than
  seconds; one with an offset from UTC is read only if the account's time zone is known.
- A duration may be a number of seconds, be negative, and pass 24 hours.
- A key that nobody knows is kept in `extra`, in parts as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, tzinfo
from math import isfinite
from typing import Annotated, Any, Final, NoReturn, get_args, get_origin

import cattrs
import msgspec

from iovox_async._params.timezones import zone_of

from .._redaction import shorten
from ..errors import RecordError
from ..models import ALIASES, NO_EXTRA, Call, Categories, Model, types_of

__all__ = ["LenientConverter", "make_converter"]

#: A value of JSON: text, number, boolean, null, list or object.
Hook = Callable[[Any, Any], Any]
_Naive = Annotated[datetime, msgspec.Meta(tz=False)]

_WHOLE: Final = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_SECONDS: Final = re.compile(r"-?\d{1,10}(?:\.\d{1,9})?", re.ASCII)
_CLOCK: Final = re.compile(r"(-?)(\d{1,6}):([0-5]?\d):([0-5]?\d)(?:\.(\d{1,6})\d*)?", re.ASCII)
_ZEROS: Final = re.compile(r"0000-00-00(?:[ T][0:.]*)?", re.ASCII)
#: The endpoint's dates that have no seconds, minutes or hours; what they leave out is zero.
_SHORT: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d)(?::(\d\d))?)?", re.ASCII)
_FLAGS: Final = {"true": True, "false": False, "1": True, "0": False}
#: Floats hold whole numbers exactly up to here.
_EXACT: Final = 2**53
_MOST_SECONDS: Final = 10**10


class _InvalidValue(RecordError):
    """A value that cannot be read; learns on its way out where it stands."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(0, f"${path}", problem)
        self.problem = problem

    def within(self, step: str) -> _InvalidValue:
        return _InvalidValue(self.problem, step + self.path[1:])

    def at(self, index: int | None) -> RecordError:
        """The error of the record with this index; of a single record where there is none."""
        step = "" if index is None else f"[{index}]"
        return RecordError(index or 0, f"${step}{self.path[1:]}", self.problem)


class LenientConverter:
    """A converter, and how many values it has bent.

    Args:
        timezone: the account's; records are aware then.
        required: names of fields that every call must have.
    """

    def __init__(
        self, timezone: tzinfo | str | None = None, required: Iterable[str] = ("id", "call_start")
    ) -> None:
        self.coerced: int = 0
        self.timezone: tzinfo | None = zone_of(timezone)
        self._required = frozenset(required)
        # Validation in detail would wrap each error in groups; ours know their place.
        converter = cattrs.Converter(detailed_validation=False)
        self.converter: cattrs.Converter = converter
        for known, hook in (
            (str, self._text),
            (int, self._whole),
            (datetime, self._moment),
            (timedelta, self._span),
            (bool, self._flag),
            (Categories, None),
        ):
            if hook is not None:
                converter.register_structure_hook(known, self._something(hook))
            converter.register_structure_hook(known | None, hook or self._optional)
        converter.register_structure_hook_factory(_is_list, self._list)
        converter.register_structure_hook_factory(_is_part, self._part)
        converter.register_unstructure_hook_func(_is_part, Model.to_dict)
        self._call = self._part(Call)
        converter.register_structure_hook(Call, self._single)
        converter.register_structure_hook_func(lambda known: known == list[Call], self._several)

    def record(self, data: Any, index: int | None) -> Call:
        """The call that plain JSON data means.

        Raises:
            RecordError: it cannot be read; `index` is its place in its page.
        """
        try:
            call: Call = self._call(data, Call)
        except _InvalidValue as error:
            raise error.at(index) from None
        return call

    def _single(self, data: Any, _: Any) -> Call:
        return self.record(data, None)

    def _several(self, data: Any, _: Any) -> list[Call]:
        if isinstance(data, list | tuple):
            return [self.record(item, index) for index, item in enumerate(data)]
        return [] if data is None or data == {} else [self.record(data, 0)]

    # Objects and lists.

    def _part(self, kind: Any) -> Hook:
        """A function that makes one class of record from an object."""
        hooks: dict[str, tuple[Any, Hook]] = {}
        for name, known in types_of(kind).items():
            # A call may come without its id and start where nobody asked for them.
            lenient = known in (int, datetime) and name not in self._required
            asked = known | None if lenient else known
            hooks[name] = (asked, self.converter.get_structure_hook(asked))
        nothing = {"id": None, "call_start": None} if issubclass(kind, Call) else {}
        required = sorted(self._required) if nothing else ()

        def structure(data: Any, _: Any) -> Any:
            if not isinstance(data, Mapping):
                _unfit(data, "an object")
            values: dict[str, Any] = dict(nothing)
            extra: dict[str, Any] = {}
            for name, value in (_renamed(data) if nothing else data).items():
                hook = hooks.get(name)
                if hook is None:
                    extra[name] = value
                    continue
                try:
                    read = values[name] = hook[1](value, hook[0])
                except _InvalidValue as error:
                    raise error.within(f".{name}") from None
                if read is None and isinstance(value, str) and value.strip():
                    extra[name] = value
            for name in required:
                if values.get(name) is None:
                    raise _InvalidValue("is missing", f".{name}")
            return kind(**values, extra=extra or NO_EXTRA)

        return structure

    def _optional(self, data: Any, _: Any) -> Any:
        if data is None:
            return None
        if not data and isinstance(data, str | list):
            self.coerced += 1
            return None if data == "" else Categories()
        return self.converter.structure(data, Categories)

    def _list(self, known: Any) -> Hook:
        """A function that makes a list of parts, or of plain JSON values."""
        (kind,) = get_args(known)
        item: Hook = _as_is if kind is Any else self.converter.get_structure_hook(kind)

        def structure(data: Any, _: Any) -> list[Any]:
            if isinstance(data, list | tuple):
                done: list[Any] = []
                for index, value in enumerate(data):
                    try:
                        done.append(item(value, kind))
                    except _InvalidValue as error:
                        raise error.within(f"[{index}]") from None
                return done
            if data is None:
                return []
            if data not in ("", {}) and kind is not Any and not isinstance(data, Mapping):
                _unfit(data, "a list")
            self.coerced += 1
            return [] if data in ("", {}) else [item(data, kind)]

        return structure

    # Single values: each hook reads null and "" as nothing.

    @staticmethod
    def _something(hook: Hook) -> Hook:
        """The same hook, for a value that must be there."""

        def structure(data: Any, known: Any) -> Any:
            value = hook(data, known)
            if value is None:
                raise _InvalidValue("is empty")
            return value

        return structure

    def _text(self, data: Any, _: Any) -> str | None:
        if data is None or isinstance(data, str):
            return data
        if not isinstance(data, int):
            _unfit(data, "a text")
        self.coerced += 1
        if isinstance(data, bool):
            return "TRUE" if data else "FALSE"
        try:
            return str(data)
        except ValueError:  # longer than the interpreter prints
            raise _InvalidValue("is too long a number") from None

    def _whole(self, data: Any, _: Any) -> int | None:
        if data is None or (isinstance(data, int) and not isinstance(data, bool)):
            return data
        self.coerced += 1
        if isinstance(data, float) and data.is_integer() and abs(data) <= _EXACT:
            return int(data)
        text = _stripped(data, "a whole number")
        if not text:
            return None
        return int(text) if _WHOLE.fullmatch(text) else _unfit(data, "a whole number")

    def _flag(self, data: Any, _: Any) -> bool | None:
        if data is None or data in ("TRUE", "FALSE"):
            return None if data is None else data == "TRUE"
        self.coerced += 1
        text = (
            str(int(data)) if isinstance(data, bool) or data in (0, 1) else _stripped(data, "TRUE or FALSE")
        )
        if not text:
            return None
        return _FLAGS[text.lower()] if text.lower() in _FLAGS else _unfit(data, "TRUE or FALSE")

    def _moment(self, data: Any, _: Any) -> datetime | None:
        if data is None:
            return None
        text = _stripped(data, "a date")
        zone = self.timezone
        try:
            # The decoder's own parser, so that both ways to a record read a date alike.
            return msgspec.convert(data, _Naive).replace(tzinfo=zone)
        except msgspec.ValidationError:
            self.coerced += 1
        if not text or _ZEROS.fullmatch(text):
            return None
        if short := _SHORT.fullmatch(text):
            text = f"{short[1]} {short[2] or '00'}:{short[3] or '00'}:00"
        try:
            moment = msgspec.convert(text, datetime)
            if moment.tzinfo is None:
                return moment.replace(tzinfo=zone)
            if zone is not None:
                return moment.astimezone(zone)
        except (ValueError, OverflowError):
            _unfit(data, "a date")
        raise _InvalidValue(
            "has an offset from UTC, and the account's time zone is not known: give timezone="
        )

    def _span(self, data: Any, _: Any) -> timedelta | None:
        if data is None:
            return None
        if isinstance(data, str) and (clock := _CLOCK.fullmatch(data)):
            hours, minutes, seconds = map(int, clock.groups()[1:4])
            span = timedelta(
                hours=hours,
                minutes=minutes,
                seconds=seconds,
                microseconds=int((clock[5] or "").ljust(6, "0")),
            )
            return -span if clock[1] else span
        self.coerced += 1
        if not isinstance(data, int | float) or isinstance(data, bool):
            text = _stripped(data, "a duration")
            if not text:
                return None
            if not _SECONDS.fullmatch(text):
                _unfit(data, "a duration as HH:MM:SS")
            data = float(text)
        if not isfinite(data) or abs(data) > _MOST_SECONDS:
            raise _InvalidValue("is no duration that a call can have")
        return timedelta(seconds=data)


def make_converter(
    timezone: tzinfo | str | None = None, *, required: Iterable[str] = ("id",)
) -> cattrs.Converter:
    """A cattrs converter for `Call`, `list[Call]` and the parts of a call, tolerant as this module's head says.

    `structure(data, Call)` takes what JSON decodes to, also what `call.to_dict()` gave; `unstructure(call)` is `to_dict()`.

    Args:
        timezone: the account's, as a tzinfo or an IANA name; given, dates become aware, else they are naive local time.
        required: names of fields without which a call is not read.

    Raises:
        ConfigurationError: there is no such time zone.
    """
    return LenientConverter(timezone, required).converter


def _is_part(known: Any) -> bool:
    return isinstance(known, type) and issubclass(known, Model)


def _is_list(known: Any) -> bool:
    return get_origin(known) is list and (get_args(known)[0] is Any or _is_part(get_args(known)[0]))


def _as_is(data: Any, _: Any) -> Any:
    return data


def _renamed(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same object, with values under the names of answers that came under those they are asked by."""
    taken = {key: name for key, name in ALIASES.items() if key in data and _is_blank(data.get(name))}
    if not taken:
        return data
    replaced = set(taken.values())
    return {taken.get(key, key): value for key, value in data.items() if key not in replaced}


def _is_blank(data: Any) -> bool:
    return data is None or (isinstance(data, str) and not data.strip())


def _stripped(data: Any, meant: str) -> str:
    return data.strip() if isinstance(data, str) else _unfit(data, meant)


def _unfit(data: Any, meant: str) -> NoReturn:
    """Says what stands there; values of people's own only shortened, and without phone numbers."""
    match data:
        case None:
            told = "null"
        case bool():
            told = "true or false"
        case int() | float():
            told = "a number" if abs(data) > _EXACT else shorten(repr(data))
        case str():
            told = ascii(shorten(data))
        case list() | tuple():
            told = "a list"
        case Mapping():
            told = "an object"
        case _:
            told = f"a {type(data).__name__}"
    raise _InvalidValue(f"is {told} where {meant} is meant")
