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
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import numpy.typing as npt

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
    return pa.Array.from_buffers(pa.bool_(), len(values), [validity, _bitmap(map(bool, values))], null_count)


def offset_array(lengths: Iterable[int]) -> pa.Int32Array:
    """The offsets of adjacent items of these lengths, and the end of the last one."""
    offsets = array("i", accumulate(lengths, initial=0))
    return pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets)])


def text_buffers(texts: pa.StringArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """The bytes of all texts one after the other, and the offsets in them at which each text starts and the last one stops."""
    _, offset_buffer, data = texts.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    first, end = int(offsets[0]), int(offsets[-1])
    return offsets - first, np.frombuffer(data or b"", np.uint8)[first:end]


def int_values(integers: pa.Int64Array) -> npt.NDArray[np.int64]:
    """The integers of an array; it shares their memory. Where an item is null, any integer."""
    return np.frombuffer(integers.buffers()[1], np.int64)[integers.offset : integers.offset + len(integers)]


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
    valid = [value is not None for value in values]
    return _bitmap(valid), valid.count(False)


def _bitmap(values: Iterable[bool]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(np.array([*values], np.bool_), bitorder="little"))


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
