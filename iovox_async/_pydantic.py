"""Schemas of the models for pydantic, which FastAPI uses for responses and the OpenAPI document.

Imported by pydantic's own call of `Model.__get_pydantic_core_schema__` only, so the package does not need pydantic.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic_core import core_schema

from ._parsing.lenient import make_converter
from .errors import RecordError
from .models import Call, Model, item_type, types_of

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

_DESCRIPTION: Final = re.compile(r"^    (\w+): (.+(?:\n        .+)*)", re.MULTILINE)
#: A row of the glossary's table of fields: where a field is in records, and what it means.
_GLOSSARY_ROW: Final = re.compile(r"^\| `\w+` \| `([\w.\[\]]+)` \| (.+) \|$", re.MULTILINE)
#: The forms of values in JSON.
_FORMS: Final = {
    datetime: "Local time, YYYY-MM-DD HH:MM:SS.",
    timedelta: "A duration, HH:MM:SS.",
    bool: "TRUE or FALSE.",
}


def schema_of(model: type[Model]) -> CoreSchema:
    """The schema of a class of models: accepts instances and their JSON data, and serializes to JSON data.

    Fields that were not requested are left out, so the other rules of leaving out (`exclude_unset`, `exclude_none`) have nothing
    to do; `include` and `exclude` apply.
    """
    fields = {
        name: core_schema.typed_dict_field(
            _schema_of_type(kind), required=False, metadata=_describe(model, name, kind)
        )
        for name, kind in types_of(model).items()
    }
    summary = (inspect.getdoc(model) or "").partition("\n\n")[0]
    json_form = core_schema.typed_dict_schema(
        fields,
        cls_name=model.__name__,
        extra_behavior="allow",
        metadata={"pydantic_js_updates": {"description": " ".join(summary.split())}},
    )
    return core_schema.no_info_plain_validator_function(
        _validator(model),
        ref=f"{model.__module__}.{model.__qualname__}:{id(model)}",
        json_schema_input_schema=json_form,
        serialization=core_schema.wrap_serializer_function_ser_schema(
            _to_json, schema=json_form, return_schema=json_form
        ),
    )


def _validator(model: type[Model]) -> Callable[[Any], Model]:
    def validate(value: Any) -> Model:
        if isinstance(value, model):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"must be a {model.__name__} or its JSON object, got {type(value).__name__}")  # noqa: TRY004 - pydantic expects it
        try:
            part: Model = _converter().structure(value, model)
        except RecordError as error:
            raise ValueError(str(error.args[0])) from None
        return part

    return validate


@cache
def _converter() -> Any:
    return make_converter()


def _to_json(value: Any, serialize: Callable[[Any], Any]) -> Any:
    # The parts of a record are JSON already when their turn comes: `to_dict` of the record converts them.
    return serialize(value.to_dict() if isinstance(value, Model) else value)


def _describe(model: type[Model], name: str, kind: Any) -> dict[str, Any] | None:
    described = dict(_DESCRIPTION.findall(inspect.getdoc(model) or ""))
    description = described.get(name) or _glossary().get((model, name))
    if description is None and (part := _model_in(item_type(kind) or kind)) is not None:
        description = (inspect.getdoc(part) or "").partition("\n\n")[0]
    form = next((text for type_, text in _FORMS.items() if type_ in (get_args(kind) or (kind,))), "")
    sentence = " ".join((description or "").split()).rstrip(".")
    text = " ".join(filter(None, [f"{sentence[:1].upper()}{sentence[1:]}." if sentence else "", form]))
    return {"pydantic_js_updates": {"description": text}} if text else None


@cache
def _glossary() -> dict[tuple[type[Model], str], str]:
    """The meaning of each attribute of a model that is a field of the endpoint, from the guide's glossary."""
    meanings: dict[tuple[type[Model], str], str] = {}
    text = (resources.files(__package__) / "docs" / "glossary.md").read_text(encoding="utf-8")
    for path, meaning in _GLOSSARY_ROW.findall(text):
        model: Any = Call
        *parents, name = path.replace("[]", "").split(".")
        for parent in parents:
            kind = types_of(model)[parent]
            model = _model_in(item_type(kind) or kind)
        # The parts of four lists of categories have one class.
        meanings.setdefault((model, name), meaning.replace("`", ""))
    return meanings


def _model_in(kind: Any) -> type[Model] | None:
    options = get_args(kind) or (kind,)
    return next(
        (option for option in options if isinstance(option, type) and issubclass(option, Model)), None
    )


def _schema_of_type(kind: Any) -> CoreSchema:
    item = item_type(kind)
    if item is not None:
        return core_schema.list_schema(_schema_of_type(item))
    options = get_args(kind) or (kind,)
    if Any in options:
        return core_schema.any_schema()
    if int in options:
        return core_schema.int_schema()
    part = _model_in(kind)
    return core_schema.str_schema() if part is None else schema_of(part)
