"""A strict gzip decoder that works in steps.

Invariants:
- Data that is truncated or fails its checksum raises `DecodeError`.
- A step gives at most `STEP_BYTES`, so that a caller can stop before a decompression bomb fills the memory.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes decompressed in one step, at most: few enough that the event loop is not blocked for long.
STEP_BYTES: Final = 128 * 1024


class GzipDecoder(msgspec.Struct):
    """Decompresses any number of gzip members: `feed` bytes, then `finish` to check that they are complete."""

    _decompressor: Any = msgspec.field(default_factory=lambda: zlib.decompressobj(31))
    _between_members: bool = True

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Decompresses the next bytes, in steps of at most `STEP_BYTES`.

        Raises:
            DecodeError: the data is damaged.
        """
        pending = bool(data)
        while pending:
            self._between_members = False
            try:
                output = self._decompressor.decompress(data, STEP_BYTES)
            except zlib.error as error:
                raise DecodeError(f"the gzip data of the page is damaged ({error})") from error
            if output:
                yield output
            if self._decompressor.eof:
                data = self._decompressor.unused_data
                self._decompressor = zlib.decompressobj(31)
                self._between_members = True
                pending = bool(data)
            else:
                data = self._decompressor.unconsumed_tail
                # After a full step, zlib may have more output although it took all input.
                pending = bool(data) or len(output) == STEP_BYTES

    def finish(self) -> None:
        """Checks that the data ended with a complete member.

        Raises:
            DecodeError: the data is truncated.
        """
        if not self._between_members:
            raise DecodeError("the gzip data of the page is truncated")
