"""Arrow arrays from Python values, and the memory that the fast decoders read from.

Invariants:

- Nothing in this package has pyarrow convert Python values: if pandas is installed, `pyarrow.array`, `pyarrow.scalar` and a
  number as the argument of a kernel import it, which takes half a second and 50 MB in the middle of a stream.
- Values that do not fit a buffer raise the errors of Python (`OverflowError`, `TypeError`, ...).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final

import pyarrow as pa

#: Arrow counts the bytes of a block in 31 bits.
MAX_BYTES: Final = 2**31 - 1024
#: A buffer of at most this size is kept for the next page.
_MAX_KEPT_BYTES: Final = 8 * 1024 * 1024


def int_array(values: Sequence[int | None]) -> pa.Int64Array:
    """64-bit integers."""
    validity, null_count = _validity(values)
    numbers: Any = values if validity is None else [0 if value is None else value for value in values]
    buffers = [validity, pa.py_buffer(array("q", numbers))]
    return pa.Array.from_buffers(pa.int64(), len(values), buffers, null_count)


def str_array(values: Sequence[str | None]) -> pa.StringArray:
    """Strings."""
    validity, null_count = _validity(values)
    encoded = [b"" if value is None else value.encode() for value in values]
    buffers = [validity, offset_array(map(len, encoded)).buffers()[1], pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers, null_count)


def bool_array(values: Sequence[bool | None]) -> pa.BooleanArray:
    """Booleans."""
    validity, null_count = _validity(values)
    bits = pa.py_buffer(bytes([1 if value else 0 for value in values]))
    return pa.Array.from_buffers(pa.uint8(), len(values), [validity, bits], null_count).cast(pa.bool_())


def offset_array(lengths: Iterable[int]) -> pa.Int32Array:
    """The offsets of adjacent items of these lengths, and the end of the last one."""
    offsets = array("i", accumulate(lengths, initial=0))
    return pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets)])


@lru_cache(maxsize=256)
def int_scalar(value: int) -> pa.Int64Scalar:
    """An integer as the argument of a kernel."""
    return int_array([value])[0]


@lru_cache(maxsize=256)
def str_scalar(text: str) -> pa.StringScalar:
    """A string as the argument of a kernel."""
    return str_array([text])[0]


def _validity(values: Sequence[Any]) -> tuple[pa.Buffer | None, int]:
    """The validity bitmap of these values, None if there are no nulls; and the number of nulls."""
    if None not in values:
        return None, 0
    valid = bytes([value is not None for value in values])
    bits = pa.Array.from_buffers(pa.uint8(), len(valid), [None, pa.py_buffer(valid)]).cast(pa.bool_())
    return bits.buffers()[1], valid.count(0)


class ReusableBuffer:
    """Memory that is used for one page after another: allocating it anew would cost a fifth of decoding the page."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def get(self, size: int) -> bytearray:
        """A buffer of at least this size; it is valid until the next call."""
        if size > len(self._buffer):
            buffer = bytearray(size + size // 8)
            if size > _MAX_KEPT_BYTES:
                return buffer
            self._buffer = buffer
        return self._buffer
