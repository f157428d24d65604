"""Converts JSON data to records, whatever form its values have.

Invariants:
- Any JSON value in any place gives a record or a `RecordError` that names the place, and never a wrong value.

Forms that older pages of the same server are known for are read by rule, and all but the first are counted as coerced:

- `null` or a missing key is None; `null` where a list is expected is an empty list.
- `""` where no text is expected is None, or an empty list.
- A number in quotes is a number; a whole number where text is expected is text; `true` there is `"TRUE"`.
- An object where a list is expected is a list of one; if all its keys are whole numbers, it is a list in their order, as
  PHP sends lists with gaps; `{}` there is an empty list, and `[]` an object without keys. An object that shares no key with
  the part is an error.
- Half an emoji (a lone surrogate) in a text is a replacement character.
- A date of zeros is None, and stays in `extra` under its key. A date may have a `T`, a fraction, or no seconds, minutes or
  hours; one with an offset from UTC is read only if the time zone of the account is given, and never as `call_start`,
  by which rows are ordered before it is known.
- A duration may be a number of seconds, be negative, and exceed 24 hours.

Unknown keys are kept in `extra`, also in the parts of a call, and are not counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, tzinfo
from math import isfinite
from typing import Annotated, Any, Final, NoReturn

import cattrs
import msgspec

from .._params.timezones import zone_of
from .._params.validators import InvalidValue, within_64_bits
from ..errors import RecordError
from ..models import ALIASES, Call, Categories, Model, item_type, types_of
from .repair import list_keys

#: A structure hook of cattrs: JSON data and the target type to a value.
Hook = Callable[[Any, Any], Any]
_LocalTime = Annotated[datetime, msgspec.Meta(tz=False)]

_INTEGER: Final = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_SECONDS: Final = re.compile(r"-?\d{1,10}(?:\.\d{1,9})?", re.ASCII)
_DURATION: Final = re.compile(r"(-?)(\d{1,6}):([0-5]?\d):([0-5]?\d)(?:\.(\d{1,6})\d*)?", re.ASCII)
_ZERO_DATE: Final = re.compile(r"0000-00-00(?:[ T][0:.]*)?", re.ASCII)
_OFFSET: Final = r"(?:[Zz]|:\d\d(?:\.\d+)?[+-]\d\d:?\d\d)\s*\Z"
#: Dates without seconds, minutes or hours; what they leave out is zero.
_SHORT_DATE: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d)(?::(\d\d))?)?", re.ASCII)
_SURROGATE: Final = "[\ud800-\udfff]"
_BOOLS: Final = {"true": True, "false": False, "1": True, "0": False}
#: Characters of a text whose form is shown.
_SHAPE_LENGTH: Final = 24
#: Floats represent whole numbers exactly up to here.
_MAX_EXACT_FLOAT: Final = 2**53 - 1
_MAX_SECONDS: Final = 10**10


class _Converter(cattrs.Converter):
    """Raises `RecordError` where the hooks raise `InvalidValue`."""

    def structure(self, obj: Any, cl: Any) -> Any:
        try:
            return super().structure(obj, cl)
        except InvalidValue as error:
            path, problem = error.path, str(error)
        raise RecordError(0, f"${path}", problem)


class LenientConverter:
    """A cattrs converter that counts the values it coerces.

    Args:
        timezone: time zone of the account; if given, dates are aware.
        required: names of fields that every call must have.

    Attributes:
        coerced: number of values that had an unusual form.
        converter: the converter; see `make_converter`.
    """

    def __init__(
        self, timezone: tzinfo | str | None = None, required: Iterable[str] = ("id", "call_start")
    ) -> None:
        self.coerced: int = 0
        self._timezone = zone_of(timezone)
        self._required = frozenset(required)
        # Detailed validation would wrap each error in groups; ours name their place.
        self.converter: cattrs.Converter = _Converter(detailed_validation=False)
        register = self.converter.register_structure_hook
        hooks: dict[Any, Hook] = {
            str: self._text,
            int: self._integer,
            datetime: self._datetime,
            timedelta: self._duration,
            bool: self._bool,
        }
        for scalar, hook in hooks.items():
            register(scalar, _not_none(hook))
            register(scalar | None, hook)
        register(Categories | None, self._categories)
        self.converter.register_structure_hook_factory(_is_list, self._list_hook)
        self.converter.register_structure_hook_factory(_is_model, self._model_hook)
        self.converter.register_unstructure_hook_func(_is_model, Model.to_dict)
        self._call_hook: Hook | None = None  # made at first use: most reads convert no record
        register(Call, lambda data, _: self.record(data, None))
        self.converter.register_structure_hook_func(lambda target: target == list[Call], self._calls)

    def record(self, data: Any, index: int | None) -> Call:
        """Converts the JSON data of one record.

        Args:
            data: what JSON decodes to.
            index: index of the record in its page, for error messages; None for a single record.

        Raises:
            RecordError: the data cannot be read.
        """
        try:
            hook = self._call_hook = self._call_hook or self._model_hook(Call)
            call: Call = hook(data, Call)
        except InvalidValue as error:
            path, problem = error.path, str(error)
        else:
            return call
        # Raised here, since the frames of the other error, which have the data, must not be reachable from this one.
        step = "" if index is None else f"[{index}]"
        raise RecordError(index or 0, f"${step}{path}", problem)

    def _calls(self, data: Any, _: Any) -> list[Call]:
        if isinstance(data, Mapping) and (keys := list_keys(data)):
            data = [data[key] for key in keys]
        if isinstance(data, list | tuple):
            return [self.record(item, index) for index, item in enumerate(data)]
        return [] if data is None or data == {} else [self.record(data, 0)]

    # Objects and lists.

    def _model_hook(self, model: Any) -> Hook:
        """The hook that makes records of one class from objects."""
        is_call = issubclass(model, Call)
        hooks: dict[str, tuple[Any, Hook]] = {}
        for name, annotation in types_of(model).items():
            target = annotation
            if is_call and annotation in {int, datetime} and name not in self._required:
                target = annotation | None  # `id` and `call_start`, where they were not requested
            hook = self.converter.get_structure_hook(target)
            hooks[name] = (target, _without_offset(hook) if is_call and name == "call_start" else hook)
        defaults = {"id": None, "call_start": None} if is_call else {}
        required = sorted(self._required) if is_call else ()

        def structure(data: Any, _: Any) -> Any:
            if not isinstance(data, Mapping):
                _refuse(data, "an object")
            values: dict[str, Any] = dict(defaults)
            extra: dict[str, Any] = {}
            for key, value in (_without_aliases(data) if is_call else data).items():
                if key not in hooks:
                    extra[key] = value
                    continue
                target, hook = hooks[key]
                try:
                    values[key] = hook(value, target)
                except InvalidValue as error:
                    raise error.within(f".{key}") from None
                if values[key] is None and isinstance(value, str) and value.strip():
                    extra[key] = value
            for name in required:
                if values.get(name) is None:
                    raise InvalidValue("is missing", path=f".{name}")
            return model(**values, extra=extra)

        return structure

    def _categories(self, data: Any, _: Any) -> Any:
        if data is None:
            return None
        if not data and isinstance(data, str | list):
            self.coerced += 1
            return None if data == "" else Categories()
        return self.converter.get_structure_hook(Categories)(data, Categories)

    def _list_hook(self, annotation: Any) -> Hook:
        """The hook that makes a list of parts, or of plain JSON values."""
        item = item_type(annotation)
        item_hook: Hook = _unchanged if item is Any else self.converter.get_structure_hook(item)
        part_keys = set() if item is Any else set(types_of(item))

        def structure(data: Any, _: Any) -> list[Any]:
            if isinstance(data, Mapping) and (keys := list_keys(data)):
                self.coerced += 1
                data = [data[key] for key in keys]
            if isinstance(data, list | tuple):
                items: list[Any] = []
                for index, value in enumerate(data):
                    try:
                        items.append(item_hook(value, item))
                    except InvalidValue as error:
                        raise error.within(f"[{index}]") from None
                return items
            if data is None:
                return []
            if data not in ("", {}) and item is not Any:
                if not isinstance(data, Mapping):
                    _refuse(data, "a list")
                if part_keys.isdisjoint(data):
                    raise InvalidValue(f"must be a list, got an object without any key of a {item.__name__}")
            self.coerced += 1
            return [] if data in ("", {}) else [item_hook(data, item)]

        return structure

    # Scalars: each hook reads null and "" as None.

    def _text(self, data: Any, _: Any) -> str | None:
        if data is None:
            return None
        if isinstance(data, str):
            if not data.isascii() and re.search(_SURROGATE, data):
                self.coerced += 1
                return re.sub(_SURROGATE, "\N{REPLACEMENT CHARACTER}", data)
            return data
        if not isinstance(data, int):
            _refuse(data, "a text")
        self.coerced += 1
        if isinstance(data, bool):
            return "TRUE" if data else "FALSE"
        try:
            return str(data)
        except ValueError:  # beyond the interpreter's limit of digits
            raise InvalidValue("is a number with too many digits") from None

    def _integer(self, data: Any, _: Any) -> int | None:
        if data is None or (isinstance(data, int) and not isinstance(data, bool)):
            return data and within_64_bits(data)
        self.coerced += 1
        if isinstance(data, float) and data.is_integer() and abs(data) <= _MAX_EXACT_FLOAT:
            return int(data)
        text = _stripped(data, "a whole number")
        if not text:
            return None
        return within_64_bits(int(text)) if _INTEGER.fullmatch(text) else _refuse(data, "a whole number")

    def _bool(self, data: Any, _: Any) -> bool | None:
        if data is None or data in ("TRUE", "FALSE"):
            return None if data is None else data == "TRUE"
        self.coerced += 1
        text = (
            str(int(data)) if isinstance(data, bool) or data in (0, 1) else _stripped(data, "TRUE or FALSE")
        )
        if not text:
            return None
        return _BOOLS[text.lower()] if text.lower() in _BOOLS else _refuse(data, "TRUE or FALSE")

    def _datetime(self, data: Any, _: Any) -> datetime | None:
        if data is None:
            return None
        text = _stripped(data, "a date")
        try:
            # The parser of the compiled decoder, so that both read a date alike.
            return msgspec.convert(data, _LocalTime).replace(tzinfo=self._timezone)
        except msgspec.ValidationError:
            self.coerced += 1
        if not text or _ZERO_DATE.fullmatch(text):
            return None
        if short := _SHORT_DATE.fullmatch(text):
            text = f"{short[1]} {short[2] or '00'}:{short[3] or '00'}:00"
        try:
            value = msgspec.convert(text, datetime)
            if value.tzinfo is None:
                return value.replace(tzinfo=self._timezone)
            if self._timezone is not None:
                return value.astimezone(self._timezone)
        except (ValueError, OverflowError):
            _refuse(data, "a date")
        raise InvalidValue("has an offset from UTC, which can be read only if timezone= is given")

    def _duration(self, data: Any, _: Any) -> timedelta | None:
        if data is None:
            return None
        if isinstance(data, str) and (match := _DURATION.fullmatch(data)):
            hours, minutes, seconds = map(int, match.groups()[1:4])
            microseconds = int((match[5] or "").ljust(6, "0"))
            duration = timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)
            return -duration if match[1] else duration
        self.coerced += 1
        if not isinstance(data, int | float) or isinstance(data, bool):
            text = _stripped(data, "a duration")
            if not text:
                return None
            if not _SECONDS.fullmatch(text):
                _refuse(data, "a duration as HH:MM:SS")
            data = float(text)
        # Not by `isfinite`, which integers of more than 308 digits overflow; NaN is not less either.
        if not abs(data) <= _MAX_SECONDS:
            raise InvalidValue("is too long for the duration of a call")
        return timedelta(seconds=data)


def make_converter(
    timezone: tzinfo | str | None = None, *, required: Iterable[str] = ("id",)
) -> cattrs.Converter:
    """A cattrs converter for `Call`, `list[Call]` and the parts of a call, lenient towards unusual values.

    `structure(data, Call)` takes what JSON decodes to, and what `call.to_dict()` returns; `unstructure(call)` is `to_dict()`.

    Args:
        timezone: time zone of the account, as a tzinfo or an IANA name. If given, dates are aware, else naive local time.
        required: names of fields that every call must have.

    Raises:
        ConfigurationError: the time zone does not exist.
    """
    return LenientConverter(timezone, required).converter


def _is_model(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, Model)


def _is_list(target: Any) -> bool:
    item = item_type(target)
    return item is Any or _is_model(item)


def _unchanged(data: Any, _: Any) -> Any:
    return data


def _without_offset(hook: Hook) -> Hook:
    """The same hook, for a date that must not have an offset from UTC."""

    def structure(data: Any, target: Any) -> Any:
        value = hook(data, target)
        if value is not None and len(data) != 19 and re.search(_OFFSET, data):
            raise InvalidValue("has an offset from UTC, which the start of a call must not have")
        return value

    return structure


def _not_none(hook: Hook) -> Hook:
    """The same hook, for a value that must not be empty."""

    def structure(data: Any, target: Any) -> Any:
        value = hook(data, target)
        if value is None:
            raise InvalidValue("is empty")
        return value

    return structure


def _without_aliases(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same object, with fields that were sent under their names in requests moved to their names in responses."""
    renames = {key: name for key, name in ALIASES.items() if key in data and _is_blank(data.get(name))}
    if not renames:
        return data
    replaced = set(renames.values())
    return {renames.get(key, key): value for key, value in data.items() if key not in replaced}


def _is_blank(data: Any) -> bool:
    return data is None or (isinstance(data, str) and not data.strip())


def _stripped(data: Any, expected: str) -> str:
    return data.strip() if isinstance(data, str) else _refuse(data, expected)


def _refuse(data: Any, expected: str) -> NoReturn:
    """Raises the error for this value; the message holds its shape, and nothing of the value itself."""
    match data:
        case None:
            actual = "null"
        case bool():
            actual = "true or false"
        case int():
            actual = "a number"
        case float():
            actual = "a number with a fraction" if isfinite(data) and not data.is_integer() else "a number"
        case str():
            actual = f"a text like {_shape(data)!r}" if data.strip() else "a blank text"
        case list() | tuple():
            actual = "a list"
        case Mapping():
            actual = "an object"
        case _:
            actual = f"a {type(data).__name__}"
    raise InvalidValue(f"must be {expected}, got {actual}")


def _shape(text: str) -> str:
    """The form of a text: 9 for a digit, a for a letter, ? for everything else but punctuation of dates and numbers."""
    form = [
        "9" if c.isdigit() else "a" if c.isalpha() else c if c in " .,:/+()-" else "?" for c in text[:100]
    ]
    return "".join(form[:_SHAPE_LENGTH]) + ("..." if len(text) > _SHAPE_LENGTH else "")
