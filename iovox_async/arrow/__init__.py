"""Calls as Arrow record batches: `CallStream.arrow()`, and tables of calls that are records already.

The law of this room: the same values as the records have, by whichever way they were read, and one schema a stream.

- `schema` says which columns there are, and of what types.
- `fast` reads a page's bytes with Arrow's own JSON reader, or, where `uniform` can prove that all its rows are written
  alike, with its CSV reader; what fits neither, it refuses as a whole.
- `exact` makes the same columns of records, for what was refused and for records that a program has in hand.
- `instants` turns the account's wall time into instants.
- `reading` joins these into the batches of a stream: in order, from a position on, in a thread.
"""

from __future__ import annotations

from ..errors import MissingExtraError

try:
    import pyarrow  # noqa: ICN001, F401 - only to see whether it is there
except ImportError:
    raise MissingExtraError("Arrow", "arrow") from None

from .exact import table_from_calls
from .reading import ArrowReader
from .schema import SCHEMA, schema_for

__all__ = ["SCHEMA", "ArrowReader", "require", "schema_for", "table_from_calls"]


def require() -> None:
    """Says so where pyarrow is missing; importing this module does the same.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow.json  # noqa: F401 - only to see whether it is there
    except ImportError:
        raise MissingExtraError("Arrow", "arrow") from None
