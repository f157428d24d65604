"""Schemas of the models for pydantic, which FastAPI uses for responses and the OpenAPI document.

Imported by pydantic's own call of `Model.__get_pydantic_core_schema__` only, so the package does not need pydantic.
"""

from __future__ import annotations

import inspect
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

from pydantic_core import core_schema

from .models import Model, item_type, types_of

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

__all__ = ["schema_of"]

_DESCRIPTION = re.compile(r"^    (\w+): (.+(?:\n        .+)*)", re.MULTILINE)
#: The forms of values in JSON.
_FORMS = {
    datetime: "Local time, YYYY-MM-DD HH:MM:SS.",
    timedelta: "A duration, HH:MM:SS.",
    bool: "TRUE or FALSE.",
}


def schema_of(model: type[Model]) -> CoreSchema:
    """The schema of a class of models: instances are accepted, and serialized with `to_dict`."""
    descriptions = dict(_DESCRIPTION.findall(inspect.getdoc(model) or ""))
    fields = {
        name: core_schema.typed_dict_field(
            _schema_of_type(kind), required=False, metadata=_describe(kind, descriptions.get(name, ""))
        )
        for name, kind in types_of(model).items()
    }
    json_form = core_schema.typed_dict_schema(fields, cls_name=model.__name__, extra_behavior="allow")
    return core_schema.is_instance_schema(
        model,
        ref=f"{model.__module__}.{model.__qualname__}:{id(model)}",
        serialization=core_schema.plain_serializer_function_ser_schema(_to_json, return_schema=json_form),
    )


def _to_json(value: Any) -> Any:
    # The parts of a record are JSON already when their turn comes: `to_dict` of the record converts them.
    return value.to_dict() if isinstance(value, Model) else value


def _describe(kind: Any, description: str) -> dict[str, Any] | None:
    form = next((text for type_, text in _FORMS.items() if type_ in (get_args(kind) or (kind,))), "")
    text = " ".join([*description.split(), form]).strip()
    return {"pydantic_js_updates": {"description": text}} if text else None


def _schema_of_type(kind: Any) -> CoreSchema:
    item = item_type(kind)
    if item is not None:
        return core_schema.list_schema(_schema_of_type(item))
    options = get_args(kind) or (kind,)
    if Any in options:
        return core_schema.any_schema()
    if int in options:
        return core_schema.int_schema()
    for option in options:
        if isinstance(option, type) and issubclass(option, Model):
            return schema_of(option)
    return core_schema.str_schema()
