"""Calls the compute functions of Arrow, with memory of the system's allocator.

`pyarrow.compute` makes a Python function of each of them when it is imported, which takes 30 ms and 9 MB; so do the methods of
arrays that need it, such as `take` and `cast`. A short read would spend a tenth of its time there.

Arrow's own allocators keep much of what is freed in another thread than it was allocated in: a backfill with them peaks 50 MB
higher. The pool is passed to each function, since the default pool belongs to the program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

try:
    from pyarrow._compute import CastOptions, SetLookupOptions, TakeOptions, call_function
except ImportError:  # another version of pyarrow
    from pyarrow.compute import CastOptions, SetLookupOptions, TakeOptions, call_function

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MEMORY_POOL: Final = pa.system_memory_pool()
_WITHOUT_CHECK: Final = TakeOptions(boundscheck=False)


def call(name: str, *arguments: Any) -> Any:
    """The result of a compute function with its default options."""
    return call_function(name, list(arguments), None, MEMORY_POOL)


def cast(array: pa.Array, to: pa.DataType) -> pa.Array:
    """The array as another type.

    Raises:
        pyarrow.ArrowInvalid: a value has no equal in that type.
    """
    return call_function("cast", [array], CastOptions.safe(to), MEMORY_POOL)


def is_in(array: pa.Array, values: pa.Array) -> pa.BooleanArray:
    """Whether each item is one of these values."""
    return call_function("is_in", [array], SetLookupOptions(values), MEMORY_POOL)


def take(array: pa.Array, indices: npt.NDArray[np.int32]) -> pa.Array:
    """The items of an array at these indices, which must exist."""
    positions = pa.Array.from_buffers(pa.int32(), len(indices), [None, pa.py_buffer(indices)])
    return call_function("take", [array, positions], _WITHOUT_CHECK, MEMORY_POOL)
