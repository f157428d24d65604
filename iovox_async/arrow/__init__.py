"""Calls as Arrow record batches: the schemas of `CallStream.arrow()`, and tables of calls.

A page is decoded by the first decoder that supports it, each of which returns `Columns` or None:

1. `_from_fixed_layout`: blocks of flat rows that are all written alike, by the offsets of their values, when they arrive;
2. `_from_json`: segments of a page, by Arrow's JSON reader;
3. `_from_records`: any segment, by way of its records.

All give the values that the records have. pyarrow takes a fifth of a second to import, so it is imported at first use.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from ..errors import MissingExtraError

if TYPE_CHECKING:
    from ._from_records import table_from_calls
    from .schema import SCHEMA, schema_for

__all__ = ["SCHEMA", "schema_for", "table_from_calls"]

_MODULES: Final = {"SCHEMA": "schema", "schema_for": "schema", "table_from_calls": "_from_records"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _require_pyarrow()
    value = globals()[name] = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    return value


def _require_pyarrow(feature: str = "Arrow") -> None:
    if find_spec("pyarrow") is None or find_spec("numpy") is None:
        raise MissingExtraError(feature, "arrow")
