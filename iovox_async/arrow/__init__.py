"""Calls as Arrow record batches: `CallStream.arrow()`, and tables of calls that are records already.

The law of this room: the same values as the records have, by whichever way they were read, and one schema a stream.

- `schema` says which columns there are, and of what types.
- `fast` reads a page's bytes with Arrow's own JSON reader, or, where `uniform` can prove that all its rows are written
  alike, with its CSV reader; what fits neither, it refuses as a whole.
- `exact` makes the same columns of records, for what was refused and for records that a program has in hand.
- `instants` turns the account's wall time into instants, `build` Python values into arrays.
- `reading` joins these into the batches of a stream: in order, from a position on, in a thread.

pyarrow is imported when something of it is asked for: that takes a fifth of a second, which no event loop has to spare.
"""

from __future__ import annotations

import importlib
from datetime import tzinfo
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from ..errors import MissingExtraError

if TYPE_CHECKING:
    from .._paging.spec import ReadSpec
    from .._parsing.decoder import CallDecoder
    from ._batches import BatchReader
    from ._from_records import table_from_calls
    from .schema import SCHEMA, schema_for

__all__ = ["SCHEMA", "BatchReader", "open_reader", "require", "schema_for", "table_from_calls"]

#: Where each name lives.
_HOMES: Final = {
    "SCHEMA": "schema",
    "BatchReader": "_batches",
    "schema_for": "schema",
    "table_from_calls": "_from_records",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require()
    value = globals()[name] = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    return value


def require() -> None:
    """Says so where pyarrow is missing, or numpy, which it does without.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    if find_spec("pyarrow") is None or find_spec("numpy") is None:
        raise MissingExtraError("Arrow", "arrow")


def open_reader(structurer: CallDecoder, reading: ReadSpec, timezone: tzinfo | None) -> BatchReader:
    """An `BatchReader`. To be called in a thread: it may have to import pyarrow."""
    require()
    from ._batches import BatchReader

    return BatchReader(structurer, reading, timezone)
