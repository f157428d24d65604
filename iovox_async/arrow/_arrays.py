"""Arrow arrays of Python values, by their buffers.

The law of this room: nothing here, or anywhere in this package, has pyarrow convert Python values. Where pandas
is installed, `pyarrow.array`, `pyarrow.scalar` and a number as a kernel's argument import it: half a second and
50 MB that nobody asked for, in the middle of a stream. Values that fit no buffer raise what Python raises.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import pyarrow as pa

__all__ = ["constant", "flags", "nothing", "offsets", "repeated", "texts", "wholes", "word"]


def wholes(values: Sequence[int | None]) -> pa.Int64Array:
    """Whole numbers of 64 bits."""
    valid, some = _valid(values)
    numbers: Any = values if valid is None else [0 if value is None else value for value in values]
    return pa.Array.from_buffers(pa.int64(), len(values), [valid, pa.py_buffer(array("q", numbers))], some)


def texts(values: Sequence[str | None]) -> pa.StringArray:
    """Texts."""
    valid, some = _valid(values)
    encoded = [b"" if value is None else value.encode() for value in values]
    buffers = [valid, offsets(map(len, encoded)).buffers()[1], pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers, some)


def flags(values: Sequence[bool | None]) -> pa.BooleanArray:
    """True and false."""
    valid, some = _valid(values)
    ones = pa.py_buffer(bytes([1 if value else 0 for value in values]))
    return pa.Array.from_buffers(pa.uint8(), len(values), [valid, ones], some).cast(pa.bool_())


def offsets(lengths: Iterable[int]) -> pa.Int32Array:
    """Where things of these lengths begin, one after the other, and where the last one ends."""
    places = array("i", accumulate(lengths, initial=0))
    return pa.Array.from_buffers(pa.int32(), len(places), [None, pa.py_buffer(places)])


def repeated(text: str, rows: int) -> pa.StringArray:
    """The same text in every row."""
    encoded = text.encode()
    places = offsets([len(encoded)] * rows)
    return pa.Array.from_buffers(pa.string(), rows, [None, places.buffers()[1], pa.py_buffer(encoded * rows)])


@lru_cache(maxsize=256)
def constant(value: int) -> pa.Int64Scalar:
    """A whole number as the argument of a kernel."""
    return wholes([value])[0]


@lru_cache(maxsize=256)
def word(text: str) -> pa.StringScalar:
    """A text as the argument of a kernel."""
    return texts([text])[0]


def nothing(kind: pa.DataType) -> pa.Scalar:
    """Null as the argument of a kernel."""
    return pa.nulls(1, kind)[0]


def _valid(values: Sequence[Any]) -> tuple[pa.Buffer | None, int]:
    """Which of them are not None, as bits, and how many are; no bits where all are there."""
    if None not in values:
        return None, 0
    there = bytes([value is not None for value in values])
    bits = pa.Array.from_buffers(pa.uint8(), len(there), [None, pa.py_buffer(there)]).cast(pa.bool_())
    return bits.buffers()[1], there.count(0)
